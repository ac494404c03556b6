//! Listening sockets that outlive the daemon: those of a .socket unit, and the daemon's own in the store of the service manager. A
//! restart refuses no connection.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use hookgate_testkit::gateway::{Gateway, GatewayOptions, Signal};
use hookgate_testkit::handler::Behaviour;
use socket2::{Domain, Socket, Type};

use super::managed::{ManagedEnvironment, Sockets, end, unit_sockets};
use crate::environment::{BINARY, PATH, SOON};
use crate::test_gateway::TestGateway;
use crate::tls_client::{TlsClient, request};

/// Sends one request on a new connection.
fn request_once(client: &TlsClient) {
    let response = client.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap();
    assert!(response.status == 200 && response.complete, "{response:?}");
}

#[test]
fn sockets_that_were_handed_over_are_all_served_by_all_workers() {
    for (sockets, workers) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
        let managed = ManagedEnvironment::new().unwrap();
        let (port, handed_over) = unit_sockets(sockets).unwrap();
        let mut gateway = managed.start_with(workers, port, handed_over).unwrap();
        let client = managed.client(port).unwrap();
        // The kernel picks a socket by a hash of the client's port. That all pick the same of two has a chance of 1 in 2^15.
        (0..16).for_each(|_| request_once(&client));
        assert_eq!(managed.service_manager.stored().len(), 0, "the daemon stored a socket of the unit");
        end(&mut gateway);
        assert!(gateway.log().contains(&format!("listening address=127.0.0.1:{port}")), "{}", gateway.log());
    }
}

#[test]
fn connections_between_two_processes_are_served_by_the_second() {
    let check = |sockets: usize, workers: [usize; 2], signal: Signal| {
        let managed = ManagedEnvironment::new().unwrap();
        let (mut gateway, port, kept) = if sockets == 0 {
            let gateway = Gateway::start(&managed.configuration(workers[0]), &managed.options()).unwrap();
            let port = gateway.port();
            (gateway, port, managed.service_manager.wait_stored(workers[0], SOON).unwrap())
        } else {
            let (port, kept) = unit_sockets(sockets).unwrap();
            (managed.start_with(workers[0], port, kept.clone()).unwrap(), port, kept)
        };
        let client = managed.client(port).unwrap();
        request_once(&client);
        gateway.signal(signal).unwrap();
        gateway.wait_exit(SOON).unwrap();
        let waiting: Vec<_> = (0..6).map(|_| client.connect_tcp().unwrap()).collect();
        let mut gateway = managed.start_with(workers[1], port, kept.clone()).unwrap();
        for stream in waiting {
            let response = client.handshake(stream).unwrap().ask(request("POST", PATH, b"{}")).unwrap();
            assert_eq!(response.status, 200);
        }
        let stores =
            managed.service_manager.messages().iter().filter(|message| message.value("FDSTORE").is_some()).count();
        assert_eq!(stores, usize::from(sockets == 0), "the daemon stored a socket again");
        end(&mut gateway);
    };
    check(1, [2, 2], Signal::TERM);
    check(2, [1, 2], Signal::KILL);
    check(0, [1, 2], Signal::TERM);
    check(0, [2, 1], Signal::KILL);
}

/// The clients during a restart.
struct Clients {
    /// Clients that keep their connection.
    steady: usize,
    /// Clients that make a connection for each request.
    fresh: usize,
    /// The least number of connections that a worker hands over to another before the daemon is ended.
    handed_over: f64,
}

/// Few enough that each worker keeps the connections that it accepts.
const FEW: Clients = Clients { steady: 2, fresh: 4, handed_over: 0.0 };

/// Ends and starts the daemon while clients send requests. Fails unless each request gets a response.
fn restart_under_load(managed: &ManagedEnvironment, mut gateway: Gateway, kept: &Sockets, load: &Clients) {
    managed.environment.events.set_behaviour(Behaviour::Delay(Duration::from_millis(20), Behaviour::Json.boxed()));
    let port = gateway.port();
    let client = managed.client(port).unwrap();
    let over = AtomicBool::new(false);
    let steady = || {
        let mut connection = client.connect().unwrap();
        let mut answered = 0;
        while !over.load(Ordering::Relaxed) {
            let response = connection.ask(request("POST", PATH, b"{}")).unwrap();
            assert!(response.status == 200 && response.complete, "{response:?}");
            answered += 1;
            if response.field("connection") == Some("close") {
                connection = client.connect().unwrap();
            }
            sleep(Duration::from_millis(10));
        }
        answered
    };
    let fresh = || {
        let mut answered = 0;
        while !over.load(Ordering::Relaxed) {
            request_once(&client);
            answered += 1;
        }
        answered
    };
    thread::scope(|scope| {
        let steady = (0..load.steady).map(|_| scope.spawn(steady));
        let clients: Vec<_> = steady.chain((0..load.fresh).map(|_| scope.spawn(fresh))).collect();
        let mut handled = 0;
        for _ in 0..2 {
            managed.environment.events.wait_for(handled + 40, SOON).unwrap();
            let handed_over = "hookgate_connections_handed_over_total";
            gateway.wait_metric(handed_over, &[], load.handed_over, SOON).unwrap();
            end(&mut gateway);
            assert!(!gateway.log().contains("connections are cut"), "{}", gateway.log());
            gateway = managed.start_with(2, port, kept.clone()).unwrap();
            handled = managed.environment.events.request_count();
        }
        managed.environment.events.wait_for(handled + 40, SOON).unwrap();
        over.store(true, Ordering::Relaxed);
        let answered: u64 = clients.into_iter().map(|client| client.join().unwrap()).sum();
        end(&mut gateway);
        assert_eq!(answered, managed.environment.events.request_count());
    });
}

/// [`restart_under_load`] with one socket of a unit.
fn restart_with_unit_socket(load: &Clients) {
    let managed = ManagedEnvironment::new().unwrap();
    let (port, kept) = unit_sockets(1).unwrap();
    let gateway = managed.start_with(2, port, kept.clone()).unwrap();
    restart_under_load(&managed, gateway, &kept, load);
}

#[test]
fn a_restart_with_sockets_of_a_unit_loses_no_request() {
    restart_with_unit_socket(&FEW);
}

/// Enough connections stay open that workers hand over what they accept, before the drain and during it.
#[test]
fn a_restart_loses_no_request_on_a_connection_that_was_handed_over() {
    restart_with_unit_socket(&Clients { steady: 40, fresh: 8, handed_over: 20.0 });
}

#[test]
fn a_restart_with_sockets_in_the_store_loses_no_request() {
    let managed = ManagedEnvironment::new().unwrap();
    let gateway = Gateway::start(&managed.configuration(2), &managed.options()).unwrap();
    let kept = managed.service_manager.wait_stored(2, SOON).unwrap();
    restart_under_load(&managed, gateway, &kept, &FEW);
}

#[test]
fn a_stored_socket_that_is_no_longer_configured_is_closed() {
    let managed = ManagedEnvironment::new().unwrap();
    let mut gateway = Gateway::start(&managed.configuration(1), &managed.options()).unwrap();
    let old = gateway.address();
    let kept = managed.service_manager.wait_stored(1, SOON).unwrap();
    end(&mut gateway);
    let options = GatewayOptions { handed_over: kept, ..managed.options() };
    let moved = Gateway::start(&managed.configuration(1), &options).unwrap();
    assert_ne!(moved.address(), old);
    let stored = managed.service_manager.wait_stored(1, SOON).unwrap();
    assert_eq!(stored[0].0, format!("hookgate-listen-127.0.0.1_{}", moved.port()));
    moved.wait_log("removed from the file descriptor store", SOON).unwrap();
    drop((gateway, options));
    assert!(TcpStream::connect(old).is_err(), "the socket is still open");
    request_once(&managed.client(moved.port()).unwrap());
}

#[test]
fn a_socket_that_does_not_match_fails_the_start_with_advice() {
    let managed = ManagedEnvironment::new().unwrap();
    let check = |name: &str, socket: OwnedFd, expected: &[&str]| {
        let options = GatewayOptions { handed_over: vec![(name.to_owned(), Arc::new(socket))], ..managed.options() };
        let error = Gateway::start(&managed.configuration(1), &options).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("exit status: 1"), "{text}");
        expected.iter().for_each(|part| assert!(text.contains(part), "no {part:?} in {text}"));
    };
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = elsewhere.local_addr().unwrap().to_string();
    let advice = format!("add \\\"{address}\\\" there, or remove its ListenStream= from the .socket unit");
    check("other", elsewhere.into(), &[&address, "(\\\"other\\\")", "not in listen.addresses", &advice]);
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    check(
        "other",
        datagrams.into(),
        &["descriptor 3 (\\\"other\\\")", "is not a listening TCP socket", "ListenStream="],
    );
    let both = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
    both.set_only_v6(false).unwrap();
    both.bind(&"[::]:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    both.listen(1).unwrap();
    check("other", both.into(), &["takes IPv4 connections too", "BindIPv6Only=ipv6-only"]);
}

#[test]
fn a_second_process_on_the_port_does_not_start_and_takes_no_connection() {
    let gateway = TestGateway::start().unwrap();
    let options = GatewayOptions { port: Some(gateway.daemon.port()), ..GatewayOptions::new(BINARY) };
    let error = Gateway::start(&gateway.environment.configuration().toml(), &options).unwrap_err();
    let text = format!("{error:#}");
    let address = gateway.daemon.address();
    for part in [
        "exit status: 1".to_owned(),
        format!("cannot listen on {address} (listen.addresses): address already in use"),
        format!("another process listens on {address} and would take connections from hookgate"),
        format!("ss -ltnp sport = :{}", address.port()),
    ] {
        assert!(text.contains(&part), "no {part:?} in {text}");
    }
    gateway.still_serves().unwrap();
    assert!(!gateway.daemon.log().contains("another process"), "{}", gateway.daemon.log());
}

#[test]
fn a_process_that_joins_the_port_later_is_logged_until_it_ends() {
    let gateway = TestGateway::start().unwrap();
    let other = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    other.set_reuse_port(true).unwrap();
    other.bind(&gateway.daemon.address().into()).unwrap();
    other.listen(1).unwrap();
    gateway.daemon.wait_log("another process listens on this port and takes connections from hookgate", SOON).unwrap();
    drop(other);
    gateway.daemon.wait_log("the other process on this port has ended", SOON).unwrap();
    gateway.still_serves().unwrap();
}
