//! `replay`: the id of a delivery, and how long it is remembered.
//!
//! Owns its keys and defaults. Must not remember deliveries: `auth::replay` does.

use hyper::StatusCode;
use hyper::header::HeaderName;
use serde::Deserialize;
use toml::Spanned;

use super::session_parameter::parse_pointer;
use super::signature::header_name;
use crate::config::bound::Bound;
use crate::config::document::WordOr;
use crate::config::error::ProofProblem;
use crate::config::report::Report;
use hookgate_client::sender::DeliveryId as SenderDeliveryId;
use hookgate_core::auth::replay::ReplayRuleError;
use hookgate_core::auth::{DeliveryId, ReplayRule};

/// At most a week. The longest documented retries end after three days (Stripe).
const WINDOW: Bound = Bound::new(1, 7 * 24 * 3600, " s");
/// A day. Many senders stop retrying earlier, and a longer window fills the memory of deliveries.
pub(in crate::config) const DEFAULT_WINDOW_SECONDS: u64 = 24 * 3600;
/// The statuses that a sender takes as success, up to 409; `auth::replay` refuses those between 299 and 409.
const STATUS: Bound = Bound::new(200, 409, "");
/// The word for no replay rule.
const NONE: &str = "none";

const WRITE_IDS: &str = "id_header = \"x-webhook-id\", id_pointer = \"/event/id\", or by_signature = true";

/// `replay`, as written in the file.
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
    /// Where the sender writes the id of a delivery; `None` if the signed message alone identifies it.
    pub(super) fn sender_delivery_id(&self) -> Option<SenderDeliveryId> {
        let header = self.id_header.as_ref().map(|name| SenderDeliveryId::Header(name.get_ref().clone()));
        header.or_else(|| Some(SenderDeliveryId::Body(self.id_pointer.as_ref()?.get_ref().clone())))
    }

    /// The ids of a delivery and the window, for `hookgate providers`.
    pub(super) fn describe(&self) -> String {
        let header = self.id_header.iter().map(|name| format!("the field {}", name.get_ref()));
        let pointer = self.id_pointer.iter().map(|pointer| format!("{} in the body", pointer.get_ref()));
        let signed = self.by_signature.filter(|by| *by).map(|_| "the signed message".to_owned());
        let ids: Vec<String> = header.chain(pointer).chain(signed).collect();
        let default = i64::try_from(DEFAULT_WINDOW_SECONDS).unwrap_or(i64::MAX);
        let window = self.window_s.as_ref().map_or(default, |window| *window.get_ref());
        format!("identified by {}, remembered for {window} s", ids.join(" or "))
    }
}

/// Parses the replay rule for the deliveries of `scope`; reports errors. `None` if it has an error, `Some(None)` for the word
/// "none".
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

/// Parses the table of a replay rule for the deliveries of `scope`; reports errors.
pub(super) fn rule(raw: &Spanned<RawReplay>, scope: &str, report: &mut Report<'_>) -> Option<ReplayRule> {
    let fields = raw.get_ref();
    let header = fields.id_header.as_ref().map(|text| {
        // `header_name` has checked the name.
        header_name(text, report).and_then(|name| HeaderName::try_from(name).ok()).map(DeliveryId::Header)
    });
    let pointer = fields.id_pointer.as_ref().map(|text| {
        let pointer = parse_pointer(text.get_ref()).map_err(|problem| report.error(text, problem));
        pointer.ok().map(DeliveryId::Body)
    });
    let signed = fields.by_signature.filter(|by| *by).map(|_| Some(DeliveryId::SignedMessage));
    let ids: Vec<Option<DeliveryId>> = [header, pointer, signed].into_iter().flatten().collect();
    if ids.is_empty() {
        report.missing(raw, "id_header", WRITE_IDS);
    }
    let window = WINDOW.check(fields.window_s.as_ref(), report).unwrap_or(DEFAULT_WINDOW_SECONDS);
    let status = STATUS.check(fields.duplicate_status.as_ref(), report);
    let status = status.and_then(|status| StatusCode::from_u16(u16::try_from(status).ok()?).ok());
    let ids = ids.into_iter().collect::<Option<Vec<_>>>().filter(|ids| !ids.is_empty())?;
    let rule = ReplayRule::new(scope, ids, window, status.unwrap_or(StatusCode::OK));
    rule.map_err(|error| {
        let status = fields.duplicate_status.as_ref().filter(|_| matches!(error, ReplayRuleError::Answer { .. }));
        let span = status.map_or(raw.span(), Spanned::span);
        report.error_at(&span, ProofProblem::from(error).into());
    })
    .ok()
}
