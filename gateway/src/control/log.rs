//! Where log events go: to the journal with every field as a field of its own, where standard error is the journal, else as
//! lines of text to standard error.
//!
//! Owns the form of an event and the way out. Either way an event is made into bytes where it happens, and a thread of its own
//! writes them: a worker never waits for a terminal, a full pipe or a slow journal. What does not fit is counted and reported.

use std::fmt::Write as _;
use std::io::{self, Write};

use rustix::fs::fstat;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer};

use super::confine::{ConfineError, restricted};
use crate::metrics;

/// Most events that wait to be written: some megabytes, and minutes of the refusals that a worker logs at most.
const WAITING: usize = 8192;

/// What the journal shows as the origin of a line.
const IDENTIFIER: &str = "hookgate";

/// Most bytes of a field's value. Details are bounded far below; beyond the socket's send buffer (208 KiB unless changed) the
/// journal would have to be handed a file.
const MAXIMUM_VALUE_BYTES: usize = 8 * 1024;

/// Between the fields of an event on their way to the thread that sends it. Values have none of it.
const SEPARATOR: char = '\0';

/// The running log; its end writes what still waits.
pub(super) struct Log {
    counter: ErrorCounter,
    _guard: WorkerGuard,
}

impl Log {
    /// Sends every event of this process to the log from now on. `HOOKGATE_LOG` chooses which, as tracing-subscriber's
    /// `EnvFilter` reads it; `info` unless it says otherwise.
    ///
    /// # Errors
    ///
    /// Where the thread that writes cannot be had, without privileges.
    pub(super) fn start() -> Result<Self, ConfineError> {
        let filter = EnvFilter::try_from_env("HOOKGATE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
        let builder = NonBlockingBuilder::default().buffered_lines_limit(WAITING).thread_name("log");
        // What reads peers' words, if only to write them down, starts with as little as what serves them.
        if is_journal() {
            let (queue, guard) = restricted(|| builder.finish(Journal))?;
            let counter = queue.error_counter();
            tracing_subscriber::registry().with(filter).with(JournalLayer { queue }).init();
            return Ok(Self { counter, _guard: guard });
        }
        let (queue, guard) = restricted(|| builder.finish(io::stderr()))?;
        let counter = queue.error_counter();
        let text = tracing_subscriber::fmt().with_writer(queue).with_env_filter(filter);
        text.with_ansi(false).with_target(false).init();
        Ok(Self { counter, _guard: guard })
    }

    /// What is lost from now on.
    pub(super) fn lost(&self) -> Lost {
        Lost { counter: self.counter.clone(), reported: 0 }
    }
}

/// Events for which there was no room.
pub(super) struct Lost {
    counter: ErrorCounter,
    reported: usize,
}

impl Lost {
    /// Publishes how many there were, and reports those that are new.
    pub(super) fn attend(&mut self) {
        let lost = self.counter.dropped_lines();
        metrics::log_lost(lost as u64);
        if lost > self.reported {
            tracing::warn!(
                count = lost - self.reported,
                "log events lost: they came faster than they could be written"
            );
            self.reported = lost;
        }
    }
}

/// Whether standard error is the journal: `JOURNAL_STREAM` names its device and inode (systemd.exec(5)). A process that was
/// started with its own standard error inherits the variable too, so only the comparison tells.
fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    fstat(io::stderr()).is_ok_and(|status| stream == format!("{}:{}", status.st_dev, status.st_ino))
}

/// Makes journal fields of events.
struct JournalLayer {
    queue: NonBlocking,
}

impl<S: Subscriber> Layer<S> for JournalLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let entry = fields.entry(*event.metadata().level());
        // It takes an entry whole or counts it as lost, and never fails.
        let _ = self.queue.clone().write_all(entry.as_bytes());
    }
}

/// Sends entries, one a call.
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

/// The fields of one event.
#[derive(Default)]
struct Fields {
    message: String,
    /// The others, in their order.
    others: Vec<Other>,
}

/// A field beside the message.
struct Other {
    name: &'static str,
    value: String,
    /// Text stands between quotation marks where fields follow each other in a line.
    is_text: bool,
}

impl Fields {
    /// The event as the journal gets it. `MESSAGE` is the line that standard error would show, since that is all that
    /// `journalctl` shows unless asked for more; `HOOKGATE_EVENT` is its constant part.
    fn entry(&self, level: Level) -> String {
        let mut line = self.message.clone();
        for Other { name, value, is_text } in &self.others {
            let space = if line.is_empty() { "" } else { " " };
            // Writing to a string cannot fail.
            let _ =
                if *is_text { write!(line, "{space}{name}={value:?}") } else { write!(line, "{space}{name}={value}") };
        }
        let mut entry = format!("MESSAGE={line}");
        let mut field = |name: &str, value: &str| {
            let _ = write!(entry, "{SEPARATOR}{name}={value}");
        };
        field("PRIORITY", priority(level));
        field("SYSLOG_IDENTIFIER", IDENTIFIER);
        field("HOOKGATE_EVENT", &self.message);
        for Other { name, value, .. } in &self.others {
            field(&journal_name(name), value);
        }
        entry
    }

    fn add(&mut self, field: &Field, mut value: String, is_text: bool) {
        if value.len() > MAXIMUM_VALUE_BYTES {
            let whole = (0..=MAXIMUM_VALUE_BYTES).rev().find(|&end| value.is_char_boundary(end));
            value.truncate(whole.unwrap_or_default());
        }
        let value = value.replace(SEPARATOR, "\u{fffd}");
        match field.name() {
            "message" => self.message = value,
            // Where in its source a library logged through the `log` crate.
            name if name.starts_with("log.") => {}
            name => self.others.push(Other { name, value, is_text }),
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_owned(), true);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.add(field, format!("{value:?}"), false);
    }
}

/// The syslog severity of a level, as the journal counts (syslog(3)).
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

/// The journal's name of a field: capitals, digits and underscores, at most 64 (systemd.journal-fields(7)).
fn journal_name(name: &str) -> String {
    let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' };
    let mut journal_name = String::from("HOOKGATE_");
    journal_name.extend(name.chars().map(letter).take(64 - journal_name.len()));
    journal_name
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::sync::{Arc, Mutex};

    use super::*;

    /// Keeps what it is given, as the thread that sends entries gets it.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<String>>>);

    impl Write for Kept {
        fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().push(String::from_utf8(entry.to_vec()).unwrap());
            Ok(entry.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The fields of the one entry that `log` makes.
    fn entry(log: impl FnOnce()) -> Vec<(String, String)> {
        let kept = Kept::default();
        let (queue, guard) = NonBlockingBuilder::default().finish(kept.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(JournalLayer { queue }), log);
        drop(guard); // writes what waits
        let entries = kept.0.lock().unwrap();
        assert_eq!(entries.len(), 1);
        let field =
            |field: &str| field.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap();
        entries[0].split(SEPARATOR).map(field).collect()
    }

    #[test]
    fn every_field_of_an_event_is_a_field_of_its_entry() {
        let server_name: Option<&str> = None;
        let fields = entry(|| {
            tracing::warn!(reason = "no_route", status = 404, peer = %"192.0.2.1:9", server_name, detail = %"a\nb", "request refused");
        });
        let expected = [
            ("MESSAGE", "request refused reason=\"no_route\" status=404 peer=192.0.2.1:9 detail=a\nb"),
            ("PRIORITY", "4"),
            ("SYSLOG_IDENTIFIER", "hookgate"),
            ("HOOKGATE_EVENT", "request refused"),
            ("HOOKGATE_REASON", "no_route"),
            ("HOOKGATE_STATUS", "404"),
            ("HOOKGATE_PEER", "192.0.2.1:9"),
            ("HOOKGATE_DETAIL", "a\nb"),
        ];
        assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_value_ends_no_field_and_stays_within_its_bound() {
        let fields = entry(|| tracing::info!(peer = "a\0PRIORITY=0", long = "ä".repeat(MAXIMUM_VALUE_BYTES), "m"));
        let value = |name: &str| fields.iter().find(|(found, _)| found == name).unwrap().1.clone();
        assert_eq!(value("HOOKGATE_PEER"), "a\u{fffd}PRIORITY=0");
        assert_eq!(value("HOOKGATE_LONG").len(), MAXIMUM_VALUE_BYTES);
        assert_eq!(fields.iter().filter(|(name, _)| name == "PRIORITY").count(), 1);
    }

    #[test]
    fn names_are_ones_that_the_journal_takes() {
        let check = |name: &str, expected: &str| assert_eq!(journal_name(name), expected);
        check("request_id", "HOOKGATE_REQUEST_ID");
        check("next_s", "HOOKGATE_NEXT_S");
        check("log.target", "HOOKGATE_LOG_TARGET");
        assert_eq!(journal_name(&"x".repeat(99)).len(), 64);
    }
}
