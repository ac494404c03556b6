//! The keys of token issuers, as the data plane reads them: immutable [`KeySets`] behind a pointer.
//!
//! Owns the current keys, the wait for newer ones, and the bound on how often an unknown key causes a fetch: once in 30 seconds a
//! source, so that a peer that makes up key names cannot make hookgate hammer an issuer. Must not fetch: that is
//! `control::jwks`; must not judge tokens: that is `auth`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use hookgate_core::auth::{KeySet, KeySets, KeySourceId, PublishedKeys};
use hookgate_io::timer;
use rustls_pki_types::UnixTime;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// Minimum interval between fetches of one source that unknown keys cause.
const UNKNOWN_KEY_INTERVAL: Duration = Duration::from_secs(30);

/// Longest wait of a request for such a fetch: senders give a receiver 5 seconds (PagerDuty, Dialogflow).
const REFRESH_WAIT: Duration = Duration::from_secs(3);

/// The current keys, shared by the workers, which read them, and the tasks that fetch them.
#[derive(Debug)]
pub struct KeyStore {
    sets: ArcSwap<KeySets>,
    sources: Box<[Source]>,
}

/// What goes on with one source.
#[derive(Debug)]
struct Source {
    wanted: Notify,
    progress: watch::Sender<Progress>,
    /// When an unknown key last caused a fetch.
    granted: Mutex<Option<Instant>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Fetches that ended, well or badly.
    ended: u64,
    /// There is a task that fetches.
    attended: bool,
    /// A fetch was asked for and has not ended.
    pending: bool,
}

impl KeyStore {
    /// A store for `sources` sources, without any keys.
    #[must_use]
    pub fn new(sources: usize) -> Self {
        let source = |_| Source {
            wanted: Notify::new(),
            progress: watch::Sender::new(Progress::default()),
            granted: Mutex::new(None),
        };
        Self { sets: ArcSwap::from_pointee(KeySets::empty(sources)), sources: (0..sources).map(source).collect() }
    }

    /// The keys as they are now. Costs no lock.
    #[must_use]
    pub fn current(&self) -> Guard<Arc<KeySets>> {
        self.sets.load()
    }

    /// Replaces the keys of one source. For keys from a file, `usable_until` is the end of time.
    pub fn publish(&self, source: KeySourceId, set: Arc<KeySet>, usable_until: UnixTime) {
        let keys = PublishedKeys { set, usable_until };
        self.sets.rcu(|sets| sets.with(source, keys.clone()));
    }

    /// Whether there are other keys of `source` than `judged`, which lack one that a token names; the token is then worth checking
    /// again. Where there are none, asks for a fetch and waits for it, at most 3 seconds. A fetch that is under way serves everybody
    /// who asks; otherwise there is one every 30 seconds, and who asks in between is answered at once.
    pub async fn refreshed(&self, source: KeySourceId, judged: &KeySets) -> bool {
        let Some(state) = self.sources.get(usize::from(source.0)) else { return false };
        let newer = || match (judged.published(source), self.current().published(source)) {
            (Some(old), Some(new)) => !Arc::ptr_eq(&old.set, &new.set),
            (old, new) => old.is_none() && new.is_some(),
        };
        if !newer() {
            let mut progress = state.progress.subscribe();
            if let Some(ended) = state.join(Instant::now()) {
                // Whether it ended or took too long shows in the keys.
                // On a worker's thread, so by its clock.
                let _ = timer::timeout(REFRESH_WAIT, progress.wait_for(|now| now.ended > ended)).await;
            }
        }
        newer()
    }
}

impl Source {
    /// Joins the fetch that is under way, or sets one off, unless an unknown key did so within the interval or nobody fetches this
    /// source. Returns how many fetches had ended before that one.
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

/// The task that fetches the keys of one source. Dropped when the task ends, as on a reload: requests that wait for a fetch stop
/// waiting.
pub struct Attendant<'store>(&'store Source);

impl KeyStore {
    /// Declares that the caller fetches `source` from now on; `None` if there is no such source.
    pub fn attend(&self, source: KeySourceId) -> Option<Attendant<'_>> {
        self.sources.get(usize::from(source.0)).map(Attendant)
    }
}

impl Attendant<'_> {
    /// A fetch begins.
    pub fn begin(&self) {
        self.0.progress.send_modify(|progress| {
            progress.attended = true;
            progress.pending = true;
        });
    }

    /// The fetch has ended, with or without new keys.
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

impl Drop for Attendant<'_> {
    fn drop(&mut self) {
        self.0.progress.send_modify(|progress| {
            progress.ended += 1;
            progress.attended = false;
            progress.pending = false;
        });
    }
}
