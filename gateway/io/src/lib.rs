//! Socket I/O of a worker thread: sockets, listeners, timers and the deadline sweep, on io_uring(7) or epoll(7).
//!
//! Owns every buffer and descriptor that the kernel uses, and all `unsafe` code of the daemon. Must not know TLS, HTTP or
//! configuration. Nothing above this crate learns which backend moves the bytes.
//!
//! # What to read first
//!
//! | place | what it is |
//! | --- | --- |
//! | `backend.rs` | [`Backend`]; [`choose`] asks the kernel at start-up what it supports; [`block_on`] (below) runs a worker |
//! | `socket.rs` | [`Socket`]: a connected stream with a receive buffer and a send buffer |
//! | `listener.rs` | [`bind`] and [`Listener`]: the accept queue, and how a listener stops |
//! | [`timer`], [`sweep`] | time: `timer` for tasks, `sweep` for sockets |
//! | `progress.rs` | how much of what was sent a peer has taken |
//! | [`memory`] | when freed memory goes back to the kernel |
//! | `turn.rs` | [`TurnEnd`]: work that is spread over the turns of the loop |
//! | `epoll.rs` | sockets and listeners on epoll, by tokio's runtime |
//! | `ring/mod.rs` | io_uring: operations as submission queue entries (SQEs), and completions |
//! | `ring/channel.rs`, `ring/listener.rs` | sockets and listeners on io_uring, written once for both drivers |
//! | `ring/driver.rs` | what a driver must do: submit operations, deliver completions |
//! | `ring/reactor/` | the default driver: hookgate's own event loop |
//! | `ring/tokio_uring.rs` | the second driver: tokio-uring's runtime |
//!
//! # Operations own their buffers
//!
//! io_uring uses a buffer until the operation completes, so every operation owns its buffer and a share of its descriptor. A
//! socket has at most one receive and one send in flight. [`Socket::poll_send_slices`] sends from the caller's memory instead: the
//! system call ends before it returns, and the backend only waits for room.
//!
//! Dropping a future cancels no operation. A [`Socket`] that is dropped with an operation in flight is shut down, so that the
//! operation completes now, and not when the peer acts next. Then the buffer is freed and the descriptor closed.

mod backend;
mod epoll;
mod listener;
pub mod memory;
mod progress;
mod ring;
mod send;
mod socket;
pub mod sweep;
mod sync;
pub mod timer;
mod turn;

use std::future::Future;
use std::io;

pub use backend::{Backend, choose};
pub use listener::{Listener, Listening, Queued, bind, peer_address};
pub use ring::ProbeError;
pub use socket::Socket;
pub use turn::TurnEnd;

use ring::{reactor, tokio_uring};

/// Runs `main` to its end on this thread, on a new single-threaded runtime of `backend`.
///
/// Spawn tasks with [`tokio::task::spawn_local`]; they are dropped when `main` ends. Wait for time with [`timer`].
///
/// # Errors
///
/// The kernel refuses the ring or the epoll instance, or (reactor) the ring becomes unusable.
pub fn block_on<F: Future>(backend: Backend, main: F) -> io::Result<F::Output> {
    match backend {
        Backend::TokioUring => tokio_uring::block_on(main),
        Backend::Reactor => reactor::block_on(main),
        Backend::Epoll => epoll::block_on(main),
    }
}

/// Submits the queued operations of this thread now, and not at the end of the turn. Call before CPU-heavy work, such as a key
/// exchange. It never blocks and never fails.
///
/// Only the reactor queues operations in a way that this can submit; with the other backends the call does nothing.
pub fn submit_queued() {
    reactor::submit_queued();
}

#[cfg(test)]
mod tests;
