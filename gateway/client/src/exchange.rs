//! One HTTP request over a finished handshake, and its answer with the times.
//!
//! Owns the bounds of an answer, and what of it is kept. Must not decide what to send: `probe` and `send` do.

use std::time::{Duration, Instant};

use http::header::{CONTENT_TYPE, HOST, HeaderMap, LOCATION};
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::tls::TlsFailure;

/// The most bytes of an answer's body that are read. Senders read less: Dialogflow 64 KiB.
const MAXIMUM_BODY_BYTES: usize = 1 << 20;
/// The most characters of the receiver's words in a report. The details of hookgate's refusals have a few hundred.
const MAXIMUM_WORDS: usize = 1000;
/// The media type of problem documents (RFC 9457, section 3).
const PROBLEM: &str = "application/problem+json";

/// What to send.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Header fields beside `Host` and `Content-Length`, in order.
    pub fields: Vec<(String, String)>,
    /// The value of `Host`.
    pub host: String,
    /// The body.
    pub body: Bytes,
}

/// An answer.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// `reason` of a problem document: hookgate's code for a refusal.
    pub reason: Option<String>,
    /// `request_id` of a problem document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// `detail` of a problem document, or the first words of another body that is text.
    pub words: Option<String>,
    /// The field `Location`.
    pub location: Option<String>,
    /// From the first byte of the request to the first byte of the answer.
    #[serde(rename = "first_byte_ms", serialize_with = "milliseconds")]
    pub first_byte: Duration,
    /// From the first byte of the request to the last one of the answer.
    #[serde(rename = "whole_ms", serialize_with = "milliseconds")]
    pub whole: Duration,
}

/// Writes a duration as milliseconds, with three decimals.
pub(crate) fn milliseconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((duration.as_secs_f64() * 1e6).round() / 1e3)
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// TLS ended: an alert, or a closed connection.
    #[error(transparent)]
    Tls(#[from] TlsFailure),
    /// No answer within the time.
    #[error("no answer within {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// The answer is not HTTP.
    #[error("the answer is not HTTP/1.1: {0}")]
    NotHttp(String),
    /// The request cannot be written as HTTP.
    #[error("the request is not valid HTTP: {0}")]
    Request(String),
}

/// A connection on which one request is sent after another.
#[derive(Debug)]
pub struct Connection(SendRequest<Full<Bytes>>);

impl Connection {
    /// Takes over a stream, after its handshake if it is of TLS. Must be called within a tokio runtime, on which it spawns the task that
    /// moves the bytes.
    ///
    /// # Errors
    ///
    /// hyper refuses the stream, which it does not do for HTTP/1.1.
    pub async fn new(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Result<Self, ExchangeError> {
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| failure(&error))?;
        // Its errors come back from `send` too.
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    /// Sends a request, and reads the answer to its end. `limit` is for the first byte and for the rest each.
    ///
    /// # Errors
    ///
    /// No answer, or none that is HTTP.
    pub async fn send(&mut self, request: &Request, limit: Duration) -> Result<Answer, ExchangeError> {
        let built = build(request)?;
        let start = Instant::now();
        let late = |_| ExchangeError::TimedOut(limit);
        let response =
            timeout(limit, self.0.send_request(built)).await.map_err(late)?.map_err(|error| failure(&error))?;
        let first_byte = start.elapsed();
        let (head, body) = response.into_parts();
        let body = timeout(limit, read(body)).await.map_err(late)??;
        let whole = start.elapsed();
        Ok(answer(head.status, &head.headers, &body, first_byte, whole))
    }

    /// Whether another request can be sent. Waits until the last answer is dealt with.
    pub async fn is_usable(&mut self) -> bool {
        self.0.ready().await.is_ok()
    }
}

fn build(request: &Request) -> Result<http::Request<Full<Bytes>>, ExchangeError> {
    let mut builder = http::Request::builder().method(request.method.clone()).uri(&request.path);
    builder = builder.header(HOST, &request.host);
    for (name, value) in &request.fields {
        builder = builder.header(name, value);
    }
    builder.body(Full::new(request.body.clone())).map_err(|error| ExchangeError::Request(error.to_string()))
}

fn failure(error: &hyper::Error) -> ExchangeError {
    if let Some(tls) = TlsFailure::of(error) {
        return ExchangeError::Tls(tls);
    }
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return ExchangeError::Tls(TlsFailure::Closed);
    }
    ExchangeError::NotHttp(error.to_string())
}

/// Reads a body up to [`MAXIMUM_BODY_BYTES`]; the rest is left.
async fn read(mut body: Incoming) -> Result<Vec<u8>, ExchangeError> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| failure(&error))?;
        let Some(data) = frame.data_ref() else { continue };
        let room = MAXIMUM_BODY_BYTES - bytes.len();
        bytes.extend_from_slice(&data[..data.len().min(room)]);
        if bytes.len() == MAXIMUM_BODY_BYTES {
            break;
        }
    }
    Ok(bytes)
}

fn answer(status: StatusCode, fields: &HeaderMap, body: &[u8], first_byte: Duration, whole: Duration) -> Answer {
    let field = |name| fields.get(name).and_then(|value| value.to_str().ok()).map(printable);
    let kind = field(CONTENT_TYPE).unwrap_or_default();
    let problem: Option<serde_json::Value> =
        kind.starts_with(PROBLEM).then(|| serde_json::from_slice(body).ok()).flatten();
    let member = |name: &str| problem.as_ref()?.get(name)?.as_str().map(printable);
    let text = || std::str::from_utf8(body).ok().map(printable).filter(|text| !text.is_empty());
    Answer {
        status: status.as_u16(),
        reason: member("reason"),
        request_id: member("request_id"),
        words: if problem.is_some() { member("detail") } else { text() },
        location: field(LOCATION),
        first_byte,
        whole,
    }
}

/// A stranger's words, for a terminal: on one line, bounded, without control characters.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut words = String::new();
    for (index, character) in text.trim().chars().enumerate() {
        if index == MAXIMUM_WORDS {
            words.push('…');
            break;
        }
        match character {
            character if character.is_whitespace() => {
                if !words.ends_with(' ') {
                    words.push(' ');
                }
            }
            // Also what changes the direction of text, or has no width.
            ' '..='~' => words.push(character),
            character if character.is_alphanumeric() => words.push(character),
            other => words.extend(other.escape_unicode()),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer_of(kind: &str, body: &str) -> Answer {
        let mut fields = HeaderMap::new();
        fields.insert(CONTENT_TYPE, kind.parse().expect("a field value"));
        answer(StatusCode::FORBIDDEN, &fields, body.as_bytes(), Duration::ZERO, Duration::ZERO)
    }

    #[test]
    fn a_problem_document_gives_its_reason() {
        let document = "{\"reason\":\"unknown_issuer\",\"detail\":\"No path.\",\"status\":403,\"request_id\":\"5f\"}";
        let answer = answer_of("application/problem+json", document);
        assert_eq!(answer.request_id.as_deref(), Some("5f"));
        assert_eq!((answer.reason.as_deref(), answer.words.as_deref()), (Some("unknown_issuer"), Some("No path.")));
        let answer = answer_of("text/html", "<h1>400\n\n Bad</h1>");
        assert_eq!((answer.reason, answer.words.as_deref()), (None, Some("<h1>400 Bad</h1>")));
        let answer = answer_of("application/problem+json", "not json");
        assert_eq!((answer.reason, answer.words.as_deref()), (None, Some("not json")));
    }

    #[test]
    fn words_of_a_stranger_cannot_steer_a_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\u{202e}c\r\nd\u{7}"), "a\\u{1b}[2Jb\\u{202e}c d\\u{7}");
        assert_eq!(printable(&"é".repeat(2000)).chars().count(), MAXIMUM_WORDS + 1);
    }
}
