//! The real daemon behind its filter: mutual TLS over a veth pair, from allowed and from foreign sources.
//!
//! Owns the namespaces, the configuration and the clients of the daemon. Must not test single packets: `network` and `kernel` do.

use std::io::ErrorKind;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hookgate_testkit::client::{Curl, CurlOutcome};
use hookgate_testkit::configuration::{FourProviders, HOST, LISTEN_PORT};
use hookgate_testkit::documents::PERCOLATE;
use hookgate_testkit::gateway::{Gateway, GatewayOptions, Signal};
use hookgate_testkit::handler::{Behaviour, Handler};
use hookgate_testkit::mount::{BpfFileSystem, with_mount};
use hookgate_testkit::pki::{ClientIdentity, KeyKind, Pki, Sender, ServerIdentity, Variant};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use tempfile::TempDir;

use crate::is_root;
use crate::namespaces::{ALLOWED, FOREIGN, Network, SERVER, ip};

const BINARY: &str = env!("CARGO_BIN_EXE_hookgate");

/// Shorter than the first SYN retransmission (1 s): a connection that loses a packet exceeds it.
const SOON: Duration = Duration::from_millis(900);
/// How long to wait for a response that must not come.
pub(crate) const SILENCE: Duration = Duration::from_millis(400);
/// The limit for every action of the daemon.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// The exit status of curl when an operation timed out.
const CURL_TIMED_OUT: i32 = 28;

/// Ranges that contain the allowed clients, in TOML.
const RANGES: &str = "\"198.51.100.10\", \"2001:db8:ffff::10\"";

/// What the daemon needs, and its client.
pub(crate) struct Environment {
    pub(crate) network: Network,
    pub(crate) handler: Handler,
    server: ServerIdentity,
    identity: ClientIdentity,
    pub(crate) pki: Pki,
    /// Holds all files. The last field, so that it is removed last.
    directory: TempDir,
}

impl Environment {
    pub(crate) fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("hookgate-filter-").tempdir().unwrap();
        let pki = Pki::new(directory.path()).unwrap();
        let server = pki.server("server", &[HOST], KeyKind::P256).unwrap();
        let identity = pki.sender(Sender::Percolate).variant(Variant::Good).unwrap();
        let handler = Handler::start(&directory.path().join("events.sock"), Behaviour::Json).unwrap();
        Self { network: Network::new(), handler, server, identity, pki, directory }
    }

    /// A configuration with port 443 at both addresses, `ranges` for every provider, and the lines `filter` in `[filter]`.
    pub(crate) fn configuration(&self, ranges: &str, filter: &str) -> String {
        let handler = self.handler.path();
        let mut configuration = FourProviders::new(&self.pki, &self.server, handler, handler);
        configuration.listen = "workers = 1";
        let lines = format!("proof = \"certificate\"\nsource_ranges = [{ranges}]");
        let names = ["pagerduty", "dialogflow-cx", "dialogflow-es", PERCOLATE.provider];
        configuration.proofs = names.map(|name| (name, lines.clone())).to_vec();
        let listen = format!("\"127.0.0.1:{LISTEN_PORT}\"");
        let listens = format!("\"{}:443\", \"[{}]:443\"", SERVER[0], SERVER[1]);
        configuration.toml().replace(&listen, &listens) + &format!("\n[filter]\ninterfaces = [\"eth0\"]\n{filter}\n")
    }

    pub(crate) fn start(&self, configuration: &str) -> Gateway {
        self.start_as(configuration, &GatewayOptions::new(BINARY)).unwrap_or_else(|error| panic!("{error:#}"))
    }

    fn start_as(&self, configuration: &str, options: &GatewayOptions) -> anyhow::Result<Gateway> {
        self.network.on_server(|| Gateway::start(configuration, options))
    }

    /// Sends a webhook from `source` with a good certificate.
    pub(crate) fn post(&self, source: &str, limit: Duration) -> CurlOutcome {
        let curl = self.curl(source, limit);
        self.network.on_client(|| curl.run()).unwrap()
    }

    fn curl(&self, source: &str, limit: Duration) -> Curl {
        let server = if source.contains(':') { format!("[{}]", SERVER[1]) } else { SERVER[0].to_owned() };
        let curl = Curl::new(HOST, 443).argument("--connect-to").argument(format!("::{server}:443"));
        let curl = curl.argument("--interface").argument(source).trusting(self.pki.server_root().path());
        curl.identity(&self.identity).post(PERCOLATE.path, b"{}").limit(limit)
    }

    /// The error of a connection to the filtered port.
    pub(crate) fn connect(&self, source: &str, limit: Duration) -> ErrorKind {
        self.network.connect(source, 443, limit).unwrap_err().kind()
    }

    fn metric(&self, gateway: &Gateway, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.network.on_server(|| gateway.metric(name, labels)).unwrap()
    }

    pub(crate) fn wait_metric(&self, gateway: &Gateway, name: &str, labels: &[(&str, &str)], least: f64) {
        self.network.on_server(|| gateway.wait_metric(name, labels, least, PATIENCE)).unwrap();
    }

    pub(crate) fn reload(&self, gateway: &Gateway, configuration: &str) {
        self.network.on_server(|| gateway.reload(configuration, PATIENCE)).unwrap();
    }

    /// As [`Environment::reload`], also for a configuration that demands less than the one in use.
    fn reload_permitting(&self, gateway: &Gateway, configuration: &str) {
        self.network.on_server(|| gateway.reload_permitting(configuration, PATIENCE)).unwrap();
    }

    /// Waits until the interface of the server has no XDP program: the kernel frees a pinned link some time after its file is removed (an RCU
    /// grace period, `bpf_free_inode` in kernel/bpf/inode.c).
    fn wait_unfiltered(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.is_filtered() {
            assert!(Instant::now() < deadline, "the filter stays attached");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether the interface of the server has an XDP program.
    fn is_filtered(&self) -> bool {
        self.network.on_server(|| ip(&["link", "show", "eth0"])).contains("xdp")
    }
}

/// Ends the daemon with SIGTERM. Returns its log.
fn end(mut gateway: Gateway) -> String {
    gateway.signal(Signal::TERM).unwrap();
    assert!(gateway.wait_exit(PATIENCE).unwrap().success(), "{}", gateway.log());
    gateway.log()
}

#[test]
fn mutual_tls_reaches_the_daemon_from_allowed_sources_alone() {
    if !is_root() {
        return;
    }
    for attach in ["native", "generic"] {
        let environment = Environment::new();
        let _other = environment.network.serve(&[8080]);
        let gateway = environment
            .start(&environment.configuration(RANGES, &format!("mode = \"enforce\"\nattach = \"{attach}\"")));
        let attached = [("interface", "eth0"), ("mode", attach)];
        assert_eq!(environment.metric(&gateway, "hookgate_filter_attached_info", &attached), 1.0);
        for family in 0..2 {
            let served = environment.post(ALLOWED[family], PATIENCE);
            assert_eq!(served.status(), Some(200), "{attach}: {served:?}");
            let foreign = environment.post(FOREIGN[family], SILENCE);
            assert_eq!(foreign.exit_code, Some(CURL_TIMED_OUT), "{attach}: not even a RST: {foreign:?}");
            let other = environment.network.connect(FOREIGN[family], 8080, PATIENCE).unwrap();
            assert_eq!(other, "ok", "{attach}: another port is open to all");
        }
        assert_eq!(environment.handler.request_count(), 2, "{attach}");
        assert!(environment.is_filtered());
        end(gateway);
        assert!(!environment.is_filtered(), "{attach}: detached at the end");
    }
}

#[test]
fn packets_of_a_proxy_pass_and_what_it_conveys_must_be_in_the_ranges() {
    if !is_root() {
        return;
    }
    let environment = Environment::new();
    let configuration = |ranges: &str| {
        let proxy = format!("workers = 1\nproxy_protocol = {{ from = [\"{}\"] }}", FOREIGN[0]);
        environment.configuration(ranges, "mode = \"enforce\"").replace("workers = 1", &proxy)
    };
    let gateway = environment.start(&configuration(RANGES));
    assert_eq!(environment.post(ALLOWED[0], PATIENCE).status(), Some(200), "as without a proxy");
    assert_eq!(environment.connect(FOREIGN[1], SILENCE), ErrorKind::TimedOut, "the other family is in no range");
    // curl conveys its own address, which is in no range of the provider.
    let conveying = environment.curl(FOREIGN[0], PATIENCE).argument("--haproxy-protocol");
    let post = || environment.network.on_client(|| conveying.run()).unwrap();
    assert_eq!(post().status(), Some(403));
    environment.wait_metric(&gateway, "hookgate_rejections_total", &[("reason", "source_not_in_ranges")], 1.0);
    assert_eq!(environment.post(FOREIGN[0], PATIENCE).status(), None, "a proxy must send a header");
    environment.wait_metric(&gateway, "hookgate_rejections_total", &[("reason", "proxy_header_missing")], 1.0);
    environment.wait_metric(&gateway, "hookgate_filter_set_packets_total", &[("set", "(proxies)")], 1.0);
    environment.reload(&gateway, &configuration(&format!("{RANGES}, \"{}\"", FOREIGN[0])));
    assert_eq!(post().status(), Some(200));
}

#[test]
fn ranges_are_reloaded_under_mutual_tls_without_a_lost_webhook() {
    if !is_root() {
        return;
    }
    let environment = Environment::new();
    let filter = "mode = \"enforce\"\nforce_shrink = true";
    let variants = [
        environment.configuration(RANGES, filter),
        environment.configuration("\"198.51.100.0/26\", \"2001:db8:ffff::/60\"", filter),
        environment.configuration(
            "\"198.51.0.0/16\", \"2001:db8::/32\"",
            &format!("{filter}\ndeny = [\"198.51.100.64/26\", \"2001:db8:ffff::66\"]\nallow = [\"192.0.2.0/24\"]"),
        ),
    ];
    let gateway = environment.start(&variants[0]);
    let (done, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for source in ALLOWED {
            let (environment, done, served) = (&environment, &done, &served);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    // A lost SYN is sent again after a second, which shows in the duration.
                    let outcome = environment.post(source, PATIENCE);
                    let transfer = outcome.transfers.first().filter(|transfer| transfer.response.status == 200);
                    if transfer.is_none_or(|transfer| transfer.duration > SOON) {
                        done.store(true, Ordering::Relaxed);
                        panic!("webhook {} was lost: {outcome:?}", served.load(Ordering::Relaxed));
                    }
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let end = Instant::now() + Duration::from_millis(2500);
        while Instant::now() < end && !done.load(Ordering::Relaxed) {
            // The first variant drops the denied ranges of the last one.
            variants.iter().for_each(|variant| environment.reload_permitting(&gateway, variant));
        }
        done.store(true, Ordering::Relaxed);
    });
    let reloads = environment.metric(&gateway, "hookgate_config_reloads_total", &[("result", "ok")]);
    assert!(reloads >= 7.0 && served.into_inner() >= 20, "{reloads} reloads");
    assert_eq!(environment.connect(FOREIGN[0], SILENCE), ErrorKind::TimedOut);
}

#[test]
fn a_set_keeps_its_count_when_other_sets_are_added_and_removed() {
    if !is_root() {
        return;
    }
    let environment = Environment::new();
    let gateway = environment.start(&environment.configuration(RANGES, "mode = \"enforce\""));
    let count = |set: &str| environment.metric(&gateway, "hookgate_filter_set_packets_total", &[("set", set)]);
    let counted = |set: &str, least: f64| {
        environment.wait_metric(&gateway, "hookgate_filter_set_packets_total", &[("set", set)], least);
    };
    assert_eq!(environment.post(ALLOWED[0], PATIENCE).status(), Some(200));
    // All providers have the same ranges; the count is for the first one.
    counted("pagerduty", 5.0);
    let before = count("pagerduty");
    let joined = environment.configuration(RANGES, &format!("mode = \"enforce\"\ndeny = [\"{}\"]", FOREIGN[0]));
    environment.reload(&gateway, &joined);
    assert_eq!(environment.connect(FOREIGN[0], SILENCE), ErrorKind::TimedOut);
    counted("(deny)", 1.0);
    assert!(count("pagerduty") >= before, "the count was reset");
    assert!(count("(deny)") < 5.0, "the count of another set was taken over");
    let denied = count("(deny)");
    environment
        .reload_permitting(&gateway, &environment.configuration(RANGES, "mode = \"enforce\"\nforce_shrink = true"));
    environment.reload(&gateway, &joined);
    assert_eq!(environment.connect(FOREIGN[0], SILENCE), ErrorKind::TimedOut);
    counted("(deny)", denied + 1.0);
    let path = gateway.configuration_path();
    let status = environment
        .network
        .on_server(|| Command::new(BINARY).args(["filter", "status", "--config"]).arg(&path).output().unwrap().stdout);
    let status = String::from_utf8(status).unwrap();
    assert!(status.contains("hookgate_filter_set_packets_total{set=\"(deny)\"}"), "{status}");
}

#[test]
fn a_killed_daemon_leaves_the_host_reachable() {
    if !is_root() {
        return;
    }
    let environment = Environment::new();
    let mut gateway = environment.start(&environment.configuration(RANGES, "mode = \"enforce\""));
    assert_eq!(environment.connect(FOREIGN[0], SILENCE), ErrorKind::TimedOut);
    gateway.signal(Signal::KILL).unwrap();
    gateway.wait_exit(PATIENCE).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while environment.connect(FOREIGN[0], SOON) != ErrorKind::ConnectionRefused {
        assert!(Instant::now() < deadline, "the host does not answer");
    }
    assert!(!environment.is_filtered());
}

#[test]
fn an_interface_that_is_made_again_is_filtered_again_or_the_daemon_ends() {
    if !is_root() {
        return;
    }
    let environment = Environment::new();
    let mut gateway = environment.start(&environment.configuration(RANGES, "mode = \"enforce\""));
    environment.network.make_interfaces_again();
    gateway.wait_log("filter attached to an interface that was made again", PATIENCE).unwrap();
    assert_eq!(environment.connect(FOREIGN[0], SILENCE), ErrorKind::TimedOut);
    assert_eq!(environment.post(ALLOWED[0], PATIENCE).status(), Some(200));
    assert_eq!(environment.metric(&gateway, "hookgate_filter_unavailable", &[]), 0.0);
    environment.network.delete_interfaces();
    let deadline = Instant::now() + PATIENCE;
    while environment.metric(&gateway, "hookgate_filter_attached_info", &[("interface", "eth0")]) != 0.0 {
        assert!(Instant::now() < deadline, "an interface that is gone counts as filtered: {}", gateway.log());
        thread::sleep(Duration::from_millis(50));
    }
    assert!(gateway.log().contains("the interface is gone, and the filter with it"), "{}", gateway.log());
    // The name comes back to an interface that another program has.
    let other = environment.network.make_occupied_interface();
    gateway.wait_exit(PATIENCE).unwrap();
    let log = gateway.log();
    assert!(log.contains("the filter is required, so hookgate drains and ends"), "{log}");
    assert!(log.contains("interface eth0 already carries another XDP program"), "{log}");
    drop(other);
}

#[test]
fn without_its_capabilities_the_daemon_names_them_and_starts_only_if_the_filter_is_optional() {
    if !is_root() {
        return;
    }
    let environment = Environment::new();
    let start = |filter: &str| {
        let configuration = environment.configuration("\"::/0\", \"0.0.0.0/0\"", filter);
        environment.network.on_server(|| {
            // For this thread and its children. CAP_SYS_ADMIN includes the other two.
            let taken = [CapabilitySet::SYS_ADMIN, CapabilitySet::BPF, CapabilitySet::PERFMON];
            taken.into_iter().for_each(|capability| remove_capability_from_bounding_set(capability).unwrap());
            Gateway::start(&configuration, &GatewayOptions::new(BINARY))
        })
    };
    let sentence = "the kernel does not permit the filter to load its program: the process needs CAP_BPF, CAP_NET_ADMIN \
                    and CAP_PERFMON when it starts";
    let error = start("mode = \"enforce\"").err().map(|error| format!("{error:#}")).unwrap_or_default();
    assert!(error.contains(sentence), "{error}");
    let gateway = start("mode = \"enforce\"\nrequired = false").unwrap();
    assert!(gateway.log().contains(sentence), "{}", gateway.log());
    assert!(gateway.log().contains("serving without the filter"), "{}", gateway.log());
    assert_eq!(environment.metric(&gateway, "hookgate_filter_unavailable", &[]), 1.0);
    assert_eq!(environment.post(FOREIGN[0], PATIENCE).status(), Some(200), "without the filter every packet passes");
}

#[test]
fn a_pinned_filter_outlives_the_daemon_until_it_is_switched_off() {
    if !is_root() {
        return;
    }
    let environment = Environment::new();
    let file_system = BpfFileSystem::mount().unwrap();
    let scripts = environment.directory.path();
    let daemon = with_mount(BINARY, scripts, file_system.path(), "/sys/fs/bpf", false).unwrap();
    let start = |filter: &str| {
        let configuration = environment.configuration(RANGES, filter);
        environment.start_as(&configuration, &daemon).unwrap_or_else(|error| panic!("{error:#}"))
    };
    let (enforce, off) = ("mode = \"enforce\"\npin = true", "mode = \"off\"\npin = true");
    let gateway = start(enforce);
    let (done, tries) = (AtomicBool::new(false), AtomicUsize::new(0));
    let gateway = thread::scope(|scope| {
        // During the restart, and after it.
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let met = environment.connect(FOREIGN[0], Duration::from_millis(50));
                assert_eq!(met, ErrorKind::TimedOut, "a gap");
                tries.fetch_add(1, Ordering::Relaxed);
            }
        });
        let log = end(gateway);
        assert!(log.contains("the filter stays") && log.contains("drops by its last ranges"), "{log}");
        assert_eq!(environment.connect(ALLOWED[0], PATIENCE), ErrorKind::ConnectionRefused, "nothing listens");
        let gateway = start(enforce);
        assert!(gateway.log().contains("took over the filter pinned at"), "{}", gateway.log());
        assert_eq!(environment.post(ALLOWED[0], PATIENCE).status(), Some(200));
        done.store(true, Ordering::Relaxed);
        gateway
    });
    assert!(tries.into_inner() >= 3);
    // A daemon without the pin leaves the pinned filter unchanged, and reports its path.
    let error = environment.start_as(&environment.configuration(RANGES, "mode = \"enforce\""), &daemon);
    let error = error.err().map(|error| format!("{error:#}")).unwrap_or_default();
    assert!(error.contains("a pinned filter goes on dropping") && error.contains("already carries"), "{error}");
    let mut gateway = gateway;
    gateway.signal(Signal::KILL).unwrap();
    gateway.wait_exit(PATIENCE).unwrap();
    assert_eq!(environment.connect(FOREIGN[0], SILENCE), ErrorKind::TimedOut, "the filter outlives a kill");
    // Switched off at the start, and by a reload.
    let gateway = start(off);
    assert!(gateway.log().contains("removed a pinned filter"), "{}", gateway.log());
    environment.wait_unfiltered();
    assert_eq!(environment.post(FOREIGN[0], PATIENCE).status(), Some(403), "the gateway refuses it by itself");
    end(gateway);
    let gateway = start(enforce);
    assert_eq!(environment.connect(FOREIGN[0], SILENCE), ErrorKind::TimedOut);
    environment.reload_permitting(&gateway, &environment.configuration(RANGES, off));
    assert!(end(gateway).contains("lets everything pass"));
    assert_eq!(
        environment.connect(FOREIGN[0], PATIENCE),
        ErrorKind::ConnectionRefused,
        "a filter that is off drops nothing"
    );
    end(start(off));
    environment.wait_unfiltered();
}
