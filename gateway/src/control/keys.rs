//! Which token issuers' keys are kept, across reloads.
//!
//! Owns the store of the current configuration and the tasks that keep its sources fresh. A reload gets a store of its own, with
//! the keys of every source that stays, so that no token is refused for want of keys that were there a moment ago.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::RootCertStore;
use rustls_pki_types::UnixTime;
use tokio::task::JoinSet;

use super::jwks::fetch::{Fetcher, system_roots, tls_settings};
use super::jwks::{FetchEvent, keep_fresh};
use crate::config::{KeyOrigin, KeySource};
use crate::keys::KeyStore;
use crate::metrics;
use hookgate_core::auth::KeySourceId;

/// Keys from a file are relied on until the file is read again.
const FOREVER: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));

/// The keys of one configuration, not attended to yet.
pub(super) struct Prepared {
    store: Arc<KeyStore>,
    sources: Vec<KeySource>,
    fetchers: Vec<(KeySourceId, Arc<str>, Fetcher)>,
}

impl Prepared {
    /// Where the data plane finds the keys.
    pub(super) fn store(&self) -> &Arc<KeyStore> {
        &self.store
    }
}

/// Keeps the keys of the configuration in use.
#[derive(Default)]
pub(super) struct Keeper {
    sources: Vec<KeySource>,
    store: Option<Arc<KeyStore>>,
    tasks: JoinSet<()>,
}

impl Keeper {
    /// Makes a store for `sources`, with the keys that are there already.
    ///
    /// # Errors
    ///
    /// Where a source is fetched over HTTPS and this host trusts no roots.
    pub(super) fn prepare(&self, sources: Vec<KeySource>) -> anyhow::Result<Prepared> {
        let store = Arc::new(KeyStore::new(sources.len()));
        let mut fetchers = Vec::new();
        for (id, source) in (0..).map(KeySourceId).zip(&sources) {
            match &source.origin {
                KeyOrigin::File(set) => store.publish(id, Arc::clone(set), FOREVER),
                KeyOrigin::Url { url, limits, roots } => {
                    let roots = match roots {
                        Some(roots) => chosen_roots(roots),
                        None => system_roots()?,
                    };
                    let fetcher = Fetcher::new(url.clone(), tls_settings(roots)?, *limits);
                    fetchers.push((id, Arc::clone(&source.name), fetcher));
                    self.carry_over(source, id, &store);
                }
            }
        }
        Ok(Prepared { store, sources, fetchers })
    }

    fn carry_over(&self, source: &KeySource, id: KeySourceId, store: &KeyStore) {
        let Some(old) = &self.store else { return };
        let kept = (0..).map(KeySourceId).zip(&self.sources).find(|(_, known)| known.origin.same_as(&source.origin));
        if let Some(keys) = kept.and_then(|(known, _)| old.current().published(known).cloned()) {
            store.publish(id, keys.set, keys.usable_until);
        }
    }

    /// Attends to `prepared` from now on, and to nothing else.
    pub(super) fn adopt(&mut self, prepared: Prepared) {
        self.tasks.abort_all();
        for (id, name, fetcher) in prepared.fetchers {
            let observe = move |event: FetchEvent<'_>| tell(&name, &event);
            self.tasks.spawn(keep_fresh(Arc::clone(&prepared.store), id, fetcher, now, observe));
        }
        self.store = Some(prepared.store);
        self.sources = prepared.sources;
    }
}

fn chosen_roots(certificates: &[rustls_pki_types::CertificateDer<'static>]) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.iter().cloned());
    roots
}

fn now() -> UnixTime {
    UnixTime::since_unix_epoch(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn tell(source: &str, event: &FetchEvent<'_>) {
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
