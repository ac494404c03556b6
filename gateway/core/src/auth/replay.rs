//! Replay: which deliveries were taken already, so that none is taken twice.
//!
//! Owns the memory of deliveries, bounded and expiring, shared by the workers. A delivery is first *reserved*, while the handler
//! has it, and then *taken* or released: a delivery that failed in the handler is not a duplicate when the sender tries again.
//! Must not know what identifies a delivery beyond 32 bytes; [`ReplayRule`] makes those.
//!
//! Nothing is ever forgotten before its time: where the memory is full the request is refused (`replay_guard_full`, 503, so
//! that senders retry). Forgetting the oldest instead would let whoever can fill the memory replay what he likes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::StatusCode;
use http::header::HeaderName;
use ring::digest;
use rustls_pki_types::UnixTime;

use super::pointer::JsonPointer;
use super::request::{RequestView, only_field};
use super::session::not_json;
use super::signature::BodySignature;
use crate::reject::{Refusal, Reject};

/// Most keys of one rule: an id in the header, one in the body, and the signed bytes.
const MAX_KEYS: usize = 3;

/// Longest window, in seconds: a week. The longest retries that senders document go on for three days (Stripe).
const MAX_WINDOW_SECONDS: u64 = 7 * 86_400;

/// Most shards, and the entries that justify another one.
const MAX_SHARDS: usize = 64;
const ENTRIES_PER_SHARD: usize = 1024;

/// What identifies a delivery: a SHA-256.
pub(super) type Key = [u8; digest::SHA256_OUTPUT_LEN];

/// The deliveries that are with a handler or were taken within their window. An entry takes about 56 bytes.
#[derive(Debug)]
pub struct ReplayGuard {
    shards: Box<[Mutex<Shard>]>,
    /// Entries that one shard may hold.
    shard_capacity: usize,
}

#[derive(Debug, Default)]
struct Shard {
    deliveries: HashMap<Key, State>,
    /// No entry expires before the end of this second since 1970; so a full shard is searched for expired entries only when
    /// there are any.
    earliest_expiry: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// With the handler; the [`Reservation`] ends this state.
    InFlight,
    /// Taken, and remembered to the end of this second since 1970. To its end, since clocks are read in whole seconds: a
    /// delivery would else be forgotten up to a second early, while a signed timestamp that was as far ahead as is tolerated
    /// is still good.
    Taken { until: u64 },
}

/// Why a delivery is not reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Conflict {
    Taken,
    InFlight,
    Full,
}

impl ReplayGuard {
    /// A guard that remembers about `capacity` deliveries (a shard may fill a little before the others) and never more.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let shards = (capacity / ENTRIES_PER_SHARD).clamp(1, MAX_SHARDS);
        Self { shards: (0..shards).map(|_| Mutex::default()).collect(), shard_capacity: capacity / shards }
    }

    /// How many deliveries are remembered, the expired among them that nobody stumbled upon yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).deliveries.len()).sum()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reserves every one of `keys`, or none. Of any number of callers with a key in common, one succeeds.
    fn reserve(self: &Arc<Self>, keys: &[Key], window_seconds: u64, now: u64) -> Result<Reservation, Conflict> {
        let mut reservation = Reservation { guard: Arc::clone(self), keys: [None; MAX_KEYS], window_seconds };
        for (key, place) in keys.iter().zip(&mut reservation.keys) {
            // On a conflict the reservation drops, which releases the keys before this one.
            self.insert(key, now)?;
            *place = Some(*key);
        }
        Ok(reservation)
    }

    fn insert(&self, key: &Key, now: u64) -> Result<(), Conflict> {
        let mut shard = self.shard(key);
        match shard.deliveries.get(key) {
            Some(State::InFlight) => return Err(Conflict::InFlight),
            Some(State::Taken { until }) if now <= *until => return Err(Conflict::Taken),
            Some(State::Taken { .. }) => {}
            None if shard.deliveries.len() < self.shard_capacity => {}
            None => {
                shard.forget_expired(now);
                if shard.deliveries.len() >= self.shard_capacity {
                    return Err(Conflict::Full);
                }
            }
        }
        shard.deliveries.insert(*key, State::InFlight);
        Ok(())
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, Shard> {
        // The key is a digest, so any two bytes of it are spread evenly.
        let index = usize::from(u16::from_le_bytes([key[0], key[1]])) % self.shards.len();
        lock(&self.shards[index])
    }
}

/// No code panics with a shard locked, so a poisoned one is whole.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shard {
    fn forget_expired(&mut self, now: u64) {
        if now <= self.earliest_expiry {
            return;
        }
        let mut earliest = u64::MAX;
        self.deliveries.retain(|_, state| match *state {
            State::InFlight => true,
            State::Taken { until } => {
                let keep = now <= until;
                if keep {
                    earliest = earliest.min(until);
                }
                keep
            }
        });
        self.earliest_expiry = earliest;
    }
}

/// A delivery that is with its handler, or on the way there. Dropped, it is released: the next copy of it is handled anew.
#[derive(Debug)]
#[must_use = "dropped, the delivery counts as not taken"]
pub struct Reservation {
    guard: Arc<ReplayGuard>,
    keys: [Option<Key>; MAX_KEYS],
    window_seconds: u64,
}

impl Reservation {
    /// The handler took the delivery: from `now` on, for the rule's window, copies of it are duplicates.
    pub fn commit(mut self, now: UnixTime) {
        let until = now.as_secs().saturating_add(self.window_seconds);
        for key in self.keys.iter_mut().filter_map(Option::take) {
            let mut shard = self.guard.shard(&key);
            shard.earliest_expiry = shard.earliest_expiry.min(until);
            shard.deliveries.insert(key, State::Taken { until });
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        for key in self.keys.iter_mut().filter_map(Option::take) {
            self.guard.shard(&key).deliveries.remove(&key);
        }
    }
}

/// What identifies a delivery.
#[derive(Clone, Debug)]
pub enum ReplayKey {
    /// A header field, such as `X-Webhook-Id` of PagerDuty. Finds retries; finds replays only where a signature covers it.
    Header(HeaderName),
    /// A string in the JSON body, such as `/event/id`.
    Body(JsonPointer),
    /// What the body signature covers. The policy must demand such a signature.
    SignedMessage,
}

/// A rule for duplicates.
#[derive(Debug)]
pub struct ReplayRule {
    scope: Box<[u8]>,
    keys: Box<[ReplayKey]>,
    window_seconds: u64,
    duplicate_answer: StatusCode,
}

/// Why a configuration makes no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayRuleError {
    /// None, or too many.
    #[error("{count} keys; a delivery is identified by 1 to {MAX_KEYS}")]
    Keys {
        /// How many.
        count: usize,
    },
    /// Out of bounds.
    #[error("a window of {seconds} s; 1 to {MAX_WINDOW_SECONDS} are allowed")]
    Window {
        /// What was given.
        seconds: u64,
    },
    /// An answer that makes no sense for a duplicate.
    #[error(
        "{status} is no answer to a duplicate; 200 to 299 tell the sender that it was taken, 409 that it was not wanted"
    )]
    Answer {
        /// What was given.
        status: u16,
    },
}

impl ReplayRule {
    /// A rule for the deliveries of `scope`, the name of a provider or route: equal ids in two scopes are two deliveries. A
    /// delivery that shares **any** of `keys` with one taken within `window_seconds` is a duplicate, and answered with
    /// `duplicate_answer` and an empty body.
    ///
    /// # Errors
    ///
    /// Where there are no keys or more than 3, the window is not 1 second to a week, or the answer neither 2xx nor 409.
    pub fn new(
        scope: &str,
        keys: Vec<ReplayKey>,
        window_seconds: u64,
        duplicate_answer: StatusCode,
    ) -> Result<Self, ReplayRuleError> {
        if keys.is_empty() || keys.len() > MAX_KEYS {
            return Err(ReplayRuleError::Keys { count: keys.len() });
        }
        if !(1..=MAX_WINDOW_SECONDS).contains(&window_seconds) {
            return Err(ReplayRuleError::Window { seconds: window_seconds });
        }
        if !duplicate_answer.is_success() && duplicate_answer != StatusCode::CONFLICT {
            return Err(ReplayRuleError::Answer { status: duplicate_answer.as_u16() });
        }
        Ok(Self { scope: scope.as_bytes().into(), keys: keys.into(), window_seconds, duplicate_answer })
    }

    /// What a duplicate is answered with.
    #[must_use]
    pub fn duplicate_answer(&self) -> StatusCode {
        self.duplicate_answer
    }

    /// How long a delivery is remembered, in seconds.
    #[must_use]
    pub fn window_seconds(&self) -> u64 {
        self.window_seconds
    }

    /// Whether a delivery is identified by what its signature covers.
    pub(super) fn needs_signature(&self) -> bool {
        self.keys.iter().any(|key| matches!(key, ReplayKey::SignedMessage))
    }

    /// Reserves the delivery of a request that was proven; `signature` is the rule that its signature satisfied.
    ///
    /// # Errors
    ///
    /// `delivery_id_missing`, `body_not_json`, `duplicate_delivery`, `delivery_in_flight`, `replay_guard_full`.
    pub(super) fn reserve(
        &self,
        request: &RequestView<'_>,
        signature: Option<&BodySignature>,
        guard: &Arc<ReplayGuard>,
    ) -> Result<Reservation, Refusal> {
        let mut keys = [Key::default(); MAX_KEYS];
        for (index, (key, place)) in self.keys.iter().zip(&mut keys).enumerate() {
            *place = self.digest(index, key, request, signature)?;
        }
        guard.reserve(&keys[..self.keys.len()], self.window_seconds, request.received_at.as_secs()).map_err(
            |conflict| match conflict {
                Conflict::Taken => {
                    Refusal::new(Reject::DuplicateDelivery, "the handler has already taken this delivery")
                }
                Conflict::InFlight => {
                    let detail = "a copy of this delivery is with the handler, which has not answered yet";
                    Refusal::new(Reject::DeliveryInFlight, detail)
                }
                Conflict::Full => {
                    let detail = "no further delivery can be remembered before an old one expires; raise the capacity";
                    Refusal::new(Reject::ReplayGuardFull, detail)
                }
            },
        )
    }

    /// SHA-256 over scope, kind of key and value, each of the first two with its length, so that no two of them meet by chance.
    fn digest(
        &self,
        index: usize,
        key: &ReplayKey,
        request: &RequestView<'_>,
        signature: Option<&BodySignature>,
    ) -> Result<Key, Refusal> {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&(self.scope.len() as u64).to_le_bytes());
        context.update(&self.scope);
        context.update(&(index as u64).to_le_bytes());
        match key {
            ReplayKey::Header(name) => {
                let id = only_field(request.headers, name).ok().flatten().filter(|id| !id.is_empty());
                context.update(id.ok_or_else(|| {
                    Refusal::new(Reject::DeliveryIdMissing, format!("the request does not have one {name} with an id"))
                })?);
            }
            ReplayKey::Body(pointer) => {
                let id = pointer.only_string(request.json_body()?).map_err(|error| not_json(&error))?;
                let id = id.filter(|id| !id.is_empty()).ok_or_else(|| {
                    Refusal::new(Reject::DeliveryIdMissing, format!("the body does not have one id at {pointer}"))
                })?;
                context.update(id.as_bytes());
            }
            ReplayKey::SignedMessage => {
                let signature = signature.ok_or_else(|| {
                    Refusal::new(Reject::DeliveryIdMissing, "no signature was checked that could identify the delivery")
                })?;
                context.update(signature.digest(request)?.as_ref());
            }
        }
        let mut key = Key::default();
        key.copy_from_slice(context.finish().as_ref());
        Ok(key)
    }
}

#[cfg(test)]
mod tests;
