//! The memory of deliveries: bounded, with an expiry for each entry, shared by the workers.
//!
//! Owns that memory. A delivery is *reserved* while the handler has it. Then it is *taken*, or released if the handler failed, so that a
//! retry of the sender is not a duplicate. Must not know requests. Also compiled by `tests/models`, against the locks of a model
//! checker, so it names nothing of this crate but `sync`.
//!
//! Evicts no entry before its expiry: if the memory is full, the request is refused (`replay_guard_full`, 503, so that senders
//! retry). If the oldest entry were evicted instead, a peer that fills the memory could replay any delivery.

use std::collections::HashMap;
use std::sync::Arc;

use ring::digest;
use rustls_pki_types::UnixTime;

use crate::sync::{Mutex, MutexGuard, PoisonError};

/// Most ids of one delivery: one in a header field, one in the body, and the signed message.
pub(super) const MAX_IDS: usize = 3;

/// Most shards.
const MAX_SHARDS: usize = 64;

/// Entries for each shard, as long as there are fewer than 64 shards.
const ENTRIES_PER_SHARD: usize = 1024;

/// The SHA-256 that a delivery is remembered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct DeliveryDigest([u8; digest::SHA256_OUTPUT_LEN]);

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
}

#[derive(Debug, Default)]
struct Shard {
    deliveries: HashMap<DeliveryDigest, DeliveryState>,
    /// No entry expires before the end of this second since 1970, so a full shard is searched only if it has an expired entry.
    earliest_expiry: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DeliveryState {
    /// The handler has it. The [`Reservation`] ends this state.
    InFlight,
    /// Taken, and remembered until the end of this second since 1970. Until its end, because clocks are read in whole seconds:
    /// otherwise a delivery could expire up to one second early, while its signed timestamp is still accepted.
    Taken { until: u64 },
}

/// Why a delivery cannot be reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conflict {
    Taken,
    InFlight,
    Full,
}

impl ReplayGuard {
    /// A guard that remembers at most `capacity` deliveries. It can be full a little earlier, because shards fill unevenly.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let shards = (capacity / ENTRIES_PER_SHARD).clamp(1, MAX_SHARDS);
        Self { shards: (0..shards).map(|_| Mutex::default()).collect(), shard_capacity: capacity / shards }
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
    pub(super) fn reserve(
        self: &Arc<Self>,
        digests: &[DeliveryDigest],
        window_seconds: u64,
        now: u64,
    ) -> Result<Reservation, Conflict> {
        let mut reservation = Reservation { guard: Arc::clone(self), digests: [None; MAX_IDS], window_seconds };
        for (digest, place) in digests.iter().zip(&mut reservation.digests) {
            // On a conflict the reservation is dropped, which releases the digests before this one.
            self.insert(digest, now)?;
            *place = Some(*digest);
        }
        Ok(reservation)
    }

    fn insert(&self, digest: &DeliveryDigest, now: u64) -> Result<(), Conflict> {
        let mut shard = self.shard(digest);
        match shard.deliveries.get(digest) {
            Some(DeliveryState::InFlight) => return Err(Conflict::InFlight),
            Some(DeliveryState::Taken { until }) if now <= *until => return Err(Conflict::Taken),
            Some(DeliveryState::Taken { .. }) => {}
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
    fn remove_expired(&mut self, now: u64) {
        if now <= self.earliest_expiry {
            return;
        }
        let mut earliest = u64::MAX;
        self.deliveries.retain(|_, state| match *state {
            DeliveryState::InFlight => true,
            DeliveryState::Taken { until } => {
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

/// A delivery that the handler has, or will have. When it is dropped, the delivery is released: the next copy is handled.
#[derive(Debug)]
#[must_use = "when it is dropped, the delivery counts as not taken"]
pub struct Reservation {
    guard: Arc<ReplayGuard>,
    digests: [Option<DeliveryDigest>; MAX_IDS],
    window_seconds: u64,
}

impl Reservation {
    /// Marks the delivery as taken: copies are duplicates from `now` until the end of the rule's window.
    pub fn commit(mut self, now: UnixTime) {
        let until = now.as_secs().saturating_add(self.window_seconds);
        for digest in self.digests.iter_mut().filter_map(Option::take) {
            let mut shard = self.guard.shard(&digest);
            shard.earliest_expiry = shard.earliest_expiry.min(until);
            shard.deliveries.insert(digest, DeliveryState::Taken { until });
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        for digest in self.digests.iter_mut().filter_map(Option::take) {
            self.guard.shard(&digest).deliveries.remove(&digest);
        }
    }
}
