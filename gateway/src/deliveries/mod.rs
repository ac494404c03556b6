//! Deliveries on the disk, as the data plane uses them: what a handler took is on the disk before its sender hears of it, and so is what a
//! durable route will hand over (the spool).
//!
//! Workers hand over, and await the answer of the one thread that writes; they wait for no lock and no disk. Owns the queue, its bounds, and
//! what a failure means for a request. Must not decide what a copy is: `core::auth::replay` does, in memory, as without a disk. Every
//! operation on the file is in `database` and `spool`, and `writer` makes transactions of what waits. Must not hand over: `dispatch` does.

mod command;
mod damage;
mod database;
mod levels;
mod order;
mod pauses;
mod reserve;
mod spool;
mod usage;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hookgate_core::auth::KeptDelivery;
use hookgate_io::timer::timeout;
use tokio::sync::{mpsc, oneshot};

pub use self::command::{Answer, Change, Command, Filter, Listed, PAGE, Selection, Shown};
pub use self::database::{Database, DatabaseError, Opened, Reader};
pub use self::levels::{Level, Levels};
pub use self::order::OrderKey;
pub use self::pauses::Pauses;
pub use self::spool::{Fate, NewDelivery, ReadError, RequestParts, Settled, StoredRequest, Waiting};
pub use self::usage::Usage;
pub use self::usage::{Alarm, WARN_AT};
pub use self::writer::{Changes, Survey, now_ms};
use self::writer::{Question, Work, Write};
pub use crate::config::Durable;
use crate::config::OnStateFailure;
use crate::metrics::kept as metrics;

/// Most works that wait to be written. One takes some 200 bytes, and a body.
const QUEUE: usize = 4096;

/// Most bytes of requests that wait to be stored. Those whose senders have left no longer count against `max_buffered_bytes`.
const QUEUED_BYTES: u64 = 64 * 1024 * 1024;

/// How long a request waits for the disk. Handlers are given seconds, and a healthy disk takes milliseconds.
const LIMIT: Duration = Duration::from_secs(5);

/// A delivery could not be written, so a restart may forget it, and its sender must not hear that it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotStored;

/// What became of a delivery that was to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spooled {
    /// It survives a power failure.
    Stored,
    /// A copy of it was stored, or taken, before.
    Duplicate,
    /// There is no room, because of this bound.
    Full(String),
    /// It is not known to be stored: the disk failed, or was too slow.
    Failed,
}

/// Where workers keep what handlers took, and store what handlers will get.
#[derive(Debug)]
pub struct DeliveryStore {
    queue: mpsc::Sender<Work>,
    queued_bytes: Arc<AtomicU64>,
    failing: Arc<AtomicBool>,
    on_failure: OnStateFailure,
    levels: Levels,
    waiting: Arc<AtomicU64>,
}

/// The other end: what the writing thread takes from.
#[derive(Debug)]
pub struct Unwritten {
    queue: mpsc::Receiver<Work>,
    queued_bytes: Arc<AtomicU64>,
    failing: Arc<AtomicBool>,
    changes: mpsc::UnboundedSender<Change>,
    levels: Levels,
    /// How many deliveries of all routes wait here.
    waiting: Arc<AtomicU64>,
}

impl DeliveryStore {
    /// A store, what its thread runs ([`Unwritten::write_to`]), and where the dispatcher hears of what is stored. The last has an entry for each
    /// row, of which `max_entries` bounds the number.
    #[must_use]
    pub fn new(on_failure: OnStateFailure) -> (Self, Unwritten, Changes) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let (changes, heard) = mpsc::unbounded_channel();
        let failing = Arc::new(AtomicBool::new(false));
        let queued_bytes = Arc::new(AtomicU64::new(0));
        let levels = Levels::default();
        let waiting = Arc::new(AtomicU64::new(0));
        let unwritten = Unwritten {
            queue,
            queued_bytes: Arc::clone(&queued_bytes),
            failing: Arc::clone(&failing),
            changes,
            levels: levels.clone(),
            waiting: Arc::clone(&waiting),
        };
        (Self { queue: sender, queued_bytes, failing, on_failure, levels, waiting }, unwritten, heard)
    }

    /// What is stored of each route, as the metrics tell it.
    pub fn levels(&self) -> &Levels {
        &self.levels
    }

    /// How many deliveries wait on this disk. One counts before its sender hears that it is stored.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Acquire)
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
        let queued = self.queue.try_send(Work::Write(Write::Keep { deliveries, stored })).is_ok();
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

    /// Stores a delivery of a durable route. After [`Spooled::Stored`] it survives a power failure, and so does what makes copies of it
    /// duplicates.
    pub async fn spool(&self, delivery: NewDelivery) -> Spooled {
        let bytes = delivery.bytes();
        let queued = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        let (stored, outcome) = oneshot::channel();
        // One that is larger than all that may wait gets in alone.
        let has_room = queued == 0 || queued.saturating_add(bytes) <= QUEUED_BYTES;
        let write = Write::Spool { delivery: Box::new(delivery), stored };
        let is_queued = has_room && self.queue.try_send(Work::Write(write)).is_ok();
        if !is_queued {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Spooled::Failed;
        }
        match timeout(LIMIT, outcome).await {
            Ok(Ok(spooled)) => spooled,
            Ok(Err(_)) | Err(_) => Spooled::Failed,
        }
    }

    /// Writes the outcome of an attempt. Returns whether it survives a power failure now.
    pub async fn settle(&self, settled: Settled) -> bool {
        let (stored, outcome) = oneshot::channel();
        let write = Write::Settle { settled, stored };
        self.queue.send(Work::Write(write)).await.is_ok() && outcome.await.unwrap_or(false)
    }

    /// What is stored now, for the dispatcher; `None` if it cannot be read.
    pub async fn survey(&self) -> Option<Survey> {
        let (told, survey) = oneshot::channel();
        self.queue.send(Work::Question(Question::Survey { told })).await.ok()?;
        survey.await.ok()?
    }

    /// Answers an operator.
    pub async fn ask(&self, command: Command) -> Answer {
        let (answer, answered) = oneshot::channel();
        let queued = self.queue.send(Work::Question(Question::Operator { command, answer })).await;
        let gone = || Answer::Error("hookgate ends; ask again when it runs".to_owned());
        match queued {
            Ok(()) => answered.await.unwrap_or_else(|_| gone()),
            Err(_) => gone(),
        }
    }

    /// Lets the thread try the disk again, if the last write failed. Call it from the control thread, every now and then.
    pub fn retry(&self) {
        if self.failing.load(Ordering::Relaxed) {
            self.probe();
        }
    }

    /// Lets the thread find out whether it can write.
    pub fn probe(&self) {
        let (stored, _) = oneshot::channel();
        // If the queue is full, the thread tries anyway.
        drop(self.queue.try_send(Work::Write(Write::Keep { deliveries: Vec::new(), stored })));
    }
}

impl std::fmt::Debug for Work {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Work")
    }
}

#[cfg(test)]
mod tests;
