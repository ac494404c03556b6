//! Timers for tasks of a worker: the same two functions on every backend.
//!
//! tokio's timers need tokio's runtime, which the reactor does without; so no task of a worker waits by `tokio::time` directly.
//! Must not time sockets: [`crate::sweep`] does. A future that has an operation in flight must not be dropped, and [`timeout`]
//! drops its future.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::ring::reactor;

/// The limit of [`timeout`] passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

/// Waits for `duration`, counted from the call. It may end a few milliseconds late, never early.
///
/// # Panics
///
/// On a thread that is not inside [`crate::block_on`].
pub fn sleep(duration: Duration) -> impl Future<Output = ()> {
    let reactor = reactor::sleep(duration);
    #[expect(clippy::disallowed_methods, reason = "without a reactor, this thread runs tokio's runtime")]
    let tokio = if reactor.is_none() { Some(tokio::time::sleep(duration)) } else { None };
    async move {
        match (reactor, tokio) {
            (Some(sleep), _) => sleep.await,
            (None, Some(sleep)) => sleep.await,
            (None, None) => {}
        }
    }
}

/// Waits for `future`, at most for `limit`, then drops it. If both are ready, the future's output is returned.
///
/// # Errors
///
/// [`Elapsed`] if `limit` passed first.
///
/// # Panics
///
/// On a thread that is not inside [`crate::block_on`].
pub async fn timeout<F: Future>(limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    let mut late = pin!(sleep(limit));
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => late.as_mut().poll(context).map(|()| Err(Elapsed)),
    })
    .await
}
