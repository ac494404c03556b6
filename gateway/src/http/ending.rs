//! How a connection ends, after hyper is done with it.
//!
//! Owns the decision: an orderly end, a last problem document, or a visible cut. Pure: [`super::connection`] carries it out.

use std::fmt;
use std::time::Duration;

use hookgate_core::limits::Limits;
use hookgate_core::reject::{Refusal, Reject};

use super::stage::{LINGER_TIMEOUT, Stage};

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

/// How much a peer may still send of a request that was answered already, and for how long, before the connection is reset.
///
/// What arrives is discarded as it is, encrypted, so it costs neither memory nor a decryption. Many senders write a whole body before they
/// read, so the bounds are those of bodies that a sender could mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Linger {
    /// Bytes of ciphertext.
    pub(super) bytes: usize,
    /// As long as the peer goes on sending.
    time: Duration,
}

impl Linger {
    /// 64 times the default of `max_body_bytes`; the time is nginx' lingering_time.
    const ADMITTED: Self = Self { bytes: 64 * 1024 * 1024, time: Duration::from_secs(30) };

    /// 4 times the default of `max_body_bytes`: senders without a certificate are strangers until a request has proven them.
    const STRANGER: Self = Self { bytes: 4 * 1024 * 1024, time: LINGER_TIMEOUT };

    pub(super) fn of(is_stranger: bool) -> Self {
        if is_stranger { Self::STRANGER } else { Self::ADMITTED }
    }

    /// Whether a peer that has just sent something may be silent for [`LINGER_TIMEOUT`] again. A process that is `draining` waits no longer.
    pub(super) fn goes_on(self, lasted: Duration, draining: bool) -> bool {
        !draining && lasted + LINGER_TIMEOUT <= self.time
    }
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
pub(super) fn ending(stage: Stage, overdue: bool, alerted: bool, outcome: &Outcome, limits: &Limits) -> Ending {
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
            let (bytes, fields) = (limits.max_head_bytes, limits.max_headers);
            let detail = format!(
                "The request head is longer than {bytes} bytes (max_head_bytes) or has more than {fields} fields (max_headers)."
            );
            refuse(Reject::HeadTooLarge, &detail)
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
            let found = ending(stage, overdue, false, &outcome, &Limits::default());
            assert_eq!(reason(&found), expected, "{stage:?} {overdue} {outcome:?}");
            // After a violation of TLS, nothing but the alert can be sent.
            let alerted = ending(stage, overdue, true, &outcome, &Limits::default());
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
    fn a_peer_that_goes_on_sending_lingers_within_its_bounds() {
        let goes_on =
            |stranger, seconds, draining| Linger::of(stranger).goes_on(Duration::from_secs(seconds), draining);
        assert!(goes_on(false, 0, false) && goes_on(false, 25, false));
        assert!(!goes_on(false, 26, false), "30 seconds in all");
        assert!(!goes_on(false, 0, true), "a drain does not wait for it");
        assert!(goes_on(true, 0, false) && !goes_on(true, 1, false), "a stranger has 5 seconds");
        assert!(Linger::of(true).bytes < Linger::of(false).bytes);
    }

    #[test]
    fn a_head_that_is_too_large_is_told_both_limits() {
        let limits = Limits { max_head_bytes: 5000, max_headers: 7, ..Limits::default() };
        let Ending::Refuse(refusal) = ending(NO_REQUEST, false, false, &Outcome::TooLarge, &limits) else {
            unreachable!()
        };
        let detail = refusal.detail();
        assert!(
            detail.contains("5000 bytes (max_head_bytes)") && detail.contains("7 fields (max_headers)"),
            "{detail}"
        );
    }

    #[test]
    fn a_refusal_of_bytes_says_what_is_wrong_with_them() {
        let found = ending(
            NO_REQUEST,
            false,
            false,
            &Outcome::Malformed("invalid HTTP method parsed".into()),
            &Limits::default(),
        );
        let Ending::Refuse(refusal) = found else { unreachable!("{found:?}") };
        assert!(refusal.detail().contains("invalid HTTP method parsed"), "{refusal}");
    }
}
