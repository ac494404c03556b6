//! Restarts, with the socket unit, and without it by the descriptor store of the service manager.

use crate::container::{Container, SOON};
use crate::environment::{Environment, MOMENT};
use crate::is_root;
use crate::load::Load;

/// Restarts the service several times. `reset-failed` avoids the start limit of systemd (five starts in ten seconds).
fn restart(container: &Container, times: usize) {
    for _ in 0..times {
        let before = container.property("hookgate.service", "MainPID");
        container.run(&["systemctl", "restart", "hookgate.service"]);
        assert_ne!(container.property("hookgate.service", "MainPID"), before);
        container.run(&["systemctl", "reset-failed", "hookgate.service"]);
    }
}

#[test]
fn ten_restarts_with_the_socket_unit_lose_no_request() {
    if !is_root() {
        return;
    }
    let environment = Environment::started();
    let load = Load::start(&environment);
    std::thread::sleep(MOMENT);
    restart(&environment.container, 10);
    std::thread::sleep(MOMENT);
    load.stop().expect_flawless(&environment.container);
}

#[test]
fn restarts_without_the_socket_unit_lose_no_request() {
    if !is_root() {
        return;
    }
    let environment = Environment::configured();
    environment.container.run(&["systemctl", "start", "hookgate.service"]);
    assert_eq!(environment.container.property("hookgate.socket", "ActiveState"), "inactive");
    let load = Load::start(&environment);
    std::thread::sleep(MOMENT);
    restart(&environment.container, 3);
    std::thread::sleep(MOMENT);
    load.stop().expect_flawless(&environment.container);
}

#[test]
fn a_killed_service_is_restarted() {
    if !is_root() {
        return;
    }
    let environment = Environment::started();
    environment.container.run(&["systemctl", "kill", "--signal=KILL", "hookgate.service"]);
    environment
        .container
        .wait_for("an automatic restart", SOON, || (environment.automatic_restarts() > 0).then_some(()));
    environment.wait_served();
}
