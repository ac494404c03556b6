//! Hosts that share the memory of deliveries over real NATS servers: of copies at any hosts, one reaches a handler.

pub(crate) mod credentials;
mod many;
mod partition;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use hookgate_testkit::configuration::HOST;
use hookgate_testkit::gateway::{Gateway, GatewayOptions, Signal, free_port};
use hookgate_testkit::handler::Behaviour;
use hookgate_testkit::http::{self, Response};
use hookgate_testkit::pki::{ClientIdentity, KeyKind, LeafOptions, Sender, Variant};
use hookgate_testkit::process::KilledOnDrop;
use hookgate_testkit::wait::wait_until;

use crate::acceptor::own_address;
use crate::environment::{BINARY, Environment, SOON, quoted};
use crate::tls_client::{TlsClient, TlsConnection};

/// The field with the id of a delivery.
const ID: &str = "x-delivery";

/// The path of a route whose handler answers.
const ANY: &str = "/any/hook";

/// The path of a durable route.
const STORED: &str = "/stored";

/// For an election among servers, and a claim that expires.
const LATER: Duration = Duration::from_secs(40);

/// A NATS server with JetStream, killed on drop.
pub(crate) struct Nats {
    _child: KilledOnDrop,
    pub(crate) address: SocketAddrV4,
    directory: PathBuf,
    arguments: Vec<String>,
}

impl Nats {
    /// One server at an address of its own.
    pub(crate) fn alone(directory: &Path) -> Self {
        Self::start(directory, SocketAddrV4::new(own_address(), 4222), &[])
    }

    pub(crate) fn start(directory: &Path, address: SocketAddrV4, arguments: &[&str]) -> Self {
        let mut command = Command::new("nats-server");
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        command.args(["--addr", &host, "--port", &port, "--jetstream", "--store_dir"]);
        command.arg(directory).args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("nats-server is installed: cargo xtask setup test");
        let (directory, arguments) = (directory.to_owned(), arguments.iter().map(ToString::to_string).collect());
        let server = Self { _child: KilledOnDrop(child), address, directory, arguments };
        let accepts = || TcpStream::connect(address).is_ok();
        wait_until("the NATS server", SOON, accepts).unwrap();
        server
    }

    /// The server with this number of a cluster at these addresses, whose files are in a directory of its own.
    pub(crate) fn member(directory: &Path, number: usize, addresses: &[Ipv4Addr], arguments: &[&str]) -> Self {
        let (name, address) = (format!("n{number}"), addresses[number]);
        let cluster = format!("nats://{address}:6222");
        let routes = addresses.iter().map(|address| format!("nats://{address}:6222")).collect::<Vec<_>>().join(",");
        let of_cluster = ["--server_name", &name, "--cluster_name", "test", "--cluster", &cluster, "--routes", &routes];
        Self::start(&directory.join(&name), SocketAddrV4::new(address, 4222), &[arguments, &of_cluster].concat())
    }

    /// A cluster of three.
    pub(crate) fn cluster(directory: &Path) -> Vec<Self> {
        let addresses = [0; 3].map(|_| own_address());
        (0..3).map(|number| Self::member(directory, number, &addresses, &[])).collect()
    }

    pub(crate) fn url(&self) -> String {
        format!("\"nats://{}\"", self.address)
    }

    /// Ends it. What is returned starts another one with the same files.
    pub(crate) fn end(self) -> impl FnOnce() -> Self {
        let Self { _child: child, address, directory, arguments } = self;
        drop(child);
        move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            Self::start(&directory, address, &arguments)
        }
    }

    /// Ends it, and starts another one with the same files.
    pub(crate) fn restart(self) -> Self {
        self.end()()
    }

    /// The addresses of all, as `nats` of `[fleet]` takes them.
    pub(crate) fn urls(servers: &[Self]) -> String {
        servers.iter().map(Self::url).collect::<Vec<_>>().join(", ")
    }
}

/// Several gateways of one environment, whose handler counts what reaches it.
struct Hosts {
    gateways: Vec<Gateway>,
    environment: Environment,
    identity: ClientIdentity,
}

/// A `[fleet]` with one copy, at these servers.
fn section(servers: &str) -> String {
    format!("[fleet]\nnats = [{servers}]\nreplicas = 1\n")
}

fn start_gateway(environment: &Environment, sections: &str) -> Gateway {
    start_patient_gateway(environment, 2000, sections)
}

/// One whose handlers have so many milliseconds.
fn start_patient_gateway(environment: &Environment, handler_timeout_ms: u64, sections: &str) -> Gateway {
    let route =
        format!("proof = \"certificate\"\nreplay = {{ id_header = \"{ID}\", window_s = 600, duplicate_status = 208 }}");
    let toml = environment.toml(&format!("handler_timeout_ms = {handler_timeout_ms}"), &route) + sections;
    Gateway::start(&toml, &GatewayOptions::new(BINARY)).unwrap()
}

/// A `[state]` of the host of this name, and the durable route "stored", whose handler is that of the environment.
fn stored_route(environment: &Environment, host: &str) -> String {
    let state = environment.state_directory().join(host);
    let handler = crate::environment::handler_socket(&environment.events);
    format!(
        "[state]\ndirectory = {}\n[[route]]\nname = \"stored\"\nhost = \"{HOST}\"\npath = \"{STORED}\"\nproviders = [\"percolate\"]\n\
         handler = {handler}\ndelivery = \"durable\"\nproof = \"certificate\"\nreplay = {{ id_header = \"{ID}\", duplicate_status = 208 }}\n",
        quoted(&state)
    )
}

impl Hosts {
    /// One gateway for each of `sections`.
    fn start(environment: Environment, sections: &[&str]) -> Self {
        let gateways = sections.iter().map(|sections| start_gateway(&environment, sections)).collect();
        Self::of(environment, gateways)
    }

    /// These gateways of `environment`.
    fn of(environment: Environment, gateways: Vec<Gateway>) -> Self {
        let identity = environment.identity(Sender::Percolate, Variant::Good).unwrap();
        Self { gateways, environment, identity }
    }

    /// Two gateways at one server.
    fn pair(nats: &Nats, lines: &str) -> Self {
        let sections = section(&nats.url()) + lines;
        let hosts = Self::start(Environment::new().unwrap(), &[&sections, &sections]);
        (0..2).for_each(|host| hosts.wait_connected(host));
        hosts
    }

    fn wait_connected(&self, host: usize) {
        self.gateways[host].wait_metric("hookgate_fleet_connected", &[], 1.0, SOON).unwrap();
    }

    fn connect(&self, host: usize) -> TlsConnection {
        let port = self.gateways[host].port();
        TlsClient::new(port, &self.environment.pki, &self.identity).unwrap().connect().unwrap()
    }

    fn send(&self, host: usize, id: &str) -> Response {
        self.send_to(host, ANY, id)
    }

    fn send_to(&self, host: usize, path: &str, id: &str) -> Response {
        self.connect(host).ask(http::request("POST", path, HOST, &[(ID, id)], b"{}")).unwrap()
    }

    fn outcome(&self, host: usize, id: &str) -> (u16, Option<String>) {
        outcome(&self.send(host, id))
    }

    /// How often each delivery reached the handler.
    fn handled(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for request in self.environment.events.requests() {
            *counts.entry(request.field(ID).unwrap().to_owned()).or_default() += 1;
        }
        counts
    }
}

fn delivery(id: &str) -> Vec<u8> {
    http::request("POST", ANY, HOST, &[(ID, id)], b"{}")
}

fn outcome(response: &Response) -> (u16, Option<String>) {
    (response.status, response.reason())
}

fn unavailable() -> (u16, Option<String>) {
    (503, Some("state_unavailable".to_owned()))
}

#[test]
fn of_copies_at_two_hosts_at_once_exactly_one_reaches_a_handler() {
    const DELIVERIES: usize = 400;
    let directory = tempfile::tempdir().unwrap();
    let nats = Nats::alone(directory.path());
    let hosts = Hosts::pair(&nats, "");
    let send_all = |host: usize| {
        let mut connection = hosts.connect(host);
        let mut answers = Vec::new();
        for number in 0..DELIVERIES {
            answers.push(connection.ask(delivery(&number.to_string())).unwrap().status);
        }
        answers
    };
    let answers: Vec<Vec<u16>> = thread::scope(|scope| {
        let running: Vec<_> = [0, 1, 0, 1].map(|host| scope.spawn(move || send_all(host))).into_iter().collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let handled = hosts.handled();
    assert_eq!(handled.len(), DELIVERIES);
    assert!(handled.values().all(|count| *count == 1), "{handled:?}");
    for number in 0..DELIVERIES {
        let of_one: Vec<u16> = answers.iter().map(|answers| answers[number]).collect();
        assert_eq!(of_one.iter().filter(|status| **status == 200).count(), 1, "{number}: {of_one:?}");
        assert!(of_one.iter().all(|status| [200, 208, 429].contains(status)), "{number}: {of_one:?}");
    }
    assert_eq!(hosts.outcome(0, "0").0, 208);
    assert_eq!(hosts.outcome(1, "0").0, 208);
}

#[test]
fn what_a_handler_did_not_take_is_handled_at_another_host() {
    let directory = tempfile::tempdir().unwrap();
    let nats = Nats::alone(directory.path());
    let hosts = Hosts::pair(&nats, "");
    hosts.environment.events.set_behaviour(Behaviour::status(500, "later"));
    assert_eq!(hosts.send(0, "one").status, 500);
    hosts.environment.events.set_behaviour(Behaviour::CloseBeforeAnswering);
    assert_eq!(hosts.send(1, "one").status, 502);
    hosts.environment.events.set_behaviour(Behaviour::Json);
    // The release is not awaited.
    wait_until("the release", SOON, || hosts.send(0, "one").status == 200).unwrap();
    assert_eq!(hosts.send(1, "one").status, 208);
}

#[test]
fn a_copy_of_what_a_handler_has_is_told_to_wait_and_a_claim_of_a_dead_host_expires() {
    let directory = tempfile::tempdir().unwrap();
    let nats = Nats::alone(directory.path());
    let hosts = Hosts::pair(&nats, "");
    hosts.environment.events.set_behaviour(Behaviour::NeverAnswer);
    let mut first = hosts.connect(0);
    first.send(delivery("one")).unwrap();
    hosts.environment.events.wait_for(1, SOON).unwrap();
    assert_eq!(hosts.outcome(1, "one"), (429, Some("delivery_in_flight".to_owned())));
    hosts.gateways[0].signal(Signal::KILL).unwrap();
    hosts.environment.events.set_behaviour(Behaviour::Json);
    assert_eq!(hosts.send(1, "one").status, 429, "nobody knows that the host has ended");
    wait_until("the end of the claim", LATER, || {
        thread::sleep(Duration::from_millis(500));
        hosts.send(1, "one").status == 200
    })
    .unwrap();
}

#[test]
fn without_servers_nothing_is_handed_over_and_what_was_taken_is_known_afterwards() {
    let directory = tempfile::tempdir().unwrap();
    let nats = Nats::alone(directory.path());
    let hosts = Hosts::pair(&nats, "");
    assert_eq!(hosts.send(0, "taken").status, 200);
    let start_again = nats.end();
    wait_until("the loss of the connection", SOON, || {
        hosts.gateways[1].metric("hookgate_fleet_connected", &[]).unwrap() == 0.0
    })
    .unwrap();
    for id in ["taken", "new"] {
        let response = hosts.send(1, id);
        assert_eq!((response.status, response.reason()), unavailable());
        assert!(response.field("retry-after").is_some(), "{response:?}");
    }
    assert_eq!(hosts.handled().len(), 1, "nothing but the first");
    hosts.gateways[1].wait_log("no connection to the NATS servers of the fleet", SOON).unwrap();
    let nats = start_again();
    hosts.wait_connected(1);
    wait_until("the memory", SOON, || hosts.send(1, "taken").status == 208).unwrap();
    assert_eq!(hosts.send(1, "new").status, 200);
    let nats = nats.restart();
    wait_until("the memory", LATER, || hosts.send(0, "new").status == 208).unwrap();
    drop(nats);
}

#[test]
fn what_a_handler_took_and_the_servers_did_not_store_is_refused_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let nats = Nats::alone(directory.path());
    let environment = Environment::new().unwrap();
    // Longer than it takes to end the servers, and shorter than the handler may take.
    environment.events.set_behaviour(Behaviour::Delay(Duration::from_secs(3), Behaviour::Json.boxed()));
    let gateway = start_patient_gateway(&environment, 30_000, &section(&nats.url()));
    let hosts = Hosts::of(environment, vec![gateway]);
    hosts.wait_connected(0);
    thread::scope(|scope| {
        let answer = scope.spawn(|| hosts.outcome(0, "one"));
        hosts.environment.events.wait_for(1, LATER).unwrap();
        drop(nats);
        assert_eq!(answer.join().unwrap(), unavailable());
    });
    assert_eq!(hosts.gateways[0].wait_metric("hookgate_fleet_not_stored_total", &[], 1.0, SOON).unwrap(), 1.0);
    assert_eq!(hosts.handled().len(), 1);
}

/// Each try to connect ends with the same error, some twenty in ten seconds.
#[test]
fn without_servers_the_same_error_is_said_once_until_there_is_a_connection() {
    const TRIES: usize = 8;
    let address = SocketAddrV4::new(own_address(), 4222);
    let broken = TcpListener::bind(address).unwrap();
    let sections = section(&format!("\"nats://{address}\""));
    let hosts = thread::scope(|scope| {
        // A server that ends each connection.
        let tries = scope.spawn(|| (0..TRIES).for_each(|_| drop(broken.accept().unwrap())));
        let hosts = Hosts::start(Environment::new().unwrap(), &[&sections]);
        tries.join().unwrap();
        hosts
    });
    drop(broken);
    let directory = tempfile::tempdir().unwrap();
    let nats = Nats::start(directory.path(), address, &[]);
    hosts.wait_connected(0);
    hosts.gateways[0].wait_log("connected to a NATS server of the fleet", SOON).unwrap();
    let log = hosts.gateways[0].log();
    let told = log.lines().filter_map(|line| line.split_once("the NATS servers of the fleet")).map(|(_, rest)| rest);
    let said: Vec<&str> = told.filter(|rest| rest.contains("detail=")).collect();
    let different: BTreeSet<&&str> = said.iter().collect();
    assert!(!said.is_empty() && said.len() == different.len() && said.len() < TRIES / 2, "{said:#?}");
    drop(nats);
}

#[test]
fn servers_that_lost_all_files_get_a_new_bucket() {
    let directory = tempfile::tempdir().unwrap();
    let nats = Nats::alone(directory.path());
    let hosts = Hosts::pair(&nats, "");
    assert_eq!(hosts.send(0, "one").status, 200);
    assert_eq!(hosts.send(1, "one").status, 208);
    let address = nats.address;
    drop(nats);
    let empty = tempfile::tempdir().unwrap();
    let nats = Nats::start(empty.path(), address, &[]);
    wait_until("the new bucket", LATER, || hosts.send(0, "two").status == 200).unwrap();
    wait_until("the memory", LATER, || hosts.send(1, "two").status == 208).unwrap();
    assert_eq!(hosts.send(0, "one").status, 208, "this host knows it");
    drop(nats);
}

#[test]
fn without_servers_deliveries_are_admitted_if_configured() {
    let environment = Environment::new().unwrap();
    let port = free_port().unwrap();
    let state =
        format!("[state]\ndirectory = {}\non_state_failure = \"admit\"\n", quoted(&environment.state_directory()));
    let sections = section(&format!("\"nats://127.0.0.1:{port}\"")) + &state;
    let hosts = Hosts::start(environment, &[&sections]);
    assert_eq!(hosts.send(0, "one").status, 200);
    assert_eq!(hosts.send(0, "one").status, 208, "this host knows it");
    hosts.gateways[0].wait_metric("hookgate_fleet_claims_total", &[("result", "failed")], 1.0, SOON).unwrap();
}

#[test]
fn a_durable_delivery_is_stored_at_one_host() {
    let directory = tempfile::tempdir().unwrap();
    let nats = Nats::alone(directory.path());
    let environment = Environment::new().unwrap();
    let sections = ["a", "b"].map(|host| section(&nats.url()) + &stored_route(&environment, host));
    let hosts = Hosts::start(environment, &[&sections[0], &sections[1]]);
    (0..2).for_each(|host| hosts.wait_connected(host));
    assert_eq!([0, 1, 0].map(|host| hosts.send_to(host, STORED, "one").status), [202, 208, 208]);
    hosts.environment.events.wait_for(1, SOON).unwrap();
    assert_eq!(hosts.handled(), BTreeMap::from([("one".to_owned(), 1)]));
}

#[test]
fn a_memory_that_forgets_is_not_used_and_never_changed() {
    let directory = tempfile::tempdir().unwrap();
    let nats = Nats::alone(directory.path());
    let one_copy = section(&nats.url());
    let more = one_copy.replace("replicas = 1", "replicas = 3");
    let hosts = Hosts::start(Environment::new().unwrap(), &[&one_copy, &more]);
    (0..2).for_each(|host| hosts.wait_connected(host));
    assert_eq!(hosts.send(0, "one").status, 200);
    assert_eq!(hosts.outcome(1, "two"), unavailable());
    hosts.gateways[1].wait_log("it has fewer copies than [fleet] replicas says", SOON).unwrap();
    assert_eq!(hosts.send(0, "two").status, 200);
}

#[test]
fn a_rule_that_remembers_longer_than_the_hosts_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let nats = Nats::alone(directory.path());
    let sections = section(&nats.url()) + "keep_s = 700\n";
    let hosts = Hosts::start(Environment::new().unwrap(), &[&sections]);
    let longer = |keep: &str| {
        let text = std::fs::read_to_string(hosts.gateways[0].configuration_path()).unwrap();
        text.replace("window_s = 600", "window_s = 800").replace("keep_s = 700", keep)
    };
    let checked = |text: &str| {
        let file = hosts.environment.write("longer.toml", text).unwrap();
        let finished = crate::command::hookgate(&["check", "--config", file.to_str().unwrap()]);
        (finished.success(), finished.stderr_text())
    };
    let (is_right, text) = checked(&longer("keep_s = 700"));
    assert!(
        !is_right && text.contains("fleet.keep_s: the hosts remember for 700 s") && text.contains("write keep_s = 800"),
        "{text}"
    );
    assert!(checked(&longer("keep_s = 800")).0);
    // The bucket is that of the start.
    let refused = hosts.gateways[0].reload(&longer("keep_s = 800"), SOON).unwrap_err().to_string();
    hosts.gateways[0].wait_log("with which this process was started; restart hookgate", SOON).expect(&refused);
    hosts.wait_connected(0);
    assert_eq!(hosts.send(0, "one").status, 200);
}

/// Three servers, each with all entries: one of them may end.
#[test]
fn a_cluster_goes_on_without_one_of_its_servers() {
    let directory = tempfile::tempdir().unwrap();
    let mut servers = Nats::cluster(directory.path());
    let sections = section(&Nats::urls(&servers)).replace("replicas = 1", "replicas = 3");
    let hosts = Hosts::start(Environment::new().unwrap(), &[&sections, &sections]);
    // Before the servers have elected a leader, they make no bucket.
    wait_until("the first delivery", LATER, || hosts.send(0, "first").status == 200).unwrap();
    assert_eq!(hosts.send(1, "first").status, 208);
    drop(servers.remove(0));
    for number in 0..20 {
        let id = number.to_string();
        wait_until("a delivery without one server", LATER, || [200, 208].contains(&hosts.send(number % 2, &id).status))
            .unwrap();
        assert_eq!(hosts.send((number + 1) % 2, &id).status, 208);
    }
    assert_eq!(hosts.send(1, "first").status, 208, "what was taken before");
    let handled = hosts.handled();
    assert!(handled.len() == 21 && handled.values().all(|count| *count == 1), "{handled:?}");
}

#[test]
fn both_sides_of_a_connection_show_their_certificates() {
    let environment = Environment::new().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let server = environment.pki.server("nats", &["localhost"], KeyKind::P256).unwrap();
    let sender = environment.pki.sender(Sender::Percolate);
    let ours = sender.leaf("fleet", &LeafOptions::default()).unwrap();
    let path = |path: &Path| path.display().to_string();
    let (chain, key, authority) = (path(&server.chain_path), path(&server.key_path), path(sender.root.path()));
    let tls = ["--tls", "--tlscert", &chain, "--tlskey", &key, "--tlscacert", &authority, "--tlsverify"];
    // The certificate has this name.
    let nats = Nats::start(directory.path(), SocketAddrV4::new(Ipv4Addr::LOCALHOST, free_port().unwrap()), &tls);
    let sections = |anchor: &Path, certificate: &str| {
        let servers = format!("\"tls://localhost:{}\"", nats.address.port());
        section(&servers) + &format!("trust_anchors = [{}]\n{certificate}\n", quoted(anchor))
    };
    let shown = format!("certificate = {{ chain = {}, key = {} }}", quoted(&ours.chain_path), quoted(&ours.key_path));
    let right = sections(environment.pki.server_root().path(), &shown);
    let without = sections(environment.pki.server_root().path(), "");
    let foreign = sections(sender.root.path(), &shown);
    let hosts = Hosts::start(environment, &[&right, &without, &foreign]);
    hosts.wait_connected(0);
    assert_eq!(hosts.send(0, "one").status, 200);
    assert_eq!(hosts.outcome(1, "two"), unavailable(), "without a certificate");
    assert_eq!(hosts.outcome(2, "two"), unavailable(), "a server of another authority");
    assert_eq!(hosts.handled().len(), 1);
}
