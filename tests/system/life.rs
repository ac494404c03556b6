//! From installation to purge.

use hookgate_testkit::client::OpenSsl;
use hookgate_testkit::configuration::HOST;
use hookgate_testkit::pki::{Sender, Variant};

use crate::base::{self, OLDER};
use crate::host::SOON;
use crate::is_root;
use crate::load::Load;
use crate::scene::{CONFIGURATION, MOMENT, Scene};

/// The units.
const UNITS: [&str; 2] = ["hookgate.service", "hookgate.socket"];

#[test]
fn what_is_installed_admits_nobody_and_is_not_started() {
    if !is_root() {
        return;
    }
    let scene = Scene::bare();
    let host = &scene.host;
    host.install(&base::packages().present);
    for unit in UNITS {
        assert_eq!(host.property(unit, "ActiveState"), "inactive", "{unit}");
        assert_eq!(host.property(unit, "UnitFileState"), "disabled", "{unit}");
    }
    let check = host.attempt(&["hookgate", "check"]);
    assert!(check.success() && check.stderr_text().contains("nobody is admitted"), "{check:?}");
    assert_eq!(host.run(&["stat", "--format=%a %U:%G", "/etc/hookgate/certificates"]), "750 root:hookgate\n");
    assert_eq!(host.run(&["dpkg", "--verify", "hookgate"]), "");

    host.run(&["systemctl", "start", "hookgate.service"]);
    let openssl = OpenSsl::new(HOST, 443).trusting(scene.pki.server_root().path()).identity(&scene.identity);
    let outcome = host.inside(|| openssl.run()).unwrap();
    assert!(outcome.alert().is_some(), "{outcome:?}");
    assert_eq!(scene.handler.request_count(), 0);
}

#[test]
fn a_started_service_serves_says_how_it_is_and_logs_fields() {
    if !is_root() {
        return;
    }
    let scene = Scene::configured();
    let host = &scene.host;
    host.run(&["systemctl", "enable", "--now", "hookgate.socket", "hookgate.service"]);
    scene.expect_served();
    let status = host.run(&["systemctl", "status", "hookgate.service"]);
    assert!(status.lines().any(|line| line.trim_start().starts_with("Status: \"")), "{status}");
    assert_eq!(host.property("hookgate.service", "User"), "hookgate");

    let wrong = scene.pki.sender(Sender::Percolate).variant(Variant::Expired).unwrap();
    assert_eq!(scene.post(&wrong).status(), Some(403));
    host.wait_for("the refusal in the journal, with its fields", SOON, || {
        let journal = host.run(&["journalctl", "--no-pager", "--unit=hookgate.service", "--output=json"]);
        let fields = ["\"HOOKGATE_REASON\":\"certificate_expired\"", "\"HOOKGATE_PROVIDER\":\"percolate\""];
        journal.lines().find(|line| fields.iter().all(|field| line.contains(field))).map(str::to_owned)
    });
    let by_field = host.run(&["journalctl", "--no-pager", "HOOKGATE_REASON=certificate_expired"]);
    assert!(by_field.contains("hookgate"), "{by_field}");
}

#[test]
fn an_upgrade_keeps_configuration_and_connections_and_a_purge_leaves_nothing() {
    if !is_root() {
        return;
    }
    let scene = Scene::bare();
    let host = &scene.host;
    host.install(&base::packages().older);
    scene.install_certificate();
    scene.configure(|_| {});
    host.run(&["systemctl", "enable", "--now", "hookgate.socket", "hookgate.service"]);
    let (configuration, process) = (scene.configuration(), host.property("hookgate.service", "MainPID"));

    let load = Load::start(&scene);
    std::thread::sleep(MOMENT);
    let said = host.install(&base::packages().present);
    std::thread::sleep(MOMENT);
    load.stop().expect_flawless(host);
    assert!(said.contains(&format!("over ({OLDER})")), "{said}");
    assert_eq!(scene.configuration(), configuration);
    assert_ne!(host.property("hookgate.service", "MainPID"), process, "the new version runs");
    for unit in UNITS {
        assert_eq!(host.property(unit, "UnitFileState"), "enabled", "{unit}");
    }

    // A version that does not accept the configuration must not end the one that does.
    let process = host.property("hookgate.service", "MainPID");
    host.write(CONFIGURATION, &format!("{configuration}\n[nonsense]\n"));
    let said = host.install(&base::packages().present);
    assert!(said.contains("nonsense") && said.contains("goes on running"), "{said}");
    assert_eq!(host.property("hookgate.service", "MainPID"), process);
    scene.expect_served();

    host.run(&["dpkg", "--remove", "hookgate"]);
    assert_eq!(host.run(&["cat", CONFIGURATION]), format!("{configuration}\n[nonsense]\n"), "kept until a purge");
    host.run(&["dpkg", "--purge", "hookgate"]);
    let left = host.shell(
        "find / -xdev -name '*hookgate*' -not -path '/proc/*' -not -path '/srv/*' -not -path '/var/log/*' \
         -not -path '/run/log/*' -not -path '/run/systemd/*'; find /run -name '*hookgate*'",
    );
    assert_eq!(left, "", "left behind");
    assert_eq!(host.attempt(&["systemctl", "list-units", "--failed", "--no-legend"]).stdout_text(), "");
    host.run(&["getent", "passwd", "hookgate"]);
}
