//! A worker: one thread, pinned to a core, with everything that its connections need.
//!
//! Owns the runtime of the thread, the deadline sweep, and what its connections share. Common to all workers are the snapshot, the
//! verified-chain cache, the metrics and the counts of connections, none of which blocks. What goes from one worker to another is a
//! connection of which no byte has been read ([`crate::accept::spread`]); from then on it never leaves its worker.

pub(crate) mod connection;
pub mod deadline;
pub mod io;
mod run;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use hyper::header::HeaderValue;

use crate::accept::spread::{Place, Siblings};
use crate::metrics::Meters;
use crate::snapshot::Snapshot;
use crate::upstream::Upstream;
use deadline::Sweep;
use io::Backend;

use run::Slot;
pub use run::{CUT_GRACE, Command, Plan, WorkerThread, start};

/// Refusals that a worker writes to the log in one second; more are only counted, so that a flood of bad handshakes does not
/// become a flood of log lines. The number of those left out is logged.
const LOGGED_REFUSALS_PER_SECOND: u32 = 50;

/// Hexadecimal digits of a request id: 128 bits.
const REQUEST_ID_DIGITS: usize = 32;

/// Request ids that are made at once, in one allocation that lives as long as any of them: 1 KiB.
const REQUEST_IDS_AT_ONCE: usize = 32;

/// What the connections of one worker share.
pub struct Worker {
    snapshot: Arc<ArcSwap<Snapshot>>,
    backend: Backend,
    /// All workers of this process, and how many connections each has.
    pub(crate) siblings: Siblings,
    /// Deadlines, and the coarse clock.
    pub sweep: Rc<Sweep>,
    /// What is counted.
    pub meters: Meters,
    /// The handlers.
    pub upstream: Upstream,
    /// Bytes of request bodies held now.
    pub buffered_bytes: Cell<usize>,
    draining: Cell<bool>,
    random: RefCell<fastrand::Rng>,
    /// Ids that were made and not given out yet, one after the other.
    request_ids: RefCell<Bytes>,
    refusals: Cell<RefusalLog>,
    no_label: Arc<str>,
}

#[derive(Clone, Copy, Default)]
struct RefusalLog {
    second: u64,
    logged: u32,
    left_out: u32,
}

impl Worker {
    fn new(backend: Backend, snapshot: Arc<ArcSwap<Snapshot>>, siblings: Siblings) -> Rc<Self> {
        let sweep = Sweep::new();
        Rc::new(Self {
            snapshot,
            backend,
            siblings,
            upstream: Upstream::new(backend, Rc::clone(&sweep)),
            sweep,
            meters: Meters::new(),
            buffered_bytes: Cell::new(0),
            draining: Cell::new(false),
            random: RefCell::new(fastrand::Rng::new()),
            request_ids: RefCell::default(),
            refusals: Cell::default(),
            no_label: Arc::from(""),
        })
    }

    /// The snapshot that is current now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Workers of this process, this one included: what a limit over all workers is divided by.
    pub fn siblings(&self) -> usize {
        self.siblings.count()
    }

    /// Connections open now.
    pub fn connections(&self) -> usize {
        self.siblings.own().connections()
    }

    /// Makes a slot of a place in this worker's count.
    pub(crate) fn slot(self: &Rc<Self>, place: Place) -> Slot {
        Slot::new(self, place)
    }

    /// Whether the process is about to end: no connection outlives its next answer.
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// The label of what has no name.
    pub fn no_label(&self) -> Arc<str> {
        Arc::clone(&self.no_label)
    }

    /// A new request id: 128 random bits in hexadecimal. Unique, not secret.
    pub fn request_id(&self) -> HeaderValue {
        let mut ids = self.request_ids.borrow_mut();
        if ids.is_empty() {
            let mut random = self.random.borrow_mut();
            let bits: Vec<u8> = (0..REQUEST_IDS_AT_ONCE).flat_map(|_| random.u128(..).to_be_bytes()).collect();
            *ids = Bytes::from(data_encoding::HEXLOWER.encode(&bits));
        }
        // Hexadecimal digits are fit for a field.
        let id = ids.split_to(REQUEST_ID_DIGITS);
        HeaderValue::from_maybe_shared(id).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
    }

    /// Runs `write`, which logs one refusal, unless enough were logged in this second.
    pub fn log_refusal(&self, write: impl FnOnce()) {
        let second = self.sweep.now().as_secs();
        let mut log = self.refusals.get();
        if log.second != second {
            if log.left_out > 0 {
                tracing::warn!(
                    count = log.left_out,
                    "refusals left out of the log, which takes {LOGGED_REFUSALS_PER_SECOND} a second"
                );
            }
            log = RefusalLog { second, ..RefusalLog::default() };
        }
        if log.logged < LOGGED_REFUSALS_PER_SECOND {
            log.logged += 1;
            write();
        } else {
            log.left_out += 1;
        }
        self.refusals.set(log);
    }
}
