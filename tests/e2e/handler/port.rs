//! A handler at a loopback port: the same pool, field rules and deadlines as behind a Unix socket.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hookgate_testkit::gateway::Signal;
use hookgate_testkit::handler::{Behaviour, Handler};
use hookgate_testkit::wait::wait_until;
use socket2::{Domain, Socket, Type};

use super::answer_all;
use crate::environment::{Environment, PATH, SOON, handler_socket};
use crate::problem::assert_problem;
use crate::test_gateway::TestGateway;
use crate::tls_client::request;

/// A handler at a port that passes everything to [`TestGateway::handler`], and counts connections.
struct Port {
    address: SocketAddr,
    connections: Arc<AtomicU64>,
}

/// Binds so that the port can be bound again, as servers do.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(128)?;
    Ok(socket.into())
}

impl Port {
    fn start(listener: TcpListener, handler: &Handler) -> Self {
        let (address, connections) = (listener.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
        let (counted, path) = (Arc::clone(&connections), handler.path().to_owned());
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                counted.fetch_add(1, Ordering::Relaxed);
                let behind = std::os::unix::net::UnixStream::connect(&path).unwrap();
                let (from, to) = (stream.try_clone().unwrap(), behind.try_clone().unwrap());
                thread::spawn(move || pass(from, to));
                thread::spawn(move || pass(behind, stream));
            }
        });
        Self { address, connections }
    }

    fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Passes on what comes until the end, and then the end of both directions.
fn pass<From: Read, To: Write + Shut>(mut from: From, mut to: To) {
    let _ = io::copy(&mut from, &mut to);
    to.shut();
}

trait Shut {
    fn shut(&self);
}

impl Shut for TcpStream {
    fn shut(&self) {
        let _ = self.shutdown(std::net::Shutdown::Both);
    }
}

impl Shut for std::os::unix::net::UnixStream {
    fn shut(&self) {
        let _ = self.shutdown(std::net::Shutdown::Both);
    }
}

fn at(address: SocketAddr) -> impl FnOnce(&Environment) -> String {
    move |environment| {
        let toml = environment.toml("handler_timeout_ms = 1500", "");
        toml.replace(&handler_socket(&environment.events), &format!("\"http://{address}\""))
    }
}

/// A daemon whose handler listens at a port of this address.
fn start(address: &str) -> (TestGateway, Port) {
    let environment = Environment::new().unwrap();
    let port = Port::start(bind(address.parse().unwrap()).unwrap(), &environment.events);
    (TestGateway::in_environment(environment, at(port.address)).unwrap(), port)
}

#[test]
fn requests_share_a_connection_to_a_port() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let (gateway, port) = start(address);
        let mut connection = gateway.connect().unwrap();
        for length in [0, 2, 100_000, 1_000_000] {
            let response = connection.ask(request("POST", PATH, &vec![b'x'; length])).unwrap();
            assert_eq!(response.status, 200, "{}", response.text());
            assert_eq!(gateway.handler().requests().pop().unwrap().body.len(), length);
        }
        let seen = gateway.handler().requests().remove(0);
        assert_eq!(seen.field("x-hookgate-provider"), Some("percolate"), "{seen:?}");
        assert!(seen.field("client-cert").is_some());
        assert_eq!((port.connections(), gateway.handler().request_count()), (1, 4));
        let label = format!("http://{}", port.address);
        let made = gateway.daemon.metric("hookgate_handler_connections_total", &[("handler", &label)]).unwrap();
        assert_eq!(made, 1.0);
        // It is kept for less than common servers keep it.
        gateway.handler().wait_no_connection(Duration::from_secs(30)).unwrap();
    }
}

#[test]
fn a_handler_at_a_port_has_the_time_of_every_handler() {
    let (gateway, _port) = start("127.0.0.1:0");
    gateway.handler().set_behaviour(Behaviour::NeverAnswer);
    let begun = Instant::now();
    let response = gateway.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap();
    assert_problem(&response, 504, "handler_timeout", "never");
    assert!(begun.elapsed() >= Duration::from_millis(1500));
    gateway.handler().set_behaviour(Behaviour::CloseBeforeAnswering);
    let response = gateway.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap();
    assert_problem(&response, 502, "handler_unavailable", "closed");
}

#[test]
fn a_port_without_a_listener_is_told_and_one_that_starts_is_found_at_once() {
    let environment = Environment::new().unwrap();
    let free = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let gateway = TestGateway::in_environment(environment, at(address)).unwrap();
    let mut connection = gateway.connect().unwrap();
    for _ in 0..20 {
        let response = connection.ask(request("POST", PATH, b"{}")).unwrap();
        assert_problem(&response, 502, "handler_unavailable", "no listener");
    }
    gateway.daemon.wait_log("no process listens on the port; start the handler", SOON).unwrap();
    let _port = Port::start(bind(address).unwrap(), gateway.handler());
    assert_eq!(connection.ask(request("POST", PATH, b"{}")).unwrap().status, 200);
}

/// The kernel takes no connection for a queue that is full, and tells nothing; the requests wait in line.
#[test]
fn requests_before_a_full_accept_queue_of_a_port_are_served_when_there_is_room() {
    let environment = Environment::new().unwrap();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    let write = move |environment: &Environment| at(address)(environment).replace("= 1500", "= 30000");
    let gateway = TestGateway::in_environment(environment, write).unwrap();
    let mut connections: Vec<_> = (0..20).map(|_| gateway.connect().unwrap()).collect();
    for connection in &mut connections {
        connection.send(request("POST", PATH, b"{}")).unwrap();
    }
    let in_flight = || gateway.daemon.metric("hookgate_handler_requests_in_flight", &[]).unwrap();
    wait_until("all requests", SOON, || in_flight() == 20.0).unwrap();
    answer_all(move || listener.accept().map(|(stream, _)| stream));
    for connection in &mut connections {
        assert_eq!(connection.response().unwrap().text(), "ok");
    }
}

#[test]
fn a_port_and_a_socket_stand_in_for_each_other() {
    let environment = Environment::new().unwrap();
    let port = Port::start(bind("127.0.0.1:0".parse().unwrap()).unwrap(), &environment.events);
    let gone = environment.path("gone.sock").display().to_string();
    let address = port.address;
    let write = move |environment: &Environment| {
        let list = format!("[\"unix:{gone}\", \"http://{address}\"]");
        environment.toml("", "").replace(&handler_socket(&environment.events), &list)
    };
    let gateway = TestGateway::in_environment(environment, write).unwrap();
    for _ in 0..10 {
        assert_eq!(gateway.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap().status, 200);
    }
    assert_eq!(gateway.handler().request_count(), 10);
}

/// What a thread that reads from peers may not do, it does not get back.
#[test]
fn a_reload_to_another_port_asks_for_a_restart_if_the_kernel_confines_the_workers() {
    let (gateway, _port) = start("127.0.0.1:0");
    let other = Port::start(bind("127.0.0.1:0".parse().unwrap()).unwrap(), gateway.handler());
    let toml = at(other.address)(&gateway.environment);
    gateway.daemon.write_configuration(&toml).unwrap();
    gateway.daemon.signal(Signal::HUP).unwrap();
    let loads = || gateway.reloads("ok").unwrap() + gateway.reloads("error").unwrap_or(0.0);
    wait_until("the reload", SOON, || loads() == 2.0).unwrap();
    let is_confined = gateway.reloads("error").unwrap_or(0.0) == 1.0;
    assert_eq!(gateway.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap().status, 200);
    assert_eq!(other.connections(), u64::from(!is_confined));
    if !is_confined {
        eprintln!("SKIPPED: to forbid to connect takes Landlock of Linux 6.7");
        return;
    }
    let reason = format!("the handler http://{} is at a port that no handler had at the start", other.address);
    gateway.daemon.wait_log(&reason, SOON).unwrap();
    // The same port at another address, or a socket, is no other port.
    let socket = gateway.environment.toml("", "");
    gateway.reload(&socket).unwrap();
    assert_eq!(gateway.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap().status, 200);
}
