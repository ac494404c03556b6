//! Listeners and connection slots: how a connection enters a worker.
//!
//! Owns the listening sockets' options, the accept loops, the bound on connections, and which worker gets one. Must not look at
//! a byte of what a peer sends: that begins with `tls`.

pub mod spread;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::Notify;

use self::spread::{Handover, Inbox, Place};
use crate::reject::Reject;
use crate::worker::deadline::Phase;
pub use crate::worker::io::Queued;
use crate::worker::io::timer::sleep;
use crate::worker::io::{Listener, peer_address};
use crate::worker::{Worker, connection};

/// How long to wait after an accept that failed for want of descriptors or memory, so that the loop does not spin.
const PAUSE: Duration = Duration::from_millis(100);

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

/// Accepts until the listener is stopped, and its queue is empty or left to whoever serves the socket next.
pub async fn run(worker: Rc<Worker>, listener: Rc<Listener>) {
    loop {
        match listener.accept().await {
            Ok(Some(descriptor)) => admit(&worker, descriptor),
            Ok(None) => return,
            Err(error) => failed(&worker, &error).await,
        }
    }
}

/// Takes what siblings hand over, until `closing` is notified and what was on its way then has come.
pub async fn take_over(worker: Rc<Worker>, mut inbox: Inbox, closing: Rc<Notify>) {
    while let Some(Handover { descriptor, place }) = inbox.next(&closing).await {
        begin(&worker, descriptor, place);
    }
}

/// Gives the connection a place with this worker or a sibling, or closes it.
fn admit(worker: &Rc<Worker>, descriptor: OwnedFd) {
    worker.meters.accepted();
    let limit = worker.snapshot().limits.max_connections.div_ceil(worker.siblings());
    let descriptor = match worker.siblings.hand_over(descriptor, limit) {
        Ok(()) => {
            worker.meters.handed_over();
            return;
        }
        Err(descriptor) => descriptor,
    };
    let Some(place) = place(worker, limit) else {
        worker.meters.rejected(Reject::ConnectionLimit);
        worker.log_refusal(|| {
            let reason = Reject::ConnectionLimit.row().reason;
            let peer = peer_address(&descriptor).map(tracing::field::display);
            tracing::warn!(
                reason,
                peer,
                limit,
                "connection refused: max_connections are open on this worker and none is idle"
            );
        });
        worker.meters.closed();
        return;
    };
    begin(worker, descriptor, place);
}

/// A place with this worker; where it has `limit` connections, an idle one makes room.
fn place(worker: &Worker, limit: usize) -> Option<Place> {
    let own = worker.siblings.own();
    match own.take(limit) {
        None if worker.sweep.shut_down_all(Phase::Idle, 1) == 1 => own.take(usize::MAX),
        place => place,
    }
}

fn begin(worker: &Rc<Worker>, descriptor: OwnedFd, place: Place) {
    tokio::task::spawn_local(connection::receive(worker.slot(place), descriptor));
}

async fn failed(worker: &Worker, error: &io::Error) {
    let errno = Errno::from_io_error(error);
    let (name, pause) = match errno {
        // The peer gave up while it was queued.
        Some(Errno::CONNABORTED) => ("ECONNABORTED", false),
        Some(Errno::INTR) => ("EINTR", false),
        Some(Errno::MFILE) => ("EMFILE", true),
        Some(Errno::NFILE) => ("ENFILE", true),
        Some(Errno::NOBUFS) => ("ENOBUFS", true),
        Some(Errno::NOMEM) => ("ENOMEM", true),
        Some(_) | None => ("other", true),
    };
    worker.meters.accept_failed(name);
    if pause {
        worker.log_refusal(
            || tracing::error!(%error, "cannot accept connections; raise LimitNOFILE or lower max_connections"),
        );
        // An idle connection holds a descriptor that a new one could use.
        worker.sweep.shut_down_all(Phase::Idle, 1);
        sleep(PAUSE).await;
    }
}
