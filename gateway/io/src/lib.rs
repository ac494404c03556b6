//! The seam between the gateway and the kernel's socket I/O: io_uring, in two ways, or epoll where a host forbids it.
//!
//! Owns buffers that the kernel fills and empties, listeners, and the runtime of a worker thread. The rest of the gateway
//! sees a [`Socket`] that buffers both ways and a [`Listener`], and never learns which backend is at work. Must not know
//! TLS or HTTP, and must not decide when a socket has waited too long: that is [`super::deadline`].
//!
//! The seam is *owned-buffer* shaped, since io_uring keeps a buffer until the operation completes: at most one receive and
//! one send are under way a socket, and each owns what it was given. What is long enough to be worth a system call of its own is
//! sent from where it lies, and the backend only waits until there is room. A socket dropped with an operation under way is shut
//! down, so that the operation ends and gives back buffer and descriptor at once instead of when the peer next acts.

mod backend;
mod epoll;
mod listener;
mod ring;
mod socket;
pub mod sweep;
pub mod timer;

use std::future::Future;
use std::io;

pub use backend::{Backend, ProbeError, choose};
pub use listener::{Listener, Listening, Queued, bind, peer_address};
pub use socket::Socket;

use ring::{reactor, tokio_uring};

/// Runs `main` on a new single-threaded runtime of `backend`, on this thread, until it is done.
///
/// Tasks are spawned with [`tokio::task::spawn_local`], and wait for time by [`timer`].
///
/// # Errors
///
/// Whatever the kernel says when it refuses a ring or an epoll instance.
pub fn block_on<F: Future>(backend: Backend, main: F) -> io::Result<F::Output> {
    match backend {
        Backend::TokioUring => tokio_uring::block_on(main),
        Backend::Reactor => reactor::block_on(main),
        Backend::Epoll => epoll::block_on(main),
    }
}

/// Lets what other sockets of this worker have to send go out now, where a backend would hand it over at the end of its turn: for
/// whoever is about to keep the thread busy for longer than a system call takes. It lets nobody wait, and cannot fail.
pub fn submit_queued() {
    reactor::submit_queued();
}

#[cfg(test)]
mod tests;
