//! The memory of deliveries over a restart: opened with the state directory, before the first request.
//!
//! Owns the order: what an earlier process kept is remembered before a listener opens, and the thread that writes starts when the process has
//! given up its privileges.

use std::sync::Arc;
use std::thread;

use anyhow::Context as _;
use hookgate_core::auth::ReplayGuard;
use rustls_pki_types::UnixTime;

use crate::config::OnStateFailure;
use crate::deliveries::{Database, DeliveryStore, Opened, Unwritten};
use crate::state::StateDirectory;

/// A store whose thread does not run yet.
pub(super) struct Prepared {
    unwritten: Unwritten,
    database: Database,
}

/// Opens the database in `state`, and lets `guard` remember what it has.
///
/// # Errors
///
/// The database cannot be opened, or was made by a newer hookgate.
pub(super) fn open(
    state: &StateDirectory,
    guard: &ReplayGuard,
    on_failure: OnStateFailure,
) -> anyhow::Result<(Arc<DeliveryStore>, Prepared)> {
    let now = UnixTime::now();
    let Opened { database, kept, damaged, .. } = Database::open(state.path(), now)?;
    if let Some(aside) = damaged {
        tracing::error!(
            aside = %aside.display(),
            "the file of kept deliveries was damaged and is put aside; copies of deliveries that were taken before now are handled again"
        );
    }
    let forgotten = kept.iter().filter(|delivery| !guard.restore(**delivery, now)).count();
    if forgotten > 0 {
        tracing::warn!(
            forgotten,
            kept = kept.len(),
            "replay_entries is too small for the kept deliveries; raise it and restart hookgate"
        );
    }
    let (store, unwritten, _) = DeliveryStore::new(on_failure);
    Ok((Arc::new(store), Prepared { unwritten, database }))
}

impl Prepared {
    /// Starts the thread. It ends when the store is gone.
    ///
    /// # Errors
    ///
    /// The kernel makes no thread.
    pub(super) fn start(self) -> anyhow::Result<()> {
        let Self { unwritten, database } = self;
        let thread = thread::Builder::new().name("deliveries".to_owned()).spawn(move || unwritten.write_to(database));
        thread.map(drop).context("cannot start the thread that keeps deliveries")
    }
}
