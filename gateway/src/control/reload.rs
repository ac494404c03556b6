//! Loading the configuration, at the start and again: a whole new snapshot, or the old one and the reason why.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use rustls_pki_types::UnixTime;

use super::filter::{self, FilterKeeper};
use super::keys::{Keeper, Prepared};
use super::rotation::{self, Rotation};
use super::watch::Watch;
use crate::config::inventory::{Inventory, difference};
use crate::config::{Config, FileVersions, Listen, Metrics, Reading, ReloadTrigger, Warning};
use crate::metrics;
use crate::snapshot::{Lasting, Snapshot};
use hookgate_core::auth::ReplayGuard;
use hookgate_core::identity::ChainCache;
use hookgate_core::limits::Limits;

/// Most lines about one reload: nobody reads more, and a whole configuration may be replaced at once.
const MAXIMUM_LINES: usize = 100;

/// Loads configurations, the first and every later one, upon what outlives them.
pub(super) struct Loader {
    path: PathBuf,
    cache: Arc<ChainCache>,
    replay: Arc<ReplayGuard>,
    keeper: Keeper,
    pub(super) filter: FilterKeeper,
    rotation: Rotation,
    inventory: Inventory,
    trigger: ReloadTrigger,
    watch: Watch,
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
            rotation: Rotation::default(),
            inventory: Inventory::default(),
            trigger: ReloadTrigger::default(),
            watch: Watch::default(),
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
        let sightings = Arc::clone(self.rotation.sightings());
        let lasting = Lasting { cache, keys, replay, sightings };
        Ok(Snapshot::build(config, generation, lasting)?)
    }

    /// Makes the snapshot of `config`, puts its filter into force if one runs, and attends to its keys from now on.
    ///
    /// # Errors
    ///
    /// Where it cannot be served; then nothing has changed.
    pub(super) fn load(&mut self, mut config: Config, generation: u64) -> anyhow::Result<Snapshot> {
        let (inventory, trigger) = (std::mem::take(&mut config.inventory), config.reload);
        let dates = rotation::dates(&config);
        let prepared = self.keeper.prepare(std::mem::take(&mut config.proofs.key_sources))?;
        let section = std::mem::take(&mut config.filter);
        let snapshot = self.build(config, generation, &prepared)?;
        // The last step that can fail: what it changes is in force at once.
        self.filter.reload(&section)?;
        self.keeper.adopt(prepared);
        self.rotation.adopt(dates, &snapshot.identity);
        self.inventory = inventory;
        self.trigger = trigger;
        Ok(snapshot)
    }

    /// Follows the files that the first configuration was read from.
    pub(super) fn follow(&mut self, files: FileVersions) {
        self.watch.took(files);
    }

    /// Looks at the files of the configuration, where it wants that (`reload = "watch"`). Says whether it is to be loaded again.
    pub(super) fn look(&mut self) -> bool {
        if self.trigger != ReloadTrigger::Watch {
            return false;
        }
        let Some(changed) = self.watch.look(self.watch.files().look(), Instant::now()) else { return false };
        tell_bounded(&changed, |path| tracing::info!(file = %path.display(), "changed on disk"));
        true
    }

    /// Loads the file again and publishes what it says in `current`; returns the generation then. Where anything is wrong,
    /// everything stays as it was, the log says why, and the answer is `None`.
    pub(super) fn reload(&mut self, current: &ArcSwap<Snapshot>, fixed: &Fixed) -> Option<u64> {
        let old = current.load().generation;
        let before = self.inventory.clone();
        let Reading { files, outcome } = Config::read(&self.path);
        let loaded = outcome.map_err(|errors| errors.to_string());
        match loaded.and_then(|(config, warnings)| self.take(config, &warnings, old + 1, fixed)) {
            Ok(snapshot) => {
                let generation = snapshot.generation;
                current.store(Arc::new(snapshot));
                self.cache.retain_generation(generation);
                metrics::reloaded(true, generation);
                tracing::info!(generation, "configuration reloaded");
                tell_changes(&before, &self.inventory);
                self.watch.took(files);
                Some(generation)
            }
            Err(reasons) => {
                metrics::reloaded(false, old);
                for reason in reasons.lines() {
                    tracing::error!(reason, "configuration not reloaded");
                }
                tracing::error!(generation = old, "the configuration in use stays as it was");
                self.watch.refused(files);
                None
            }
        }
    }

    fn take(
        &mut self,
        config: Config,
        warnings: &[Warning],
        generation: u64,
        fixed: &Fixed,
    ) -> Result<Snapshot, String> {
        tell_warnings(warnings);
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

    /// Publishes when certificates and lists end and which were seen, and warns of it where that is due.
    pub(super) fn attend_to_rotation(&mut self) {
        self.rotation.attend(UnixTime::now());
    }
}

/// Logs what a configuration is warned of, but for the dates: of those the warnings about rotation tell, and go on telling.
pub(super) fn tell_warnings(warnings: &[Warning]) {
    for warning in warnings.iter().filter(|warning| !warning.kind.is_repeated_by_rotation()) {
        tracing::warn!(%warning, "configuration");
    }
}

fn tell_changes(before: &Inventory, after: &Inventory) {
    let changes = difference(before, after);
    if changes.is_empty() {
        tracing::info!("nothing has changed");
    }
    tell_bounded(&changes, |change| tracing::info!(%change, "changed"));
}

/// Tells as many of these as anybody reads, and of the others how many there are.
fn tell_bounded<T>(all: &[T], tell: impl Fn(&T)) {
    let shown = all.len().min(MAXIMUM_LINES);
    all[..shown].iter().for_each(tell);
    if all.len() > shown {
        tracing::info!(more = all.len() - shown, "more has changed than is shown");
    }
}
