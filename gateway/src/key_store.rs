//! The current keys of token issuers, as workers read them: immutable [`KeySets`] behind a pointer.
//!
//! Owns the pointer, the wait for newer keys, and the bound on fetches that unknown keys cause: one per source in 30 seconds, so
//! that a peer that invents key ids cannot flood an issuer. Must not fetch keys ([`crate::control::jwks`] does), nor judge tokens
//! ([`hookgate_core::auth`] does).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use hookgate_core::auth::{KeySet, KeySets, KeySourceId, PublishedKeys};
use hookgate_io::timer;
use rustls_pki_types::UnixTime;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// Minimum interval between two fetches of one source that unknown keys cause.
const UNKNOWN_KEY_INTERVAL: Duration = Duration::from_secs(30);

/// Longest wait of a request for such a fetch: senders wait 5 seconds for the answer (PagerDuty, Dialogflow).
const REFRESH_WAIT: Duration = Duration::from_secs(3);

/// The current keys of every source. Workers read them, and one task per source publishes them.
#[derive(Debug)]
pub struct KeyStore {
    sets: ArcSwap<KeySets>,
    sources: Box<[Arc<Source>]>,
}

/// The coordination of one source: requests that wait for keys, and the task that fetches them.
#[derive(Debug)]
struct Source {
    /// Asks the task for a fetch.
    wanted: Notify,
    progress: watch::Sender<Progress>,
    /// When an unknown key last caused a fetch.
    granted: Mutex<Option<Instant>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Fetches that have ended, successful or not.
    ended: u64,
    /// Whether a task fetches this source.
    attended: bool,
    /// Whether a fetch was asked for and has not ended.
    pending: bool,
}

impl KeyStore {
    /// A store for `sources` sources, without keys.
    #[must_use]
    pub fn new(sources: usize) -> Self {
        Self::continuing(&vec![None; sources])
    }

    /// A store with a source for each element, without keys. An element with a source of another store continues it: its task goes on, and
    /// so does the interval between fetches that unknown keys cause.
    #[must_use]
    pub fn continuing(sources: &[Option<(&Self, KeySourceId)>]) -> Self {
        let source = |known: &Option<(&Self, KeySourceId)>| {
            let known = known.and_then(|(store, id)| store.sources.get(usize::from(id.0)).cloned());
            known.unwrap_or_else(|| {
                let progress = watch::Sender::new(Progress::default());
                Arc::new(Source { wanted: Notify::new(), progress, granted: Mutex::new(None) })
            })
        };
        let sets = ArcSwap::from_pointee(KeySets::empty(sources.len()));
        Self { sets, sources: sources.iter().map(source).collect() }
    }

    /// The current keys. Takes no lock.
    #[must_use]
    pub fn current(&self) -> Guard<Arc<KeySets>> {
        self.sets.load()
    }

    /// Replaces the keys of one source, which stay in use until `usable_until`.
    pub fn publish(&self, source: KeySourceId, set: Arc<KeySet>, usable_until: UnixTime) {
        let keys = PublishedKeys { set, usable_until };
        self.sets.rcu(|sets| sets.with(source, keys.clone()));
    }

    /// Whether `source` has newer keys than `judged`, which lack the key that a token names. If so, check the token again.
    ///
    /// If there are no newer keys, asks for a fetch and waits for it, at most 3 seconds. All callers share a fetch that is in
    /// progress. Calls cause at most one fetch in 30 seconds; in between, the answer comes at once.
    pub async fn refreshed(&self, source: KeySourceId, judged: &KeySets) -> bool {
        let Some(waiting) = self.sources.get(usize::from(source.0)) else { return false };
        let is_newer = || match (judged.published(source), self.current().published(source)) {
            (Some(old), Some(new)) => !Arc::ptr_eq(&old.set, &new.set),
            (old, new) => old.is_none() && new.is_some(),
        };
        if !is_newer() {
            let mut progress = waiting.progress.subscribe();
            if let Some(ended) = waiting.join(Instant::now()) {
                // This runs on a worker, so it waits by the worker's timer. The keys show whether the fetch succeeded.
                let _ = timer::timeout(REFRESH_WAIT, progress.wait_for(|now| now.ended > ended)).await;
            }
        }
        is_newer()
    }
}

impl Source {
    /// Joins the fetch that is in progress, or asks for one. Returns how many fetches had ended before that one; `None` if no task
    /// fetches this source, or if an unknown key caused a fetch less than [`UNKNOWN_KEY_INTERVAL`] ago.
    fn join(&self, now: Instant) -> Option<u64> {
        let mut granted = self.granted.lock().unwrap_or_else(PoisonError::into_inner);
        let progress = *self.progress.borrow();
        if progress.pending {
            return Some(progress.ended);
        }
        if !progress.attended || granted.is_some_and(|before| now.duration_since(before) < UNKNOWN_KEY_INTERVAL) {
            return None;
        }
        *granted = Some(now);
        self.progress.send_modify(|progress| progress.pending = true);
        self.wanted.notify_one();
        Some(progress.ended)
    }
}

/// Held by the task that fetches the keys of one source. When it is dropped, as when a reload removes the source, requests that wait for
/// a fetch stop waiting.
pub struct Attendant(Arc<Source>);

impl KeyStore {
    /// Declares that the caller fetches `source` from now on. `None` if there is no such source.
    pub fn attend(&self, source: KeySourceId) -> Option<Attendant> {
        self.sources.get(usize::from(source.0)).map(|source| Attendant(Arc::clone(source)))
    }
}

impl Attendant {
    /// Notes that a fetch begins.
    pub fn begin(&self) {
        self.0.progress.send_modify(|progress| {
            progress.attended = true;
            progress.pending = true;
        });
    }

    /// Notes that the fetch has ended, with or without new keys.
    pub fn end(&self) {
        self.0.progress.send_modify(|progress| {
            progress.ended += 1;
            progress.pending = false;
        });
    }

    /// Waits until an unknown key asks for a fetch.
    pub async fn wanted(&self) {
        self.0.wanted.notified().await;
    }
}

impl Drop for Attendant {
    fn drop(&mut self) {
        self.0.progress.send_modify(|progress| {
            progress.ended += 1;
            progress.attended = false;
            progress.pending = false;
        });
    }
}
