//! The body of a handler's answer, on its way to the peer.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use thiserror::Error;

use super::pool::Lease;

/// The handler broke off in the middle of its answer. The peer's connection must end visibly: a clean end would make a cut
/// body look whole.
#[derive(Debug, Error)]
#[error("the handler's answer broke off: {source}{}", if *.late { " (handler_timeout_ms passed without a byte)" } else { "" })]
pub struct HandlerBodyError {
    /// What hyper said.
    source: hyper::Error,
    /// The deadline sweep ended it.
    late: bool,
}

impl HandlerBodyError {
    /// Whether the handler was late rather than gone.
    pub fn is_late(&self) -> bool {
        self.late
    }
}

/// Streams; gives the handler's connection back to the pool when it ends, and closes it when dropped before.
pub struct HandlerBody {
    incoming: Incoming,
    lease: Option<Lease>,
}

impl HandlerBody {
    pub(super) fn new(incoming: Incoming, lease: Lease) -> Self {
        let mut body = Self { incoming, lease: Some(lease) };
        body.give_back_if_ended();
        body
    }

    fn give_back_if_ended(&mut self) {
        if self.incoming.is_end_stream()
            && let Some(lease) = self.lease.take()
        {
            lease.give_back();
        }
    }
}

impl Body for HandlerBody {
    type Data = Bytes;
    type Error = HandlerBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HandlerBodyError>>> {
        let this = &mut *self;
        let frame = ready!(Pin::new(&mut this.incoming).poll_frame(context));
        match frame {
            Some(Ok(frame)) => {
                if let Some(lease) = &this.lease {
                    lease.progress();
                }
                this.give_back_if_ended();
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(source)) => {
                let late = this.lease.take().is_some_and(|lease| lease.is_late());
                Poll::Ready(Some(Err(HandlerBodyError { source, late })))
            }
            None => {
                if let Some(lease) = this.lease.take() {
                    lease.give_back();
                }
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
