//! One stream: a request, and its answer.
//!
//! Owns the race of an answer with a reset of the peer, and how much of an answer h2 gets: what the windows and its buffer have room for, so that what
//! it has will be sent. Must not judge the request: [`crate::http::request`] does, as for HTTP/1; nor drop one that has begun: [`super::unwanted`] finishes it.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http_body::Body;
use hyper::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderValue};
use hyper::{Request, Response};

use super::transport::{Leaving, Link};
use super::unwanted::{Asked, Unwanted};
use crate::http::answer::AnswerBody;
use crate::http::connection::Connection;
use crate::http::request_body::{RequestBody, StreamBody};
use crate::upstream::HandlerBodyError;
use hookgate_core::reject::{Refusal, Reject};

/// A stream that has begun.
pub(super) struct Begun {
    pub(super) link: Rc<Link>,
    /// What its request sees of the connection.
    pub(super) connection: Rc<Connection>,
    pub(super) request: Request<RecvStream>,
    pub(super) respond: SendResponse<Bytes>,
    pub(super) unwanted: Rc<Unwanted>,
}

/// How a stream ended.
pub(super) struct Ended {
    pub(super) stream: u32,
    /// h2 has the whole answer, and the peer has made room for it.
    pub(super) is_answered: bool,
}

/// Why the rest of an answer is not sent.
enum Broken {
    /// The peer has reset the stream, or the connection ends.
    Reset,
    /// The handler's answer is cut.
    Cut,
    /// The peer made no room in time.
    Overdue,
}

/// Answers the request of a stream.
pub(super) async fn serve(begun: Begun) -> Ended {
    let Begun { link, connection, request, mut respond, unwanted } = begun;
    let stream = respond.stream_id().as_u32();
    let (head, body) = request.into_parts();
    let body = StreamBody::new(&head.headers, body, Rc::clone(&connection.exchange));
    let request = Request::from_parts(head, RequestBody::Http2(body));
    let response = {
        let mut asked = Asked::new(&connection, request, unwanted);
        poll_fn(|context| match asked.poll(context) {
            Poll::Ready(response) => Poll::Ready(Some(response)),
            // The peer wants no answer any more.
            Poll::Pending => respond.poll_reset(context).map(|_| None),
        })
        .await
    };
    let Some(response) = response else {
        if let Some(refusal) = link.breach(stream) {
            connection.refused(refusal);
        }
        return Ended { stream, is_answered: false };
    };
    let sent = send(&link, &connection, response, respond).await;
    Ended { stream, is_answered: sent.is_ok() }
}

async fn send(
    link: &Link,
    connection: &Connection,
    response: Response<AnswerBody>,
    mut respond: SendResponse<Bytes>,
) -> Result<(), Broken> {
    let (mut head, body) = response.into_parts();
    if head.headers.remove(CONNECTION).is_some() {
        let draining = connection.server.context.is_draining();
        link.leave(if draining { Leaving::Gracefully } else { Leaving::AtOnce });
    }
    let has_no_body = body.is_end_stream();
    if !has_no_body && let Some(length) = body.size_hint().exact() {
        head.headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
    head.headers.entry(DATE).or_insert_with(|| connection.server.date.now(connection.server.context.now()));
    let mut body = pin!(body);
    let sent = respond.send_response(Response::from_parts(head, ()), has_no_body);
    let mut stream = sent.map_err(|_| Broken::Reset)?;
    if has_no_body {
        return Ok(());
    }
    let outcome = pipe(link, connection, body.as_mut(), &mut stream).await;
    match &outcome {
        Ok(()) => {}
        Err(Broken::Reset) => {
            if let Some(refusal) = link.breach(stream.stream_id().as_u32()) {
                connection.cut(refusal);
            }
        }
        Err(Broken::Cut) => stream.send_reset(Reason::INTERNAL_ERROR),
        Err(Broken::Overdue) => {
            let detail = "The peer made room for fewer than 256 bytes a second of the answer for response_timeout_ms; the stream was reset.";
            connection.cut(Refusal::new(Reject::ResponseTimeout, detail));
            stream.send_reset(Reason::CANCEL);
        }
    }
    outcome
}

async fn pipe(
    link: &Link,
    connection: &Connection,
    mut body: Pin<&mut AnswerBody>,
    stream: &mut SendStream<Bytes>,
) -> Result<(), Broken> {
    loop {
        let next = poll_fn(|context| poll_next(link, connection, body.as_mut(), stream, context)).await;
        let mut data = match next {
            Some(Ok(data)) => data,
            Some(Err(broken)) => return Err(broken),
            None => return stream.send_data(Bytes::new(), true).map_err(|_| Broken::Reset),
        };
        while !data.is_empty() {
            stream.reserve_capacity(data.len());
            let room = poll_fn(|context| poll_room(link, connection, stream, context)).await?;
            let part = data.split_to(room.min(data.len()));
            let is_last = data.is_empty() && body.is_end_stream();
            stream.send_data(part, is_last).map_err(|_| Broken::Reset)?;
            if is_last {
                return Ok(());
            }
        }
    }
}

/// The next part of an answer. While it is waited for, the peer is at no fault.
fn poll_next(
    link: &Link,
    connection: &Connection,
    mut body: Pin<&mut AnswerBody>,
    stream: &mut SendStream<Bytes>,
    context: &mut Context<'_>,
) -> Poll<Option<Result<Bytes, Broken>>> {
    let is_cut = |error: &HandlerBodyError| {
        tracing::debug!(peer = %connection.origin.address(), %error, "answer cut");
        Broken::Cut
    };
    match body.as_mut().poll_frame(context) {
        // Trailers are dropped by the handler's side.
        Poll::Ready(frame) => Poll::Ready(frame.map(|frame| match frame {
            Ok(frame) => Ok(frame.into_data().unwrap_or_default()),
            Err(error) => Err(is_cut(&error)),
        })),
        Poll::Pending => {
            connection.exchange.keeps_up();
            if body.is_cut() {
                link.wait_for_flush(context);
            }
            stream.poll_reset(context).map(|_| Some(Err(Broken::Reset)))
        }
    }
}

/// How many bytes of the answer there is room for, at least one.
fn poll_room(
    link: &Link,
    connection: &Connection,
    stream: &mut SendStream<Bytes>,
    context: &mut Context<'_>,
) -> Poll<Result<usize, Broken>> {
    let exchange = &connection.exchange;
    loop {
        let room = stream.capacity();
        if room > 0 {
            exchange.has_room(room);
            return Poll::Ready(Ok(room));
        }
        match stream.poll_capacity(context) {
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(_) => return Poll::Ready(Err(Broken::Reset)),
            Poll::Pending => break,
        }
    }
    exchange.has_no_room();
    connection.take_ahead(context);
    if exchange.poll_overdue(context).is_pending() {
        return Poll::Pending;
    }
    if link.is_blocked() {
        // The connection has a time of its own for that.
        exchange.wait_again();
        return exchange.poll_overdue(context).map(|()| Err(Broken::Overdue));
    }
    Poll::Ready(Err(Broken::Overdue))
}
