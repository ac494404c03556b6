//! Replay: the memory of deliveries, so that no delivery is taken twice.
//!
//! Owns that memory: bounded, with an expiry for each entry, shared by the workers. A delivery is *reserved* while the handler
//! has it. Then it is *taken*, or released if the handler failed, so that a retry of the sender is not a duplicate.
//! [`ReplayGuard`] knows a delivery by 32 bytes, and [`ReplayRule`] computes them from a request. Must not judge proofs.
//!
//! Evicts no entry before its expiry: if the memory is full, the request is refused (`replay_guard_full`, 503, so that senders
//! retry). If the oldest entry were evicted instead, a peer that fills the memory could replay any delivery.
//!
//! An entry expires when both clocks say so: the wall clock, by which signed timestamps are judged, and a steady one, which the owner of
//! the guard advances ([`ReplayGuard::advance`]). So neither a step forward of the wall clock nor one back ends a window early.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use http::header::HeaderName;
use ring::digest;
use rustls_pki_types::UnixTime;

use super::body_signature::BodySignature;
use super::json_pointer::JsonPointer;
use super::request_view::{RequestView, not_json, only_field};
use super::strength::{Aspect, Aspects};
use crate::reject::{Refusal, Reject};

/// Most ids of one rule: one in a header field, one in the body, and the signed message.
const MAX_IDS: usize = 3;

/// How far the steady clock may lag when a delivery is taken: its owner advances it four times a second, and it counts whole seconds.
const STEADY_LAG_SECONDS: u32 = 2;

/// Longest window, in seconds: a week. The longest documented retries end after three days (Stripe).
const MAX_WINDOW_SECONDS: u64 = 7 * 86_400;

/// Most shards.
const MAX_SHARDS: usize = 64;

/// Entries for each shard, as long as there are fewer than 64 shards.
const ENTRIES_PER_SHARD: usize = 1024;

/// The SHA-256 that a delivery is remembered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct DeliveryDigest([u8; digest::SHA256_OUTPUT_LEN]);

impl From<digest::Digest> for DeliveryDigest {
    /// `digest` must be a SHA-256.
    fn from(digest: digest::Digest) -> Self {
        let mut bytes = Self::default();
        bytes.0.copy_from_slice(digest.as_ref());
        bytes
    }
}

/// The deliveries that a handler has, or that were taken within their window. An entry takes about 56 bytes.
#[derive(Debug)]
pub struct ReplayGuard {
    shards: Box<[Mutex<Shard>]>,
    /// Most entries of one shard.
    shard_capacity: usize,
    /// Seconds since the guard was made, by a monotonic clock. If it lags or stands still, entries live longer.
    steady: AtomicU32,
}

/// The two clocks, in whole seconds. An entry expires when both are after its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Clocks {
    /// Since 1970.
    wall: u64,
    /// Since the guard was made.
    steady: u32,
}

impl Clocks {
    fn after(self, end: Self) -> bool {
        self.wall > end.wall && self.steady > end.steady
    }

    /// Of each clock, the earlier second.
    fn or_earlier(self, other: Self) -> Self {
        Self { wall: self.wall.min(other.wall), steady: self.steady.min(other.steady) }
    }
}

#[derive(Debug)]
struct Shard {
    deliveries: HashMap<DeliveryDigest, DeliveryState>,
    /// No entry expires before the ends of these seconds, so a full shard is searched only if it can have an expired entry.
    earliest_expiry: Clocks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DeliveryState {
    /// The handler has it. The [`Reservation`] ends this state.
    InFlight,
    /// Taken, and remembered until the end of these seconds. Until their end, because clocks are read in whole seconds: otherwise a
    /// delivery could expire up to one second early, while its signed timestamp is still accepted.
    Taken { wall: u64, steady: u32 },
}

/// Why a delivery cannot be reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Conflict {
    Taken,
    InFlight,
    Full,
}

impl ReplayGuard {
    /// A guard that remembers at most `capacity` deliveries. It can be full a little earlier, because shards fill unevenly.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let shards = (capacity / ENTRIES_PER_SHARD).clamp(1, MAX_SHARDS);
        let shard = || Shard { deliveries: HashMap::new(), earliest_expiry: Clocks { wall: 0, steady: 0 } };
        Self {
            shards: (0..shards).map(|_| Mutex::new(shard())).collect(),
            shard_capacity: capacity / shards,
            steady: AtomicU32::new(0),
        }
    }

    /// Sets the steady clock: the time since the guard was made, by a monotonic clock (CLOCK_MONOTONIC). Call it at least once a
    /// second. Without a call, no entry expires.
    pub fn advance(&self, since_made: Duration) {
        let seconds = u32::try_from(since_made.as_secs()).unwrap_or(u32::MAX);
        self.steady.fetch_max(seconds, Ordering::Relaxed);
    }

    /// Both clocks, if the wall clock is at `now`.
    fn clocks(&self, now: u64) -> Clocks {
        Clocks { wall: now, steady: self.steady.load(Ordering::Relaxed) }
    }

    /// The number of remembered deliveries, including expired ones that are not removed yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).deliveries.len()).sum()
    }

    /// Whether no delivery is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reserves all of `digests`, or none. If several callers share a digest, exactly one succeeds.
    fn reserve(
        self: &Arc<Self>,
        digests: &[DeliveryDigest],
        window_seconds: u64,
        now: u64,
    ) -> Result<Reservation, Conflict> {
        let mut reservation =
            Reservation { guard: Arc::clone(self), digests: [None; MAX_IDS], further: Vec::new(), window_seconds };
        let clocks = self.clocks(now);
        for (index, digest) in digests.iter().enumerate() {
            // On a conflict the reservation is dropped, which releases the digests before this one.
            self.insert(digest, clocks)?;
            match reservation.digests.get_mut(index) {
                Some(place) => *place = Some(*digest),
                None => reservation.further.push(*digest),
            }
        }
        Ok(reservation)
    }

    fn insert(&self, digest: &DeliveryDigest, now: Clocks) -> Result<(), Conflict> {
        let mut shard = self.shard(digest);
        match shard.deliveries.get(digest) {
            Some(DeliveryState::InFlight) => return Err(Conflict::InFlight),
            Some(DeliveryState::Taken { wall, steady }) => {
                if !now.after(Clocks { wall: *wall, steady: *steady }) {
                    return Err(Conflict::Taken);
                }
            }
            None if shard.deliveries.len() < self.shard_capacity => {}
            None => {
                shard.remove_expired(now);
                if shard.deliveries.len() >= self.shard_capacity {
                    return Err(Conflict::Full);
                }
            }
        }
        shard.deliveries.insert(*digest, DeliveryState::InFlight);
        Ok(())
    }

    fn shard(&self, digest: &DeliveryDigest) -> MutexGuard<'_, Shard> {
        // Any two bytes of a SHA-256 are evenly distributed.
        let index = usize::from(u16::from_le_bytes([digest.0[0], digest.0[1]])) % self.shards.len();
        lock(&self.shards[index])
    }
}

/// Locks a shard. No code panics while it holds a lock, so even a poisoned shard is consistent.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shard {
    fn remove_expired(&mut self, now: Clocks) {
        if !now.after(self.earliest_expiry) {
            return;
        }
        let mut earliest = Clocks { wall: u64::MAX, steady: u32::MAX };
        self.deliveries.retain(|_, state| match *state {
            DeliveryState::InFlight => true,
            DeliveryState::Taken { wall, steady } => {
                let keep = !now.after(Clocks { wall, steady });
                if keep {
                    earliest = earliest.or_earlier(Clocks { wall, steady });
                }
                keep
            }
        });
        self.earliest_expiry = earliest;
    }
}

/// A delivery that the handler has, or will have. When it is dropped, the delivery is released: the next copy is handled.
#[derive(Debug)]
#[must_use = "when it is dropped, the delivery counts as not taken"]
pub struct Reservation {
    guard: Arc<ReplayGuard>,
    digests: [Option<DeliveryDigest>; MAX_IDS],
    /// Those that `digests` has no place for: a request with several signatures has several signed messages.
    further: Vec<DeliveryDigest>,
    window_seconds: u64,
}

impl Reservation {
    /// Marks the delivery as taken: copies are duplicates from `now` until the end of the rule's window.
    pub fn commit(mut self, now: UnixTime) {
        let now = self.guard.clocks(now.as_secs());
        let wall = now.wall.saturating_add(self.window_seconds);
        let window = u32::try_from(self.window_seconds).unwrap_or(u32::MAX);
        let steady = now.steady.saturating_add(window).saturating_add(STEADY_LAG_SECONDS);
        let guard = Arc::clone(&self.guard);
        for digest in self.take_digests() {
            let mut shard = guard.shard(&digest);
            shard.earliest_expiry = shard.earliest_expiry.or_earlier(Clocks { wall, steady });
            shard.deliveries.insert(digest, DeliveryState::Taken { wall, steady });
        }
    }

    fn take_digests(&mut self) -> impl Iterator<Item = DeliveryDigest> {
        self.digests.iter_mut().filter_map(Option::take).chain(self.further.drain(..))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let guard = Arc::clone(&self.guard);
        for digest in self.take_digests() {
            guard.shard(&digest).deliveries.remove(&digest);
        }
    }
}

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
