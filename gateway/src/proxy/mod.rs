//! A proxy before hookgate that passes TLS on and conveys the address of the peer (the PROXY protocol).
//!
//! Owns which sources must send a header ([`Proxies`]), how it is received within bounds, and where a peer is ([`Origin`]). What a header
//! says is read in [`header`]. Must not read a byte beyond the header, nor set a timer: the deadline of the handshake is running.
//!
//! A conveyed address decides about ranges and evidence, so only a proxy that the operator trusts may convey one: [`Proxies::at`] is the one
//! maker of a [`Proxy`], and [`Proxy::origin`] of an [`Origin`] whose address is not that of the connection.

pub mod header;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;

use hookgate_core::ranges::Ranges;
use hookgate_io::Socket;
use thiserror::Error;

use self::header::{Flaw, MAXIMUM_BYTES};
use crate::strangers::{Eviction, SILENT, Stranger};

/// The sources whose connections begin with a header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies(Ranges);

impl Proxies {
    /// Those in `from`. If it is empty, no connection has a header.
    pub fn new(from: Ranges) -> Self {
        Self(from)
    }

    /// The proxy from which a connection comes, if its source is one.
    pub fn at(&self, address: SocketAddr) -> Option<Proxy> {
        self.0.contains(address.ip()).then_some(Proxy { address })
    }
}

/// A proxy that may convey the address of a peer.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
}

/// Where a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    peer: SocketAddr,
    proxy: Option<SocketAddr>,
}

impl Origin {
    /// At the address of its connection.
    pub fn direct(address: SocketAddr) -> Self {
        Self { peer: address, proxy: None }
    }

    /// The address of the peer. The proxy's, if it conveys none.
    pub fn address(&self) -> SocketAddr {
        self.peer
    }

    /// The address of the proxy, if the peer came through one.
    pub fn proxy(&self) -> Option<SocketAddr> {
        self.proxy
    }
}

/// Why a connection from a proxy has no header.
#[derive(Debug, Error)]
pub enum HeaderError {
    /// The proxy, or the deadline sweep, ended the stream before the header was complete.
    #[error("the connection ended before its header was complete")]
    Closed,
    /// The socket failed.
    #[error("the connection failed before its header was complete: {0}")]
    Io(#[from] io::Error),
    /// It gave way to others.
    #[error("{}", .0.refusal().detail())]
    Evicted(Eviction),
    /// What it begins with is no header that hookgate takes.
    #[error(transparent)]
    Flawed(#[from] Flaw),
}

impl Proxy {
    /// Receives the header, and nothing after it.
    ///
    /// # Errors
    ///
    /// [`HeaderError`].
    pub async fn origin(self, socket: &mut Socket, stranger: &Stranger) -> Result<Origin, HeaderError> {
        let conveyed = receive(socket, stranger).await?;
        Ok(Origin { peer: conveyed.unwrap_or(self.address), proxy: Some(self.address) })
    }
}

/// The address that the header conveys, if it does.
async fn receive(socket: &mut Socket, stranger: &Stranger) -> Result<Option<SocketAddr>, HeaderError> {
    // What came before, of a header in several parts. Nearly every header comes whole, and is read where it is.
    let mut parts: Vec<u8> = Vec::new();
    loop {
        let outcome = poll_fn(|context| socket.poll_fill(context)).await;
        if let Some(eviction) = stranger.evicted() {
            return Err(HeaderError::Evicted(eviction));
        }
        if outcome? == 0 {
            return Err(HeaderError::Closed);
        }
        let before = parts.len();
        let received = socket.buffered();
        let found = if before == 0 {
            header::read(received)?
        } else {
            // At most a whole header, in exactly the room that it takes.
            let added = &received[..received.len().min(MAXIMUM_BYTES - before)];
            parts.reserve_exact(added.len());
            parts.extend_from_slice(added);
            header::read(&parts)?
        };
        if let Some(header) = found {
            // A part without the end of the header is shorter than the header.
            socket.consume(header.length.saturating_sub(before));
            return Ok(header.source);
        }
        if before == 0 {
            parts.extend_from_slice(received);
        }
        // `read` finds the end, or a flaw, within `MAXIMUM_BYTES`, so these were not reached, and `parts` has all that was received.
        socket.consume(usize::MAX);
        stranger.holds(SILENT + parts.capacity()).map_err(HeaderError::Evicted)?;
    }
}

#[cfg(test)]
mod tests;
