//! The body of an answer: a problem document, or what a handler streams.
//!
//! Owns when the exchange learns that the answer is complete, and that the peer gets what came of an answer that is cut. Must not decide
//! what is answered.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::header::HeaderValue;

use super::connection::Connection;
use crate::upstream::{HandlerBody, HandlerBodyError};
use hookgate_core::reject::Refusal;

enum Content {
    Problem(Option<Bytes>),
    Handler(HandlerBody),
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
    /// What the log says about a handler's answer that is cut.
    subject: Option<Subject>,
}

/// The request that is answered, as the log names it.
pub(super) struct Subject {
    pub(super) request_id: HeaderValue,
    pub(super) route: Arc<str>,
    pub(super) provider: Arc<str>,
}

impl AnswerBody {
    /// A problem document, or nothing where `content` is empty.
    pub(super) fn problem(connection: &Rc<Connection>, content: Bytes) -> Self {
        Self { content: Content::Problem(Some(content)), connection: Rc::clone(connection), subject: None }
    }

    /// A handler's answer.
    pub(super) fn handler(connection: &Rc<Connection>, body: HandlerBody, subject: Subject) -> Self {
        Self { content: Content::Handler(body), connection: Rc::clone(connection), subject: Some(subject) }
    }

    fn broke_off(&self, error: &HandlerBodyError) {
        let Some(Subject { request_id, route, provider }) = &self.subject else { return };
        let refusal = Refusal::new(error.reject(), format!("{error}; the connection to the peer was cut."));
        self.connection.refused(&refusal, request_id, route, provider);
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
        match &mut this.content {
            Content::Problem(content) => Poll::Ready(content.take().map(|content| Ok(Frame::data(content)))),
            Content::Handler(body) => match ready!(Pin::new(body).poll_frame(context)) {
                Some(Err(error)) => {
                    this.broke_off(&error);
                    this.content = Content::Cut { error, flushes: this.connection.exchange.flushes() };
                    // hyper flushes next, and asks again when it has.
                    Poll::Pending
                }
                frame => Poll::Ready(frame),
            },
            // hyper drops what it has not flushed when the body fails.
            Content::Cut { flushes, .. } if *flushes == this.connection.exchange.flushes() => Poll::Pending,
            content @ Content::Cut { .. } => match std::mem::replace(content, Content::Problem(None)) {
                Content::Cut { error, .. } => Poll::Ready(Some(Err(error))),
                Content::Problem(_) | Content::Handler(_) => Poll::Ready(None),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Problem(content) => content.as_ref().is_none_or(Bytes::is_empty),
            Content::Handler(body) => body.is_end_stream(),
            Content::Cut { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Problem(content) => {
                SizeHint::with_exact(content.as_ref().map_or(0, |content| content.len() as u64))
            }
            Content::Handler(body) => body.size_hint(),
            Content::Cut { .. } => SizeHint::default(),
        }
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        let exchange = &self.connection.exchange;
        if exchange.stage().is_stalled() && exchange.is_overdue() {
            self.connection.cut.replace(self.subject.take().map(Box::new));
        }
        self.connection.exchange.answer_complete();
    }
}
