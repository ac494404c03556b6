//! A request as the proofs see it, and how they quote it.
//!
//! Owns the view alone. Must not judge.

use std::fmt;

use http::Method;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use rustls_pki_types::UnixTime;

use crate::reject::{Refusal, Reject};

/// A request, complete, as the proofs see it.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'request> {
    /// Method.
    pub method: &'request Method,
    /// Path and query as sent.
    pub path: &'request str,
    /// Header fields as sent.
    pub headers: &'request HeaderMap,
    /// The whole body, as sent.
    pub body: &'request [u8],
    /// When the request arrived.
    pub received_at: UnixTime,
}

impl<'request> RequestView<'request> {
    /// The body, for a proof that reads it as JSON.
    ///
    /// # Errors
    ///
    /// `body_not_json` where it is compressed: nothing here expands what a peer sent.
    pub(super) fn json_body(&self) -> Result<&'request [u8], Refusal> {
        let plain = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
        if self.headers.get_all(http::header::CONTENT_ENCODING).iter().all(plain) {
            return Ok(self.body);
        }
        Err(Refusal::new(Reject::BodyNotJson, "the body has a Content-Encoding, and a proof within it has to be read"))
    }
}

/// A header field stands more than once, where any one of its values could be meant.
pub(super) struct Repeated;

/// The value of a field that may stand once.
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

/// A peer's bytes within a sentence: in quotes, printable ASCII alone, and not too many.
pub(super) struct Quoted<'bytes>(pub(super) &'bytes [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 96;
        let shown = &self.0[..self.0.len().min(MOST)];
        let more = if self.0.len() > MOST { "…" } else { "" };
        write!(formatter, "\"{}{more}\"", shown.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::Quoted;

    #[test]
    fn quotes_no_more_of_a_peer_than_can_be_printed() {
        assert_eq!(Quoted(b"a\"b\r\n\xff").to_string(), "\"a\\\"b\\r\\n\\xff\"");
        assert_eq!(Quoted(&[b'a'; 97]).to_string(), format!("\"{}…\"", "a".repeat(96)));
    }
}
