//! Loading the configuration, at the start and again: a whole new snapshot, or the old one and the reason why.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::filter::{self, FilterKeeper};
use super::keys::{Keeper, Prepared};
use crate::auth::ReplayGuard;
use crate::config::{Config, Limits, Listen, Metrics};
use crate::identity::ChainCache;
use crate::metrics;
use crate::snapshot::{Lasting, Snapshot};

/// Loads configurations, the first and every later one, upon what outlives them.
pub(super) struct Loader {
    path: PathBuf,
    cache: Arc<ChainCache>,
    replay: Arc<ReplayGuard>,
    keeper: Keeper,
    pub(super) filter: FilterKeeper,
}

/// A configuration in use, as far as a reload cannot change it.
pub(super) struct Fixed {
    pub(super) listen: Listen,
    pub(super) metrics: Option<Metrics>,
}

impl Loader {
    /// A loader of the file at `path`, with memories as large as `limits` say; they keep their size until a restart.
    pub(super) fn new(path: PathBuf, limits: &Limits) -> Self {
        Self {
            path,
            cache: Arc::new(ChainCache::new(limits.chain_cache_entries, limits.chain_cache_ttl)),
            replay: Arc::new(ReplayGuard::new(limits.replay_entries)),
            keeper: Keeper::default(),
            filter: FilterKeeper::default(),
        }
    }

    /// Tries whether `config` can be served.
    ///
    /// # Errors
    ///
    /// Where it cannot.
    pub(super) fn check(&self, mut config: Config) -> anyhow::Result<()> {
        filter::check(&config.filter)?;
        let prepared = self.keeper.prepare(std::mem::take(&mut config.proofs.key_sources))?;
        self.build(config, 1, &prepared).map(drop)
    }

    fn build(&self, config: Config, generation: u64, keys: &Prepared) -> anyhow::Result<Snapshot> {
        let (cache, keys, replay) = (Arc::clone(&self.cache), Arc::clone(keys.store()), Arc::clone(&self.replay));
        Ok(Snapshot::build(config, generation, Lasting { cache, keys, replay })?)
    }

    /// Makes the snapshot of `config`, puts its filter into force if one runs, and attends to its keys from now on.
    ///
    /// # Errors
    ///
    /// Where it cannot be served; then nothing has changed.
    pub(super) fn load(&mut self, mut config: Config, generation: u64) -> anyhow::Result<Snapshot> {
        let prepared = self.keeper.prepare(std::mem::take(&mut config.proofs.key_sources))?;
        let section = std::mem::take(&mut config.filter);
        let snapshot = self.build(config, generation, &prepared)?;
        // The last step that can fail: what it changes is in force at once.
        self.filter.reload(&section)?;
        self.keeper.adopt(prepared);
        Ok(snapshot)
    }

    /// Loads the file again and publishes what it says in `current`; returns the generation then. Where anything is wrong,
    /// everything stays as it was, the log says why, and the answer is `None`.
    pub(super) fn reload(&mut self, current: &ArcSwap<Snapshot>, fixed: &Fixed) -> Option<u64> {
        let old = current.load().generation;
        match self.read_again(old + 1, fixed) {
            Ok(snapshot) => {
                let generation = snapshot.generation;
                current.store(Arc::new(snapshot));
                self.cache.retain_generation(generation);
                metrics::reloaded(true, generation);
                tracing::info!(generation, "configuration reloaded");
                Some(generation)
            }
            Err(reasons) => {
                metrics::reloaded(false, old);
                for reason in reasons.lines() {
                    tracing::error!(reason, "configuration not reloaded");
                }
                tracing::error!(generation = old, "the configuration in use stays as it was");
                None
            }
        }
    }

    fn read_again(&mut self, generation: u64, fixed: &Fixed) -> Result<Snapshot, String> {
        let (config, warnings) = Config::load(&self.path).map_err(|errors| errors.to_string())?;
        for warning in &warnings {
            tracing::warn!(%warning, "configuration");
        }
        if config.listen != fixed.listen {
            tracing::warn!("[listen] has changed; that takes a restart");
        }
        if config.metrics != fixed.metrics {
            tracing::warn!("[metrics] has changed; that takes a restart");
        }
        self.load(config, generation).map_err(|error| format!("{error:#}"))
    }

    /// Publishes what only the loader knows.
    pub(super) fn publish_metrics(&self) {
        metrics::chain_cache(self.cache.len(), self.cache.evictions());
        metrics::deliveries(self.replay.len());
    }
}
