//! Deliveries over a restart: opened with the state directory, before the first request.
//!
//! Owns the order: what an earlier process kept is remembered before a listener opens; the thread that writes starts when the process has given
//! up its privileges, and the one that hands over as soon as there is something to hand over.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, anyhow};
use hookgate_core::auth::ReplayGuard;
use rustls_pki_types::UnixTime;

use super::confine::connecting_only_to;
use crate::config::OnStateFailure;
use crate::deliveries::{Database, DeliveryStore, Opened, Unwritten};
use crate::dispatch::{self, Shared, Spool};
use crate::fleet::{Fleet, Handing};
use crate::snapshot::Snapshot;
use crate::state::StateDirectory;

/// The file by whose lock one process hands over.
const LOCK: &str = "dispatcher.lock";

/// A store whose threads do not run yet.
pub(super) struct Prepared {
    unwritten: Unwritten,
    database: Database,
    spool: Spool,
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
    let Opened { database, kept, waiting, dead, reader, damaged } = Database::open(state.path(), now)?;
    if let Some(aside) = damaged {
        tracing::error!(
            aside = %aside.display(),
            "the file of deliveries was damaged and is put aside; copies of deliveries that were taken before now are handled again, and \
             stored deliveries that it still has are not handed over"
        );
    }
    // Those that have expired come last, in case the clock was ahead: they take what room is left.
    let not_restored = kept.iter().filter(|delivery| !guard.restore(**delivery, now));
    let forgotten = not_restored.filter(|delivery| delivery.until >= now.as_secs()).count();
    if forgotten > 0 {
        tracing::warn!(
            forgotten,
            kept = kept.len(),
            "replay_entries is too small for the kept deliveries; raise it and restart hookgate"
        );
    }
    if !waiting.is_empty() {
        tracing::info!(deliveries = waiting.len(), "stored deliveries wait for their handlers");
    }
    let lock = open_lock(state.path())?;
    let (store, unwritten, changes) = DeliveryStore::new(on_failure);
    let store = Arc::new(store);
    let has_rows = !waiting.is_empty() || dead > 0;
    let spool = Spool { has_rows, reader, changes, lock, store: Arc::clone(&store), fleet: None };
    Ok((store, Prepared { unwritten, database, spool }))
}

fn open_lock(directory: &Path) -> anyhow::Result<File> {
    let path = directory.join(LOCK);
    let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
    opened.with_context(|| format!("cannot open {}", path.display()))
}

impl Prepared {
    /// Lets the dispatcher hand over what the servers of a fleet store.
    pub(super) fn share(&mut self, fleet: Arc<Fleet>, handing: Handing) {
        self.spool.fleet = Some((fleet, handing));
    }

    /// Starts the thread that writes. It ends when the store is gone.
    ///
    /// # Errors
    ///
    /// The kernel makes no thread.
    pub(super) fn start(self) -> anyhow::Result<Handover> {
        let Self { unwritten, database, spool } = self;
        let thread = thread::Builder::new().name("deliveries".to_owned()).spawn(move || unwritten.write_to(database));
        thread.context("cannot start the thread that keeps deliveries")?;
        Ok(Handover::Waits(Box::new(spool)))
    }
}

/// The dispatcher, which does not run in a process that has nothing to hand over.
#[derive(Default)]
pub(super) enum Handover {
    /// There is no database.
    #[default]
    Absent,
    /// Nothing was stored yet, and no route is durable.
    Waits(Box<Spool>),
    /// It runs.
    Runs(JoinHandle<std::io::Result<()>>),
}

impl Handover {
    /// Starts the thread, if it does not run, and `snapshot` has a durable route or something is stored. It writes no file but the
    /// database's that are open, and connects to no port but `ports`.
    ///
    /// # Errors
    ///
    /// The kernel makes no thread.
    pub(super) fn start_if_needed(
        &mut self,
        snapshot: &Snapshot,
        ports: &BTreeSet<u16>,
        shared: impl FnOnce() -> Shared,
    ) -> anyhow::Result<()> {
        let has_work = |spool: &Spool| spool.has_rows || snapshot.durable.iter().any(Option::is_some);
        match std::mem::take(self) {
            Self::Waits(spool) if has_work(&spool) => {
                let shared = shared();
                let (started, _) = connecting_only_to(ports, || dispatch::start(*spool, shared))?;
                *self = Self::Runs(started.context("cannot start the thread that hands deliveries over")?);
            }
            other => *self = other,
        }
        Ok(())
    }

    /// Whether the thread has ended, or never ran.
    pub(super) fn has_ended(&self) -> bool {
        match self {
            Self::Absent | Self::Waits(_) => true,
            Self::Runs(thread) => thread.is_finished(),
        }
    }

    /// Whether the thread has ended although it should run.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self, Self::Runs(thread) if thread.is_finished())
    }

    /// Waits for the end of the thread.
    ///
    /// # Errors
    ///
    /// It failed.
    pub(super) fn join(self) -> anyhow::Result<()> {
        let Self::Runs(thread) = self else { return Ok(()) };
        let ended = thread.join().map_err(|_| anyhow!("the thread that hands deliveries over panicked"))?;
        ended.context("the thread that hands deliveries over failed")
    }
}
