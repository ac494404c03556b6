//! The memory of deliveries over a restart, as the data plane uses it: what a handler took is on the disk before its sender hears of it.
//!
//! Workers hand over, and await the answer of the one thread that writes; they wait for no lock and no disk. Owns the queue, its bound, and
//! what a failure means for a request. Must not decide what a copy is: `core::auth::replay` does, in memory, as without a disk. Every
//! operation on the file is in `database`.

mod database;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hookgate_core::auth::KeptDelivery;
use hookgate_io::timer::timeout;
use tokio::sync::{mpsc, oneshot};

pub use self::database::{Database, DatabaseError, Opened};
use crate::config::OnStateFailure;
use crate::metrics::kept as metrics;

/// Most deliveries that wait to be written. One takes some 200 bytes.
const QUEUE: usize = 4096;

/// Most deliveries of one transaction, which is one sync of the disk.
const BATCH: usize = 1024;

/// How long a request waits for the disk. Handlers are given seconds, and a healthy disk takes milliseconds.
const LIMIT: Duration = Duration::from_secs(5);

/// What a worker hands over.
struct Entry {
    deliveries: Vec<KeptDelivery>,
    stored: oneshot::Sender<bool>,
}

/// A delivery could not be written, so a restart may forget it, and its sender must not hear that it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotStored;

/// Where workers keep what handlers took.
#[derive(Debug)]
pub struct DeliveryStore {
    queue: mpsc::Sender<Entry>,
    failing: Arc<AtomicBool>,
    on_failure: OnStateFailure,
}

/// The other end: what the writing thread takes from.
#[derive(Debug)]
pub struct Unwritten {
    queue: mpsc::Receiver<Entry>,
    failing: Arc<AtomicBool>,
}

impl DeliveryStore {
    /// A store, and what its thread runs ([`Unwritten::write_to`]).
    #[must_use]
    pub fn new(on_failure: OnStateFailure) -> (Self, Unwritten) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let failing = Arc::new(AtomicBool::new(false));
        (Self { queue: sender, failing: Arc::clone(&failing), on_failure }, Unwritten { queue, failing })
    }

    /// Whether a delivery must be refused before its handler sees it, because the last write failed. Looks at one atomic.
    pub fn refuses(&self) -> bool {
        self.on_failure == OnStateFailure::Refuse && self.failing.load(Ordering::Relaxed)
    }

    /// Keeps a delivery that the handler took, and returns when it survives a power failure.
    ///
    /// # Errors
    ///
    /// It was not written, and `on_state_failure` is `refuse`.
    pub async fn keep(&self, deliveries: Vec<KeptDelivery>) -> Result<(), NotStored> {
        let (stored, outcome) = oneshot::channel();
        let queued = self.queue.try_send(Entry { deliveries, stored }).is_ok();
        let is_stored = queued && matches!(timeout(LIMIT, outcome).await, Ok(Ok(true)));
        if is_stored {
            return Ok(());
        }
        metrics::not_kept();
        match self.on_failure {
            OnStateFailure::Refuse => Err(NotStored),
            OnStateFailure::Admit => Ok(()),
        }
    }

    /// Lets the thread try the disk again, if the last write failed. Call it from the control thread, every now and then.
    pub fn retry(&self) {
        if self.failing.load(Ordering::Relaxed) {
            let (stored, _) = oneshot::channel();
            // If the queue is full, the thread tries anyway.
            drop(self.queue.try_send(Entry { deliveries: Vec::new(), stored }));
        }
    }
}

impl Unwritten {
    /// Writes what arrives until every [`DeliveryStore`] is gone. Blocks: run it on a thread of its own.
    pub fn write_to(mut self, mut database: Database) {
        let mut batch = Vec::with_capacity(BATCH);
        while self.queue.blocking_recv_many(&mut batch, BATCH) > 0 {
            let deliveries: Vec<KeptDelivery> = batch.iter().flat_map(|entry| &entry.deliveries).copied().collect();
            let outcome = database.store(&deliveries);
            let failed = outcome.is_err();
            let failed_before = self.failing.swap(failed, Ordering::Relaxed);
            metrics::written(deliveries.len(), failed);
            match outcome {
                Err(error) if !failed_before => {
                    tracing::error!(%error, "deliveries cannot be kept; see on_state_failure in [state]");
                }
                Ok(()) if failed_before => tracing::info!("deliveries are kept again"),
                Ok(()) | Err(_) => {}
            }
            for entry in batch.drain(..) {
                // The request may have ended.
                let _ = entry.stored.send(!failed);
            }
        }
    }
}

#[cfg(test)]
mod tests;
