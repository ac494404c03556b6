//! Deadlines: one sweep a worker, which shuts down the sockets that waited too long.
//!
//! Owns the worker's coarse clock and an entry a socket. An operation that the kernel holds cannot be dropped, so a
//! time-out never drops a future: the sweep notes what expired and shuts the socket down, the operation completes with an
//! end of stream, and its owner asks [`Deadline::expired`] why. Must not know what the phases mean to TLS or HTTP.

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::net::Shutdown;

/// How often a worker sweeps: the most by which the coarse clock can lag. A deadline can be late by twice as much.
pub const SWEEP_INTERVAL: Duration = Duration::from_millis(100);

/// For how long a peer must have sent nothing before it is taken to be silent, and its connection to be worth putting to rest:
/// long beside the time between requests of a busy sender, short beside the time that idle connections stay open. To wake costs
/// some microseconds, so at most five times a second a connection pays them.
pub const SILENCE: Duration = Duration::from_millis(200);

const SILENCE_MS: u64 = SILENCE.as_millis() as u64;

/// What a socket is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The TLS handshake.
    Handshake,
    /// The head of a request, of which something has arrived or which is the first.
    RequestHead,
    /// The rest of a request.
    RequestBody,
    /// The handler, on another socket: this one waits for nothing.
    Handling,
    /// The peer's taking of an answer.
    Response,
    /// The next request.
    Idle,
    /// The peer's end of stream, after an answer that ended the connection early.
    Linger,
    /// A handler's answer.
    Handler,
    /// The next request to a handler.
    HandlerIdle,
}

impl Phase {
    /// Reading phases leave the writing half open, so that the peer can still be told what happened.
    fn shutdown(self) -> Shutdown {
        match self {
            Self::RequestHead | Self::RequestBody | Self::Idle => Shutdown::Read,
            Self::Handshake | Self::Handling | Self::Response | Self::Linger | Self::Handler | Self::HandlerIdle => {
                Shutdown::Both
            }
        }
    }
}

struct Entry {
    descriptor: Rc<OwnedFd>,
    phase: Cell<Phase>,
    due: Cell<Due>,
    expired: Cell<Option<Phase>>,
    /// Who is to be woken once the peer has been silent, and when that is, as `at`.
    silence: RefCell<Option<(u64, Waker)>>,
}

/// When the current phase has lasted too long. Times in milliseconds, as the sweep counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// It may last for so long, from the next round of the sweep on. Most phases are over before that round, and then nobody has
    /// read a clock for them.
    Within(u64),
    /// At this time since the sweep was made.
    At(u64),
    /// Never, or it was noticed already.
    Never,
}

impl Entry {
    fn shut_down(&self) {
        // The peer may be gone already; then there is nothing to shut down.
        let _ = rustix::net::shutdown(&*self.descriptor, self.phase.get().shutdown());
    }
}

/// The deadline of one socket; dropping it forgets the socket.
pub struct Deadline {
    entry: Rc<Entry>,
    sweep: Rc<Sweep>,
}

impl Deadline {
    /// Enters `phase`, which may last for `limit` from now.
    pub fn enter(&self, phase: Phase, limit: Duration) {
        // Rounded up, and counted from the next round: a deadline may be late, but never early.
        let limit = limit.as_nanos().div_ceil(1_000_000);
        self.entry.due.set(Due::Within(u64::try_from(limit).unwrap_or(u64::MAX)));
        self.entry.phase.set(phase);
        self.entry.silence.take();
    }

    /// Enters `phase`, which is bounded elsewhere.
    pub fn enter_unbounded(&self, phase: Phase) {
        self.entry.silence.take();
        self.entry.phase.set(phase);
        self.entry.due.set(Due::Never);
    }

    /// Ready once the peer has been silent for [`SILENCE`], or up to [`SWEEP_INTERVAL`] less, from the first call on; to be
    /// called in [`Phase::Idle`], and forgotten with the next phase.
    pub fn poll_silence(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut silence = self.entry.silence.borrow_mut();
        let now = self.sweep.swept_ms.get();
        match &mut *silence {
            Some((at, _)) if *at <= now => {
                *silence = None;
                Poll::Ready(())
            }
            Some((_, waker)) => {
                waker.clone_from(context.waker());
                Poll::Pending
            }
            None => {
                *silence = Some((now.saturating_add(SILENCE_MS), context.waker().clone()));
                Poll::Pending
            }
        }
    }

    /// As [`Sweep::coarse`].
    pub fn coarse(&self) -> Duration {
        self.sweep.coarse()
    }

    /// The current phase.
    pub fn phase(&self) -> Phase {
        self.entry.phase.get()
    }

    /// The phase whose deadline passed, if one did.
    pub fn expired(&self) -> Option<Phase> {
        self.entry.expired.get()
    }
}

/// All deadlines of a worker, and its coarse clock.
pub struct Sweep {
    entries: RefCell<Vec<Weak<Entry>>>,
    epoch: Instant,
    unix_s: Cell<u64>,
    /// When the last round was, in milliseconds since the sweep was made.
    swept_ms: Cell<u64>,
}

impl Sweep {
    /// A sweep without sockets, its clock set.
    pub fn new() -> Rc<Self> {
        let sweep = Self {
            entries: RefCell::new(Vec::new()),
            epoch: Instant::now(),
            unix_s: Cell::new(0),
            swept_ms: Cell::new(0),
        };
        sweep.refresh();
        Rc::new(sweep)
    }

    /// Watches a socket from now on.
    pub fn watch(self: &Rc<Self>, descriptor: &Rc<OwnedFd>, phase: Phase, limit: Duration) -> Deadline {
        let entry = Rc::new(Entry {
            descriptor: Rc::clone(descriptor),
            phase: Cell::new(phase),
            due: Cell::new(Due::Never),
            expired: Cell::new(None),
            silence: RefCell::new(None),
        });
        self.entries.borrow_mut().push(Rc::downgrade(&entry));
        let deadline = Deadline { entry, sweep: Rc::clone(self) };
        deadline.enter(phase, limit);
        deadline
    }

    /// Wall-clock time in whole seconds since 1970, behind by at most [`SWEEP_INTERVAL`] and a second.
    pub fn unix_time(&self) -> Duration {
        Duration::from_secs(self.unix_s.get())
    }

    /// Time since the sweep was made, behind by at most [`SWEEP_INTERVAL`]: for differences that need be no more exact.
    pub fn coarse(&self) -> Duration {
        Duration::from_millis(self.swept_ms.get())
    }

    /// One round: refreshes the clock, shuts down what is overdue, forgets what is gone.
    pub fn run(&self) {
        self.refresh();
        let now = self.elapsed_ms();
        self.swept_ms.set(now);
        self.entries.borrow_mut().retain(|entry| {
            let Some(entry) = entry.upgrade() else { return false };
            match entry.due.get() {
                Due::Within(limit) => entry.due.set(Due::At(now.saturating_add(limit))),
                Due::At(at) if at <= now => {
                    entry.expired.set(Some(entry.phase.get()));
                    entry.due.set(Due::Never);
                    entry.shut_down();
                }
                Due::At(_) | Due::Never => {}
            }
            if let Some((at, waker)) = &*entry.silence.borrow()
                && *at <= now
            {
                waker.wake_by_ref();
            }
            true
        });
    }

    /// Shuts down the sockets that are in `phase`, at most `limit` of them, and returns how many. They see an end of stream,
    /// not an expiry.
    pub fn shut_down_all(&self, phase: Phase, limit: usize) -> usize {
        let entries = self.entries.borrow();
        let matching = entries.iter().filter_map(Weak::upgrade).filter(|entry| entry.phase.get() == phase);
        // A socket that is on its way out is not counted on twice.
        let end = |entry: Rc<Entry>| {
            entry.shut_down();
            entry.phase.set(Phase::Linger);
        };
        matching.take(limit).map(end).count()
    }

    /// Shuts down every socket in both directions: the end of a drain that took too long.
    pub fn shut_down_everything(&self) {
        for entry in self.entries.borrow().iter().filter_map(Weak::upgrade) {
            let _ = rustix::net::shutdown(&*entry.descriptor, Shutdown::Both);
        }
    }

    /// Milliseconds since the sweep was made.
    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn refresh(&self) {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.unix_s.set(unix.as_secs());
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn an_overdue_socket_is_shut_down_and_told_why() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let ours = Rc::new(OwnedFd::from(ours));
        let sweep = Sweep::new();
        let deadline = sweep.watch(&ours, Phase::Handshake, Duration::ZERO);
        let other = sweep.watch(&ours, Phase::Idle, Duration::from_secs(3600));
        assert_eq!(deadline.expired(), None);
        sweep.run();
        assert_eq!(deadline.expired(), None, "counted from the first round on");
        sweep.run();
        assert_eq!(deadline.expired(), Some(Phase::Handshake));
        assert_eq!(other.expired(), None);
        assert_eq!(theirs.read(&mut [0; 1]).unwrap(), 0, "the peer sees the end of the stream");
    }

    #[test]
    fn a_reading_phase_leaves_the_writing_half_open() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let ours = Rc::new(OwnedFd::from(ours));
        let sweep = Sweep::new();
        let _deadline = sweep.watch(&ours, Phase::RequestBody, Duration::ZERO);
        sweep.run();
        sweep.run();
        rustix::net::send(&*ours, b"late", rustix::net::SendFlags::NOSIGNAL).unwrap();
        let mut buffer = [0; 8];
        assert_eq!((&theirs).read(&mut buffer).unwrap(), 4);
    }

    #[test]
    fn silence_is_told_once_and_forgotten_with_the_next_phase() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let sweep = Sweep::new();
        let deadline = sweep.watch(&Rc::new(OwnedFd::from(ours)), Phase::Idle, Duration::from_secs(3600));
        let mut context = Context::from_waker(Waker::noop());
        assert!(deadline.poll_silence(&mut context).is_pending());
        sweep.swept_ms.set(SILENCE_MS - 1);
        assert!(deadline.poll_silence(&mut context).is_pending());
        deadline.enter(Phase::Idle, Duration::from_secs(3600));
        assert!(deadline.poll_silence(&mut context).is_pending(), "counted anew");
        sweep.swept_ms.set(2 * SILENCE_MS);
        assert!(deadline.poll_silence(&mut context).is_ready());
        assert!(deadline.poll_silence(&mut context).is_pending(), "told once");
    }

    #[test]
    fn a_socket_is_shut_down_for_room_once() {
        let (first, _peer) = UnixStream::pair().unwrap();
        let first = Rc::new(OwnedFd::from(first));
        let sweep = Sweep::new();
        let _one = sweep.watch(&first, Phase::Idle, Duration::from_secs(3600));
        let _other = sweep.watch(&first, Phase::Idle, Duration::from_secs(3600));
        let _busy = sweep.watch(&first, Phase::Handling, Duration::from_secs(3600));
        let rounds = [(); 3].map(|()| sweep.shut_down_all(Phase::Idle, 1));
        assert_eq!(rounds, [1, 1, 0]);
    }

    #[test]
    fn dropped_deadlines_are_forgotten_and_let_go_of_the_socket() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let ours = Rc::new(OwnedFd::from(ours));
        let sweep = Sweep::new();
        drop(sweep.watch(&ours, Phase::Idle, Duration::from_secs(1)));
        assert_eq!(Rc::strong_count(&ours), 1);
        sweep.run();
        assert!(sweep.entries.borrow().is_empty());
    }
}
