//! The life of the package, from installation to purge.

use hookgate_testkit::client::OpenSsl;
use hookgate_testkit::configuration::HOST;
use hookgate_testkit::pki::{Sender, Variant};

use crate::artifacts::{self, OLDER};
use crate::container::SOON;
use crate::environment::{CONFIGURATION, Environment, MOMENT};
use crate::is_root;
use crate::load::Load;

/// The units.
const UNITS: [&str; 2] = ["hookgate.service", "hookgate.socket"];

#[test]
fn the_installed_package_admits_no_sender_and_is_not_started() {
    if !is_root() {
        return;
    }
    let environment = Environment::without_package();
    let container = &environment.container;
    container.install(&artifacts::packages().present);
    for unit in UNITS {
        assert_eq!(container.property(unit, "ActiveState"), "inactive", "{unit}");
        assert_eq!(container.property(unit, "UnitFileState"), "disabled", "{unit}");
    }
    let check = container.try_run(&["hookgate", "check"]);
    assert!(check.success() && check.stderr_text().contains("no peer is admitted"), "{check:?}");
    assert_eq!(container.run(&["stat", "--format=%a %U:%G", "/etc/hookgate/certificates"]), "750 root:hookgate\n");
    assert_eq!(container.run(&["dpkg", "--verify", "hookgate"]), "");

    container.run(&["systemctl", "start", "hookgate.service"]);
    let openssl =
        OpenSsl::new(HOST, 443).trusting(environment.pki.server_root().path()).identity(&environment.identity);
    let outcome = container.in_network(|| openssl.run()).unwrap();
    assert!(outcome.alert().is_some(), "{outcome:?}");
    assert_eq!(environment.handler.request_count(), 0);
}

#[test]
fn a_started_service_serves_reports_its_status_and_logs_fields() {
    if !is_root() {
        return;
    }
    let environment = Environment::configured();
    let container = &environment.container;
    container.run(&["systemctl", "enable", "--now", "hookgate.socket", "hookgate.service"]);
    environment.expect_served();
    let status = container.run(&["systemctl", "status", "hookgate.service"]);
    assert!(status.lines().any(|line| line.trim_start().starts_with("Status: \"")), "{status}");
    assert_eq!(container.property("hookgate.service", "User"), "hookgate");

    let wrong = environment.pki.sender(Sender::Percolate).variant(Variant::Expired).unwrap();
    assert_eq!(environment.post(&wrong).status(), Some(403));
    container.wait_for("the refusal in the journal, with its fields", SOON, || {
        let journal = container.run(&["journalctl", "--no-pager", "--unit=hookgate.service", "--output=json"]);
        let fields = ["\"HOOKGATE_REASON\":\"certificate_expired\"", "\"HOOKGATE_PROVIDER\":\"percolate\""];
        journal.lines().find(|line| fields.iter().all(|field| line.contains(field))).map(str::to_owned)
    });
    let by_field = container.run(&["journalctl", "--no-pager", "HOOKGATE_REASON=certificate_expired"]);
    assert!(by_field.contains("hookgate"), "{by_field}");
}

#[test]
fn an_upgrade_keeps_configuration_and_connections_and_a_purge_leaves_nothing() {
    if !is_root() {
        return;
    }
    let environment = Environment::of_older(|environment| environment.configure(|_| {}));
    let container = &environment.container;
    let (configuration, process) = (environment.configuration(), container.property("hookgate.service", "MainPID"));

    let load = Load::start(&environment);
    std::thread::sleep(MOMENT);
    let said = container.install(&artifacts::packages().present);
    std::thread::sleep(MOMENT);
    load.stop().expect_flawless(container);
    assert!(said.contains(&format!("over ({OLDER})")), "{said}");
    assert_eq!(environment.configuration(), configuration);
    assert_ne!(container.property("hookgate.service", "MainPID"), process, "the old version still runs");
    for unit in UNITS {
        assert_eq!(container.property(unit, "UnitFileState"), "enabled", "{unit}");
    }

    // A version that refuses the configuration must not end the running one.
    let process = container.property("hookgate.service", "MainPID");
    container.write(CONFIGURATION, &format!("{configuration}\n[nonsense]\n"));
    let said = container.install(&artifacts::packages().present);
    assert!(said.contains("nonsense") && said.contains("goes on running"), "{said}");
    assert_eq!(container.property("hookgate.service", "MainPID"), process);
    environment.expect_served();

    container.run(&["dpkg", "--remove", "hookgate"]);
    assert_eq!(container.run(&["cat", CONFIGURATION]), format!("{configuration}\n[nonsense]\n"), "kept until a purge");
    container.run(&["dpkg", "--purge", "hookgate"]);
    let left = container.shell(
        "find / -xdev -name '*hookgate*' -not -path '/proc/*' -not -path '/srv/*' -not -path '/var/log/*' \
         -not -path '/run/log/*' -not -path '/run/systemd/*'; find /run -name '*hookgate*'",
    );
    assert_eq!(left, "", "left behind");
    assert_eq!(container.try_run(&["systemctl", "list-units", "--failed", "--no-legend"]).stdout_text(), "");
    container.run(&["getent", "passwd", "hookgate"]);
}
