//! The body of an answer: a problem document, or what a handler streams.
//!
//! Owns when the exchange learns that the answer is complete. Must not decide what is answered.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::connection::Connection;
use crate::upstream::{HandlerBody, HandlerBodyError};
use hookgate_core::reject::{Refusal, Reject};

enum Content {
    Problem(Option<Bytes>),
    Handler(HandlerBody),
}

/// Reports its end to the exchange.
pub(super) struct AnswerBody {
    content: Content,
    connection: Rc<Connection>,
}

impl AnswerBody {
    /// A problem document, or nothing where `content` is empty.
    pub(super) fn problem(connection: &Rc<Connection>, content: Bytes) -> Self {
        Self { content: Content::Problem(Some(content)), connection: Rc::clone(connection) }
    }

    /// A handler's answer.
    pub(super) fn handler(connection: &Rc<Connection>, body: HandlerBody) -> Self {
        Self { content: Content::Handler(body), connection: Rc::clone(connection) }
    }

    fn broke_off(&self, error: &HandlerBodyError) {
        let reject = match error {
            HandlerBodyError::Late => Reject::HandlerTimeout,
            HandlerBodyError::BrokeOff(_) => Reject::HandlerUnavailable,
        };
        let refusal = Refusal::new(reject, format!("{error}; the connection to the peer was cut."));
        self.connection.refused(&refusal, &self.connection.server.context.request_id(), "", "");
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = HandlerBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HandlerBodyError>>> {
        let outcome = match &mut self.content {
            Content::Problem(content) => Poll::Ready(content.take().map(|content| Ok(Frame::data(content)))),
            Content::Handler(body) => Pin::new(body).poll_frame(context),
        };
        if let Poll::Ready(Some(Err(error))) = &outcome {
            self.broke_off(error);
        }
        outcome
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Problem(content) => content.as_ref().is_none_or(Bytes::is_empty),
            Content::Handler(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Problem(content) => {
                SizeHint::with_exact(content.as_ref().map_or(0, |content| content.len() as u64))
            }
            Content::Handler(body) => body.size_hint(),
        }
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        self.connection.exchange.answer_complete();
    }
}
