//! What the rooms of one worker share: the current snapshot, the clock, the meters, and request ids.
//!
//! Stands below `accept`, `http` and `worker`, which all hold it. Must not know connections, listeners or handlers.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use hookgate_io::Backend;
use hookgate_io::sweep::Sweep;
use hyper::header::HeaderValue;
use rustls_pki_types::UnixTime;

use crate::metrics::Meters;
use crate::snapshot::Snapshot;
use crate::strangers::Strangers;

/// Hexadecimal digits of a request id: 128 bits.
const REQUEST_ID_DIGITS: usize = 32;

/// Request ids made in one batch, in one allocation of 1 KiB that lives as long as any of them.
const REQUEST_IDS_AT_ONCE: usize = 32;

/// What the rooms of one worker share.
pub struct WorkerContext {
    snapshot: Arc<ArcSwap<Snapshot>>,
    backend: Backend,
    index: usize,
    workers: usize,
    /// Answered requests since the last one that the log has an event for.
    unsampled: Cell<u32>,
    /// Deadlines, and the coarse clock.
    pub sweep: Rc<Sweep>,
    /// The connections that are not admitted.
    pub strangers: Rc<Strangers>,
    /// What is counted.
    pub meters: Meters,
    draining: Cell<bool>,
    random: RefCell<fastrand::Rng>,
    /// Ids that were made and not used yet, one after the other.
    request_ids: RefCell<Bytes>,
}

impl WorkerContext {
    /// The context of the worker `index` of `workers` workers, which all serve the current value of `snapshot`.
    pub fn new(backend: Backend, snapshot: Arc<ArcSwap<Snapshot>>, (index, workers): (usize, usize)) -> Rc<Self> {
        Rc::new(Self {
            snapshot,
            backend,
            index,
            workers,
            unsampled: Cell::new(0),
            sweep: Sweep::new(),
            strangers: Strangers::new(),
            meters: Meters::new(),
            draining: Cell::new(false),
            random: RefCell::new(fastrand::Rng::new()),
            request_ids: RefCell::default(),
        })
    }

    /// The current snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The I/O backend of this worker.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// The number of this worker, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Whether an answered request is the one of `sample` that the log has an event for: the first, and then each `sample`-th.
    pub fn is_sampled(&self, sample: u32) -> bool {
        let passed = self.unsampled.get();
        let is_sampled = passed == 0 || passed >= sample;
        self.unsampled.set(if is_sampled { 1 } else { passed + 1 });
        is_sampled
    }

    /// Workers of this process, this one included. A limit over all workers is divided by it.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Wall-clock time in whole seconds, behind by at most [`hookgate_io::sweep::SWEEP_INTERVAL`] and a second.
    pub fn now(&self) -> UnixTime {
        UnixTime::since_unix_epoch(self.sweep.unix_time())
    }

    /// Begins the drain: from now on no connection outlives its next answer.
    pub fn begin_drain(&self) {
        self.draining.set(true);
    }

    /// Whether the process drains: no connection outlives its next answer.
    pub fn is_draining(&self) -> bool {
        self.draining.get()
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
}
