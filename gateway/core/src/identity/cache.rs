//! The verified-chain cache: which chains were found good, by which policy, and until when.
//!
//! Owns the key, the bound and the expiry. Holds successes only, so that no refusal outlives its cause. Must not verify, and
//! must not be asked in place of the handshake's signature: it knows chains, not who holds their keys.
//!
//! A hit takes a shard's read lock and stores one number. Room is made under a lock that only insertions take, each of which
//! has just cost signature checks. The cache is full at `capacity`; then the least recently used sixteenth goes at once, so
//! that the scan for it is paid by as many insertions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use ring::digest::{Context, SHA256};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::VerifiedChain;

/// One part in so many is evicted at once; with fewer entries than that, one.
const EVICTED_FRACTION: usize = 16;

/// What a verification depended on: SHA-256 over the generation of the policy, the scope, and every presented certificate
/// with its length before it, so that no two chains share an encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct CacheKey([u8; 32]);

impl CacheKey {
    pub(super) fn new(generation: u64, scope: u32, chain: &[CertificateDer<'_>]) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(&generation.to_be_bytes());
        context.update(&scope.to_be_bytes());
        for certificate in chain {
            // `usize` is at most 64 bits wide wherever this runs.
            context.update(&(certificate.len() as u64).to_be_bytes());
            context.update(certificate);
        }
        let mut key = [0; 32];
        key.copy_from_slice(context.finish().as_ref());
        Self(key)
    }
}

#[derive(Debug)]
struct Entry {
    chain: Arc<VerifiedChain>,
    /// The earlier of the chain's `valid_until` and the time to live. Not good any more at this second.
    expires: UnixTime,
    /// Tick of the last hit, or of the insertion.
    last_used: AtomicU64,
}

/// Verified chains, shared by all workers and by successive generations of the policy.
#[derive(Debug)]
pub struct ChainCache {
    entries: DashMap<CacheKey, Entry>,
    capacity: usize,
    time_to_live: Duration,
    /// Counts insertions and hits: the clock of "recently used".
    tick: AtomicU64,
    /// Chains of generations before this one are not taken in any more.
    oldest_generation: AtomicU64,
    evictions: AtomicU64,
    insertion: Mutex<()>,
}

impl ChainCache {
    /// A cache of at most `capacity` chains (0 remembers none), each for at most `time_to_live` (whole seconds).
    pub fn new(capacity: usize, time_to_live: Duration) -> Self {
        Self {
            entries: DashMap::new(),
            capacity,
            time_to_live,
            tick: AtomicU64::new(0),
            oldest_generation: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
            insertion: Mutex::new(()),
        }
    }

    /// Entries held, expired ones included until somebody sees them.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Entries that had not expired when they made room for others, since the start.
    pub fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    /// Drops the entries of every generation before this one, and takes in no more of them from now on. To be called
    /// when the policy of `generation` has been published; connections that keep an older one then verify anew each time.
    pub fn retain_generation(&self, generation: u64) {
        self.oldest_generation.fetch_max(generation, Ordering::Relaxed);
        self.entries.retain(|_, entry| entry.chain.generation() >= generation);
    }

    /// The chain of `key`, if it is still good at `now`; an entry that is not is dropped.
    pub(super) fn lookup(&self, key: &CacheKey, now: UnixTime) -> Option<Arc<VerifiedChain>> {
        if self.capacity == 0 {
            return None;
        }
        let entry = self.entries.get(key)?;
        if now < entry.expires {
            entry.last_used.store(self.next_tick(), Ordering::Relaxed);
            return Some(Arc::clone(&entry.chain));
        }
        drop(entry);
        self.entries.remove_if(key, |_, entry| now >= entry.expires);
        None
    }

    /// Remembers `chain`, which was verified at `now`.
    pub(super) fn insert(&self, key: CacheKey, chain: &Arc<VerifiedChain>, now: UnixTime) {
        let lifetime_end = now.as_secs().saturating_add(self.time_to_live.as_secs());
        let expires = chain.valid_until().min(UnixTime::since_unix_epoch(Duration::from_secs(lifetime_end)));
        let outdated = chain.generation() < self.oldest_generation.load(Ordering::Relaxed);
        if self.capacity == 0 || expires <= now || outdated {
            return;
        }
        let entry = Entry { chain: Arc::clone(chain), expires, last_used: AtomicU64::new(self.next_tick()) };
        // The lock guards no data, so a poisoned one is as good.
        let _insertion = self.insertion.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.entries.contains_key(&key) {
            self.make_room(now);
        }
        self.entries.insert(key, entry);
    }

    fn next_tick(&self) -> u64 {
        self.tick.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes place for one more entry; first of those that have expired, then of the least recently used.
    fn make_room(&self, now: UnixTime) {
        if self.entries.len() < self.capacity {
            return;
        }
        self.entries.retain(|_, entry| now < entry.expires);
        let mut ticks: Vec<u64> = self.entries.iter().map(|entry| entry.last_used.load(Ordering::Relaxed)).collect();
        if ticks.len() < self.capacity {
            return;
        }
        let evicted = (self.capacity / EVICTED_FRACTION).max(1).min(ticks.len());
        let (_, newest_evicted, _) = ticks.select_nth_unstable(evicted - 1);
        let newest_evicted = *newest_evicted;
        // A hit may have renewed one of them meanwhile, so a last resort keeps the bound.
        let before = self.entries.len();
        self.entries.retain(|_, entry| entry.last_used.load(Ordering::Relaxed) > newest_evicted);
        if self.entries.len() >= self.capacity {
            self.entries.clear();
        }
        let removed = before.saturating_sub(self.entries.len());
        self.evictions.fetch_add(removed as u64, Ordering::Relaxed);
    }
}
