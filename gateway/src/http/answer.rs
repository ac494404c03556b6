//! The body of an answer: a problem document, or what a handler sends, whole or as a stream.
//!
//! Owns when the exchange learns that the answer is complete, and that the peer gets what came of an answer that is cut. Must not decide
//! what is answered.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::connection::Connection;
use crate::upstream::{HandlerBody, HandlerBodyError};
use hookgate_core::reject::Refusal;

enum Content {
    Whole(Option<Bytes>),
    /// Shared with the connection, which has it taken ahead of a slow peer.
    Streamed(Rc<RefCell<HandlerBody>>),
    /// The handler's answer is cut as soon as the kernel has what came of it: at the next flush after so many.
    Cut {
        error: HandlerBodyError,
        flushes: u32,
    },
}

/// Reports its end to the exchange.
pub(super) struct AnswerBody {
    content: Content,
    connection: Rc<Connection>,
}

impl AnswerBody {
    /// A problem document, or nothing where `content` is empty.
    pub(super) fn problem(connection: &Rc<Connection>, content: Bytes) -> Self {
        Self { content: Content::Whole(Some(content)), connection: Rc::clone(connection) }
    }

    /// A handler's answer.
    pub(super) fn handler(connection: &Rc<Connection>, mut body: HandlerBody) -> Self {
        let content = match body.take_whole() {
            Some(whole) => Content::Whole(Some(whole)),
            None => {
                let body = Rc::new(RefCell::new(body));
                connection.streamed.replace(Some(Rc::clone(&body)));
                Content::Streamed(body)
            }
        };
        Self { content, connection: Rc::clone(connection) }
    }

    /// Whether it waits until the kernel has what came of it.
    pub(super) fn is_cut(&self) -> bool {
        matches!(self.content, Content::Cut { .. })
    }

    fn broke_off(&self, error: &HandlerBodyError) {
        self.connection.cut(Refusal::new(error.reject(), format!("{error}; the connection to the peer was cut.")));
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = HandlerBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HandlerBodyError>>> {
        let this = &mut *self;
        let frame = match &mut this.content {
            Content::Whole(content) => content.take().map(|content| Ok(Frame::data(content))),
            Content::Streamed(body) => ready!(Pin::new(&mut *body.borrow_mut()).poll_frame(context)),
            // hyper drops what it has not flushed when the body fails.
            Content::Cut { flushes, .. } if *flushes == this.connection.exchange.flushes() => return Poll::Pending,
            content @ Content::Cut { .. } => match std::mem::replace(content, Content::Whole(None)) {
                Content::Cut { error, .. } => return Poll::Ready(Some(Err(error))),
                Content::Whole(_) | Content::Streamed(_) => None,
            },
        };
        if let Some(Err(error)) = frame {
            this.connection.streamed.take();
            this.broke_off(&error);
            this.content = Content::Cut { error, flushes: this.connection.exchange.flushes() };
            // hyper flushes next, and asks again when it has.
            return Poll::Pending;
        }
        if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
            this.connection.note(|account| account.bytes_out += data.len() as u64);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(content) => content.as_ref().is_none_or(Bytes::is_empty),
            Content::Streamed(body) => body.borrow().is_end_stream(),
            Content::Cut { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(content) => SizeHint::with_exact(content.as_ref().map_or(0, |content| content.len() as u64)),
            Content::Streamed(body) => body.borrow().size_hint(),
            Content::Cut { .. } => SizeHint::default(),
        }
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        self.connection.streamed.take();
        self.connection.exchange.answer_complete();
    }
}
