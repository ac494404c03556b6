//! Loading the configuration again: a whole new snapshot, or the old one and the reason why.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::{Config, Listen, Metrics};
use crate::identity::ChainCache;
use crate::metrics;
use crate::snapshot::Snapshot;

/// What a reload needs, and what it cannot change.
pub(super) struct Loader {
    path: PathBuf,
    cache: Arc<ChainCache>,
    current: Arc<ArcSwap<Snapshot>>,
    listen: Listen,
    metrics: Option<Metrics>,
}

impl Loader {
    /// A loader of the file at `path`, whose first load gave `current`, `listen` and `metrics`.
    pub(super) fn new(
        path: PathBuf,
        cache: Arc<ChainCache>,
        current: Arc<ArcSwap<Snapshot>>,
        listen: Listen,
        metrics: Option<Metrics>,
    ) -> Self {
        Self { path, cache, current, listen, metrics }
    }

    /// Loads the file again and publishes what it says; returns the generation then. Where anything is wrong, everything stays
    /// as it was, the log says why, and the answer is `None`.
    pub(super) fn reload(&self) -> Option<u64> {
        let old = self.current.load();
        let generation = old.generation + 1;
        match self.build(generation) {
            Ok(snapshot) => {
                self.current.store(Arc::new(snapshot));
                self.cache.retain_generation(generation);
                metrics::reloaded(true, generation);
                tracing::info!(generation, "configuration reloaded");
                Some(generation)
            }
            Err(reasons) => {
                metrics::reloaded(false, old.generation);
                for reason in reasons.lines() {
                    tracing::error!(reason, "configuration not reloaded");
                }
                tracing::error!(generation = old.generation, "the configuration in use stays as it was");
                None
            }
        }
    }

    fn build(&self, generation: u64) -> Result<Snapshot, String> {
        let (config, warnings) = Config::load(&self.path).map_err(|errors| errors.to_string())?;
        for warning in &warnings {
            tracing::warn!(%warning, "configuration");
        }
        if config.listen != self.listen {
            tracing::warn!("[listen] has changed; that takes a restart");
        }
        if config.metrics != self.metrics {
            tracing::warn!("[metrics] has changed; that takes a restart");
        }
        Snapshot::build(config, generation, Arc::clone(&self.cache)).map_err(|error| error.to_string())
    }
}
