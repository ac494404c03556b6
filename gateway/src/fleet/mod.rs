//! The memory of deliveries that several hosts share, as the data plane uses it: of several copies of a delivery, at whichever hosts they
//! arrive, one reaches a handler.
//!
//! Owns what a worker asks and hears, the queue to the one thread that talks to the servers, and what it means if that gives no answer. Workers
//! hand over, and await the answer; none of them connects to anything. The operations are in [`memory`], the connection is in
//! [`connection`]. Must not decide what makes two requests copies: `core::auth::replay` does, and this host's own memory is asked first.
//!
//! A delivery is *claimed* before its handler sees it. Then it is *taken*, or released if the handler failed. A claim whose host has ended
//! expires, so that the sender's next attempt is handled.

mod connection;
mod memory;

use std::time::{Duration, Instant};

use hookgate_core::auth::KeptDelivery;
use hookgate_io::timer::timeout;
use rustls::ClientConfig;
use tokio::sync::{mpsc, oneshot};

pub use self::connection::{Prepared, StartError, prepare};
pub use self::memory::Claimed;
use crate::config::OnStateFailure;
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

/// The taking of a delivery is not known to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotStored;

/// What the thread is asked.
#[derive(Debug)]
enum Work {
    /// Claims all, or none.
    Claim { deliveries: Vec<KeptDelivery>, held_for: Duration, told: oneshot::Sender<Option<memory::Outcome>> },
    /// Marks all as taken.
    Take { claimed: Vec<Claimed>, told: oneshot::Sender<bool> },
    /// Lets the next copy be handled.
    Release { claimed: Vec<Claimed> },
}

/// Where workers ask.
#[derive(Debug)]
pub struct Fleet {
    queue: mpsc::Sender<Work>,
    on_failure: OnStateFailure,
}

impl Fleet {
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
