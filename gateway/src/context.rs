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
    workers: usize,
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
    no_label: Arc<str>,
}

impl WorkerContext {
    /// The context of one of `workers` workers, which all serve the current value of `snapshot`.
    pub fn new(backend: Backend, snapshot: Arc<ArcSwap<Snapshot>>, workers: usize) -> Rc<Self> {
        Rc::new(Self {
            snapshot,
            backend,
            workers,
            sweep: Sweep::new(),
            strangers: Strangers::new(),
            meters: Meters::new(),
            draining: Cell::new(false),
            random: RefCell::new(fastrand::Rng::new()),
            request_ids: RefCell::default(),
            no_label: Arc::from(""),
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

    /// The empty label.
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
}
