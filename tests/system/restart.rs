//! Restarts: with the socket unit, and by the service manager's store of descriptors without it.

use crate::host::{Host, SOON};
use crate::is_root;
use crate::load::Load;
use crate::scene::{MOMENT, Scene};

/// Restarts in a row; pauses keep systemd's own limit (five starts in ten seconds) away.
fn restart(host: &Host, times: usize) {
    for _ in 0..times {
        let before = host.property("hookgate.service", "MainPID");
        host.run(&["systemctl", "restart", "hookgate.service"]);
        assert_ne!(host.property("hookgate.service", "MainPID"), before);
        host.run(&["systemctl", "reset-failed", "hookgate.service"]);
    }
}

#[test]
fn ten_restarts_with_the_socket_unit_lose_no_request() {
    if !is_root() {
        return;
    }
    let scene = Scene::started();
    let load = Load::start(&scene);
    std::thread::sleep(MOMENT);
    restart(&scene.host, 10);
    std::thread::sleep(MOMENT);
    load.stop().expect_flawless(&scene.host);
}

#[test]
fn restarts_without_the_socket_unit_lose_no_request() {
    if !is_root() {
        return;
    }
    let scene = Scene::configured();
    scene.host.run(&["systemctl", "start", "hookgate.service"]);
    assert_eq!(scene.host.property("hookgate.socket", "ActiveState"), "inactive");
    let load = Load::start(&scene);
    std::thread::sleep(MOMENT);
    restart(&scene.host, 3);
    std::thread::sleep(MOMENT);
    load.stop().expect_flawless(&scene.host);
}

#[test]
fn a_service_that_was_killed_comes_back() {
    if !is_root() {
        return;
    }
    let scene = Scene::started();
    scene.host.run(&["systemctl", "kill", "--signal=KILL", "hookgate.service"]);
    scene.host.wait_for("an automatic restart", SOON, || (scene.automatic_restarts() > 0).then_some(()));
    scene.wait_served();
}
