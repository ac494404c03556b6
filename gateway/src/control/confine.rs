//! Gives up privileges before hookgate serves: every capability, the right to gain new ones, and all access to files, ports and other
//! processes that serving does not need.
//!
//! Owns the order of the steps, and the exceptions. Capabilities and Landlock rules belong to a thread, and a new thread inherits
//! them. So the main thread gives them up before it starts a worker, and a thread that starts earlier starts in [`unprivileged`] or
//! [`restricted`]. The main thread keeps the right to write in the state directory; a thread that talks to peers, handlers or other hosts starts
//! in [`restricted`] or [`connecting_only_to`], and has not even that. No step can be undone. Must not depend on the text of the configuration.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort, PathBeneath,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit, geteuid, set_dumpable_behavior, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

use crate::state::StateDirectory;

/// The newest Landlock interface that the rules were written for and tested with (Linux 6.12). A newer interface would also restrict
/// connecting to the sockets of handlers, which serving needs.
const LANDLOCK: ABI = ABI::V6;

/// Why the process cannot be confined. It does not serve then.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfineError {
    /// A capability set cannot be emptied.
    #[error("cannot give up the {set} capabilities")]
    Capabilities {
        /// Which set.
        set: &'static str,
        /// The kernel's error.
        source: Errno,
    },
    /// `no_new_privs` cannot be set (PR_SET_NO_NEW_PRIVS).
    #[error("cannot set no_new_privs")]
    NewPrivileges(#[source] Errno),
    /// The kernel has Landlock, and rejects the rules.
    #[error("cannot enforce the Landlock rules")]
    Landlock(#[from] RulesetError),
    /// A short-lived thread cannot be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// Keeps keys out of core dumps, and denies other processes of the same user access to the memory of this one. Call it before the
/// first secret is read. Returns what did not work, for the log, which does not run yet.
///
/// Each of the two calls suffices if dumps go to a file. If they go to a program, the kernel ignores the size limit. The limit also
/// holds for a program that is executed later, which would be dumpable again.
pub(super) fn hide_memory() -> Vec<String> {
    let no_file = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let no_dump = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let failure = |(result, what): (Result<(), Errno>, &str)| Some(format!("{what}: {}", result.err()?));
    let results = [(no_file, "cannot limit the size of core dumps to 0"), (no_dump, "cannot disable core dumps")];
    results.into_iter().filter_map(failure).collect()
}

/// Gives up all privileges of the main thread and of every thread that it starts from now on, and logs it. `filter_is_usable` checks
/// whether the filter's maps can still be read. `state` is the directory whose files the process may still write, if there is one.
///
/// # Errors
///
/// [`ConfineError`] if a step fails. A kernel with an older Landlock, or without one, is no error; it is logged.
pub(super) fn confine(filter_is_usable: impl Fn() -> bool, state: Option<&StateDirectory>) -> Result<(), ConfineError> {
    let bounded = give_up_capabilities(&filter_is_usable)?;
    let status = restrict(state.map(AsFd::as_fd))?;
    let kept = capabilities(None).map_err(|source| ConfineError::Capabilities { set: "permitted", source })?.permitted;
    let capabilities =
        if kept.is_empty() { "none" } else { "CAP_BPF, which this kernel requires for every access to a map" };
    let bounding_set = if bounded { "empty" } else { "as the service manager left it" };
    match landlock_label(&status) {
        Ok(landlock) => tracing::info!(capabilities, bounding_set, landlock, "privileges given up"),
        Err(reason) => tracing::warn!(capabilities, bounding_set, reason, "privileges given up, without Landlock"),
    }
    if geteuid().is_root() {
        tracing::warn!(
            "hookgate runs as root: it has no capabilities, but it owns most files of this host; run it as a user of its \
             own, as hookgate.service does"
        );
    }
    Ok(())
}

/// Runs `work` on a short-lived thread without capabilities. The threads that `work` starts have none either.
///
/// # Errors
///
/// If the thread cannot be started, or its capabilities cannot be given up.
pub(super) fn unprivileged<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, ConfineError> {
    let give_up_and_work = || give_up_capabilities(&|| true).map(|_| work());
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("unprivileged".to_owned()).spawn_scoped(scope, give_up_and_work);
        let joined = thread.map_err(ConfineError::Thread)?.join();
        joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs `work` as [`unprivileged`] does, and under the Landlock rules, the state directory included: for a thread that starts before the main thread
/// is confined, or that writes no file.
///
/// # Errors
///
/// As [`unprivileged`], or if the Landlock rules are rejected.
pub(super) fn restricted<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, ConfineError> {
    unprivileged(|| restrict(None).map(|_| work()))?.map_err(ConfineError::from)
}

/// Runs `work` as [`restricted`] does. By TCP, the threads that it starts may connect to `ports` alone: those of handlers, since nothing else is
/// for a thread that reads what peers send. Returns too whether this kernel enforces that (Linux 6.7).
///
/// # Errors
///
/// As [`unprivileged`], or if the Landlock rules are rejected.
pub(super) fn connecting_only_to<T: Send>(
    ports: &BTreeSet<u16>,
    work: impl FnOnce() -> T + Send,
) -> Result<(T, bool), ConfineError> {
    // A rule set of its own, so that the status is that of the ports.
    let connecting = restricted(|| {
        let connect = AccessNet::ConnectTcp;
        let mut ruleset = Ruleset::default().handle_access(connect)?.create()?;
        for port in ports {
            ruleset = ruleset.add_rule(NetPort::new(*port, connect))?;
        }
        let status = ruleset.restrict_self()?;
        Ok::<_, RulesetError>((work(), status.ruleset == RulesetStatus::FullyEnforced))
    });
    Ok(connecting??)
}

/// Whether this kernel enforces the ports of [`connecting_only_to`]. Confines nothing.
pub(super) fn enforces_ports() -> bool {
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    ruleset.handle_access(AccessNet::ConnectTcp).and_then(Ruleset::create).is_ok()
}

/// Empties the capability sets of this thread, and sets `no_new_privs`. Returns whether the bounding set is empty too.
///
/// Before Linux 5.19, with `kernel.unprivileged_bpf_disabled` (the default of most distributions), every bpf(2) call needs CAP_BPF,
/// even on an open descriptor. So the filter is tried while CAP_BPF can still be regained, and CAP_BPF stays if the filter needs it.
fn give_up_capabilities(filter_is_usable: &dyn Fn() -> bool) -> Result<bool, ConfineError> {
    let failed = |set| move |source| ConfineError::Capabilities { set, source };
    clear_ambient_capability_set().or_else(ignore_missing).map_err(failed("ambient"))?;
    let bounded = empty_bounding_set().map_err(failed("bounding"))?;
    set_no_new_privs(true).map_err(ConfineError::NewPrivileges)?;
    let none = CapabilitySet::empty();
    let had = capabilities(None).map_err(failed("permitted"))?.permitted;
    let set = |effective, permitted| {
        set_capabilities(None, CapabilitySets { effective, permitted, inheritable: none }).map_err(failed("permitted"))
    };
    set(none, had)?;
    let kept = if filter_is_usable() { none } else { had & CapabilitySet::BPF };
    set(kept, kept)?;
    Ok(bounded)
}

/// EINVAL: before Linux 4.3, the kernel has no ambient set.
fn ignore_missing(error: Errno) -> Result<(), Errno> {
    if error == Errno::INVAL { Ok(()) } else { Err(error) }
}

/// Empties the bounding set, and returns whether that was permitted. It needs CAP_SETPCAP, which a service should not have. Without it,
/// the set stays as the service manager made it, which is harmless: `no_new_privs` rules out gaining a capability.
fn empty_bounding_set() -> Result<bool, Errno> {
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        match capability_is_in_bounding_set(capability) {
            Ok(true) => {}
            Ok(false) => continue,
            // Beyond the last capability of this kernel.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error),
        }
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            Err(Errno::PERM) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Restricts this thread, and those that it starts, to reading files and connecting, as far as Landlock can restrict it.
///
/// All files stay readable, because a reload can name other files; the owners of files and the service manager decide what this
/// user can read. Nothing but the files of the directory `writable` needs to be written: a filter that stays is pinned before this, and
/// the process that pinned it never unpins it.
fn restrict(writable: Option<BorrowedFd<'_>>) -> Result<RestrictionStatus, RulesetError> {
    let files = AccessFs::from_all(LANDLOCK) & !(AccessFs::ReadFile | AccessFs::ReadDir);
    let ruleset = Ruleset::default()
        .handle_access(files)?
        .handle_access(AccessNet::BindTcp)?
        .scope(scopes(std::env::var_os("NOTIFY_SOCKET").is_some_and(|name| name.as_encoded_bytes().starts_with(b"@"))))?
        .create()?;
    let Some(directory) = writable else { return ruleset.restrict_self() };
    // To replace a file by rename(2) in one directory is to make one there and to remove one.
    let replace = AccessFs::WriteFile | AccessFs::MakeReg | AccessFs::RemoveFile;
    ruleset.add_rule(PathBeneath::new(directory, replace))?.restrict_self()
}

/// hookgate sends no signals. It connects to no abstract socket, except one on which a service manager or container runtime waits for
/// its notifications.
fn scopes(notifies_an_abstract_socket: bool) -> BitFlags<Scope> {
    if notifies_an_abstract_socket { Scope::Signal.into() } else { Scope::from_all(LANDLOCK) }
}

/// How Landlock restricts the process, for the log, or why it does not.
fn landlock_label(status: &RestrictionStatus) -> Result<String, &'static str> {
    match (&status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => {
            Err("Landlock is disabled in this kernel (see lsm= on its command line)")
        }
        (RulesetStatus::NotEnforced, _) => Err("this kernel has no Landlock, which needs Linux 5.13"),
        (RulesetStatus::FullyEnforced, _) => Ok("enforced".to_owned()),
        (_, LandlockStatus::Available { effective_abi, .. }) => {
            Ok(format!("enforced in part: this kernel has interface {effective_abi:?} of {LANDLOCK:?}"))
        }
        (_, _) => Ok("enforced in part".to_owned()),
    }
}

#[cfg(test)]
mod tests;
