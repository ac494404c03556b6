//! `hookgate run`: start-up, the loop of the control thread, and the orderly end.
//!
//! Owns the order of the steps, which [`super`] explains, and the signals. Must not know how a step works: each belongs to another
//! module.

use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, anyhow, bail};
use arc_swap::ArcSwap;
use rustls_pki_types::UnixTime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::admin::Question;
use super::admin::facts::WorkerFacts;
use super::admin::observer::{Moment, Observer};
use super::admin::phase::Phase;
use super::confine::{confine, connecting_only_to, hide_memory};
use super::deliveries::Handover;
use super::descriptors::raise_limits;
use super::inquiry::{Inquiry, Stored};
use super::log::{Log, LogError, Losses, StatedLevels};
use super::published::Publisher;
use super::reload::{Fixed, Loader, log_warnings};
use super::sockets::SocketsError;
use super::sockets::sharing::PortWatch;
use super::status::Serving;
use super::watch::LOOK_INTERVAL;
use super::watchdog::Watchdog;
use super::{service, sides, sockets};
use crate::accept::spread::Siblings;
use crate::config::{
    Config, Deliveries, FetchedLists, FileVersions, KeyOrigin, Listen, Location, NamedPlaces, Reading,
};
use crate::crypto;
use crate::dispatch::Shared;
use crate::fleet::Parts;
use crate::metrics;
use crate::recent::Recent;
use crate::snapshot::Snapshot;
use crate::state::{StateDirectory, warn_of_absence};
use crate::worker::{CUT_GRACE, Command, Places, Plan, WorkerThread, start};
use hookgate_core::identity::RefusalAnswer;
use hookgate_io::memory::{RETURN_INTERVAL, return_unused, set_up};
use hookgate_io::{Backend, choose};

/// Interval at which the control thread checks its workers and publishes metrics.
const UPKEEP_INTERVAL: Duration = Duration::from_millis(250);

/// Interval at which the control thread checks that no other process listens on hookgate's ports. A look takes some 50 µs.
const PORTS_INTERVAL: Duration = Duration::from_secs(5);

/// Longest wait for the first round of every worker. After that, the watchdog reports workers that stall.
const FIRST_ROUND_LIMIT: Duration = Duration::from_secs(5);

/// Time for the last steps of the end, after the drain and the grace for connections that it cuts: detach the filter, free memory.
const LAST_STEPS: Duration = Duration::from_secs(3);

/// Serves the configuration at `path` until a signal ends the process. `levels` are those of `--log`. Exit code 0 after an orderly end,
/// else 1. What goes wrong before the log is known goes to standard error as it is.
pub fn run(path: &Path, levels: Option<&str>) -> ExitCode {
    let failed = |error: &dyn Display| {
        eprintln!("{error:#}");
        ExitCode::FAILURE
    };
    let levels = match StatedLevels::find(levels) {
        Ok(levels) => levels,
        Err(error) => return failed(&error),
    };
    let huge_pages = set_up();
    let unhidden = hide_memory();
    let Reading { files, outcome } = Config::read(path);
    let (config, warnings) = match outcome {
        Ok(loaded) => loaded,
        Err(errors) => return failed(&errors),
    };
    let log = match Log::start(&config.log, levels) {
        Ok(log) => log,
        Err(error) => {
            let place = matches!(error, LogError::NoJournal).then(|| NamedPlaces::of(path, &files).journal).flatten();
            return failed(&placed(place, error.into()));
        }
    };
    unhidden.iter().for_each(|reason| tracing::warn!(reason, "the memory of this process is not hidden"));
    if let Err(error) = huge_pages {
        tracing::warn!(%error, "transparent huge pages stay allowed; resident memory may exceed what is in use by some MiB");
    }
    raise_limits();
    log_warnings(&warnings);
    match serve(path, config, files, &log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(reason = format!("{error:#}"), "ended by an error");
            ExitCode::FAILURE
        }
    }
}

fn serve(path: &Path, config: Config, files: FileVersions, log: &Log) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::install()?;
        let retirement = Arc::default();
        let observer = sides::start(config.metrics.as_ref(), config.admin.as_ref(), &retirement)
            .map_err(|error| placed(error.location(NamedPlaces::of(path, &FileVersions::default())), error.into()))?;
        let backend = choose_backend(&config.listen)?;
        let fixed = Fixed {
            listen: config.listen.clone(),
            log: config.log.format,
            metrics: config.metrics.clone(),
            admin: config.admin.clone(),
            state: config.state.clone(),
            fleet: config.fleet.clone(),
        };
        let mut loader = Loader::new(path.to_owned(), &config.limits, retirement);
        loader.tune_log(log.tuning());
        let (deliveries, fleet) = open_memory(path, &config, &mut loader)?;
        // Before the ports are open, so that no foreign packet reaches one.
        loader.filter.start(&config.filter)?;
        let count = worker_count(&fixed.listen);
        loader.count_descriptors(count, fixed.listen.addresses.len());
        let snapshot = loader.load(config).with_context(|| path.display().to_string())?;
        loader.follow(files);
        let current = Arc::new(ArcSwap::from_pointee(snapshot));
        metrics::reloaded(metrics::Load::Ok, 1, UnixTime::now().as_secs());
        let (commands, receiver) = watch::channel(Command::Serve(1));
        let places = Arc::<Places>::default();
        let planned = plan_workers(&fixed.listen, (count, backend), &current, &places, &receiver);
        let (plans, ports) = planned.map_err(|error| located(path, error))?;
        // No later step needs a privilege, and no byte from a peer has been read.
        confine(|| loader.filter.is_usable(), loader.state.as_ref())?;
        fleet.map(super::fleet::start).transpose()?;
        let handover = deliveries.map(super::deliveries::Prepared::start).transpose()?.unwrap_or_default();
        first_lists(&mut loader, &current, &commands).await;
        let workers = start_workers(plans, backend, &mut loader)?;
        let watchdog = Watchdog::start(workers.len());
        let (backend, losses) = (backend.label(), log.losses());
        let mut control = Control {
            workers,
            watchdog,
            backend,
            commands,
            current,
            places,
            loader,
            fixed,
            ports,
            losses,
            observer,
            handover,
        };
        control.hand_over()?;
        control.observer.enter(Phase::Serving);
        service::ready(&control.serving().started());
        let outcome = control.attend(&mut signals).await;
        control.end(outcome, signals).await
    })
}

/// Opens the state directory, and prepares the threads that remember deliveries beyond this process: those of the disk and of the fleet. Before the
/// process is confined, and before the sources of data are read from the directory.
fn open_memory(
    path: &Path,
    config: &Config,
    loader: &mut Loader,
) -> anyhow::Result<(Option<super::deliveries::Prepared>, Option<crate::fleet::Prepared>)> {
    let state = config.state.directory.as_deref().map(StateDirectory::open).transpose();
    let of_state = || NamedPlaces::of(path, &FileVersions::default()).state.map(|(location, _)| location);
    match state.map_err(|error| placed(of_state(), error.into()))? {
        Some(state) => loader.keep_state_in(state),
        None => warn_of_absence(&features_with_state(config)),
    }
    let on_failure = config.state.on_failure;
    let mut deliveries = match config.state.deliveries {
        Deliveries::Disk => loader.keep_deliveries(on_failure)?,
        Deliveries::Memory => None,
    };
    let state = loader.state.as_ref();
    let fleet = config.fleet.as_ref().map(|fleet| super::fleet::prepare(fleet, on_failure, state)).transpose()?;
    let thread = fleet.map(|Parts { fleet, thread, handing }| {
        if let (Some(deliveries), Some(handing)) = (&mut deliveries, handing) {
            deliveries.share(Arc::clone(&fleet), handing);
        }
        loader.fleet = Some(fleet);
        thread
    });
    if let Some(state) = &loader.state {
        let stored = Stored { disk: loader.store().cloned(), fleet: loader.fleet.clone() };
        answer_questions(state.path(), &loader.recent, stored);
        if let (Some(config), Some(fleet)) = (&config.fleet, &loader.fleet) {
            // Until the thread runs, the fleet knows what the file says.
            let kept = fleet.paused();
            let keep = super::fleet::keep_pauses(Arc::clone(fleet), Arc::clone(&config.name), state.clone(), kept);
            drop(tokio::spawn(keep));
        }
        if deliveries.is_none() && has_replay(config) {
            tracing::warn!("deliveries are remembered in memory alone: a restart forgets which were taken");
        }
    }
    Ok((deliveries, thread))
}

/// Serves the control socket, if it can be bound. Without it, `hookgate explain` knows no recent refusal, and `hookgate deliveries` no daemon.
fn answer_questions(directory: &Path, recent: &Arc<Recent>, stored: Stored) {
    match Inquiry::bind(directory, Arc::clone(recent), stored) {
        Ok(inquiry) => drop(tokio::spawn(inquiry.serve())),
        Err(error) => {
            let directory = directory.display();
            tracing::warn!(%directory, %error, "cannot bind control.sock in the state directory; hookgate explain knows no recent refusal, and hookgate deliveries no daemon");
        }
    }
}

/// Adds the place in the configuration to an error about an address.
fn located(path: &Path, error: anyhow::Error) -> anyhow::Error {
    let address = error.downcast_ref::<SocketsError>().and_then(SocketsError::configured);
    let places = NamedPlaces::of(path, &FileVersions::default());
    let place = places.listen.into_iter().find(|(_, listed)| Some(*listed) == address);
    placed(place.map(|(location, _)| location), error)
}

/// Adds the place in the configuration to an error, if there is one.
fn placed(location: Option<Location>, error: anyhow::Error) -> anyhow::Error {
    match location {
        Some(location) => anyhow!("{location}: {error:#}"),
        None => error,
    }
}

/// What this configuration would keep over a restart.
fn features_with_state(config: &Config) -> Vec<&'static str> {
    let has_ranges = config.range_urls.iter().any(|urls| !urls.is_empty());
    let has_lists = config.fetched_lists.iter().flatten().any(FetchedLists::any);
    let has_keys = config.proofs.key_sources.iter().any(|source| matches!(source.origin, KeyOrigin::Url(_)));
    let features = [
        (has_ranges, "the lists of source_range_urls"),
        (has_lists, "the revocation lists that are fetched"),
        (has_keys, "the keys of key sources"),
        (has_replay(config), "the deliveries that were taken"),
        (has_retry(config), "the refused chains with evidence (refusal = 'retry')"),
    ];
    features.into_iter().filter_map(|(is_used, feature)| is_used.then_some(feature)).collect()
}

/// Whether a provider delays refusals that can be ignorance of this receiver: their chains are kept for the operator.
fn has_retry(config: &Config) -> bool {
    config.providers.iter().any(|provider| provider.refusal == RefusalAnswer::Retry)
}

/// Whether a rule keeps copies of deliveries away.
fn has_replay(config: &Config) -> bool {
    let policies = config.proofs.providers.iter().chain(config.proofs.routes.iter().flatten());
    policies.into_iter().any(|policy| policy.duplicate_answer().is_some())
}

/// Waits for the lists of which there is no copy, so that their providers are admitted from the first request on. A bounded wait: connections
/// queue up meanwhile, and a list that does not come is refused by its own reason.
async fn first_lists(loader: &mut Loader, current: &ArcSwap<Snapshot>, commands: &watch::Sender<Command>) {
    let deadline = Publisher::first_deadline();
    while let Some(offer) = loader.published.first_offer(deadline).await {
        if let Some(generation) = loader.publish(offer, current) {
            commands.send_replace(Command::Serve(generation));
        }
    }
}

/// The signals that hookgate handles.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    /// A write beyond RLIMIT_FSIZE (`LimitFSIZE=`) is an error of that write, as on a full disk, and not the end of the process.
    _file_size: Signal,
}

impl Signals {
    /// Installs the handlers. A signal that arrives later in start-up is kept until the loop runs.
    fn install() -> anyhow::Result<Self> {
        let install = |kind| signal(kind).context("cannot install signal handlers");
        Ok(Self {
            terminate: install(SignalKind::terminate())?,
            interrupt: install(SignalKind::interrupt())?,
            hang_up: install(SignalKind::hangup())?,
            _file_size: install(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?,
        })
    }

    /// Waits for a signal that ends the process.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn choose_backend(listen: &Listen) -> anyhow::Result<Backend> {
    let demanded = if listen.io == Some(Backend::Reactor) { "io_uring_direct" } else { "io_uring" };
    let (backend, fallback) = choose(listen.io)
        .with_context(|| format!("listen.io is \"{demanded}\", which is unavailable (\"auto\" falls back to epoll)"))?;
    if let Some(reason) = &fallback {
        tracing::warn!(%reason, "io_uring is unavailable; using epoll");
    }
    metrics::running(backend.label(), fallback.is_some());
    Ok(backend)
}

/// Opens the listening sockets of every worker, or fails without starting any.
fn plan_workers(
    listen: &Listen,
    (count, backend): (usize, Backend),
    current: &Arc<ArcSwap<Snapshot>>,
    places: &Arc<Places>,
    commands: &watch::Receiver<Command>,
) -> anyhow::Result<(Vec<Plan>, PortWatch)> {
    let cores = usable_cores();
    let opened = sockets::open(listen, count)?;
    let plan = |((siblings, inbox), listeners): ((Siblings, _), _)| {
        // With more workers than cores, pinning would load the cores unevenly.
        let core = (count <= cores.len()).then(|| cores[siblings.index()]);
        let (snapshot, places, commands) = (Arc::clone(current), Arc::clone(places), commands.clone());
        Plan { siblings, inbox, core, backend, listeners, snapshot, places, commands }
    };
    let plans = Siblings::of(count).into_iter().zip(opened.workers).map(plan).collect();
    for address in &opened.addresses {
        tracing::info!(%address, "listening");
    }
    Ok((plans, opened.ports))
}

/// Starts the workers. They have no capability, even if the main thread had to keep one, write no file, and connect to no port but those of handlers.
fn start_workers(plans: Vec<Plan>, backend: Backend, loader: &mut Loader) -> anyhow::Result<Vec<WorkerThread>> {
    let count = plans.len();
    let start_all = || plans.into_iter().map(start).collect::<Result<Vec<_>, _>>();
    let (workers, is_enforced) = connecting_only_to(loader.ports.allowed(), start_all)?;
    loader.ports.are_enforced(is_enforced);
    let workers = workers.context("cannot start the worker threads")?;
    let workers = first_round(workers)?;
    let (backend, version) = (backend.label(), env!("CARGO_PKG_VERSION"));
    tracing::info!(workers = count, backend, crypto = crypto::LIBRARY, version, "ready");
    Ok(workers)
}

/// Waits until every worker has completed its first round, so that hookgate serves when it says that it is ready.
fn first_round(mut workers: Vec<WorkerThread>) -> anyhow::Result<Vec<WorkerThread>> {
    let deadline = Instant::now() + FIRST_ROUND_LIMIT;
    while workers.iter().any(|worker| worker.rounds() == 0) && Instant::now() < deadline {
        if let Some(ended) = workers.iter().position(WorkerThread::is_finished) {
            workers.swap_remove(ended).join().context("a worker failed")?;
            bail!("a worker ended unexpectedly");
        }
        // Blocking is fine: the control thread has nothing else to do yet.
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(workers)
}

/// The number of workers: as configured, or one per core.
fn worker_count(listen: &Listen) -> usize {
    if listen.workers == 0 { usable_cores().len().max(1) } else { listen.workers }
}

/// The cores that this process may run on.
fn usable_cores() -> Vec<usize> {
    let Ok(allowed) = rustix::thread::sched_getaffinity(None) else { return Vec::new() };
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect()
}

/// The running process, as the control thread sees it.
struct Control {
    workers: Vec<WorkerThread>,
    watchdog: Watchdog,
    backend: &'static str,
    commands: watch::Sender<Command>,
    current: Arc<ArcSwap<Snapshot>>,
    places: Arc<Places>,
    loader: Loader,
    fixed: Fixed,
    ports: PortWatch,
    losses: Losses,
    observer: Observer,
    handover: Handover,
}

/// Why the process ends.
enum Outcome {
    /// A signal.
    Signal,
    /// A worker, or the dispatcher, ended unexpectedly.
    WorkerEnded,
    /// The filter is required, and an interface is not filtered.
    Unfiltered(anyhow::Error),
}

impl Control {
    /// The loop of the control thread, until the process has to end.
    async fn attend(&mut self, signals: &mut Signals) -> Outcome {
        let mut upkeep = interval(UPKEEP_INTERVAL);
        upkeep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pulse = interval(self.watchdog.period());
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ports = interval(PORTS_INTERVAL);
        ports.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut unused = interval(RETURN_INTERVAL);
        unused.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = signals.terminate.recv() => return Outcome::Signal,
                _ = signals.interrupt.recv() => return Outcome::Signal,
                _ = signals.hang_up.recv() => self.reload(),
                offer = self.loader.published.offer() => {
                    let generation = self.loader.publish(offer, &self.current);
                    self.serve(generation);
                }
                offer = self.loader.acme.offer() => self.loader.take_acme(offer, &self.current),
                _ = ports.tick() => self.ports.attend(),
                _ = unused.tick() => return_unused(),
                question = self.observer.question() => self.answer(question),
                _ = pulse.tick() => self.watch_workers(),
                _ = look.tick() => {
                    if let Err(error) = self.loader.filter.look_at_interfaces() {
                        return Outcome::Unfiltered(error);
                    }
                    if self.loader.look() {
                        self.reload();
                    }
                }
                _ = upkeep.tick() => {
                    self.publish_connections();
                    self.loader.advance();
                    self.loader.retry_deliveries();
                    self.loader.publish_metrics();
                    self.loader.attend_to_rotation();
                    let generation = self.loader.attend_to_lists(&self.current);
                    self.serve(generation);
                    self.loader.filter.attend();
                    self.observer.attend(&self.current.load(), &self.places);
                    self.losses.attend(Instant::now());
                    if self.workers.iter().any(WorkerThread::is_finished) || self.handover.has_failed() {
                        return Outcome::WorkerEnded;
                    }
                }
            }
        }
    }

    fn watch_workers(&mut self) {
        self.watchdog.attend(&self.workers);
        self.observer.note_stalled(self.watchdog.stalled().filter(|stalled| *stalled).count());
    }

    /// Answers a question of the admin side, unless it has given up.
    fn answer(&self, question: Question) {
        let worker =
            |(worker, stalled): (&WorkerThread, bool)| WorkerFacts { connections: worker.connections(), stalled };
        let workers = self.workers.iter().zip(self.watchdog.stalled()).map(worker).collect();
        let (snapshot, places, loader, backend) = (&self.current.load(), &self.places, &self.loader, self.backend);
        let moment = Moment { snapshot, places, loader, workers, backend };
        let _ = question.send(Arc::new(self.observer.facts(moment)));
    }

    /// Tells the workers to finish the requests in flight, and the service manager that the process ends.
    fn drain(&self, status: &str) {
        service::stopping(status, self.current.load().limits.drain_timeout + CUT_GRACE + LAST_STEPS);
        self.commands.send_replace(Command::Drain);
    }

    fn publish_connections(&self) {
        for (index, worker) in self.workers.iter().enumerate() {
            metrics::worker_connections(index, worker.connections());
        }
    }

    /// Tells workers and service manager about a new generation that no reload made.
    fn serve(&self, generation: Option<u64>) {
        if let Some(generation) = generation {
            self.commands.send_replace(Command::Serve(generation));
            service::status(&self.serving().started());
        }
    }

    /// Reloads the configuration, and tells the service manager.
    fn reload(&mut self) {
        service::reloading();
        let reloaded = self.loader.reload(&self.current, &self.fixed);
        let now = SystemTime::now();
        let status = match reloaded {
            Some(generation) => {
                self.commands.send_replace(Command::Serve(generation));
                if let Err(error) = self.hand_over() {
                    let reason = format!("{error:#}");
                    tracing::error!(reason, "stored deliveries are not handed over; restart hookgate");
                }
                self.serving().reloaded(now)
            }
            None => self.serving().not_reloaded(now),
        };
        service::ready(&status);
    }

    /// Starts the dispatcher, if there is something to hand over and it does not run.
    fn hand_over(&mut self) -> anyhow::Result<()> {
        let shared = || Shared {
            snapshot: Arc::clone(&self.current),
            places: Arc::clone(&self.places),
            commands: self.commands.subscribe(),
        };
        self.handover.start_if_needed(&self.current.load(), self.loader.ports.allowed(), shared)
    }

    fn serving(&self) -> Serving {
        Serving::new(&self.current.load(), self.workers.len(), self.backend)
    }

    /// Drains the workers, or stops them after a failure, and joins them. A second signal ends the drain at once.
    async fn end(mut self, outcome: Outcome, mut signals: Signals) -> anyhow::Result<()> {
        self.observer.enter(Phase::Draining);
        let failure = match outcome {
            Outcome::Signal => {
                tracing::info!("draining: accepting no connections, finishing the requests in flight");
                self.drain("draining: accepting no connections, finishing the requests in flight");
                None
            }
            Outcome::Unfiltered(error) => {
                let reason = format!("{error:#}");
                tracing::error!(reason, "the filter is required, so hookgate drains and ends; a restart attaches it");
                self.drain("draining: an interface is not filtered");
                Some(error)
            }
            Outcome::WorkerEnded => {
                service::stopping("a worker failed", CUT_GRACE + LAST_STEPS);
                self.commands.send_replace(Command::Stop);
                Some(anyhow!("a worker ended unexpectedly"))
            }
        };
        while !self.workers.iter().all(WorkerThread::is_finished) || !self.handover.has_ended() {
            self.watch_workers();
            self.publish_connections();
            tokio::select! {
                question = self.observer.question() => self.answer(question),
                () = signals.end() => {
                    tracing::warn!("told to end a second time; the remaining connections are cut");
                    self.commands.send_replace(Command::Stop);
                }
                () = tokio::time::sleep(UPKEEP_INTERVAL / 10) => {}
            }
        }
        self.losses.report(Instant::now());
        self.loader.filter.stop();
        for worker in self.workers {
            worker.join().context("a worker failed")?;
        }
        self.handover.join()?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        tracing::info!("ended");
        Ok(())
    }
}
