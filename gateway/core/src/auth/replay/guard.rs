//! The memory of deliveries: bounded, with an expiry for each entry, shared by the workers.
//!
//! Owns that memory. A delivery is *reserved* while the handler has it. Then it is *taken*, or released if the handler failed, so that a
//! retry of the sender is not a duplicate. Must not know requests. Also compiled by `tests/models`, against the locks of a model
//! checker, so it names nothing of this crate but `sync`.
//!
//! Evicts no entry before its expiry: if the memory is full, the request is refused (`replay_guard_full`, 503, so that senders
//! retry). If the oldest entry were evicted instead, a peer that fills the memory could replay any delivery.
//!
//! An entry expires when both clocks say so: the wall clock, by which signed timestamps are judged, and a steady one, which the owner of
//! the guard advances ([`ReplayGuard::advance`]). So neither a step forward of the wall clock nor one back ends a window early.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ring::digest;
use rustls_pki_types::UnixTime;

use crate::sync::{Mutex, MutexGuard, PoisonError};

/// Most ids of one rule: one in a header field, one in the body, and the signed message.
pub(super) const MAX_IDS: usize = 3;

/// How far the steady clock may lag when a delivery is taken: its owner advances it four times a second, and it counts whole seconds.
pub(super) const STEADY_LAG_SECONDS: u32 = 2;

/// Most shards.
const MAX_SHARDS: usize = 64;

/// Entries for each shard, as long as there are fewer than 64 shards.
const ENTRIES_PER_SHARD: usize = 1024;

/// The SHA-256 that a delivery is remembered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct DeliveryDigest([u8; digest::SHA256_OUTPUT_LEN]);

/// A delivery that was taken, as it is kept over a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptDelivery {
    /// The SHA-256 that it is remembered by.
    pub digest: [u8; digest::SHA256_OUTPUT_LEN],
    /// The last second in which a copy is a duplicate, since 1970.
    pub until: u64,
}

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

    /// Remembers a delivery that an earlier process kept. Call it before the first reservation. Returns whether there was a place for it.
    #[must_use]
    pub fn restore(&self, kept: KeptDelivery, now: UnixTime) -> bool {
        let digest = DeliveryDigest(kept.digest);
        let now = self.clocks(now.as_secs());
        let left = u32::try_from(kept.until.saturating_sub(now.wall)).unwrap_or(u32::MAX);
        let (wall, steady) = (kept.until, now.steady.saturating_add(left).saturating_add(STEADY_LAG_SECONDS));
        let mut shard = self.shard(&digest);
        if shard.deliveries.len() >= self.shard_capacity && !shard.deliveries.contains_key(&digest) {
            return false;
        }
        shard.earliest_expiry = shard.earliest_expiry.or_earlier(Clocks { wall, steady });
        shard.deliveries.insert(digest, DeliveryState::Taken { wall, steady });
        true
    }

    /// Reserves all of `digests`, or none. If several callers share a digest, exactly one succeeds.
    pub(super) fn reserve(
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

    /// What to keep over a restart, if the delivery is taken at `now`: one for each of its ids.
    pub fn kept(&self, now: UnixTime) -> impl Iterator<Item = KeptDelivery> {
        let until = now.as_secs().saturating_add(self.window_seconds);
        let digests = self.digests.iter().flatten().chain(&self.further);
        digests.map(move |digest| KeptDelivery { digest: digest.0, until })
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
