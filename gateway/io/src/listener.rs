//! A listening TCP socket: its options, its accept queue, and how it stops.
//!
//! Owns the accept in flight, which is never dropped. Must not decide what becomes of an accepted connection.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use socket2::{Domain, Protocol, Socket, Type};

use crate::backend::Backend;
use crate::epoll;
use crate::ring::{self, AnyDriver};

/// What becomes of the connections in the queue of a listener that stops: the kernel has completed them, nobody accepted them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queued {
    /// They are accepted: with the last descriptor of the socket, they would be reset.
    Accept,
    /// They wait: another process holds the socket, and it or its heir accepts them.
    Leave,
}

/// A listening socket that a worker is to serve.
#[derive(Debug)]
pub struct Listening {
    /// The socket; siblings may have duplicates of it.
    pub descriptor: OwnedFd,
    /// What becomes of its queue at the end.
    pub queued: Queued,
}

/// Makes a listening socket on `address`, one of several that share the port (`SO_REUSEPORT`), and says what address it got.
///
/// # Errors
///
/// From the system calls: the address is in use by another user's process, not of this host, or privileged.
pub fn bind(address: SocketAddr, backlog: u32) -> io::Result<(OwnedFd, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Accepted sockets inherit it: answers are written whole, so waiting to fill a segment only delays them.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    let bound = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok((socket.into(), bound))
}

/// A listening TCP socket.
pub struct Listener {
    channel: Channel,
    queued: Queued,
}

enum Channel {
    Ring(ring::Listener),
    Epoll(epoll::Listener),
}

impl Listener {
    /// Takes a listening socket.
    ///
    /// # Errors
    ///
    /// From the system calls that set or clear `O_NONBLOCK` and register the descriptor.
    pub fn new(backend: Backend, descriptor: OwnedFd, queued: Queued) -> io::Result<Self> {
        let channel = match backend {
            Backend::TokioUring => Channel::Ring(ring::Listener::new(AnyDriver::TokioUring, descriptor)?),
            Backend::Reactor => Channel::Ring(ring::Listener::new(AnyDriver::reactor()?, descriptor)?),
            Backend::Epoll => Channel::Epoll(epoll::Listener::new(descriptor)?),
        };
        Ok(Self { channel, queued })
    }

    /// The next connection, or `None` once [`Self::stop`] was called and the accept queue is empty, or left. A connection that
    /// the kernel gives out while it is being stopped is returned, whatever becomes of the queue.
    ///
    /// Must be awaited to its end: a dropped accept would lose the connection that it was about to return.
    ///
    /// # Errors
    ///
    /// What accept4(2) says, such as `EMFILE`; the caller decides whether to go on.
    pub async fn accept(&self) -> io::Result<Option<OwnedFd>> {
        let accepted = match &self.channel {
            Channel::Ring(listener) => listener.accept().await?,
            Channel::Epoll(listener) => listener.accept().await?,
        };
        match (accepted, self.queued, &self.channel) {
            (Some(descriptor), _, _) => Ok(Some(descriptor)),
            (None, Queued::Leave, _) => Ok(None),
            (None, Queued::Accept, Channel::Ring(listener)) => epoll::accept_queued(listener.descriptor()),
            (None, Queued::Accept, Channel::Epoll(listener)) => epoll::accept_queued(listener.descriptor()),
        }
    }

    /// Ends the wait of [`Self::accept`].
    pub fn stop(&self) {
        match &self.channel {
            Channel::Ring(listener) => listener.stop(),
            Channel::Epoll(listener) => listener.stop(),
        }
    }
}

/// The address of the peer; `None` where it is gone already.
pub fn peer_address(descriptor: &OwnedFd) -> Option<SocketAddr> {
    rustix::net::getpeername(descriptor).ok().flatten().and_then(|address| address.try_into().ok())
}
