//! Many webhooks: each a delivery of its own, so many at a time, so many per second.
//!
//! Owns the bounds, the pace and the summary. The latencies of all are kept, four bytes each.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use serde::Serialize;
use tokio::time::sleep_until;

use super::{Job, Known, Opened, SendError, view};
use crate::attempt::Open;
use crate::exchange::{Answer, ExchangeError};
use crate::wrong;

/// How many webhooks to send.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// All in all: 1 to [`Load::MAXIMUM_COUNT`].
    pub count: u32,
    /// At a time: 1 to [`Load::MAXIMUM_CONCURRENCY`].
    pub concurrency: u32,
    /// At most so many begin in a second; `None` for as many as answers allow. 1 to [`Load::MAXIMUM_RATE`].
    pub rate: Option<u32>,
    /// Send many over one connection, instead of one over each.
    pub keep_alive: bool,
}

impl Load {
    /// Half an hour at 500 a second. The latencies take 8 MB.
    pub const MAXIMUM_COUNT: u32 = 1_000_000;
    /// Each is a socket and some tens of kilobytes; the default limit on open files is 1024.
    pub const MAXIMUM_CONCURRENCY: u32 = 512;
    /// More than one thread can send.
    pub const MAXIMUM_RATE: u32 = 100_000;
}

/// Percentiles of a latency, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// The median.
    pub p50: f64,
    /// Nine in ten are at most this.
    pub p90: f64,
    /// 99 in 100 are at most this.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

/// What came of many webhooks.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// How many were sent.
    pub count: u32,
    /// How many got the expected answer.
    pub as_expected: u32,
    /// By status and reason, or by what went wrong.
    pub outcomes: BTreeMap<String, u32>,
    /// From the first connection to the last answer, in seconds.
    pub seconds: f64,
    /// From the start of a connection to the end of the answer, in milliseconds; of a kept connection, from the request.
    pub whole_ms: Percentiles,
    /// From the request to the first byte of the answer, in milliseconds.
    pub first_byte_ms: Percentiles,
}

/// The most different outcomes that are told apart: the words of a stranger are among them.
const MAXIMUM_OUTCOMES: usize = 64;

#[derive(Debug, Default)]
struct Tally {
    as_expected: u32,
    outcomes: BTreeMap<String, u32>,
    whole: Vec<u32>,
    first_byte: Vec<u32>,
}

fn microseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

impl Tally {
    fn add(&mut self, outcome: &Result<Answer, ExchangeError>, is_expected: bool, whole: Duration) {
        self.as_expected += u32::from(is_expected);
        let mut text = wrong::describe(view(outcome));
        if self.outcomes.len() >= MAXIMUM_OUTCOMES && !self.outcomes.contains_key(&text) {
            text = "other".to_owned();
        }
        *self.outcomes.entry(text).or_default() += 1;
        if let Ok(answer) = outcome {
            self.whole.push(microseconds(whole));
            self.first_byte.push(microseconds(answer.first_byte));
        }
    }
}

/// The value below which `percent` of the sorted `values` lie, by the nearest rank.
fn percentile(sorted: &[u32], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).clamp(1, sorted.len().max(1));
    sorted.get(rank - 1).map_or(0.0, |value| f64::from(*value) / 1000.0)
}

fn percentiles(mut values: Vec<u32>) -> Percentiles {
    values.sort_unstable();
    let at = |percent| percentile(&values, percent);
    Percentiles { p50: at(50), p90: at(90), p99: at(99), max: at(100) }
}

impl Job<'_> {
    /// Sends many webhooks, with a progress bar if standard error is a terminal.
    ///
    /// # Errors
    ///
    /// The first connection fails, the sender does not accept the receiver's certificate, or a request cannot be made. Later connections
    /// that fail count as an outcome.
    pub async fn send_many(&self, load: Load) -> Result<Summary, SendError> {
        self.plan.check()?;
        let run = Run {
            job: self,
            load,
            known: Known::default(),
            next: Cell::new(0),
            start: Instant::now(),
            tally: RefCell::default(),
            failed: RefCell::default(),
            bar: bar(load.count),
        };
        join_all((0..load.concurrency.min(load.count)).map(|_| run.lane())).await;
        run.bar.finish_and_clear();
        if let Some(error) = run.failed.take() {
            return Err(error);
        }
        let (tally, seconds) = (run.tally.take(), run.start.elapsed().as_secs_f64());
        Ok(Summary {
            count: tally.outcomes.values().sum(),
            as_expected: tally.as_expected,
            outcomes: tally.outcomes,
            seconds,
            whole_ms: percentiles(tally.whole),
            first_byte_ms: percentiles(tally.first_byte),
        })
    }
}

fn bar(count: u32) -> ProgressBar {
    let bar = ProgressBar::new(count.into());
    let template = "{bar:30} {pos}/{len} webhooks, {rate}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        let rate = |state: &ProgressState, text: &mut dyn std::fmt::Write| {
            // Writing fails only if the terminal does.
            let _ = write!(text, "{:.0}/s", state.per_sec());
        };
        bar.set_style(style.with_key("rate", rate));
    }
    bar
}

/// One run. Everything is on one thread, so cells suffice, and no borrow outlives an `await`.
struct Run<'a> {
    job: &'a Job<'a>,
    load: Load,
    known: Known,
    next: Cell<u32>,
    start: Instant,
    tally: RefCell<Tally>,
    failed: RefCell<Option<SendError>>,
    bar: ProgressBar,
}

impl Run<'_> {
    /// Sends one webhook after another, until all are sent.
    async fn lane(&self) {
        let mut kept = None;
        loop {
            let number = self.next.get();
            if number >= self.load.count || self.failed.borrow().is_some() {
                return;
            }
            self.next.set(number + 1);
            if let Some(rate) = self.load.rate {
                let due = self.start + Duration::from_secs(1) * number / rate;
                sleep_until(due.into()).await;
            }
            if let Err(error) = self.one(&mut kept).await {
                *self.failed.borrow_mut() = Some(error);
                return;
            }
            self.bar.inc(1);
        }
    }

    async fn one(&self, kept: &mut Option<Open>) -> Result<(), SendError> {
        let begin = Instant::now();
        if !self.load.keep_alive || self.job.plan.wrong.is_some() {
            let delivered = match self.job.deliver(&self.known).await {
                Err(SendError::NoConnection(error)) => return self.unconnected(error),
                other => other?,
            };
            let is_expected = delivered.is_expected(self.job);
            self.tally.borrow_mut().add(&delivered.outcome, is_expected, begin.elapsed());
            return Ok(());
        }
        let request = self.job.plan.request()?;
        let mut open = match kept.take() {
            Some(open) => open,
            None => match self.job.open(&self.known).await {
                Err(SendError::NoConnection(error)) => return self.unconnected(error),
                Err(error) => return Err(error),
                Ok(Opened::Open(_, open)) => open,
                Ok(Opened::Failed(delivered)) => {
                    self.tally.borrow_mut().add(&delivered.outcome, false, begin.elapsed());
                    return Ok(());
                }
            },
        };
        let outcome = open.connection.send(&request, self.job.limit()).await;
        let is_expected = super::is_success(&outcome);
        self.tally.borrow_mut().add(&outcome, is_expected, begin.elapsed());
        if outcome.is_ok() && open.connection.is_usable().await {
            *kept = Some(open);
        }
        Ok(())
    }

    /// A connection that fails ends the run if none succeeded before.
    fn unconnected(&self, error: std::io::Error) -> Result<(), SendError> {
        let mut tally = self.tally.borrow_mut();
        if tally.outcomes.is_empty() {
            return Err(SendError::NoConnection(error));
        }
        *tally.outcomes.entry("no connection".to_owned()).or_default() += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let values: Vec<u32> = (1..=100).map(|value| value * 1000).collect();
        let found = percentiles(values);
        assert_eq!(found, Percentiles { p50: 50.0, p90: 90.0, p99: 99.0, max: 100.0 });
        assert_eq!(percentiles(vec![7000]), Percentiles { p50: 7.0, p90: 7.0, p99: 7.0, max: 7.0 });
        assert_eq!(percentiles(Vec::new()), Percentiles::default());
    }

    #[test]
    fn outcomes_are_bounded() {
        let mut tally = Tally::default();
        for number in 0..1000 {
            tally.add(&Err(ExchangeError::NotHttp(number.to_string())), false, Duration::ZERO);
        }
        assert_eq!(tally.outcomes.len(), MAXIMUM_OUTCOMES + 1);
        assert_eq!(tally.outcomes.values().sum::<u32>(), 1000);
    }
}
