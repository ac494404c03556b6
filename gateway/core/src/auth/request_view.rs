//! A request as the proofs read it: a view of its parts, and how a refusal quotes them.
//!
//! Owns the access to a header field and to a JSON body. Must not judge a proof.

use std::fmt;

use http::Method;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use rustls_pki_types::UnixTime;

use crate::reject::{Refusal, Reject};

/// A complete request, borrowed by the proofs.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'request> {
    /// The method.
    pub method: &'request Method,
    /// The path and query, as sent.
    pub path: &'request str,
    /// The header fields, as sent.
    pub headers: &'request HeaderMap,
    /// The whole body, as sent.
    pub body: &'request [u8],
    /// The time at which the request arrived.
    pub received_at: UnixTime,
}

impl<'request> RequestView<'request> {
    /// The body, for a proof that parses it as JSON.
    ///
    /// # Errors
    ///
    /// `body_not_json` if the body is compressed. hookgate never decompresses what a peer sent.
    pub(super) fn json_body(&self) -> Result<&'request [u8], Refusal> {
        let plain = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
        if self.headers.get_all(http::header::CONTENT_ENCODING).iter().all(plain) {
            return Ok(self.body);
        }
        let detail =
            "The body has a Content-Encoding, and a proof in it must be readable as JSON. Send the body uncompressed.";
        Err(Refusal::new(Reject::BodyNotJson, detail))
    }
}

/// The refusal of a body that does not parse as JSON. Names the place, and quotes nothing of the body.
pub(super) fn not_json(error: &serde_json::Error) -> Refusal {
    let (line, column) = (error.line(), error.column());
    let what = if error.is_data() { "names a member twice" } else { "is not well-formed JSON" };
    Refusal::new(Reject::BodyNotJson, format!("The body {what} (line {line}, column {column})."))
}

/// A header field with more than one value, of which any could be meant.
pub(super) struct Repeated;

/// The value of a header field that must have at most one.
///
/// # Errors
///
/// If there are several.
pub(super) fn only_field<'headers>(
    headers: &'headers HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'headers [u8]>, Repeated> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(Repeated),
        (first, None) => Ok(first.map(HeaderValue::as_bytes)),
    }
}

/// Bytes of a peer within a sentence: in quotes, escaped to printable ASCII, at most 96 of them.
pub(super) struct Quoted<'bytes>(pub(super) &'bytes [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MAX_SHOWN: usize = 96;
        let shown = &self.0[..self.0.len().min(MAX_SHOWN)];
        let more = if self.0.len() > MAX_SHOWN { "…" } else { "" };
        write!(formatter, "\"{}{more}\"", shown.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::Quoted;

    #[test]
    fn quotes_printable_ascii_up_to_a_bound() {
        assert_eq!(Quoted(b"a\"b\r\n\xff").to_string(), "\"a\\\"b\\r\\n\\xff\"");
        assert_eq!(Quoted(&[b'a'; 97]).to_string(), format!("\"{}…\"", "a".repeat(96)));
    }
}
