//! A cluster whose network is cut: three servers and two gateways in two network namespaces, joined by a veth pair that the test takes down.
//!
//! Owns the namespaces. What a sender hears on each side, and of copies at both hosts exactly one reaches a handler.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use async_nats::ConnectOptions;
use hookgate_testkit::namespace::{Namespace, ip};
use hookgate_testkit::pki::{KeyKind, ServerIdentity};
use hookgate_testkit::root::is_root;
use hookgate_testkit::wait::wait_until;
use serde_json::Value;

use super::{ANY, Hosts, LATER, Nats, STORED, outcome, section, start_gateway, stored_route, unavailable};
use crate::environment::{Environment, quoted};

/// How long a sender waits at most, whatever the network does: the limit of the fleet, and a margin for a busy machine.
const ANSWERED: Duration = Duration::from_secs(8);

/// The addresses of the servers. The first is in the namespace of the minority.
const ADDRESSES: [Ipv4Addr; 3] =
    [Ipv4Addr::new(10, 77, 0, 1), Ipv4Addr::new(10, 77, 0, 2), Ipv4Addr::new(10, 77, 0, 3)];

/// The stream of the memory.
const MEMORY: &str = "KV_hookgate-deliveries-hookgate";

/// That of the spool.
const SPOOL: &str = "hookgate-spool-hookgate";

/// The namespaces of host 0, with one server, and of host 1, with two.
struct Sides([Namespace; 2]);

impl Sides {
    fn new() -> Self {
        let sides = [Namespace::new("minority").unwrap(), Namespace::new("majority").unwrap()];
        let [minority, majority] = [sides[0].name(), sides[1].name()];
        let run = |arguments: &[&str]| drop(ip(arguments).unwrap());
        run(&["-n", minority, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", majority]);
        for (address, side) in ADDRESSES.iter().zip([minority, majority, majority]) {
            run(&["-n", side, "address", "add", &format!("{address}/24"), "dev", "cable"]);
        }
        let sides = Self(sides);
        sides.set_cable("up");
        sides
    }

    fn set_cable(&self, state: &str) {
        for side in &self.0 {
            ip(&["-n", side.name(), "link", "set", "cable", state]).unwrap();
        }
    }

    /// Runs `work` on the side of `host`: an even one is with the minority.
    fn at<T: Send>(&self, host: usize, work: impl FnOnce() -> T + Send) -> T {
        self.0[host % 2].run(|| Ok(work())).unwrap()
    }

    fn start_servers(&self, files: &Path, certificate: &ServerIdentity) -> Vec<Nats> {
        let path = |path: &Path| path.display().to_string();
        let (chain, key) = (path(&certificate.chain_path), path(&certificate.key_path));
        let tls = ["--tls", "--tlscert", &chain, "--tlskey", &key];
        let start = |number: usize| self.at(number.min(1), || Nats::member(files, number, &ADDRESSES, &tls));
        (0..ADDRESSES.len()).map(start).collect()
    }
}

/// Three servers, and a network between them that can be cut.
struct Cut {
    _servers: Vec<Nats>,
    sides: Sides,
    authority: PathBuf,
    _files: tempfile::TempDir,
}

impl Cut {
    fn new(environment: &Environment) -> Self {
        let files = tempfile::tempdir().unwrap();
        let sides = Sides::new();
        let authority = environment.pki.server_root().path().to_owned();
        let names = ADDRESSES.map(|address| address.to_string());
        let names = names.each_ref().map(String::as_str);
        let certificate = environment.pki.server("nats", &names, KeyKind::P256).unwrap();
        let servers = sides.start_servers(files.path(), &certificate);
        Self { _servers: servers, sides, authority, _files: files }
    }

    /// A `[fleet]` of hosts that know the first server alone, and hear of the others from it: so a host of the majority has a connection through the cable
    /// when it is cut.
    fn section(&self) -> String {
        let section = section(&format!("\"tls://{}\"", ADDRESSES[0])).replace("replicas = 1", "replicas = 3");
        section + &format!("trust_anchors = [{}]\n", quoted(&self.authority))
    }
}

/// What senders of a route hear at each side.
struct Senders<'c> {
    sides: &'c Sides,
    hosts: &'c Hosts,
    path: &'static str,
}

impl Senders<'_> {
    /// Sends the delivery to `host`, and fails if the answer takes too long.
    fn send(&self, host: usize, id: &str) -> (u16, Option<String>) {
        let began = Instant::now();
        let outcome = self.sides.at(host, || outcome(&self.hosts.send_to(host, self.path, id)));
        assert!(began.elapsed() < ANSWERED, "host {host} told {outcome:?} after {:?}", began.elapsed());
        outcome
    }

    /// Sends it to `host` as a sender does, until it is taken or stored, and returns the last status.
    fn insist(&self, host: usize, id: &str) -> u16 {
        let mut last = 0;
        let is_taken = || {
            last = self.send(host, id).0;
            assert!([200, 202, 208, 429, 503].contains(&last), "host {host} told {last} of {id}");
            [200, 202, 208].contains(&last)
        };
        wait_until("a delivery that is taken", LATER, is_taken).unwrap();
        last
    }
}

/// What the server of the minority answers to a request of JetStream's interface.
fn ask_server(subject: String, authority: &Path) -> Result<Value> {
    // The client of this test needs one; whichever of its requests comes first installs it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async move {
        let options = ConnectOptions::new().add_root_certificates(authority.to_owned());
        let client = options.connect(format!("tls://{}:4222", ADDRESSES[0])).await?;
        let answer = client.request(subject, "".into()).await?;
        serde_json::from_slice(&answer.payload).context("JSON")
    })
}

impl Sides {
    /// Makes the server of the minority the leader of a stream.
    fn make_the_minority_lead(&self, stream: &str, authority: &Path) {
        let leads = || {
            let answer = self.at(0, || ask_server(format!("$JS.API.STREAM.INFO.{stream}"), authority));
            let leader = answer.ok().and_then(|answer| Some(answer["cluster"]["leader"].as_str()?.to_owned()));
            if leader.as_deref() == Some("n0") {
                return true;
            }
            let _ = self.at(0, || ask_server(format!("$JS.API.STREAM.LEADER.STEPDOWN.{stream}"), authority));
            std::thread::sleep(Duration::from_millis(200));
            false
        };
        wait_until("a leader in the minority", LATER, leads).unwrap();
    }
}

#[test]
fn of_copies_at_both_sides_of_a_cut_network_one_reaches_a_handler() {
    if !is_root("the test of a cut network") {
        return;
    }
    let environment = Environment::new().unwrap();
    let cut = Cut::new(&environment);
    let (sides, authority, section) = (&cut.sides, &cut.authority, cut.section());
    let gateways = (0..2).map(|host| sides.at(host, || start_gateway(&environment, &section))).collect();
    let hosts = Hosts::of(environment, gateways);
    let senders = Senders { sides, hosts: &hosts, path: ANY };
    assert_eq!(senders.insist(0, "before"), 200);
    assert_eq!(senders.insist(1, "before"), 208);
    sides.make_the_minority_lead(MEMORY, authority);
    assert_eq!(senders.insist(0, "before"), 208);

    sides.set_cable("down");
    let during: Vec<String> = (0..8).map(|number| format!("during-{number}")).collect();
    std::thread::scope(|scope| {
        for id in &during {
            // The leader, which does not know yet that it is alone, gets claims that it can never store.
            scope.spawn(|| assert_eq!(senders.send(0, id), unavailable(), "the minority hands nothing over"));
            scope.spawn(|| assert_eq!(senders.insist(1, id), 200, "the majority goes on"));
        }
    });
    std::thread::scope(|scope| {
        for id in &during {
            scope.spawn(|| assert_eq!(senders.send(0, id), unavailable(), "it does not know what the majority took"));
        }
    });
    let at_the_minority = senders.send(0, "before");
    assert!(at_the_minority.0 == 208 || at_the_minority == unavailable(), "{at_the_minority:?}");

    sides.set_cable("up");
    for id in &during {
        assert_eq!(senders.insist(0, id), 208, "taken while the network was cut");
    }
    for number in 0..20 {
        let id = format!("after-{number}");
        let at = |host: usize| senders.insist(host, &id);
        let mut told = std::thread::scope(|scope| {
            let other = scope.spawn(|| at(1));
            [at(0), other.join().unwrap()]
        });
        told.sort_unstable();
        assert_eq!(told, [200, 208], "{id}");
    }
    let handled = hosts.handled();
    assert!(handled.len() == 29 && handled.values().all(|count| *count == 1), "{handled:?}");
}

/// A durable route. Host 0 is with the minority, host 1 with the majority, and host 2 with the minority and a disk that takes over.
#[test]
fn what_either_side_of_a_cut_network_stored_is_taken_once() {
    if !is_root("the test of a cut network") {
        return;
    }
    let environment = Environment::new().unwrap();
    let cut = Cut::new(&environment);
    let (sides, authority) = (&cut.sides, &cut.authority);
    let start = |(host, fallback): (usize, &str)| {
        let sections = cut.section() + fallback + &stored_route(&environment, &host.to_string());
        sides.at(host, || start_gateway(&environment, &sections))
    };
    let gateways = [(0, ""), (1, ""), (2, "fallback = \"disk\"\n")].map(start).into();
    let hosts = Hosts::of(environment, gateways);
    let senders = Senders { sides, hosts: &hosts, path: STORED };
    assert_eq!(senders.insist(0, "before"), 202);
    assert_eq!([1, 2].map(|host| senders.insist(host, "before")), [208, 208]);
    [MEMORY, SPOOL].into_iter().for_each(|stream| sides.make_the_minority_lead(stream, authority));
    assert_eq!(senders.insist(0, "last before"), 202);
    wait_until("what was stored before", LATER, || hosts.handled().len() == 2).unwrap();

    sides.set_cable("down");
    let of = |host: usize| (0..6).map(|number| format!("{host}-{number}")).collect::<Vec<_>>();
    let (at_majority, on_disk) = (of(1), of(2));
    std::thread::scope(|scope| {
        for (id, local) in at_majority.iter().zip(&on_disk) {
            scope.spawn(|| assert_eq!(senders.send(0, id), unavailable(), "the minority stores nothing"));
            scope.spawn(|| assert_eq!(senders.insist(1, id), 202, "the majority goes on"));
            scope.spawn(|| assert_eq!(senders.send(2, local), (202, None), "the disk"));
        }
    });
    // What is on the disk waits for no other, so its host hands it over.
    wait_until("what was stored meanwhile", LATER, || hosts.handled().len() == 14).unwrap();

    sides.set_cable("up");
    for id in &at_majority {
        assert_eq!(senders.insist(0, id), 208, "stored while the network was cut");
    }
    for local in &on_disk {
        assert_eq!(senders.insist(2, local), 208, "stored while the network was cut");
    }
    assert_eq!(senders.insist(0, "after"), 202);
    wait_until("the last one", LATER, || hosts.handled().len() == 15).unwrap();
    let handled = hosts.handled();
    assert!(handled.values().all(|count| *count == 1), "{handled:?}");
}
