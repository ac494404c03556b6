//! What is lent to the kernel, from the submission of an operation to its completion.
//!
//! Owns the buffers and the descriptors of operations under way, and what is known of completed ones. A buffer stays here until the
//! kernel says that it is done with it, whatever becomes of whoever asked for the operation. Must not speak to the kernel: that
//! is [`super::queues`].

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::queues::Reactor;
use crate::ring::{Completion, Lent};

/// Names an operation to the kernel: its place, and how many had that place before. A name returns after 2^32 operations there, and
/// by then nothing is left of the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    place: u32,
    round: u32,
}

impl Key {
    pub(super) fn to_user_data(self) -> u64 {
        u64::from(self.round) << 32 | u64::from(self.place)
    }

    fn from_user_data(user_data: u64) -> Self {
        let bytes = user_data.to_be_bytes();
        let [a, b, c, d, e, f, g, h] = bytes;
        Self { round: u32::from_be_bytes([a, b, c, d]), place: u32::from_be_bytes([e, f, g, h]) }
    }
}

struct Slot {
    round: u32,
    state: State,
}

enum State {
    Free,
    UnderWay {
        lent: Lent,
        waker: Option<Waker>,
    },
    /// Nobody wants to know what comes of it.
    Abandoned {
        _lent: Lent,
    },
    Completed(Completion),
}

/// The operations of a worker: at most one a direction of a socket, and one accept a listener.
#[derive(Default)]
pub(super) struct Operations {
    slots: Vec<Slot>,
    free: Vec<u32>,
    under_way: usize,
}

impl Operations {
    /// Takes in what an operation borrows.
    pub(super) fn begin(&mut self, lent: Lent) -> Key {
        let state = State::UnderWay { lent, waker: None };
        self.under_way += 1;
        if let Some(place) = self.free.pop() {
            let slot = &mut self.slots[place as usize];
            slot.state = state;
            return Key { place, round: slot.round };
        }
        let place =
            u32::try_from(self.slots.len()).expect("a process has less than 2^31 descriptors, each two operations");
        self.slots.push(Slot { round: 0, state });
        Key { place, round: 0 }
    }

    /// How many operations the kernel has.
    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    fn slot(&mut self, key: Key) -> Option<&mut Slot> {
        self.slots.get_mut(key.place as usize).filter(|slot| slot.round == key.round)
    }

    fn free(&mut self, key: Key) -> State {
        let Some(slot) = self.slot(key) else { return State::Free };
        let state = std::mem::replace(&mut slot.state, State::Free);
        slot.round = slot.round.wrapping_add(1);
        self.free.push(key.place);
        state
    }

    /// The kernel is done with the operation. `conclude` makes a completion of what was lent.
    pub(super) fn complete(&mut self, user_data: u64, conclude: impl FnOnce(Lent) -> Completion) -> Concluded {
        let key = Key::from_user_data(user_data);
        let Some(slot) = self.slot(key) else { return Concluded::Nothing };
        match std::mem::replace(&mut slot.state, State::Free) {
            State::UnderWay { lent, waker } => {
                slot.state = State::Completed(conclude(lent));
                self.under_way -= 1;
                waker.map_or(Concluded::Nothing, Concluded::Wake)
            }
            State::Abandoned { _lent: lent } => {
                self.under_way -= 1;
                self.free(key);
                Concluded::Abandoned(conclude(lent))
            }
            // The kernel completes an operation once.
            state @ (State::Completed(_) | State::Free) => {
                slot.state = state;
                Concluded::Nothing
            }
        }
    }

    /// Takes out what came of an operation; `Err` gives back a waker that another has replaced.
    fn take(&mut self, key: Key, context: &Context<'_>) -> Result<Completion, Option<Waker>> {
        let Some(slot) = self.slot(key) else { return Ok(unknown()) };
        match &mut slot.state {
            State::UnderWay { waker, .. } => match waker {
                Some(waker) if waker.will_wake(context.waker()) => Err(None),
                waker => Err(waker.replace(context.waker().clone())),
            },
            State::Abandoned { .. } | State::Free => Ok(unknown()),
            State::Completed(_) => match self.free(key) {
                State::Completed(completion) => Ok(completion),
                State::UnderWay { .. } | State::Abandoned { .. } | State::Free => Ok(unknown()),
            },
        }
    }

    /// Nobody will ask for the operation again. What it leaves behind is returned, to be dropped where nothing is borrowed.
    fn abandon(&mut self, key: Key) -> Option<Left> {
        let slot = self.slot(key)?;
        match std::mem::replace(&mut slot.state, State::Free) {
            State::UnderWay { lent, waker } => {
                slot.state = State::Abandoned { _lent: lent };
                waker.map(Left::Waker)
            }
            State::Completed(completion) => {
                self.free(key);
                Some(Left::Completion(completion))
            }
            state @ (State::Abandoned { .. } | State::Free) => {
                slot.state = state;
                None
            }
        }
    }
}

/// What a completion asks for, once nothing is borrowed any more.
pub(super) enum Concluded {
    Nothing,
    Wake(Waker),
    /// To be dropped: a connection that was accepted for nobody is closed.
    Abandoned(#[expect(dead_code, reason = "it is dropped, which is all it is for")] Completion),
}

#[expect(dead_code, reason = "they are dropped, which is all they are for")]
enum Left {
    Waker(Waker),
    Completion(Completion),
}

/// What comes of an operation that is not there: it was asked for after its end.
fn unknown() -> Completion {
    debug_assert!(false, "an operation was polled after its completion");
    Completion::failed(rustix::io::Errno::CANCELED.into())
}

/// An operation under way, or completed and not asked for yet. Dropping it cancels nothing: what is lent stays with the reactor
/// until the kernel gives it back.
pub(crate) struct Operation {
    reactor: Rc<Reactor>,
    key: Key,
}

impl Operation {
    pub(super) fn new(reactor: Rc<Reactor>, key: Key) -> Self {
        Self { reactor, key }
    }

    /// What the operation is called, to have it cancelled.
    pub(super) fn key(&self) -> Key {
        self.key
    }
}

impl Future for Operation {
    type Output = Completion;

    /// Waits for what comes of it; not to be asked again then.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Completion> {
        let taken = self.reactor.operations.borrow_mut().take(self.key, context);
        match taken {
            Ok(completion) => Poll::Ready(completion),
            Err(_replaced) => Poll::Pending,
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        let left = self.reactor.operations.borrow_mut().abandon(self.key);
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    use rustix::net::SendFlags;

    use super::*;
    use crate::ring::Submission;

    fn lent(descriptor: &Rc<OwnedFd>) -> Lent {
        Submission::send(descriptor, vec![1, 2, 3], 0, SendFlags::empty()).into_parts().1
    }

    #[expect(unsafe_code, reason = "the tests answer for the kernel")]
    fn done(lent: Lent) -> Completion {
        // SAFETY: three bytes were sent of three.
        unsafe { Completion::new(lent, 3) }
    }

    #[test]
    fn what_is_lent_stays_until_the_kernel_gives_it_back() {
        let (socket, _peer) = UnixStream::pair().unwrap();
        let descriptor = Rc::new(OwnedFd::from(socket));
        let mut operations = Operations::default();
        let key = operations.begin(lent(&descriptor));
        assert!(operations.abandon(key).is_none(), "nobody has asked for it yet");
        assert_eq!((Rc::strong_count(&descriptor), operations.under_way()), (2, 1));
        assert!(matches!(operations.complete(key.to_user_data(), done), Concluded::Abandoned(_)));
        assert_eq!((Rc::strong_count(&descriptor), operations.under_way()), (1, 0));
    }

    #[test]
    fn a_place_is_used_again_under_another_name() {
        let (socket, _peer) = UnixStream::pair().unwrap();
        let descriptor = Rc::new(OwnedFd::from(socket));
        let context = Context::from_waker(Waker::noop());
        let mut operations = Operations::default();
        let first = operations.begin(lent(&descriptor));
        assert!(operations.take(first, &context).is_err(), "under way");
        assert!(matches!(operations.complete(first.to_user_data(), done), Concluded::Wake(_)));
        assert_eq!(operations.take(first, &context).ok().unwrap().buffer, [1, 2, 3]);
        let second = operations.begin(lent(&descriptor));
        assert_eq!((second.place, second.round), (first.place, first.round + 1));
        assert_eq!(Key::from_user_data(second.to_user_data()), second);
        // What is late for the first means nothing to the second.
        assert!(matches!(operations.complete(first.to_user_data(), done), Concluded::Nothing));
        assert!(operations.abandon(first).is_none());
        assert_eq!(operations.under_way(), 1);
    }
}
