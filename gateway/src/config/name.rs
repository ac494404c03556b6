//! The names of providers, profiles and key sources.
//!
//! Owns which names are fit for a metric label and a header value. Must not know what else is named so: names are unique per
//! section.

use std::sync::Arc;

use toml::Spanned;

use super::error::Problem;
use super::report::Report;

/// Most characters of a name, which becomes a metric label and a header value.
const MAXIMUM_NAME_BYTES: usize = 64;

/// A name that may become a metric label and a header value.
pub(super) fn parse(text: &Spanned<String>, report: &mut Report<'_>) -> Option<Arc<str>> {
    let fit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if (1..=MAXIMUM_NAME_BYTES).contains(&text.get_ref().len()) && text.get_ref().bytes().all(fit) {
        return Some(Arc::from(text.get_ref().as_str()));
    }
    report.error(text, Problem::Name { text: text.get_ref().clone(), maximum: MAXIMUM_NAME_BYTES });
    None
}
