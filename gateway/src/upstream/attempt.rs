//! One attempt to get a request answered on one connection to a handler.
//!
//! Owns what a failed attempt means: whether the request may be sent again, to the same handler or another one, and what the peer is told. Must
//! not choose the connection: that is [`super::Upstream::forward`].

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::{Method, Request, Response};

use hookgate_core::reject::{Refusal, Reject};
use hookgate_core::route::Handler;

use super::health::Failure;
use super::pool::{Connection, HandlerLimits, Permit, late};

/// Sends `request` and waits for the head of the answer.
pub(super) async fn attempt(
    mut connection: Connection,
    request: Request<Full<Bytes>>,
) -> Result<(Connection, Response<Incoming>), AttemptFailure> {
    let sent_before = connection.traffic.sent();
    connection.traffic.await_head();
    match connection.sender.try_send_request(request).await {
        Ok(response) => {
            connection.traffic.head_arrived();
            Ok((connection, response))
        }
        Err(error) => Err(AttemptFailure::new(error, &connection, sent_before)),
    }
}

/// A request that a handler did not answer.
pub(super) struct Unanswered {
    /// What the peer is told.
    pub(super) refusal: Refusal,
    /// What it says of the handler; `None` if the handler is not to blame.
    pub(super) failure: Option<Failure>,
    /// Whether another handler may get the request: this one cannot have begun to act on it, and others may do better.
    pub(super) may_go_elsewhere: bool,
    /// Its place, if it has it still.
    pub(super) permit: Option<Permit>,
}

impl Unanswered {
    /// No connection was made, so nothing was sent.
    pub(super) fn unconnected(refusal: Refusal, permit: Permit) -> Self {
        let failure = match refusal.reject {
            Reject::HandlerUnavailable => Some(Failure::Unreached),
            // It accepts too slowly, or not at all.
            Reject::HandlerOverloaded => Some(Failure::Unanswered),
            _ => None,
        };
        Self { refusal, failure, may_go_elsewhere: failure.is_some(), permit: Some(permit) }
    }

    /// An answer came that cannot be forwarded.
    pub(super) fn answered(refusal: Refusal) -> Self {
        Self { refusal, failure: Some(Failure::Unanswered), may_go_elsewhere: false, permit: None }
    }
}

/// Why an attempt has no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AttemptFailure {
    /// hyper's sentence, or one about what hyper cannot know.
    error: String,
    /// No byte of the request was sent.
    nothing_sent: bool,
    /// The handler sent bytes that are no answer in HTTP/1.1.
    malformed: bool,
    /// The sweep closed the connection: the handler's time is up.
    late: bool,
}

impl AttemptFailure {
    fn new(mut error: TrySendError<Request<Full<Bytes>>>, connection: &Connection, sent_before: u64) -> Self {
        let nothing_sent = error.take_message().is_some() || connection.traffic.sent() == sent_before;
        let error = error.into_error();
        let (malformed, sentence) = if connection.traffic.is_flooded() {
            (true, "it sends interim answers without end".to_owned())
        } else {
            (error.is_parse(), error.to_string())
        };
        Self { nothing_sent, malformed, late: connection.is_late(), error: sentence }
    }

    /// RFC 9110, section 9.2.2: a request whose connection was closed before an answer may be repeated if nothing of it was sent,
    /// or if its method is idempotent. Bytes that do not parse are an answer. A handler whose time is up is not asked twice.
    pub(super) fn is_safe_to_repeat(&self, method: &Method) -> bool {
        !self.late && !self.malformed && (self.nothing_sent || method.is_idempotent())
    }

    /// The request ends here, or with another handler: only if nothing of it was sent. An idempotent request of which something was sent may have
    /// ended the handler, and would end the next one.
    pub(super) fn unanswered(&self, handler: &Handler, limits: HandlerLimits, permit: Permit) -> Unanswered {
        Unanswered {
            refusal: self.refusal(handler, limits),
            failure: Some(Failure::Unanswered),
            may_go_elsewhere: !self.late && !self.malformed && self.nothing_sent,
            permit: Some(permit),
        }
    }

    /// What the peer is told.
    fn refusal(&self, handler: &Handler, limits: HandlerLimits) -> Refusal {
        let Self { error, late: is_late, malformed, .. } = self;
        match (is_late, malformed) {
            (true, _) => late(handler, limits),
            (false, true) => Refusal::new(
                Reject::HandlerMalformed,
                format!("The handler at {handler} answered with something that is not HTTP/1.1: {error}."),
            ),
            (false, false) => Refusal::new(
                Reject::HandlerUnavailable,
                format!("The handler at {handler} closed the connection before answering: {error}."),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use hookgate_core::limits::Limits;
    use hookgate_core::route::RouteLimits;

    use super::*;

    fn failure(nothing_sent: bool, malformed: bool, late: bool) -> AttemptFailure {
        AttemptFailure { error: "connection closed before message completed".into(), nothing_sent, malformed, late }
    }

    #[test]
    fn a_request_is_repeated_only_if_the_handler_cannot_have_acted_on_it() {
        let check = |failure: AttemptFailure, method: Method, expected| {
            assert_eq!(failure.is_safe_to_repeat(&method), expected, "{method} {failure:?}");
        };
        check(failure(true, false, false), Method::POST, true);
        check(failure(false, false, false), Method::POST, false);
        check(failure(false, false, false), Method::PUT, true);
        check(failure(false, false, false), Method::GET, true);
        check(failure(false, true, false), Method::GET, false);
        check(failure(true, false, true), Method::GET, false);
    }

    #[test]
    fn a_failure_is_told_by_what_the_handler_did() {
        let handler = Handler::unix("/run/app.sock");
        let limits = Limits::default();
        let limits = HandlerLimits::share(&limits, &RouteLimits::of(&limits), 1);
        let check = |failure: AttemptFailure, expected, part: &str| {
            let refusal = failure.refusal(&handler, limits);
            assert_eq!(refusal.reject, expected);
            assert!(refusal.detail().contains(part), "{refusal}");
        };
        check(failure(false, false, true), Reject::HandlerTimeout, "within 30000 ms (handler_timeout_ms)");
        check(failure(false, true, false), Reject::HandlerMalformed, "not HTTP/1.1");
        check(failure(true, false, false), Reject::HandlerUnavailable, "before answering");
    }
}
