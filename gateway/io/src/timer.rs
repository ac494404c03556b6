//! Time for what runs on a worker: the same two functions on every backend.
//!
//! tokio's timers need tokio's runtime, which one backend does without; so nothing on a worker thread waits by `tokio::time` but
//! this. Not for sockets, whose time is the deadline sweep's: a future that has an operation in the kernel is not to be dropped.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::ring::reactor;

/// The time of [`timeout`] was up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

/// Waits for `duration` from the call on. Later by up to some milliseconds, never earlier.
pub fn sleep(duration: Duration) -> impl Future<Output = ()> {
    let direct = reactor::sleep(duration);
    #[expect(clippy::disallowed_methods, reason = "without a reactor, this thread runs tokio's runtime")]
    let tokio = if direct.is_none() { Some(tokio::time::sleep(duration)) } else { None };
    async move {
        match (direct, tokio) {
            (Some(sleep), _) => sleep.await,
            (None, Some(sleep)) => sleep.await,
            (None, None) => {}
        }
    }
}

/// Waits for `future`, for `limit` at most, and drops it then.
///
/// # Errors
///
/// [`Elapsed`] where it took too long.
pub async fn timeout<F: Future>(limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    let mut late = pin!(sleep(limit));
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => late.as_mut().poll(context).map(|()| Err(Elapsed)),
    })
    .await
}
