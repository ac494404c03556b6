//! The body of a request as it arrives, on a connection with one request at a time or on a stream of HTTP/2.
//!
//! Owns that the time of a stream's body runs out, and that the peer may send more of it when some was read. Must not bound it: `body` does.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, HeaderMap};
use thiserror::Error;

use super::exchange::Exchange;

/// Why a body cannot be read to its end.
#[derive(Debug, Error)]
pub(super) enum BodyError {
    /// The connection failed, or the framing is broken.
    #[error(transparent)]
    Http1(#[from] hyper::Error),
    /// The same of a stream.
    #[error(transparent)]
    Http2(#[from] h2::Error),
    /// The stream took too long. The exchange says so, too.
    #[error("it took too long")]
    Overdue,
}

/// The body of a request.
pub(super) enum RequestBody {
    /// Of HTTP/1.
    Http1(Incoming),
    /// Of HTTP/2.
    Http2(StreamBody),
}

/// The body of a request on a stream.
pub(super) struct StreamBody {
    stream: RecvStream,
    exchange: Rc<Exchange>,
    /// The length, if the head announces one. h2 holds the peer to it.
    announced: Option<u64>,
}

impl StreamBody {
    /// The body that follows a head with these fields on `stream`, within the time of `exchange`.
    pub(super) fn new(headers: &HeaderMap, stream: RecvStream, exchange: Rc<Exchange>) -> Self {
        let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        Self { stream, exchange, announced }
    }

    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match self.stream.poll_data(context) {
            Poll::Ready(Some(Ok(data))) => {
                // The reader has it, and counts it.
                let released = self.stream.flow_control().release_capacity(data.len());
                Poll::Ready(Some(released.map(|()| data).map_err(BodyError::from)))
            }
            Poll::Ready(end) => Poll::Ready(end.map(|data| data.map_err(BodyError::from))),
            Poll::Pending => self.exchange.poll_overdue(context).map(|()| Some(Err(BodyError::Overdue))),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Http1(body) => {
                Pin::new(body).poll_frame(context).map(|frame| frame.map(|frame| frame.map_err(BodyError::from)))
            }
            Self::Http2(body) => body.poll_data(context).map(|data| data.map(|data| data.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.stream.is_end_stream(),
        }
    }

    /// Of what is announced; call it before anything was read.
    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) if body.stream.is_end_stream() => SizeHint::with_exact(0),
            Self::Http2(body) => body.announced.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
