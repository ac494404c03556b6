//! Deadlines: one sweep per worker, which shuts down the sockets that waited too long.
//!
//! Owns the worker's coarse clock and one entry per socket, or per task that has a deadline without a socket of its own. The kernel may hold the buffer of an operation, so a time-out never
//! drops a future: the sweep shuts the socket down, the operation completes with an end of stream, and the owner of the socket asks
//! [`Deadline::is_overdue`] why. Must not know what a socket waits for: an entry is a duration, the directions to shut down, what the peer
//! must take meanwhile, and whether the socket may be evicted.

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::net::Shutdown;

use crate::progress::acknowledged;

/// Interval of the sweep: the coarse clock lags by at most this. A deadline is at most twice this late, and never early.
pub const SWEEP_INTERVAL: Duration = Duration::from_millis(100);

/// A peer that has sent nothing for this long counts as silent, and its connection is worth putting to rest: long compared to the
/// time between requests of a busy sender, short compared to the time that idle connections stay open. To wake costs some
/// microseconds, so a connection pays them at most five times a second.
pub const SILENCE: Duration = Duration::from_millis(200);

const SILENCE_MS: u64 = SILENCE.as_millis() as u64;

/// How long a socket may wait, and what the sweep does to it then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    limit: Option<Duration>,
    shutdown: Shutdown,
    evictable: bool,
    /// Bytes that the peer must acknowledge, so that the limit begins anew; 0 for a limit that does not.
    least_taken: u32,
}

impl Timer {
    /// Shuts down both directions after `limit`.
    pub const fn closing(limit: Duration) -> Self {
        Self { limit: Some(limit), shutdown: Shutdown::Both, evictable: false, least_taken: 0 }
    }

    /// As [`Timer::closing`], for a peer that is being sent something: each time that `limit` runs out, it begins anew if the peer has
    /// acknowledged at least `least_taken` bytes since it began. So a slow peer that goes on is not cut, although the kernel may say for
    /// long that it has no room: it reports room only when a third of its buffer is free (tcp(7), sk_stream_min_wspace).
    pub const fn draining(limit: Duration, least_taken: u32) -> Self {
        Self { limit: Some(limit), shutdown: Shutdown::Both, evictable: false, least_taken }
    }

    /// Shuts down the receiving direction after `limit`. The sending direction stays open, so that the peer can be told why.
    pub const fn reading(limit: Duration) -> Self {
        Self { limit: Some(limit), shutdown: Shutdown::Read, evictable: false, least_taken: 0 }
    }

    /// As [`Timer::reading`]. [`Sweep::evict`] may end the wait earlier.
    pub const fn idle(limit: Duration) -> Self {
        Self { limit: Some(limit), shutdown: Shutdown::Read, evictable: true, least_taken: 0 }
    }

    /// No limit: another socket's timer, or a limit of its own, bounds the wait.
    pub const fn unbounded() -> Self {
        Self { limit: None, shutdown: Shutdown::Both, evictable: false, least_taken: 0 }
    }
}

struct Entry {
    /// `None` of a task.
    descriptor: Option<Rc<OwnedFd>>,
    shutdown: Cell<Shutdown>,
    evictable: Cell<bool>,
    due: Cell<Due>,
    overdue: Cell<bool>,
    draining: Cell<Draining>,
    /// The task to wake when the peer has been silent, and when that is, in milliseconds since the sweep was made.
    silence: RefCell<Option<(u64, Waker)>>,
    /// The task to wake when the timer has run out.
    task: RefCell<Option<Waker>>,
}

/// When the current wait has lasted too long. Times in milliseconds, as the sweep counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// This long after the next round of the sweep. Most waits end before that round, so they never read a clock.
    Within(u64),
    /// At this time since the sweep was made.
    At(u64),
    /// Never, or the entry is overdue already.
    Never,
}

/// What a [`Timer::draining`] compares.
#[derive(Clone, Copy, Debug, Default)]
struct Draining {
    least_taken: u32,
    limit_ms: u64,
    /// Bytes that the peer had acknowledged when the current limit began.
    taken: u64,
}

impl Entry {
    /// A limit begins.
    fn begin(&self, now: u64, limit_ms: u64) {
        let mut draining = self.draining.get();
        if draining.least_taken > 0 {
            draining.limit_ms = limit_ms;
            draining.taken = self.acknowledged().unwrap_or(0);
            self.draining.set(draining);
        }
        self.due.set(Due::At(now.saturating_add(limit_ms)));
    }

    /// A limit has run out. Whether it begins anew, because the peer has taken enough.
    fn begins_anew(&self, now: u64) -> bool {
        let Draining { least_taken, limit_ms, taken } = self.draining.get();
        let is_enough = |acknowledged: u64| acknowledged.saturating_sub(taken) >= u64::from(least_taken);
        if least_taken == 0 || !self.acknowledged().is_some_and(is_enough) {
            return false;
        }
        self.begin(now, limit_ms);
        true
    }

    /// Bytes that the peer has acknowledged, if there is one that tells.
    fn acknowledged(&self) -> Option<u64> {
        acknowledged(self.descriptor.as_ref()?)
    }

    fn shut_down(&self) {
        self.end(self.shutdown.get());
        let task = self.task.take();
        if let Some(task) = task {
            task.wake();
        }
    }

    fn end(&self, directions: Shutdown) {
        if let Some(descriptor) = &self.descriptor {
            // The peer may be gone already; then there is nothing to shut down.
            let _ = rustix::net::shutdown(&**descriptor, directions);
        }
    }
}

/// The deadline of one socket, or of one task. Dropping it removes that from the sweep.
pub struct Deadline {
    entry: Rc<Entry>,
    sweep: Rc<Sweep>,
}

impl Deadline {
    /// Replaces the timer: the new one runs from now on, and the socket is not overdue.
    pub fn set(&self, timer: Timer) {
        let due = match timer.limit {
            // Rounded up, and counted from the next round: a deadline may be late, but never early.
            Some(limit) => Due::Within(u64::try_from(limit.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)),
            None => Due::Never,
        };
        self.entry.due.set(due);
        self.entry.shutdown.set(timer.shutdown);
        self.entry.evictable.set(timer.evictable);
        self.entry.overdue.set(false);
        self.entry.draining.set(Draining { least_taken: timer.least_taken, ..Draining::default() });
        self.entry.silence.take();
    }

    /// Whether the current timer has run out, so that the sweep has shut the socket down.
    pub fn is_overdue(&self) -> bool {
        self.entry.overdue.get()
    }

    /// Ready once the current timer has run out. For tasks: the owner of a socket sees its end of stream.
    pub fn poll_overdue(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.is_overdue() {
            return Poll::Ready(());
        }
        let mut task = self.entry.task.borrow_mut();
        match &mut *task {
            Some(waker) => waker.clone_from(context.waker()),
            None => *task = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// Ready once the peer has been silent for [`SILENCE`] since the first call, or up to [`SWEEP_INTERVAL`] less. Call it only
    /// while nothing is received; [`Deadline::set`] cancels it.
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
    /// A sweep without sockets. Its clock is set.
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
    pub fn watch(self: &Rc<Self>, descriptor: &Rc<OwnedFd>, timer: Timer) -> Deadline {
        self.add(Some(Rc::clone(descriptor)), timer)
    }

    /// Watches a task from now on, which waits by [`Deadline::poll_overdue`]. When its timer runs out, nothing is shut down, and nothing it
    /// takes begins a [`Timer::draining`] anew.
    pub fn watch_task(self: &Rc<Self>, timer: Timer) -> Deadline {
        self.add(None, timer)
    }

    fn add(self: &Rc<Self>, descriptor: Option<Rc<OwnedFd>>, timer: Timer) -> Deadline {
        let entry = Rc::new(Entry {
            descriptor,
            shutdown: Cell::new(timer.shutdown),
            evictable: Cell::new(false),
            due: Cell::new(Due::Never),
            overdue: Cell::new(false),
            draining: Cell::default(),
            silence: RefCell::new(None),
            task: RefCell::new(None),
        });
        self.entries.borrow_mut().push(Rc::downgrade(&entry));
        let deadline = Deadline { entry, sweep: Rc::clone(self) };
        deadline.set(timer);
        deadline
    }

    /// Wall-clock time in whole seconds since 1970, behind by at most [`SWEEP_INTERVAL`] and a second.
    pub fn unix_time(&self) -> Duration {
        Duration::from_secs(self.unix_s.get())
    }

    /// Time since the sweep was made, behind by at most [`SWEEP_INTERVAL`].
    pub fn coarse(&self) -> Duration {
        Duration::from_millis(self.swept_ms.get())
    }

    /// One round: refreshes the clock, shuts down overdue sockets, removes the entries of dropped deadlines.
    pub fn run(&self) {
        self.refresh();
        let now = self.elapsed_ms();
        self.swept_ms.set(now);
        self.entries.borrow_mut().retain(|entry| {
            let Some(entry) = entry.upgrade() else { return false };
            match entry.due.get() {
                Due::Within(limit) => entry.begin(now, limit),
                Due::At(at) if at <= now && !entry.begins_anew(now) => {
                    entry.overdue.set(true);
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

    /// Shuts down at most `limit` sockets whose timer is [`Timer::idle`], and returns how many. They see an end of stream and are
    /// not overdue. A socket is evicted once.
    pub fn evict(&self, limit: usize) -> usize {
        let entries = self.entries.borrow();
        let idle = entries.iter().filter_map(Weak::upgrade).filter(|entry| entry.evictable.get());
        let evict = |entry: Rc<Entry>| {
            entry.shut_down();
            entry.evictable.set(false);
            entry.shutdown.set(Shutdown::Both);
        };
        idle.take(limit).map(evict).count()
    }

    /// Shuts down every socket in both directions: the end of a drain that took too long.
    pub fn shut_down_everything(&self) {
        for entry in self.entries.borrow().iter().filter_map(Weak::upgrade) {
            entry.end(Shutdown::Both);
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

    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn an_overdue_socket_is_shut_down_and_told_why() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let ours = Rc::new(OwnedFd::from(ours));
        let sweep = Sweep::new();
        let deadline = sweep.watch(&ours, Timer::closing(Duration::ZERO));
        let other = sweep.watch(&ours, Timer::idle(HOUR));
        assert!(!deadline.is_overdue());
        sweep.run();
        assert!(!deadline.is_overdue(), "counted from the first round on");
        sweep.run();
        assert!(deadline.is_overdue());
        assert!(!other.is_overdue());
        assert_eq!(theirs.read(&mut [0; 1]).unwrap(), 0, "the peer sees the end of the stream");
    }

    #[test]
    fn a_new_timer_is_not_overdue() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let sweep = Sweep::new();
        let deadline = sweep.watch(&Rc::new(OwnedFd::from(ours)), Timer::reading(Duration::ZERO));
        sweep.run();
        sweep.run();
        assert!(deadline.is_overdue());
        deadline.set(Timer::unbounded());
        assert!(!deadline.is_overdue());
        sweep.run();
        sweep.run();
        assert!(!deadline.is_overdue(), "an unbounded wait is never overdue");
    }

    #[test]
    fn a_reading_timer_leaves_the_writing_half_open() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let ours = Rc::new(OwnedFd::from(ours));
        let sweep = Sweep::new();
        let _deadline = sweep.watch(&ours, Timer::reading(Duration::ZERO));
        sweep.run();
        sweep.run();
        rustix::net::send(&*ours, b"late", rustix::net::SendFlags::NOSIGNAL).unwrap();
        let mut buffer = [0; 8];
        assert_eq!((&theirs).read(&mut buffer).unwrap(), 4);
    }

    #[test]
    fn a_peer_that_takes_enough_is_not_cut() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (ours, _) = listener.accept().unwrap();
        let mut sender = ours.try_clone().unwrap();
        let sweep = Sweep::new();
        let deadline = sweep.watch(&Rc::new(OwnedFd::from(ours)), Timer::draining(Duration::ZERO, 100));
        sweep.run();
        for length in [100, 1000] {
            sender.write_all(&vec![0; length]).unwrap();
            theirs.read_exact(&mut vec![0; length]).unwrap();
            theirs.write_all(b"x").unwrap();
            sender.read_exact(&mut [0; 1]).unwrap();
            sweep.run();
            assert!(!deadline.is_overdue(), "{length} bytes");
        }
        sender.write_all(&[0; 99]).unwrap();
        theirs.read_exact(&mut [0; 99]).unwrap();
        sweep.run();
        assert!(deadline.is_overdue(), "fewer than demanded");
    }

    #[test]
    fn a_draining_timer_of_a_socket_that_is_not_tcp_ends() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let sweep = Sweep::new();
        let deadline = sweep.watch(&Rc::new(OwnedFd::from(ours)), Timer::draining(Duration::ZERO, 1));
        sweep.run();
        sweep.run();
        assert!(deadline.is_overdue());
    }

    #[test]
    fn silence_is_told_once_and_forgotten_with_the_next_timer() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let sweep = Sweep::new();
        let deadline = sweep.watch(&Rc::new(OwnedFd::from(ours)), Timer::idle(HOUR));
        let mut context = Context::from_waker(Waker::noop());
        assert!(deadline.poll_silence(&mut context).is_pending());
        sweep.swept_ms.set(SILENCE_MS - 1);
        assert!(deadline.poll_silence(&mut context).is_pending());
        deadline.set(Timer::idle(HOUR));
        assert!(deadline.poll_silence(&mut context).is_pending(), "counted anew");
        sweep.swept_ms.set(2 * SILENCE_MS);
        assert!(deadline.poll_silence(&mut context).is_ready());
        assert!(deadline.poll_silence(&mut context).is_pending(), "told once");
    }

    #[test]
    fn a_socket_is_evicted_once_and_only_while_it_is_idle() {
        let (first, _peer) = UnixStream::pair().unwrap();
        let first = Rc::new(OwnedFd::from(first));
        let sweep = Sweep::new();
        let _one = sweep.watch(&first, Timer::idle(HOUR));
        let _other = sweep.watch(&first, Timer::idle(HOUR));
        let _busy = sweep.watch(&first, Timer::unbounded());
        let rounds = [(); 3].map(|()| sweep.evict(1));
        assert_eq!(rounds, [1, 1, 0]);
    }

    #[test]
    fn a_task_is_woken_when_it_is_overdue() {
        let sweep = Sweep::new();
        let deadline = sweep.watch_task(Timer::draining(Duration::ZERO, 1));
        let mut context = Context::from_waker(Waker::noop());
        assert!(deadline.poll_overdue(&mut context).is_pending());
        sweep.run();
        sweep.run();
        assert!(deadline.entry.task.borrow().is_none(), "woken");
        assert!(deadline.poll_overdue(&mut context).is_ready());
        deadline.set(Timer::unbounded());
        assert!(deadline.poll_overdue(&mut context).is_pending());
    }

    #[test]
    fn dropped_deadlines_are_forgotten_and_let_go_of_the_socket() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let ours = Rc::new(OwnedFd::from(ours));
        let sweep = Sweep::new();
        drop(sweep.watch(&ours, Timer::idle(Duration::from_secs(1))));
        assert_eq!(Rc::strong_count(&ours), 1);
        sweep.run();
        assert!(sweep.entries.borrow().is_empty());
    }
}
