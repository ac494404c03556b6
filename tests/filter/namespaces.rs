//! Two network namespaces, one for the server and one for its clients, with a veth pair between them.
//!
//! Owns their names, their addresses and their removal. The interface is `eth0` on both sides.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hookgate_filter::{Attach, Filter, Policy};
use hookgate_testkit::namespace::Namespace;
use socket2::{Domain, Socket, Type};

use crate::network::{allowing, start};

/// The server's addresses.
pub(crate) const SERVER: [&str; 2] = ["198.51.100.1", "2001:db8:ffff::1"];
/// The addresses of a client that the policies of the tests allow.
pub(crate) const ALLOWED: [&str; 2] = ["198.51.100.10", "2001:db8:ffff::10"];
/// The addresses of a client that they do not allow.
pub(crate) const FOREIGN: [&str; 2] = ["198.51.100.66", "2001:db8:ffff::66"];

/// The namespaces; removed on drop.
pub(crate) struct Network {
    // The first field, so that the client's end of the pair is removed first.
    client: Namespace,
    server: Namespace,
}

impl Network {
    pub(crate) fn new() -> Self {
        let network = Self { client: Namespace::new("client").unwrap(), server: Namespace::new("server").unwrap() };
        network.make_interfaces();
        network
    }

    /// Deletes the pair, as when a driver is loaded again, and makes another one with the same names and addresses.
    pub(crate) fn make_interfaces_again(&self) {
        self.delete_interfaces();
        self.make_interfaces();
    }

    /// Deletes the pair.
    pub(crate) fn delete_interfaces(&self) {
        ip(&["-n", self.server.name(), "link", "delete", "eth0"]);
    }

    /// Makes an interface of the server that has a program before it has the name `eth0`.
    pub(crate) fn make_occupied_interface(&self) -> Filter {
        let server = self.server.name();
        ip(&["-n", server, "link", "add", "eth9", "type", "veth", "peer", "name", "eth0", "netns", self.client.name()]);
        let policy = Policy { interfaces: vec!["eth9".to_owned()], ..allowing(Attach::Native) };
        let filter = start(self, policy);
        ip(&["-n", server, "link", "set", "eth9", "name", "eth0"]);
        filter
    }

    /// Makes the pair.
    pub(crate) fn make_interfaces(&self) {
        let (server, client) = (self.server.name(), self.client.name());
        ip(&["-n", server, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", client]);
        for (namespace, addresses) in [(server, SERVER.to_vec()), (client, [ALLOWED, FOREIGN].concat())] {
            for address in addresses {
                let length = if address.contains(':') { 64 } else { 24 };
                let address = format!("{address}/{length}");
                let nodad: &[&str] = if length == 64 { &["nodad"] } else { &[] };
                ip(&[&["-n", namespace, "address", "add", &address, "dev", "eth0"], nodad].concat());
            }
            ip(&["-n", namespace, "link", "set", "eth0", "up"]);
        }
    }

    /// Runs `work` in the namespace of the server. The sockets and links that it makes stay there.
    pub(crate) fn on_server<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.server.run(|| Ok(work())).unwrap()
    }

    /// Runs `work` in the namespace of the clients.
    pub(crate) fn on_client<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.client.run(|| Ok(work())).unwrap()
    }

    /// Sends `ok` to every connection to these ports, at both addresses.
    pub(crate) fn serve(&self, ports: &[u16]) -> Server {
        let addresses = SERVER.iter().map(|address| address.parse::<IpAddr>().unwrap());
        let addresses: Vec<_> =
            addresses.flat_map(|ip| ports.iter().map(move |port| SocketAddr::new(ip, *port))).collect();
        let listeners = addresses.iter().map(|address| self.on_server(|| TcpListener::bind(address).unwrap()));
        let done = Arc::new(AtomicBool::new(false));
        let threads = listeners.map(|listener| {
            listener.set_nonblocking(true).unwrap();
            let done = Arc::clone(&done);
            thread::spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    match listener.accept() {
                        Ok((mut stream, _)) => drop(stream.write_all(b"ok")),
                        Err(_) => thread::sleep(Duration::from_millis(1)),
                    }
                }
            })
        });
        Server { threads: threads.collect(), done }
    }

    /// Connects from `source` to the server's address of the same family, and reads the response, each within `timeout`.
    pub(crate) fn connect(&self, source: &str, port: u16, timeout: Duration) -> std::io::Result<String> {
        self.on_client(|| {
            let source: IpAddr = source.parse().unwrap();
            let server: IpAddr = SERVER[usize::from(source.is_ipv6())].parse().unwrap();
            let connect = || {
                let domain = if source.is_ipv6() { Domain::IPV6 } else { Domain::IPV4 };
                let socket = Socket::new(domain, Type::STREAM, None)?;
                socket.bind(&SocketAddr::new(source, 0).into())?;
                socket.connect_timeout(&SocketAddr::new(server, port).into(), timeout).map(|()| socket)
            };
            // On a busy host the neighbour may not be found in time. A packet that the filter drops is silence, not this.
            let is_lost = |error: &std::io::Error| error.kind() == std::io::ErrorKind::HostUnreachable;
            let socket = connect().or_else(|error| if is_lost(&error) { connect() } else { Err(error) })?;
            socket.set_read_timeout(Some(timeout))?;
            let mut answer = String::new();
            (&socket).read_to_string(&mut answer)?;
            Ok(answer)
        })
    }
}

/// A running server; stops on drop.
pub(crate) struct Server {
    threads: Vec<JoinHandle<()>>,
    done: Arc<AtomicBool>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// Runs ip(8), which must succeed, and returns its standard output.
pub(crate) fn ip(arguments: &[&str]) -> String {
    hookgate_testkit::namespace::ip(arguments).unwrap()
}
