//! The keys of token issuers: which sources are fetched, and when.
//!
//! Owns one task per source that is fetched, its schedule, and how long keys stay in use. One fetch is [`fetch`]; workers read the
//! keys from [`crate::key_store`]. Must not judge tokens: [`hookgate_core::auth`] does.
//!
//! A source is fetched again shortly before its keys become stale (`Cache-Control` of the issuer), with exponential backoff after a
//! failure, and when a token names an unknown key, at most every 30 seconds.
//!
//! A reload builds a new store, and takes over the keys of every source that stays: a reload refuses no token for lack of keys that
//! were there before.

pub mod fetch;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hookgate_core::auth::{KeySet, KeySourceId};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::config::{KeyOrigin, KeySource};
use crate::key_store::KeyStore;
use crate::metrics;
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
    tasks: JoinSet<()>,
}

/// The keys of one configuration, before their tasks start.
pub(super) struct PreparedKeys {
    store: Arc<KeyStore>,
    sources: Vec<KeySource>,
    fetchers: Vec<(KeySourceId, Arc<str>, Fetcher)>,
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
        let store = Arc::new(KeyStore::new(sources.len()));
        let mut fetchers = Vec::new();
        for (id, source) in (0..).map(KeySourceId).zip(&sources) {
            match &source.origin {
                KeyOrigin::File(set) => store.publish(id, Arc::clone(set), FOREVER),
                KeyOrigin::Url { url, limits, roots } => {
                    let roots = match roots {
                        Some(roots) => configured_roots(roots),
                        None => system_roots()?,
                    };
                    let fetcher = Fetcher::new(url.clone(), tls_settings(roots)?, *limits);
                    fetchers.push((id, Arc::clone(&source.name), fetcher));
                    self.take_over(source, id, &store);
                }
            }
        }
        Ok(PreparedKeys { store, sources, fetchers })
    }

    /// Copies the current keys of `source` to `store`, if the configuration in use has the same source.
    fn take_over(&self, source: &KeySource, id: KeySourceId, store: &KeyStore) {
        let Some(old) = &self.store else { return };
        let known = (0..).map(KeySourceId).zip(&self.sources).find(|(_, known)| known.origin.same_as(&source.origin));
        if let Some(keys) = known.and_then(|(known, _)| old.current().published(known).cloned()) {
            store.publish(id, keys.set, keys.usable_until);
        }
    }

    /// Ends the tasks of the configuration before, and starts those of `prepared`.
    pub(super) fn adopt(&mut self, prepared: PreparedKeys) {
        self.tasks.abort_all();
        for (id, name, fetcher) in prepared.fetchers {
            let observe = move |event: FetchEvent<'_>| report(&name, &event);
            self.tasks.spawn(keep_fresh(Arc::clone(&prepared.store), id, fetcher, now, observe));
        }
        self.store = Some(prepared.store);
        self.sources = prepared.sources;
    }
}

fn configured_roots(certificates: &[CertificateDer<'static>]) -> RootCertStore {
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
            metrics::keys_fetched(source, now().as_secs(), usable_until.as_secs());
            tracing::info!(source, keys = set.usable_keys(), next_s = next.as_secs(), "token keys fetched");
            for skipped in set.skipped() {
                tracing::debug!(source, %skipped, "token key not usable");
            }
        }
        FetchEvent::Failed { error, failures, next } => {
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
pub async fn keep_fresh(
    store: Arc<KeyStore>,
    source: KeySourceId,
    fetcher: Fetcher,
    now: impl Fn() -> UnixTime,
    mut observe: impl FnMut(FetchEvent<'_>),
) {
    let Some(attendant) = store.attend(source) else { return };
    let mut failures = 0;
    loop {
        attendant.begin();
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
        attendant.end();
        tokio::select! {
            () = sleep(next) => {}
            () = attendant.wanted() => {}
        }
    }
}

/// The wait before a regular fetch: 90 to 100 % of `fresh_for`, at random, so that keys do not become stale and instances do not fetch
/// at the same moment.
fn earlier(fresh_for: Duration) -> Duration {
    fresh_for.mul_f64(0.9 + 0.1 * fastrand::f64())
}

/// The wait after `failures` in a row, from 1: doubled by each failure, and its second half random.
fn backoff(failures: u32) -> Duration {
    let doubled = FIRST_BACKOFF.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LAST_BACKOFF);
    doubled.mul_f64(0.5 + 0.5 * fastrand::f64())
}

#[cfg(test)]
mod tests;
