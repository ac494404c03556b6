//! The keys of token issuers, kept fresh.
//!
//! Owns when keys are fetched, how long they are relied on, and how the data plane gets them: as an immutable
//! [`KeySets`] behind a pointer. How one fetch goes is in [`fetch`]. Must not judge tokens: `auth` does.
//!
//! A source is fetched when its keys are about to be stale, as the issuer's `Cache-Control` says; after a failure again and again,
//! ever more seldom; and when a token names a key that is not there, but not more often than every 30 seconds, so that
//! whoever makes up key names cannot make hookgate hammer an issuer.

pub mod fetch;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use rustls_pki_types::UnixTime;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};

use crate::auth::{KeySet, KeySets, KeySourceId, PublishedKeys};
use crate::worker::io::timer;
use fetch::{FetchError, Fetched, Fetcher};

/// Soonest fetch of the same source for the sake of an unknown key.
const UNKNOWN_KEY_INTERVAL: Duration = Duration::from_secs(30);

/// Longest wait of a request for such a fetch: senders give a receiver 5 seconds (PagerDuty, Dialogflow).
const REFRESH_WAIT: Duration = Duration::from_secs(3);

/// The first wait after a failure, doubled after each further one up to the last.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LAST_BACKOFF: Duration = Duration::from_secs(300);

/// The current keys, shared by the workers, which read them, and the tasks that fetch them.
#[derive(Debug)]
pub struct KeyStore {
    sets: ArcSwap<KeySets>,
    slots: Box<[Slot]>,
}

/// What goes on with one source.
#[derive(Debug)]
struct Slot {
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
        let slot = |_| Slot {
            wanted: Notify::new(),
            progress: watch::Sender::new(Progress::default()),
            granted: Mutex::new(None),
        };
        Self { sets: ArcSwap::from_pointee(KeySets::empty(sources)), slots: (0..sources).map(slot).collect() }
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
        let Some(slot) = self.slots.get(usize::from(source.0)) else { return false };
        let newer = || match (judged.published(source), self.current().published(source)) {
            (Some(old), Some(new)) => !Arc::ptr_eq(&old.set, &new.set),
            (old, new) => old.is_none() && new.is_some(),
        };
        if !newer() {
            let mut progress = slot.progress.subscribe();
            if let Some(ended) = slot.join(Instant::now()) {
                // Whether it ended or took too long shows in the keys.
                // On a worker's thread, so by its clock.
                let _ = timer::timeout(REFRESH_WAIT, progress.wait_for(|now| now.ended > ended)).await;
            }
        }
        newer()
    }
}

impl Slot {
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

/// What came of a fetch, for metrics and logs.
#[derive(Debug)]
pub enum FetchEvent<'event> {
    /// Keys were fetched and published.
    Fetched {
        /// The keys.
        set: &'event KeySet,
        /// Until when they are relied on if no later fetch succeeds.
        usable_until: UnixTime,
        /// When they are fetched again.
        next: Duration,
    },
    /// The keys stay as they were.
    Failed {
        /// Why.
        error: &'event FetchError,
        /// How many fetches have failed in a row.
        failures: u32,
        /// When it is tried again.
        next: Duration,
    },
}

/// Keeps the keys of one source fresh, for as long as it is polled. `observe` is told of every fetch; `now` is the clock that
/// the data plane judges tokens by.
pub async fn keep_fresh(
    store: Arc<KeyStore>,
    source: KeySourceId,
    fetcher: Fetcher,
    now: impl Fn() -> UnixTime,
    mut observe: impl FnMut(FetchEvent<'_>),
) {
    let Some(slot) = store.slots.get(usize::from(source.0)) else { return };
    let _ended = Ended(slot);
    let mut failures = 0;
    loop {
        slot.progress.send_modify(|progress| {
            progress.attended = true;
            progress.pending = true;
        });
        let next = match fetcher.fetch().await {
            Ok(Fetched { set, fresh_for }) => {
                failures = 0;
                let set = Arc::new(set);
                let usable_for = fresh_for.saturating_add(fetcher.limits().max_stale).as_secs();
                let usable_until =
                    UnixTime::since_unix_epoch(Duration::from_secs(now().as_secs().saturating_add(usable_for)));
                store.publish(source, Arc::clone(&set), usable_until);
                let next = earlier(fresh_for);
                observe(FetchEvent::Fetched { set: &set, usable_until, next });
                next
            }
            Err(error) => {
                failures += 1;
                let next = backoff(failures);
                observe(FetchEvent::Failed { error: &error, failures, next });
                next
            }
        };
        slot.progress.send_modify(|progress| {
            progress.ended += 1;
            progress.pending = false;
        });
        tokio::select! {
            () = sleep(next) => {}
            () = slot.wanted.notified() => {}
        }
    }
}

/// Whoever waits for a fetch of a task that ends, as on a reload, need not wait on.
struct Ended<'slot>(&'slot Slot);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.progress.send_modify(|progress| {
            progress.ended += 1;
            progress.attended = false;
            progress.pending = false;
        });
    }
}

/// A little before `fresh_for` is over, so that keys do not go stale, and at another moment in every instance.
fn earlier(fresh_for: Duration) -> Duration {
    fresh_for.mul_f64(0.9 + 0.1 * fastrand::f64())
}

/// The wait after `failures` in a row, from 1: doubled each time, the latter half of it at random.
fn backoff(failures: u32) -> Duration {
    let doubled = FIRST_BACKOFF.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LAST_BACKOFF);
    doubled.mul_f64(0.5 + 0.5 * fastrand::f64())
}

#[cfg(test)]
mod tests;
