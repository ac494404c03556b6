//! Where requests come from: the ranges of providers, and the pre-filter under the daemon.

use std::io::ErrorKind;
use std::process::Command;

use hookgate_testkit::configuration::{FourProviders, HOST};
use hookgate_testkit::gateway::{Gateway, Signal};
use hookgate_testkit::namespace::{Namespace, ip};
use hookgate_testkit::pki::{Sender, Variant};
use hookgate_testkit::process::run;
use hookgate_testkit::root::BpfFileSystem;

use crate::lifecycle::confinement::assert_unprivileged;
use crate::mount::mounted;
use crate::stand::{PATH, Stand, any_method_route, assert_problem, configuration};
use crate::world::{BINARY, SOON, Scene};

/// The configuration with these lines in the `[[provider]]` of the certificate, and these at the end.
fn ranged(scene: &Scene, provider: &str, end: &str) -> String {
    let mut configuration: FourProviders<'_> = scene.configuration();
    configuration.proofs = vec![("percolate", format!("proof = \"certificate\"\n{provider}"))];
    configuration.toml() + &any_method_route(scene, "") + end
}

#[test]
fn a_provider_calls_from_its_own_ranges() {
    let stand = Stand::limited("").unwrap();
    let missed = || stand.world.gateway.metric("hookgate_source_not_in_ranges_total", &[("provider", "percolate")]);
    let check = |lines: &str, status: u16, counted: f64| {
        stand.world.reload(&ranged(&stand.world.scene, lines, "")).unwrap();
        let before = missed().unwrap_or(0.0);
        let outcome = stand.curl().post(PATH, b"{}").run().unwrap();
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
    assert_eq!(stand.world.rejections("source_not_in_ranges").unwrap(), 1.0);
}

#[test]
fn a_filter_that_cannot_be_started_ends_the_start_unless_it_need_not_be_there() {
    let filter = "\n[filter]\nmode = \"monitor\"\ninterfaces = [\"hg-none0\"]\nrequired = false\n";
    let stand = Stand::written(|scene| configuration(scene, "", "") + filter).unwrap();
    assert_eq!(stand.curl().post(PATH, b"{}").run().unwrap().status(), Some(200));
    assert_eq!(stand.world.gateway.metric("hookgate_filter_unavailable", &[]).unwrap(), 1.0);
    let log = stand.world.gateway.log();
    let root = rustix::process::geteuid().is_root();
    let reason = if root { "there is no interface hg-none0" } else { "does not permit" };
    assert!(log.contains("serving without the filter") && log.contains(reason), "{log}");
    let required = configuration(&stand.world.scene, "", "") + &filter.replace("required = false\n", "");
    let failed = Stand::written(|_| required).err().map(|error| format!("{error:#}")).unwrap_or_default();
    assert!(failed.contains(reason) && failed.contains("filter.required = false"), "{failed}");
}

/// Whether a test of the filter can run. Says so where it cannot.
fn is_root() -> bool {
    hookgate_testkit::root::is_root("the tests of the filter")
}

/// The section of a filter that drops.
const ENFORCE: &str = "\n[filter]\nmode = \"enforce\"\ninterfaces = [\"lo\"]\n";

/// The configuration with these ranges for the provider of the certificate, and these lines at the end.
fn enforced(scene: &Scene, ranges: &str, end: &str) -> String {
    let mut configuration: FourProviders<'_> = scene.configuration();
    let proof = |lines: &str| format!("proof = \"certificate\"\n{lines}");
    let names = ["pagerduty", "dialogflow-cx", "dialogflow-es"];
    configuration.proofs = names.map(|name| (name, proof("source_ranges = [\"203.0.113.0/24\"]\n"))).to_vec();
    configuration.proofs.push(("percolate", proof(&format!("source_ranges = [{ranges}]\n"))));
    configuration.toml() + &any_method_route(scene, "") + ENFORCE + end
}

/// What comes of connecting to `port` from `source`: `TimedOut` where the filter drops, `ConnectionRefused` where nobody listens.
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
        let scene = Scene::set().unwrap();
        let options = mounted(&scene, file_system.path(), "/sys/fs/bpf", false);
        let write = |ranges: &str| enforced(&scene, ranges, "pin = true\n");
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
        assert_eq!(answer("127.0.0.66"), ErrorKind::TimedOut, "it stays");
        assert_eq!(answer("127.0.0.2"), ErrorKind::ConnectionRefused, "with its last ranges");
        let gateway = start("\"127.0.0.0/8\"");
        gateway.wait_log("took over the filter pinned at", SOON).unwrap();
        let identity = scene.identity(Sender::Percolate, Variant::Good).unwrap();
        let outcome = gateway.curl(HOST, &scene.pki).identity(&identity).post(PATH, b"{}").run().unwrap();
        assert_eq!(outcome.status(), Some(200));
        end(gateway);
        Ok(())
    };
    Namespace::new("e2e").unwrap().run(inside).unwrap();
}

#[test]
fn foreign_sources_reach_nothing_and_reloads_change_who_is_foreign() {
    if !is_root() {
        return;
    }
    let inside = || {
        let (filter, write) = (ENFORCE, enforced);
        let stand = Stand::written(|scene| write(scene, "\"127.0.0.0/30\"", "")).unwrap();
        let gateway = &stand.world.gateway;
        let scene = &stand.world.scene;
        let connects = |source: &str| connect(source, gateway.port()).is_ok();
        assert_eq!(stand.curl().post(PATH, b"{}").run().unwrap().status(), Some(200), "an allowed source is served");
        assert!(connects("127.0.0.2") && !connects("127.0.0.66"));
        let dropped = [("verdict", "drop")];
        assert!(gateway.wait_metric("hookgate_filter_packets_total", &dropped, 1.0, SOON).unwrap() >= 1.0);
        let attached = [("interface", "lo"), ("mode", "generic")];
        assert_eq!(gateway.metric("hookgate_filter_attached_info", &attached).unwrap(), 1.0);
        let ranges = [("set", "percolate"), ("family", "ipv4")];
        assert_eq!(gateway.metric("hookgate_filter_ranges", &ranges).unwrap(), 1.0);
        assert!(gateway.metric("hookgate_filter_map_bytes", &[]).unwrap() > 0.0);
        gateway.wait_log("filter sample", SOON).unwrap();
        // So all that follows is done without a capability: other ranges, counters, and the end.
        assert_unprivileged(gateway);

        // What would take most of a set away is refused as a whole, and then forced.
        gateway.write_configuration(&write(scene, "\"127.0.0.1\"", "")).unwrap();
        gateway.signal(Signal::HUP).unwrap();
        gateway.wait_log("would lose 75 % of its ipv4 addresses", SOON).unwrap();
        assert!(connects("127.0.0.2"), "the old ranges stay");
        stand.world.reload(&write(scene, "\"127.0.0.1\"", "force_shrink = true\n")).unwrap();
        assert!(connects("127.0.0.1") && !connects("127.0.0.2"));
        // The listener stays until a restart, and is guarded as before.
        let moved = write(scene, "\"127.0.0.1\"", "").replace("127.0.0.1:@LISTEN_PORT@", "127.0.0.1:9");
        stand.world.reload(&moved).unwrap();
        assert!(connects("127.0.0.1") && !connects("127.0.0.2"));
        stand.world.reload(&write(scene, "\"127.0.0.1\", \"127.0.0.66\"", "")).unwrap();
        assert!(connects("127.0.0.66"), "a range that was added");

        let status = |address: &str| {
            let mut command = Command::new(BINARY);
            command.args(["filter", "status", address, "--config"]).arg(gateway.configuration_path());
            run(command, &[], SOON).unwrap().stdout_text()
        };
        let text = status("127.0.0.66");
        assert!(text.contains("127.0.0.66 is in 127.0.0.66/32 of `percolate`: passes"), "{text}");
        assert!(text.contains("hookgate_filter_attached_info{interface=\"lo\",mode=\"generic\"} 1"), "{text}");
        assert!(text.contains("allow percolate: 2 IPv4 and 0 IPv6 ranges"), "{text}");
        assert!(status("127.0.0.67").contains("127.0.0.67 is in no range: dropped"));

        // Off, whatever else is gone from the section; and nothing is left behind at the end.
        let off = write(scene, "\"127.0.0.1\"", "").replace(filter, "\n[filter]\nmode = \"off\"\n");
        stand.world.reload(&off).unwrap();
        assert!(connects("127.0.0.67"));
        assert!(ip(&["link", "show", "lo"]).unwrap().contains("xdp"));
        let Stand { world, .. } = stand;
        let mut gateway = world.gateway;
        gateway.signal(Signal::TERM).unwrap();
        assert!(gateway.wait_exit(SOON).unwrap().success());
        assert!(!ip(&["link", "show", "lo"]).unwrap().contains("xdp"), "detached at the end");
        Ok(())
    };
    Namespace::new("e2e").unwrap().run(inside).unwrap();
}
