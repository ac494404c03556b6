//! A listening TCP socket: its options, its accept queue, and how it stops.
//!
//! Owns the socket options and what happens to the accept queue at the end. Must not decide what happens to an accepted
//! connection.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use socket2::{Domain, Protocol, Socket, Type};

use crate::backend::Backend;
use crate::epoll;
use crate::ring::{self, AnyDriver};

/// What happens to the connections in the accept queue of a listener that stops. The kernel has completed their TCP handshakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queued {
    /// Accept them: the kernel resets them when the last descriptor of the socket is closed.
    Accept,
    /// Leave them: another process holds the socket too, and accepts them.
    Leave,
}

/// A listening socket for a worker, not registered with a backend yet.
#[derive(Debug)]
pub struct Listening {
    /// The socket. Other workers may hold duplicates of the descriptor.
    pub descriptor: OwnedFd,
    /// What happens to its accept queue at the end.
    pub queued: Queued,
}

/// Makes a listening socket on `address`, and returns it with the address that it got. Several sockets may share the port
/// (`SO_REUSEPORT`). `backlog` bounds the accept queue (listen(2)).
///
/// # Errors
///
/// Those of socket(2), setsockopt(2), bind(2) and listen(2): the address is in use without `SO_REUSEPORT` or by another user, does
/// not belong to this host, or its port is privileged.
pub fn bind(address: SocketAddr, backlog: u32) -> io::Result<(OwnedFd, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Accepted sockets inherit it. Answers are written whole, so waiting to fill a segment would only delay them.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    let bound = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok((socket.into(), bound))
}

/// A listening TCP socket.
pub struct Listener {
    listener: AnyListener,
    queued: Queued,
}

enum AnyListener {
    Ring(ring::Listener),
    Epoll(epoll::Listener),
}

impl Listener {
    /// Takes a listening socket. Call it inside [`crate::block_on`] of the same `backend`.
    ///
    /// # Errors
    ///
    /// `O_NONBLOCK` cannot be changed (fcntl(2)), epoll_ctl(2) fails, or this thread runs no reactor.
    pub fn new(backend: Backend, descriptor: OwnedFd, queued: Queued) -> io::Result<Self> {
        let listener = match backend {
            Backend::TokioUring => AnyListener::Ring(ring::Listener::new(AnyDriver::tokio_uring(), descriptor)?),
            Backend::Reactor => AnyListener::Ring(ring::Listener::new(AnyDriver::reactor()?, descriptor)?),
            Backend::Epoll => AnyListener::Epoll(epoll::Listener::new(descriptor)?),
        };
        Ok(Self { listener, queued })
    }

    /// Returns the next connection. After [`Self::stop`] it returns `None`: at once with [`Queued::Leave`], else when the accept
    /// queue is empty. A connection that the kernel accepts during [`Self::stop`] is returned in both cases.
    ///
    /// Await it to its end: a dropped accept loses the connection that the kernel accepts for it.
    ///
    /// # Errors
    ///
    /// Those of accept4(2), such as `EMFILE`. The caller may call again.
    pub async fn accept(&self) -> io::Result<Option<OwnedFd>> {
        let accepted = match &self.listener {
            AnyListener::Ring(listener) => listener.accept().await?,
            AnyListener::Epoll(listener) => listener.accept().await?,
        };
        match (accepted, self.queued, &self.listener) {
            (Some(descriptor), _, _) => Ok(Some(descriptor)),
            (None, Queued::Leave, _) => Ok(None),
            (None, Queued::Accept, AnyListener::Ring(listener)) => epoll::accept_queued(listener.descriptor()),
            (None, Queued::Accept, AnyListener::Epoll(listener)) => epoll::accept_queued(listener.descriptor()),
        }
    }

    /// Stops accepting: a pending [`Self::accept`] completes. A second call does nothing.
    pub fn stop(&self) {
        match &self.listener {
            AnyListener::Ring(listener) => listener.stop(),
            AnyListener::Epoll(listener) => listener.stop(),
        }
    }
}

/// The address of the peer, or `None` if it has none (a Unix socket) or the connection is closed already.
pub fn peer_address(descriptor: &OwnedFd) -> Option<SocketAddr> {
    rustix::net::getpeername(descriptor).ok().flatten().and_then(|address| address.try_into().ok())
}
