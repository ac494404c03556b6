//! Where log events go: to the journal, or to standard error as lines of text or JSON.
//!
//! Owns the choice of the destination, the queue before it, and which of the three places decides about the level ([`levels`]). An event
//! becomes bytes on the thread that logs it ([`event`]), waits ([`queue`]), and is written by the thread `log` ([`output`]): a worker never
//! waits for a terminal, a full pipe or a slow journal. Events that peers cause are bounded per second ([`limiter`]), and events that do not fit into the queue
//! are lost; both are counted and reported. Must not decide what is logged.

mod event;
mod filter;
mod levels;
mod limiter;
mod output;
mod queue;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::fstat;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use self::filter::Filter;
use self::limiter::{Class, Limiter};
use self::output::{Failures, Journal, Lines};
use self::queue::{Guard, Queue};
use super::confine::{ConfineError, restricted};
use crate::config::{Levels, LogFormat, LogSection};
use crate::metrics;

pub(super) use self::levels::StatedLevels;
pub(super) use self::output::{JOURNAL_SOCKET, has_journal};

/// Interval at which the numbers of suppressed events are logged.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    /// The thread that writes cannot be started without privileges.
    #[error("the log cannot be started")]
    Confine(#[from] ConfineError),
    /// There is no thread for it.
    #[error("the log cannot be started")]
    Thread(#[from] io::Error),
    /// `format = "journal"`, on a host without one.
    #[error(
        "there is no journal at {}, and format is \"journal\"; write format = \"text\" or \"json\", or remove the line",
        JOURNAL_SOCKET
    )]
    NoJournal,
}

/// The running log. Dropping it writes the events that are still in the queue.
pub(super) struct Log {
    queue: Queue,
    failures: Failures,
    limiter: Arc<Limiter>,
    filter: Filter,
    stated: Option<StatedLevels>,
    _guard: Guard,
}

impl Log {
    /// Sends every event of this process to the log from now on. `stated` levels replace those of `section`, also after reloads.
    ///
    /// # Errors
    ///
    /// [`LogError`]
    pub(super) fn start(section: &LogSection, stated: Option<StatedLevels>) -> Result<Self, LogError> {
        let format = section.format.unwrap_or(if is_journal() { LogFormat::Journal } else { LogFormat::Text });
        if format == LogFormat::Journal && !has_journal() {
            return Err(LogError::NoJournal);
        }
        let levels = stated.as_ref().map(|stated| &stated.levels).or(section.levels.as_ref());
        let filter = Filter::new(levels);
        let limiter = Limiter::new();
        limiter.admit_answered(section.access_per_second);
        let failures = Failures::default();
        let start = || match format {
            LogFormat::Journal => Queue::start(Journal::new(failures.clone())),
            LogFormat::Text | LogFormat::Json => Queue::start(Lines::new(io::stderr(), failures.clone())),
        };
        // The thread handles what peers sent, if only to write it down, so it gets no more privileges than the workers.
        let (queue, guard) = restricted(start)??;
        let layer = EventLayer { format, queue: queue.clone() };
        tracing_subscriber::registry().with(filter.clone()).with(limiter.layer()).with(layer).init();
        Ok(Self { queue, failures, limiter, filter, stated, _guard: guard })
    }

    /// What a reload can change of it.
    pub(super) fn tuning(&self) -> Tuning {
        let (filter, limiter, stated) = (self.filter.clone(), Arc::clone(&self.limiter), self.stated.clone());
        Tuning { filter, limiter, stated, configured: None }
    }

    /// A report of the events that are not logged from now on.
    pub(super) fn losses(&self) -> Losses {
        Losses {
            queue: self.queue.clone(),
            failures: self.failures.clone(),
            limiter: Arc::clone(&self.limiter),
            lost: 0,
            suppressed: [0; Class::ALL.len()],
            reported: None,
        }
    }
}

/// The settings of the log that a reload changes: the levels, and how many answered requests have an event.
pub(super) struct Tuning {
    filter: Filter,
    limiter: Arc<Limiter>,
    stated: Option<StatedLevels>,
    /// The levels of the last section; `None` before the first.
    configured: Option<Option<Levels>>,
}

impl Tuning {
    /// Puts the settings of `section` in force. Levels that the command line or the environment states stay, and a change of others is
    /// answered with a warning.
    pub(super) fn apply(&mut self, section: &LogSection) {
        self.limiter.admit_answered(section.access_per_second);
        let former = self.configured.replace(section.levels.clone());
        if former.is_none_or(|former| former == section.levels) {
            return;
        }
        match &self.stated {
            Some(StatedLevels { place, levels }) => {
                tracing::warn!(%levels, %place, "[log] level has changed, but another level is stated elsewhere, which stays in force");
            }
            None => self.filter.replace(section.levels.as_ref()),
        }
    }
}

/// Reports the events that are not logged: those that did not fit into the queue, those that could not be written, and those beyond the
/// limits per second.
pub(super) struct Losses {
    queue: Queue,
    failures: Failures,
    limiter: Arc<Limiter>,
    /// The counts of the last report.
    lost: u64,
    suppressed: [u64; Class::ALL.len()],
    /// When suppressed events were last reported.
    reported: Option<Instant>,
}

impl Losses {
    /// Publishes the counts, and logs how many events were lost or suppressed since the last report. Suppressed events are reported
    /// once per second.
    pub(super) fn attend(&mut self, now: Instant) {
        let overflowed = self.queue.lost();
        metrics::log_lost(overflowed + self.failures.count());
        if overflowed > self.lost {
            tracing::warn!(
                count = overflowed - self.lost,
                "log events lost: they came faster than they could be written"
            );
            self.lost = overflowed;
        }
        if let Some((count, error)) = self.failures.take() {
            // It gets through once the disk has room, or the journal is back.
            tracing::error!(count, error, "log events lost: they could not be written");
        }
        for class in Class::ALL {
            metrics::log_suppressed(class.label(), self.limiter.suppressed(class));
        }
        if self.reported.is_none_or(|reported| now.duration_since(reported) >= REPORT_INTERVAL) {
            self.report(now);
        }
    }

    /// Logs how many events were suppressed since the last report.
    pub(super) fn report(&mut self, now: Instant) {
        let counts = Class::ALL.map(|class| self.limiter.suppressed(class));
        if counts == self.suppressed {
            return;
        }
        let [stranger, sender, handler, gateway, answered, library, verbose] =
            std::array::from_fn(|index| Some(counts[index] - self.suppressed[index]).filter(|count| *count > 0));
        tracing::warn!(
            stranger,
            sender,
            handler,
            gateway,
            answered,
            library,
            debug = verbose,
            "log events suppressed: more than the limit per second"
        );
        (self.suppressed, self.reported) = (counts, Some(now));
    }
}

/// Runs `work` on a thread whose events are formatted, bounded and queued as usual, and then dropped. For measurements.
///
/// # Errors
///
/// The system has no thread.
pub fn with_dropped_events<R>(format: LogFormat, work: impl FnOnce() -> R) -> io::Result<R> {
    let (queue, _guard) = Queue::start(Lines::new(io::sink(), Failures::default()))?;
    let limiter = Limiter::new();
    limiter.admit_answered(u32::from(u16::MAX));
    let registry = tracing_subscriber::registry().with(Filter::new(None)).with(limiter.layer());
    Ok(tracing::subscriber::with_default(registry.with(EventLayer { format, queue }), work))
}

/// Whether standard error is the journal: `JOURNAL_STREAM` has its device and inode (systemd.exec(5)). A process inherits the
/// variable even if its standard error goes elsewhere, so the numbers are compared.
fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    fstat(io::stderr()).is_ok_and(|status| stream == format!("{}:{}", status.st_dev, status.st_ino))
}

/// Passes events to the queue, in the form `format`.
struct EventLayer {
    format: LogFormat,
    queue: Queue,
}

impl<S: Subscriber> Layer<S> for EventLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        event::formatted(self.format, event, |bytes| self.queue.push(bytes));
    }
}
