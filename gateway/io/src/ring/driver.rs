//! Who submits the operations of a socket to the kernel and delivers their completions: one of two drivers.
//!
//! Owns what a driver must do, and the choice between the two. Must not know sockets: those are [`super::channel`] and
//! [`super::listener`], written once for both drivers.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::reactor::{self, Reactor};
use super::tokio_uring::{self, TokioUring};
use super::{Completion, Submission};

/// Submits operations to the ring of this thread.
pub(super) trait Driver {
    /// An operation in flight. Dropping it cancels nothing: the driver keeps the lent buffer and descriptor until the kernel
    /// completes the operation.
    type Operation: Future<Output = Completion> + Unpin;

    /// Queues an operation. The kernel gets it at the end of this turn at the latest.
    fn submit(&self, submission: Submission) -> Self::Operation;

    /// Cancels an operation on `descriptor`: it completes with `ECANCELED`, or as it would have anyway. Other operations on the
    /// same descriptor may be cancelled with it.
    fn cancel(&self, descriptor: &Rc<OwnedFd>, operation: &Self::Operation);

    /// Whether a send is better made at once, by a system call of its own: few completions came in this turn and no task keeps
    /// the thread busy, so hardly any other entry is queued that could share a submission.
    fn is_calm(&self) -> bool;
}

/// The driver of this thread.
pub(crate) enum AnyDriver {
    /// hookgate's own event loop.
    Reactor(Rc<Reactor>),
    /// tokio-uring.
    TokioUring,
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
            Self::TokioUring => AnyOperation::TokioUring(TokioUring.submit(submission)),
        }
    }

    fn cancel(&self, descriptor: &Rc<OwnedFd>, operation: &AnyOperation) {
        match (self, operation) {
            (Self::Reactor(reactor), AnyOperation::Reactor(operation)) => reactor.cancel(descriptor, operation),
            (Self::TokioUring, AnyOperation::TokioUring(operation)) => TokioUring.cancel(descriptor, operation),
            (Self::Reactor(_), AnyOperation::TokioUring(_)) | (Self::TokioUring, AnyOperation::Reactor(_)) => {
                debug_assert!(false, "an operation belongs to the driver that submitted it");
            }
        }
    }

    fn is_calm(&self) -> bool {
        match self {
            Self::Reactor(reactor) => reactor.is_calm(),
            Self::TokioUring => TokioUring.is_calm(),
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
