//! How a handler of a list is doing: whether requests go to it as a rule, or one at a time after a pause.
//!
//! Owns one word for each handler, which all workers share, and its transitions. Reads no clock: the time is an argument. Must not choose a handler:
//! [`super::choice`] does; nor log: the caller hears of each change once.

use std::time::Duration;

use super::sync::atomic::{AtomicU64, Ordering};

/// So many failures in a row eject a handler, if it was reached. One suffices if it was not: the next request would find the same.
const FAILURES: u64 = 3;

/// The pause before the first request that tries an ejected handler. It doubles with each that fails.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause while the handler cannot be reached: such a try costs its request nothing, because another handler gets it.
const LONGEST_UNREACHED: Duration = Duration::from_secs(5);

/// The longest pause while the handler does not answer: each try may cost its request the answer.
const LONGEST_UNANSWERED: Duration = Duration::from_secs(60);

/// In a word: some request tries the handler.
const TRIED: u64 = 1 << 63;
/// In a word: the handler is ejected.
const EJECTED: u64 = 1 << 62;
/// In a word: the begin of the 6 bits with the tries that failed since the ejection. Twelve are enough for the longest pause.
const TRIES: u32 = 56;
/// In a word: the begin of the 8 bits with the failures in a row, while it is not ejected.
const IN_A_ROW: u32 = 48;
/// In a word: when the handler may be tried, in milliseconds of the clock of all places.
const TIME: u64 = (1 << IN_A_ROW) - 1;

/// What a failure says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// No connection was made: nothing listens, or the socket may not be used.
    Unreached,
    /// It did not accept the connection, or had a request and did not answer in time, or not in HTTP.
    Unanswered,
}

/// Whether requests go to a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// As a rule.
    InUse,
    /// Not before a pause is over, or while another request tries it.
    Ejected,
    /// The pause is over: the next request may try it.
    Due,
}

/// What a request changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The handler is ejected, and is tried after this pause.
    Ejected(Duration),
    /// The handler was ejected, and answers again.
    Back,
}

/// The standing of one handler. While it is in use and answers, a request costs a load.
#[derive(Debug, Default)]
pub(super) struct Health(AtomicU64);

/// A request that tries an ejected handler: there is one at a time. Ends with [`Health::failed`] or [`Health::answered`]; dropped without, as if the
/// peer is gone, the handler may be tried at once.
#[derive(Debug)]
pub(super) struct Try(u64);

impl Health {
    /// At `now`, which is asked only if the handler is ejected.
    pub(super) fn standing(&self, now: impl FnOnce() -> u64) -> Standing {
        let word = self.0.load(Ordering::Relaxed);
        match word & (EJECTED | TRIED) {
            0 => Standing::InUse,
            EJECTED if word & TIME <= now() => Standing::Due,
            _ => Standing::Ejected,
        }
    }

    /// Whether it is ejected.
    pub(super) fn is_ejected(&self) -> bool {
        self.0.load(Ordering::Relaxed) & EJECTED != 0
    }

    /// Begins to try the handler, if that is due at `now` and no other request does.
    pub(super) fn begin_try(&self, now: u64) -> Option<Try> {
        let word = self.0.load(Ordering::Relaxed);
        let is_due = word & (EJECTED | TRIED) == EJECTED && word & TIME <= now;
        let tried = word | TRIED;
        let took = is_due && self.0.compare_exchange(word, tried, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        took.then_some(Try(tried))
    }

    /// Ends a try without an outcome.
    pub(super) fn end_try(&self, begun: &Try) {
        // Fails if somebody else has changed the word: then it has ended already.
        let _ = self.0.compare_exchange(begun.0, begun.0 & !TRIED, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The handler answered.
    pub(super) fn answered(&self) -> Option<Change> {
        if self.0.load(Ordering::Relaxed) == 0 {
            return None;
        }
        (self.0.swap(0, Ordering::Relaxed) & EJECTED != 0).then_some(Change::Back)
    }

    /// The handler failed at `now`, as a request found that tried it (`begun`), or another one.
    pub(super) fn failed(&self, failure: Failure, begun: Option<&Try>, now: u64) -> Option<Change> {
        let next = |word: u64| {
            if word & EJECTED == 0 {
                let failures = (word >> IN_A_ROW) + 1;
                return match failure {
                    Failure::Unanswered if failures < FAILURES => failures << IN_A_ROW,
                    _ => ejected(0, failure, now),
                };
            }
            match begun {
                Some(begun) if begun.0 == word => ejected((word & !TRIED & !EJECTED) >> TRIES, failure, now),
                // It was on its way before the ejection, or went there because no other handler is left.
                _ => word,
            }
        };
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            match self.0.compare_exchange(word, next(word), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) if word & EJECTED == 0 && next(word) & EJECTED != 0 => return Some(Change::Ejected(FIRST_PAUSE)),
                Ok(_) => return None,
                Err(current) => word = current,
            }
        }
    }

    /// When it may be tried, if it is ejected, and whether a request does now.
    pub(super) fn next_try(&self) -> Option<(u64, bool)> {
        let word = self.0.load(Ordering::Relaxed);
        (word & EJECTED != 0).then_some((word & TIME, word & TRIED != 0))
    }
}

/// The word of a handler after so many tries that failed.
fn ejected(tries: u64, failure: Failure, now: u64) -> u64 {
    let longest = match failure {
        Failure::Unreached => LONGEST_UNREACHED,
        Failure::Unanswered => LONGEST_UNANSWERED,
    };
    let pause = FIRST_PAUSE.saturating_mul(1 << tries.min(12)).min(longest);
    let at = now.saturating_add(u64::try_from(pause.as_millis()).unwrap_or(TIME)).min(TIME);
    EJECTED | (tries + 1).min(12) << TRIES | at
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1000;

    fn ejected_at(now: u64, failure: Failure) -> Health {
        let health = Health::default();
        while health.failed(failure, None, now).is_none() {}
        health
    }

    #[test]
    fn three_failures_in_a_row_eject_and_one_if_it_was_not_reached() {
        let health = Health::default();
        for _ in 0..10 {
            assert_eq!(health.failed(Failure::Unanswered, None, 0), None);
            assert_eq!(health.failed(Failure::Unanswered, None, 0), None);
            assert_eq!(health.answered(), None, "not ejected");
        }
        for expected in [None, None, Some(Change::Ejected(FIRST_PAUSE)), None] {
            assert_eq!(health.failed(Failure::Unanswered, None, 0), expected);
        }
        assert_eq!(health.answered(), Some(Change::Back));
        assert_eq!(health.answered(), None);
        assert_eq!(health.failed(Failure::Unreached, None, 0), Some(Change::Ejected(FIRST_PAUSE)));
        assert!(health.is_ejected());
    }

    #[test]
    fn an_ejected_handler_is_tried_by_one_request_after_each_pause() {
        let check = |failure: Failure, pauses: &[u64]| {
            let mut now = 5;
            let health = ejected_at(now, failure);
            for pause in pauses {
                assert_eq!(health.standing(|| now + pause * SECOND - 1), Standing::Ejected);
                assert!(health.begin_try(now + pause * SECOND - 1).is_none());
                now += pause * SECOND;
                assert_eq!(health.standing(|| now), Standing::Due);
                let begun = health.begin_try(now).expect("it is due");
                assert_eq!(health.standing(|| now), Standing::Ejected);
                assert!(health.begin_try(now).is_none(), "two at a time");
                assert_eq!(health.failed(failure, None, now), None, "a straggler changes nothing");
                assert_eq!(health.failed(failure, Some(&begun), now), None, "told once");
                health.end_try(&begun);
            }
            assert_eq!(health.answered(), Some(Change::Back));
            assert_eq!(health.standing(|| now), Standing::InUse);
        };
        check(Failure::Unanswered, &[1, 2, 4, 8, 16, 32, 60, 60, 60]);
        check(Failure::Unreached, &[1, 2, 4, 5, 5, 5]);
    }

    #[test]
    fn a_try_without_an_outcome_leaves_the_turn_to_the_next() {
        let health = ejected_at(0, Failure::Unreached);
        let begun = health.begin_try(SECOND).expect("it is due");
        health.end_try(&begun);
        let again = health.begin_try(SECOND).expect("it is due still");
        assert_eq!(health.answered(), Some(Change::Back));
        assert_eq!(health.failed(Failure::Unreached, None, 9), Some(Change::Ejected(FIRST_PAUSE)));
        health.end_try(&again);
        assert_eq!(health.next_try(), Some((9 + SECOND, false)), "an old try changes nothing of a new ejection");
    }

    #[test]
    fn an_answer_of_a_request_from_before_ends_an_ejection_under_a_try() {
        let health = ejected_at(0, Failure::Unanswered);
        let begun = health.begin_try(SECOND).expect("it is due");
        assert_eq!(health.answered(), Some(Change::Back));
        assert_eq!(health.failed(Failure::Unanswered, Some(&begun), SECOND), None, "the first of three");
        assert_eq!(health.standing(|| 0), Standing::InUse);
    }
}
