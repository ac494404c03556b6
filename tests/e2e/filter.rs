//! The source of requests: the ranges of providers, and the pre-filter of the daemon.

use std::io::ErrorKind;
use std::process::Command;

use hookgate_testkit::configuration::{FourProviders, HOST};
use hookgate_testkit::gateway::{Gateway, Signal};
use hookgate_testkit::mount::{BpfFileSystem, with_mount};
use hookgate_testkit::namespace::{Namespace, ip};
use hookgate_testkit::pki::{Sender, Variant};
use hookgate_testkit::process::run;

use crate::environment::{BINARY, Environment, PATH, SOON};
use crate::lifecycle::confinement::assert_unprivileged;
use crate::problem::assert_problem;
use crate::test_gateway::TestGateway;

/// The configuration with the lines `provider` in the `[[provider]]` of the certificate, and the lines `end` at the end.
fn ranged(environment: &Environment, provider: &str, end: &str) -> String {
    let mut configuration: FourProviders<'_> = environment.configuration();
    configuration.proofs = vec![("percolate", format!("proof = \"certificate\"\n{provider}"))];
    configuration.toml() + &environment.any_method_route("") + end
}

#[test]
fn a_provider_is_admitted_from_its_own_ranges_only() {
    let gateway = TestGateway::with_limits("").unwrap();
    let missed = || gateway.daemon.metric("hookgate_source_not_in_ranges_total", &[("provider", "percolate")]);
    let check = |lines: &str, status: u16, counted: f64| {
        gateway.reload_permitting(&ranged(&gateway.environment, lines, "")).unwrap();
        let before = missed().unwrap_or(0.0);
        let outcome = gateway.admitted_curl().post(PATH, b"{}").run().unwrap();
        let response = outcome.response().unwrap();
        match status {
            403 => assert_problem(response, 403, "source_not_in_ranges", lines),
            status => assert_eq!(response.status, status, "{lines}"),
        }
        assert_eq!(missed().unwrap_or(0.0) - before, counted, "{lines}");
    };
    check("source_ranges = [\"127.0.0.0/8\"]", 200, 0.0);
    check("source_ranges = [\"192.0.2.0/24\", \"::/0\"]", 403, 1.0);
    check("source_ranges = [\"192.0.2.0/24\"]\nsource_ranges_check = \"count\"", 200, 1.0);
    check("source_ranges = [\"192.0.2.0/24\"]\nsource_ranges_check = \"off\"", 200, 0.0);
    assert_eq!(gateway.rejections("source_not_in_ranges").unwrap(), 1.0);
}

#[test]
fn a_filter_that_cannot_start_fails_the_start_unless_it_is_optional() {
    let filter = "\n[filter]\nmode = \"monitor\"\ninterfaces = [\"hg-none0\"]\nrequired = false\n";
    let gateway = TestGateway::with_toml(|environment| environment.toml("", "") + filter).unwrap();
    assert_eq!(gateway.admitted_curl().post(PATH, b"{}").run().unwrap().status(), Some(200));
    assert_eq!(gateway.daemon.metric("hookgate_filter_unavailable", &[]).unwrap(), 1.0);
    let log = gateway.daemon.log();
    let root = rustix::process::geteuid().is_root();
    let reason = if root { "there is no interface hg-none0" } else { "does not permit" };
    assert!(log.contains("serving without the filter") && log.contains(reason), "{log}");
    let required = gateway.environment.toml("", "") + &filter.replace("required = false\n", "");
    let failed = TestGateway::with_toml(|_| required).err().map(|error| format!("{error:#}")).unwrap_or_default();
    assert!(failed.contains(reason) && failed.contains("filter.required = false"), "{failed}");
}

/// Whether this process is root, which the tests of the filter need. Prints that they are skipped if it is not.
fn is_root() -> bool {
    hookgate_testkit::root::is_root("the tests of the filter")
}

/// The section of an enforcing filter.
const ENFORCE: &str = "\n[filter]\nmode = \"enforce\"\ninterfaces = [\"lo\"]\n";

/// The configuration with `ranges` for the provider of the certificate, and the lines `end` at the end.
fn enforced(environment: &Environment, ranges: &str, end: &str) -> String {
    let mut configuration: FourProviders<'_> = environment.configuration();
    let proof = |lines: &str| format!("proof = \"certificate\"\n{lines}");
    let names = ["pagerduty", "dialogflow-cx", "dialogflow-es"];
    configuration.proofs = names.map(|name| (name, proof("source_ranges = [\"203.0.113.0/24\"]\n"))).to_vec();
    configuration.proofs.push(("percolate", proof(&format!("source_ranges = [{ranges}]\n"))));
    configuration.toml() + &environment.any_method_route("") + ENFORCE + end
}

/// Connects to `port` from `source`: `TimedOut` if the filter drops, `ConnectionRefused` if nothing listens.
fn connect(source: &str, port: u16) -> std::io::Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    let source: std::net::SocketAddr = format!("{source}:0").parse().unwrap();
    socket.bind(&source.into())?;
    let address = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, port));
    socket.connect_timeout(&address.into(), std::time::Duration::from_millis(300))
}

#[test]
fn a_pinned_filter_outlives_the_daemon_and_is_taken_over_by_the_next() {
    if !is_root() {
        return;
    }
    let file_system = BpfFileSystem::mount().unwrap();
    let inside = || {
        let environment = Environment::new().unwrap();
        let scripts = environment.directory.path();
        let options = with_mount(BINARY, scripts, file_system.path(), "/sys/fs/bpf", false).unwrap();
        let write = |ranges: &str| enforced(&environment, ranges, "pin = true\n");
        let start = |ranges: &str| Gateway::start(&write(ranges), &options).unwrap();
        let end = |mut gateway: Gateway| {
            gateway.signal(Signal::TERM).unwrap();
            assert!(gateway.wait_exit(SOON).unwrap().success());
            gateway.port()
        };
        let gateway = start("\"127.0.0.1\"");
        assert_unprivileged(&gateway);
        gateway.write_configuration(&write("\"127.0.0.1\", \"127.0.0.2\"")).unwrap();
        gateway.signal(Signal::HUP).unwrap();
        gateway.wait_metric("hookgate_config_generation", &[], 2.0, SOON).unwrap();
        let port = end(gateway);
        let answer = |source: &str| connect(source, port).unwrap_err().kind();
        assert_eq!(answer("127.0.0.66"), ErrorKind::TimedOut, "the filter stays");
        assert_eq!(answer("127.0.0.2"), ErrorKind::ConnectionRefused, "the filter has its last ranges");
        let gateway = start("\"127.0.0.0/8\"");
        gateway.wait_log("took over the filter pinned at", SOON).unwrap();
        let identity = environment.identity(Sender::Percolate, Variant::Good).unwrap();
        let outcome = gateway.curl(HOST, &environment.pki).identity(&identity).post(PATH, b"{}").run().unwrap();
        assert_eq!(outcome.status(), Some(200));
        end(gateway);
        Ok(())
    };
    Namespace::new("e2e").unwrap().run(inside).unwrap();
}

#[test]
fn foreign_sources_are_dropped_and_reloads_change_which_are_foreign() {
    if !is_root() {
        return;
    }
    let inside = || {
        let (filter, write) = (ENFORCE, enforced);
        let gateway = TestGateway::with_toml(|environment| write(environment, "\"127.0.0.0/30\"", "")).unwrap();
        let (daemon, environment) = (&gateway.daemon, &gateway.environment);
        let connects = |source: &str| connect(source, daemon.port()).is_ok();
        assert_eq!(
            gateway.admitted_curl().post(PATH, b"{}").run().unwrap().status(),
            Some(200),
            "an allowed source is served"
        );
        assert!(connects("127.0.0.2") && !connects("127.0.0.66"));
        let dropped = [("verdict", "drop")];
        assert!(daemon.wait_metric("hookgate_filter_packets_total", &dropped, 1.0, SOON).unwrap() >= 1.0);
        let attached = [("interface", "lo"), ("mode", "generic")];
        assert_eq!(daemon.metric("hookgate_filter_attached_info", &attached).unwrap(), 1.0);
        let ranges = [("set", "percolate"), ("family", "ipv4")];
        assert_eq!(daemon.metric("hookgate_filter_ranges", &ranges).unwrap(), 1.0);
        assert!(daemon.metric("hookgate_filter_map_bytes", &[]).unwrap() > 0.0);
        daemon.wait_log("filter sample", SOON).unwrap();
        // All that follows needs no capability: other ranges, counters, and the end.
        assert_unprivileged(daemon);

        // A reload that removes most of a set is refused as a whole, and then forced.
        daemon.write_configuration(&write(environment, "\"127.0.0.1\"", "")).unwrap();
        daemon.signal(Signal::HUP).unwrap();
        daemon.wait_log("would lose 75 % of its ipv4 addresses", SOON).unwrap();
        assert!(connects("127.0.0.2"), "the old ranges stay");
        gateway.reload(&write(environment, "\"127.0.0.1\"", "force_shrink = true\n")).unwrap();
        assert!(connects("127.0.0.1") && !connects("127.0.0.2"));
        // The listener stays until a restart, and the filter still guards it.
        let moved = write(environment, "\"127.0.0.1\"", "").replace("127.0.0.1:@LISTEN_PORT@", "127.0.0.1:9");
        gateway.reload(&moved).unwrap();
        assert!(connects("127.0.0.1") && !connects("127.0.0.2"));
        gateway.reload(&write(environment, "\"127.0.0.1\", \"127.0.0.66\"", "")).unwrap();
        assert!(connects("127.0.0.66"), "a range that was added");

        let status = |address: &str| {
            let mut command = Command::new(BINARY);
            command.args(["filter", "status", address, "--config"]).arg(daemon.configuration_path());
            run(command, &[], SOON).unwrap().stdout_text()
        };
        let text = status("127.0.0.66");
        assert!(text.contains("127.0.0.66 is in 127.0.0.66/32 of `percolate`: passes"), "{text}");
        assert!(text.contains("hookgate_filter_attached_info{interface=\"lo\",mode=\"generic\"} 1"), "{text}");
        assert!(text.contains("allow percolate: 2 IPv4 and 0 IPv6 ranges"), "{text}");
        assert!(status("127.0.0.67").contains("127.0.0.67 is in no range: dropped"));

        // The filter is off, and the end of the daemon detaches it.
        let off = write(environment, "\"127.0.0.1\"", "").replace(filter, "\n[filter]\nmode = \"off\"\n");
        gateway.reload_permitting(&off).unwrap();
        assert!(connects("127.0.0.67"));
        assert!(ip(&["link", "show", "lo"]).unwrap().contains("xdp"));
        let mut daemon = gateway.daemon;
        daemon.signal(Signal::TERM).unwrap();
        assert!(daemon.wait_exit(SOON).unwrap().success());
        assert!(!ip(&["link", "show", "lo"]).unwrap().contains("xdp"), "detached at the end");
        Ok(())
    };
    Namespace::new("e2e").unwrap().run(inside).unwrap();
}
