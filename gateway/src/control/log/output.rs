//! What the thread `log` does: it writes lines to standard error, several at once if they wait, and sends entries to the journal.
//!
//! Owns the count of events that could not be written. Must not look at what they say.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::event::SEPARATOR;

/// Where the journal takes entries (sd_journal_send(3)).
pub(super) const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";

/// So many bytes are written at once at most: as much as a pipe takes in one piece.
const MAXIMUM_WRITE_BYTES: usize = 64 * 1024;

/// Whether this host has a journal.
pub(super) fn has_journal() -> bool {
    Path::new(JOURNAL_SOCKET).exists()
}

/// Events that could not be written, shared by the thread `log` and the control thread.
#[derive(Clone, Debug, Default)]
pub(super) struct Failures(Arc<Mutex<Failed>>);

#[derive(Debug, Default)]
struct Failed {
    count: u64,
    /// Of `count`, those of the last report.
    reported: u64,
    error: String,
}

impl Failures {
    /// Events that could not be written, since the start.
    pub(super) fn count(&self) -> u64 {
        self.lock().count
    }

    /// How many there are since the last call, and the last error; `None` if there are none.
    pub(super) fn take(&self) -> Option<(u64, String)> {
        let mut failed = self.lock();
        let new = failed.count - failed.reported;
        failed.reported = failed.count;
        (new > 0).then(|| (new, failed.error.clone()))
    }

    fn note(&self, count: u64, error: &dyn Display) {
        let mut failed = self.lock();
        failed.count += count;
        failed.error = error.to_string();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Failed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes lines. What waits in the queue is written with one system call; the queue flushes when it is empty.
pub(super) struct Lines<W> {
    output: W,
    lines: Vec<u8>,
    count: u64,
    failures: Failures,
}

impl<W: Write> Lines<W> {
    pub(super) fn new(output: W, failures: Failures) -> Self {
        Self { output, lines: Vec::new(), count: 0, failures }
    }
}

impl<W: Write> Write for Lines<W> {
    /// Takes one event. Never fails: a failure is noted.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        if self.lines.len() + event.len() > MAXIMUM_WRITE_BYTES {
            self.flush()?;
        }
        self.lines.extend_from_slice(event);
        self.count += 1;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Err(error) = self.output.write_all(&self.lines).and_then(|()| self.output.flush()) {
            self.failures.note(self.count, &error);
        }
        self.lines.clear();
        self.count = 0;
        Ok(())
    }
}

/// Sends entries to the journal, one per call.
pub(super) struct Journal {
    failures: Failures,
}

impl Journal {
    pub(super) fn new(failures: Failures) -> Self {
        Self { failures }
    }
}

impl Write for Journal {
    /// Takes one event. Never fails: a failure is noted.
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(entry);
        let fields: Vec<&str> = text.split(SEPARATOR).collect();
        if let Err(error) = systemd::journal::send(&fields) {
            self.failures.note(1, &error);
        }
        Ok(entry.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
