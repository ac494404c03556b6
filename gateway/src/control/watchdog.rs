//! The watchdog: tells the service manager that the process is alive as long as every worker is.
//!
//! Owns the decision which workers have stalled, and when the service manager is notified. A worker shows life by completing a round of
//! its deadline sweep, which only happens if its event loop runs. Must not end a worker: the service manager ends the whole process and
//! starts it again.

use std::time::{Duration, Instant};

use super::service;
use crate::metrics;
use crate::worker::WorkerThread;

/// How long a worker may show no life without `WatchdogSec=`: fifty rounds of its sweep.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest interval between two checks: [`PATIENCE`] is exceeded by a few percent at most.
const LONGEST_PERIOD: Duration = Duration::from_millis(250);

/// Shortest interval between two checks, for a watchdog of 30 ms; no sensible one is shorter.
const SHORTEST_PERIOD: Duration = Duration::from_millis(10);

/// The last sign of life of one worker.
#[derive(Debug)]
struct Pulse {
    /// Rounds of its sweep.
    rounds: u64,
    /// When they last increased.
    seen: Instant,
    stalled: bool,
}

/// Watches the workers, and notifies the service manager.
#[derive(Debug)]
pub(super) struct Watchdog {
    /// The service manager's interval; `None` without `WatchdogSec=`.
    interval: Option<Duration>,
    pulses: Vec<Pulse>,
    /// When the workers were last checked.
    checked: Instant,
    /// When the service manager was last notified.
    notified: Option<Instant>,
}

/// A worker that has stalled, or that shows life again.
#[derive(Debug, PartialEq, Eq)]
struct Change {
    worker: usize,
    stalled: bool,
}

impl Watchdog {
    /// A watchdog over `workers` workers, with the service manager's interval.
    pub(super) fn start(workers: usize) -> Self {
        let watchdog = Self::new(service::watchdog_interval(), workers, Instant::now());
        (0..workers).for_each(|worker| metrics::worker_stalled(worker, false));
        watchdog
    }

    fn new(interval: Option<Duration>, workers: usize, now: Instant) -> Self {
        let pulses = (0..workers).map(|_| Pulse { rounds: 0, seen: now, stalled: false }).collect();
        Self { interval, pulses, checked: now, notified: None }
    }

    /// The interval at which to call [`Self::attend`].
    pub(super) fn period(&self) -> Duration {
        self.interval.map_or(LONGEST_PERIOD, |interval| (interval / 3).clamp(SHORTEST_PERIOD, LONGEST_PERIOD))
    }

    /// Checks the workers, logs changes, and notifies the service manager if that is due and no worker has stalled.
    pub(super) fn attend(&mut self, workers: &[WorkerThread]) {
        let now = Instant::now();
        let silent_ms = u64::try_from(self.patience().as_millis()).unwrap_or(u64::MAX);
        for Change { worker, stalled } in self.check(now, |index| rounds(workers, index)) {
            metrics::worker_stalled(worker, stalled);
            match (stalled, self.interval) {
                (true, Some(_)) => tracing::error!(
                    worker,
                    silent_ms,
                    "a worker has shown no life; not feeding the watchdog, so that the service manager restarts this process"
                ),
                (true, None) => tracing::error!(
                    worker,
                    silent_ms,
                    "a worker has shown no life and serves nothing; restart this process, or set WatchdogSec= so that the service \
                     manager does"
                ),
                (false, _) => tracing::warn!(worker, "a worker shows life again"),
            }
        }
        if self.is_due(now) {
            service::alive();
        }
    }

    /// Whether each worker has stalled, in their order.
    pub(super) fn stalled(&self) -> impl Iterator<Item = bool> {
        self.pulses.iter().map(|pulse| pulse.stalled)
    }

    fn patience(&self) -> Duration {
        self.interval.map_or(PATIENCE, |interval| interval / 2)
    }

    /// Notes which workers have shown life since the last check, and returns what has changed. `rounds` returns `None` for a worker that
    /// has ended.
    fn check(&mut self, now: Instant, rounds: impl Fn(usize) -> Option<u64>) -> Vec<Change> {
        let patience = self.patience();
        // If this thread has not run for that long (the whole process was stopped, perhaps), silence says nothing about a worker.
        let overslept = now.duration_since(self.checked) * 2 > patience;
        self.checked = now;
        let mut changes = Vec::new();
        for (worker, pulse) in self.pulses.iter_mut().enumerate() {
            let current = rounds(worker);
            let alive = current.is_none_or(|current| current != pulse.rounds);
            pulse.rounds = current.unwrap_or(pulse.rounds);
            if alive || (overslept && !pulse.stalled) {
                pulse.seen = now;
            }
            let stalled = now.duration_since(pulse.seen) >= patience;
            if stalled != pulse.stalled {
                pulse.stalled = stalled;
                changes.push(Change { worker, stalled });
            }
        }
        changes
    }

    /// Whether to notify the service manager now: in every third of its interval, if the next check would be too late.
    fn is_due(&mut self, now: Instant) -> bool {
        let Some(interval) = self.interval else { return false };
        let early = self.notified.is_some_and(|notified| now.duration_since(notified) + self.period() <= interval / 3);
        if early || self.pulses.iter().any(|pulse| pulse.stalled) {
            return false;
        }
        self.notified = Some(now);
        true
    }
}

fn rounds(workers: &[WorkerThread], index: usize) -> Option<u64> {
    workers.get(index).filter(|worker| !worker.is_finished()).map(WorkerThread::rounds)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// Checks two workers every period. The second shows no life from `stuck` milliseconds on, until `resumed`. Returns when the service
    /// manager was notified, and when a worker changed.
    fn watch(interval: Option<Duration>, stuck: u64, resumed: u64, until: u64) -> (Vec<u64>, Vec<(u64, Change)>) {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(interval, 2, start);
        let (mut notified, mut changes) = (Vec::new(), Vec::new());
        let period = u64::try_from(watchdog.period().as_millis()).expect("it is at most 250");
        for at in (0..until).step_by(usize::try_from(period).expect("as above")) {
            let hung = if at < stuck {
                at
            } else if at < resumed {
                stuck
            } else {
                at
            };
            let rounds = |worker| Some(1 + if worker == 0 { at } else { hung });
            changes.extend(watchdog.check(start + ms(at), rounds).into_iter().map(|change| (at, change)));
            if watchdog.is_due(start + ms(at)) {
                notified.push(at);
            }
        }
        (notified, changes)
    }

    #[test]
    fn the_manager_is_told_every_third_of_its_interval_while_all_workers_live() {
        for interval in [ms(300), ms(1000), ms(3000), ms(30_000)] {
            let (notified, changes) = watch(Some(interval), u64::MAX, u64::MAX, 60_000);
            assert!(changes.is_empty(), "{interval:?}: {changes:?}");
            let longest = notified.windows(2).map(|pair| ms(pair[1] - pair[0])).max();
            assert!(longest.is_some_and(|longest| longest <= interval / 3), "{interval:?}: {longest:?}");
            assert!(
                ms(60_000) < interval / 3 * u32::try_from(notified.len()).unwrap_or(0) * 2,
                "{interval:?}: too often"
            );
        }
        assert!(watch(None, u64::MAX, u64::MAX, 60_000).0.is_empty(), "no interval, no notification");
    }

    #[test]
    fn a_worker_that_stalls_silences_the_watchdog_within_half_of_the_interval() {
        let (notified, changes) = watch(Some(ms(6000)), 10_000, u64::MAX, 60_000);
        let [(at, change)] = changes.as_slice() else { unreachable!("one change, once: {changes:?}") };
        assert_eq!(*change, Change { worker: 1, stalled: true });
        assert!((13_000..=13_250).contains(at), "{at}");
        assert!(notified.last().is_some_and(|last| (10_000..13_250).contains(last)), "{notified:?}");
    }

    #[test]
    fn a_worker_that_shows_life_again_feeds_it_again() {
        let (notified, changes) = watch(Some(ms(6000)), 10_000, 20_000, 60_000);
        assert_eq!(changes[1], (20_000, Change { worker: 1, stalled: false }));
        assert!(notified.contains(&20_000) && !notified.contains(&19_000), "{notified:?}");
    }

    #[test]
    fn without_a_watchdog_stalls_are_noticed_all_the_same() {
        let (_, changes) = watch(None, 10_000, u64::MAX, 60_000);
        assert_eq!(changes, [(15_000, Change { worker: 1, stalled: true })]);
    }

    #[test]
    fn a_process_that_was_stopped_reports_no_worker() {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(Some(ms(3000)), 1, start);
        assert_eq!(watchdog.check(start + ms(100), |_| Some(1)), []);
        assert_eq!(watchdog.check(start + ms(9000), |_| Some(1)), [], "the whole process was stopped");
        assert_eq!(watchdog.check(start + ms(9700), |_| Some(1)), []);
        assert_eq!(watchdog.check(start + ms(10_400), |_| Some(1)), []);
        assert_eq!(watchdog.check(start + ms(10_500), |_| Some(1)), [Change { worker: 0, stalled: true }]);
    }

    #[test]
    fn a_worker_that_has_ended_is_no_stalled_one() {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(Some(ms(3000)), 1, start);
        for at in (0..20_000).step_by(250) {
            assert_eq!(watchdog.check(start + ms(at), |_| None), []);
        }
    }
}
