//! Loads the configuration, at the start and in reloads: a reload publishes a whole new snapshot, or keeps the old one and logs why.
//!
//! Owns everything that outlives a snapshot (chain cache, delivery ids, token keys, filter, rotation) and the order in which a reload
//! replaces it. Must not parse: [`crate::config`] does.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use rustls_pki_types::UnixTime;

use super::descriptors::Descriptors;
use super::filter::{self, FilterKeeper};
use super::jwks::{KeyRefresh, PreparedKeys};
use super::lists::Written;
use super::log::Tuning;
use super::pending::PendingChains;
use super::public_roots::public_roots;
use super::published::{Offer, Publisher};
use super::rotation::{self, Rotation};
use super::watch::Watch;
use crate::config::inventory::{Inventory, difference};
use crate::config::strength::{Comparison, Strength};
use crate::config::{
    Config, FileVersions, Listen, LogFormat, Metrics, RangeSource, RangeUrl, Reading, ReloadTrigger, Warning,
    is_of_host,
};
use crate::metrics::retirement::{NamedLabel, Retirement};
use crate::metrics::{self, Load};
use crate::snapshot::{Lasting, Snapshot};
use crate::state::StateDirectory;
use hookgate_core::auth::ReplayGuard;
use hookgate_core::identity::ChainCache;
use hookgate_core::limits::Limits;

/// Most log lines about the changes of one reload, which can replace the whole configuration.
const MAXIMUM_LINES: usize = 100;

/// Loads one configuration after another, and holds what outlives them.
pub(super) struct Loader {
    path: PathBuf,
    cache: Arc<ChainCache>,
    replay: Arc<ReplayGuard>,
    pending: PendingChains,
    started: Instant,
    descriptors: Option<Descriptors>,
    keys: KeyRefresh,
    pub(super) filter: FilterKeeper,
    rotation: Rotation,
    pub(super) published: Publisher,
    lists: Written,
    /// What outlives this process, if it has a place for that.
    pub(super) state: Option<StateDirectory>,
    inventory: Inventory,
    strength: Strength,
    trigger: ReloadTrigger,
    watch: Watch,
    retirement: Arc<Mutex<Retirement>>,
    /// The log, if it runs.
    log: Option<Tuning>,
}

/// Why a reload changed nothing.
struct Refused {
    result: Load,
    /// Whether another attempt can succeed although no file has changed.
    is_of_host: bool,
    /// One line each.
    reasons: Vec<String>,
}

/// The sections of the first configuration that a reload cannot change.
pub(super) struct Fixed {
    pub(super) listen: Listen,
    /// The form of log events; `None` leaves the choice to standard error.
    pub(super) log: Option<LogFormat>,
    pub(super) metrics: Option<Metrics>,
    /// The state directory.
    pub(super) state: Option<PathBuf>,
}

impl Loader {
    /// A loader of the file at `path`. The sizes of the chain cache and of the memory for delivery ids are those of `limits` until a
    /// restart.
    pub(super) fn new(path: PathBuf, limits: &Limits, retirement: Arc<Mutex<Retirement>>) -> Self {
        Self {
            path,
            cache: Arc::new(ChainCache::new(limits.chain_cache_entries, limits.chain_cache_ttl)),
            replay: Arc::new(ReplayGuard::new(limits.replay_entries)),
            pending: PendingChains::default(),
            started: Instant::now(),
            descriptors: None,
            keys: KeyRefresh::default(),
            filter: FilterKeeper::default(),
            rotation: Rotation::default(),
            published: Publisher::default(),
            lists: Written::default(),
            state: None,
            inventory: Inventory::default(),
            strength: Strength::default(),
            trigger: ReloadTrigger::default(),
            watch: Watch::default(),
            retirement,
            log: None,
        }
    }

    /// Keeps the settings of the log as the configuration says, from the next load on.
    pub(super) fn tune_log(&mut self, log: Tuning) {
        self.log = Some(log);
    }

    /// Bounds connections by the descriptors of this process from now on. Call it when the filter has started, before the first load.
    pub(super) fn count_descriptors(&mut self, workers: usize, addresses: usize) {
        self.descriptors = Some(Descriptors::count(workers, addresses));
    }

    /// Checks that `config` can be served. Changes nothing.
    ///
    /// # Errors
    ///
    /// If it cannot be served.
    pub(super) fn check(&self, mut config: Config) -> anyhow::Result<()> {
        filter::check(&config.filter)?;
        let prepared = self.keys.prepare(std::mem::take(&mut config.proofs.key_sources))?;
        self.build(config, 1, &prepared).map(drop)
    }

    fn build(&self, config: Config, generation: u64, keys: &PreparedKeys) -> anyhow::Result<Snapshot> {
        let (cache, keys, replay) = (Arc::clone(&self.cache), Arc::clone(keys.store()), Arc::clone(&self.replay));
        let sightings = Arc::clone(self.rotation.sightings());
        let (suspects, public_roots) = (Arc::clone(self.pending.suspects()), public_roots());
        let lasting = Lasting { cache, keys, replay, sightings, suspects, public_roots };
        Ok(Snapshot::build(config, generation, lasting)?)
    }

    /// Builds the snapshot of `config`, applies its ranges to the filter if one runs, and starts to fetch its token keys.
    ///
    /// # Errors
    ///
    /// If it cannot be served. Nothing has changed then.
    pub(super) fn load(&mut self, mut config: Config, generation: u64) -> anyhow::Result<Snapshot> {
        let (inventory, trigger) = (std::mem::take(&mut config.inventory), config.reload);
        let strength = std::mem::take(&mut config.strength);
        let log = config.log.clone();
        let dates = rotation::dates(&config);
        let names = named_labels(&config);
        if let Some(descriptors) = self.descriptors {
            descriptors.bound(&mut config);
        }
        let prepared = self.keys.prepare(std::mem::take(&mut config.proofs.key_sources))?;
        let lists = Written::take(&mut config);
        let prepared_lists = self.published.prepare(lists.sources(), lists.guard(), self.state.as_ref())?;
        let known = |source: &RangeSource| prepared_lists.known(source);
        config.sources = lists.ranges(&known);
        let section = lists.section(&known);
        let snapshot = self.build(config, generation, &prepared)?;
        // The last step that can fail, because its changes are in force at once.
        self.filter.reload(&section)?;
        self.keys.adopt(prepared);
        self.published.adopt(prepared_lists);
        self.lists = lists;
        metrics::connections_limit(snapshot.limits.max_connections);
        self.rotation.adopt(dates, &snapshot.identity);
        self.pending.adopt(&snapshot.identity, self.state.as_ref(), UnixTime::now());
        self.retirement.lock().unwrap_or_else(PoisonError::into_inner).adopt(names, Instant::now());
        self.inventory = inventory;
        self.strength = strength.after(std::mem::take(&mut self.strength));
        self.trigger = trigger;
        if let Some(tuning) = &mut self.log {
            tuning.apply(&log);
        }
        Ok(snapshot)
    }

    /// Puts a list that was fetched in force: in the filter by difference, then in the snapshot, whose generation stays. If the filter
    /// refuses it, nothing has changed.
    pub(super) fn publish(&mut self, offer: Offer, current: &ArcSwap<Snapshot>) {
        let known = |source: &RangeSource| offer.ranges_of(source).or_else(|| self.published.known(source));
        let section = self.lists.section(&known);
        let sources = self.lists.ranges(&known);
        let verdict = self.filter.reload(&section).map_err(|error| format!("{error:#}"));
        if verdict.is_ok() {
            current.store(Arc::new(current.load().with_sources(sources)));
        }
        offer.answer(verdict);
    }

    /// Watches the files of the first configuration.
    pub(super) fn follow(&mut self, files: FileVersions) {
        self.watch.took(files);
    }

    /// Checks whether the configured files have changed and a reload is due. Does nothing without `reload = "watch"`.
    pub(super) fn look(&mut self) -> bool {
        if self.trigger != ReloadTrigger::Watch {
            return false;
        }
        let Some(changed) = self.watch.look(self.watch.files().look(), Instant::now()) else { return false };
        if changed.is_empty() {
            tracing::info!("trying again to reload, because the last attempt failed for a reason of the host");
        }
        log_bounded(&changed, |path| tracing::info!(file = %path.display(), "changed on disk"));
        true
    }

    /// Loads the configuration again and publishes the new snapshot in `current`. Returns its generation; `None` if there is an
    /// error, which is logged. Nothing has changed then.
    pub(super) fn reload(&mut self, current: &ArcSwap<Snapshot>, fixed: &Fixed) -> Option<u64> {
        let old = current.load().generation;
        let before = self.inventory.clone();
        let Reading { files, outcome } = Config::read(&self.path);
        let loaded = outcome.map_err(|errors| Refused::by_error(&errors.to_string(), errors.are_of_host()));
        match loaded.and_then(|(config, warnings)| self.load_next(config, &warnings, old + 1, fixed)) {
            Ok(snapshot) => {
                let generation = snapshot.generation;
                current.store(Arc::new(snapshot));
                self.cache.retain_generation(generation);
                metrics::reloaded(Load::Ok, generation);
                tracing::info!(generation, "configuration reloaded");
                log_changes(&before, &self.inventory);
                self.watch.took(files);
                Some(generation)
            }
            Err(Refused { result, is_of_host, reasons }) => {
                metrics::reloaded(result, old);
                for reason in reasons {
                    tracing::error!(reason, "configuration not reloaded");
                }
                tracing::error!(generation = old, "the configuration in use stays as it was");
                self.watch.refused(files);
                if is_of_host {
                    self.watch.retry(Instant::now());
                } else {
                    self.watch.give_up();
                }
                None
            }
        }
    }

    /// Builds the snapshot of a configuration that was read without an error.
    fn load_next(
        &mut self,
        config: Config,
        warnings: &[Warning],
        generation: u64,
        fixed: &Fixed,
    ) -> Result<Snapshot, Refused> {
        log_warnings(warnings);
        let permitted = match self.strength.compare(&config.strength) {
            Comparison::NotWeaker => Vec::new(),
            Comparison::Permitted { losses } => losses,
            Comparison::Refused { losses, permission, is_used } => {
                return Err(Refused::as_weaker(&losses, &permission, is_used));
            }
        };
        let has_permission = config.strength.has_permission();
        if config.listen != fixed.listen {
            tracing::warn!("[listen] has changed; restart hookgate to apply the change");
        }
        if config.log.format != fixed.log {
            tracing::warn!("[log] format has changed; restart hookgate to apply the change");
        }
        if config.metrics != fixed.metrics {
            tracing::warn!("[metrics] has changed; restart hookgate to apply the change");
        }
        if config.state != fixed.state {
            tracing::warn!("[state] has changed; restart hookgate to apply the change");
        }
        let snapshot = self.load(config, generation).map_err(|error| {
            let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
            Refused::by_error(&format!("{error:#}"), causes.any(is_of_host))
        })?;
        log_bounded(&permitted, |loss| tracing::warn!(%loss, "demands less than before, as accept_weaker permits"));
        if permitted.is_empty() && has_permission {
            tracing::warn!("accept_weaker permits no change of this reload; remove the line");
        }
        Ok(snapshot)
    }

    /// Advances the steady clock of the memory for delivery ids. Call it at least once a second.
    pub(super) fn advance(&self) {
        self.replay.advance(self.started.elapsed());
    }

    /// Publishes the sizes of the chain cache and of the memory for delivery ids.
    pub(super) fn publish_metrics(&self) {
        metrics::chain_cache(self.cache.len(), self.cache.evictions());
        metrics::deliveries(self.replay.len());
    }

    /// Takes over the state directory of the first configuration, with the refused chains that an earlier process kept there.
    pub(super) fn keep_state_in(&mut self, state: StateDirectory) {
        self.pending.restore(&state, UnixTime::now());
        self.state = Some(state);
    }

    /// Publishes the dates and sightings of certificates and lists, and logs the warnings that are due. Keeps and logs the chains that were
    /// refused and may be genuine.
    pub(super) fn attend_to_rotation(&mut self) {
        self.rotation.attend(UnixTime::now());
        self.pending.attend(&self.path, self.state.as_ref(), UnixTime::now());
    }
}

/// The values of metric labels that the configuration names.
fn named_labels(config: &Config) -> BTreeSet<NamedLabel> {
    let providers = config.providers.iter().map(|provider| ("provider", provider.name.to_string()));
    let routes = config.routes.iter().map(|route| ("route", route.name.to_string()));
    let handlers = config.routes.iter().map(|route| ("handler", route.handler.socket.display().to_string()));
    let sources = config.proofs.key_sources.iter().map(|source| ("source", source.name.to_string()));
    let lists = config.range_urls.iter().flatten().flat_map(RangeUrl::sources).map(|source| ("source", source.name()));
    providers.chain(routes).chain(handlers).chain(sources).chain(lists).collect()
}

impl Refused {
    fn by_error(text: &str, is_of_host: bool) -> Self {
        Self { result: Load::Error, is_of_host, reasons: text.lines().map(str::to_owned).collect() }
    }

    fn as_weaker(losses: &[String], permission: &str, is_used: bool) -> Self {
        let mut reasons: Vec<String> =
            losses.iter().take(MAXIMUM_LINES).map(|loss| format!("it would demand less: {loss}")).collect();
        reasons.push(advice(losses.len(), permission, is_used));
        Self { result: Load::Weaker, is_of_host: false, reasons }
    }
}

/// What to do about a configuration that demands less than the one in use.
pub(super) fn advice(losses: usize, permission: &str, is_used: bool) -> String {
    // A literal string of TOML: the log would put a backslash before each double quote.
    let line = format!("accept_weaker = '{permission}'");
    if is_used {
        return format!(
            "demands lost: {losses}; an earlier reload used {line}; restore them, or remove the line, reload, and write it again"
        );
    }
    format!(
        "demands lost: {losses}; restore them, or, if that is intended, write {line} at the top of the file and reload"
    )
}

/// Logs the warnings about a configuration, except those about dates: [`rotation`] repeats these while hookgate runs.
pub(super) fn log_warnings(warnings: &[Warning]) {
    for warning in warnings.iter().filter(|warning| !warning.kind.is_repeated_by_rotation()) {
        tracing::warn!(%warning, "configuration");
    }
}

fn log_changes(before: &Inventory, after: &Inventory) {
    let changes = difference(before, after);
    if changes.is_empty() {
        tracing::info!("nothing has changed");
    }
    log_bounded(&changes, |change| tracing::info!(%change, "changed"));
}

/// Logs up to [`MAXIMUM_LINES`] of `all`, then the number of the others.
fn log_bounded<T>(all: &[T], log: impl Fn(&T)) {
    let shown = all.len().min(MAXIMUM_LINES);
    all[..shown].iter().for_each(log);
    if all.len() > shown {
        tracing::info!(more = all.len() - shown, "more changes than the log shows");
    }
}
