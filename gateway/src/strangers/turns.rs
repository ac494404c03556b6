//! Turns: which handshake uses the processor next.
//!
//! A handshake has two long steps: the key exchange with the server's signature, and the check of the client's chain and signature.
//! In each turn of the worker's loop at most one step runs; between two steps the worker serves everything else that is ready. So a
//! request of an admitted sender waits for one step, however many handshakes wait. Owns the queues and their order. Must not run a
//! step: whoever has the turn does.
//!
//! **Order.** First by the standing of the source. Of one standing, a handshake that is past its first step goes first, because its
//! memory is then free; otherwise the first to ask is the first to get it. Each stranger waits for one turn at most, so the queues are bounded as strangers are.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use hookgate_io::TurnEnd;

use super::Entry;
use super::sources::Standing;

/// A long step of a handshake. In the order in which waiting steps run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// What the client sent after its ClientHello is read: its chain and its signature are checked.
    Finish,
    /// The ClientHello is answered: a key exchange and the server's signature.
    Begin,
}

/// A queue for each standing and step.
const QUEUES: usize = 2 * Standing::ALL.len();

/// The turns of a worker.
pub(super) struct Turns {
    /// A step has run, or may run, in this turn of the loop.
    taken: Cell<bool>,
    queues: RefCell<[VecDeque<Rc<Entry>>; QUEUES]>,
    /// The task that gives turns, while it waits for the first one to be taken.
    giver: RefCell<Option<Waker>>,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self { taken: Cell::new(false), queues: RefCell::default(), giver: RefCell::new(None) }
    }

    /// Ready when `entry` may run a step, or was evicted.
    pub(super) async fn take(&self, entry: &Rc<Entry>, step: Step) {
        if !self.taken.replace(true) {
            // Nobody waits: `next` clears `taken` only if the queues are empty.
            let giver = self.giver.take();
            if let Some(giver) = giver {
                giver.wake();
            }
            return;
        }
        entry.granted.set(false);
        self.queues.borrow_mut()[2 * entry.standing.get() as usize + step as usize].push_back(Rc::clone(entry));
        poll_fn(|context| Self::poll_granted(entry, context)).await;
    }

    fn poll_granted(entry: &Entry, context: &Context<'_>) -> Poll<()> {
        if entry.granted.get() || entry.evicted.get().is_some() {
            return Poll::Ready(());
        }
        entry.waker.replace(Some(context.waker().clone()));
        Poll::Pending
    }

    /// Gives a turn in each turn of the loop as long as strangers wait.
    pub(super) async fn give(&self, mut end_of_turn: TurnEnd) {
        loop {
            poll_fn(|context| self.poll_taken(context)).await;
            while self.taken.get() {
                end_of_turn.wait().await;
                self.next();
            }
        }
    }

    fn poll_taken(&self, context: &Context<'_>) -> Poll<()> {
        if self.taken.get() {
            return Poll::Ready(());
        }
        self.giver.replace(Some(context.waker().clone()));
        Poll::Pending
    }

    /// Gives the turn to the next that waits. If none does, the turn is free.
    fn next(&self) {
        let next = {
            let mut queues = self.queues.borrow_mut();
            queues.iter_mut().find_map(|queue| {
                // An evicted one has left already, and whoever dropped its handshake wants no turn.
                while let Some(entry) = queue.pop_front() {
                    if entry.evicted.get().is_none() && Rc::strong_count(&entry) > 1 {
                        return Some(entry);
                    }
                }
                None
            })
        };
        self.taken.set(next.is_some());
        if let Some(entry) = next {
            entry.granted.set(true);
            let waker = entry.waker.take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

    use std::cell::RefCell;
    use std::net::IpAddr;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::pin::{Pin, pin};
    use std::rc::Rc;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use super::super::{Eviction, Stranger, Strangers};
    use super::Step;

    const NOW: Duration = Duration::from_secs(1);

    fn arrive(strangers: &Rc<Strangers>, address: &str) -> Stranger {
        let ours = OwnedFd::from(UnixStream::pair().unwrap().0);
        strangers.arrived(&Rc::new(ours), address.parse::<IpAddr>().unwrap(), NOW)
    }

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn one_turn_is_given_at_a_time_by_standing_then_step_then_arrival() {
        let strangers = Strangers::new();
        strangers.set_failures_per_second(1);
        let [known, bad] = ["192.0.2.1", "192.0.2.2"];
        {
            let first = arrive(&strangers, bad);
            assert!(poll(pin!(first.turn(Step::Begin))).is_ready(), "nobody waits");
            (0..10).for_each(|_| first.failed(NOW));
            arrive(&strangers, known).admitted(NOW);
        }
        let rows = [
            (bad, Step::Finish, 5),
            (bad, Step::Begin, 6),
            ("192.0.2.3", Step::Begin, 3),
            ("192.0.2.4", Step::Begin, 4),
            ("192.0.2.5", Step::Finish, 2),
            (known, Step::Begin, 1),
            (known, Step::Finish, 0),
        ];
        let all = rows.map(|(address, step, place)| (arrive(&strangers, address), step, place));
        let order = RefCell::new(Vec::new());
        let mut waiting: Vec<_> = all
            .iter()
            .map(|(stranger, step, place)| {
                let order = &order;
                Box::pin(async move {
                    stranger.turn(*step).await.unwrap();
                    order.borrow_mut().push(*place);
                })
            })
            .collect();
        waiting.iter_mut().for_each(|turn| assert!(poll(turn.as_mut()).is_pending()));
        for given in 1..=rows.len() {
            strangers.turns.next();
            waiting.retain_mut(|turn| poll(turn.as_mut()).is_pending());
            assert_eq!(order.borrow().len(), given);
        }
        assert_eq!(*order.borrow(), [0, 1, 2, 3, 4, 5, 6]);
        strangers.turns.next();
        let late = arrive(&strangers, bad);
        assert!(poll(pin!(late.turn(Step::Begin))).is_ready(), "nobody waits");
    }

    #[test]
    fn who_was_evicted_or_has_left_gets_no_turn() {
        let strangers = Strangers::new();
        let [evicted, left, next] = ["192.0.2.1"; 3].map(|address| arrive(&strangers, address));
        assert!(poll(pin!(next.turn(Step::Begin))).is_ready());
        let mut of_evicted = pin!(evicted.turn(Step::Begin));
        let mut of_next = pin!(next.turn(Step::Finish));
        assert!(poll(of_evicted.as_mut()).is_pending());
        {
            let mut of_left = pin!(left.turn(Step::Begin));
            assert!(poll(of_left.as_mut()).is_pending());
        }
        drop(left);
        assert!(poll(of_next.as_mut()).is_pending());
        strangers.evict_oldest(Eviction::Memory);
        assert_eq!(poll(of_evicted.as_mut()), Poll::Ready(Err(Eviction::Memory)), "at once");
        strangers.turns.next();
        assert_eq!(poll(of_next.as_mut()), Poll::Ready(Ok(())));
    }
}
