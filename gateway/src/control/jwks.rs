//! The keys of token issuers: which sources are fetched, and when.
//!
//! Owns one task per source that is fetched, its schedule, and how long keys stay in use. One fetch is [`fetch`]; workers read the
//! keys from [`crate::key_store`]. Must not judge tokens: [`hookgate_core::auth`] does.
//!
//! A source is fetched again shortly before its keys become stale (`Cache-Control` of the issuer), with exponential backoff after a
//! failure, and when a token names an unknown key, at most every 30 seconds.
//!
//! A reload builds a new store, and takes over the keys of every source that stays: a reload refuses no token for lack of keys that
//! were there before. The task of such a source goes on with its schedule, so reloads, however many, cause no fetch.

pub mod fetch;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use hookgate_core::auth::{KeySet, KeySourceId};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::config::{KeyOrigin, KeySource};
use crate::key_store::KeyStore;
use crate::metrics::{self, fetches};
use fetch::{FetchError, Fetched, Fetcher, system_roots, tls_settings};

/// The wait after the first failure. Each further failure doubles it, up to [`LAST_BACKOFF`].
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LAST_BACKOFF: Duration = Duration::from_secs(300);

/// Keys from a file stay in use until a reload reads the file again.
const FOREVER: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));

/// Keeps the keys of the configuration in use fresh.
#[derive(Default)]
pub(super) struct KeyRefresh {
    sources: Vec<KeySource>,
    store: Option<Arc<KeyStore>>,
    /// By source; `None` for a file.
    tasks: Vec<Option<Task>>,
}

/// The task of one source. Ends when it is dropped.
struct Task {
    target: Target,
    /// Owns the task, and aborts it when it is dropped.
    _running: JoinSet<()>,
}

/// Where a task fetches keys, and where it publishes them.
#[derive(Clone)]
pub struct Place {
    /// The store of the configuration in use.
    pub store: Arc<KeyStore>,
    /// The source in that store.
    pub source: KeySourceId,
    /// The fetch.
    pub fetcher: Arc<Fetcher>,
}

/// The [`Place`] of a task, which a reload can change while the task waits or fetches.
pub type Target = Arc<ArcSwap<Place>>;

/// The keys of one configuration, before their tasks start.
pub(super) struct PreparedKeys {
    store: Arc<KeyStore>,
    sources: Vec<KeySource>,
    fetched: Vec<Prepared>,
}

/// A source that is fetched.
struct Prepared {
    source: KeySourceId,
    fetcher: Arc<Fetcher>,
    /// The index of the same source in the configuration in use: its task goes on.
    continues: Option<usize>,
}

impl PreparedKeys {
    /// The store that the snapshot of this configuration reads.
    pub(super) fn store(&self) -> &Arc<KeyStore> {
        &self.store
    }
}

impl KeyRefresh {
    /// Builds a store for `sources`, with the keys that are known already. Changes nothing else.
    ///
    /// # Errors
    ///
    /// If a source is fetched over HTTPS and this host has no trusted roots.
    pub(super) fn prepare(&self, sources: Vec<KeySource>) -> anyhow::Result<PreparedKeys> {
        let continued: Vec<Option<usize>> = sources.iter().map(|source| self.same(source)).collect();
        let known = |index: &Option<usize>| Some((&**self.store.as_ref()?, id((*index)?)));
        let store = Arc::new(KeyStore::continuing(&continued.iter().map(known).collect::<Vec<_>>()));
        let mut fetched = Vec::new();
        for ((index, source), continues) in sources.iter().enumerate().zip(continued) {
            match &source.origin {
                KeyOrigin::File(set) => store.publish(id(index), Arc::clone(set), FOREVER),
                KeyOrigin::Url { url, limits, roots } => {
                    let roots = match roots {
                        Some(roots) => configured_roots(roots),
                        None => system_roots()?,
                    };
                    let fetcher = Arc::new(Fetcher::new(url.clone(), tls_settings(roots)?, *limits));
                    self.take_over(source, id(index), &store);
                    fetched.push(Prepared { source: id(index), fetcher, continues });
                }
            }
        }
        Ok(PreparedKeys { store, sources, fetched })
    }

    /// The index of the same source in the configuration in use, if it is fetched.
    fn same(&self, source: &KeySource) -> Option<usize> {
        let same = |known: &KeySource| known.name == source.name && known.origin.is_fetched_as(&source.origin);
        self.sources.iter().position(same)
    }

    /// Copies the current keys of `source` to `store`, if the configuration in use has the same source.
    fn take_over(&self, source: &KeySource, id: KeySourceId, store: &KeyStore) {
        let Some(old) = &self.store else { return };
        let known = (0..).map(KeySourceId).zip(&self.sources);
        let known = known.into_iter().find(|(_, known)| known.origin.has_keys_of(&source.origin));
        if let Some(keys) = known.and_then(|(known, _)| old.current().published(known).cloned()) {
            store.publish(id, keys.set, keys.usable_until);
        }
    }

    /// Leads the tasks of sources that stay to the store of `prepared`, ends those of other sources, and starts those of new ones. Must be
    /// called before a task runs again after [`KeyRefresh::prepare`], because it may publish keys: both run on the thread of the tasks.
    pub(super) fn adopt(&mut self, prepared: PreparedKeys) {
        let mut tasks: Vec<Option<Task>> = prepared.sources.iter().map(|_| None).collect();
        for Prepared { source, fetcher, continues } in prepared.fetched {
            let index = usize::from(source.0);
            let place = Place { store: Arc::clone(&prepared.store), source, fetcher };
            let going_on = continues.and_then(|known| self.tasks.get_mut(known)?.take());
            tasks[index] = Some(match going_on {
                Some(task) => {
                    task.target.store(Arc::new(place));
                    task
                }
                None => Task::start(place, &prepared.sources[index].name),
            });
        }
        self.tasks = tasks;
        self.store = Some(prepared.store);
        self.sources = prepared.sources;
    }
}

impl Task {
    fn start(place: Place, name: &Arc<str>) -> Self {
        let target: Target = Arc::new(ArcSwap::from_pointee(place));
        let (mut running, name) = (JoinSet::new(), Arc::clone(name));
        let observe = move |event: FetchEvent<'_>| report(&name, &event);
        running.spawn(keep_fresh(Arc::clone(&target), now, observe));
        Self { target, _running: running }
    }
}

/// The id of the source with this index. A configuration has at most 65 sources.
fn id(index: usize) -> KeySourceId {
    KeySourceId(u16::try_from(index).unwrap_or(u16::MAX))
}

pub(super) fn configured_roots(certificates: &[CertificateDer<'static>]) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.iter().cloned());
    roots
}

fn now() -> UnixTime {
    UnixTime::since_unix_epoch(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// Counts and logs one fetch of `source`.
fn report(source: &str, event: &FetchEvent<'_>) {
    match event {
        FetchEvent::Fetched { set, usable_until, next } => {
            fetches::counted(source, "ok");
            fetches::have(source, now().as_secs());
            metrics::keys_fetched(source, now().as_secs(), usable_until.as_secs());
            tracing::info!(source, keys = set.usable_keys(), next_s = next.as_secs(), "token keys fetched");
            for skipped in set.skipped() {
                tracing::debug!(source, %skipped, "token key not usable");
            }
        }
        FetchEvent::Failed { error, failures, next } => {
            fetches::counted(source, error.label());
            metrics::keys_failed(source, error.label());
            tracing::warn!(source, %error, failures, next_s = next.as_secs(), "token keys not fetched");
        }
    }
}

/// The outcome of one fetch.
#[derive(Debug)]
pub enum FetchEvent<'event> {
    /// Keys were fetched and published.
    Fetched {
        /// The keys.
        set: &'event KeySet,
        /// Until when they stay in use if every later fetch fails.
        usable_until: UnixTime,
        /// The wait before the next fetch.
        next: Duration,
    },
    /// The fetch failed, and the keys did not change.
    Failed {
        /// Why.
        error: &'event FetchError,
        /// Failures in a row, this one included.
        failures: u32,
        /// The wait before the next fetch.
        next: Duration,
    },
}

/// Keeps the keys of one source fresh for as long as it is polled. It calls `observe` after every fetch. `now` is the clock by which
/// tokens are judged.
pub async fn keep_fresh(target: Target, now: impl Fn() -> UnixTime, mut observe: impl FnMut(FetchEvent<'_>)) {
    let place = target.load_full();
    let Some(attendant) = place.store.attend(place.source) else { return };
    drop(place);
    let mut failures = 0;
    loop {
        attendant.begin();
        let fetcher = Arc::clone(&target.load().fetcher);
        let outcome = fetcher.fetch().await;
        let next = match outcome {
            Ok(Fetched { set, fresh_for }) => {
                failures = 0;
                let set = Arc::new(set);
                let usable_for = fresh_for.saturating_add(fetcher.limits().max_stale).as_secs();
                let usable_until =
                    UnixTime::since_unix_epoch(Duration::from_secs(now().as_secs().saturating_add(usable_for)));
                // A reload can have changed the place meanwhile.
                let place = target.load();
                place.store.publish(place.source, Arc::clone(&set), usable_until);
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
        attendant.end();
        tokio::select! {
            () = sleep(next) => {}
            () = attendant.wanted() => {}
        }
    }
}

/// The wait before a regular fetch: 90 to 100 % of `fresh_for`, at random, so that keys do not become stale and instances do not fetch
/// at the same moment.
pub(super) fn earlier(fresh_for: Duration) -> Duration {
    fresh_for.mul_f64(0.9 + 0.1 * fastrand::f64())
}

/// The wait after `failures` in a row, from 1: doubled by each failure, and its second half random.
pub(super) fn backoff(failures: u32) -> Duration {
    let doubled = FIRST_BACKOFF.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LAST_BACKOFF);
    doubled.mul_f64(0.5 + 0.5 * fastrand::f64())
}

#[cfg(test)]
pub(in crate::control) mod tests;
