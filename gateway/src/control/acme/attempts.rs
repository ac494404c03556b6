//! What became of the attempts to get a certificate, for the status page, and for reloads, which end a back-off.
//!
//! Owns what is remembered of them: the last one that ended, and when the next one is. Must not decide when that is: `task` notes it here.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Place;
use super::failure::Failure;

/// The attempts of one certificate.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<Noted>);

#[derive(Clone, Debug, Default)]
struct Noted {
    is_running: bool,
    last: Option<Ended>,
    failures: u32,
    next: Option<u64>,
}

/// An attempt that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control) struct Ended {
    /// When, in seconds since 1970.
    pub(in crate::control) at: u64,
    /// `ok`, or the step that failed.
    pub(in crate::control) result: &'static str,
    /// Why it failed: one bounded line, with the words of the authority.
    pub(in crate::control) error: Option<String>,
}

/// A certificate that hookgate asks for, at one moment. Times are in seconds since 1970.
#[derive(Clone, Debug)]
pub(in crate::control) struct Overview {
    pub(in crate::control) names: Vec<String>,
    /// The URL of the directory.
    pub(in crate::control) directory: String,
    /// Whether there is one. It may lack names that a reload has added.
    pub(in crate::control) is_in_use: bool,
    /// When that one ends.
    pub(in crate::control) until: Option<u64>,
    /// Whether there is an attempt now.
    pub(in crate::control) is_running: bool,
    /// The last attempt that ended, if one did since the order is as it is.
    pub(in crate::control) last: Option<Ended>,
    /// How many failed in a row.
    pub(in crate::control) failures: u32,
    /// When the next one is, as far as that is known.
    pub(in crate::control) next: Option<u64>,
}

impl Attempts {
    /// So many failed in a row before this process.
    pub(super) fn resume(&self, failures: u32) {
        self.lock().failures = failures;
    }

    /// One begins.
    pub(super) fn begin(&self) {
        self.lock().is_running = true;
    }

    /// It ended at `now`: `failure` says why, if it failed, and it is the last of so many in a row.
    pub(super) fn end(&self, now: u64, failure: Option<&Failure>, failures: u32) {
        let result = Failure::result(failure);
        let last = Some(Ended { at: now, result, error: failure.map(ToString::to_string) });
        *self.lock() = Noted { is_running: false, last, failures, next: None };
    }

    /// The next one is at `next`.
    pub(super) fn plan(&self, next: u64) {
        self.lock().next = Some(next);
    }

    /// Whether the last one failed.
    pub(super) fn has_failed(&self) -> bool {
        self.lock().failures > 0
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// What the status page tells of it.
    pub(super) fn overview(&self) -> Overview {
        let Noted { is_running, last, failures, next } = self.attempts.lock().clone();
        let current = self.current.load();
        let until = current.as_ref().and_then(|kept| kept.certificate.validity()).map(|(_, until)| until);
        Overview {
            names: self.order.domains.clone(),
            directory: self.order.directory.name(),
            is_in_use: current.is_some(),
            until,
            is_running,
            last,
            failures,
            next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::failure::Step;
    use super::*;

    #[test]
    fn the_last_attempt_that_ended_is_told_until_the_next_one_ends() {
        let attempts = Attempts::default();
        attempts.resume(4);
        attempts.plan(7);
        let Noted { last, failures, next, .. } = attempts.lock().clone();
        assert_eq!((last, failures, next), (None, 4, Some(7)));
        attempts.begin();
        let failure = Failure::new(Step::Order, "no\nmore");
        attempts.end(8, Some(&failure), 5);
        attempts.plan(60);
        attempts.begin();
        let Noted { is_running, last, failures, next } = attempts.lock().clone();
        let ended = Ended { at: 8, result: "order", error: Some("no more".to_owned()) };
        assert_eq!((is_running, last, failures, next), (true, Some(ended), 5, Some(60)));
        attempts.end(61, None, 0);
        let Noted { is_running, last, failures, next } = attempts.lock().clone();
        let ended = Ended { at: 61, result: "ok", error: None };
        assert_eq!((is_running, last, failures, next), (false, Some(ended), 0, None));
    }
}
