//! The dispatcher: one thread that hands stored deliveries to their handlers, by the routes of the current snapshot.
//!
//! Owns the life of the thread, and what is attempted at a time. What is next, `schedule` decides; what an answer means, `verdict`; an attempt is in
//! `attempt`. Must not write to the database: it tells `deliveries` what became of a delivery, and waits until that is on the disk.

mod attempt;
mod schedule;
mod share;
mod verdict;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rustix::fs::{FlockOperation, fcntl_lock};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_local;

use self::attempt::Ended;
use self::schedule::{Lane, Schedule};
use self::share::Share;
use crate::deliveries::{Change, Changes, DeliveryStore, Durable, Reader, Survey, now_ms};
use crate::fleet::{Fleet, Handing};
use crate::metrics::spool as metrics;
use crate::snapshot::Snapshot;
use crate::upstream::{Places, Upstream};
use crate::worker::Command;
use hookgate_core::route::RouteId;
use hookgate_io::sweep::{SWEEP_INTERVAL, Sweep};
use hookgate_io::timer::sleep;
use hookgate_io::{Backend, block_on};

/// The longest pause of the loop: how soon it sees another snapshot, and publishes levels.
const ROUND: Duration = Duration::from_secs(1);

/// The shortest pause of the loop.
const SHORTEST: Duration = Duration::from_millis(1);

/// Most changes that are applied before the next look at what is due.
const CHANGES: usize = 1024;

/// The pause before the next try to become the one dispatcher of the directory.
const LOCK_PAUSE: Duration = Duration::from_millis(250);

/// What an earlier process stored, and what the dispatcher needs of the files. Opened before the process is confined.
#[derive(Debug)]
pub struct Spool {
    /// Something is stored, if only dead letters.
    pub has_rows: bool,
    /// Reads requests.
    pub reader: Reader,
    /// Where it hears of what is stored.
    pub changes: Changes,
    /// Locked by the one process that hands over.
    pub lock: File,
    /// To write outcomes.
    pub store: Arc<DeliveryStore>,
    /// The servers of the fleet, and what they give this host to hand over, if deliveries are stored there.
    pub fleet: Option<(Arc<Fleet>, Handing)>,
}

/// What the thread shares with the rest of the process.
pub struct Shared {
    /// Where the current snapshot is.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The places of the handlers, which the workers share.
    pub places: Arc<Places>,
    /// Where commands come from: those of the workers.
    pub commands: watch::Receiver<Command>,
}

/// What attempts need.
struct Dispatcher {
    upstream: Upstream,
    reader: Reader,
    store: Arc<DeliveryStore>,
    /// Where rows go instead of to a handler, if the servers of a fleet store deliveries.
    fleet: Option<Arc<Fleet>>,
    random: RefCell<fastrand::Rng>,
    /// Where attempts say how they ended.
    ended: mpsc::UnboundedSender<Ended>,
}

/// Starts the thread. It ends after [`Command::Drain`] or [`Command::Stop`].
///
/// # Errors
///
/// The system has no thread.
pub fn start(spool: Spool, shared: Shared) -> io::Result<JoinHandle<io::Result<()>>> {
    let thread = thread::Builder::new().name("dispatcher".to_owned());
    thread.spawn(move || block_on(Backend::Epoll, run(spool, shared)))
}

async fn run(spool: Spool, mut shared: Shared) {
    if !lock(&spool.lock, &mut shared.commands).await {
        return;
    }
    let sweep = Sweep::new();
    spawn_local(keep_sweeping(Rc::clone(&sweep)));
    let Spool { reader, mut changes, store, lock, fleet, .. } = spool;
    // Held until the process ends: until then its workers may store something, which the next process has to find.
    std::mem::forget(lock);
    let upstream = Upstream::new(Backend::Epoll, sweep, shared.places);
    let (ended, outcomes) = mpsc::unbounded_channel();
    let (fleet, handing) = fleet.unzip();
    let random = RefCell::default();
    let dispatcher = Rc::new(Dispatcher { upstream, reader, store, fleet, random, ended });
    let snapshot = shared.snapshot.load_full();
    let Some(Survey { waiting, paused }) = survey(&dispatcher.store, &mut changes, &mut shared.commands).await else {
        return;
    };
    let schedule = Schedule::new(waiting, paused, now_ms());
    let share = Share::new(handing);
    let mut rounds = Rounds { dispatcher, schedule, snapshot, current: shared.snapshot, outcomes, changes, share };
    rounds.adopt();
    rounds.serve(&mut shared.commands).await;
    rounds.drain(&mut shared.commands).await;
}

/// Waits until no other process hands over from this directory, as the one before a restart does while it ends. Returns false if it is told to end.
async fn lock(file: &File, commands: &mut watch::Receiver<Command>) -> bool {
    let mut has_told = false;
    loop {
        match fcntl_lock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return true,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => {}
            // A file system without locks: the directory must not be shared anyway.
            Err(error) => {
                tracing::warn!(%error, "dispatcher.lock in the state directory cannot be locked");
                return true;
            }
        }
        if !std::mem::replace(&mut has_told, true) {
            tracing::info!("another process still hands the stored deliveries over; waiting for its end");
        }
        let ends = commands.wait_for(|command| !matches!(command, Command::Serve(_)));
        tokio::select! {
            _ = ends => return false,
            () = sleep(LOCK_PAUSE) => {}
        }
    }
}

/// What is stored now, by this process or another one; `None` if the thread is told to end first. What `changes` had before is in it.
async fn survey(
    store: &DeliveryStore,
    changes: &mut Changes,
    commands: &mut watch::Receiver<Command>,
) -> Option<Survey> {
    loop {
        // The answer comes after everything that was stored before, and what is stored later comes later here.
        let had = changes.len();
        if let Some(survey) = store.survey().await {
            for _ in 0..had {
                drop(changes.try_recv());
            }
            return Some(survey);
        }
        let ends = commands.wait_for(|command| !matches!(command, Command::Serve(_)));
        tokio::select! {
            _ = ends => return None,
            () = sleep(ROUND) => {}
        }
    }
}

async fn keep_sweeping(sweep: Rc<Sweep>) {
    loop {
        sweep.run();
        sleep(SWEEP_INTERVAL).await;
    }
}

/// The loop and what it knows.
struct Rounds {
    dispatcher: Rc<Dispatcher>,
    schedule: Schedule,
    /// The snapshot whose routes the schedule has.
    snapshot: Arc<Snapshot>,
    current: Arc<ArcSwap<Snapshot>>,
    /// One entry for each attempt in flight at most.
    outcomes: mpsc::UnboundedReceiver<Ended>,
    changes: Changes,
    /// What this host has of the spool of a fleet.
    share: Share,
}

impl Rounds {
    /// Until told to end.
    async fn serve(&mut self, commands: &mut watch::Receiver<Command>) {
        let mut published = None;
        loop {
            if !matches!(*commands.borrow_and_update(), Command::Serve(_)) {
                return;
            }
            self.follow();
            self.begin();
            self.share.give_back_late(&mut self.schedule);
            self.share.ask(&self.schedule, now_ms());
            if published.is_none_or(|then: Instant| then.elapsed() >= ROUND) {
                self.publish();
                published = Some(Instant::now());
            }
            let wake = self.schedule.wake_at().map(|at| Duration::from_millis(at.saturating_sub(now_ms())));
            let pause = wake.unwrap_or(ROUND).clamp(SHORTEST, ROUND);
            tokio::select! {
                change = self.changes.recv() => {
                    let Some(change) = change else { return };
                    self.schedule.change(change);
                    self.catch_up();
                }
                Some(ended) = self.outcomes.recv() => {
                    self.apply(ended);
                    self.catch_up();
                }
                Some(pulled) = self.share.pulled() => {
                    let waiting = self.share.take(pulled);
                    self.schedule.change(Change::Waits(waiting));
                }
                changed = commands.changed() => if changed.is_err() { return },
                () = sleep(pause) => {}
            }
        }
    }

    /// Applies what has happened meanwhile.
    fn catch_up(&mut self) {
        for _ in 0..CHANGES {
            let Ok(change) = self.changes.try_recv() else { break };
            self.schedule.change(change);
        }
        while let Ok(ended) = self.outcomes.try_recv() {
            self.apply(ended);
        }
    }

    fn apply(&mut self, ended: Ended) {
        match ended {
            Ended::Asked { number, answered } => self.schedule.answered(number, answered, now_ms()),
            Ended::Unwritten { number, fate } => self.schedule.settled(number, fate),
        }
    }

    /// Adopts another snapshot, if there is one. One with the same routes changes nothing here but bounds.
    fn follow(&mut self) {
        let current = self.current.load_full();
        if Arc::ptr_eq(&current, &self.snapshot) {
            return;
        }
        let has_routes = !Arc::ptr_eq(&current.routes, &self.snapshot.routes);
        self.snapshot = current;
        if has_routes {
            self.adopt();
        }
    }

    fn adopt(&mut self) {
        self.dispatcher.upstream.retain(&self.snapshot.routes);
        let mut lanes = HashMap::new();
        for (index, route) in self.snapshot.routes.routes().iter().enumerate() {
            if route.handlers().is_none() {
                continue;
            }
            let id = RouteId(index);
            let own = self.snapshot.durable(id);
            // A direct route takes what was stored when it was durable. Of two with one name, the durable one; such names are its own.
            if own.is_none() && lanes.contains_key(&route.name) {
                continue;
            }
            let default = Durable::default();
            let durable = own.map_or(&default, |durable| &**durable);
            let identity = &self.snapshot.identity;
            let lane = Lane {
                route: id,
                max_in_flight: durable.max_in_flight,
                shared_entries: own.filter(|_| self.dispatcher.fleet.is_some()).map(|durable| durable.max_entries),
                rate_per_s: durable.rate_per_s,
                providers: route.providers.iter().map(|id| Arc::clone(&identity.provider(*id).name)).collect(),
            };
            lanes.insert(Arc::clone(&route.name), lane);
        }
        for (route, deliveries) in self.schedule.adopt(lanes) {
            tracing::warn!(
                %route, deliveries,
                "no route of this name admits the provider of these stored deliveries; they are held until one does, and are dead letters at the end of retry_for_s"
            );
        }
    }

    /// Begins what is due.
    fn begin(&mut self) {
        let now = now_ms();
        for (route, waiting) in self.schedule.due(now) {
            let (dispatcher, snapshot) = (Rc::clone(&self.dispatcher), Arc::clone(&self.snapshot));
            match self.share.begin(waiting.number) {
                Some(pulled) => drop(spawn_local(attempt::attempt_pulled(dispatcher, snapshot, route, pulled))),
                None => drop(spawn_local(attempt::attempt(dispatcher, snapshot, route, waiting))),
            }
        }
        for waiting in self.schedule.expired(now) {
            // One of the fleet's spool is given back: another host may take it.
            if let Some(pulled) = self.share.begin(waiting.number) {
                self.schedule.settled(pulled.waiting.number, None);
                continue;
            }
            let (dispatcher, snapshot) = (Rc::clone(&self.dispatcher), Arc::clone(&self.snapshot));
            spawn_local(attempt::expire(dispatcher, snapshot, waiting));
        }
    }

    fn publish(&self) {
        for (route, oldest_ms, is_paused) in self.schedule.levels(now_ms()) {
            metrics::oldest(route, Duration::from_millis(oldest_ms));
            metrics::paused(route, is_paused);
            self.dispatcher.store.levels().set(route, |level| level.oldest = Duration::from_millis(oldest_ms));
        }
        self.dispatcher.store.levels().set_paused(self.schedule.paused());
    }

    /// Waits for the attempts in flight and the writes of their outcomes, for `drain_timeout_ms` or until told to stop. What has no outcome by then is
    /// attempted again by the next process.
    async fn drain(&mut self, commands: &mut watch::Receiver<Command>) {
        self.share.end(&mut self.schedule);
        let limit = self.snapshot.limits.drain_timeout;
        let late = sleep(limit);
        tokio::pin!(late);
        while self.schedule.in_flight() > 0 {
            tokio::select! {
                Some(change) = self.changes.recv() => self.schedule.change(change),
                Some(ended) = self.outcomes.recv() => self.apply(ended),
                _ = commands.wait_for(|command| *command == Command::Stop) => break,
                () = &mut late => break,
            }
        }
        let left = self.schedule.in_flight();
        if left > 0 {
            tracing::warn!(deliveries = left, "attempts were cut; the next process makes them again");
        }
        self.dispatcher.upstream.close();
    }
}
