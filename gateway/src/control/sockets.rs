//! Listening sockets: taken over from the service manager or bound here, and distributed to the workers.
//!
//! Owns the origin of each listening socket, the file descriptor store, and which worker serves which socket. A socket that the
//! service manager holds too outlives this process: new connections wait in its queue for the next process. So the sockets that are
//! bound here are given to the service manager's file descriptor store, and the next process takes them over. No other process may
//! listen on the same port ([`sharing`]). Must not accept connections: [`crate::accept`] does.

pub(super) mod sharing;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::Context;
use rustix::net::sockopt;
use systemd::daemon;
use thiserror::Error;

use self::sharing::{Inodes, PortWatch, rivals};
use super::service;
use crate::config::Listen;
use hookgate_io::{Listening, Queued};

/// The beginning of the names of hookgate's sockets in the file descriptor store; the address follows.
const STORED: &str = "hookgate-listen-";

/// Why a socket that was handed over cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum SocketsError {
    /// It is not a listening TCP socket.
    #[error(
        "descriptor {descriptor} ({name:?}), which the service manager handed over, is not a listening TCP socket; \
         in the .socket unit use ListenStream= with an IP address and port, and Accept=no"
    )]
    NotListening { descriptor: i32, name: String },
    /// Its address is not configured.
    #[error(
        "the service manager handed over a socket on {address} ({name:?}), which is not in listen.addresses; \
         add \"{address}\" there, or remove its ListenStream= from the .socket unit"
    )]
    NotConfigured { address: SocketAddr, name: String },
    /// It has an IPv6 address and takes IPv4 connections too.
    #[error(
        "the socket on {address} ({name:?}), which the service manager handed over, takes IPv4 connections too; \
         set BindIPv6Only=ipv6-only in the .socket unit, and restart that unit"
    )]
    TakesBoth { address: SocketAddr, name: String },
    /// It cannot be bound.
    #[error("cannot listen on {address} (listen.addresses): {reason}")]
    Bind { address: SocketAddr, reason: String },
    /// Another process listens there.
    #[error(
        "cannot listen on {address} (listen.addresses): address already in use: another process listens on {other} and would \
         take connections from hookgate; `ss -ltnp sport = :{port}` shows it; end it, then start hookgate", port = address.port()
    )]
    Shared { address: SocketAddr, other: SocketAddr },
}

impl SocketsError {
    /// The configured address that it is about, if it is about one.
    pub(super) fn configured(&self) -> Option<SocketAddr> {
        match self {
            Self::Bind { address, .. } | Self::Shared { address, .. } => Some(*address),
            Self::NotListening { .. } | Self::NotConfigured { .. } | Self::TakesBoth { .. } => None,
        }
    }
}

/// A listening socket that the service manager handed over.
#[derive(Debug)]
struct HandedOver {
    name: String,
    address: SocketAddr,
    descriptor: OwnedFd,
}

impl HandedOver {
    /// Whether it comes from the file descriptor store and not from a .socket unit.
    fn is_stored(&self) -> bool {
        self.name.starts_with(STORED)
    }
}

/// The open listening sockets.
pub(super) struct Opened {
    /// The sockets of each worker.
    pub(super) workers: Vec<Vec<Listening>>,
    /// The addresses, with the actual port in place of port 0.
    pub(super) addresses: Vec<SocketAddr>,
    /// A watch over their ports.
    pub(super) ports: PortWatch,
}

/// Opens every configured address for `workers` workers. Every worker gets at least one socket of each address.
///
/// Takes over the descriptors of LISTEN_FDS, so it may be called only once. The variables stay in the environment: they are valid for
/// this process only, and it starts no other.
///
/// # Errors
///
/// If an address cannot be bound, another process listens on it, or a socket that was handed over does not match the configuration.
pub(super) fn open(listen: &Listen, workers: usize) -> anyhow::Result<Opened> {
    let handed_over = receive()?;
    refuse_rivals(&listen.addresses, &handed_over)?;
    let (claimed, left) = claim(&listen.addresses, handed_over);
    discard(left)?;
    let (mut listeners, mut addresses) = ((0..workers).map(|_| Vec::new()).collect::<Vec<_>>(), Vec::new());
    let mut stored = 0;
    for (address, sockets) in listen.addresses.iter().zip(claimed) {
        let (address, sockets) = match sockets.first() {
            Some(first) => (first.address, sockets.into_iter().map(|socket| prepare(socket, listen.backlog)).collect()),
            None => bind(*address, listen.backlog, workers)?,
        };
        stored += sockets.iter().filter(|socket| socket.queued == Queued::Accept).count();
        distribute(sockets, &mut listeners).with_context(|| format!("cannot duplicate the socket on {address}"))?;
        addresses.push(address);
    }
    if let Some(capacity) = service::store_capacity().filter(|capacity| *capacity < stored) {
        tracing::warn!(
            sockets = stored,
            capacity,
            "the file descriptor store is too small, so a restart refuses connections; raise FileDescriptorStoreMax="
        );
    }
    let own = Inodes::of(listeners.iter().flatten().map(|listening| &listening.descriptor));
    let ports = PortWatch::new(addresses.clone(), own);
    Ok(Opened { workers: listeners, addresses, ports })
}

/// Refuses to share a port. Called before a socket is bound: from then on, the kernel would divide the connections.
fn refuse_rivals(addresses: &[SocketAddr], handed_over: &[HandedOver]) -> Result<(), SocketsError> {
    let own = Inodes::of(handed_over.iter().map(|socket| &socket.descriptor));
    match rivals(addresses, &own).first() {
        Some((address, other)) => Err(SocketsError::Shared { address: *address, other: *other }),
        None => Ok(()),
    }
}

/// The sockets that the service manager handed over to this process.
fn receive() -> anyhow::Result<Vec<HandedOver>> {
    let descriptors = daemon::listen_fds_with_names().context("cannot take over the sockets of LISTEN_FDS")?;
    let mut sockets = Vec::with_capacity(descriptors.len());
    for (descriptor, name) in descriptors.iter() {
        let name = name.to_string_lossy().into_owned();
        let Ok(listener) = daemon::tcp_listener(descriptor) else {
            return Err(SocketsError::NotListening { descriptor, name }.into());
        };
        let address =
            listener.local_addr().with_context(|| format!("cannot read the address of descriptor {descriptor}"))?;
        refuse_both(&listener, address, &name)?;
        sockets.push(HandedOver { name, address, descriptor: listener.into() });
    }
    Ok(sockets)
}

/// Refuses a socket on `[::]` that takes IPv4 connections too: their peers would appear under IPv4-mapped IPv6 addresses instead of the
/// addresses that the configuration names.
fn refuse_both(listener: &TcpListener, address: SocketAddr, name: &str) -> anyhow::Result<()> {
    let wildcard = address.is_ipv6() && address.ip().is_unspecified();
    if wildcard && !sockopt::ipv6_v6only(listener).context("cannot read IPV6_V6ONLY")? {
        return Err(SocketsError::TakesBoth { address, name: name.to_owned() }.into());
    }
    Ok(())
}

/// Assigns each socket to the address that it has, and returns the sockets of each address, and those that are left. Port 0 gets the
/// sockets of the first port on its IP address that no other entry names.
fn claim(addresses: &[SocketAddr], sockets: Vec<HandedOver>) -> (Vec<Vec<HandedOver>>, Vec<HandedOver>) {
    let mut claimed: Vec<Vec<HandedOver>> = addresses.iter().map(|_| Vec::new()).collect();
    let mut left = Vec::new();
    for socket in sockets {
        match addresses.iter().position(|address| *address == socket.address) {
            Some(index) => claimed[index].push(socket),
            None => left.push(socket),
        }
    }
    for (address, claimed) in addresses.iter().zip(&mut claimed).filter(|(address, _)| address.port() == 0) {
        let same_host = |socket: &&HandedOver| {
            let mut wanted = *address;
            wanted.set_port(socket.address.port());
            wanted == socket.address
        };
        let Some(found) = left.iter().find(same_host).map(|socket| socket.address) else { continue };
        claimed.extend(left.extract_if(.., |socket| socket.address == found));
    }
    (claimed, left)
}

/// Closes sockets from the store whose address is no longer configured. Such a socket of a .socket unit is an error, because its
/// connections would wait for ever.
fn discard(sockets: Vec<HandedOver>) -> Result<(), SocketsError> {
    for socket in sockets {
        let HandedOver { name, address, .. } = &socket;
        if !socket.is_stored() {
            return Err(SocketsError::NotConfigured { address: *address, name: name.clone() });
        }
        service::forget(name);
        tracing::info!(%address, "no longer in listen.addresses; closed, and removed from the file descriptor store");
    }
    Ok(())
}

/// Sets the options that [`hookgate_io::bind`] sets. If that fails, the socket is used as it is.
fn prepare(socket: HandedOver, backlog: u32) -> Listening {
    let queued = if socket.is_stored() { Queued::Accept } else { Queued::Leave };
    let HandedOver { address, descriptor, .. } = socket;
    let outcome = sockopt::set_tcp_nodelay(&descriptor, true)
        .and_then(|()| rustix::net::listen(&descriptor, i32::try_from(backlog).unwrap_or(i32::MAX)));
    if let Err(error) = outcome {
        tracing::warn!(%address, %error, "cannot set the options of a socket that was handed over; it keeps its own");
    }
    Listening { descriptor, queued }
}

/// Binds one socket per worker to `address`, and gives them to the file descriptor store.
fn bind(address: SocketAddr, backlog: u32, workers: usize) -> anyhow::Result<(SocketAddr, Vec<Listening>)> {
    let mut address = address;
    let mut sockets = Vec::with_capacity(workers);
    for _ in 0..workers {
        let (descriptor, actual) = hookgate_io::bind(address, backlog)
            .map_err(|error| SocketsError::Bind { address, reason: format!("{error}{}", bind_hint(&error)) })?;
        // With port 0, the other workers share the port that the first one got.
        address = actual;
        sockets.push(Listening { descriptor, queued: Queued::Accept });
    }
    let descriptors: Vec<BorrowedFd<'_>> = sockets.iter().map(|socket| socket.descriptor.as_fd()).collect();
    service::store(&store_name(address), &descriptors);
    Ok((address, sockets))
}

/// What to do about an address that cannot be bound.
pub(super) fn bind_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another process listens there (`ss -ltnp` shows which): stop it, or write another port"
        }
        io::ErrorKind::AddrNotAvailable => "; no interface of this host has this address (`ip address` lists them)",
        io::ErrorKind::PermissionDenied => {
            "; a port below 1024 needs CAP_NET_BIND_SERVICE: start hookgate by its unit, or write a higher port"
        }
        _ => "",
    }
}

/// The name of the sockets on `address` in the store. Each address has its own name, because sockets are removed by name. A name must
/// not contain a colon (sd_pid_notify_with_fds(3), FDNAME).
fn store_name(address: SocketAddr) -> String {
    format!("{STORED}{address}").replace(':', "_")
}

/// Distributes the sockets of one address: every socket has a worker, and every worker has a socket.
fn distribute(sockets: Vec<Listening>, workers: &mut [Vec<Listening>]) -> io::Result<()> {
    let count = sockets.len();
    for (index, socket) in sockets.into_iter().enumerate() {
        let (first, others) = servers(index, count, workers.len());
        for worker in others {
            let descriptor = socket.descriptor.try_clone()?;
            workers[worker].push(Listening { descriptor, queued: socket.queued });
        }
        workers[first].push(socket);
    }
    Ok(())
}

/// The workers that serve socket `index`: one if there are at least as many sockets as workers, else every `sockets`-th worker. The first
/// one keeps the descriptor, the others get duplicates.
fn servers(index: usize, sockets: usize, workers: usize) -> (usize, impl Iterator<Item = usize>) {
    let first = index % workers;
    (first, (first..workers).step_by(sockets).skip(1))
}

#[cfg(test)]
mod tests;
