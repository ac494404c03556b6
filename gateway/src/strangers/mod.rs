//! The peers of a worker that are not admitted: what they hold, in which order they give way, and whose handshake is next.
//!
//! A stranger is a connection from its accept to its admission, or to its end if it is refused. Owns the order of strangers by age,
//! the bound on the memory that all of them hold ([`Strangers::set_share`]), their turns on the processor (`turns`), and what is known of
//! their addresses (`sources`). Must not know TLS or HTTP: their rooms say what a stranger holds, and when it wants a turn.
//!
//! **Who gives way.** If the memory is used up, or a connection needs a place, the oldest stranger is evicted. So a peer whose
//! handshake makes progress gets through: a flood has to replace all others first. A refused peer counts by its age too; otherwise
//! refused peers could push out every handshake.

mod sources;
mod turns;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use hookgate_core::limits::{CLIENT_FLIGHT_SLACK, CLIENT_HELLO_BYTES, Limits};
use hookgate_core::reject::{Refusal, Reject};
use hookgate_io::TurnEnd;
use rustix::net::Shutdown;

use self::sources::{Sources, Standing};
pub use self::turns::Step;
use self::turns::Turns;

/// What a stranger holds before its ClientHello is complete, in bytes: the socket with its first receive buffer, the task, and the
/// reader of rustls. Measured as resident memory, with 600 connections of a debug build.
pub const SILENT: usize = 20 * 1024;

/// What it holds from its ClientHello on: a rustls connection, and the server's flight.
pub const GREETED: usize = 28 * 1024;

/// What a peer holds beside its chain that was refused, or whose request may still prove it: a rustls connection, hyper, and their first
/// buffers.
const REFUSED: usize = 40 * 1024;

/// What it holds beside that with HTTP/2: the buffers and tables of h2, which are more than hyper's. Measured likewise: 48 KiB in all.
pub const HTTP_2: usize = 8 * 1024;

/// Received bytes that the amounts above include: the first receive buffer.
const INCLUDED: usize = 4 * 1024;

/// Bytes that one received byte may hold: rustls joins messages in a buffer that doubles, and copies what it has parsed.
const PER_BYTE: usize = 3;

/// A stranger is evicted for a place only if strangers have at least this part of the worker's places; if they have fewer, an idle
/// sender gives way. So strangers cannot take more than an eighth of the places from idle senders, and senders that stay connected
/// leave an eighth for those that arrive.
const PLACES_PART: usize = 8;

/// What a stranger holds after `received` bytes in a phase that begins with `base`.
pub fn held(base: usize, received: usize) -> usize {
    base + received.saturating_sub(INCLUDED) * PER_BYTE
}

/// A worker's share of `max_unadmitted_bytes`, of `workers` workers. At least what one stranger can hold: a single handshake always has
/// room, and so has a single request with a body of `body` bytes, the most that is read of one.
pub fn share(limits: &Limits, workers: usize, body: usize) -> usize {
    let request = limits.max_head_bytes + body;
    let received = request.max(limits.max_presented_bytes + CLIENT_FLIGHT_SLACK).max(CLIENT_HELLO_BYTES);
    (limits.max_unadmitted_bytes / workers).max(held(REFUSED + HTTP_2 + limits.max_presented_bytes, received))
}

/// Why a stranger gave way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// Strangers held more than their memory (`max_unadmitted_bytes`).
    Memory,
    /// A newer connection needed the place (`max_connections`).
    Place,
}

impl Eviction {
    /// What is counted and logged.
    pub fn refusal(self) -> Refusal {
        match self {
            Self::Memory => Refusal::new(
                Reject::UnadmittedLimit,
                "Connections that are not admitted hold max_unadmitted_bytes, and this one was the oldest.",
            ),
            Self::Place => Refusal::new(
                Reject::ConnectionLimit,
                "This worker has its share of max_connections; this connection was the oldest that is not admitted.",
            ),
        }
    }
}

/// What is known of a stranger.
struct Entry {
    /// Arrivals before it.
    number: u64,
    descriptor: Rc<OwnedFd>,
    held: Cell<usize>,
    /// What it holds without what it sends, once it was refused.
    refused: Cell<usize>,
    evicted: Cell<Option<Eviction>>,
    source: Cell<u64>,
    standing: Cell<Standing>,
    /// It has had a turn.
    had_turn: Cell<bool>,
    /// It has the turn that it waits for.
    granted: Cell<bool>,
    /// The task, while it waits for a turn.
    waker: RefCell<Option<Waker>>,
}

/// The strangers of a worker.
pub struct Strangers {
    present: RefCell<BTreeMap<u64, Rc<Entry>>>,
    arrivals: Cell<u64>,
    /// Evicted ones whose tasks have not ended.
    leaving: Cell<usize>,
    held: Cell<usize>,
    share: Cell<usize>,
    sources: RefCell<Sources>,
    turns: Turns,
}

impl Strangers {
    /// None yet.
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            present: RefCell::default(),
            arrivals: Cell::new(0),
            leaving: Cell::new(0),
            held: Cell::new(0),
            share: Cell::new(usize::MAX),
            sources: RefCell::new(Sources::new()),
            turns: Turns::new(),
        })
    }

    /// The memory in bytes that the strangers of this worker may hold, from now on.
    pub fn set_share(&self, bytes: usize) {
        if self.share.replace(bytes) > bytes {
            self.fit();
        }
    }

    /// The failed handshakes per second that a source may have before its handshakes wait for all others; 0 is no bound.
    pub fn set_failures_per_second(&self, rate: usize) {
        self.sources.borrow_mut().set_rate(rate);
    }

    /// A stranger that has just arrived from `address`, at `now` by the coarse clock. It holds [`SILENT`] bytes.
    pub fn arrived(self: &Rc<Self>, descriptor: &Rc<OwnedFd>, address: IpAddr, now: Duration) -> Stranger {
        let source = sources::source(address);
        let number = self.arrivals.get();
        self.arrivals.set(number + 1);
        let entry = Rc::new(Entry {
            number,
            descriptor: Rc::clone(descriptor),
            held: Cell::new(SILENT),
            refused: Cell::new(REFUSED),
            evicted: Cell::new(None),
            source: Cell::new(source),
            standing: Cell::new(self.sources.borrow().standing(source, now)),
            had_turn: Cell::new(false),
            granted: Cell::new(false),
            waker: RefCell::new(None),
        });
        self.present.borrow_mut().insert(number, Rc::clone(&entry));
        self.held.set(self.held.get() + SILENT);
        let stranger = Stranger { entry, strangers: Rc::clone(self) };
        self.fit();
        stranger
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.present.borrow().len()
    }

    /// Whether some were evicted, and still hold their memory and descriptors, because their tasks have not run since.
    pub fn are_leaving(&self) -> bool {
        self.leaving.get() > 0
    }

    /// The memory that they hold, in bytes.
    pub fn held(&self) -> usize {
        self.held.get()
    }

    /// Whether a stranger, and not an idle sender, gives way to a new connection of a worker with `limit` places.
    pub fn give_way_first(&self, limit: usize) -> bool {
        self.count() >= (limit / PLACES_PART).max(1)
    }

    /// Evicts the oldest stranger. Returns whether there was one.
    pub fn evict_oldest(&self, eviction: Eviction) -> bool {
        let Some((_, oldest)) = self.present.borrow_mut().pop_first() else { return false };
        self.held.set(self.held.get() - oldest.held.get());
        oldest.evicted.set(Some(eviction));
        self.leaving.set(self.leaving.get() + 1);
        // The peer may be gone already; then there is nothing to shut down.
        let _ = rustix::net::shutdown(&*oldest.descriptor, Shutdown::Both);
        let waker = oldest.waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Gives turns, at most one in each turn of the worker's loop, for ever. See [`Stranger::turn`].
    pub async fn give_turns(&self, end_of_turn: TurnEnd) {
        self.turns.give(end_of_turn).await;
    }

    /// Evicts until the rest holds no more than the share.
    fn fit(&self) {
        while self.held.get() > self.share.get() && self.evict_oldest(Eviction::Memory) {}
    }

    fn left(&self, entry: &Entry) {
        if self.present.borrow_mut().remove(&entry.number).is_some() {
            self.held.set(self.held.get() - entry.held.get());
        } else {
            self.leaving.set(self.leaving.get() - 1);
        }
    }
}

/// One stranger. Dropped when the peer is admitted, or its connection ends.
pub struct Stranger {
    entry: Rc<Entry>,
    strangers: Rc<Strangers>,
}

impl Stranger {
    /// A proxy conveys `address` for it, at `now` by the coarse clock: it counts with this source from now on. Before its first turn.
    pub fn comes_from(&self, address: IpAddr, now: Duration) {
        let source = sources::source(address);
        self.entry.source.set(source);
        self.entry.standing.set(self.strangers.sources.borrow().standing(source, now));
    }

    /// Notes that it holds `bytes` in all, and evicts older strangers if that is too much.
    ///
    /// # Errors
    ///
    /// It was evicted itself, now or earlier.
    pub fn holds(&self, bytes: usize) -> Result<(), Eviction> {
        if self.entry.evicted.get().is_none() {
            let before = self.entry.held.replace(bytes);
            self.strangers.held.set(self.strangers.held.get() - before + bytes);
            self.strangers.fit();
        }
        self.evicted().map_or(Ok(()), Err)
    }

    /// Its certificates, of `presented` bytes, were refused. From now on it holds what a connection with HTTP does.
    pub fn refused(&self, presented: usize) {
        self.entry.refused.set(REFUSED + presented);
        self.sent(0);
    }

    /// It has sent `bytes` in all since it was refused.
    pub fn sent(&self, bytes: usize) {
        // If it was evicted, its stream ends.
        let _ = self.holds(held(self.entry.refused.get(), bytes));
    }

    /// Its handshake failed or its certificate was refused, at `now` by the coarse clock. It is not blamed if it never had a turn, because
    /// then it cost little, nor if it was evicted.
    pub fn failed(&self, now: Duration) {
        if self.entry.had_turn.get() && self.evicted().is_none() {
            self.strangers.sources.borrow_mut().failed(self.entry.source.get(), now);
        }
    }

    /// It is admitted, at `now` by the coarse clock: no stranger any more.
    pub fn admitted(self, now: Duration) {
        self.strangers.sources.borrow_mut().admitted(self.entry.source.get(), now);
    }

    /// Waits for its turn to use the processor for long: at most one stranger does so in each turn of the worker's loop, and the worker
    /// serves everything else that is ready before the next.
    ///
    /// # Errors
    ///
    /// It was evicted meanwhile.
    pub async fn turn(&self, step: Step) -> Result<(), Eviction> {
        self.strangers.turns.take(&self.entry, step).await;
        self.entry.had_turn.set(true);
        self.evicted().map_or(Ok(()), Err)
    }

    /// Why it was evicted, if it was.
    pub fn evicted(&self) -> Option<Eviction> {
        self.entry.evicted.get()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.strangers.left(&self.entry);
    }
}

#[cfg(test)]
mod tests;
