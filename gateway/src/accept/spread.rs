//! Connections spread evenly over the workers: who has how many, and how one goes from the worker that accepted it to another.
//!
//! The kernel spreads connections over listeners by a hash, or gives them to whoever asks first, and neither knows how many each
//! worker has. So a worker that has clearly more than another hands over what it accepts, before a byte is read. Owns the
//! counts, the decision, and the queues between workers. Must not accept, serve, or move a connection that is being served.
//!
//! Counts are read and written without a lock, and as hints: two workers that read at once may both give to the same third one.
//! Only [`Tally::take`] must not be fooled, since a limit depends on it.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, mpsc};

/// So many connections a worker keeps without a look at the others: short webhooks, of which seldom more are open at once, then
/// cost nothing here, and between so few no difference is felt.
const KEPT: usize = 16;

/// By how many connections at least a worker must have more than another to hand one over: two, since by one they differ anyway
/// where the sum cannot be divided.
const LEAST_MARGIN: usize = 2;

/// By which part of the other's connections it must have more: a sixteenth. Less would hand over more often (of random arrivals at
/// two workers one in twice the margin); this leaves room below a fifth for connections that end.
const MARGIN_PART: usize = 16;

/// Connections that may wait for one worker: what a sibling accepts, at 30,000 a second, while this one waits some milliseconds
/// for its turn on a busy core or is in a long turn of its loop. Beyond it the sibling keeps them. Also the most that a worker
/// which hangs takes along.
const QUEUE: usize = 256;

/// The connections of one worker: those that it serves, and those on their way to it. On cache lines of its own (x86 fetches two
/// at a time), since every accept writes it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Tally(AtomicUsize);

impl Tally {
    /// How many there are now.
    pub fn connections(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts one more for as long as the place lives; `None` where there are `limit` already.
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

/// An accepted connection on its way to another worker, in whose count it has its place already. Dropped, it is closed.
#[derive(Debug)]
pub struct Handover {
    /// The socket; no runtime has seen it yet.
    pub descriptor: OwnedFd,
    /// Its place with the worker that receives it.
    pub place: Place,
}

/// What siblings hand over to a worker.
#[derive(Debug)]
pub struct Inbox(mpsc::Receiver<Handover>);

impl Inbox {
    /// The next connection; `None` once `closing` was notified and what was on its way then has come. From then on siblings keep
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

/// All workers of the process, as one of them sees them.
#[derive(Debug)]
pub struct Siblings {
    index: usize,
    all: Arc<[Sibling]>,
}

impl Siblings {
    /// What each of `count` workers sees, and what it receives from, in their order.
    pub fn of(count: usize) -> Vec<(Self, Inbox)> {
        let (outboxes, inboxes): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::channel(QUEUE)).unzip();
        let all: Arc<[Sibling]> =
            outboxes.into_iter().map(|outbox| Sibling { tally: Arc::default(), outbox }).collect();
        let views = (0..count).map(|index| Self { index, all: Arc::clone(&all) });
        views.zip(inboxes.into_iter().map(Inbox)).collect()
    }

    /// Which of them this worker is, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// How many there are, this one included.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// The connections of this worker.
    pub fn own(&self) -> &Arc<Tally> {
        &self.all[self.index].tally
    }

    /// Hands an accepted connection over to a sibling that has clearly fewer. Each may have `limit`.
    ///
    /// # Errors
    ///
    /// The connection, where it is this worker's own: nobody has clearly fewer, or who has takes no more now.
    pub fn hand_over(&self, descriptor: OwnedFd, limit: usize) -> Result<(), OwnedFd> {
        let Some((recipient, place)) = self.place(limit) else { return Err(descriptor) };
        // Full where it does not keep up, closed where it drains.
        let sent = self.all[recipient].outbox.try_send(Handover { descriptor, place });
        sent.map_err(|error| error.into_inner().descriptor)
    }

    /// A place with a sibling that has clearly fewer. Who finds that others were faster looks again: no more often than there are
    /// siblings whose last place could go.
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

/// Which of the workers with `counts` connections is to have one more that a worker with `own` accepted; `None` is that worker
/// itself. Each may have `limit`; who has as many gives to anybody who has fewer.
fn recipient(own: usize, counts: impl Iterator<Item = usize>, limit: usize) -> Option<usize> {
    if own < KEPT.min(limit) {
        return None;
    }
    let (index, least) = counts.enumerate().min_by_key(|(_, count)| *count)?;
    let margin = if own < limit { LEAST_MARGIN.max(least / MARGIN_PART) } else { 1 };
    (least < limit && own >= least + margin).then_some(index)
}

#[cfg(test)]
mod tests;
