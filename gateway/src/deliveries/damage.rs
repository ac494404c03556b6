//! Whether the file of deliveries was found damaged while this process uses it.
//!
//! Owns the finding, which all connections of the process share and only a restart ends, and what is said of it, once. Must not put the file
//! aside: a start does, and until then an operator can copy what is left.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::ErrorCode;

/// What was found of one file.
#[derive(Clone, Debug)]
pub(super) struct Damage(Arc<Found>);

#[derive(Debug)]
struct Found {
    path: PathBuf,
    is_damaged: AtomicBool,
}

impl Damage {
    /// Nothing was found of this file yet.
    pub(super) fn of(path: &Path) -> Self {
        Self(Arc::new(Found { path: path.to_owned(), is_damaged: AtomicBool::new(false) }))
    }

    /// Whether it was found damaged. SQLite notices that only at a page that it reads, so what works afterwards proves nothing.
    pub(super) fn is_found(&self) -> bool {
        self.0.is_damaged.load(Ordering::Relaxed)
    }

    /// Notes what SQLite says. Returns whether it tells of damage, which the first time is an error in the log.
    pub(super) fn note(&self, error: &rusqlite::Error) -> bool {
        let is_damage = is_corrupt(error);
        if is_damage && !self.0.is_damaged.swap(true, Ordering::Relaxed) {
            tracing::error!(
                %error, file = %self.0.path.display(),
                "the file of deliveries is damaged; nothing is stored or handed over until a restart, which puts the file aside: senders of \
                 durable routes get 503, others as on_state_failure in [state] says; copy what is left first, as the page about delivery \
                 says under \"A damaged file\""
            );
        }
        is_damage
    }
}

/// Whether the file is no database, or not a whole one.
pub(super) fn is_corrupt(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}
