//! A worker: one thread, pinned to a core, with everything that its connections need.
//!
//! Owns the life of the thread: start, serve, drain; and the way of a connection through the stages (`connection`). Workers
//! share the snapshot, the verified-chain cache, the metrics and the counts of connections. A connection changes workers at most
//! once, before a byte of it is read ([`crate::accept::spread`]).

mod connection;

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rustix::io::Errno;
use rustix::thread::CpuSet;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle as Task, spawn_local};

use hookgate_io::memory::{RETURN_INTERVAL, return_unused};
use hookgate_io::sweep::SWEEP_INTERVAL;
use hookgate_io::timer::{sleep, timeout};
use hookgate_io::{Backend, Listener, Listening, TurnEnd, block_on};

use crate::accept::Acceptor;
use crate::accept::spread::{Inbox, Siblings, Tally};
use crate::context::WorkerContext;
pub use crate::http::Places;
use crate::http::Server;
use crate::snapshot::Snapshot;

/// How long idle connections stay open after the start of a drain: a request in transit is answered, with `Connection: close`.
const DRAIN_GRACE: Duration = Duration::from_secs(1);

/// Interval at which a draining worker checks whether it is done.
const DRAIN_POLL: Duration = Duration::from_millis(20);

/// How long connections that are cut at the end of a drain may take to end.
pub const CUT_GRACE: Duration = Duration::from_secs(2);

/// What the control thread tells its workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Serve the current snapshot, of this generation.
    Serve(u64),
    /// Stop accepting, finish the requests in flight, end.
    Drain,
    /// End now.
    Stop,
}

/// What a worker needs to start.
pub struct Plan {
    /// Which worker this is, and which others there are.
    pub siblings: Siblings,
    /// Connections that the others hand over.
    pub inbox: Inbox,
    /// The core to run on; `None` leaves the choice to the scheduler.
    pub core: Option<usize>,
    /// The I/O backend, known to work.
    pub backend: Backend,
    /// The listening sockets that the worker serves.
    pub listeners: Vec<Listening>,
    /// Where the current snapshot is.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The places of the handlers, which all workers share.
    pub places: Arc<Places>,
    /// Where commands come from.
    pub commands: watch::Receiver<Command>,
}

/// A running worker.
pub struct WorkerThread {
    handle: JoinHandle<io::Result<()>>,
    rounds: Arc<AtomicU64>,
    tally: Arc<Tally>,
}

impl WorkerThread {
    /// Whether the thread has ended.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// Rounds of the deadline sweep since the start: one every [`SWEEP_INTERVAL`] while the worker lives.
    pub fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }

    /// Connections that it has now.
    pub fn connections(&self) -> usize {
        self.tally.connections()
    }

    /// Waits for the end of the thread.
    ///
    /// # Errors
    ///
    /// Why it could not start, or that it panicked.
    pub fn join(self) -> io::Result<()> {
        self.handle.join().unwrap_or_else(|_| Err(io::Error::other("a worker thread panicked")))
    }
}

/// Starts a worker thread.
///
/// # Errors
///
/// If the system has no thread. [`WorkerThread::join`] returns what fails within the thread.
pub fn start(plan: Plan) -> io::Result<WorkerThread> {
    let name = format!("worker-{}", plan.siblings.index());
    let tally = Arc::clone(plan.siblings.own());
    let rounds = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&rounds);
    let handle = thread::Builder::new().name(name).spawn(move || {
        if let Some(core) = plan.core {
            pin(core);
        }
        block_on(plan.backend, serve(plan, counted))?
    })?;
    Ok(WorkerThread { handle, rounds, tally })
}

fn pin(core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core);
    match rustix::thread::sched_setaffinity(None, &cores) {
        Ok(()) => {}
        Err(Errno::PERM) => {
            tracing::info!(core, "worker not pinned: the system call filter does not allow sched_setaffinity")
        }
        // The core may have gone offline since it was listed.
        Err(error) => tracing::warn!(core, %error, "worker not pinned"),
    }
}

/// What runs on the thread.
struct Worker {
    context: Rc<WorkerContext>,
    server: Rc<Server>,
    acceptor: Rc<Acceptor>,
}

impl Worker {
    fn new(backend: Backend, snapshot: Arc<ArcSwap<Snapshot>>, siblings: Siblings, places: Arc<Places>) -> Self {
        let context = WorkerContext::new(backend, snapshot, (siblings.index(), siblings.count()));
        let server = Server::new(Rc::clone(&context), places);
        let serve = {
            let server = Rc::clone(&server);
            Box::new(move |arrival| {
                spawn_local(connection::receive(Rc::clone(&server), arrival));
            })
        };
        let acceptor = Acceptor::new(Rc::clone(&context), siblings, serve);
        Self { context, server, acceptor }
    }
}

async fn serve(plan: Plan, rounds: Arc<AtomicU64>) -> io::Result<()> {
    let worker = Worker::new(plan.backend, plan.snapshot, plan.siblings, plan.places);
    let mut commands = plan.commands;
    spawn_local(sweep(Rc::clone(&worker.context), rounds));
    let (strangers, end_of_turn) = (Rc::clone(&worker.context.strangers), TurnEnd::new(plan.backend)?);
    spawn_local(async move { strangers.give_turns(end_of_turn).await });
    let mut listeners = Vec::with_capacity(plan.listeners.len());
    for Listening { descriptor, queued } in plan.listeners {
        listeners.push(Rc::new(Listener::new(plan.backend, descriptor, queued)?));
    }
    let accept = |listener| spawn_local(Rc::clone(&worker.acceptor).run(Rc::clone(listener)));
    let mut accepting: Vec<_> = listeners.iter().map(accept).collect();
    let closing = Rc::new(Notify::new());
    accepting.push(spawn_local(Rc::clone(&worker.acceptor).take_over(plan.inbox, Rc::clone(&closing))));
    let command = loop {
        let command = *commands.borrow_and_update();
        match command {
            Command::Serve(_) => worker.server.upstream().retain(&worker.context.snapshot().routes),
            Command::Drain | Command::Stop => break command,
        }
        // The control thread has ended, so the worker must too.
        if commands.changed().await.is_err() {
            break Command::Stop;
        }
    };
    worker.context.begin_drain();
    listeners.iter().for_each(|listener| listener.stop());
    // Siblings that do not drain yet keep what they accept; what they have handed over is served here.
    closing.notify_one();
    finish_accepting(accepting).await;
    drop(listeners);
    if command == Command::Drain {
        drain(&worker, &mut commands).await;
    }
    cut(&worker).await;
    Ok(())
}

async fn sweep(context: Rc<WorkerContext>, rounds: Arc<AtomicU64>) {
    let mut next_return = RETURN_INTERVAL;
    loop {
        let began = Instant::now();
        context.sweep.run();
        if context.sweep.coarse() >= next_return {
            return_unused();
            next_return = context.sweep.coarse() + RETURN_INTERVAL;
        }
        rounds.fetch_add(1, Ordering::Relaxed);
        // A late round delays the next ones; missed rounds are skipped.
        sleep(SWEEP_INTERVAL.saturating_sub(began.elapsed())).await;
    }
}

async fn finish_accepting(accepting: Vec<Task<()>>) {
    for task in accepting {
        // An accept loop that panicked has nothing more to accept.
        let _ = task.await;
    }
}

/// Waits for the requests in flight, for `drain_timeout_ms` or until told to stop.
async fn drain(worker: &Worker, commands: &mut watch::Receiver<Command>) {
    let timeout = worker.context.snapshot().limits.drain_timeout;
    let done = async {
        sleep_while_busy(worker, DRAIN_GRACE).await;
        while worker.acceptor.connections() > 0 {
            worker.context.sweep.evict(usize::MAX);
            sleep(DRAIN_POLL).await;
        }
    };
    let stopped = commands.wait_for(|command| *command == Command::Stop);
    tokio::select! {
        () = done => {}
        _ = stopped => {}
        () = sleep(timeout) => {
            tracing::warn!(connections = worker.acceptor.connections(), "drain_timeout_ms passed; connections are cut");
        }
    }
}

async fn sleep_while_busy(worker: &Worker, limit: Duration) {
    let _ = timeout(limit, async {
        while worker.acceptor.connections() > 0 {
            sleep(DRAIN_POLL).await;
        }
    })
    .await;
}

/// Cuts the remaining connections and waits for their end, so that the kernel holds no buffer when the runtime is dropped.
async fn cut(worker: &Worker) {
    worker.server.upstream().close();
    worker.context.sweep.shut_down_everything();
    // One more turn: connections to handlers are not counted, and a connection that was accepted or handed over late may not be
    // watched yet.
    sleep(DRAIN_POLL).await;
    worker.context.sweep.shut_down_everything();
    sleep_while_busy(worker, CUT_GRACE).await;
    sleep(DRAIN_POLL).await;
}
