//! Problem documents (RFC 9457): the answer to a refused request.
//!
//! Owns their form. Must not decide: status, reason and title come from the table in `reject`.

use bytes::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Method, Response, StatusCode};
use serde::Serialize;

use crate::upstream::headers::X_REQUEST_ID;
use hookgate_core::auth::challenge;
use hookgate_core::reject::{Refusal, TypeBase};

/// Retry-After in seconds, for refusals that pass: long enough for a queue to drain.
const RETRY_AFTER_S: u16 = 5;

/// Retry-After in seconds, for refusals that pass when the operator has acted: soon enough for an operator who is at it.
const DEFERRED_RETRY_AFTER_S: u16 = 60;

#[derive(Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    title: &'static str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    reason: &'static str,
    request_id: &'a str,
}

/// The body of a problem document.
///
/// `type` is a URI of the reason, beginning as `types` says.
pub fn body(refusal: &Refusal, request_id: &HeaderValue, types: &TypeBase) -> Bytes {
    let row = refusal.reject.row();
    let problem = Problem {
        kind: types.uri(refusal.reject),
        title: row.title,
        status: refusal.status(),
        detail: refusal.shown_detail(),
        reason: row.reason,
        request_id: request_id.to_str().unwrap_or_default(),
    };
    // Strings and a number always serialize; an empty body would still be a valid answer.
    serde_json::to_vec(&problem).unwrap_or_default().into()
}

/// A whole answer. `allow` is what `Allow` lists (RFC 9110, section 15.5.6); `close` adds `Connection: close`.
pub fn response(
    refusal: &Refusal,
    request_id: &HeaderValue,
    types: &TypeBase,
    allow: &[Method],
    close: bool,
) -> Response<Bytes> {
    let mut response = Response::new(body(refusal, request_id, types));
    let status = refusal.status();
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_REQUEST_ID, request_id.clone());
    if status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS {
        let seconds = if refusal.is_deferred() { DEFERRED_RETRY_AFTER_S } else { RETRY_AFTER_S };
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(challenge) = challenge(refusal).and_then(|text| HeaderValue::try_from(text).ok()) {
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    if !allow.is_empty() {
        let list = allow.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        if let Ok(list) = HeaderValue::from_str(&list) {
            headers.insert(ALLOW, list);
        }
    }
    if close {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The same answer as bytes of HTTP/1.1, for bytes that hyper does not take for a request.
pub fn raw_response(refusal: &Refusal, request_id: &HeaderValue, types: &TypeBase) -> Vec<u8> {
    let response = response(refusal, request_id, types, &[], true);
    let status = response.status();
    let mut bytes =
        format!("HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or_default()).into_bytes();
    for (name, value) in response.headers() {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", response.body().len()).as_bytes());
    bytes.extend_from_slice(response.body());
    bytes
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

    use super::*;
    use hookgate_core::reject::Reject;

    #[test]
    fn a_problem_document_says_what_was_wrong() {
        let refusal = Refusal::new(Reject::RevocationListExpired, "Too \"old\".");
        let id = HeaderValue::from_static("id-1");
        let types = TypeBase::default();
        let response = response(&refusal, &id, &types, &[Method::POST, Method::PUT], true);
        assert_eq!(response.status(), 503);
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), "application/problem+json");
        assert_eq!(header("retry-after"), "5");
        assert_eq!(header("allow"), "POST, PUT");
        assert_eq!(header("connection"), "close");
        let value: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(value["reason"], "revocation_list_expired");
        assert_eq!(value["status"], 503);
        assert_eq!(value["detail"], "Too \"old\".");
        assert_eq!(value["request_id"], "id-1");
        assert_eq!(value["type"], "urn:hookgate:reason:revocation_list_expired");
        let own = TypeBase::new("https://hooks.example.com/reasons#");
        let value: serde_json::Value = serde_json::from_slice(&body(&refusal, &id, &own)).unwrap();
        assert_eq!(value["type"], "https://hooks.example.com/reasons#revocation_list_expired");
    }

    #[test]
    fn the_raw_form_is_the_same_answer() {
        let refusal = Refusal::new(Reject::MalformedRequest, "No.");
        let id = HeaderValue::from_static("id-2");
        let raw = String::from_utf8(raw_response(&refusal, &id, &TypeBase::default())).unwrap();
        let (head, raw_body) = raw.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head}");
        assert!(head.contains(&format!("content-length: {}", raw_body.len())), "{head}");
        assert!(head.contains("connection: close"), "{head}");
        assert_eq!(raw_body.as_bytes(), body(&refusal, &id, &TypeBase::default()));
    }
}
