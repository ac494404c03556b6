//! What several hosts share over NATS servers, as the data plane uses it. The memory of deliveries: of several copies of a delivery, at whichever hosts
//! they arrive, one reaches a handler. And the spool: what is stored for a durable route at one host is handed over by any ([`spool`]).
//!
//! Owns what a worker asks and hears, the queue to the one thread that talks to the servers, and what it means if that gives no answer. Workers
//! hand over, and await the answer; none of them connects to anything. The operations are in [`memory`], the connection is in
//! [`connection`]. Must not decide what makes two requests copies: `core::auth::replay` does, and this host's own memory is asked first.
//!
//! A delivery is *claimed* before its handler sees it. Then it is *taken*, or released if the handler failed. A claim whose host has ended
//! expires, so that the sender's next attempt is handled.

mod connection;
mod memory;
mod spool;
mod stream;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hookgate_core::auth::KeptDelivery;
use hookgate_io::timer::timeout;
use rustls::ClientConfig;
use tokio::sync::{mpsc, oneshot};

pub use self::connection::{Parts, Prepared, StartError, prepare};
pub use self::memory::Claimed;
pub use self::spool::Outbound;
pub use self::spool::{Demand, Demands, Handing, Pulled, Settling};
use self::spool::{Meta, Status};
use crate::config::OnStateFailure;
use crate::deliveries::{Answer, Command, Levels, NewDelivery, NotStored, Pauses, RequestParts, Spooled, Waiting};
use crate::metrics::fleet as metrics;

/// Most works that wait for the thread. One takes some 200 bytes.
const QUEUE: usize = 4096;

/// How long a request waits for the servers. Handlers are given seconds, and a healthy cluster takes milliseconds.
const LIMIT: Duration = Duration::from_secs(5);

/// What is needed to connect.
pub struct Settings {
    /// `[fleet]`
    pub fleet: crate::config::Fleet,
    /// The TLS of connections to the servers.
    pub tls: ClientConfig,
    /// What becomes of a delivery of which the servers do not tell whether it was taken.
    pub on_failure: OnStateFailure,
    /// The routes that were paused when the servers told an earlier process last; `None` if that is not known.
    pub paused: Option<Pauses>,
}

/// What the servers say of a delivery.
#[derive(Debug)]
pub enum Claim {
    /// It is this request's.
    Made(Held),
    /// A copy was taken before.
    Taken,
    /// A copy is with a handler now.
    InFlight,
    /// They do not say, and `on_state_failure` is `refuse`.
    Unknown,
    /// They do not say, and `on_state_failure` is `admit`.
    Admitted,
}

/// What the thread is asked.
#[derive(Debug)]
enum Work {
    /// Claims all, or none.
    Claim { deliveries: Vec<KeptDelivery>, held_for: Duration, told: oneshot::Sender<Option<memory::Outcome>> },
    /// Marks all as taken.
    Take { claimed: Vec<Claimed>, told: oneshot::Sender<bool> },
    /// Lets the next copy be handled.
    Release { claimed: Vec<Claimed> },
    /// Stores a delivery.
    Put { message: Box<Outbound>, max_entries: u64, told: oneshot::Sender<Spooled> },
    /// Answers an operator.
    Ask { command: Command, told: oneshot::Sender<Answer> },
}

/// Where workers ask.
#[derive(Debug)]
pub struct Fleet {
    queue: mpsc::Sender<Work>,
    on_failure: OnStateFailure,
    /// Whether deliveries of durable routes are stored here, and if so, whether the disk takes over when the servers do not.
    spool: Option<FallsBack>,
    status: Arc<Status>,
    /// When this was made.
    began: Instant,
}

/// What is known of the servers, for the status page.
#[derive(Clone, Debug)]
pub struct Overview {
    /// Whether there is a connection to one.
    pub is_connected: bool,
    /// Why the spool cannot be used; `None` if it can, as far as is known.
    pub problem: Option<String>,
    /// What they store of each route, and how much of the bytes of the stream is used, in percent; `None` if they store no deliveries.
    pub spool: Option<(Levels, u64)>,
}

/// Whether the disk takes over when the servers store nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FallsBack(bool);

impl Fleet {
    /// Whether deliveries of durable routes are stored here.
    pub fn has_spool(&self) -> bool {
        self.spool.is_some()
    }

    /// Whether the disk takes over when the servers store nothing.
    pub fn falls_back(&self) -> bool {
        self.spool == Some(FallsBack(true))
    }

    /// Whether the servers store deliveries, as far as is known.
    pub fn is_storing(&self) -> bool {
        self.status.stores.load(Ordering::Relaxed)
    }

    /// The routes that were paused when the servers told last; `None` if that is not known.
    pub fn paused(&self) -> Option<Pauses> {
        self.status.paused()
    }

    /// Whether what waits on the disk of this host may be handed over without the servers: the route was not paused when they told last. Not at the start,
    /// as they may tell more at once, and not if they have never told.
    pub fn may_hand_over(&self, route: &str) -> bool {
        self.began.elapsed() >= LIMIT && self.status.is_paused(route) == Some(false)
    }

    /// What is known of the servers.
    pub fn overview(&self) -> Overview {
        let Status { is_connected, levels, filled_percent, .. } = &*self.status;
        Overview {
            is_connected: is_connected.load(Ordering::Relaxed),
            problem: self.status.problem(),
            spool: self.has_spool().then(|| (levels.clone(), filled_percent.load(Ordering::Relaxed))),
        }
    }

    /// A delivery that has passed every check, as the servers get it.
    ///
    /// # Errors
    ///
    /// Why they do not take it: it is too long.
    pub fn outbound(&self, delivery: &NewDelivery) -> Result<Outbound, String> {
        self.fitting(Outbound::new(Meta::of_new(delivery), &delivery.request))
    }

    fn fitting(&self, message: Outbound) -> Result<Outbound, String> {
        let (bytes, most) = (message.bytes(), self.status.max_payload.load(Ordering::Relaxed));
        match bytes <= most {
            true => Ok(message),
            false => Err(format!("The delivery has {bytes} bytes, and the NATS servers take {most} (max_payload).")),
        }
    }

    /// Stores a delivery, if there are fewer than `max_entries` of its route. After [`Spooled::Stored`] it is on the servers, with as many copies as the
    /// stream has.
    pub async fn store(&self, message: Outbound, max_entries: u64) -> Spooled {
        let message = Box::new(message);
        self.ask(|told| Work::Put { message, max_entries, told }).await.unwrap_or(Spooled::Failed)
    }

    /// Stores a delivery that has waited on the disk of this host; `None` if it is longer than the servers take.
    pub async fn store_waiting(&self, waiting: &Waiting, request: &RequestParts) -> Option<Spooled> {
        let proof = request.fields.get("x-hookgate-proof").and_then(|proof| proof.to_str().ok()).unwrap_or_default();
        let message = self.fitting(Outbound::new(Meta::of_waiting(waiting, proof), request)).ok()?;
        // It has counted when it was accepted.
        Some(self.store(message, u64::MAX).await)
    }

    /// Answers an operator's question about what the servers store.
    pub async fn ask_stored(&self, command: Command) -> Answer {
        let (told, answer) = oneshot::channel();
        let gone = || Answer::Error("hookgate ends; ask again when it runs".to_owned());
        match self.queue.send(Work::Ask { command, told }).await {
            Ok(()) => answer.await.unwrap_or_else(|_| gone()),
            Err(_) => gone(),
        }
    }

    /// Claims a delivery, which has one or more ids. `held_for` bounds how long its handler may take; after that, another host may claim it.
    pub async fn claim(&self, deliveries: Vec<KeptDelivery>, held_for: Duration) -> Claim {
        let began = Instant::now();
        let outcome = self.ask(|told| Work::Claim { deliveries, held_for, told }).await.flatten();
        let (claim, result) = match outcome {
            Some(memory::Outcome::Claimed(claimed)) => {
                (Claim::Made(Held { claimed, queue: self.queue.clone() }), "made")
            }
            Some(memory::Outcome::Taken) => (Claim::Taken, "taken"),
            Some(memory::Outcome::InFlight) => (Claim::InFlight, "in_flight"),
            None if self.on_failure == OnStateFailure::Admit => (Claim::Admitted, "failed"),
            None => (Claim::Unknown, "failed"),
        };
        metrics::claimed(result, began.elapsed());
        claim
    }

    /// Marks a delivery as taken, and returns when the servers have stored that.
    ///
    /// # Errors
    ///
    /// They did not say so, and `on_state_failure` is `refuse`.
    pub async fn take(&self, mut held: Held) -> Result<(), NotStored> {
        let claimed = std::mem::take(&mut held.claimed);
        let is_stored = self.ask(|told| Work::Take { claimed, told }).await == Some(true);
        metrics::taken(is_stored);
        if is_stored || self.on_failure == OnStateFailure::Admit { Ok(()) } else { Err(NotStored) }
    }

    /// What the thread answers; `None` if it gives no answer in time, or has too much to do.
    async fn ask<T>(&self, work: impl FnOnce(oneshot::Sender<T>) -> Work) -> Option<T> {
        let (told, answer) = oneshot::channel();
        self.queue.try_send(work(told)).ok()?;
        timeout(LIMIT, answer).await.ok()?.ok()
    }
}

/// A delivery that is claimed. When it is dropped, it is released.
#[derive(Debug)]
#[must_use = "when it is dropped, the delivery counts as not taken"]
pub struct Held {
    claimed: Vec<Claimed>,
    queue: mpsc::Sender<Work>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let claimed = std::mem::take(&mut self.claimed);
        if !claimed.is_empty() {
            // If the queue is full, the claim expires.
            drop(self.queue.try_send(Work::Release { claimed }));
        }
    }
}
