//! What the thread `log` does: it writes lines to standard error, several at once if they wait, and sends entries to the journal.
//!
//! Owns the count of events that could not be written. Must not look at what they say.

use std::fmt::Display;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::event::SEPARATOR;
use super::queue::Batch;

/// Where the journal takes entries (sd_journal_send(3)).
pub(in crate::control) const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";

/// So many bytes are written at once at most: as much as a pipe takes in one piece.
const MAXIMUM_WRITE_BYTES: usize = 64 * 1024;

/// Whether this host has a journal.
pub(in crate::control) fn has_journal() -> bool {
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

/// What takes the events of the queue.
pub(super) trait Output: Send {
    /// Writes every event. A failure is noted, and the next batch is tried.
    fn write(&mut self, batch: &Batch);
}

/// Writes lines.
pub(super) struct Lines<W> {
    output: W,
    failures: Failures,
}

impl<W: Write> Lines<W> {
    pub(super) fn new(output: W, failures: Failures) -> Self {
        Self { output, failures }
    }
}

impl<W: Write + Send> Output for Lines<W> {
    fn write(&mut self, batch: &Batch) {
        for (count, lines) in batch.pieces(MAXIMUM_WRITE_BYTES) {
            if let Err(error) = self.output.write_all(lines) {
                self.failures.note(count, &error);
            }
        }
    }
}

/// Sends entries to the journal, each by itself.
pub(super) struct Journal {
    failures: Failures,
}

impl Journal {
    pub(super) fn new(failures: Failures) -> Self {
        Self { failures }
    }
}

impl Output for Journal {
    fn write(&mut self, batch: &Batch) {
        for (count, entry) in batch.pieces(0) {
            let text = String::from_utf8_lossy(entry);
            let fields: Vec<&str> = text.split(SEPARATOR).collect();
            if let Err(error) = systemd::journal::send(&fields) {
                self.failures.note(count, &error);
            }
        }
    }
}
