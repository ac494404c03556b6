//! Reloads: what is taken, what is not, and that nobody notices.

use hookgate_testkit::pki::{KeyKind, Sender, Variant};

use crate::is_root;
use crate::load::Load;
use crate::scene::{CONFIGURATION, MOMENT, Scene};

const RELOADS: usize = 50;

#[test]
fn a_broken_configuration_changes_nothing_and_is_seen_to() {
    if !is_root() {
        return;
    }
    let scene = Scene::started();
    let good = scene.configuration();
    scene.host.write(CONFIGURATION, &format!("{good}\n[nonsense]\n"));
    let reload = scene.host.attempt(&["systemctl", "reload", "hookgate.service"]);
    assert!(!reload.success(), "{reload:?}");
    // systemd 253 and later have sent the signal before they know what the check says; then the status tells of it too.
    let status = scene.host.property("hookgate.service", "StatusText");
    assert!(status.contains("generation 1"), "{status}");
    assert_eq!(scene.metric("hookgate_config_generation", &[]), 1.0);
    scene.expect_served();

    // The signal alone asks nobody before.
    scene.host.run(&["systemctl", "kill", "--kill-whom=main", "--signal=HUP", "hookgate.service"]);
    scene.wait_metric("hookgate_config_reloads_total", &[("result", "error")], 1.0);
    let status = scene.host.property("hookgate.service", "StatusText");
    assert!(status.contains("failed"), "{status}");
    assert!(scene.host.journal().contains("nonsense"), "{}", scene.host.journal());
    scene.expect_served();

    scene.host.write(CONFIGURATION, &good);
    scene.reload();
    let status = scene.host.property("hookgate.service", "StatusText");
    assert!(!status.contains("failed"), "{status}");
    scene.expect_served();
}

#[test]
fn fifty_reloads_lose_no_request() {
    if !is_root() {
        return;
    }
    let scene = Scene::started();
    let load = Load::start(&scene);
    for _ in 0..RELOADS {
        scene.reload();
    }
    load.stop().expect_flawless(&scene.host);
}

#[test]
fn certificate_authority_and_revocation_list_are_rotated_under_load() {
    if !is_root() {
        return;
    }
    let scene = Scene::started();
    let load = Load::start(&scene);

    // Our certificate: another key under the same name, in the same file.
    let renewed = scene.pki.server("server", &[hookgate_testkit::configuration::HOST], KeyKind::P256).unwrap();
    scene.install_certificate();
    scene.reload();
    std::thread::sleep(MOMENT);
    let served = scene.post(&scene.identity);
    assert_eq!(served.status(), Some(200), "{served:?}");
    assert_ne!(renewed.der, scene.server.der);

    // A revocation list: for another client at first, which is refused from then on.
    let percolate = scene.pki.sender(Sender::Percolate);
    let other = percolate.leaf("other", &Default::default()).unwrap();
    assert_eq!(scene.post(&other).status(), Some(200));
    let lists = percolate.revoke(&[&other]).unwrap().to_vec();
    scene.configure(|configuration| configuration.revocation_lists = vec![(Sender::Percolate, lists.clone())]);
    scene.reload();
    assert_eq!(scene.post(&other).response().unwrap().reason().as_deref(), Some("certificate_revoked"));

    // The authority: the new one beside the old, then the senders change, then the old one goes.
    let newer = hookgate_testkit::pki::Pki::new(&scene.directory("newer")).unwrap();
    let newcomer = newer.sender(Sender::Percolate).variant(Variant::Good).unwrap();
    assert_eq!(scene.post(&newcomer).status(), Some(403));
    let old_root = percolate.root.path().display().to_string();
    let new_root = newer.sender(Sender::Percolate).root.path().display().to_string();
    scene.configure_text(|text| text.replace(&old_root, &format!("{old_root}\", \"{new_root}")));
    scene.reload();
    load.identify(&scene, &newcomer);
    std::thread::sleep(MOMENT);
    assert_eq!(scene.post(&newcomer).status(), Some(200));
    assert_eq!(scene.post(&scene.identity).status(), Some(200));
    scene.configure_text(|text| text.replace(&old_root, &new_root));
    scene.reload();
    std::thread::sleep(MOMENT);
    assert_eq!(scene.post(&scene.identity).status(), Some(403));
    load.stop().expect_flawless(&scene.host);
}
