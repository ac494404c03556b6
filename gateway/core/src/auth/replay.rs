//! Replay: the rules by which no delivery is taken twice.
//!
//! Owns what the ids of a delivery are, and the answers to duplicates. [`ReplayGuard`] remembers a delivery by 32 bytes, and
//! [`ReplayRule`] computes them from a request. Must not judge proofs.

mod guard;

use std::sync::Arc;

use http::StatusCode;
use http::header::HeaderName;
use ring::digest;

use super::body_signature::BodySignature;
use super::json_pointer::JsonPointer;
use super::request_view::{RequestView, not_json, only_field};
use super::strength::{Aspect, Aspects};
use crate::reject::{Refusal, Reject};
use guard::{Conflict, DeliveryDigest, MAX_IDS};

pub use guard::{KeptDelivery, ReplayGuard, Reservation};

/// Longest window, in seconds: a week. The longest documented retries end after three days (Stripe).
const MAX_WINDOW_SECONDS: u64 = 7 * 86_400;

/// The part of a request that is the id of its delivery.
#[derive(Clone, Debug)]
pub enum DeliveryId {
    /// A header field, such as `X-Webhook-Id` of PagerDuty. Finds retries. Finds replays only if a signature covers the field.
    Header(HeaderName),
    /// A string in the JSON body, such as `/event/id`.
    Body(JsonPointer),
    /// The message that a body signature covers; of several signatures, each of their messages. The policy must demand such a
    /// signature.
    SignedMessage,
}

/// A rule against duplicate deliveries.
#[derive(Debug)]
pub struct ReplayRule {
    scope: Box<[u8]>,
    ids: Box<[DeliveryId]>,
    window_seconds: u64,
    duplicate_answer: StatusCode,
}

/// All of them, each once: two signatures can cover the same message.
fn distinct(digests: &[DeliveryDigest], further: &[DeliveryDigest]) -> Vec<DeliveryDigest> {
    let mut all = digests.to_vec();
    for digest in further {
        if !all.contains(digest) {
            all.push(*digest);
        }
    }
    all
}

/// Why a configuration is not a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayRuleError {
    /// No ids, or too many.
    #[error("{count} delivery ids; write 1 to {MAX_IDS} of id_header, id_pointer and by_signature")]
    Ids {
        /// The number of ids.
        count: usize,
    },
    /// A window out of bounds.
    #[error("window_s = {seconds} is out of bounds; write 1 to {MAX_WINDOW_SECONDS}")]
    Window {
        /// The window, in seconds.
        seconds: u64,
    },
    /// A status that does not fit a duplicate.
    #[error(
        "{status} is not a status for a duplicate; write 200 to 299 (the sender stops retrying), or 409 (the sender sees an error)"
    )]
    Answer {
        /// The status.
        status: u16,
    },
}

impl ReplayRule {
    /// A rule for the deliveries of `scope`, the name of a provider or route: equal ids in two scopes are two deliveries. A
    /// delivery is a duplicate if it shares **any** of `ids` with one that was taken within `window_seconds`. The answer to a
    /// duplicate has the status `duplicate_answer` and an empty body.
    ///
    /// # Errors
    ///
    /// If there are no ids, or more than 3, if the window is not 1 second to a week, or if the answer is neither 2xx nor 409.
    pub fn new(
        scope: &str,
        ids: Vec<DeliveryId>,
        window_seconds: u64,
        duplicate_answer: StatusCode,
    ) -> Result<Self, ReplayRuleError> {
        if ids.is_empty() || ids.len() > MAX_IDS {
            return Err(ReplayRuleError::Ids { count: ids.len() });
        }
        if !(1..=MAX_WINDOW_SECONDS).contains(&window_seconds) {
            return Err(ReplayRuleError::Window { seconds: window_seconds });
        }
        if !duplicate_answer.is_success() && duplicate_answer != StatusCode::CONFLICT {
            return Err(ReplayRuleError::Answer { status: duplicate_answer.as_u16() });
        }
        Ok(Self { scope: scope.as_bytes().into(), ids: ids.into(), window_seconds, duplicate_answer })
    }

    /// The status of the answer to a duplicate.
    #[must_use]
    pub fn duplicate_answer(&self) -> StatusCode {
        self.duplicate_answer
    }

    /// How long a delivery is remembered, in seconds.
    #[must_use]
    pub fn window_seconds(&self) -> u64 {
        self.window_seconds
    }

    /// What it demands.
    pub(super) fn aspects(&self) -> Aspects {
        let name = |id: &DeliveryId| match id {
            DeliveryId::Header(name) => format!("id_header {name}"),
            DeliveryId::Body(pointer) => format!("id_pointer {pointer}"),
            DeliveryId::SignedMessage => "by_signature".to_owned(),
        };
        let ids = self.ids.iter().map(|id| (name(id), Aspect::Demanded));
        ids.chain([("window_s".to_owned(), Aspect::AtLeast(self.window_seconds))]).collect()
    }

    /// Whether the signed message is an id of a delivery.
    pub(super) fn needs_signature(&self) -> bool {
        self.ids.iter().any(|id| matches!(id, DeliveryId::SignedMessage))
    }

    /// Reserves the delivery of a request, after its proofs hold. `signatures` are all rules that its signatures satisfy: a copy may show
    /// any of them.
    ///
    /// # Errors
    ///
    /// `delivery_id_missing`, `body_not_json`, `duplicate_delivery`, `delivery_in_flight`, `replay_guard_full`.
    pub(super) fn reserve(
        &self,
        request: &RequestView<'_>,
        signatures: &[Option<&BodySignature>],
        guard: &Arc<ReplayGuard>,
    ) -> Result<Reservation, Refusal> {
        let mut digests = [DeliveryDigest::default(); MAX_IDS];
        let mut further = Vec::new();
        for (index, (id, place)) in self.ids.iter().zip(&mut digests).enumerate() {
            *place = self.digest(index, id, request, signatures.first().copied().flatten())?;
            if matches!(id, DeliveryId::SignedMessage) {
                for signature in signatures.iter().skip(1).flatten() {
                    further.push(self.digest(index, id, request, Some(signature))?);
                }
            }
        }
        let digests = &digests[..self.ids.len()];
        let all;
        let digests = if further.is_empty() {
            digests
        } else {
            all = distinct(digests, &further);
            all.as_slice()
        };
        guard.reserve(digests, self.window_seconds, request.received_at.as_secs()).map_err(|conflict| match conflict {
            Conflict::Taken => Refusal::new(Reject::DuplicateDelivery, "The handler has already taken this delivery."),
            Conflict::InFlight => {
                let detail = "The handler has a copy of this delivery, and has not answered it yet.";
                Refusal::new(Reject::DeliveryInFlight, detail)
            }
            Conflict::Full => {
                let detail = "The memory of deliveries is full until an entry expires. Raise replay_entries.";
                Refusal::new(Reject::ReplayGuardFull, detail)
            }
        })
    }

    /// The SHA-256 of the scope with its length, the index of the id, and the id. All but the last have a fixed length or a length
    /// before them, so that two different inputs never hash the same bytes.
    fn digest(
        &self,
        index: usize,
        id: &DeliveryId,
        request: &RequestView<'_>,
        signature: Option<&BodySignature>,
    ) -> Result<DeliveryDigest, Refusal> {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&(self.scope.len() as u64).to_le_bytes());
        context.update(&self.scope);
        context.update(&(index as u64).to_le_bytes());
        match id {
            DeliveryId::Header(name) => {
                let id = only_field(request.headers, name).ok().flatten().filter(|id| !id.is_empty());
                context.update(id.ok_or_else(|| {
                    let detail = format!("The request does not have exactly one field {name} with a delivery id.");
                    Refusal::new(Reject::DeliveryIdMissing, detail)
                })?);
            }
            DeliveryId::Body(pointer) => {
                let id = pointer.only_string(request.json_body()?).map_err(|error| not_json(&error))?;
                let id = id.filter(|id| !id.is_empty()).ok_or_else(|| {
                    let detail = format!(
                        "The body does not have exactly one string at {pointer}, the place of the delivery id."
                    );
                    Refusal::new(Reject::DeliveryIdMissing, detail)
                })?;
                context.update(id.as_bytes());
            }
            DeliveryId::SignedMessage => {
                let signature = signature.ok_or_else(|| {
                    let detail = "No signature was checked, and the signed message is the delivery id.";
                    Refusal::new(Reject::DeliveryIdMissing, detail)
                })?;
                context.update(signature.digest(request)?.as_ref());
            }
        }
        Ok(context.finish().into())
    }
}

#[cfg(test)]
mod tests;
