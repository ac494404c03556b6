//! Requests whose peer wants no answer any more: it has reset the stream, or the connection is at its end.
//!
//! Owns that what has begun is finished, as over HTTP/1: a handler that works on a request keeps its place, the time it takes counts, and a copy of the
//! delivery finds that it is being taken or was. What has not begun is dropped. Must not send anything.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hyper::{Request, Response};

use crate::http::answer::AnswerBody;
use crate::http::connection::Connection;
use crate::http::request;
use crate::http::request_body::RequestBody;

type Answer = Pin<Box<dyn Future<Output = Result<Response<AnswerBody>, Infallible>>>>;

/// The requests of one connection that go on without a stream. Each has a place at a handler, or is being stored, so they are bounded as those are.
#[derive(Default)]
pub(super) struct Unwanted(RefCell<FuturesUnordered<Answer>>);

impl Unwanted {
    /// Goes on with all of them. Ready when there is none.
    pub(super) fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut answers = self.0.borrow_mut();
        while let Some(Ok(answer)) = std::task::ready!(answers.poll_next_unpin(context)) {
            drop(answer);
        }
        Poll::Ready(())
    }

    /// Goes on until there is none.
    pub(super) async fn finish(&self) {
        poll_fn(|context| self.poll(context)).await;
    }
}

/// A request that its stream waits for.
pub(super) struct Asked {
    connection: Rc<Connection>,
    /// `None` once it is answered.
    answer: Option<Answer>,
    unwanted: Rc<Unwanted>,
}

impl Asked {
    /// `request` of a stream that sees `connection`.
    pub(super) fn new(connection: &Rc<Connection>, request: Request<RequestBody>, unwanted: Rc<Unwanted>) -> Self {
        let answer = Box::pin(request::answer(Rc::clone(connection), request));
        Self { connection: Rc::clone(connection), answer: Some(answer), unwanted }
    }

    /// Its answer, once.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Response<AnswerBody>> {
        let Some(answer) = &mut self.answer else { return Poll::Pending };
        let Ok(response) = std::task::ready!(answer.as_mut().poll(context));
        self.answer = None;
        Poll::Ready(response)
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(answer) = self.answer.take().filter(|_| self.connection.is_begun.get()) {
            self.unwanted.0.borrow_mut().push(answer);
        }
    }
}
