//! The verified-chain cache: which chains were verified, by which policy, and until when they are valid.
//!
//! Owns the key, the capacity and the expiry. Holds successes only, so that no refusal outlives its cause. Must not verify
//! chains, and must not replace the signature of the handshake: it knows chains, not who holds their private keys.
//!
//! A hit takes the read lock of a shard and stores one number. Eviction takes a lock that only insertions take, each of which
//! follows signature checks. When `capacity` is reached, the least recently used 1/16 is evicted at once, so that as many
//! insertions share the cost of the scan.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use ring::digest::{Context, SHA256};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::VerifiedChain;

/// Evict 1/16 of the capacity at a time, but at least one entry.
const EVICTED_FRACTION: usize = 16;

/// What a verification depends on: SHA-256 of the generation of the policy, the scope, and every presented certificate after its
/// length, so that no two chains have the same encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct CacheKey([u8; 32]);

impl CacheKey {
    pub(super) fn new(generation: u64, scope: u32, chain: &[CertificateDer<'_>]) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(&generation.to_be_bytes());
        context.update(&scope.to_be_bytes());
        for certificate in chain {
            // `usize` has at most 64 bits on every supported target.
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
    /// The earlier of the chain's `valid_until` and the end of the time to live. No longer valid at this second.
    expires: UnixTime,
    /// Tick of the last hit; before the first hit, of the insertion.
    last_used: AtomicU64,
}

/// Verified chains, shared by all workers and by successive generations of the policy.
#[derive(Debug)]
pub struct ChainCache {
    entries: DashMap<CacheKey, Entry>,
    capacity: usize,
    time_to_live: Duration,
    /// Counts insertions and hits: the order of last use.
    tick: AtomicU64,
    /// Chains of earlier generations are not inserted.
    oldest_generation: AtomicU64,
    evictions: AtomicU64,
    insertion: Mutex<()>,
}

impl ChainCache {
    /// A cache of at most `capacity` chains (0 turns it off), each for at most `time_to_live` (whole seconds).
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

    /// About the number of entries, since others may come and go while they are counted. Includes expired ones until a look-up or an
    /// eviction drops them.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The number of entries while no insertion is under way. [`ChainCache::len`] adds up shards while others change, and may count an
    /// entry that was evicted in the meantime.
    #[cfg(test)]
    pub(super) fn settled_len(&self) -> usize {
        let _insertion = self.insertion.lock().unwrap_or_else(PoisonError::into_inner);
        self.entries.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Entries that were evicted before they expired, since the start.
    pub fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    /// Drops the entries of every generation before this one, and accepts no more of them. Call it when the policy of `generation`
    /// is published; connections that keep an older policy then verify their chain each time.
    pub fn retain_generation(&self, generation: u64) {
        self.oldest_generation.fetch_max(generation, Ordering::Relaxed);
        self.entries.retain(|_, entry| entry.chain.generation() >= generation);
    }

    /// The chain of `key`, if it is still valid at `now`. Drops the entry if it has expired.
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

    /// Inserts `chain`, which was verified at `now`.
    pub(super) fn insert(&self, key: CacheKey, chain: &Arc<VerifiedChain>, now: UnixTime) {
        let lifetime_end = now.as_secs().saturating_add(self.time_to_live.as_secs());
        let expires = chain.valid_until().min(UnixTime::since_unix_epoch(Duration::from_secs(lifetime_end)));
        let outdated = chain.generation() < self.oldest_generation.load(Ordering::Relaxed);
        if self.capacity == 0 || expires <= now || outdated {
            return;
        }
        let entry = Entry { chain: Arc::clone(chain), expires, last_used: AtomicU64::new(self.next_tick()) };
        // The lock guards no data, so a poisoned one is usable.
        let _insertion = self.insertion.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.entries.contains_key(&key) {
            self.make_room(now);
        }
        self.entries.insert(key, entry);
    }

    fn next_tick(&self) -> u64 {
        self.tick.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes room for one entry: drops the expired entries first, then evicts the least recently used ones.
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
        // A hit in the meantime may have kept one of them. If none could be evicted, clearing the cache keeps the bound.
        let before = self.entries.len();
        self.entries.retain(|_, entry| entry.last_used.load(Ordering::Relaxed) > newest_evicted);
        if self.entries.len() >= self.capacity {
            self.entries.clear();
        }
        let removed = before.saturating_sub(self.entries.len());
        self.evictions.fetch_add(removed as u64, Ordering::Relaxed);
    }
}
