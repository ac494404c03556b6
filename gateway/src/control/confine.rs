//! What the process gives up before it serves: every capability, new privileges, and whatever serving does not take of files,
//! ports and other processes.
//!
//! Owns the order, and what may stay. Capabilities and Landlock rules belong to a thread, and threads inherit them from the one
//! that starts them: so the main thread gives up before it starts a worker, and what starts earlier starts through
//! [`unprivileged`]. Nothing here can be taken back, and nothing here may depend on the configuration's text.

use std::io;
use std::thread;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, RestrictionStatus, Ruleset, RulesetAttr, RulesetError,
    RulesetStatus, Scope,
};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit, geteuid, set_dumpable_behavior, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// The newest Landlock interface that the rules were written for and tested with (Linux 6.12). A later one would add the right
/// to connect to a handler's socket, which has to stay.
const LANDLOCK: ABI = ABI::V6;

/// Why the process cannot be confined; it does not serve then.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfineError {
    /// A capability set.
    #[error("cannot give up the {set} capabilities")]
    Capabilities {
        /// Which set.
        set: &'static str,
        /// What the kernel said.
        source: Errno,
    },
    /// `no_new_privs`.
    #[error("cannot set no_new_privs")]
    NewPrivileges(#[source] Errno),
    /// Landlock is there, and does not take the rules.
    #[error("cannot enforce the Landlock rules")]
    Landlock(#[from] RulesetError),
    /// No short-lived thread.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// Keeps keys out of core dumps, and the memory that holds them out of sight for other processes of the same user. To be called
/// before the first secret is read.
///
/// Either suffices for a dump into a file. Where dumps go to a program, the kernel does not look at the limit; and the limit
/// holds for a program that is executed later, which would be dumpable again.
pub(super) fn hide_memory() {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .unwrap_or_else(|error| tracing::warn!(%error, "cannot limit the size of core dumps to 0"));
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .unwrap_or_else(|error| tracing::warn!(%error, "cannot disable core dumps"));
}

/// Gives everything up, on the main thread, for it and every thread that it starts from now on, and says so in the log.
/// `filter_is_usable` tries whether the filter's maps can still be read.
///
/// # Errors
///
/// Where the kernel does not take something back. Landlock is no reason: where the kernel has none, or an older one, that is
/// logged.
pub(super) fn confine(filter_is_usable: impl Fn() -> bool) -> Result<(), ConfineError> {
    let bounded = give_up_capabilities(&filter_is_usable)?;
    let status = restrict()?;
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
/// Where there is no thread to be had, or the kernel does not take the capabilities back.
pub(super) fn unprivileged<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, ConfineError> {
    let give_up_and_work = || give_up_capabilities(&|| true).map(|_| work());
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("unprivileged".to_owned()).spawn_scoped(scope, give_up_and_work);
        let joined = thread.map_err(ConfineError::Thread)?.join();
        joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// As [`unprivileged`], under Landlock too: for a thread that has to start before the main thread is confined.
///
/// # Errors
///
/// As there.
pub(super) fn restricted<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, ConfineError> {
    unprivileged(|| restrict().map(|_| work()))?.map_err(ConfineError::from)
}

/// Empties the capability sets of this thread, and rules new privileges out. Returns whether the bounding set is empty too.
///
/// Before Linux 5.19, `kernel.unprivileged_bpf_disabled` (the default of most distributions) asks CAP_BPF of every bpf(2), also
/// of one on a descriptor that is open already. So the filter is tried while the capability can still be had back, and that
/// one alone stays where it has to.
fn give_up_capabilities(filter_is_usable: &dyn Fn() -> bool) -> Result<bool, ConfineError> {
    let failed = |set| move |source| ConfineError::Capabilities { set, source };
    // INVAL before Linux 4.3, which has no such set.
    clear_ambient_capability_set().or_else(not_there).map_err(failed("ambient"))?;
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

fn not_there(error: Errno) -> Result<(), Errno> {
    if error == Errno::INVAL { Ok(()) } else { Err(error) }
}

/// Whether it could be emptied: that takes CAP_SETPCAP, which a service has no reason to have. Without it the set stays as the
/// service manager made it, and gives nothing to a process that can gain no privileges.
fn empty_bounding_set() -> Result<bool, Errno> {
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        match capability_is_in_bounding_set(capability) {
            Ok(true) => {}
            Ok(false) => continue,
            // Beyond the last that this kernel knows.
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

/// Lets this thread, and those that it starts, read files and connect, and nothing else that Landlock knows of.
///
/// Reading stays free, since a reload may name other files; what may be read, the owner of a file and the service manager
/// decide. Nothing has to be written: a filter that is to stay was pinned before, and is never unpinned by the process that
/// leaves it there.
fn restrict() -> Result<RestrictionStatus, RulesetError> {
    let files = AccessFs::from_all(LANDLOCK) & !(AccessFs::ReadFile | AccessFs::ReadDir);
    Ruleset::default()
        .handle_access(files)?
        .handle_access(AccessNet::BindTcp)?
        .scope(scopes(std::env::var_os("NOTIFY_SOCKET").is_some_and(|name| name.as_encoded_bytes().starts_with(b"@"))))?
        .create()?
        .restrict_self()
}

/// hookgate sends no signals. Of abstract sockets it may need the one on which a service manager or container runtime waits for
/// its messages.
fn scopes(notifies_an_abstract_socket: bool) -> BitFlags<Scope> {
    if notifies_an_abstract_socket { Scope::Signal.into() } else { Scope::from_all(LANDLOCK) }
}

/// What the log says of Landlock: what holds, or why nothing does.
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
