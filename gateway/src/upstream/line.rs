//! The wait of a request for the first place of several handlers.
//!
//! Owns its turn in the queue of each gate, and where it counts as one that waits. Must not choose the gates: [`super::several`] does.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use super::choice::Members;
use super::place::{Gate, Waiting};

/// A request in the queues of several gates. Dropped, it leaves them all, and a place that it got meanwhile goes to the next one there.
pub(super) struct Line<'a> {
    /// It is in several queues, and counts once: so `handler_max_waiting` bounds how many requests wait, as if each waited for one handler.
    _counted: Waiting<'a>,
    /// The handler with that count.
    home: usize,
    turns: Vec<Turn<'a>>,
}

/// The turn at one gate.
struct Turn<'a> {
    index: usize,
    place: Pin<Box<dyn Future<Output = ()> + 'a>>,
}

impl<'a> Line<'a> {
    /// In no queue yet; `counted` at the handler with the index `home`.
    pub(super) fn new(home: usize, counted: Waiting<'a>) -> Self {
        Self { _counted: counted, home, turns: Vec::new() }
    }

    /// The handler at which it counts.
    pub(super) fn home(&self) -> usize {
        self.home
    }

    /// Counts at another handler from now on.
    pub(super) fn count_at(&mut self, home: usize, counted: Waiting<'a>) {
        (self._counted, self.home) = (counted, home);
    }

    /// Waits at the gates of `members`, and at no other. Keeps its turn where it waits already; elsewhere it is the last. `gate` finds the gate
    /// of an index, and the number of its places.
    pub(super) fn stand_at(&mut self, members: Members, gate: impl Fn(usize) -> (&'a Gate, usize)) {
        self.turns.retain(|turn| members.has(turn.index));
        for index in members.indices() {
            if !self.turns.iter().any(|turn| turn.index == index) {
                let (gate, most) = gate(index);
                self.turns.push(Turn { index, place: Box::pin(gate.place(most)) });
            }
        }
    }

    /// The gate of the first place, which is taken; [`Gate::leave`] gives it back. `None` if something has `changed` before.
    pub(super) async fn first(&mut self, mut changed: Pin<&mut impl Future<Output = ()>>) -> Option<usize> {
        poll_fn(|context| {
            // First: a handler that was ejected gives its places back at the same time.
            if changed.as_mut().poll(context).is_ready() {
                return Poll::Ready(None);
            }
            let is_ready = |turn: &mut Turn<'_>| turn.place.as_mut().poll(context).is_ready();
            match self.turns.iter_mut().position(is_ready) {
                // Its future has ended.
                Some(ready) => Poll::Ready(Some(self.turns.swap_remove(ready).index)),
                None => Poll::Pending,
            }
        })
        .await
    }
}
