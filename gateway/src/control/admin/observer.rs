//! The control loop's side of the admin pages: it keeps the last hour, and answers their questions.
//!
//! Owns what the pages need over time. Must not serve anything: [`super::AdminPages`] does.

use std::sync::Arc;
use std::time::Instant;

use rustls_pki_types::UnixTime;
use tokio::sync::mpsc;

use super::Question;
use super::collect::{self, HandlerGauges};
use super::facts::{Facts, ProcessFacts, SCHEMA, WorkerFacts};
use super::history::History;
use super::phase::{Health, Phase};
use crate::control::exposition::Exposition;
use crate::control::reload::Loader;
use crate::crypto;
use crate::snapshot::Snapshot;
use crate::worker::Places;

/// What the control loop keeps for the admin side.
pub(in crate::control) struct Observer {
    health: Arc<Health>,
    /// `None` without the admin side.
    questions: Option<mpsc::Receiver<Question>>,
    /// `None` without a listener for metrics.
    exposition: Option<Arc<Exposition>>,
    history: History,
    gauges: HandlerGauges,
    /// In seconds since 1970.
    started: u64,
}

/// What the control loop has at the moment of a question.
pub(in crate::control) struct Moment<'a> {
    pub(in crate::control) snapshot: &'a Snapshot,
    pub(in crate::control) places: &'a Places,
    pub(in crate::control) loader: &'a Loader,
    pub(in crate::control) workers: Vec<WorkerFacts>,
    pub(in crate::control) backend: &'static str,
}

impl Observer {
    /// Begins with the process.
    pub(in crate::control) fn new(
        health: Arc<Health>,
        questions: Option<mpsc::Receiver<Question>>,
        exposition: Option<Arc<Exposition>>,
    ) -> Self {
        let (history, started) = (History::begin(Instant::now()), UnixTime::now().as_secs());
        Self { health, questions, exposition, history, gauges: HandlerGauges::default(), started }
    }

    /// The process enters a phase.
    pub(in crate::control) fn enter(&self, phase: Phase) {
        self.health.enter(phase);
    }

    /// So many workers show no life.
    pub(in crate::control) fn note_stalled(&self, workers: usize) {
        self.health.note_stalled(workers);
    }

    /// Waits for a question; for ever without an admin side.
    pub(in crate::control) async fn question(&mut self) -> Question {
        if let Some(questions) = &mut self.questions
            && let Some(question) = questions.recv().await
        {
            return question;
        }
        std::future::pending().await
    }

    /// Publishes which handlers answer, and takes a sample of the last hour if it is time.
    pub(in crate::control) fn attend(&mut self, snapshot: &Snapshot, places: &Places) {
        self.gauges.publish(snapshot, places);
        if let Some(exposition) = &self.exposition {
            self.history.attend(Instant::now(), UnixTime::now().as_secs(), || exposition.totals());
        }
    }

    /// The facts of the moment.
    pub(in crate::control) fn facts(&self, moment: Moment<'_>) -> Facts {
        let Moment { snapshot, places, loader, workers, backend } = moment;
        let now = UnixTime::now();
        let process = ProcessFacts {
            version: env!("CARGO_PKG_VERSION"),
            crypto: crypto::LIBRARY,
            backend,
            started: self.started,
            phase: self.health.phase().label(),
        };
        let fleet = loader.fleet.as_ref().map(|fleet| fleet.overview());
        Facts {
            schema: SCHEMA,
            now: now.as_secs(),
            process,
            configuration: loader.configuration(snapshot.generation),
            workers,
            connections_limit: snapshot.limits.max_connections,
            providers: collect::providers(snapshot),
            routes: collect::routes(snapshot),
            handlers: collect::handlers(snapshot, places),
            spool: collect::spool(snapshot, loader.store().map(|store| store.levels()), fleet.as_ref()),
            fleet: fleet.map(collect::fleet),
            acme: collect::acme(loader.acme.overview(), snapshot),
            dates: collect::dates(loader.endings(now), now.as_secs()),
            suspects: collect::suspects(loader.suspects()),
            refusals: collect::refusals(&loader.recent.all()),
            filter: loader.filter_facts(),
            history: self.history.minutes(),
        }
    }
}
