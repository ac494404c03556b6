//! Durable routes whose deliveries wait on real NATS servers: stored before they are answered, and handed over by any host.

mod bounds;
mod outage;
mod permissions;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use hookgate_testkit::configuration::HOST;
use hookgate_testkit::gateway::{Gateway, GatewayOptions, Signal};
use hookgate_testkit::handler::{Behaviour, Handler};
use hookgate_testkit::http::{self, Request, Response};
use hookgate_testkit::pki::{ClientIdentity, Sender, Variant};
use hookgate_testkit::process::Finished;
use hookgate_testkit::wait::wait_until;

use crate::command::hookgate;
use crate::environment::{BINARY, Environment, SOON, quoted};
use crate::fleet::Nats;
use crate::tls_client::{TlsClient, TlsConnection};

const PATH: &str = "/orders";

/// For an election among servers, and a host that is lost.
const LATER: Duration = Duration::from_secs(60);

/// Hosts with a durable route each, whose handlers do not run yet.
struct Hosts {
    gateways: Vec<Gateway>,
    environment: Environment,
    identity: ClientIdentity,
    servers: String,
    fleet: String,
    durable: String,
}

impl Hosts {
    /// So many, with these lines of `[fleet]` and entries of `durable`.
    fn start(count: usize, servers: &str, fleet: &str, durable: &str) -> Self {
        let environment = Environment::new().unwrap();
        let identity = environment.identity(Sender::Percolate, Variant::Good).unwrap();
        let own = |text: &str| text.to_owned();
        let (servers, fleet, durable) = (own(servers), own(fleet), own(durable));
        let mut hosts = Self { gateways: Vec::new(), environment, identity, servers, fleet, durable };
        for host in 0..count {
            let gateway = hosts.gateway(host);
            hosts.gateways.push(gateway);
        }
        (0..count).for_each(|host| hosts.wait_connected(host));
        hosts
    }

    /// One at this server.
    fn at(nats: &Nats, count: usize, durable: &str) -> Self {
        Self::start(count, &nats.url(), "replicas = 1", durable)
    }

    fn gateway(&self, host: usize) -> Gateway {
        let toml = self.environment.configuration().toml() + &self.sections(host);
        Gateway::start(&toml, &GatewayOptions::new(BINARY)).unwrap()
    }

    fn sections(&self, host: usize) -> String {
        let Self { servers, fleet, durable, .. } = self;
        let route = durable_route("orders", PATH, &self.socket(host), durable);
        format!("{route}[state]\ndirectory = {}\n[fleet]\nnats = [{servers}]\n{fleet}\n", quoted(&self.state(host)))
    }

    /// Its state directory.
    fn state(&self, host: usize) -> PathBuf {
        self.environment.state_directory().join(host.to_string())
    }

    fn socket(&self, host: usize) -> PathBuf {
        self.environment.path(&format!("orders-{host}.sock"))
    }

    fn start_handler(&self, host: usize, behaviour: Behaviour) -> Handler {
        Handler::start(&self.socket(host), behaviour).unwrap()
    }

    fn wait_connected(&self, host: usize) {
        self.gateways[host].wait_metric("hookgate_fleet_connected", &[], 1.0, SOON).unwrap();
    }

    /// Waits until this gauge is there and 0.
    fn wait_zero(&self, host: usize, name: &str, labels: &[(&str, &str)]) {
        wait_until(&format!("{name} {labels:?} is 0"), LATER, || {
            let metrics = self.gateways[host].metrics().unwrap();
            metrics.has(name, labels) && metrics.sum(name, labels) == 0.0
        })
        .unwrap();
    }

    /// Waits until this host knows that no server answers.
    fn wait_lost(&self, host: usize) {
        self.wait_zero(host, "hookgate_fleet_connected", &[]);
    }

    /// Ends it in order.
    fn end(&mut self, host: usize) {
        self.gateways[host].signal(Signal::TERM).unwrap();
        let status = self.gateways[host].wait_exit(LATER).unwrap();
        assert!(status.success(), "{}", self.gateways[host].log());
    }

    /// Ends it in order, and starts it again.
    fn restart(&mut self, host: usize) {
        self.end(host);
        self.gateways[host] = self.gateway(host);
    }

    fn connect(&self, host: usize) -> TlsConnection {
        let port = self.gateways[host].port();
        TlsClient::new(port, &self.environment.pki, &self.identity).unwrap().connect().unwrap()
    }

    fn send(&self, host: usize, body: &str) -> Response {
        self.send_to(host, PATH, body)
    }

    fn send_to(&self, host: usize, path: &str, body: &str) -> Response {
        self.connect(host).ask(http::request("POST", path, HOST, &[], body.as_bytes())).unwrap()
    }

    /// Sends a body, which must be stored, at once or when the servers are ready. Returns the id of the delivery.
    fn store(&self, host: usize, body: &str) -> String {
        let mut id = String::new();
        let stored = wait_until("a place on the servers", LATER, || {
            let response = self.send(host, body);
            response.field("x-request-id").unwrap_or_default().clone_into(&mut id);
            assert!([202, 503].contains(&response.status), "{response:?}");
            response.status == 202
        });
        assert!(stored.is_ok(), "{}", self.gateways[host].log());
        id
    }

    fn run(&self, host: usize, arguments: &[&str]) -> Finished {
        let configuration = self.gateways[host].configuration_path().display().to_string();
        let all: Vec<&str> = ["deliveries"].iter().chain(arguments).chain(&["-c", &configuration]).copied().collect();
        hookgate(&all)
    }

    fn command(&self, host: usize, arguments: &[&str]) -> String {
        let output = self.run(host, arguments);
        assert!(output.success(), "{arguments:?}: {}", output.stderr_text());
        output.stdout_text()
    }

    /// What a command says that fails.
    fn refused(&self, host: usize, arguments: &[&str]) -> String {
        let output = self.run(host, arguments);
        assert!(!output.success(), "{arguments:?}: {}", output.stdout_text());
        output.stderr_text()
    }

    /// The ids of the deliveries in this state, with what is listed of them.
    fn listed(&self, host: usize, state: &str) -> Vec<serde_json::Value> {
        let text = self.command(host, &["list", "--state", state, "--json"]);
        serde_json::from_str(&text).unwrap()
    }

    fn wait_listed(&self, host: usize, state: &str, count: usize) {
        let what = format!("{count} deliveries that are {state}");
        wait_until(&what, LATER, || self.listed(host, state).len() == count).unwrap();
    }
}

/// A durable `[[route]]` to the handler at a socket.
fn durable_route(name: &str, path: &str, socket: &Path, durable: &str) -> String {
    format!(
        "\n[[route]]\nname = \"{name}\"\nhost = \"{HOST}\"\npath = \"{path}\"\nproviders = [\"percolate\"]\n\
         handler = \"unix:{}\"\ndelivery = \"durable\"\ndurable = {{ {durable} }}\n",
        socket.display()
    )
}

fn delivery(body: &str) -> Vec<u8> {
    http::request("POST", PATH, HOST, &[], body.as_bytes())
}

/// How often each body was taken.
fn taken<'h>(handlers: impl IntoIterator<Item = &'h Handler>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in handlers.into_iter().flat_map(Handler::taken) {
        *counts.entry(request.text()).or_default() += 1;
    }
    counts
}

fn each_once(count: usize) -> BTreeMap<String, usize> {
    (0..count).map(|number| (number.to_string(), 1)).collect()
}

/// Fails unless the handler took `turns` deliveries of each of these keys, in order.
fn check_order(handler: &Handler, turns: u64, count: u64) {
    let mut keys: HashMap<u64, Vec<u64>> = HashMap::new();
    for request in handler.taken() {
        let value: serde_json::Value = serde_json::from_str(&request.text()).unwrap();
        keys.entry(value["key"].as_u64().unwrap()).or_default().push(value["n"].as_u64().unwrap());
    }
    let expected = (0..count).map(|key| (key, (0..turns).map(|turn| turn * count + key).collect()));
    assert_eq!(keys, expected.collect::<HashMap<_, _>>());
}

#[test]
fn what_one_host_accepted_another_hands_over() {
    let directory = tempfile::tempdir().unwrap();
    let nats = Nats::alone(directory.path());
    let mut hosts = Hosts::at(&nats, 2, "");
    let ids: Vec<String> = (0..20).map(|number| hosts.store(0, &number.to_string())).collect();
    assert_eq!(hosts.listed(1, "waiting").len(), 20, "every host lists all");
    hosts.gateways[0].signal(Signal::KILL).unwrap();
    hosts.gateways[0].wait_exit(SOON).unwrap();
    let handler = hosts.start_handler(1, Behaviour::Json);
    // What the lost host had pulled comes when the servers have heard nothing of it for 30 s.
    wait_until("all deliveries", LATER, || taken([&handler]).len() == 20).unwrap();
    assert_eq!(taken([&handler]), each_once(20));
    let request: Request = handler.taken().into_iter().find(|request| request.text() == "7").unwrap();
    assert_eq!(request.field("x-hookgate-delivery"), Some(ids[7].as_str()));
    assert_eq!(request.field("x-hookgate-provider"), Some("percolate"));
    hosts.wait_listed(1, "waiting", 0);
    drop(hosts.gateways.remove(0));
}

#[test]
fn a_restart_hands_over_what_waits() {
    let directory = tempfile::tempdir().unwrap();
    let nats = Nats::alone(directory.path());
    let mut hosts = Hosts::at(&nats, 1, "");
    (0..5).for_each(|number| drop(hosts.store(0, &number.to_string())));
    hosts.end(0);
    let _nats = nats.restart();
    hosts.gateways[0] = hosts.gateway(0);
    let handler = hosts.start_handler(0, Behaviour::Json);
    wait_until("all deliveries", LATER, || taken([&handler]).len() == 5).unwrap();
    assert_eq!(taken([&handler]), each_once(5));
}

#[test]
fn hosts_share_the_work_and_each_delivery_is_taken_once() {
    let directory = tempfile::tempdir().unwrap();
    let nats = Nats::alone(directory.path());
    // One host alone would take 10 s.
    let hosts = Hosts::at(&nats, 2, "max_in_flight = 1");
    hosts.store(0, "first");
    let slow = || Behaviour::Delay(Duration::from_millis(50), Behaviour::Json.boxed());
    let handlers = [0, 1].map(|host| hosts.start_handler(host, slow()));
    let mut connections = [0, 1].map(|host| hosts.connect(host));
    for number in 0..200 {
        let answer = connections[number % 2].ask(delivery(&number.to_string())).unwrap();
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    wait_until("all deliveries", LATER, || taken(&handlers).len() == 201).unwrap();
    let mut counts = taken(&handlers);
    assert_eq!(counts.remove("first"), Some(1));
    assert_eq!(counts, each_once(200));
    for handler in &handlers {
        assert!(handler.request_count() > 20, "both hand over: {}", handler.request_count());
    }
}

#[test]
fn deliveries_of_a_key_go_one_after_the_other_at_whichever_host() {
    let directory = tempfile::tempdir().unwrap();
    let nats = Nats::alone(directory.path());
    let hosts = Hosts::at(&nats, 2, "order_by = \"/key\", max_in_flight = 8");
    let body = |number: usize| format!("{{\"key\":{},\"n\":{number}}}", number % 5);
    (0..60).for_each(|number| drop(hosts.store(number % 2, &body(number))));
    // One record of both: the sockets lead to one handler, of which every seventh request fails.
    let good = || Behaviour::Delay(Duration::from_millis(2), Behaviour::Json.boxed());
    let pattern = (0..20).flat_map(|_| (0..6).map(|_| good()).chain([Behaviour::status(503, "")]));
    let handler = hosts.start_handler(0, Behaviour::sequence(pattern.chain([Behaviour::Json])));
    std::os::unix::fs::symlink(hosts.socket(0), hosts.socket(1)).unwrap();
    wait_until("all deliveries", LATER, || handler.taken().len() >= 60).unwrap();
    hosts.wait_listed(0, "waiting", 0);
    check_order(&handler, 12, 5);
}

#[test]
fn what_no_handler_takes_is_a_dead_letter_of_all_hosts_until_an_operator_decides() {
    let directory = tempfile::tempdir().unwrap();
    let nats = Nats::alone(directory.path());
    let hosts = Hosts::at(&nats, 2, "");
    let handler = hosts.start_handler(0, Behaviour::status(422, "no"));
    std::os::unix::fs::symlink(hosts.socket(0), hosts.socket(1)).unwrap();
    let [first, second] = ["one", "two"].map(|body| hosts.store(0, body));
    hosts.wait_listed(1, "dead", 2);
    assert_eq!(hosts.listed(0, "waiting"), Vec::<serde_json::Value>::new());
    let shown: serde_json::Value = serde_json::from_str(&hosts.command(1, &["show", &first, "--json"])).unwrap();
    assert_eq!((shown["state"].as_str(), shown["attempts"].as_u64()), (Some("dead"), Some(1)), "{shown}");
    assert!(shown["outcome"].as_str().unwrap().contains("answered 422"), "{shown}");
    assert_eq!(hosts.command(1, &["show", &first, "--body"]), "one");
    assert!(hosts.command(1, &["drop", &second]).contains('1'));
    handler.set_behaviour(Behaviour::Json);
    hosts.command(1, &["retry", "--all-dead"]);
    wait_until("the retried one", LATER, || taken([&handler]) == BTreeMap::from([("one".to_owned(), 1)])).unwrap();
    let attempt = handler.taken()[0].field("x-hookgate-attempt").map(str::to_owned);
    assert_eq!(attempt.as_deref(), Some("2"));
    hosts.wait_listed(0, "dead", 0);
}

#[test]
fn a_failure_that_may_pass_is_attempted_again_and_a_pause_holds_at_all_hosts() {
    let directory = tempfile::tempdir().unwrap();
    let nats = Nats::alone(directory.path());
    let hosts = Hosts::at(&nats, 2, "");
    hosts.command(0, &["pause", "--route", "orders"]);
    // The other host sees it within 5 s. What it attempted before would wait longer and longer for a handler.
    thread::sleep(Duration::from_secs(6));
    hosts.store(0, "0");
    wait_until("the pause at both hosts", LATER, || {
        hosts.listed(1, "waiting").iter().all(|listed| listed["is_paused"].as_bool() == Some(true))
    })
    .unwrap();
    let busy = Behaviour::Fixed { status: 503, fields: vec![("Retry-After".into(), "1".into())], body: Vec::new() };
    let handlers = [0, 1].map(|host| hosts.start_handler(host, Behaviour::sequence([busy.clone(), Behaviour::Json])));
    (1..4).for_each(|number| drop(hosts.store(1, &number.to_string())));
    thread::sleep(Duration::from_secs(1));
    assert_eq!(taken(&handlers).len(), 0, "paused");
    let paused = hosts.gateways[1].wait_metric("hookgate_fleet_spool_paused", &[("route", "orders")], 1.0, SOON);
    paused.unwrap();
    hosts.command(1, &["resume"]);
    let all = wait_until("all deliveries", LATER, || taken(&handlers) == each_once(4));
    assert!(all.is_ok(), "{:?}, and these wait: {:#?}", taken(&handlers), hosts.listed(1, "waiting"));
    let attempt = |request: &Request| request.field("x-hookgate-attempt").map(str::to_owned);
    let attempts: Vec<_> = handlers.iter().flat_map(Handler::taken).map(|request| attempt(&request)).collect();
    // Not the second one of necessity: a host that saw the pause late found no handler.
    assert!(attempts.iter().flatten().any(|attempt| attempt != "1"), "{attempts:?}");
    let received: u64 = handlers.iter().map(Handler::request_count).sum();
    assert!(received > 4, "one that was refused came again: {received} requests");
}

/// Runs a client of the servers, as an operator would.
fn as_operator<F: Future<Output = ()>>(nats: &Nats, act: impl FnOnce(async_nats::jetstream::Context) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = async_nats::connect(nats.address.to_string()).await.unwrap();
        act(async_nats::jetstream::new(client)).await;
    });
}

#[test]
fn streams_that_are_deleted_are_made_again_and_said_to_be() {
    let directory = tempfile::tempdir().unwrap();
    let nats = Nats::alone(directory.path());
    let hosts = Hosts::at(&nats, 1, "");
    let handler = hosts.start_handler(0, Behaviour::Json);
    hosts.store(0, "0");
    wait_until("the first", LATER, || taken([&handler]) == each_once(1)).unwrap();
    as_operator(&nats, |context| async move {
        for name in ["hookgate-spool-hookgate", "KV_hookgate-turns-hookgate"] {
            context.delete_stream(name).await.unwrap();
        }
    });
    // What was stored within a moment of the deletion may have gone with it, in the servers.
    let again = wait_until("a delivery after that", LATER, || {
        hosts.store(0, "1");
        thread::sleep(Duration::from_millis(500));
        taken([&handler]).contains_key("1")
    });
    let log = hosts.gateways[0].log();
    assert!(again.is_ok(), "{:?}: {log}", taken([&handler]));
    assert_eq!(log.matches("made a stream of the fleet stream=hookgate-spool-hookgate").count(), 2, "{log}");
}

#[test]
fn a_foreign_message_reaches_no_handler_and_holds_nothing_up() {
    let directory = tempfile::tempdir().unwrap();
    let nats = Nats::alone(directory.path());
    let hosts = Hosts::at(&nats, 1, "order_by = \"/key\", max_in_flight = 2");
    hosts.store(0, "{\"key\":1}");
    let key = {
        let id = hosts.store(0, "{\"key\":2}");
        assert!(hosts.command(0, &["list"]).contains(&id[..8]));
        // The subject of the second tells its key.
        let subject = std::cell::RefCell::new(String::new());
        let found = &subject;
        as_operator(&nats, |context| async move {
            let stream = context.get_stream("hookgate-spool-hookgate").await.unwrap();
            *found.borrow_mut() = stream.get_raw_message(2).await.unwrap().subject.to_string();
        });
        subject.into_inner()
    };
    as_operator(&nats, |context| async move {
        let route = "hookgate.spool.hookgate.orders";
        let mut lying = async_nats::HeaderMap::new();
        let meta = "{\"id\":\"ab\",\"route\":\"orders\",\"provider\":\"percolate\",\"proof\":\"none\",\"received_ms\":1,\"until_ms\":9,\"attempts\":0}";
        lying.insert("Hookgate-Delivery", meta);
        let post = "POST /orders\r\n\r\nforged";
        for subject in [format!("{route}.d.ff"), format!("{route}.d.>x"), format!("{route}.k.1234"), key] {
            context.publish(subject.clone(), "no delivery".into()).await.unwrap().await.unwrap();
            context.publish_with_headers(subject, lying.clone(), post.into()).await.unwrap().await.unwrap();
        }
        // What is at its place, and no request that hookgate makes, is a dead letter.
        let damaged = "CONNECT a:1\r\n\r\nforged".into();
        let place = format!("{route}.d.ab");
        context.publish_with_headers(place, lying, damaged).await.unwrap().await.unwrap();
    });
    let handler = hosts.start_handler(0, Behaviour::Json);
    hosts.store(0, "{\"key\":2,\"n\":2}");
    wait_until("three deliveries", LATER, || taken([&handler]).len() == 3).unwrap();
    hosts.wait_listed(0, "dead", 1);
    assert!(!taken([&handler]).keys().any(|body| body.contains("forged")));
    hosts.gateways[0].wait_log("is not one of hookgate; remove it", SOON).unwrap();
}

/// A handler that is down is asked for one delivery at a time, however many wait.
#[test]
fn a_handler_that_is_down_costs_few_attempts_and_gets_all_when_it_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let nats = Nats::alone(directory.path());
    let hosts = Hosts::at(&nats, 1, "");
    (0..40).for_each(|number| drop(hosts.store(0, &number.to_string())));
    thread::sleep(Duration::from_secs(8));
    let attempts = hosts.gateways[0].metric("hookgate_spool_attempts_total", &[("result", "again")]).unwrap();
    assert!((2.0..30.0).contains(&attempts), "{attempts}");
    let handler = hosts.start_handler(0, Behaviour::Json);
    wait_until("all deliveries", LATER, || taken([&handler]) == each_once(40)).unwrap();
}

#[test]
fn what_no_provider_of_the_route_may_have_sent_is_held_then_dead_and_again_if_it_is_retried() {
    let directory = tempfile::tempdir().unwrap();
    let nats = Nats::alone(directory.path());
    let hosts = Hosts::at(&nats, 1, "order_by = \"/key\", retry_for_s = 4");
    let ids = ["{\"key\":1}", "no key"].map(|body| hosts.store(0, body));
    let path = hosts.gateways[0].configuration_path();
    let before = std::fs::read_to_string(path).unwrap();
    let (rest, route) = before.split_once("[[route]]\nname = \"orders\"").unwrap();
    let other = route.replacen("providers = [\"percolate\"]", "providers = [\"pagerduty\"]", 1);
    let without = format!("{rest}[[route]]\nname = \"orders\"{other}");
    hosts.gateways[0].reload(&without, SOON).unwrap();
    let handler = hosts.start_handler(0, Behaviour::Json);
    for _ in 0..2 {
        hosts.wait_listed(0, "dead", 2);
        assert_eq!(hosts.listed(0, "waiting").len(), 0);
        hosts.command(0, &["retry", "--all-dead"]);
    }
    hosts.wait_listed(0, "dead", 2);
    assert_eq!(handler.request_count(), 0);
    hosts.command(0, &["drop", &ids[0]]);
    assert_eq!(hosts.listed(0, "dead").len(), 1);
}

#[test]
fn what_a_cluster_has_stored_survives_one_of_its_servers_and_a_host() {
    let directory = tempfile::tempdir().unwrap();
    let mut servers = Nats::cluster(directory.path());
    let mut hosts = Hosts::start(2, &Nats::urls(&servers), "replicas = 3", "");
    hosts.store(0, "0");
    let handlers = [0, 1].map(|host| hosts.start_handler(host, Behaviour::Json));
    for number in 1..40 {
        match number {
            10 => drop(servers.remove(0)),
            25 => {
                hosts.gateways[0].signal(Signal::KILL).unwrap();
                hosts.gateways[0].wait_exit(SOON).unwrap();
            }
            _ => {}
        }
        hosts.store(if number < 25 { number % 2 } else { 1 }, &number.to_string());
    }
    wait_until("all deliveries", LATER, || taken(&handlers).len() == 40).unwrap();
    hosts.wait_listed(1, "waiting", 0);
    drop(hosts.gateways.remove(0));
}
