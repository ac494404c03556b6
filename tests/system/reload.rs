//! Reloads: which are accepted, which are refused, and that no request is lost.

use hookgate_testkit::configuration::FourProviders;
use hookgate_testkit::pki::{KeyKind, Sender, Variant};

use crate::environment::{CONFIGURATION, Environment, MOMENT};
use crate::is_root;
use crate::load::Load;

const RELOADS: usize = 50;

#[test]
fn a_broken_configuration_changes_nothing_and_is_reported() {
    if !is_root() {
        return;
    }
    let environment = Environment::started();
    let good = environment.configuration();
    environment.container.write(CONFIGURATION, &format!("{good}\n[nonsense]\n"));
    let reload = environment.container.try_run(&["systemctl", "reload", "hookgate.service"]);
    assert!(!reload.success(), "{reload:?}");
    // systemd 253 and later send the signal before they know the result of the check. Then the status reports the failure too.
    let status = environment.container.property("hookgate.service", "StatusText");
    assert!(status.contains("generation 1"), "{status}");
    assert_eq!(environment.metric("hookgate_config_generation", &[]), 1.0);
    environment.expect_served();

    // The signal alone has no check before it.
    environment.container.run(&["systemctl", "kill", "--kill-whom=main", "--signal=HUP", "hookgate.service"]);
    environment.wait_metric("hookgate_config_reloads_total", &[("result", "error")], 1.0);
    let status = environment.container.property("hookgate.service", "StatusText");
    assert!(status.contains("failed"), "{status}");
    assert!(environment.container.journal().contains("nonsense"), "{}", environment.container.journal());
    environment.expect_served();

    environment.container.write(CONFIGURATION, &good);
    environment.reload();
    let status = environment.container.property("hookgate.service", "StatusText");
    assert!(!status.contains("failed"), "{status}");
    environment.expect_served();
}

#[test]
fn fifty_reloads_lose_no_request() {
    if !is_root() {
        return;
    }
    let environment = Environment::started();
    let load = Load::start(&environment);
    for _ in 0..RELOADS {
        environment.reload();
    }
    load.stop().expect_flawless(&environment.container);
}

#[test]
fn certificate_authority_and_revocation_list_are_rotated_under_load() {
    if !is_root() {
        return;
    }
    let environment = Environment::started();
    let load = Load::start(&environment);

    // The server certificate: another key, the same name and files.
    let renewed = environment.pki.server("server", &[hookgate_testkit::configuration::HOST], KeyKind::P256).unwrap();
    environment.install_certificate();
    environment.reload();
    std::thread::sleep(MOMENT);
    let served = environment.post(&environment.identity);
    assert_eq!(served.status(), Some(200), "{served:?}");
    assert_ne!(renewed.der, environment.server.der);

    // A revocation list that revokes another client.
    let percolate = environment.pki.sender(Sender::Percolate);
    let other = percolate.leaf("other", &Default::default()).unwrap();
    assert_eq!(environment.post(&other).status(), Some(200));
    let lists = percolate.revoke(&[&other]).unwrap().to_vec();
    environment.configure(|configuration| configuration.revocation_lists = vec![(Sender::Percolate, lists.clone())]);
    environment.reload();
    assert_eq!(environment.post(&other).response().unwrap().reason().as_deref(), Some("certificate_revoked"));

    // The authority: the new one is added, then the senders change their certificates, then the old one is removed.
    let newer = hookgate_testkit::pki::Pki::new(&environment.directory("newer")).unwrap();
    let newcomer = newer.sender(Sender::Percolate).variant(Variant::Good).unwrap();
    assert_eq!(environment.post(&newcomer).status(), Some(403));
    let old_root = percolate.root.path().display().to_string();
    let new_root = newer.sender(Sender::Percolate).root.path().display().to_string();
    // The lists of both authorities: a reload without lists would demand less, and be refused.
    let newer_lists = newer.sender(Sender::Percolate).revoke(&[]).unwrap().to_vec();
    let lists = [lists, newer_lists].concat();
    let with_lists = |configuration: &mut FourProviders<'_>| {
        configuration.revocation_lists = vec![(Sender::Percolate, lists.clone())];
    };
    environment.configure_text(with_lists, |text| text.replace(&old_root, &format!("{old_root}\", \"{new_root}")));
    environment.reload();
    load.identify(&environment, &newcomer);
    std::thread::sleep(MOMENT);
    assert_eq!(environment.post(&newcomer).status(), Some(200));
    assert_eq!(environment.post(&environment.identity).status(), Some(200));
    environment.configure_text(with_lists, |text| text.replace(&old_root, &new_root));
    environment.reload();
    std::thread::sleep(MOMENT);
    assert_eq!(environment.post(&environment.identity).status(), Some(403));
    load.stop().expect_flawless(&environment.container);
}

#[test]
fn the_package_of_presets_replaces_them_with_a_reload() {
    if !is_root() {
        return;
    }
    let environment = Environment::started();
    let generation = || environment.metric("hookgate_config_generation", &[]);
    let before = generation();
    let said = environment.container.install(&crate::artifacts::packages().presets);
    assert!(generation() > before, "{said}");
    let listed = environment.container.run(&["hookgate", "providers"]);
    assert!(
        listed.contains("(/usr/share/hookgate/presets/pagerduty.toml)") && !listed.contains("compiled in"),
        "{listed}"
    );
    environment.expect_served();
    // A preset of the administrator with an error: the state stays, and the package says so.
    environment.container.run(&["mkdir", "--parents", "/etc/hookgate/presets.d"]);
    environment.container.write("/etc/hookgate/presets.d/pagerduty.toml", "schema = 1\n");
    let check = environment.container.try_run(&["hookgate", "check"]);
    assert!(check.stderr_text().contains("/etc/hookgate/presets.d/pagerduty.toml: version: missing"), "{check:?}");
    environment.expect_served();
    environment.container.run(&["rm", "/etc/hookgate/presets.d/pagerduty.toml"]);
    environment.container.run(&["dpkg", "--remove", "hookgate-presets"]);
    assert!(environment.container.run(&["hookgate", "providers"]).contains("compiled in"));
    environment.expect_served();
}
