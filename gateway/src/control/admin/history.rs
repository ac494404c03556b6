//! How many requests and refusals there were, minute by minute, for the last hour.
//!
//! Owns the samples: at most [`MINUTES`]. Must not draw them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::control::exposition::Totals;

/// How many samples are kept: one hour.
pub(in crate::control) const MINUTES: usize = 60;

/// Between two samples.
const INTERVAL: Duration = Duration::from_secs(60);

/// What was counted in one minute.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(in crate::control) struct Minute {
    /// Its end, in seconds since 1970.
    pub(in crate::control) end: u64,
    /// Requests per minute.
    pub(in crate::control) requests: f64,
    /// Refusals per minute.
    pub(in crate::control) refusals: f64,
}

/// The last hour.
#[derive(Debug)]
pub(in crate::control) struct History {
    minutes: VecDeque<Minute>,
    sampled: Instant,
    totals: Totals,
}

impl History {
    /// Begins at `now`, when nothing was counted yet.
    pub(in crate::control) fn begin(now: Instant) -> Self {
        Self { minutes: VecDeque::new(), sampled: now, totals: Totals::default() }
    }

    /// Takes a sample if it is time. `unix` is the time in seconds since 1970.
    pub(in crate::control) fn attend(&mut self, now: Instant, unix: u64, totals: impl FnOnce() -> Totals) {
        let passed = now.saturating_duration_since(self.sampled);
        if passed < INTERVAL {
            return;
        }
        let totals = totals();
        // A process that was stopped for a while has a longer minute.
        let minutes = passed.as_secs_f64() / INTERVAL.as_secs_f64();
        let rate = |now: f64, before: f64| (now - before).max(0.0) / minutes;
        if self.minutes.len() == MINUTES {
            self.minutes.pop_front();
        }
        self.minutes.push_back(Minute {
            end: unix,
            requests: rate(totals.requests, self.totals.requests),
            refusals: rate(totals.refusals, self.totals.refusals),
        });
        (self.sampled, self.totals) = (now, totals);
    }

    /// The samples, the oldest first.
    pub(in crate::control) fn minutes(&self) -> Vec<Minute> {
        self.minutes.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_a_minute_for_an_hour() {
        let begin = Instant::now();
        let mut history = History::begin(begin);
        let mut asked = 0;
        for second in (0..=100 * 60).step_by(15) {
            let counted = second as f64;
            let totals = || {
                asked += 1;
                Totals { requests: counted * 2.0, refusals: counted / 60.0 }
            };
            history.attend(begin + Duration::from_secs(second), 1000 + second, totals);
        }
        assert_eq!(asked, 100, "once a minute");
        let minutes = history.minutes();
        assert_eq!(minutes.len(), MINUTES);
        assert!(minutes.iter().all(|minute| minute.requests == 120.0 && minute.refusals == 1.0), "{minutes:?}");
        assert_eq!((minutes[0].end, minutes[59].end), (1000 + 41 * 60, 1000 + 100 * 60));
    }

    #[test]
    fn a_long_minute_is_a_rate() {
        let begin = Instant::now();
        let mut history = History::begin(begin);
        history.attend(begin + 2 * INTERVAL, 9, || Totals { requests: 60.0, refusals: 0.0 });
        assert_eq!(history.minutes(), [Minute { end: 9, requests: 30.0, refusals: 0.0 }]);
        history.attend(begin + 3 * INTERVAL, 10, Totals::default);
        assert_eq!(history.minutes()[1].requests, 0.0, "a counter never falls");
    }
}
