//! The privileges that the running daemon has given up.

#![expect(clippy::panic, reason = "tests")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};

use hookgate_testkit::gateway::{Gateway, Signal};

use crate::environment::{PATH, SOON};
use crate::test_gateway::TestGateway;
use crate::tls_client::request;

/// Fails if a thread of the daemon has a capability, or can gain one (proc_pid_status(5)).
pub(crate) fn assert_unprivileged(gateway: &Gateway) {
    let mut threads = 0;
    for task in fs::read_dir(format!("/proc/{}/task", gateway.process_id())).unwrap() {
        let task = task.unwrap().path();
        // A thread may have ended meanwhile.
        let Ok(status) = fs::read_to_string(task.join("status")) else { continue };
        threads += 1;
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_else(|| panic!("no {name}:\n{status}")).trim()
        };
        let none = "0000000000000000";
        let sets = ["CapInh", "CapPrm", "CapEff", "CapAmb"].map(value);
        assert_eq!(sets, [none; 4], "{status}");
        assert_eq!(value("NoNewPrivs"), "1", "{status}");
        if rustix::process::geteuid().is_root() {
            assert_eq!(value("CapBnd"), none, "{status}");
        }
    }
    assert!(threads >= 3, "{threads} threads, which cannot be main, log and a worker");
}

#[test]
fn no_thread_has_a_capability_after_the_start() {
    let gateway = TestGateway::with_limits("").unwrap();
    assert_eq!(gateway.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap().status, 200);
    gateway.reload(&gateway.environment.toml("", "")).unwrap();
    assert_unprivileged(&gateway.daemon);
    let log = gateway.daemon.log();
    assert!(log.contains("privileges given up") && log.contains("capabilities=none"), "{log}");
}

#[test]
fn the_daemon_writes_no_core_dump() {
    let gateway = TestGateway::with_limits("").unwrap();
    let limits = fs::read_to_string(format!("/proc/{}/limits", gateway.daemon.process_id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{core}");
}

#[test]
fn a_key_that_only_another_user_may_read_is_not_reloaded_by_root_and_the_log_names_the_owner_it_needs() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can change the owner of a file
    }
    let gateway = TestGateway::with_limits("").unwrap();
    let key = &gateway.environment.server.key_path;
    chown(key, Some(65534), Some(65534)).unwrap();
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
    gateway.daemon.signal(Signal::HUP).unwrap();
    gateway.daemon.wait_log("has given up root's right to read every file", SOON).unwrap();
    assert_eq!(
        gateway.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap().status,
        200,
        "the old key is gone"
    );
    chown(key, Some(0), Some(0)).unwrap();
    gateway.reload(&gateway.environment.toml("", "")).unwrap();
}
