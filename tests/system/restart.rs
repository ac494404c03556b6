//! Restarts, with the socket unit, and without it by the descriptor store of the service manager.

use crate::container::SOON;
use crate::environment::{Environment, MOMENT};
use crate::is_root;
use crate::load::Load;

/// Restarts the service several times under load. Fails if a request is lost.
fn restart_under_load(environment: &Environment, times: usize) {
    let container = &environment.container;
    let load = Load::start(environment);
    std::thread::sleep(MOMENT);
    for _ in 0..times {
        let before = container.property("hookgate.service", "MainPID");
        container.run(&["systemctl", "restart", "hookgate.service"]);
        assert_ne!(container.property("hookgate.service", "MainPID"), before);
        // Avoids the start limit of systemd: five starts in ten seconds.
        container.run(&["systemctl", "reset-failed", "hookgate.service"]);
    }
    std::thread::sleep(MOMENT);
    load.stop().expect_flawless(container);
}

#[test]
fn ten_restarts_with_the_socket_unit_lose_no_request() {
    if !is_root() {
        return;
    }
    let environment = Environment::started();
    restart_under_load(&environment, 10);
}

#[test]
fn restarts_without_the_socket_unit_lose_no_request() {
    if !is_root() {
        return;
    }
    let environment = Environment::configured();
    environment.container.run(&["systemctl", "start", "hookgate.service"]);
    assert_eq!(environment.container.property("hookgate.socket", "ActiveState"), "inactive");
    restart_under_load(&environment, 3);
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
