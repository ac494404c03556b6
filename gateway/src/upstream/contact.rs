//! What became of the last request that a handler got, over all workers.
//!
//! Owns one word that workers write and the control thread reads. Must not decide anything by it: a handler that failed gets the next request all the
//! same.

use std::sync::atomic::{AtomicU64, Ordering};

use hookgate_core::reject::Reject;

/// The low bits of a word: 0 for an answer, or the number of the reason and 1.
const REASON_BITS: u32 = 8;

/// The outcome of the last request, and its time. An answer costs a load, and a store once a second.
#[derive(Debug, Default)]
pub(super) struct Contact {
    last: AtomicU64,
    /// The last answer before the failures that go on, in seconds since 1970; 0 for none.
    answered: AtomicU64,
}

/// How the last request to a handler ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastContact {
    /// In seconds since 1970.
    pub at: u64,
    /// Why the handler did not answer; `None` if it did.
    pub failure: Option<Reject>,
    /// When it answered last, in seconds since 1970; `None` if it never did.
    pub answered: Option<u64>,
}

impl Contact {
    /// The handler answered at `now`, in seconds since 1970.
    pub(super) fn answered(&self, now: u64) {
        let word = now << REASON_BITS;
        if self.last.load(Ordering::Relaxed) != word {
            self.last.store(word, Ordering::Relaxed);
        }
    }

    /// The handler did not answer, at `now` in seconds since 1970.
    pub(super) fn failed(&self, reject: Reject, now: u64) {
        let before = self.last.swap(now << REASON_BITS | (reject as u64 + 1), Ordering::Relaxed);
        if let Some(LastContact { at, failure: None, .. }) = read(before) {
            self.answered.store(at, Ordering::Relaxed);
        }
    }

    /// `None` if no request has ended yet.
    pub(super) fn last(&self) -> Option<LastContact> {
        let last = read(self.last.load(Ordering::Relaxed))?;
        if last.failure.is_none() {
            return Some(last);
        }
        let answered = self.answered.load(Ordering::Relaxed);
        Some(LastContact { answered: (answered > 0).then_some(answered), ..last })
    }
}

fn read(word: u64) -> Option<LastContact> {
    let at = word >> REASON_BITS;
    if at == 0 {
        return None;
    }
    let number = usize::try_from(word & ((1 << REASON_BITS) - 1)).ok()?;
    let failure = number.checked_sub(1).and_then(|index| Reject::ALL.get(index).copied());
    Some(LastContact { at, failure, answered: failure.is_none().then_some(at) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_outcome_is_told_with_the_last_answer() {
        let contact = Contact::default();
        assert_eq!(contact.last(), None);
        contact.failed(Reject::HandlerUnavailable, 9);
        let failure = Some(Reject::HandlerUnavailable);
        assert_eq!(contact.last(), Some(LastContact { at: 9, failure, answered: None }));
        contact.answered(10);
        assert_eq!(contact.last(), Some(LastContact { at: 10, failure: None, answered: Some(10) }));
        for (at, reject) in (11..).zip(Reject::ALL) {
            contact.failed(*reject, at);
            assert_eq!(contact.last(), Some(LastContact { at, failure: Some(*reject), answered: Some(10) }));
        }
    }

    #[test]
    fn every_reason_fits_into_its_bits() {
        assert!(Reject::ALL.len() < 1 << REASON_BITS, "{}", Reject::ALL.len());
    }
}
