//! Faults of a host: a worker that hangs, no descriptors, no disk space, an unreadable key, no handler.

use std::fs;
use std::thread;
use std::time::Duration;

use hookgate_testkit::configuration::HOST;
use hookgate_testkit::process::thread_id;
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::container::SOON;
use crate::environment::{Environment, PATH};
use crate::is_root;

/// Longer than systemd waits between two attempts (RestartSec=).
const A_WHILE: Duration = Duration::from_secs(3);

#[test]
fn the_watchdog_ends_a_service_with_a_worker_that_hangs() {
    if !is_root() {
        return;
    }
    let environment = Environment::configured();
    environment.container.write_drop_in("hookgate.service", "[Service]\nWatchdogSec=2\n");
    environment.container.run(&["systemctl", "start", "hookgate.socket", "hookgate.service"]);
    environment.expect_served();
    let container = &environment.container;
    let process = environment.wait_process();
    let restarts = environment.automatic_restarts();
    let service = container.host_process(&process);
    let worker = Pid::from_raw(thread_id(service, "worker-0").unwrap());
    // One thread traces, and waits until the traced thread is dead: its process cannot end before.
    let tracer = thread::spawn(move || {
        ptrace::seize(worker, ptrace::Options::empty()).unwrap();
        ptrace::interrupt(worker).unwrap();
        while waitpid(worker, Some(WaitPidFlag::__WALL)).is_ok_and(|status| status.pid().is_some()) {}
    });
    environment
        .container
        .wait_for("an automatic restart", SOON, || (environment.automatic_restarts() > restarts).then_some(()));
    environment.wait_served();
    tracer.join().unwrap();
    let journal = environment.container.run(&["journalctl", "--no-pager", "--unit=hookgate.service"]);
    assert!(journal.contains("Watchdog timeout"), "{journal}");
}

#[test]
fn a_service_without_descriptors_serves_again_when_some_are_free() {
    if !is_root() {
        return;
    }
    let environment = Environment::configured();
    environment.container.write_drop_in("hookgate.service", "[Service]\nLimitNOFILE=64\n");
    environment.container.run(&["systemctl", "start", "hookgate.socket", "hookgate.service"]);
    environment.expect_served();
    let idle: Vec<_> = environment
        .container
        .in_network(|| (0..80).filter_map(|_| std::net::TcpStream::connect("127.0.0.1:443").ok()).collect());
    environment.container.wait_for("the error in the journal", SOON, || {
        environment.container.journal().to_lowercase().contains("too many open files").then_some(())
    });
    // Connections are refused before descriptors run out.
    environment.container.wait_for("a refusal in the journal", SOON, || {
        environment.container.journal().contains("reason=connection_limit").then_some(())
    });
    drop(idle);
    environment.wait_served();
    assert_eq!(environment.automatic_restarts(), 0);
}

#[test]
fn requests_are_served_with_full_disks() {
    if !is_root() {
        return;
    }
    let environment = Environment::started();
    // The journal is on disk, and both file systems are full.
    environment.container.shell(
        "mount -o remount,size=24m /run; mkdir -p /var/log/journal; journalctl --flush
         dd if=/dev/zero of=/fill bs=1M 2>/dev/null || true; dd if=/dev/zero of=/run/fill bs=1M 2>/dev/null || true
         ! echo x 2>/dev/null >/probe; ! [ -s /probe ]",
    );
    for _ in 0..20 {
        environment.expect_served();
    }
    // A reload writes nothing.
    environment.reload();
    environment.expect_served();
}

#[test]
fn an_unreadable_key_is_logged_and_the_attempts_to_start_end() {
    if !is_root() {
        return;
    }
    let environment = Environment::configured();
    let key = "/etc/hookgate/certificates/server.key";
    environment.container.shell(&format!("chmod 600 {key}"));
    let started = environment.container.try_run(&["systemctl", "start", "hookgate.service"]);
    assert!(!started.success(), "{started:?}");
    let journal = environment.container.journal();
    assert!(journal.contains(key) && journal.contains("Permission denied"), "{journal}");
    let state = || environment.container.property("hookgate.service", "ActiveState");
    environment.container.wait_for("the end of the attempts", SOON, || (state() == "failed").then_some(()));
    let attempts = || environment.container.journal().matches("Permission denied").count();
    let until_then = attempts();
    assert!((1..=6).contains(&until_then), "{until_then} attempts\n{}", environment.container.journal());
    thread::sleep(A_WHILE);
    assert_eq!((state().as_str(), attempts()), ("failed", until_then));

    environment
        .container
        .shell(&format!("chmod 640 {key}; systemctl reset-failed hookgate.service; systemctl start hookgate.service"));
    environment.expect_served();
}

#[test]
fn a_dead_handler_is_reported_and_used_again_when_it_is_back() {
    if !is_root() {
        return;
    }
    let environment = Environment::started();
    environment.expect_served();
    let path = environment.handler.path().to_owned();
    // A killed handler leaves a socket without a listener.
    let live = path.with_extension("live");
    fs::rename(&path, &live).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    environment.handler.close_connections();
    let outcome = environment.post(&environment.identity);
    assert_eq!(outcome.status(), Some(502), "{PATH} of {HOST}: {outcome:?}");
    let reason = outcome.response().unwrap().reason().unwrap();
    environment.wait_metric("hookgate_rejections_total", &[("reason", &reason)], 1.0);
    fs::rename(&live, &path).unwrap();
    environment.wait_served();
}
