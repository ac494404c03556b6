//! `[problem]`: what the `type` of a problem document is.
//!
//! Owns which texts can be the beginning of such a URI. Must not make one: `core::reject` does.

use serde::Deserialize;
use toml::Spanned;

use super::error::Problem;
use super::report::Report;
use hookgate_core::reject::TypeBase;

/// Most bytes of `base`: a refusal carries it, and some readers of problem documents keep 255 bytes.
const MAXIMUM_BASE_BYTES: usize = 200;

/// `[problem]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawProblem {
    base: Option<Spanned<String>>,
}

/// The beginning of the URIs: that of `[problem]`, or a URN.
pub(super) fn types(raw: Option<&Spanned<RawProblem>>, report: &mut Report<'_>) -> TypeBase {
    let Some(base) = raw.and_then(|raw| raw.get_ref().base.as_ref()) else { return TypeBase::default() };
    match fault(base.get_ref()) {
        None => TypeBase::new(base.get_ref()),
        Some(reason) => {
            report.error(base, Problem::TypeBase { reason, maximum: MAXIMUM_BASE_BYTES });
            TypeBase::default()
        }
    }
}

/// What is wrong with the text.
fn fault(base: &str) -> Option<&'static str> {
    // RFC 3986, section 2: the characters of a URI.
    let is_of_uri = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte);
    let host = base.strip_prefix("https://").and_then(|rest| rest.split(['/', '?', '#']).next());
    match host {
        None | Some("") => Some("it is not an https URL"),
        Some(_) if base.len() > MAXIMUM_BASE_BYTES => Some("it is too long"),
        Some(_) if !base.bytes().all(is_of_uri) => Some("it has a character that no URL has"),
        // Otherwise the reason would become a part of the last word.
        Some(_) if !base.ends_with(['/', '#', '=', '?', '-', ':']) => {
            Some("the reason is written directly behind it, so it must end in / or #")
        }
        Some(_) => None,
    }
}
