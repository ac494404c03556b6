//! Whether the head of a handler's answer tells where the answer ends, and what of the head is for the peer.
//!
//! Pure. hyper has read the head, and takes the first of several statements about the length that it understands; this room sees all of
//! them. A head that two readers can understand differently is refused: one of them would take a cut answer for a whole one, or the rest
//! of one answer for the next. Must not look at a body.

use hyper::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use hyper::http::response::Parts;
use hyper::{Method, StatusCode, Version};
use thiserror::Error;

use super::headers;
use hookgate_core::reject::Reject;

/// How an answer ends, and what happens to its connection then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Framing {
    /// The body ends with the connection (RFC 9112, section 6.3, item 8), so that an end that hookgate itself caused looks like its own.
    pub(super) until_close: bool,
    /// The next request may use the connection.
    ///
    /// Not after 204 or 304 with a head that announces a body: some handlers send it all the same, and its first bytes would be taken for
    /// the next answer. To HEAD a head announces a body as a rule; if it comes with the head, hyper closes the connection.
    pub(super) may_reuse: bool,
}

/// Why an answer cannot be forwarded.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(super) enum AnswerFault {
    /// RFC 9110, section 15.2.2.
    #[error("is 101 Switching Protocols, although the request did not ask for it")]
    Switching,
    /// RFC 9110, section 15.
    #[error("has the status {0}, and statuses end at 599")]
    Status(u16),
    /// RFC 9112, section 6.1: possibly an attempt at response splitting.
    #[error("has both Transfer-Encoding and Content-Length")]
    CodingAndLength,
    /// RFC 9110, section 8.6.
    #[error("has a Content-Length that is not one number")]
    Length,
    /// RFC 9112, section 6.1. hookgate undoes `chunked` alone, and the field is not forwarded, so that the peer could not undo the rest.
    #[error("has a Transfer-Encoding other than \"chunked\" once, or one in HTTP/1.0")]
    Coding,
}

impl AnswerFault {
    /// The reason of the refusal.
    pub(super) fn reject(self) -> Reject {
        match self {
            Self::Switching | Self::Status(_) => Reject::HandlerMalformed,
            Self::CodingAndLength | Self::Length | Self::Coding => Reject::HandlerAmbiguous,
        }
    }
}

/// Judges the head of the answer to a request with this method.
///
/// # Errors
///
/// [`AnswerFault`]: nothing of the answer may be used, nor its connection.
pub(super) fn judge(head: &Parts, method: &Method) -> Result<Framing, AnswerFault> {
    let Parts { status, version, headers, .. } = head;
    if *status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(AnswerFault::Switching);
    }
    if status.as_u16() > 599 {
        return Err(AnswerFault::Status(status.as_u16()));
    }
    let is_chunked = is_chunked(headers, *version)?;
    let length = length(headers)?;
    if is_chunked && length.is_some() {
        return Err(AnswerFault::CodingAndLength);
    }
    let announces_body = is_chunked || length.is_some_and(|length| length != "0");
    let has_body = *method != Method::HEAD && !is_bodiless(*status);
    Ok(Framing {
        until_close: has_body && !is_chunked && length.is_none(),
        may_reuse: !(announces_body && is_bodiless(*status)),
    })
}

/// Makes the head of the handler's answer that of hookgate's: its own HTTP version (RFC 9112, section 2.3), and end-to-end fields only.
pub(super) fn own(head: &mut Parts) {
    head.version = Version::HTTP_11;
    headers::strip_connection_fields(&mut head.headers);
    if is_bodiless(head.status) {
        // Forbidden with 204, and of no use with 304 (RFC 9110, section 8.6).
        head.headers.remove(CONTENT_LENGTH);
    }
}

/// Statuses whose answers never have a body (RFC 9112, section 6.3, item 1).
fn is_bodiless(status: StatusCode) -> bool {
    status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED
}

/// Whether the body has the one transfer coding that hookgate undoes.
fn is_chunked(headers: &HeaderMap, version: Version) -> Result<bool, AnswerFault> {
    let mut fields = headers.get_all(TRANSFER_ENCODING).iter();
    match (fields.next(), fields.next()) {
        (None, _) => Ok(false),
        (Some(coding), None)
            if version == Version::HTTP_11 && coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") =>
        {
            Ok(true)
        }
        (Some(_), _) => Err(AnswerFault::Coding),
    }
}

/// The value of Content-Length: digits.
fn length(headers: &HeaderMap) -> Result<Option<&HeaderValue>, AnswerFault> {
    let mut fields = headers.get_all(CONTENT_LENGTH).iter();
    match (fields.next(), fields.next()) {
        (None, _) => Ok(None),
        (Some(value), None) if !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit) => Ok(Some(value)),
        (Some(_), _) => Err(AnswerFault::Length),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

    use hyper::Response;

    use super::*;

    fn head(version: Version, status: u16, fields: &[(&str, &str)]) -> Parts {
        let mut response = Response::builder().version(version).status(status);
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        response.body(()).unwrap().into_parts().0
    }

    const CHUNKED: (&str, &str) = ("Transfer-Encoding", "chunked");
    const FOUR: (&str, &str) = ("Content-Length", "4");
    const NONE: (&str, &str) = ("Content-Length", "0");

    #[test]
    fn an_answer_of_uncertain_length_is_refused() {
        let check = |status, fields: &[(&str, &str)], expected: AnswerFault| {
            for method in [Method::POST, Method::HEAD] {
                let found = judge(&head(Version::HTTP_11, status, fields), &method);
                assert_eq!(found, Err(expected), "{method} {status} {fields:?}");
            }
        };
        check(101, &[], AnswerFault::Switching);
        check(600, &[], AnswerFault::Status(600));
        check(999, &[FOUR], AnswerFault::Status(999));
        for status in [200, 204, 304, 500] {
            check(status, &[CHUNKED, FOUR], AnswerFault::CodingAndLength);
            check(status, &[CHUNKED, NONE], AnswerFault::CodingAndLength);
            check(status, &[FOUR, FOUR], AnswerFault::Length);
            check(status, &[FOUR, NONE], AnswerFault::Length);
            for length in ["4, 4", "4,5", "", "+4", "-4", "4 4", "0x4", "4.0", "four"] {
                check(status, &[("Content-Length", length)], AnswerFault::Length);
            }
            check(status, &[CHUNKED, CHUNKED], AnswerFault::Coding);
            for coding in ["gzip, chunked", "chunked, chunked", "gzip", "identity", "chunked, gzip", "", "chunked;q=1"]
            {
                check(status, &[("Transfer-Encoding", coding)], AnswerFault::Coding);
            }
        }
    }

    #[test]
    fn http_10_has_no_transfer_coding() {
        assert_eq!(judge(&head(Version::HTTP_10, 200, &[CHUNKED]), &Method::POST), Err(AnswerFault::Coding));
        assert!(judge(&head(Version::HTTP_10, 200, &[FOUR]), &Method::POST).is_ok());
    }

    #[test]
    fn a_framing_says_how_the_answer_ends_and_whether_its_connection_is_used_again() {
        let check = |method: Method, status, fields: &[(&str, &str)], until_close, may_reuse| {
            let expected = Framing { until_close, may_reuse };
            let found = judge(&head(Version::HTTP_11, status, fields), &method);
            assert_eq!(found, Ok(expected), "{method} {status} {fields:?}");
        };
        check(Method::POST, 200, &[FOUR], false, true);
        check(Method::POST, 200, &[NONE], false, true);
        check(Method::POST, 200, &[CHUNKED], false, true);
        check(Method::POST, 200, &[("transfer-encoding", " Chunked ")], false, true);
        check(Method::POST, 200, &[], true, true);
        check(Method::POST, 204, &[], false, true);
        check(Method::POST, 204, &[NONE], false, true);
        check(Method::POST, 204, &[FOUR], false, false);
        check(Method::POST, 204, &[CHUNKED], false, false);
        check(Method::POST, 304, &[FOUR], false, false);
        check(Method::HEAD, 200, &[], false, true);
        check(Method::HEAD, 200, &[FOUR], false, true);
        check(Method::HEAD, 200, &[CHUNKED], false, true);
    }

    #[test]
    fn a_head_becomes_our_own() {
        let check = |status, fields: &[(&str, &str)], expected: &[&str]| {
            let mut head = head(Version::HTTP_10, status, fields);
            own(&mut head);
            assert_eq!(head.version, Version::HTTP_11);
            let mut names: Vec<_> = head.headers.keys().map(|name| name.as_str()).collect();
            names.sort_unstable();
            assert_eq!(names, expected, "{status} {fields:?}");
        };
        check(
            200,
            &[FOUR, ("Connection", "close, X-Mine"), ("X-Mine", "1"), ("Server", "s")],
            &["content-length", "server"],
        );
        check(200, &[CHUNKED, ("Trailer", "X-Sum"), ("Keep-Alive", "timeout=5"), ("Upgrade", "h2c")], &[]);
        check(204, &[FOUR, ("ETag", "e")], &["etag"]);
        check(304, &[FOUR, ("ETag", "e")], &["etag"]);
    }
}
