//! connect(2) to a handler, over a Unix socket or TCP.
//!
//! Owns what the two have in common: a connect that ends at once, or is to be asked again. Must not wait.
//!
//! A connect over the loopback interface has ended when connect(2) returns, as a rule: the kernel delivers the packets of the handshake in the same
//! call. Otherwise, as if the accept queue is full, the same call on the same socket asks how far it is.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use hookgate_core::route::HandlerAddress;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, getsockname, sockopt};

/// A socket for one connection to `address`.
pub(super) fn new_socket(address: &HandlerAddress) -> Result<OwnedFd, Errno> {
    let family = match address {
        HandlerAddress::Unix(_) => AddressFamily::UNIX,
        HandlerAddress::Tcp(SocketAddr::V4(_)) => AddressFamily::INET,
        HandlerAddress::Tcp(SocketAddr::V6(_)) => AddressFamily::INET6,
    };
    rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
}

/// Connects, or asks how far the connect is.
///
/// # Errors
///
/// `EAGAIN` if the handler has not taken the connection yet; then the same call may succeed later. Everything else is final.
pub(super) fn try_connect(descriptor: &OwnedFd, address: &HandlerAddress) -> Result<(), Errno> {
    match address {
        HandlerAddress::Unix(path) => connect(descriptor, &SocketAddrUnix::new(path)?),
        HandlerAddress::Tcp(address) => {
            let ended = match connect(descriptor, address) {
                Err(Errno::INPROGRESS) => connect(descriptor, address),
                ended => ended,
            };
            match ended {
                Ok(()) | Err(Errno::ISCONN) => begin_tcp(descriptor, *address),
                Err(Errno::INPROGRESS | Errno::ALREADY | Errno::INTR) => Err(Errno::AGAIN),
                Err(error) => Err(error),
            }
        }
    }
}

/// The connection is made. While nothing listens on a port of the range for clients, the kernel may choose it for this end too, and then both
/// are this socket (simultaneous open, RFC 9293, section 3.5). It would answer requests with themselves, and keep the port from the handler.
fn begin_tcp(descriptor: &OwnedFd, address: SocketAddr) -> Result<(), Errno> {
    let own = SocketAddr::try_from(getsockname(descriptor)?).map_err(|_| Errno::AFNOSUPPORT)?;
    if own == address {
        return Err(Errno::CONNREFUSED);
    }
    sockopt::set_tcp_nodelay(descriptor, true)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

    use std::net::TcpListener;

    use super::*;

    fn connect_to(address: SocketAddr) -> Result<OwnedFd, Errno> {
        let address = HandlerAddress::Tcp(address);
        let descriptor = new_socket(&address)?;
        for _ in 0..1000 {
            match try_connect(&descriptor, &address) {
                Ok(()) => return Ok(descriptor),
                Err(Errno::AGAIN) => std::thread::sleep(std::time::Duration::from_millis(10)),
                Err(error) => return Err(error),
            }
        }
        Err(Errno::TIMEDOUT)
    }

    #[test]
    fn a_port_is_connected_to_or_refuses() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let address = listener.local_addr().unwrap();
            let descriptor = connect_to(address).unwrap();
            assert!(sockopt::tcp_nodelay(&descriptor).unwrap());
            assert_eq!(listener.accept().unwrap().1, getsockname(&descriptor).unwrap().try_into().unwrap());
            drop((descriptor, listener));
            assert_eq!(connect_to(address).unwrap_err(), Errno::CONNREFUSED, "{address}");
        }
    }

    #[test]
    fn a_connection_of_a_socket_to_itself_is_refused() {
        let address = HandlerAddress::Tcp(([127, 0, 0, 1], 0).into());
        let descriptor = new_socket(&address).unwrap();
        rustix::net::bind(&descriptor, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let own: SocketAddr = getsockname(&descriptor).unwrap().try_into().unwrap();
        assert_eq!(try_connect(&descriptor, &HandlerAddress::Tcp(own)), Err(Errno::CONNREFUSED));
    }
}
