//! The spool that hosts share: deliveries of durable routes in a stream, from which any host hands over to its local handler.
//!
//! Owns what a worker, the dispatcher and an operator get of it, and when the servers are asked. What is in the streams is in [`streams`], the form of a
//! message in [`message`], what this host pulls in [`lane`], the order of a key in [`turn`], operators' questions in [`questions`]. Must not
//! ask a handler: the dispatcher does, with what it gets as [`Pulled`].
//!
//! A delivery is in the stream from the moment its sender hears 202 until its outcome is stored. The servers give it to one host at a time. A host
//! that gives no sign of life for 30 s loses it to another, so a handler may get it twice.

mod lane;
mod message;
mod questions;
mod streams;
mod turn;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_nats::Client;
use async_nats::connection::State;
use hookgate_io::timer::sleep;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::spawn_local;

use self::message::Message;
use self::streams::{NotPut, Streams, Wanted};
use crate::cause::Cause;
use crate::config::percent_used;
use crate::deliveries::{Alarm, Answer, Command, Fate, Levels, Pauses, Spooled, StoredRequest, Usage, Waiting, now_ms};
use crate::fleet::stream::{Failed, Told};
use crate::metrics::fleet as metrics;

pub use self::message::Message as Outbound;
pub(in crate::fleet) use self::message::Meta;

/// Between two looks at how much waits, and at what is paused. Every host looks.
const LOOK: Duration = Duration::from_secs(5);

/// Between two tries of the first look.
const FIRST_LOOK: Duration = Duration::from_millis(200);

/// The longest message of a server that is configured for no other length, in bytes.
const DEFAULT_PAYLOAD: usize = 1024 * 1024;

/// How long nothing is put after a failure, so that senders hear of an outage at once and not after a time-out each.
const BREAK: Duration = Duration::from_secs(1);

/// What the dispatcher wants of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// How many deliveries this host may hold: those that are with its handler, and those that are about to be.
    pub wanted: usize,
    /// The providers that the route admits here.
    pub providers: Vec<Arc<str>>,
    /// How many deliveries of the route may be stored, dead letters included.
    pub max_entries: u64,
}

/// What the dispatcher wants, by the name of the route.
pub type Demands = BTreeMap<Arc<str>, Demand>;

/// A delivery that is this host's to hand over. When it is dropped, the servers give it to a host again.
#[derive(Debug)]
#[must_use = "when it is dropped, it is given back"]
pub struct Pulled {
    /// As the schedule has it; its number is negative.
    pub waiting: Waiting,
    /// What the handler gets.
    pub request: StoredRequest,
    /// Who waits for the outcome.
    pub settling: Settling,
}

/// Who waits for the outcome of an attempt. When it is dropped, the delivery is given back.
#[derive(Debug)]
pub struct Settling(oneshot::Sender<Outcome>);

impl Settling {
    /// Tells the outcome of the attempt, and returns when the servers have stored it.
    pub async fn settle(self, fate: Fate) {
        let (stored, done) = oneshot::channel();
        if self.0.send(Outcome { fate, stored }).is_ok() {
            // It ends without a word if the thread does.
            let _ = done.await;
        }
    }
}

/// The outcome of an attempt, and who waits until it is stored.
#[derive(Debug)]
struct Outcome {
    fate: Fate,
    stored: oneshot::Sender<()>,
}

impl Outcome {
    /// Of a delivery that the dispatcher was not asked to attempt, and does not wait for.
    fn without_attempt(fate: Fate) -> Self {
        Self { fate, stored: oneshot::channel().0 }
    }
}

/// What the thread knows of the servers, for the others.
#[derive(Debug)]
pub(super) struct Status {
    /// Whether the servers stored the last delivery, or answered the last look.
    pub(super) stores: AtomicBool,
    /// The longest message that they take, in bytes.
    pub(super) max_payload: AtomicUsize,
    /// Whether there is a connection to one.
    pub(super) is_connected: AtomicBool,
    /// What they had of each route when they were asked last, without bytes.
    pub(super) levels: Levels,
    /// How much of the bytes of the stream was used then, in percent.
    pub(super) filled_percent: AtomicU64,
    /// Why the streams cannot be used, as the log says; empty if they can.
    problem: StdMutex<String>,
    /// The routes that were paused when they told last, this process or an earlier one.
    paused: StdMutex<Option<Pauses>>,
}

impl Status {
    /// Of servers that told an earlier process last that these routes are paused.
    pub(super) fn new(paused: Option<Pauses>) -> Self {
        let levels = Levels::default();
        paused.iter().for_each(|paused| levels.set_paused(paused));
        Self {
            stores: AtomicBool::new(false),
            max_payload: AtomicUsize::new(DEFAULT_PAYLOAD),
            is_connected: AtomicBool::new(false),
            levels,
            filled_percent: AtomicU64::new(0),
            problem: StdMutex::default(),
            paused: StdMutex::new(paused),
        }
    }

    /// The routes that were paused when they told last; `None` if that is not known.
    pub(super) fn paused(&self) -> Option<Pauses> {
        self.told().clone()
    }

    /// Whether the route was paused when they told last; `None` if that is not known.
    pub(super) fn is_paused(&self, route: &str) -> Option<bool> {
        self.told().as_ref().map(|paused| paused.hold(route))
    }

    fn told(&self) -> MutexGuard<'_, Option<Pauses>> {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the streams cannot be used; `None` if they can, as far as is known.
    pub(super) fn problem(&self) -> Option<String> {
        let problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        Some(problem.clone()).filter(|problem| !problem.is_empty())
    }

    /// Notes whether the servers store, and if not, why. Returns whether that is another reason than before.
    fn note(&self, problem: &str) -> bool {
        self.stores.store(problem.is_empty(), Ordering::Relaxed);
        metrics::usable(problem.is_empty());
        let mut known = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = *known != problem;
        if is_new {
            problem.clone_into(&mut known);
        }
        is_new
    }
}

/// The dispatcher's end.
#[derive(Debug)]
pub struct Handing {
    /// What it gets.
    pub pulled: mpsc::UnboundedReceiver<Pulled>,
    /// What it wants.
    pub demands: watch::Sender<Demands>,
}

/// The other end, before the thread has a connection.
pub(super) struct Plan {
    wanted: Wanted,
    patience: Duration,
    pulled: lane::Offers,
    demands: watch::Receiver<Demands>,
}

impl Plan {
    /// For a fleet of this name, whose streams are made with these copies and bounds.
    pub(super) fn new(fleet: &str, replicas: usize, max_bytes: u64, patience: Duration) -> (Self, Handing) {
        let (offers, pulled) = mpsc::unbounded_channel();
        let (sender, demands) = watch::channel(Demands::default());
        let max_bytes = i64::try_from(max_bytes).unwrap_or(i64::MAX);
        let wanted = Wanted { fleet: fleet.to_owned(), replicas, max_bytes };
        (Self { wanted, patience, pulled: offers, demands }, Handing { pulled, demands: sender })
    }
}

/// What waits of a route, and its dead letters, when they were counted last.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    waiting: u64,
    dead: u64,
    alarm: Alarm,
}

impl Level {
    /// Warns if a bound of the route is nearly reached.
    fn warn(&mut self, route: &str, percent: u64) {
        if self.alarm.rings(percent) {
            let Self { waiting, dead, .. } = *self;
            let cause = Cause::Gateway.label();
            tracing::warn!(
                %route, waiting, dead, percent, cause,
                "the spool of the fleet fills; at 100 % senders of the route get 503 (max_entries of durable, max_bytes of [fleet])"
            );
        }
    }
}

/// What the tasks of the thread share.
struct Shared {
    client: Client,
    wanted: Wanted,
    told: Told,
    patience: Duration,
    /// Found once; whoever looks holds up the others.
    found: Mutex<Option<Streams>>,
    next_look: Cell<Instant>,
    pulled: lane::Offers,
    /// Whether the servers have told this process what is paused.
    knows_pauses: Cell<bool>,
    levels: RefCell<HashMap<Arc<str>, Level>>,
    is_failing: Cell<bool>,
    next_put: Cell<Instant>,
    demands: watch::Receiver<Demands>,
    /// Who has a turn, among the hosts.
    host: String,
    /// What operators call this host.
    host_name: String,
    /// The keys whose turn is this host's, by their names.
    turns: RefCell<HashSet<String>>,
    /// Keys whose next attempt this host waits for.
    waits: Cell<usize>,
    status: Arc<Status>,
}

impl Shared {
    /// The streams; `None` if they cannot be had now, which is logged.
    async fn streams(&self) -> Option<Streams> {
        // Without a connection, every answer would take as long as a request waits.
        if self.client.connection_state() != State::Connected {
            return None;
        }
        let mut found = self.found.lock().await;
        if found.is_none() && Instant::now() >= self.next_look.get() {
            match Streams::find(&self.client, self.patience, &self.wanted, &self.told).await {
                Ok(streams) => *found = Some(streams),
                Err(error) => {
                    self.next_look.set(Instant::now() + BREAK);
                    let error = error.to_string();
                    if self.status.note(&error) {
                        let cause = Cause::Gateway.label();
                        tracing::error!(error, cause, "the spool of the fleet cannot be used");
                    }
                }
            }
        }
        found.clone()
    }

    /// An operation failed. Said once, until one succeeds. The streams are looked for anew: they may be gone.
    fn failed(&self, error: &Failed) {
        self.status.note(&error.to_string());
        if let Ok(mut found) = self.found.try_lock() {
            *found = None;
        }
        if !self.is_failing.replace(true) {
            let cause = Cause::Gateway.label();
            tracing::error!(%error, cause, "the servers of the fleet's spool gave no answer; it is tried again");
        }
    }

    /// There are no streams now, for a reason that was said.
    fn lost(&self) {
        self.status.stores.store(false, Ordering::Relaxed);
        metrics::usable(false);
    }

    /// The servers store what they are given.
    fn succeeded(&self) {
        self.status.note("");
        self.status.max_payload.store(self.client.server_info().max_payload, Ordering::Relaxed);
        if self.is_failing.replace(false) {
            tracing::info!("the spool of the fleet works again");
        }
    }

    async fn put(&self, message: &Message, max_entries: u64) -> Spooled {
        if Instant::now() < self.next_put.get() {
            return Spooled::Failed;
        }
        let Some(streams) = self.streams().await else {
            self.lost();
            return Spooled::Failed;
        };
        let route = message.meta.route.as_str();
        let Level { waiting, dead, .. } = self.levels.borrow().get(route).copied().unwrap_or_default();
        if waiting + dead >= max_entries {
            return Spooled::Full(format!("{} deliveries of the route are stored (max_entries).", waiting + dead));
        }
        let began = Instant::now();
        match streams.put(message).await {
            Ok(()) => {
                metrics::put(began.elapsed());
                self.succeeded();
                if let Some(level) = self.levels.borrow_mut().get_mut(route) {
                    level.waiting += 1;
                }
                Spooled::Stored
            }
            Err(NotPut::Full(because)) => Spooled::Full(because),
            Err(NotPut::Failed(error)) => {
                self.failed(&error);
                self.next_put.set(Instant::now() + BREAK);
                Spooled::Failed
            }
        }
    }

    /// Whether the route is paused at all hosts; `None` if the servers have not told yet.
    fn is_paused(&self, route: &str) -> Option<bool> {
        self.knows_pauses.get().then(|| self.status.is_paused(route)).flatten()
    }

    /// These routes are paused, and no others.
    fn set_pauses(&self, pauses: Pauses) {
        self.status.levels.set_paused(&pauses);
        *self.status.told() = Some(pauses);
        self.knows_pauses.set(true);
    }

    /// Counts what waits, and sees what is paused, every now and then. Ends with the dispatcher.
    async fn look(self: Rc<Self>) {
        let mut demands = self.demands.clone();
        loop {
            let routes: Vec<_> =
                demands.borrow_and_update().iter().map(|(route, of)| (Arc::clone(route), of.max_entries)).collect();
            // Without a durable route, no stream is made.
            if routes.is_empty() {
                match demands.changed().await {
                    Ok(()) => continue,
                    Err(_) => return,
                }
            }
            match self.streams().await {
                Some(streams) => match self.look_at(&streams, routes).await {
                    Ok(()) => self.succeeded(),
                    Err(error) => self.failed(&error),
                },
                None => self.lost(),
            }
            // Nothing is pulled before the pauses are known.
            sleep(if self.knows_pauses.get() { LOOK } else { FIRST_LOOK }).await;
            if demands.has_changed().is_err() {
                return;
            }
        }
    }

    async fn look_at(&self, streams: &Streams, routes: Vec<(Arc<str>, u64)>) -> Result<(), Failed> {
        let (pauses, _) = streams.pauses().await?;
        self.set_pauses(pauses);
        let of_stream = streams.filled_percent().await?;
        self.status.filled_percent.store(of_stream, Ordering::Relaxed);
        for (route, most) in routes {
            let (waiting, dead) = streams.levels(&route).await?;
            let oldest = match waiting {
                0 => None,
                _ => streams.next_waiting(&streams.subjects.spool_of(&route), 0).await?,
            };
            let age = oldest.map_or(0, |(_, message)| now_ms().saturating_sub(message.meta.received_ms));
            let (age, percent) = (Duration::from_millis(age), percent_used(waiting + dead, most).max(of_stream));
            metrics::stored(&route, waiting, dead, age);
            metrics::filled(&route, percent);
            metrics::paused(&route, self.is_paused(&route) == Some(true));
            self.status.levels.set(&route, |level| {
                level.usage = Usage { waiting, dead, bytes: 0 };
                level.oldest = age;
            });
            let mut levels = self.levels.borrow_mut();
            let level = levels.entry(Arc::clone(&route)).or_default();
            (level.waiting, level.dead) = (waiting, dead);
            level.warn(&route, percent);
        }
        Ok(())
    }
}

/// The spool, on the thread that talks to the servers.
#[derive(Clone)]
pub(super) struct Spool(Rc<Shared>);

impl Spool {
    /// Begins to pull. Ends with the dispatcher.
    pub(super) fn start(client: Client, plan: Plan, status: Arc<Status>) -> Self {
        let Plan { wanted, patience, pulled, demands } = plan;
        let now = Instant::now();
        let shared = Rc::new(Shared {
            client,
            wanted,
            told: Told::default(),
            patience,
            found: Mutex::default(),
            next_look: Cell::new(now),
            pulled,
            knows_pauses: Cell::new(false),
            levels: RefCell::default(),
            is_failing: Cell::new(false),
            next_put: Cell::new(now),
            demands,
            host: format!("{:016x}", fastrand::u64(..)),
            host_name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            turns: RefCell::default(),
            waits: Cell::new(0),
            status,
        });
        drop(spawn_local(lane::keep(Rc::clone(&shared))));
        drop(spawn_local(Rc::clone(&shared).look()));
        Self(shared)
    }

    /// Stores a delivery.
    pub(super) async fn put(&self, message: &Message, max_entries: u64) -> Spooled {
        self.0.put(message, max_entries).await
    }

    /// Answers an operator.
    pub(super) async fn answer(&self, command: &Command) -> Answer {
        let Some(streams) = self.0.streams().await else {
            let is_connected = self.0.client.connection_state() == State::Connected;
            return questions::without_streams(command, self.0.status.problem().filter(|_| is_connected));
        };
        match questions::answer(&self.0, &streams, command).await {
            Ok(answer) => answer,
            Err(error) => Answer::Error(format!("the NATS servers of the fleet gave no answer: {error}")),
        }
    }
}
