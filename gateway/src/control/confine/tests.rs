//! Tries each restriction on a thread that has it. The test process itself stays unrestricted.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed set-up fails the test")]

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr as InternetAddress, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

use rustix::fs::{Mode, OFlags};
use rustix::process::{getppid, test_kill_process};
use tempfile::TempDir;

use super::*;

/// The version of Landlock's interface in this kernel; 0 for none.
fn landlock_version() -> i32 {
    match unprivileged(|| restrict(None).unwrap().landlock).unwrap() {
        LandlockStatus::Available { effective_abi, kernel_abi } => kernel_abi.unwrap_or(effective_abi as i32),
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => 0,
    }
}

/// A directory with a file and a directory to try things on.
fn playground() -> TempDir {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("file"), "as it was").unwrap();
    fs::create_dir(directory.path().join("directory")).unwrap();
    directory
}

/// `attempt` must succeed on an unrestricted thread, and fail with EACCES or EPERM on a restricted one. If the kernel's Landlock is
/// older than `since`, the second part is skipped with a message.
fn check(since: i32, what: &str, attempt: impl Fn(&Path) -> io::Result<()> + Sync) {
    attempt(playground().path()).unwrap_or_else(|error| panic!("{what}: {error} without restrictions"));
    if landlock_version() < since {
        eprintln!("SKIPPED: to forbid {what} takes version {since} of Landlock's interface");
        return;
    }
    let directory = playground();
    let error = restricted(|| attempt(directory.path())).unwrap().expect_err(what);
    let refused = [Errno::ACCESS, Errno::PERM].map(Errno::raw_os_error);
    assert!(error.raw_os_error().is_some_and(|number| refused.contains(&number)), "{what}: {error}");
    assert_eq!(fs::read_to_string(directory.path().join("file")).unwrap(), "as it was", "{what}");
}

#[test]
fn a_restricted_thread_changes_no_file_and_runs_none() {
    check(1, "to write", |at| OpenOptions::new().append(true).open(at.join("file")).map(drop));
    check(1, "to make a file", |at| OpenOptions::new().write(true).create_new(true).open(at.join("new")).map(drop));
    check(1, "to make a directory", |at| fs::create_dir(at.join("new")));
    check(1, "to make a symbolic link", |at| symlink("file", at.join("new")));
    check(1, "to make a hard link", |at| fs::hard_link(at.join("file"), at.join("new")));
    check(1, "to make a socket", |at| UnixListener::bind(at.join("new")).map(drop));
    check(1, "to remove a file", |at| fs::remove_file(at.join("file")));
    check(1, "to remove a directory", |at| fs::remove_dir(at.join("directory")));
    check(1, "to rename", |at| fs::rename(at.join("file"), at.join("new")));
    check(1, "to run a program", |_| Command::new("/bin/true").status().map(drop));
    let truncating = OFlags::RDONLY | OFlags::TRUNC;
    check(3, "to truncate", |at| {
        rustix::fs::open(at.join("file"), truncating, Mode::empty())?;
        Ok(())
    });
}

#[test]
fn a_restricted_thread_listens_nowhere_and_reaches_no_other_process() {
    check(4, "to listen", |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map(drop));
    check(6, "to signal", |_| Ok(test_kill_process(getppid().unwrap())?));
    let name = format!("hookgate-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    check(6, "to connect to an abstract socket", |_| UnixStream::connect_addr(&address).map(drop));
    assert!(!scopes(true).contains(Scope::AbstractUnixSocket), "except if the service manager listens on one");
}

/// The only exception is the state directory, and what its writes need.
#[test]
fn a_restricted_thread_replaces_files_of_the_state_directory_alone() {
    let (at, elsewhere) = (playground(), playground());
    fs::set_permissions(at.path(), Permissions::from_mode(0o700)).unwrap();
    let state = StateDirectory::open(at.path()).unwrap();
    state.write("old", b"x").unwrap();
    let version = landlock_version();
    unprivileged(|| {
        restrict(Some(state.as_fd())).unwrap();
        state.write("new", b"first").unwrap();
        state.write("new", b"second").unwrap();
        state.remove("old").unwrap();
        assert_eq!(state.list("").unwrap(), ["directory", "file", "new"]);
        if version == 0 {
            eprintln!("SKIPPED: this kernel has no Landlock");
            return;
        }
        for (what, refused) in [
            ("another directory", fs::write(elsewhere.path().join("new"), "x")),
            ("a directory in it", fs::create_dir(at.path().join("more"))),
            ("a symbolic link in it", symlink("file", at.path().join("link"))),
            ("a directory removed", fs::remove_dir(at.path().join("directory"))),
            ("a file moved out", fs::rename(at.path().join("file"), elsewhere.path().join("new"))),
        ] {
            assert!(refused.is_err(), "{what}");
        }
    })
    .unwrap();
    assert_eq!(state.read("new", 10).unwrap().unwrap(), b"second");
}

#[test]
fn a_restricted_thread_reads_files_and_connects() {
    let directory = playground();
    let path = directory.path().join("handler.sock");
    let _handler = UnixListener::bind(&path).unwrap();
    let issuer = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address: InternetAddress = issuer.local_addr().unwrap();
    let attempt = || -> io::Result<()> {
        fs::read(directory.path().join("file"))?;
        fs::read_dir(directory.path())?.next().transpose()?;
        UnixStream::connect(&path)?;
        TcpStream::connect(address)?;
        Ok(())
    };
    restricted(attempt).unwrap().unwrap();
}

/// A line of this thread's `/proc/thread-self/status` (proc_pid_status(5)).
fn status(name: &str) -> String {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name}")).trim().to_owned()
}

#[test]
fn a_thread_that_an_unprivileged_one_starts_has_no_capability() {
    let names = ["CapInh", "CapPrm", "CapEff", "CapAmb", "CapBnd", "NoNewPrivs"];
    let inherited = unprivileged(|| thread::spawn(move || names.map(status)).join().unwrap()).unwrap();
    let none = "0000000000000000";
    // Without CAP_SETPCAP the bounding set stays.
    let bounding = if geteuid().is_root() { none.to_owned() } else { status("CapBnd") };
    assert_eq!(inherited, [none, none, none, none, bounding.as_str(), "1"]);
}

#[test]
fn one_capability_stays_where_the_filter_cannot_be_read_without_it() {
    let had = capabilities(None).unwrap().permitted;
    let kept = thread::spawn(|| {
        give_up_capabilities(&|| capabilities(None).unwrap().effective.contains(CapabilitySet::BPF)).unwrap();
        capabilities(None).unwrap()
    });
    let kept = kept.join().unwrap();
    let expected = had & CapabilitySet::BPF;
    assert_eq!((kept.permitted, kept.effective, kept.inheritable), (expected, expected, CapabilitySet::empty()));
}

#[test]
fn a_thread_connects_to_the_ports_of_handlers_alone() {
    let listeners = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let [handler, other] = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
    let ports = BTreeSet::from([handler.port()]);
    let (tried, is_enforced) = connecting_only_to(&ports, || {
        // A thread that it starts, as workers are.
        let attempt = move || [handler, other].map(|address| TcpStream::connect(address).map(drop));
        thread::spawn(attempt).join().unwrap()
    })
    .unwrap();
    let [handler, other] = tried;
    handler.unwrap();
    if landlock_version() < 4 {
        eprintln!("SKIPPED: to forbid to connect takes version 4 of Landlock's interface");
        assert!(!is_enforced);
        return other.unwrap();
    }
    assert!(is_enforced);
    assert_eq!(other.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    TcpStream::connect(listeners[1].local_addr().unwrap()).unwrap();
}

/// Workers and dispatcher start on a main thread that may write there, and that still may afterwards. What is open stays open: SQLite's files.
#[test]
fn a_thread_that_connects_to_handlers_alone_changes_nothing_in_the_state_directory() {
    let at = playground();
    fs::set_permissions(at.path(), Permissions::from_mode(0o700)).unwrap();
    let state = StateDirectory::open(at.path()).unwrap();
    state.write("kept", b"as it was").unwrap();
    let version = landlock_version();
    let file = at.path().join("file");
    unprivileged(|| {
        restrict(Some(state.as_fd())).unwrap();
        let mut open = OpenOptions::new().append(true).open(&file).unwrap();
        let (tried, _) = connecting_only_to(&BTreeSet::new(), || {
            // A thread that it starts, as workers are.
            let (state, directory, file) = (state.clone(), at.path().to_owned(), file.clone());
            let attempt = move || {
                open.write_all(b", and more").unwrap();
                assert_eq!(state.read("kept", 10).unwrap().unwrap(), b"as it was");
                [
                    ("a new file", state.write("new", b"x").is_err()),
                    ("a file replaced", state.write("kept", b"x").is_err()),
                    ("a file removed", state.remove("kept").is_err()),
                    ("a file opened to write", OpenOptions::new().append(true).open(&file).is_err()),
                    ("a file moved", fs::rename(&file, directory.join("moved")).is_err()),
                ]
            };
            thread::spawn(attempt).join().unwrap()
        })
        .unwrap();
        state.write("after", b"of the thread that may").unwrap();
        if version == 0 {
            eprintln!("SKIPPED: this kernel has no Landlock");
            return;
        }
        assert_eq!(tried, tried.map(|(what, _)| (what, true)), "what was refused");
        assert_eq!(state.list("").unwrap(), ["after", "directory", "file", "kept"]);
    })
    .unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "as it was, and more");
}
