//! What the log says of one request, and of a connection or handshake that was refused: one event, with the same fields in every format.
//!
//! Owns the events, the names and types of their fields (docs/logging.md has the table), and which of them `[log]` wants. `http` and `worker`
//! fill a [`Record`] from what they hold anyway, `control::log` bounds and writes it. Must not measure or look anything up, and must not
//! take a value that may be a secret: no field value, no query, no token, no body.

use std::time::Duration;

use hookgate_core::reject::Refusal;

use crate::cause::Cause;

/// The target of events about requests of senders that were answered. They have a limit per second of their own, so that no number of them hides
/// a refusal.
pub const ANSWERED: &str = "hookgate::access::answered";

/// The target of all other events of this room.
const OTHERS: &str = "hookgate::access";

/// Most bytes of a path in the log: most webhook URLs are shorter than 100. A head may have up to `max_head_bytes`.
const MAXIMUM_PATH_BYTES: usize = 512;

/// Most bytes of a method: the longest registered one has 18 (UPDATEREDIRECTREF).
const MAXIMUM_METHOD_BYTES: usize = 32;

/// Most bytes of a subject. It is up to three times as long as the certificate.
const MAXIMUM_SUBJECT_BYTES: usize = 512;

/// Which requests and handshakes the log has an event for: `access` of `[log]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Only for those that failed because of a handler or of hookgate itself, since an operator has to act on them.
    Off,
    /// For those that were refused, or ended before their answer.
    Refused,
    /// For every request, and for every handshake that was refused.
    #[default]
    All,
}

/// `[log]`, as far as it is about single requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessRules {
    /// Which events there are.
    pub access: Access,
    /// Of so many answered requests of a worker, one has an event. At least 1. Refusals are not sampled.
    pub sample: u32,
    /// Whether an event has the path of the request.
    pub path: bool,
}

impl Default for AccessRules {
    fn default() -> Self {
        Self { access: Access::default(), sample: 1, path: true }
    }
}

/// What became of a request or a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The peer took the whole answer: that of the handler, or the configured one to a duplicate or of a public route.
    Answered,
    /// The peer was refused.
    Refused,
    /// The answer broke off, or the peer did not take it: the connection was cut.
    Cut,
    /// The peer went away before it had the whole answer.
    Abandoned,
    /// There was no place for the connection.
    ConnectionRefused,
    /// The handshake was refused or failed; or it was completed although the certificate was refused, and no request followed.
    HandshakeRefused,
    /// The peer closed the connection during the handshake, or after it without a request, as port scans and health checks do.
    HandshakeEnded,
}

impl AccessRules {
    /// Whether there is an event for this outcome. `cause` is that of a refusal. Answered requests are also subject to `sample`.
    pub fn want(&self, outcome: Outcome, cause: Option<Cause>) -> bool {
        match self.access {
            Access::All => true,
            Access::Refused => outcome != Outcome::Answered,
            Access::Off => matches!(cause, Some(Cause::Handler | Cause::Gateway)),
        }
    }
}

/// What the handshake of a connection negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tls {
    /// `1.2` or `1.3`; empty if unknown.
    pub version: &'static str,
    /// The registered name of the cipher suite, such as `TLS_AES_128_GCM_SHA256`; empty if unknown.
    pub suite: &'static str,
    /// Whether a session was resumed.
    pub resumed: bool,
}

/// What is known of a request or handshake when it has ended. `None`, and an empty text, are left out of the event.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Why it was refused; of a duplicate, that it is one.
    pub refusal: Option<&'a Refusal>,
    /// The status of the answer; 499 if there is none because the peer left.
    pub status: Option<u16>,
    /// The provider that the request proves, or that the certificate claims.
    pub provider: Option<&'a str>,
    /// The profile by which the certificate proves it.
    pub profile: Option<&'a str>,
    /// The subject of the admitted certificate, printable ASCII (RFC 4514).
    pub subject: Option<&'a str>,
    /// What the request proved, as in `X-Hookgate-Proof`.
    pub proof: &'a str,
    /// The route that was found.
    pub route: Option<&'a str>,
    /// The method of the request.
    pub method: Option<&'a str>,
    /// The version of HTTP: `1.0`, `1.1` or `2`.
    pub http_version: Option<&'a str>,
    /// The path of the request, without its query.
    pub path: Option<&'a str>,
    /// Address and port of the peer.
    pub peer: &'a str,
    /// Address and port of the proxy that the peer came through.
    pub proxy: Option<&'a str>,
    /// The server name that the peer asked for.
    pub server_name: Option<&'a str>,
    /// The id of the request.
    pub request_id: Option<&'a str>,
    /// The handshake of the connection, if it was completed.
    pub tls: Option<Tls>,
    /// Bytes of the body of the request that were read.
    pub bytes_in: Option<u64>,
    /// Bytes of the body of the answer that were given to the peer's connection.
    pub bytes_out: Option<u64>,
    /// From the end of the head to the hand-over to the handler: the body, and the proofs.
    pub to_handler: Option<Duration>,
    /// From the hand-over to the head of the handler's answer, or to the failure; includes the wait for a place.
    pub handler: Option<Duration>,
    /// From the proof of a request to a durable route until it was stored, or not.
    pub stored: Option<Duration>,
    /// From the end of the head until the kernel had the whole answer; of a handshake, from the accept to its end.
    pub duration: Option<Duration>,
    /// The number of the worker, from 0.
    pub worker: usize,
    /// Of so many such requests, one is logged.
    pub sample: u32,
    /// Who causes the event. `None` of an answered request of a sender.
    pub cause: Option<Cause>,
}

/// Makes the event. The order of the fields is that of a line of text: what is looked for comes first.
macro_rules! event {
    ($record:expr, $target:expr, $level:ident, $message:literal) => {{
        let record: &Record<'_> = $record;
        tracing::event!(
            target: $target,
            tracing::Level::$level,
            reason = record.refusal.map(|refusal| refusal.reject.row().reason),
            status = record.status,
            provider = record.provider,
            profile = record.profile,
            subject = record.subject.map(|subject| beginning(subject, MAXIMUM_SUBJECT_BYTES)),
            proof = known(record.proof),
            route = record.route,
            method = record.method.map(|method| beginning(method, MAXIMUM_METHOD_BYTES)),
            http_version = record.http_version,
            path = record.path.map(|path| beginning(path, MAXIMUM_PATH_BYTES)),
            peer = record.peer,
            proxy = record.proxy,
            server_name = record.server_name,
            request_id = record.request_id,
            tls_version = record.tls.and_then(|tls| known(tls.version)),
            tls_suite = record.tls.and_then(|tls| known(tls.suite)),
            resumed = record.tls.map(|tls| tls.resumed),
            bytes_in = record.bytes_in,
            bytes_out = record.bytes_out,
            to_handler_ms = record.to_handler.map(milliseconds),
            handler_ms = record.handler.map(milliseconds),
            stored_ms = record.stored.map(milliseconds),
            duration_ms = record.duration.map(milliseconds),
            worker = record.worker,
            sample = Some(record.sample).filter(|sample| *sample > 1),
            detail = record.refusal.map(Refusal::detail),
            cause = record.cause.map(Cause::label),
            $message
        );
    }};
}

impl<'a> Record<'a> {
    /// With nothing but the address of a peer, and the number of the worker that serves it.
    pub fn new(peer: &'a str, worker: usize) -> Self {
        Self {
            refusal: None,
            status: None,
            provider: None,
            profile: None,
            subject: None,
            proof: "",
            route: None,
            method: None,
            http_version: None,
            path: None,
            peer,
            proxy: None,
            server_name: None,
            request_id: None,
            tls: None,
            bytes_in: None,
            bytes_out: None,
            to_handler: None,
            handler: None,
            stored: None,
            duration: None,
            worker,
            sample: 1,
            cause: None,
        }
    }

    /// Logs it as `outcome`.
    pub fn log(&self, outcome: Outcome) {
        match outcome {
            Outcome::Answered if self.cause.is_none() => event!(self, ANSWERED, INFO, "request answered"),
            Outcome::Answered => event!(self, OTHERS, INFO, "request answered"),
            Outcome::Refused => event!(self, OTHERS, WARN, "request refused"),
            Outcome::Cut => event!(self, OTHERS, WARN, "answer cut"),
            Outcome::Abandoned => event!(self, OTHERS, INFO, "request abandoned"),
            Outcome::ConnectionRefused => event!(self, OTHERS, WARN, "connection refused"),
            Outcome::HandshakeRefused => event!(self, OTHERS, WARN, "handshake refused"),
            Outcome::HandshakeEnded => event!(self, OTHERS, DEBUG, "handshake ended"),
        }
    }
}

/// What became of an attempt to hand a stored delivery over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handover {
    /// The handler took it.
    Taken,
    /// There will be another attempt.
    Again,
    /// It is a dead letter.
    Dead,
}

/// An attempt to hand a stored delivery over.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The id of the delivery, which is that of the sender's request.
    pub delivery: &'a str,
    /// The name of its route.
    pub route: &'a str,
    /// The name of its provider.
    pub provider: &'a str,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The status of the handler's answer, if there is one.
    pub status: Option<u16>,
    /// From the hand-over to the head of the handler's answer, or to the failure.
    pub handler: Duration,
    /// Until the next attempt.
    pub next: Option<Duration>,
    /// What came of it, if the handler did not take it.
    pub outcome: Option<&'a str>,
}

/// Makes the event of an attempt.
macro_rules! attempt_event {
    ($attempt:expr, $target:expr, $level:ident, $message:literal) => {{
        let attempt: &Attempt<'_> = $attempt;
        tracing::event!(
            target: $target,
            tracing::Level::$level,
            status = attempt.status,
            provider = attempt.provider,
            route = attempt.route,
            request_id = attempt.delivery,
            attempt = attempt.attempt,
            handler_ms = milliseconds(attempt.handler),
            next_ms = attempt.next.map(milliseconds),
            detail = attempt.outcome,
            cause = attempt.outcome.map(|_| Cause::Handler.label()),
            $message
        );
    }};
}

impl Attempt<'_> {
    /// Logs it, if the rules want that.
    pub fn log(&self, rules: &AccessRules, handover: Handover) {
        match handover {
            Handover::Taken if rules.want(Outcome::Answered, None) => {
                attempt_event!(self, ANSWERED, INFO, "delivery taken");
            }
            Handover::Taken => {}
            Handover::Again if rules.want(Outcome::Refused, Some(Cause::Handler)) => {
                attempt_event!(self, OTHERS, WARN, "delivery not taken");
            }
            Handover::Again => {}
            Handover::Dead => attempt_event!(self, OTHERS, WARN, "delivery dead"),
        }
    }
}

fn known(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// With the resolution of a microsecond.
fn milliseconds(duration: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "2^53 microseconds are 285 years")]
    let microseconds = duration.as_micros() as f64;
    microseconds / 1000.0
}

/// The first `maximum` bytes of `text`, or fewer, so that no character is split.
fn beginning(text: &str, maximum: usize) -> &str {
    let end = (0..=text.len().min(maximum)).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or_default()]
}
