//! The problem documents (RFC 9457) by which the daemon refuses a request.

use hookgate_testkit::http::Response;

/// Fails unless `response` is a complete problem document with this status and reason, and with the request id of its field.
pub(crate) fn assert_problem(response: &Response, status: u16, reason: &str, context: &str) {
    let text = response.text();
    assert_eq!(response.status, status, "{context}: {text}");
    assert_eq!(response.reason().as_deref(), Some(reason), "{context}: {text}");
    assert!(response.complete, "{context}: {text}");
    assert_eq!(response.field("content-type"), Some("application/problem+json"), "{context}");
    let id = response.field("x-request-id").unwrap();
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{context}: {id}");
    assert!(text.contains(&format!("\"request_id\":\"{id}\"")), "{context}: {id} is not in {text}");
    assert!(text.contains(&format!("\"status\":{status}")), "{context}: {text}");
    for inside in [".sock", "unix:", "(os error", "handler_max", "hyper", "/tmp/"] {
        assert!(!text.contains(inside), "{context}: a peer learns of {inside}: {text}");
    }
}
