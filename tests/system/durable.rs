//! Durable routes under the unit: its system calls, its sandbox and its state directory suffice to store deliveries and to hand them over.
//!
//! Owns the route, whose handler does not run until a test starts it.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use hookgate_testkit::configuration::HOST;
use hookgate_testkit::handler::Handler;
use hookgate_testkit::process::KilledOnDrop;

use crate::artifacts;
use crate::container::SOON;
use crate::environment::Environment;
use crate::is_root;

const PATH: &str = "/orders";

/// The socket of the handler, in the directory that host and container share.
const SOCKET: &str = "orders.sock";

/// The state directory of the unit. The file must name it.
const STATE: &str = "/var/lib/hookgate";

/// For attempts after the handler is back, on a busy machine. The longest pause before one is 5 s.
const LATER: Duration = Duration::from_secs(60);

/// Larger than what SQLite's log has room for after a small delivery.
const LARGE: usize = 300_000;

/// Where the server of a fleet listens, in the network of the container.
const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 4222);

/// Configures the durable route, and these sections.
fn configure(environment: &Environment, sections: &str) {
    let route = format!(
        "\n[[route]]\nname = \"orders\"\nhost = \"{HOST}\"\npath = \"{PATH}\"\nproviders = [\"percolate\"]\n\
         handler = \"unix:/srv/test/{SOCKET}\"\ndelivery = \"durable\"\n\n[state]\ndirectory = \"{STATE}\"\n{sections}"
    );
    environment.configure_text(|_| {}, |text| text + &route);
}

/// Sends these bodies to the durable route, over one connection. Each must be stored.
fn store(environment: &Environment, bodies: &BTreeSet<String>) {
    let client = environment.client(&environment.identity);
    let client = bodies.iter().fold(client, |client, body| client.post(PATH, body.as_bytes()));
    let outcome = environment.send(&client);
    let statuses: Vec<u16> = outcome.transfers.iter().map(|transfer| transfer.response.status).collect();
    assert_eq!(statuses, vec![202; bodies.len()], "{outcome:?}\n{}", environment.container.journal());
}

fn bodies(count: usize) -> BTreeSet<String> {
    (0..count).map(|number| format!("{{\"order\":{number}}}")).collect()
}

/// How many deliveries wait, as the metric of this name tells.
fn waiting(environment: &Environment, metric: &str) -> f64 {
    environment.metric(metric, &[("route", "orders"), ("state", "waiting")])
}

/// Starts the handler, and waits until it has taken each of these bodies, and no other. One may come twice: delivery is at least once.
fn hand_over(environment: &Environment, bodies: &BTreeSet<String>) -> Handler {
    let handler = environment.start_handler(SOCKET);
    let taken = || handler.taken().iter().map(|request| request.text()).collect::<BTreeSet<_>>();
    environment.container.wait_for("all deliveries", LATER, || (taken().len() >= bodies.len()).then_some(()));
    assert!(taken() == *bodies, "{:?}", handler.taken().iter().map(|request| request.body.len()).collect::<Vec<_>>());
    handler
}

#[test]
fn what_waits_is_handed_over_after_an_upgrade_and_a_restart() {
    if !is_root() {
        return;
    }
    let environment = Environment::of_older(|environment| configure(environment, ""));
    let container = &environment.container;
    let stored = bodies(20);
    store(&environment, &stored);

    let mut processes = BTreeSet::from([container.property("hookgate.service", "MainPID")]);
    let said = container.install(&artifacts::packages().present);
    assert!(processes.insert(container.property("hookgate.service", "MainPID")), "the old version still runs: {said}");
    container.run(&["systemctl", "restart", "hookgate.service"]);
    assert!(processes.insert(container.property("hookgate.service", "MainPID")), "not restarted");
    environment.wait_metric("hookgate_spool_deliveries", &[("route", "orders"), ("state", "waiting")], 20.0);
    let listed = container.run(&["hookgate", "deliveries", "list", "--json"]);
    let listed: Vec<serde_json::Value> = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed.len(), 20, "{listed:?}");

    let _handler = hand_over(&environment, &stored);
    container
        .wait_for("an empty spool", SOON, || (waiting(&environment, "hookgate_spool_deliveries") == 0.0).then_some(()));
    assert_eq!(environment.automatic_restarts(), 0);
}

#[test]
fn a_full_state_directory_is_a_503_until_there_is_room() {
    if !is_root() {
        return;
    }
    let environment = Environment::configured();
    let container = &environment.container;
    configure(&environment, "");
    container.shell(&format!("mkdir --parents {STATE}; mount -t tmpfs -o size=8m,mode=0700 tmpfs {STATE}"));
    container.run(&["systemctl", "start", "hookgate.socket", "hookgate.service"]);
    let mut stored = bodies(1);
    store(&environment, &stored);

    container.shell(&format!("! dd if=/dev/zero of={STATE}/ballast bs=4k 2>/dev/null"));
    let send = |body: &str| {
        let client = environment.client(&environment.identity).post(PATH, body.as_bytes());
        environment.send(&client).response().unwrap().clone()
    };
    for digit in ["0", "1"] {
        let refused = send(&digit.repeat(LARGE));
        let answered = (refused.status, refused.reason(), refused.field("retry-after").is_some());
        assert_eq!(answered, (503, Some("state_unavailable".to_owned()), true), "{}", container.journal());
    }
    // What needs no disk is served.
    environment.expect_served();

    container.shell(&format!("rm {STATE}/ballast"));
    let body = "2".repeat(LARGE);
    container.wait_for("room", SOON, || (send(&body).status == 202).then_some(()));
    stored.insert(body);
    let _handler = hand_over(&environment, &stored);
    assert_eq!(environment.automatic_restarts(), 0);
}

/// The thread that talks to the servers of a fleet makes system calls of its own.
#[test]
fn deliveries_of_a_fleet_are_stored_at_its_servers_and_handed_over() {
    if !is_root() {
        return;
    }
    let environment = Environment::configured();
    let container = &environment.container;
    let _server = start_server(&environment, &environment.directory("nats"));
    configure(&environment, &format!("\n[fleet]\nnats = [\"nats://{SERVER}\"]\nreplicas = 1\n"));
    container.run(&["systemctl", "start", "hookgate.socket", "hookgate.service"]);
    environment.wait_metric("hookgate_fleet_connected", &[], 1.0);
    let first = bodies(1);
    let client = environment.client(&environment.identity).post(PATH, first.first().unwrap().as_bytes());
    // The stream is made when it is needed first, and until then there is no place.
    container.wait_for("a place at the server", SOON, || {
        let status = environment.send(&client).status();
        assert!([Some(202), Some(503)].contains(&status), "{status:?}\n{}", container.journal());
        (status == Some(202)).then_some(())
    });
    let stored = bodies(5);
    store(&environment, &stored.difference(&first).cloned().collect());
    // Not on the disk: no fallback is configured, and the server has all.
    container.wait_for("the number of deliveries", SOON, || {
        (waiting(&environment, "hookgate_fleet_spool_deliveries") == 5.0).then_some(())
    });
    let _handler = hand_over(&environment, &stored);
}

/// Starts a NATS server of the host in the network of the container.
fn start_server(environment: &Environment, directory: &Path) -> KilledOnDrop {
    let mut command = Command::new("nats-server");
    let (host, port) = (SERVER.ip().to_string(), SERVER.port().to_string());
    command.args(["--addr", &host, "--port", &port, "--jetstream", "--store_dir"]).arg(directory);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let spawn = || command.spawn().expect("nats-server is installed: cargo xtask setup test");
    let server = KilledOnDrop(environment.container.in_network(spawn));
    environment.container.wait_for("the NATS server", SOON, || {
        environment.container.in_network(|| TcpStream::connect(SERVER).is_ok()).then_some(())
    });
    server
}
