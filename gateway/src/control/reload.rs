//! Loads the configuration, at the start and in reloads: a reload publishes a whole new snapshot, or keeps the old one and logs why.
//!
//! Owns everything that outlives a snapshot (chain cache, delivery ids, what is fetched, filter, rotation) and the order in which a reload
//! replaces it. Must not parse: [`crate::config`] does.

mod overview;

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use rustls_pki_types::UnixTime;

use super::acme::{self, Acme, Change, PreparedAcme};
use super::admin::collect::LastLoad;
use super::deliveries;
use super::descriptors::Descriptors;
use super::filter::{self, FilterKeeper};
use super::handler_ports::HandlerPorts;
use super::keys::Keys;
use super::log::Tuning;
use super::pending::PendingChains;
use super::public_roots::public_roots;
use super::published::{Copy, Offer, PreparedSources, Publisher, Source, Terms};
use super::ranges::WrittenRanges;
use super::revocation::Revocation;
use super::rotation::{self, Rotation};
use super::watch::Watch;
use crate::config::inventory::{Inventory, difference};
use crate::config::strength::{Comparison, Loss, Strength, WrittenPermission};
use crate::config::{
    self, Admin, Config, FileVersions, FilterSection, Listen, LogFormat, Metrics, OnStateFailure, Reading,
    ReloadTrigger, Sections, State, Warning, is_of_host,
};
use crate::deliveries::DeliveryStore;
use crate::fleet::Fleet;
use crate::metrics::retirement::{NamedLabel, Retirement};
use crate::metrics::{self, Load};
use crate::missing_lists::ListNotes;
use crate::recent::Recent;
use crate::snapshot::{Lasting, Snapshot};
use crate::state::StateDirectory;
use hookgate_core::auth::ReplayGuard;
use hookgate_core::identity::ChainCache;
use hookgate_core::limits::Limits;
use hookgate_core::route::handlers_of;

/// Most log lines about the changes of one reload, which can replace the whole configuration.
const MAXIMUM_LINES: usize = 100;

/// How often the learned URLs of revocation lists are looked through, in seconds.
const CLEAN_UP_SECONDS: u64 = 3600;

/// Why a durable route cannot begin without a restart.
const NO_DATABASE: &str = "a route is durable, and this process has no database, because it was started without a state directory; restart hookgate";

/// Why a rule cannot remember for longer without a restart.
const SHORT_MEMORY: &str = "the window_s of a replay rule is longer than the keep_s of [fleet] with which this process was started; restart hookgate";

/// The copy of a source, if there is one.
type Known<'k> = &'k dyn Fn(&Source) -> Option<Arc<Copy>>;

/// Loads one configuration after another, and holds what outlives them.
pub(super) struct Loader {
    path: PathBuf,
    cache: Arc<ChainCache>,
    replay: Arc<ReplayGuard>,
    /// Where taken deliveries are kept, if they outlive this process.
    deliveries: Option<Arc<DeliveryStore>>,
    /// The memory that hosts share, if they do.
    pub(super) fleet: Option<Arc<Fleet>>,
    pending: PendingChains,
    started: Instant,
    descriptors: Option<Descriptors>,
    pub(super) filter: FilterKeeper,
    rotation: Rotation,
    pub(super) published: Publisher,
    pub(super) acme: Acme,
    keys: Keys,
    ranges: WrittenRanges,
    revocation: Revocation,
    list_notes: Arc<ListNotes>,
    pub(super) recent: Arc<Recent>,
    /// When the learned URLs of revocation lists are looked through next, in seconds since 1970.
    next_clean_up: u64,
    /// The labels of what the configuration names.
    names: BTreeSet<NamedLabel>,
    /// What outlives this process, if it has a place for that.
    pub(super) state: Option<StateDirectory>,
    inventory: Inventory,
    strength: Strength,
    trigger: ReloadTrigger,
    watch: Watch,
    retirement: Arc<Mutex<Retirement>>,
    /// The log, if it runs.
    log: Option<Tuning>,
    /// What became of the last load.
    last: LastLoad,
    /// Where workers may connect to.
    pub(super) ports: HandlerPorts,
}

/// The parts of a configuration that are fetched, before their tasks start.
struct Prepared {
    keys: Keys,
    ranges: WrittenRanges,
    revocation: Revocation,
    sources: PreparedSources,
    acme: PreparedAcme,
    /// With the ranges that are known.
    section: FilterSection,
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
    pub(super) admin: Option<Admin>,
    /// The state directory.
    pub(super) state: State,
    /// The servers over which hosts share the memory of deliveries.
    pub(super) fleet: Option<config::Fleet>,
}

impl Loader {
    /// A loader of the file at `path`. The sizes of the chain cache and of the memory for delivery ids are those of `limits` until a
    /// restart.
    pub(super) fn new(path: PathBuf, limits: &Limits, retirement: Arc<Mutex<Retirement>>) -> Self {
        Self {
            path,
            cache: Arc::new(ChainCache::new(limits.chain_cache_entries, limits.chain_cache_ttl)),
            replay: Arc::new(ReplayGuard::new(limits.replay_entries)),
            deliveries: None,
            fleet: None,
            pending: PendingChains::default(),
            started: Instant::now(),
            descriptors: None,
            filter: FilterKeeper::default(),
            rotation: Rotation::default(),
            published: Publisher::default(),
            acme: Acme::default(),
            keys: Keys::default(),
            ranges: WrittenRanges::default(),
            revocation: Revocation::default(),
            list_notes: Arc::default(),
            recent: Arc::default(),
            next_clean_up: 0,
            names: BTreeSet::new(),
            state: None,
            inventory: Inventory::default(),
            strength: Strength::default(),
            trigger: ReloadTrigger::default(),
            watch: Watch::default(),
            retirement,
            log: None,
            last: LastLoad::default(),
            ports: HandlerPorts::default(),
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
        let prepared = self.prepare(&mut config)?;
        self.build(config, 1, &prepared.keys, &prepared.acme).map(drop)
    }

    /// The snapshot of `config` and its filter, as they would be served with what is known without a fetch. Changes nothing.
    ///
    /// # Errors
    ///
    /// If it cannot be served.
    pub(super) fn preview(&self, mut config: Config) -> anyhow::Result<(Snapshot, FilterSection)> {
        filter::check(&config.filter)?;
        let Prepared { keys, section, acme, .. } = self.prepare(&mut config)?;
        Ok((self.build(config, 1, &keys, &acme)?, section))
    }

    /// Takes the parts that are fetched out of `config`, and gives it the ranges and revocation lists that are known. Changes nothing else.
    fn prepare(&self, config: &mut Config) -> anyhow::Result<Prepared> {
        let keys = self.keys.prepare(std::mem::take(&mut config.proofs.key_sources));
        let ranges = WrittenRanges::take(config);
        let revocation = self.revocation.prepare(config);
        let wanted = wanted(&keys, &ranges, &revocation);
        let sources = self.published.prepare(wanted, self.state.as_ref())?;
        let known = |source: &Source| sources.known(source);
        config.sources = ranges.ranges(&known);
        revocation.complete(&known, config);
        config.strength.note_lists(&config.providers);
        let section = ranges.section(&known);
        let acme = self.acme.prepare(&mut config.certificates, self.state.as_ref());
        Ok(Prepared { keys, ranges, revocation, sources, acme, section })
    }

    fn build(&self, config: Config, generation: u64, keys: &Keys, acme: &PreparedAcme) -> anyhow::Result<Snapshot> {
        let (cache, keys, replay) = (Arc::clone(&self.cache), Arc::clone(keys.store()), Arc::clone(&self.replay));
        let sightings = Arc::clone(self.rotation.sightings());
        let (suspects, public_roots) = (Arc::clone(self.pending.suspects()), public_roots());
        let (list_notes, recent) = (Arc::clone(&self.list_notes), Arc::clone(&self.recent));
        let (deliveries, fleet) = (self.deliveries.clone(), self.fleet.clone());
        let challenges = self.acme.challenges_with(acme);
        let lasting = Lasting {
            cache,
            keys,
            replay,
            deliveries,
            fleet,
            sightings,
            suspects,
            list_notes,
            recent,
            public_roots,
            challenges,
        };
        Ok(Snapshot::build(config, generation, lasting)?)
    }

    /// Serves the first configuration.
    ///
    /// # Errors
    ///
    /// If it cannot be served. Nothing has changed then.
    pub(super) fn load(&mut self, mut config: Config) -> anyhow::Result<Snapshot> {
        self.ports = HandlerPorts::of(&config);
        let prepared = self.prepare(&mut config)?;
        let snapshot = self.adopt(config, prepared, 1)?;
        self.last = LastLoad::new(Load::Ok, &[], UnixTime::now());
        Ok(snapshot)
    }

    /// Builds the snapshot of `config`, applies its ranges to the filter if one runs, and starts to fetch what it names.
    ///
    /// # Errors
    ///
    /// If it cannot be served. Nothing has changed then.
    fn adopt(&mut self, mut config: Config, prepared: Prepared, generation: u64) -> anyhow::Result<Snapshot> {
        let (inventory, trigger) = (std::mem::take(&mut config.inventory), config.reload);
        let strength = std::mem::take(&mut config.strength);
        let log = config.log.clone();
        let dates = rotation::dates(&config);
        let list_files = std::mem::take(&mut config.list_files);
        let names = named_labels(&config);
        if let Some(descriptors) = self.descriptors {
            descriptors.bound(&mut config);
        }
        let Prepared { keys, ranges, revocation, sources, acme, section } = prepared;
        let snapshot = self.build(config, generation, &keys, &acme)?;
        // The last step that can fail, because its changes are in force at once.
        self.filter.reload(&section)?;
        sources.name_users(|source| users(&ranges, &revocation, source));
        self.published.adopt(sources);
        self.acme.adopt(acme);
        (self.keys, self.ranges, self.revocation) = (keys, ranges, revocation);
        metrics::connections_limit(snapshot.limits.max_connections);
        metrics::limits::publish(&snapshot.limits);
        metrics::ticket_policy(snapshot.ticket_policy());
        self.rotation.adopt(dates, list_files, &snapshot.identity);
        self.pending.adopt(&snapshot.identity, self.state.as_ref(), UnixTime::now());
        self.names = names;
        self.retire();
        self.inventory = inventory;
        self.strength = strength.after(std::mem::take(&mut self.strength));
        self.trigger = trigger;
        if let Some(tuning) = &mut self.log {
            tuning.apply(&log);
        }
        Ok(snapshot)
    }

    /// Hides the metrics of what is neither configured nor fetched any more.
    fn retire(&self) {
        let sources = wanted(&self.keys, &self.ranges, &self.revocation).into_iter();
        let fetched = sources.map(|(source, _)| ("source", source.name()));
        let issued = self.acme.names().map(|name| ("certificate", name.to_owned()));
        let names = self.names.iter().cloned().chain(fetched).chain(issued).collect();
        self.retirement.lock().unwrap_or_else(PoisonError::into_inner).adopt(names, Instant::now());
    }

    /// Puts a list that was fetched in force: ranges in the filter by difference, then in the snapshot. If it is refused, nothing has changed.
    /// Returns the generation if it is a new one.
    pub(super) fn publish(&mut self, offer: Offer, current: &ArcSwap<Snapshot>) -> Option<u64> {
        let known = |source: &Source| match offer.source() == source {
            true => Some(Arc::clone(offer.copy())),
            false => self.published.known(source),
        };
        let outcome = match offer.source() {
            Source::Ranges(_) => {
                let (section, sources) = (self.ranges.section(&known), self.ranges.ranges(&known));
                self.filter.reload(&section).map(|()| {
                    current.store(Arc::new(current.load().with_sources(sources)));
                    None
                })
            }
            source @ Source::List(_) => {
                let in_use = |source: &Source| self.published.known(source);
                let checked =
                    self.revocation.check_replacement(&in_use, source, &offer.copy().content, UnixTime::now());
                checked.map_err(anyhow::Error::msg).and_then(|()| self.lists_renewed(&known, current).map(Some))
            }
            // Their task hands them over itself.
            Source::Keys(_) => Ok(None),
        };
        match outcome {
            Ok(renewed) => {
                offer.answer(Ok(()));
                renewed.and_then(|renewed| self.put_in_force(renewed, current))
            }
            Err(error) => {
                offer.answer(Err(format!("{error:#}")));
                None
            }
        }
    }

    /// Puts what a task of [`acme`] offers in the current snapshot, which stays of its generation. If that fails, nothing has changed.
    pub(super) fn take_acme(&mut self, offer: acme::Offer, current: &ArcSwap<Snapshot>) {
        let before = current.load();
        let changed = match self.acme.change(&offer) {
            None => return,
            Some(Change::Challenges(challenges)) => before.with_challenges(&challenges),
            Some(Change::Certificate(index, certificate)) => {
                let changed = before.with_certificate(index, &certificate);
                if changed.is_ok() {
                    self.rotation.adopt_certificate(&certificate);
                }
                changed
            }
        };
        offer.answer(changed.map(|changed| current.store(Arc::new(changed))).map_err(|error| error.to_string()));
    }

    /// The current snapshot with the revocation lists that are known.
    fn lists_renewed(&self, known: Known<'_>, current: &ArcSwap<Snapshot>) -> anyhow::Result<Snapshot> {
        let before = current.load();
        Ok(before.with_identity(self.revocation.renewed(known, &before.identity))?)
    }

    /// Replaces the current snapshot by one with other revocation lists. Returns the generation if it is a new one.
    fn put_in_force(&mut self, renewed: Snapshot, current: &ArcSwap<Snapshot>) -> Option<u64> {
        let (before, generation) = (current.load().generation, renewed.generation);
        self.rotation.adopt_lists(renewed.identity.providers());
        self.pending.adopt(&renewed.identity, self.state.as_ref(), UnixTime::now());
        self.strength.note_lists(renewed.identity.providers());
        metrics::ticket_policy(renewed.ticket_policy());
        current.store(Arc::new(renewed));
        if generation == before {
            return None;
        }
        self.cache.retain_generation(generation);
        metrics::generation(generation);
        tracing::info!(generation, "a revocation list revokes more than before; cached verdicts and sessions end");
        Some(generation)
    }

    /// Fetches the revocation lists that chains lacked, and forgets those that none has needed for long. Returns the generation if it is a new
    /// one.
    pub(super) fn attend_to_lists(&mut self, current: &ArcSwap<Snapshot>) -> Option<u64> {
        let (notes, now) = (self.list_notes.take(), UnixTime::now());
        let is_due = now.as_secs() >= self.next_clean_up;
        if notes.is_empty() && !is_due {
            return None;
        }
        let (published, before) = (&self.published, self.revocation.sources());
        self.revocation.note_uses(&|source| published.known(source));
        self.revocation.tell_unserved(&notes, &|source| published.known(source));
        let mut has_changed = self.revocation.learn(&notes, now);
        if is_due {
            self.next_clean_up = now.as_secs() + CLEAN_UP_SECONDS;
            has_changed |= self.revocation.forget_old(now);
        }
        if let Some(state) = self.state.as_ref().filter(|_| has_changed || (is_due && self.revocation.has_learned())) {
            self.revocation.keep(state);
        }
        if !has_changed {
            return None;
        }
        let renewed = self.sources_renewed(current);
        let after = self.revocation.sources();
        let is_gone = |source: &&Source| !after.iter().any(|(stays, _)| stays == *source);
        if let Some(state) = &self.state {
            let gone = before.iter().map(|(source, _)| source).filter(is_gone);
            gone.for_each(|source| Publisher::discard(source, state));
        }
        self.retire();
        match renewed {
            Ok(renewed) => self.put_in_force(renewed, current),
            Err(error) => {
                let reason = format!("{error:#}");
                tracing::error!(reason, "the revocation lists that certificates name cannot be fetched");
                None
            }
        }
    }

    /// Starts and ends tasks as it was learned. The current snapshot with the lists of which there are copies.
    fn sources_renewed(&mut self, current: &ArcSwap<Snapshot>) -> anyhow::Result<Snapshot> {
        let wanted = wanted(&self.keys, &self.ranges, &self.revocation);
        let sources = self.published.prepare(wanted, self.state.as_ref())?;
        sources.name_users(|source| users(&self.ranges, &self.revocation, source));
        self.published.adopt(sources);
        self.lists_renewed(&|source| self.published.known(source), current)
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
                metrics::reloaded(Load::Ok, generation, UnixTime::now().as_secs());
                tracing::info!(generation, "configuration reloaded");
                log_changes(&before, &self.inventory);
                self.last = LastLoad::new(Load::Ok, &[], UnixTime::now());
                self.watch.took(files);
                Some(generation)
            }
            Err(Refused { result, is_of_host, reasons }) => {
                metrics::reloaded(result, old, UnixTime::now().as_secs());
                self.last = LastLoad::new(result, &reasons, UnixTime::now());
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
        mut config: Config,
        warnings: &[Warning],
        generation: u64,
        fixed: &Fixed,
    ) -> Result<Snapshot, Refused> {
        log_warnings(warnings);
        // What is fetched comes first: a list in a file may be older than the one that was fetched.
        self.ports.check(&config).map_err(|lines| Refused::by_error(&lines, false))?;
        let prepared = self.prepare(&mut config).map_err(|error| Refused::by_failure(&error))?;
        let permitted = match self.strength.compare(&config.strength) {
            Comparison::NotWeaker => Vec::new(),
            Comparison::Permitted { losses } => {
                let sections = Sections::of(&self.path, &config.routes);
                losses.into_iter().map(|loss| (sections.place(&loss), loss)).collect()
            }
            Comparison::Refused { losses, permission, written } => {
                let sections = Sections::of(&self.path, &config.routes);
                return Err(Refused::as_weaker(&losses, &sections, &permission, written));
            }
        };
        if self.deliveries.is_none() && config.durable.iter().any(Option::is_some) {
            return Err(Refused::by_error(NO_DATABASE, false));
        }
        let kept = fixed.fleet.as_ref().map(|fleet| fleet.keep);
        if kept.is_some_and(|kept| config.proofs.longest_window() > kept) {
            return Err(Refused::by_error(SHORT_MEMORY, false));
        }
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
        if config.admin != fixed.admin {
            tracing::warn!("[admin] has changed; restart hookgate to apply the change");
        }
        if config.state != fixed.state {
            tracing::warn!("[state] has changed; restart hookgate to apply the change");
        }
        if config.fleet != fixed.fleet {
            tracing::warn!("[fleet] has changed; restart hookgate to apply the change");
        }
        let snapshot = self.adopt(config, prepared, generation).map_err(|error| Refused::by_failure(&error))?;
        log_bounded(&permitted, |(place, loss)| {
            tracing::warn!(%place, %loss, "demands less than before, as accept_weaker permits");
        });
        if permitted.is_empty() && has_permission {
            tracing::warn!("accept_weaker permits no change of this reload; remove the line");
        }
        Ok(snapshot)
    }

    /// Opens the memory of deliveries in the state directory. Call it after [`Loader::keep_state_in`], before the first load.
    ///
    /// # Errors
    ///
    /// As [`deliveries::open`].
    pub(super) fn keep_deliveries(
        &mut self,
        on_failure: OnStateFailure,
    ) -> anyhow::Result<Option<deliveries::Prepared>> {
        let Some(state) = &self.state else { return Ok(None) };
        let (store, prepared) = deliveries::open(state, &self.replay, on_failure)?;
        self.deliveries = Some(store);
        Ok(Some(prepared))
    }

    /// Where deliveries are stored, if they are.
    pub(super) fn store(&self) -> Option<&Arc<DeliveryStore>> {
        self.deliveries.as_ref()
    }

    /// Tries the disk again, if it took no delivery when it was tried last.
    pub(super) fn retry_deliveries(&self) {
        self.deliveries.iter().for_each(|store| store.retry());
    }

    /// Advances the steady clock of the memory for delivery ids. Call it at least once a second.
    pub(super) fn advance(&self) {
        self.replay.advance(self.started.elapsed());
        self.recent.settle();
    }

    /// Publishes the sizes of the chain cache and of the memory for delivery ids.
    pub(super) fn publish_metrics(&self) {
        metrics::chain_cache(self.cache.len(), self.cache.evictions());
        metrics::deliveries(self.replay.len());
    }

    /// Takes over the state directory of the first configuration, with the refused chains and the URLs of revocation lists that an earlier
    /// process kept there.
    pub(super) fn keep_state_in(&mut self, state: StateDirectory) {
        self.pending.restore(&state, UnixTime::now());
        self.revocation.restore(&state, UnixTime::now());
        self.state = Some(state);
    }

    /// Publishes the dates and sightings of certificates and lists, and logs the warnings that are due. Keeps and logs the chains that were
    /// refused and may be genuine.
    pub(super) fn attend_to_rotation(&mut self) {
        self.rotation.attend(UnixTime::now());
        self.pending.attend(&self.path, self.state.as_ref(), UnixTime::now());
    }
}

/// Everything that is fetched.
fn wanted(keys: &Keys, ranges: &WrittenRanges, revocation: &Revocation) -> Vec<(Source, Terms)> {
    keys.sources().chain(ranges.sources()).chain(revocation.sources()).collect()
}

/// The names of the providers that use a source, sorted.
pub(super) fn users(ranges: &WrittenRanges, revocation: &Revocation, source: &Source) -> String {
    let names: BTreeSet<Arc<str>> = ranges.users(source).into_iter().chain(revocation.users(source)).collect();
    names.iter().map(|name| &**name).collect::<Vec<_>>().join(", ")
}

/// The values of metric labels that the configuration names, but for the sources of what is fetched.
fn named_labels(config: &Config) -> BTreeSet<NamedLabel> {
    let providers = config.providers.iter().map(|provider| ("provider", provider.name.to_string()));
    let routes = config.routes.iter().map(|route| ("route", route.name.to_string()));
    let handlers = handlers_of(&config.routes).map(|handler| ("handler", handler.to_string()));
    providers.chain(routes).chain(handlers).collect()
}

impl Refused {
    fn by_error(text: &str, is_of_host: bool) -> Self {
        Self { result: Load::Error, is_of_host, reasons: text.lines().map(str::to_owned).collect() }
    }

    fn by_failure(error: &anyhow::Error) -> Self {
        let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
        Self::by_error(&format!("{error:#}"), causes.any(is_of_host))
    }

    fn as_weaker(losses: &[Loss], sections: &Sections, permission: &str, written: WrittenPermission) -> Self {
        let reason = |loss: &Loss| format!("{}: it would demand less: {loss}", sections.place(loss));
        let mut reasons: Vec<String> = losses.iter().take(MAXIMUM_LINES).map(reason).collect();
        reasons.push(advice(losses.len(), permission, written));
        Self { result: Load::Weaker, is_of_host: false, reasons }
    }
}

/// What to do about a configuration that demands less than the one in use.
pub(super) fn advice(losses: usize, permission: &str, written: WrittenPermission) -> String {
    // A literal string of TOML: the log would put a backslash before each double quote.
    let line = format!("accept_weaker = '{permission}'");
    match written {
        WrittenPermission::Used => format!(
            "demands lost: {losses}; an earlier reload used {line}; restore them, or remove the line, reload, and write it again"
        ),
        WrittenPermission::OfAnother => format!(
            "demands lost: {losses}; the accept_weaker of the file is that of another change and permits nothing here; restore them, or, if \
             that is intended, write {line} in its place and reload"
        ),
        WrittenPermission::Nothing => format!(
            "demands lost: {losses}; restore them, or, if that is intended, write {line} at the top of the file and reload"
        ),
    }
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
