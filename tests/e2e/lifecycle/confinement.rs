//! What the running daemon can no longer do.

#![expect(clippy::panic, reason = "tests")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};

use hookgate_testkit::gateway::{Gateway, Signal};

use crate::call::request;
use crate::stand::{PATH, Stand, configuration};
use crate::world::SOON;

/// No thread of the daemon has a capability, nor can gain one (proc_pid_status(5)).
pub(crate) fn assert_unprivileged(gateway: &Gateway) {
    let mut threads = 0;
    for task in fs::read_dir(format!("/proc/{}/task", gateway.process_id())).unwrap() {
        let task = task.unwrap().path();
        // A thread may have ended since.
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
    assert!(threads >= 3, "main, log and one worker at least, not {threads}");
}

#[test]
fn no_thread_has_a_capability_after_the_start() {
    let stand = Stand::limited("").unwrap();
    assert_eq!(stand.call().unwrap().ask(request("POST", PATH, b"{}")).unwrap().status, 200);
    stand.world.reload(&configuration(&stand.world.scene, "", "")).unwrap();
    assert_unprivileged(&stand.world.gateway);
    let log = stand.world.gateway.log();
    assert!(log.contains("privileges given up") && log.contains("capabilities=none"), "{log}");
}

#[test]
fn keys_in_memory_reach_no_core_dump() {
    let stand = Stand::limited("").unwrap();
    let limits = fs::read_to_string(format!("/proc/{}/limits", stand.world.gateway.process_id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{core}");
}

#[test]
fn a_key_that_only_its_owner_may_read_is_not_reloaded_by_root_and_the_log_says_whose_it_must_be() {
    if !rustix::process::geteuid().is_root() {
        return; // the files would have to be another's
    }
    let stand = Stand::limited("").unwrap();
    let key = &stand.world.scene.server.key_path;
    chown(key, Some(65534), Some(65534)).unwrap();
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
    stand.world.gateway.signal(Signal::HUP).unwrap();
    stand.world.gateway.wait_log("has given up root's right to read every file", SOON).unwrap();
    assert_eq!(stand.call().unwrap().ask(request("POST", PATH, b"{}")).unwrap().status, 200, "the old one serves");
    chown(key, Some(0), Some(0)).unwrap();
    stand.world.reload(&configuration(&stand.world.scene, "", "")).unwrap();
}
