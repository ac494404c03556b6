//! The names of providers, profiles and key sources.
//!
//! Owns which texts are names. Must not know other names: each section checks that its names are unique.

use std::sync::Arc;

use toml::Spanned;

use super::error::Problem;
use super::report::Report;

/// The most characters of a name. It becomes a metric label and a header value.
pub const MAXIMUM_NAME_BYTES: usize = 64;

/// Parses a name, which can be a metric label and a header value. Reports any other text.
pub(super) fn parse(text: &Spanned<String>, report: &mut Report<'_>) -> Option<Arc<str>> {
    if is_valid(text.get_ref()) {
        return Some(Arc::from(text.get_ref().as_str()));
    }
    report.error(text, Problem::Name { text: text.get_ref().clone(), maximum: MAXIMUM_NAME_BYTES });
    None
}

/// Whether a text is a name.
pub(super) fn is_valid(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=MAXIMUM_NAME_BYTES).contains(&text.len()) && text.bytes().all(allowed)
}
