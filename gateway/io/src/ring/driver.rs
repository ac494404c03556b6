//! Drivers: they submit operations to io_uring and deliver completions. There are two, hookgate's reactor and tokio-uring.
//!
//! Owns what a driver must do, and the choice between the two. Must not know sockets: [`super::channel`] and [`super::listener`]
//! do, and are written once for both drivers.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::reactor::{self, Reactor};
use super::tokio_uring::{self, TokioUring};
use super::{Completion, Submission};

/// Submits operations to the ring of this thread.
pub(super) trait Driver {
    /// An operation in flight. Dropping it cancels nothing: the driver keeps the operation's buffer and descriptor until the
    /// kernel completes it.
    type Operation: Future<Output = Completion> + Unpin;

    /// Queues an operation. The kernel gets it at the end of this turn at the latest.
    fn submit(&self, submission: Submission) -> Self::Operation;

    /// Requests that an operation on `descriptor` be cancelled. It completes with `ECANCELED`, or as it would have without the
    /// request. Other operations on the same descriptor may be cancelled with it.
    fn cancel(descriptor: &Rc<OwnedFd>, operation: &Self::Operation);

    /// Whether the load is light: then a send is better made at once, by a system call of its own, because hardly any other SQE
    /// is queued that could share its submission.
    fn is_lightly_loaded(&self) -> bool;
}

/// The driver of this thread.
pub(crate) enum AnyDriver {
    Reactor(Rc<Reactor>),
    TokioUring(TokioUring),
}

impl AnyDriver {
    /// The reactor of this thread.
    ///
    /// # Errors
    ///
    /// This thread does not run a reactor.
    pub(crate) fn reactor() -> io::Result<Self> {
        reactor::current().map(Self::Reactor)
    }

    /// Waits for `duration`, by the timers of this driver.
    pub(crate) async fn sleep(&self, duration: Duration) {
        match self {
            // A thread without a reactor has no such driver.
            Self::Reactor(_) => {
                if let Some(sleep) = reactor::sleep(duration) {
                    sleep.await;
                }
            }
            Self::TokioUring(_) => {
                #[expect(clippy::disallowed_methods, reason = "tokio-uring runs tokio's runtime")]
                tokio::time::sleep(duration).await;
            }
        }
    }

    /// The tokio-uring runtime of this thread. If there is none, the first submission panics.
    pub(crate) fn tokio_uring() -> Self {
        Self::TokioUring(TokioUring)
    }
}

/// An operation in flight with one of the drivers.
pub(super) enum AnyOperation {
    Reactor(reactor::Operation),
    TokioUring(tokio_uring::Operation),
}

impl Driver for AnyDriver {
    type Operation = AnyOperation;

    fn submit(&self, submission: Submission) -> AnyOperation {
        match self {
            Self::Reactor(reactor) => AnyOperation::Reactor(reactor.submit(submission)),
            Self::TokioUring(runtime) => AnyOperation::TokioUring(runtime.submit(submission)),
        }
    }

    /// The operation selects the driver, so it cannot reach the wrong one.
    fn cancel(descriptor: &Rc<OwnedFd>, operation: &AnyOperation) {
        match operation {
            AnyOperation::Reactor(operation) => <Rc<Reactor> as Driver>::cancel(descriptor, operation),
            AnyOperation::TokioUring(operation) => TokioUring::cancel(descriptor, operation),
        }
    }

    fn is_lightly_loaded(&self) -> bool {
        match self {
            Self::Reactor(reactor) => reactor.is_lightly_loaded(),
            Self::TokioUring(runtime) => runtime.is_lightly_loaded(),
        }
    }
}

impl Future for AnyOperation {
    type Output = Completion;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Completion> {
        match self.get_mut() {
            Self::Reactor(operation) => Pin::new(operation).poll(context),
            Self::TokioUring(operation) => Pin::new(operation).poll(context),
        }
    }
}
