//! `replay`: what identifies a delivery, and for how long it is remembered.
//!
//! Owns its keys and defaults. Remembers nothing: `auth::replay` does.

use hyper::StatusCode;
use hyper::header::HeaderName;
use serde::Deserialize;
use toml::Spanned;

use super::session::parse_pointer;
use super::signature::header_name;
use crate::config::bound::Bound;
use crate::config::document::WordOr;
use crate::config::error::ProofProblem;
use crate::config::report::Report;
use hookgate_core::auth::replay::ReplayRuleError;
use hookgate_core::auth::{ReplayKey, ReplayRule};

/// Up to a week: the longest retries that senders document go on for three days (Stripe).
const WINDOW: Bound = Bound::new(1, 7 * 24 * 3600, " s");
/// A day: many senders give up retrying before, and more would fill the memory of deliveries.
pub(in crate::config) const DEFAULT_WINDOW_SECONDS: u64 = 24 * 3600;
/// What a sender takes for "it arrived", or 409.
const STATUS: Bound = Bound::new(200, 409, "");
/// The word for no rule.
const NONE: &str = "none";

const WRITE_KEYS: &str = "id_header = \"x-webhook-id\", id_pointer = \"/event/id\", or by_signature = true";

/// `replay` as it stands in the file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawReplay {
    id_header: Option<Spanned<String>>,
    id_pointer: Option<Spanned<String>>,
    by_signature: Option<bool>,
    window_s: Option<Spanned<i64>>,
    duplicate_status: Option<Spanned<i64>>,
}

impl RawReplay {
    /// What identifies a delivery, and for how long, for people.
    pub(super) fn describe(&self) -> String {
        let header = self.id_header.iter().map(|name| format!("the field {}", name.get_ref()));
        let pointer = self.id_pointer.iter().map(|pointer| format!("the body's {}", pointer.get_ref()));
        let signed = self.by_signature.filter(|by| *by).map(|_| "what is signed".to_owned());
        let keys: Vec<String> = header.chain(pointer).chain(signed).collect();
        let default = i64::try_from(DEFAULT_WINDOW_SECONDS).unwrap_or(i64::MAX);
        let window = self.window_s.as_ref().map_or(default, |window| *window.get_ref());
        format!("known by {}, remembered for {window} s", keys.join(" or "))
    }
}

/// Parses a rule about duplicates for the deliveries of `scope`. `None` where it is at fault, `Some(None)` for the word "none".
pub(super) fn choice(
    raw: &Spanned<WordOr<RawReplay>>,
    scope: &str,
    report: &mut Report<'_>,
) -> Option<Option<ReplayRule>> {
    match raw.get_ref() {
        WordOr::Word(word) if word == NONE => Some(None),
        WordOr::Word(word) => {
            report.error(raw, ProofProblem::ReplayWord { word: word.clone() }.into());
            None
        }
        WordOr::Table(table) => rule(&Spanned::new(raw.span(), table.clone()), scope, report).map(Some),
    }
}

/// Parses a rule about duplicates for the deliveries of `scope`; what is wrong is reported.
pub(super) fn rule(raw: &Spanned<RawReplay>, scope: &str, report: &mut Report<'_>) -> Option<ReplayRule> {
    let fields = raw.get_ref();
    let header = fields.id_header.as_ref().map(|text| {
        // A name that `header_name` took is one.
        header_name(text, report).and_then(|name| HeaderName::try_from(name).ok()).map(ReplayKey::Header)
    });
    let pointer = fields.id_pointer.as_ref().map(|text| {
        let pointer = parse_pointer(text.get_ref()).map_err(|problem| report.error(text, problem));
        pointer.ok().map(ReplayKey::Body)
    });
    let signed = fields.by_signature.filter(|by| *by).map(|_| Some(ReplayKey::SignedMessage));
    let keys: Vec<Option<ReplayKey>> = [header, pointer, signed].into_iter().flatten().collect();
    if keys.is_empty() {
        report.missing(raw, "id_header", WRITE_KEYS);
    }
    let window = WINDOW.check(fields.window_s.as_ref(), report).unwrap_or(DEFAULT_WINDOW_SECONDS);
    let status = STATUS.check(fields.duplicate_status.as_ref(), report);
    let status = status.and_then(|status| StatusCode::from_u16(u16::try_from(status).ok()?).ok());
    let keys = keys.into_iter().collect::<Option<Vec<_>>>().filter(|keys| !keys.is_empty())?;
    let rule = ReplayRule::new(scope, keys, window, status.unwrap_or(StatusCode::OK));
    rule.map_err(|error| {
        let status = fields.duplicate_status.as_ref().filter(|_| matches!(error, ReplayRuleError::Answer { .. }));
        let span = status.map_or(raw.span(), Spanned::span);
        report.error_at(&span, ProofProblem::from(error).into());
    })
    .ok()
}
