//! Listening sockets: handed over by the service manager, else bound here; dealt out to the workers.
//!
//! Owns where a listening socket comes from, who holds it beside us, and which worker serves it. A socket that the service
//! manager holds lives on when we end: what arrives meanwhile waits in its queue for the process after us. So what we bind
//! ourselves is given to the service manager's file descriptor store, and comes back from it at the next start. Must not
//! accept: that is for `accept`.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::Context;
use rustix::net::sockopt;
use systemd::daemon;
use thiserror::Error;

use super::service;
use crate::config::Listen;
use hookgate_io::{Listening, Queued};

/// What the names of our sockets in the file descriptor store begin with; the address follows.
const STORED: &str = "hookgate-listen-";

/// Why a socket that was handed over cannot be served.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum SocketsError {
    /// It is no listening TCP socket.
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
    /// It takes IPv4 connections under an IPv6 address.
    #[error(
        "the socket on {address} ({name:?}), which the service manager handed over, takes IPv4 connections too; \
         write BindIPv6Only=ipv6-only into the .socket unit, and restart that unit"
    )]
    TakesBoth { address: SocketAddr, name: String },
}

/// A listening socket that the service manager handed over.
#[derive(Debug)]
struct HandedOver {
    name: String,
    address: SocketAddr,
    descriptor: OwnedFd,
}

impl HandedOver {
    /// Whether it is one of ours that comes back, rather than one of a .socket unit.
    fn is_stored(&self) -> bool {
        self.name.starts_with(STORED)
    }
}

/// What was opened: every worker's sockets, and the addresses that they have.
pub(super) struct Opened {
    pub(super) workers: Vec<Vec<Listening>>,
    pub(super) addresses: Vec<SocketAddr>,
}

/// Opens every configured address for `workers` workers; every worker gets at least one socket of each.
///
/// Takes over the process's descriptors from LISTEN_FDS, so it is called once. The variables themselves stay: they name this
/// process and no other, and it starts none.
///
/// # Errors
///
/// An address cannot be bound, or what was handed over does not fit the configuration.
pub(super) fn open(listen: &Listen, workers: usize) -> anyhow::Result<Opened> {
    let (claimed, left) = claim(&listen.addresses, receive()?);
    discard(left)?;
    let mut opened = Opened { workers: (0..workers).map(|_| Vec::new()).collect(), addresses: Vec::new() };
    let mut stored = 0;
    for (address, sockets) in listen.addresses.iter().zip(claimed) {
        let (address, sockets) = match sockets.first() {
            Some(first) => (first.address, sockets.into_iter().map(|socket| prepare(socket, listen.backlog)).collect()),
            None => bind(*address, listen.backlog, workers)?,
        };
        stored += sockets.iter().filter(|socket| socket.queued == Queued::Accept).count();
        deal(sockets, &mut opened.workers).with_context(|| format!("the socket on {address} cannot be shared"))?;
        opened.addresses.push(address);
    }
    if let Some(capacity) = service::store_capacity().filter(|capacity| *capacity < stored) {
        tracing::warn!(
            sockets = stored,
            capacity,
            "the file descriptor store is too small, so a restart refuses connections; raise FileDescriptorStoreMax="
        );
    }
    Ok(opened)
}

/// What the service manager handed over to this process.
fn receive() -> anyhow::Result<Vec<HandedOver>> {
    let descriptors = daemon::listen_fds_with_names().context("the sockets handed over (LISTEN_FDS) are unreadable")?;
    let mut sockets = Vec::with_capacity(descriptors.len());
    for (descriptor, name) in descriptors.iter() {
        let name = name.to_string_lossy().into_owned();
        let Ok(listener) = daemon::tcp_listener(descriptor) else {
            return Err(SocketsError::NotListening { descriptor, name }.into());
        };
        let address = listener.local_addr().with_context(|| format!("descriptor {descriptor} has no address"))?;
        refuse_both(&listener, address, &name)?;
        sockets.push(HandedOver { name, address, descriptor: listener.into() });
    }
    Ok(sockets)
}

/// An IPv6 address takes no IPv4 connections here, whoever bound it: their peers would have other addresses than configured.
fn refuse_both(listener: &TcpListener, address: SocketAddr, name: &str) -> anyhow::Result<()> {
    let wildcard = address.is_ipv6() && address.ip().is_unspecified();
    if wildcard && !sockopt::ipv6_v6only(listener).context("reading IPV6_V6ONLY")? {
        return Err(SocketsError::TakesBoth { address, name: name.to_owned() }.into());
    }
    Ok(())
}

/// Gives to each of `addresses` the sockets that have it, and returns the others. Port 0 takes the sockets of the first port
/// of its IP address that nobody else wants.
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

/// Closes what is no longer configured and came from our store; what a .socket unit has beyond the configuration is an error,
/// since connections to it would wait for ever.
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

/// Sets what [`hookgate_io::bind`] sets. A socket on which that fails still listens, as whoever made it wanted.
fn prepare(socket: HandedOver, backlog: u32) -> Listening {
    let queued = if socket.is_stored() { Queued::Accept } else { Queued::Leave };
    let HandedOver { address, descriptor, .. } = socket;
    let outcome = sockopt::set_tcp_nodelay(&descriptor, true)
        .and_then(|()| rustix::net::listen(&descriptor, i32::try_from(backlog).unwrap_or(i32::MAX)));
    if let Err(error) = outcome {
        tracing::warn!(%address, %error, "options of the socket that was handed over stay as they are");
    }
    Listening { descriptor, queued }
}

/// Binds `address` once a worker, and gives the sockets to the file descriptor store.
fn bind(address: SocketAddr, backlog: u32, workers: usize) -> anyhow::Result<(SocketAddr, Vec<Listening>)> {
    let mut address = address;
    let mut sockets = Vec::with_capacity(workers);
    for _ in 0..workers {
        let (descriptor, actual) = hookgate_io::bind(address, backlog)
            .with_context(|| format!("cannot listen on {address} (listen.addresses)"))?;
        // Where port 0 was asked for, the other workers share the port that the first one got.
        address = actual;
        sockets.push(Listening { descriptor, queued: Queued::Accept });
    }
    let descriptors: Vec<BorrowedFd<'_>> = sockets.iter().map(|socket| socket.descriptor.as_fd()).collect();
    service::store(&store_name(address), &descriptors);
    Ok((address, sockets))
}

/// The name of the sockets on `address` in the store. A name is forgotten as a whole, so each address has its own; the colon
/// is not for names (sd_pid_notify_with_fds(3), FDNAME).
fn store_name(address: SocketAddr) -> String {
    format!("{STORED}{address}").replace(':', "_")
}

/// Deals the sockets of one address out to the workers: every socket is served, and every worker serves at least one.
fn deal(sockets: Vec<Listening>, workers: &mut [Vec<Listening>]) -> std::io::Result<()> {
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

/// The workers, of `workers`, that serve the socket `index` of `sockets`: one where there are as many sockets or more, else every
/// `sockets`-th.
fn servers(index: usize, sockets: usize, workers: usize) -> (usize, impl Iterator<Item = usize>) {
    let first = index % workers;
    (first, (first..workers).step_by(sockets).skip(1))
}

#[cfg(test)]
mod tests;
