//! Where log events go: to the journal if standard error is the journal, else to standard error as lines of text.
//!
//! Owns the choice of the destination and the queue before it. An event becomes bytes on the thread that logs it ([`event`]), and
//! the thread `log` writes them: a worker never waits for a terminal, a full pipe or a slow journal. Events that peers cause are
//! bounded per second ([`limiter`]), and events that do not fit into the queue are lost; both are counted and reported. Must not decide
//! what is logged, nor at which level.

mod event;
mod limiter;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::fstat;
use tracing::{Event, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer};

use self::event::{EventFields, SEPARATOR, TextFields};
use self::limiter::{Class, Limiter};
use super::confine::{ConfineError, restricted};
use crate::metrics;

/// Most events in the queue: some megabytes, or a minute of the events that peers can cause at most.
const QUEUED_EVENTS: usize = 8192;

/// Interval at which the numbers of suppressed events are logged.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The running log. Dropping it writes the events that are still in the queue.
pub(super) struct Log {
    counter: ErrorCounter,
    limiter: Arc<Limiter>,
    _guard: WorkerGuard,
}

impl Log {
    /// Sends every event of this process to the log from now on. `HOOKGATE_LOG` selects the events, in the syntax of
    /// tracing-subscriber's `EnvFilter`; the default is `info`.
    ///
    /// # Errors
    ///
    /// [`ConfineError`] if the thread that writes cannot be started without privileges.
    pub(super) fn start() -> Result<Self, ConfineError> {
        let filter = EnvFilter::try_from_env("HOOKGATE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
        let builder = NonBlockingBuilder::default().buffered_lines_limit(QUEUED_EVENTS).thread_name("log");
        let limiter = Limiter::new();
        let registry = tracing_subscriber::registry().with(filter).with(limiter.layer());
        // The thread handles what peers sent, if only to write it down, so it gets no more privileges than the workers.
        if is_journal() {
            let (queue, guard) = restricted(|| builder.finish(Journal))?;
            let counter = queue.error_counter();
            registry.with(JournalLayer { queue }).init();
            return Ok(Self { counter, limiter, _guard: guard });
        }
        let (queue, guard) = restricted(|| builder.finish(io::stderr()))?;
        let counter = queue.error_counter();
        registry.with(text_layer(queue)).init();
        Ok(Self { counter, limiter, _guard: guard })
    }

    /// A report of the events that are not logged from now on.
    pub(super) fn losses(&self) -> Losses {
        Losses {
            counter: self.counter.clone(),
            limiter: Arc::clone(&self.limiter),
            lost: 0,
            suppressed: [0; Class::ALL.len()],
            reported: None,
        }
    }
}

/// Reports the events that are not logged: those that did not fit into the queue, and those beyond the limits per second.
pub(super) struct Losses {
    counter: ErrorCounter,
    limiter: Arc<Limiter>,
    /// The counts of the last report.
    lost: usize,
    suppressed: [u64; Class::ALL.len()],
    /// When suppressed events were last reported.
    reported: Option<Instant>,
}

impl Losses {
    /// Publishes the counts, and logs how many events were lost or suppressed since the last report. Suppressed events are reported
    /// once per second.
    pub(super) fn attend(&mut self, now: Instant) {
        let lost = self.counter.dropped_lines();
        metrics::log_lost(lost as u64);
        if lost > self.lost {
            tracing::warn!(count = lost - self.lost, "log events lost: they came faster than they could be written");
            self.lost = lost;
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
        let [stranger, sender, handler, gateway, library, verbose] =
            std::array::from_fn(|index| Some(counts[index] - self.suppressed[index]).filter(|count| *count > 0));
        tracing::warn!(
            stranger,
            sender,
            handler,
            gateway,
            library,
            debug = verbose,
            "log events suppressed: more than the limit per second"
        );
        (self.suppressed, self.reported) = (counts, Some(now));
    }
}

/// Whether standard error is the journal: `JOURNAL_STREAM` has its device and inode (systemd.exec(5)). A process inherits the
/// variable even if its standard error goes elsewhere, so the numbers are compared.
fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    fstat(io::stderr()).is_ok_and(|status| stream == format!("{}:{}", status.st_dev, status.st_ino))
}

/// Formats events as lines of text: time, level, message, fields.
fn text_layer<S: Subscriber + for<'span> LookupSpan<'span>>(queue: NonBlocking) -> impl Layer<S> {
    tracing_subscriber::fmt::layer().with_writer(queue).fmt_fields(TextFields).with_ansi(false).with_target(false)
}

/// Formats events as entries of the journal.
struct JournalLayer {
    queue: NonBlocking,
}

impl<S: Subscriber> Layer<S> for JournalLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut fields = EventFields::default();
        event.record(&mut fields);
        let entry = fields.journal_entry(*event.metadata().level());
        // The queue takes an entry as a whole or counts it as lost; it never fails.
        let _ = self.queue.clone().write_all(entry.as_bytes());
    }
}

/// Sends entries to the journal, one per call.
struct Journal;

impl Write for Journal {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(entry);
        let fields: Vec<&str> = text.split(SEPARATOR).collect();
        systemd::journal::send(&fields)?;
        Ok(entry.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
