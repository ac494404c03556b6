//! The queue between the threads that log and the thread `log`, which writes.
//!
//! Owns its bounds, and when the thread wakes up: [`PAUSE`] after the first event that waits, so that a busy gateway pays for a wake-up and a
//! system call every 20 ms, and not for each event. Must not look at what events say, nor write them: [`super::output`] does.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::output::Output;

/// How long the thread waits for more events: less than a person notices.
const PAUSE: Duration = Duration::from_millis(20);

/// Most events that wait: twenty seconds of what peers can cause by default.
const MAXIMUM_EVENTS: usize = 8192;

/// Most bytes that wait: so many events of a usual length, twice.
const MAXIMUM_BYTES: usize = 8 * 1024 * 1024;

/// With so many events, the thread waits no longer.
const MANY_EVENTS: usize = MAXIMUM_EVENTS / 4;

/// A buffer that has grown beyond this is freed when it was written.
const KEPT_BYTES: usize = 256 * 1024;

/// How long the end of the process waits for the last events to be written: standard error may be a pipe that nobody reads.
const LAST_WRITE_LIMIT: Duration = Duration::from_secs(1);

/// Events one after the other.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    /// Where each event ends.
    ends: Vec<usize>,
}

impl Batch {
    pub(super) fn push(&mut self, event: &[u8]) {
        self.bytes.extend_from_slice(event);
        self.ends.push(self.bytes.len());
    }

    fn clear(&mut self) {
        if self.bytes.capacity() > KEPT_BYTES {
            *self = Self::default();
        }
        self.bytes.clear();
        self.ends.clear();
    }

    /// The events in pieces of at most `most` bytes, or of one event that is longer. Each with the number of its events.
    pub(super) fn pieces(&self, most: usize) -> impl Iterator<Item = (u64, &[u8])> {
        let (mut next, mut start) = (0, 0);
        std::iter::from_fn(move || {
            let first = *self.ends.get(next)?;
            let fitting = self.ends[next..].iter().take_while(|end| **end - start <= most).count().max(1);
            let end = if fitting > 1 { self.ends[next + fitting - 1] } else { first };
            let piece = &self.bytes[start..end];
            (next, start) = (next + fitting, end);
            Some((fitting as u64, piece))
        })
    }
}

#[derive(Debug, Default)]
struct State {
    waiting: Batch,
    /// Events that found no room.
    lost: u64,
    /// The thread waits for the first event.
    is_idle: bool,
    is_closed: bool,
    has_ended: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// The thread has something to do.
    wake: Condvar,
    /// The thread has ended.
    ended: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where events wait for the thread `log`.
#[derive(Clone, Debug)]
pub(super) struct Queue(Arc<Shared>);

/// Ends the thread when it is dropped, after the events that wait are written.
#[derive(Debug)]
pub(super) struct Guard(Arc<Shared>);

impl Queue {
    /// Starts the thread, which gives every event to `output`.
    ///
    /// # Errors
    ///
    /// The system has no thread.
    pub(super) fn start(mut output: impl Output + 'static) -> io::Result<(Self, Guard)> {
        let shared = Arc::<Shared>::default();
        let of_thread = Arc::clone(&shared);
        thread::Builder::new().name("log".to_owned()).spawn(move || write_all(&of_thread, &mut output))?;
        Ok((Self(Arc::clone(&shared)), Guard(shared)))
    }

    /// Adds an event. It is lost if there is no room. The lock is held for a copy of the event, and by the thread for an exchange of two buffers.
    pub(super) fn push(&self, event: &[u8]) {
        let mut state = self.0.lock();
        let Batch { bytes, ends } = &state.waiting;
        if ends.len() >= MAXIMUM_EVENTS || bytes.len() + event.len() > MAXIMUM_BYTES {
            state.lost += 1;
            return;
        }
        state.waiting.push(event);
        let is_due = state.is_idle || state.waiting.ends.len() == MANY_EVENTS;
        state.is_idle = false;
        drop(state);
        if is_due {
            self.0.wake.notify_one();
        }
    }

    /// Events that found no room, since the start.
    pub(super) fn lost(&self) -> u64 {
        self.0.lock().lost
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.is_closed = true;
        self.0.wake.notify_one();
        // A timeout leaves the events to the end of the process.
        drop(self.0.ended.wait_timeout_while(state, LAST_WRITE_LIMIT, |state| !state.has_ended));
    }
}

/// What the thread does.
fn write_all(shared: &Shared, output: &mut dyn Output) {
    let mut batch = Batch::default();
    loop {
        let mut state = shared.lock();
        state.is_idle = state.waiting.ends.is_empty();
        let is_quiet = |state: &mut State| state.waiting.ends.is_empty() && !state.is_closed;
        let state = shared.wake.wait_while(state, is_quiet).unwrap_or_else(PoisonError::into_inner);
        let are_few = |state: &mut State| state.waiting.ends.len() < MANY_EVENTS && !state.is_closed;
        let more = shared.wake.wait_timeout_while(state, PAUSE, are_few);
        let (mut state, _) = more.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut batch, &mut state.waiting);
        if batch.ends.is_empty() && state.is_closed {
            state.has_ended = true;
            shared.ended.notify_all();
            return;
        }
        drop(state);
        output.write(&batch);
        batch.clear();
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

    use std::sync::mpsc;

    use super::*;

    /// Says of each batch how many events it has, after it was told to.
    struct Slow(mpsc::Receiver<()>, mpsc::Sender<usize>);

    impl Output for Slow {
        fn write(&mut self, batch: &Batch) {
            // Without a sender, it writes at once.
            let _ = self.0.recv();
            self.1.send(batch.ends.len()).unwrap();
        }
    }

    #[test]
    fn events_that_find_no_room_are_counted_and_nobody_waits() {
        let ((go, gone), (written, told)) = (mpsc::channel(), mpsc::channel());
        let (queue, guard) = Queue::start(Slow(gone, written)).unwrap();
        queue.push(b"first");
        go.send(()).unwrap();
        assert_eq!(told.recv().unwrap(), 1);
        (0..MAXIMUM_EVENTS + 7).for_each(|_| queue.push(b"x"));
        // Some may have left the queue, for a thread that does not write yet.
        let in_flight = queue.lost();
        assert!(in_flight <= 7, "{in_flight}");
        (0..2 * MAXIMUM_EVENTS).for_each(|_| queue.push(b"x"));
        drop(go);
        drop(guard);
        let all = 3 * MAXIMUM_EVENTS + 7;
        assert_eq!(told.iter().sum::<usize>() as u64 + queue.lost(), all as u64);
        assert!(queue.lost() >= MAXIMUM_EVENTS as u64, "{}", queue.lost());
    }

    #[test]
    fn bytes_that_wait_are_bounded() {
        let ((go, gone), (written, told)) = (mpsc::channel(), mpsc::channel());
        let (queue, guard) = Queue::start(Slow(gone, written)).unwrap();
        let event = vec![0; 1024 * 1024];
        (0..40).for_each(|_| queue.push(&event));
        let lost = usize::try_from(queue.lost()).unwrap();
        assert!((24..=32).contains(&lost), "{lost}");
        drop(go);
        drop(guard);
        assert_eq!(told.iter().sum::<usize>() + lost, 40);
    }

    #[test]
    fn events_wait_for_each_other_and_the_last_ones_are_written() {
        let ((go, gone), (written, told)) = (mpsc::channel(), mpsc::channel());
        drop(go);
        let (queue, guard) = Queue::start(Slow(gone, written)).unwrap();
        (0..100).for_each(|_| queue.push(b"x"));
        drop(guard);
        let batches: Vec<usize> = told.iter().collect();
        assert!(batches.iter().sum::<usize>() == 100 && batches.len() < 20, "{batches:?}");
    }

    #[test]
    fn pieces_are_whole_events_within_the_bound() {
        let mut batch = Batch::default();
        ["a\n", "bb\n", "cccccccc\n", "d\n", "e\n"].iter().for_each(|event| batch.push(event.as_bytes()));
        let pieces: Vec<(u64, &[u8])> = batch.pieces(5).collect();
        let expected: [(u64, &[u8]); 3] = [(2, b"a\nbb\n"), (1, b"cccccccc\n"), (2, b"d\ne\n")];
        assert_eq!(pieces, expected);
        assert_eq!(batch.pieces(0).count(), 5, "each alone");
        assert_eq!(Batch::default().pieces(5).count(), 0);
    }
}
