//! Time for what runs on a worker: the same two functions on every backend.
//!
//! Nothing on a worker thread waits by `tokio::time` but this, since a backend need not have a runtime of tokio's. Not for sockets,
//! whose time is the deadline sweep's: a future that has an operation in the kernel is not to be dropped.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// The time of [`timeout`] was up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

/// Waits for `duration` from the call on. Later by up to some milliseconds, never earlier.
pub fn sleep(duration: Duration) -> impl Future<Output = ()> {
    tokio::time::sleep(duration)
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
