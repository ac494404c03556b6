//! The thread that talks to the NATS servers: its connection, and the bucket.
//!
//! Owns the reconnection, what is wanted of the bucket, and the order of works: each runs by itself, so that a slow one holds no other up. Must
//! not know requests.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::jetstream::stream::Config;
use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::{LocalSet, spawn_local};

use super::memory::{Memory, Outcome};
use super::spool::{Plan, Spool, Status};
use super::stream::{self, Failed, Missing, Told, failed};
use super::{FallsBack, Fleet, Handing, QUEUE, Settings, Work};
use crate::cause::Cause;
use crate::config::{Fallback, FleetSpool};
use crate::metrics::fleet as metrics;

/// How much longer an entry is kept than a rule remembers: clocks differ, and the window begins a moment before the change.
const MARGIN: Duration = Duration::from_secs(60);

/// Works that run at a time.
const AT_ONCE: usize = 1024;

/// How long a connection, and an answer, may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Between two pings on a connection on which nothing arrives. If three have no answer, another server is tried: a host that has lost its power or its
/// network sends no end of the connection, and the 60 s of the crate are minutes in which each delivery gets 503.
const PING: Duration = Duration::from_secs(2);

/// Most different errors of the connection that are said before there is one again. A server may put anything into their texts.
const DETAILS: usize = 16;

/// Between two looks for the bucket.
const PAUSE: Duration = Duration::from_secs(1);

/// Why the thread does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The kernel makes no thread.
    #[error("cannot start the thread that talks to the NATS servers")]
    Thread(#[source] io::Error),
    /// The seed in the file cannot be used.
    #[error("[fleet] credentials cannot be used")]
    Credentials(#[source] io::Error),
    /// An address cannot be used. The configuration file excludes such addresses.
    #[error("an address of [fleet] nats cannot be used")]
    Server(#[source] io::Error),
}

/// The thread, before it is started.
pub struct Prepared {
    works: mpsc::Receiver<Work>,
    options: ConnectOptions,
    servers: Vec<ServerAddr>,
    bucket: String,
    replicas: usize,
    kept: Duration,
    spool: Option<Plan>,
    status: Arc<Status>,
}

/// What [`prepare`] makes.
pub struct Parts {
    /// Where workers ask.
    pub fleet: Arc<Fleet>,
    /// The thread that answers them.
    pub thread: Prepared,
    /// The dispatcher's end of the spool, if the servers have it.
    pub handing: Option<Handing>,
}

/// Where workers ask, and the thread that answers them. Connects to nothing.
///
/// # Errors
///
/// [`StartError`]
pub fn prepare(settings: Settings) -> Result<Parts, StartError> {
    let Settings { fleet, tls, on_failure, paused } = settings;
    let (queue, works) = mpsc::channel(QUEUE);
    let status = Arc::new(Status::new(paused));
    let (told, said) = (Arc::clone(&status), Said::default());
    let mut options = ConnectOptions::new()
        .name("hookgate")
        .tls_client_config(tls)
        .retry_on_initial_connect()
        .connection_timeout(PATIENCE)
        .request_timeout(Some(PATIENCE))
        .ping_interval(PING)
        .event_callback(move |event| {
            heard(&event, &told, &said);
            async {}
        });
    if let Some(credentials) = &fleet.credentials {
        options = options.credentials(credentials).map_err(StartError::Credentials)?;
    }
    let servers = fleet.servers.iter().map(|server| server.parse().map_err(StartError::Server));
    let servers = servers.collect::<Result<_, _>>()?;
    let bucket = format!("hookgate-deliveries-{}", fleet.name);
    let (replicas, kept) = (fleet.replicas, fleet.keep + MARGIN);
    let stores = fleet.spool == FleetSpool::Stream;
    let (spool, handing) = stores.then(|| Plan::new(&fleet.name, fleet.replicas, fleet.max_bytes, PATIENCE)).unzip();
    let falls_back = FallsBack(fleet.fallback == Fallback::Disk);
    let (shown, began) = (Arc::clone(&status), Instant::now());
    let shared = Fleet { queue, on_failure, spool: stores.then_some(falls_back), status: shown, began };
    let thread = Prepared { works, options, servers, bucket, replicas, kept, spool, status };
    Ok(Parts { fleet: Arc::new(shared), thread, handing })
}

impl Prepared {
    /// Starts the thread. It connects, and goes on trying; until then nothing is known of a delivery. It ends when the [`Fleet`] is gone.
    ///
    /// # Errors
    ///
    /// [`StartError::Thread`]
    pub fn start(self) -> Result<(), StartError> {
        let Self { works, options, servers, bucket: name, replicas, kept, spool, status } = self;
        let run = move || -> io::Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            LocalSet::new().block_on(&runtime, async move {
                let client = options.connect(servers).await.map_err(io::Error::other)?;
                let bucket = Bucket {
                    client,
                    name,
                    replicas,
                    kept,
                    found: RefCell::default(),
                    told: Told::default(),
                    is_looking: Cell::default(),
                    looked: Notify::new(),
                    next_look: Cell::new(Instant::now()),
                };
                metrics::connected(bucket.client.connection_state() == State::Connected);
                let spool = spool.map(|plan| Spool::start(bucket.client.clone(), plan, status));
                serve(works, &Rc::new(bucket), spool).await;
                Ok(())
            })
        };
        let logged = move || {
            if let Err(error) = run() {
                let cause = Cause::Gateway.label();
                tracing::error!(%error, cause, "the thread that talks to the NATS servers has ended; restart hookgate");
            }
        };
        // The thread is not waited for: each request has its answer before the process ends.
        drop(thread::Builder::new().name("fleet".to_owned()).spawn(logged).map_err(StartError::Thread)?);
        Ok(())
    }
}

/// What was said since the last connection: each try without servers ends with the same error, some twenty in ten seconds.
#[derive(Default)]
struct Said(Mutex<BTreeSet<String>>);

impl Said {
    /// Whether this is not said yet. After [`DETAILS`] different ones, nothing is.
    fn is_new(&self, detail: &str) -> bool {
        let mut said = self.details();
        said.len() < DETAILS && said.insert(detail.to_owned())
    }

    fn forget(&self) {
        self.details().clear();
    }

    fn details(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells what happens to the connection.
fn heard(event: &Event, status: &Status, said: &Said) {
    let cause = Cause::Gateway.label();
    match event {
        Event::Connected => {
            said.forget();
            metrics::connected(true);
            status.is_connected.store(true, Ordering::Relaxed);
            tracing::info!(cause, "connected to a NATS server of the fleet");
        }
        Event::Disconnected | Event::Closed => {
            status.stores.store(false, Ordering::Relaxed);
            status.is_connected.store(false, Ordering::Relaxed);
            metrics::connected(false);
            tracing::error!(cause, "no connection to the NATS servers of the fleet; it is tried again");
        }
        other => {
            let detail = other.to_string();
            if !said.is_new(&detail) {
                return;
            }
            if is_refusal(&detail) {
                tracing::error!(
                    cause,
                    detail,
                    "the NATS servers refuse this host; correct credentials or certificate in [fleet], and restart hookgate"
                );
            } else {
                tracing::warn!(cause, detail, "the NATS servers of the fleet");
            }
        }
    }
}

/// Whether a server does not admit this host. The client passes these errors on as texts: that it refuses a connection, and that it ends one.
fn is_refusal(detail: &str) -> bool {
    let detail = detail.to_ascii_lowercase();
    ["authorization violation", "authentication expired", "authentication revoked"]
        .iter()
        .any(|text| detail.contains(text))
}

/// Does the works, until the [`Fleet`] is gone.
async fn serve(mut works: mpsc::Receiver<Work>, bucket: &Rc<Bucket>, spool: Option<Spool>) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    while let Some(work) = works.recv().await {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let spool = spool.clone();
        if work.is_about_spool() {
            drop(spawn_local(async move {
                work.stored(spool).await;
                drop(place);
            }));
            continue;
        }
        let bucket = Rc::clone(bucket);
        drop(spawn_local(async move {
            let memory = bucket.memory().await;
            if let Err(error) = work.done(memory).await {
                let cause = Cause::Gateway.label();
                tracing::warn!(%error, cause, "the NATS servers of the fleet gave no answer");
                bucket.look();
            }
            drop(place);
        }));
    }
    // What was queued last leaves before the process does.
    drop(bucket.client.flush().await);
}

impl Work {
    fn is_about_spool(&self) -> bool {
        matches!(self, Self::Put { .. } | Self::Ask { .. })
    }

    /// Does it with the spool; without one, nothing is known.
    async fn stored(self, spool: Option<Spool>) {
        // Who asked may have left.
        match (self, spool) {
            (Self::Put { message, max_entries, told }, Some(spool)) => {
                let _ = told.send(spool.put(&message, max_entries).await);
            }
            (Self::Ask { command, told }, Some(spool)) => drop(told.send(spool.answer(&command).await)),
            (_, _) => {}
        }
    }

    /// Does it in `memory`; without one, nothing is known.
    async fn done(self, memory: Option<Memory>) -> Result<(), Failed> {
        match (self, memory) {
            (Self::Claim { deliveries, held_for, told }, Some(memory)) => {
                if told.is_closed() {
                    return Ok(());
                }
                let (outcome, error) = split(memory.claim(&deliveries, held_for).await);
                // A request that has given up does not hand the delivery over.
                if let Err(Some(Outcome::Claimed(claimed))) = told.send(outcome) {
                    memory.release(claimed).await;
                }
                error
            }
            (Self::Take { claimed, told }, Some(memory)) => {
                let (taken, error) = split(memory.take(&claimed).await);
                // A request that has given up does not hear it.
                let _ = told.send(taken.is_some());
                error
            }
            (Self::Release { claimed }, Some(memory)) => {
                memory.release(claimed).await;
                Ok(())
            }
            // Dropping the channel tells that nothing is known.
            (Self::Claim { .. } | Self::Take { .. } | Self::Release { .. }, None)
            | (Self::Put { .. } | Self::Ask { .. }, _) => Ok(()),
        }
    }
}

/// What the request is told, and what the log is.
fn split<T>(result: Result<T, Failed>) -> (Option<T>, Result<(), Failed>) {
    match result {
        Ok(value) => (Some(value), Ok(())),
        Err(error) => (None, Err(error)),
    }
}

/// The bucket of the fleet. It is looked for when it is needed first, and after a failure: the servers may have lost it.
struct Bucket {
    client: Client,
    name: String,
    replicas: usize,
    /// How long an entry is kept after its last change.
    kept: Duration,
    found: RefCell<Option<Memory>>,
    told: Told,
    /// Whether it is looked for now. Works with a bucket go on meanwhile, and the others wait.
    is_looking: Cell<bool>,
    looked: Notify,
    /// When it may be looked for again.
    next_look: Cell<Instant>,
}

impl Bucket {
    /// The bucket; `None` if it cannot be had now, which is logged.
    async fn memory(self: &Rc<Self>) -> Option<Memory> {
        // Without a connection, every answer would take as long as a request waits.
        if self.client.connection_state() != State::Connected {
            return None;
        }
        if self.found.borrow().is_none() {
            self.look();
        }
        while self.found.borrow().is_none() && self.is_looking.get() {
            self.looked.notified().await;
        }
        self.found.borrow().clone()
    }

    /// Begins to look for it, unless it is looked for now or was a moment ago.
    fn look(self: &Rc<Self>) {
        if self.is_looking.get() || Instant::now() < self.next_look.get() {
            return;
        }
        self.is_looking.set(true);
        let bucket = Rc::clone(self);
        drop(spawn_local(async move {
            let found = bucket.find().await;
            bucket.keep(found);
            bucket.next_look.set(Instant::now() + PAUSE);
            bucket.is_looking.set(false);
            bucket.looked.notify_waiters();
        }));
    }

    fn keep(&self, found: Result<Memory, Missing>) {
        let mut kept = self.found.borrow_mut();
        let error = match found {
            Ok(memory) => {
                *kept = Some(memory);
                return;
            }
            // It may be there as before.
            Err(Missing::NoAnswer(_)) if kept.is_some() => return,
            Err(missing) => missing.to_string(),
        };
        *kept = None;
        let cause = Cause::Gateway.label();
        tracing::error!(bucket = self.name, error, cause, "the memory of the fleet cannot be used");
    }

    /// Finds the stream of the bucket, or makes it.
    async fn find(&self) -> Result<Memory, Missing> {
        let mut context: Context = jetstream::new(self.client.clone());
        context.set_timeout(PATIENCE);
        let wanted = Config {
            description: Some("hookgate: which deliveries were taken".to_owned()),
            subjects: vec![format!("$KV.{}.>", self.name)],
            max_messages_per_subject: 1,
            max_age: self.kept,
            allow_rollup: true,
            deny_delete: true,
            ..stream::wanted(format!("KV_{}", self.name), self.replicas)
        };
        stream::find(&context, wanted, &self.told).await?;
        let bucket = context.get_key_value(&self.name).await;
        bucket.map(Memory::new).map_err(|error| Missing::NoAnswer(failed(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_connection_is_said_once_until_there_is_one() {
        let (said, status) = (Said::default(), Status::new(None));
        assert!(said.is_new("IO error"));
        for _ in 0..20 {
            assert!(!said.is_new("IO error"));
        }
        let others = (0..100).filter(|number| said.is_new(&number.to_string())).count();
        assert_eq!(others, DETAILS - 1, "a server that says something else each time is heard so often");
        heard(&Event::Disconnected, &status, &said);
        assert!(!said.is_new("IO error"));
        heard(&Event::Connected, &status, &said);
        assert!(said.is_new("IO error") && said.is_new("0"));
    }
}
