//! Connections are spread evenly over the workers, independent of which worker accepts them.

use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;

use hookgate_testkit::gateway::{Gateway, GatewayOptions};
use hookgate_testkit::pki::{Sender, Variant};
use hookgate_testkit::wait::wait_until;
use socket2::{Domain, Socket, Type};

use crate::environment::{BINARY, Environment, PATH, SOON};
use crate::tls_client::{TlsClient, TlsConnection, request};

/// Connections that stay open.
const OPEN: usize = 200;

/// Clients that open them in parallel.
const CLIENTS: usize = 8;

/// The largest ratio of the connections of the busiest worker to those of the least busy one.
const MOST_UNEVEN: f64 = 1.2;

/// The daemon with several workers.
struct Workers {
    gateway: Gateway,
    client: TlsClient,
    count: usize,
    _environment: Environment,
}

impl Workers {
    /// Starts `count` workers. If `shared`, they share a listening socket that is handed over; otherwise each has its own.
    fn start(count: usize, shared: bool, limits: &str) -> Self {
        let environment = Environment::new().unwrap();
        let mut options = GatewayOptions::new(BINARY);
        if shared {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
            socket.listen(1024).unwrap();
            options.port = socket.local_addr().unwrap().as_socket().map(|address| address.port());
            options.handed_over = vec![("hookgate".to_owned(), Arc::new(OwnedFd::from(socket)))];
        }
        let text = environment.toml(limits, "").replace("workers = 1", &format!("workers = {count}"));
        let gateway = Gateway::start(&text, &options).unwrap();
        let identity = environment.identity(Sender::Percolate, Variant::Good).unwrap();
        let client = TlsClient::new(gateway.port(), &environment.pki, &identity).unwrap();
        Self { gateway, client, count, _environment: environment }
    }

    /// The connections of each worker.
    fn connections(&self) -> Vec<f64> {
        let metrics = self.gateway.metrics().unwrap();
        let of = |worker: usize| metrics.sum("hookgate_worker_connections", &[("worker", &worker.to_string())]);
        (0..self.count).map(of).collect()
    }

    /// Waits until the workers have `sum` connections together. Returns those of each.
    fn connections_of(&self, sum: usize) -> Vec<f64> {
        let settled = || self.connections().iter().sum::<f64>() == sum as f64;
        wait_until(&format!("{sum} connections"), SOON, settled).unwrap();
        self.connections()
    }

    fn handed_over(&self) -> f64 {
        self.gateway.metric("hookgate_connections_handed_over_total", &[]).unwrap()
    }

    /// Open descriptors; `None` if this process is not root.
    fn descriptors(&self) -> Option<usize> {
        rustix::process::geteuid().is_root().then(|| self.gateway.fd_count().unwrap())
    }

    fn connect(&self) -> TlsConnection {
        let mut connection = self.client.connect().unwrap();
        assert_eq!(connection.ask(request("POST", PATH, b"{}")).unwrap().status, 200);
        connection
    }

    /// Open connections, each of which has carried a request.
    fn connect_all(&self) -> Vec<TlsConnection> {
        thread::scope(|scope| {
            let client = || (0..OPEN / CLIENTS).map(|_| self.connect()).collect::<Vec<_>>();
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
            clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
        })
    }
}

#[test]
fn connections_are_spread_evenly_over_workers() {
    for (count, shared) in [(2, false), (2, true), (4, false), (4, true)] {
        let workers = Workers::start(count, shared, "handler_idle_connections = 0");
        let before = workers.descriptors();
        let mut connections = workers.connect_all();
        let each = workers.connections_of(OPEN);
        let most = each.iter().copied().fold(0.0, f64::max);
        let least = each.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(most <= MOST_UNEVEN * least, "{count} workers, shared {shared}: {each:?}");
        println!("{count} workers, shared {shared}: {each:?}, {} handed over", workers.handed_over());
        for connection in &mut connections {
            assert_eq!(connection.ask(request("POST", PATH, b"{}")).unwrap().status, 200, "on any worker");
        }
        assert_eq!(workers.gateway.metric("hookgate_connections_active", &[]).unwrap(), OPEN as f64);
        drop(connections);
        assert_eq!(workers.connections_of(0), vec![0.0; count]);
        assert_eq!(workers.gateway.metric("hookgate_connections_active", &[]).unwrap(), 0.0);
        let closed = || workers.descriptors() <= before;
        wait_until("the release of all descriptors", SOON, closed).unwrap();
    }
}

#[test]
fn short_connections_stay_with_the_worker_that_accepted_them() {
    let workers = Workers::start(2, true, "");
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| (0..25).for_each(|_| drop(workers.connect())));
        }
    });
    assert_eq!(workers.handed_over(), 0.0, "few connections were handed over");
}

#[test]
fn all_connections_that_the_limit_allows_are_admitted_whichever_worker_accepts_them() {
    for shared in [false, true] {
        let workers = Workers::start(4, shared, "max_connections = 24");
        let silent: Vec<TcpStream> = (0..24).map(|_| workers.client.connect_tcp().unwrap()).collect();
        assert_eq!(workers.connections_of(24), vec![6.0; 4]);
        let refused = || workers.gateway.metric("hookgate_rejections_total", &[("reason", "connection_limit")]);
        assert_eq!(refused().unwrap(), 0.0);
        let beyond = workers.client.connect_tcp().unwrap();
        wait_until("the end of the oldest", SOON, || refused().unwrap() == 1.0).unwrap();
        assert_eq!(workers.connections(), vec![6.0; 4]);
        drop((silent, beyond));
        workers.connections_of(0);
    }
}
