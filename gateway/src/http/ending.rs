//! How a connection ends, after hyper is done with it.
//!
//! Owns the decision: an orderly end, a last problem document, or a visible cut. Pure: [`super::connection`] carries it out.

use std::fmt;

use hookgate_core::reject::{Refusal, Reject};

use super::stage::Stage;

/// How a connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// A problem document for a peer whose bytes are no request; then as [`Ending::Linger`].
    Refuse(Refusal),
    /// `close_notify`, and the peer may send the rest of a request that was answered already.
    Linger,
    /// `close_notify`.
    Close,
    /// The alert that is queued, for a peer that broke TLS. It tells a cut body from a whole one, too.
    Alert,
    /// As [`Ending::Cut`], for a peer that took too little of its answer.
    CutSlow(Refusal),
    /// Nothing: without a `close_notify`, the peer cannot take a cut body for a whole one.
    Cut,
}

/// Why hyper ended a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Either side closed it between two requests, or after an answer that said so.
    Done,
    /// A head is longer than the limits allow.
    TooLarge,
    /// The bytes are no request; hyper's sentence about it.
    Malformed(String),
    /// The stream ended in the middle of a message; hyper's sentence about it.
    Incomplete(String),
    /// The socket failed, or an answer broke off; hyper's sentence about it.
    Failed(String),
}

impl From<Result<(), hyper::Error>> for Outcome {
    fn from(result: Result<(), hyper::Error>) -> Self {
        match result {
            Ok(()) => Self::Done,
            Err(error) if error.is_parse_too_large() => Self::TooLarge,
            Err(error) if error.is_parse() => Self::Malformed(error.to_string()),
            Err(error) if error.is_incomplete_message() => Self::Incomplete(error.to_string()),
            Err(error) => Self::Failed(error.to_string()),
        }
    }
}

impl fmt::Display for Outcome {
    /// For the log.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Done => "it was closed",
            Self::TooLarge => "a head is longer than the limits allow",
            Self::Malformed(text) | Self::Incomplete(text) | Self::Failed(text) => text,
        })
    }
}

/// How the connection ends that stands at `stage`; `overdue` if the sweep has shut it down, `alerted` if the peer broke TLS.
pub(super) fn ending(stage: Stage, overdue: bool, alerted: bool, outcome: &Outcome) -> Ending {
    let refuse = |reject, detail: &str| Ending::Refuse(Refusal::new(reject, detail));
    match outcome {
        _ if stage.is_in_head() && overdue => {
            refuse(Reject::RequestTimeout, "The head of the request did not arrive within request_head_timeout_ms.")
        }
        _ if stage.is_stalled() && overdue => {
            let detail =
                "The peer took fewer than 256 bytes a second of the answer for response_timeout_ms, and was cut.";
            Ending::CutSlow(Refusal::new(Reject::ResponseTimeout, detail))
        }
        _ if alerted => Ending::Alert,
        Outcome::TooLarge if stage.is_no_request() => {
            refuse(Reject::HeadTooLarge, "The request head exceeds max_head_bytes or max_headers.")
        }
        Outcome::TooLarge if stage.is_in_head() => malformed("message head is too large"),
        Outcome::Malformed(error) if stage.is_no_request() || stage.is_in_head() => malformed(error),
        Outcome::Incomplete(error) | Outcome::Failed(error) if stage.is_no_request() => malformed(error),
        Outcome::Incomplete(_) if stage.is_in_head() => {
            refuse(Reject::MalformedRequest, "The connection ended in the middle of the request head.")
        }
        Outcome::Done if stage.is_unread() => Ending::Linger,
        Outcome::Done => Ending::Close,
        Outcome::TooLarge | Outcome::Malformed(_) | Outcome::Incomplete(_) | Outcome::Failed(_) => Ending::Cut,
    }
}

fn malformed(error: &str) -> Ending {
    let detail = format!("The bytes received are no HTTP/1.1 request: {error}.");
    Ending::Refuse(Refusal::new(Reject::MalformedRequest, detail))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HEAD: Stage = Stage::Head { began: Duration::ZERO };
    const NO_REQUEST: Stage = Stage::NoRequest { in_head: true };
    const HANDLING: Stage = Stage::Handling { unread: false };

    #[test]
    fn a_connection_ends_as_its_stage_and_the_outcome_say() {
        let reason = |ending: &Ending| match ending {
            Ending::Refuse(refusal) => refusal.reject.row().reason,
            Ending::Linger => "linger",
            Ending::Alert => "alert",
            Ending::Close => "close",
            Ending::CutSlow(refusal) => refusal.reject.row().reason,
            Ending::Cut => "cut",
        };
        let text = || "what hyper says".to_owned();
        let check = |stage, overdue, outcome: Outcome, expected| {
            let found = ending(stage, overdue, false, &outcome);
            assert_eq!(reason(&found), expected, "{stage:?} {overdue} {outcome:?}");
            // After a violation of TLS, nothing but the alert can be sent.
            let alerted = ending(stage, overdue, true, &outcome);
            assert!(overdue || alerted == Ending::Alert, "{stage:?} {outcome:?}: {alerted:?}");
        };
        check(Stage::First, false, Outcome::Done, "close");
        check(Stage::First, true, Outcome::Done, "close");
        check(Stage::Idle, true, Outcome::Done, "close");
        check(Stage::Answered, false, Outcome::Done, "linger");
        check(HEAD, true, Outcome::Incomplete(text()), "request_timeout");
        check(HEAD, true, Outcome::Done, "request_timeout");
        check(NO_REQUEST, true, Outcome::Malformed(text()), "request_timeout");
        check(HEAD, false, Outcome::Incomplete(text()), "malformed_request");
        check(HEAD, false, Outcome::Malformed(text()), "malformed_request");
        check(NO_REQUEST, false, Outcome::TooLarge, "head_too_large");
        check(NO_REQUEST, false, Outcome::Malformed(text()), "malformed_request");
        check(NO_REQUEST, false, Outcome::Failed(text()), "malformed_request");
        check(Stage::Body, false, Outcome::Incomplete(text()), "cut");
        check(HANDLING, false, Outcome::Failed(text()), "cut");
        check(Stage::Stalled { unread: false }, false, Outcome::Failed(text()), "cut");
        check(Stage::Stalled { unread: false }, true, Outcome::Failed(text()), "response_timeout");
        check(Stage::Flushing { unread: true, stalled: true }, true, Outcome::Done, "response_timeout");
        check(Stage::First, false, Outcome::Failed(text()), "cut");
    }

    #[test]
    fn a_refusal_of_bytes_says_what_is_wrong_with_them() {
        let found = ending(NO_REQUEST, false, false, &Outcome::Malformed("invalid HTTP method parsed".into()));
        let Ending::Refuse(refusal) = found else { unreachable!("{found:?}") };
        assert!(refusal.detail().contains("invalid HTTP method parsed"), "{refusal}");
    }
}
