//! Even spread of connections over the workers: how many each has, and how a connection gets from the worker that accepted it to
//! another.
//!
//! The kernel chooses a listener by a hash, or the first thread that asks, and knows nothing of the workers' counts. So a worker that
//! has clearly more connections than another hands over what it accepts, before a byte is read. Owns the counts, the decision, and
//! the queues between workers. Must not accept, serve, or move a connection that is being served.
//!
//! Counts are read and written without a lock, as hints: two workers may choose the same third one at once. Only [`Tally::take`] is
//! exact, because a limit depends on it. Also compiled by `tests/models`, against the atomics of a model checker, so this file names nothing
//! of this crate but `sync`.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::sync::{Notify, mpsc};

use super::sync::atomic::{AtomicUsize, Ordering};

/// Up to this many connections, a worker keeps what it accepts without a look at the others. Short webhooks, of which more are seldom
/// open at once, then cost nothing here, and an uneven spread of so few does no harm.
const KEPT: usize = 16;

/// The least margin, in connections, by which a worker must exceed another to hand one over: two, because a margin of one is
/// unavoidable if the sum cannot be divided.
const LEAST_MARGIN: usize = 2;

/// The margin as a part of the other's connections: 1/16. A smaller one hands over more often (with random arrivals at two workers,
/// one connection in twice the margin); this one leaves room below a fifth for connections that end.
const MARGIN_PART: usize = 16;

/// Connections that may wait for one worker: what a sibling accepts, at 30,000 per second, while this worker waits some milliseconds
/// for a busy core or is in a long turn of its loop. Beyond it the sibling keeps them. Also the most that a hanging worker holds up.
const QUEUE: usize = 256;

/// The number of connections of one worker: those that it serves, and those in transit to it. Alone on its cache lines (x86 fetches two
/// at a time), because every accept writes it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Tally(AtomicUsize);

impl Tally {
    /// The number now.
    pub fn connections(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts one more until the place is dropped; `None` if there are `limit` already.
    pub fn take(self: &Arc<Self>, limit: usize) -> Option<Place> {
        let one_more = |count| (count < limit).then_some(count + 1);
        let counted = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        counted.is_ok().then(|| Place(Arc::clone(self)))
    }
}

/// A connection's place in the count of a worker.
#[derive(Debug)]
pub struct Place(Arc<Tally>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An accepted connection in transit to another worker, where it already counts. Dropping it closes the connection.
#[derive(Debug)]
pub struct Handover {
    /// The socket, not registered with any runtime yet.
    pub descriptor: OwnedFd,
    /// Its place with the receiving worker.
    pub place: Place,
}

/// The connections that siblings hand over to a worker.
#[derive(Debug)]
pub struct Inbox(mpsc::Receiver<Handover>);

impl Inbox {
    /// The next connection; `None` when `closing` was notified and the connections in transit have arrived. From then on siblings keep
    /// what they accept.
    pub async fn next(&mut self, closing: &Notify) -> Option<Handover> {
        loop {
            tokio::select! {
                handover = self.0.recv() => return handover,
                () = closing.notified() => self.0.close(),
            }
        }
    }
}

#[derive(Debug)]
struct Sibling {
    tally: Arc<Tally>,
    outbox: mpsc::Sender<Handover>,
}

/// All workers of the process, as seen by one of them.
#[derive(Debug)]
pub struct Siblings {
    index: usize,
    all: Arc<[Sibling]>,
}

impl Siblings {
    /// The view and the inbox of each of `count` workers, in their order.
    pub fn of(count: usize) -> Vec<(Self, Inbox)> {
        let (outboxes, inboxes): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::channel(QUEUE)).unzip();
        let all: Arc<[Sibling]> =
            outboxes.into_iter().map(|outbox| Sibling { tally: Arc::default(), outbox }).collect();
        let views = (0..count).map(|index| Self { index, all: Arc::clone(&all) });
        views.zip(inboxes.into_iter().map(Inbox)).collect()
    }

    /// The index of this worker, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The number of workers, this one included.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// The connections of this worker.
    pub fn own(&self) -> &Arc<Tally> {
        &self.all[self.index].tally
    }

    /// Hands an accepted connection to a sibling that has clearly fewer. Each worker may have `limit`.
    ///
    /// # Errors
    ///
    /// The connection, if this worker keeps it: no sibling has clearly fewer, or that sibling takes no more now.
    pub fn hand_over(&self, descriptor: OwnedFd, limit: usize) -> Result<(), OwnedFd> {
        let Some((recipient, place)) = self.place(limit) else { return Err(descriptor) };
        // The queue is full if the sibling does not keep up, closed if it drains.
        let sent = self.all[recipient].outbox.try_send(Handover { descriptor, place });
        sent.map_err(|error| error.into_inner().descriptor)
    }

    /// A place with a sibling that has clearly fewer. If another worker took the last place, looks again, at most once per sibling.
    fn place(&self, limit: usize) -> Option<(usize, Place)> {
        for _ in 0..self.count() {
            let counts = self.all.iter().map(|sibling| sibling.tally.connections());
            let recipient = recipient(self.own().connections(), counts, limit)?;
            if let Some(place) = self.all[recipient].tally.take(limit) {
                return Some((recipient, place));
            }
        }
        None
    }
}

/// The index of the worker, of those with `counts` connections, that gets a connection which a worker with `own` accepted; `None` is
/// that worker itself. Each may have `limit`; a worker that has reached it gives to any that has fewer.
fn recipient(own: usize, counts: impl Iterator<Item = usize>, limit: usize) -> Option<usize> {
    if own < KEPT.min(limit) {
        return None;
    }
    let (index, least) = counts.enumerate().min_by_key(|(_, count)| *count)?;
    let margin = if own < limit { LEAST_MARGIN.max(least / MARGIN_PART) } else { 1 };
    (least < limit && own >= least + margin).then_some(index)
}

#[cfg(test)]
#[path = "spread/tests.rs"] // also where this file is compiled from another place
mod tests;
