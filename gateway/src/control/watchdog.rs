//! The watchdog: the service manager hears that we live while every worker does, and not by a timer alone.
//!
//! Owns the judgement which workers have stalled, and when the manager is to be told that none has. What a worker shows is a
//! round of its deadline sweep, which comes around only if the worker's loop does. Must not end a worker: the manager ends
//! the whole process, and starts it again.

use std::time::{Duration, Instant};

use super::service;
use crate::metrics;
use crate::worker::WorkerThread;

/// How long a worker may show no life where no watchdog says: fifty rounds of its sweep.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often workers are looked at, at least: often enough that [`PATIENCE`] is kept to a few percent.
const LONGEST_PERIOD: Duration = Duration::from_millis(250);

/// How often they are looked at, at most: a shorter watchdog than thirty milliseconds nobody means.
const SHORTEST_PERIOD: Duration = Duration::from_millis(10);

/// What is known of one worker.
#[derive(Debug)]
struct Pulse {
    rounds: u64,
    seen: Instant,
    stalled: bool,
}

/// Watches the workers, and tells the service manager.
#[derive(Debug)]
pub(super) struct Watchdog {
    interval: Option<Duration>,
    pulses: Vec<Pulse>,
    looked: Instant,
    told: Option<Instant>,
}

/// A worker that stalled, or one that goes on after it had.
#[derive(Debug, PartialEq, Eq)]
struct Change {
    worker: usize,
    stalled: bool,
}

impl Watchdog {
    /// A watchdog over `workers` workers, for the interval that the service manager asks for.
    pub(super) fn start(workers: usize) -> Self {
        let watchdog = Self::new(service::watchdog_interval(), workers, Instant::now());
        (0..workers).for_each(|worker| metrics::worker_stalled(worker, false));
        watchdog
    }

    fn new(interval: Option<Duration>, workers: usize, now: Instant) -> Self {
        let pulses = (0..workers).map(|_| Pulse { rounds: 0, seen: now, stalled: false }).collect();
        Self { interval, pulses, looked: now, told: None }
    }

    /// How often [`Self::attend`] is to be called.
    pub(super) fn period(&self) -> Duration {
        self.interval.map_or(LONGEST_PERIOD, |interval| (interval / 3).clamp(SHORTEST_PERIOD, LONGEST_PERIOD))
    }

    /// Looks at the workers, and tells the service manager where it is due and nothing is wrong.
    pub(super) fn attend(&mut self, workers: &[WorkerThread]) {
        let now = Instant::now();
        let patience = self.patience().as_millis();
        for Change { worker, stalled } in self.look(now, |index| rounds(workers, index)) {
            metrics::worker_stalled(worker, stalled);
            match (stalled, self.interval) {
                (true, Some(_)) => tracing::error!(
                    "worker-{worker} has shown no life for {patience} ms; not feeding the watchdog, so that the service manager restarts this process"
                ),
                (true, None) => tracing::error!(
                    "worker-{worker} has shown no life for {patience} ms and serves nothing; restart this process, or set \
                     WatchdogSec= so that the service manager does"
                ),
                (false, _) => tracing::warn!("worker-{worker} shows life again"),
            }
        }
        if self.is_due(now) {
            service::alive();
        }
    }

    fn patience(&self) -> Duration {
        self.interval.map_or(PATIENCE, |interval| interval / 2)
    }

    /// Notes which workers have shown life since the last look, and returns what has changed. `rounds` has `None` for a worker
    /// that has ended.
    fn look(&mut self, now: Instant, rounds: impl Fn(usize) -> Option<u64>) -> Vec<Change> {
        let patience = self.patience();
        // Who has not looked for so long, be it that the whole process was stopped, knows nothing of others.
        let overslept = now.duration_since(self.looked) * 2 > patience;
        self.looked = now;
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

    /// Whether the service manager is to be told now: every third of its interval, as the next look would be later than that.
    fn is_due(&mut self, now: Instant) -> bool {
        let Some(interval) = self.interval else { return false };
        let early = self.told.is_some_and(|told| now.duration_since(told) + self.period() <= interval / 3);
        if early || self.pulses.iter().any(|pulse| pulse.stalled) {
            return false;
        }
        self.told = Some(now);
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

    /// Looks every period at workers, of which the last shows no life from `stuck` milliseconds on, until `resumed`; returns when
    /// the manager was told, and when a worker changed.
    fn watch(interval: Option<Duration>, stuck: u64, resumed: u64, until: u64) -> (Vec<u64>, Vec<(u64, Change)>) {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(interval, 2, start);
        let (mut told, mut changes) = (Vec::new(), Vec::new());
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
            changes.extend(watchdog.look(start + ms(at), rounds).into_iter().map(|change| (at, change)));
            if watchdog.is_due(start + ms(at)) {
                told.push(at);
            }
        }
        (told, changes)
    }

    #[test]
    fn the_manager_is_told_every_third_of_its_interval_while_all_workers_live() {
        for interval in [ms(300), ms(1000), ms(3000), ms(30_000)] {
            let (told, changes) = watch(Some(interval), u64::MAX, u64::MAX, 60_000);
            assert!(changes.is_empty(), "{interval:?}: {changes:?}");
            let longest = told.windows(2).map(|pair| ms(pair[1] - pair[0])).max();
            assert!(longest.is_some_and(|longest| longest <= interval / 3), "{interval:?}: {longest:?}");
            assert!(ms(60_000) < interval / 3 * u32::try_from(told.len()).unwrap_or(0) * 2, "{interval:?}: too often");
        }
        assert!(watch(None, u64::MAX, u64::MAX, 60_000).0.is_empty(), "nobody asks");
    }

    #[test]
    fn a_worker_that_stalls_silences_the_watchdog_within_half_of_the_interval() {
        let (told, changes) = watch(Some(ms(6000)), 10_000, u64::MAX, 60_000);
        let [(at, change)] = changes.as_slice() else { unreachable!("one change, once: {changes:?}") };
        assert_eq!(*change, Change { worker: 1, stalled: true });
        assert!((13_000..=13_250).contains(at), "{at}");
        assert!(told.last().is_some_and(|last| (10_000..13_250).contains(last)), "{told:?}");
    }

    #[test]
    fn a_worker_that_goes_on_feeds_it_again() {
        let (told, changes) = watch(Some(ms(6000)), 10_000, 20_000, 60_000);
        assert_eq!(changes[1], (20_000, Change { worker: 1, stalled: false }));
        assert!(told.contains(&20_000) && !told.contains(&19_000), "{told:?}");
    }

    #[test]
    fn without_a_watchdog_stalls_are_noticed_all_the_same() {
        let (_, changes) = watch(None, 10_000, u64::MAX, 60_000);
        assert_eq!(changes, [(15_000, Change { worker: 1, stalled: true })]);
    }

    #[test]
    fn who_was_stopped_blames_nobody() {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(Some(ms(3000)), 1, start);
        assert_eq!(watchdog.look(start + ms(100), |_| Some(1)), []);
        assert_eq!(watchdog.look(start + ms(9000), |_| Some(1)), [], "the whole process was stopped");
        assert_eq!(watchdog.look(start + ms(9700), |_| Some(1)), []);
        assert_eq!(watchdog.look(start + ms(10_400), |_| Some(1)), []);
        assert_eq!(watchdog.look(start + ms(10_500), |_| Some(1)), [Change { worker: 0, stalled: true }]);
    }

    #[test]
    fn a_worker_that_has_ended_is_no_stalled_one() {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(Some(ms(3000)), 1, start);
        for at in (0..20_000).step_by(250) {
            assert_eq!(watchdog.look(start + ms(at), |_| None), []);
        }
    }
}
