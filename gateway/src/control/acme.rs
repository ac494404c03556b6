//! Certificates that hookgate asks an authority for (RFC 8555), over TLS-ALPN-01 (RFC 8737).
//!
//! Owns one task per certificate ([`task`]), what an attempt does ([`order`]) and when there is one ([`schedule`]), accounts and certificates
//! in the state directory ([`store`]), and what authorities verify now. A new certificate, and the answer to a challenge, are *offered* to
//! the control loop, which puts them in the current snapshot ([`super::reload`]). Must not judge requests, nor what a certificate must
//! satisfy: `config::issued` does.
//!
//! A certificate stays in use until a better one is there: a failure of any kind changes nothing. A reload that leaves an order as it is keeps
//! its task, so reloads cause none.

mod attempts;
mod failure;
mod order;
mod schedule;
mod store;
mod task;
mod transport;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls_pki_types::UnixTime;
use tokio::sync::{Mutex, Notify, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use self::attempts::Attempts;
pub(super) use self::attempts::{Ended, Overview};
use self::store::{CertificateRecord, Certificates, Kept};
use crate::config::{AcmeOrder, Certificate, ServerCertificate};
use crate::snapshot::Challenge;
use crate::state::StateDirectory;

/// Attempts at the same time. Each has an exchange in flight and a key in memory; authorities limit orders anyway.
pub(super) const ATTEMPTS: usize = 4;

/// Offers that wait for the control loop. Each task waits for the answer to its own, so more would not help.
const OFFERS: usize = 16;

/// Keeps the certificates of the configuration in use current.
pub(super) struct Acme {
    tasks: Vec<Task>,
    /// Whether the first configuration is in use.
    is_running: bool,
    offers: mpsc::Sender<Offer>,
    inbox: mpsc::Receiver<Offer>,
    /// Those that are shown now, each by its task.
    challenges: Vec<(Arc<Place>, Arc<Challenge>)>,
    turns: Arc<Semaphore>,
    accounts: Arc<Mutex<()>>,
}

/// The task of one certificate. Ends when it is dropped.
struct Task {
    place: Arc<Place>,
    /// Its number among the certificates of the configuration.
    index: usize,
    _running: JoinSet<()>,
}

/// What a task and the control loop share.
struct Place {
    order: Arc<AcmeOrder>,
    /// The certificate in use.
    current: ArcSwapOption<Kept>,
    /// The same, until it is written to the state directory.
    unkept: ArcSwapOption<Kept>,
    state: StateDirectory,
    /// Where it is kept, for messages.
    path: std::path::PathBuf,
    /// Ends a wait after a failure.
    wake: Notify,
    /// What became of the attempts.
    attempts: Attempts,
    /// What the authority said of a renewal.
    advised: Mutex<Option<Advised>>,
    /// Whether a back-off of the process before goes on: not if a reload asks for the certificate.
    is_resumed: bool,
    /// Of the draw that spreads renewals: from 0 to 1.
    luck: f64,
    turns: Arc<Semaphore>,
    /// Held while an account is looked for or made.
    accounts: Arc<Mutex<()>>,
}

/// What an authority said of a renewal. Times are in seconds since 1970.
#[derive(Clone, Copy)]
struct Advised {
    /// From when until when it advises one, if it does.
    window: Option<(u64, u64)>,
    /// When to ask again.
    again: u64,
}

/// Something for the snapshot, which waits for the control loop.
pub(super) struct Offer {
    place: Arc<Place>,
    what: What,
    verdict: oneshot::Sender<Result<(), String>>,
}

/// What is offered.
enum What {
    /// The authority is about to verify a name.
    Show(Arc<Challenge>),
    /// It has looked at all of them.
    Withdraw,
    /// A certificate was issued.
    Use(Arc<Kept>),
}

/// How the control loop takes an offer.
pub(super) enum Change {
    /// Show these names, and no others.
    Challenges(Vec<Arc<Challenge>>),
    /// Use this one for the certificate of this number.
    Certificate(usize, Arc<ServerCertificate>),
}

/// The certificates of a configuration, before their tasks start.
#[derive(Default)]
pub(super) struct PreparedAcme {
    /// With the number among the certificates of the configuration, and whether it is new.
    places: Vec<(usize, Arc<Place>, bool)>,
}

impl Default for Acme {
    fn default() -> Self {
        let (offers, inbox) = mpsc::channel(OFFERS);
        Self {
            tasks: Vec::new(),
            is_running: false,
            offers,
            inbox,
            challenges: Vec::new(),
            turns: Arc::new(Semaphore::new(ATTEMPTS)),
            accounts: Arc::default(),
        }
    }
}

impl Acme {
    /// Looks for what there is of the certificates to ask for, and fills it in: those in use, or else those in the state directory. Changes
    /// nothing else. Without a state directory there are none, and no task.
    pub(super) fn prepare(&self, certificates: &mut [Certificate], state: Option<&StateDirectory>) -> PreparedAcme {
        let Some(state) = state else { return PreparedAcme::default() };
        let mut kept = None;
        let mut places = Vec::new();
        for (index, certificate) in certificates.iter_mut().enumerate() {
            let Certificate::Acme(acme) = certificate else { continue };
            let known = self.tasks.iter().find(|task| *task.place.order == *acme.order);
            let place = match known {
                Some(task) => Arc::clone(&task.place),
                None => {
                    let kept = kept.get_or_insert_with(|| self.known(state));
                    Arc::new(self.place(Arc::clone(&acme.order), kept.best(state, &acme.order), state))
                }
            };
            acme.issued = place.current.load().as_ref().map(|kept| Arc::clone(&kept.certificate));
            places.push((index, place, known.is_none()));
        }
        PreparedAcme { places }
    }

    /// The certificates of the state directory, and those in use, of which one may not be kept.
    fn known(&self, state: &StateDirectory) -> Certificates {
        let mut known = Certificates::read(state);
        for Task { place, .. } in &self.tasks {
            if let Some(kept) = place.current.load().as_ref().filter(|kept| kept.fits) {
                known.add(CertificateRecord::new(&place.order, kept));
            }
        }
        known
    }

    fn place(&self, order: Arc<AcmeOrder>, kept: Option<Kept>, state: &StateDirectory) -> Place {
        Place {
            path: store::certificate_path(state, &order),
            order,
            current: ArcSwapOption::from(kept.map(Arc::new)),
            unkept: ArcSwapOption::empty(),
            state: state.clone(),
            wake: Notify::new(),
            attempts: Attempts::default(),
            is_resumed: !self.is_running,
            advised: Mutex::default(),
            luck: fastrand::f64(),
            turns: Arc::clone(&self.turns),
            accounts: Arc::clone(&self.accounts),
        }
    }

    /// Starts the tasks of new orders, ends those that are gone with what they show, and lets the others try again if they have failed.
    pub(super) fn adopt(&mut self, prepared: PreparedAcme) {
        self.is_running = true;
        let mut before = std::mem::take(&mut self.tasks);
        for (index, place, is_new) in prepared.places {
            if is_new {
                self.tasks.push(Task::start(place, index, self.offers.clone()));
            } else if let Some(known) = before.iter().position(|task| Arc::ptr_eq(&task.place, &place)) {
                if place.attempts.has_failed() {
                    place.wake.notify_one();
                }
                self.tasks.push(Task { index, ..before.swap_remove(known) });
            }
        }
        self.challenges.retain(|(place, _)| self.tasks.iter().any(|task| Arc::ptr_eq(&task.place, place)));
        if let Some(state) = self.tasks.first().map(|task| &task.place.state) {
            let orders: Vec<Arc<AcmeOrder>> = self.tasks.iter().map(|task| Arc::clone(&task.place.order)).collect();
            store::clean_up(state, &orders, UnixTime::now().as_secs());
        }
    }

    /// What is shown to authorities once `prepared` is adopted.
    pub(super) fn challenges_with(&self, prepared: &PreparedAcme) -> Vec<Arc<Challenge>> {
        let stays = |place: &Arc<Place>| prepared.places.iter().any(|(_, other, _)| Arc::ptr_eq(place, other));
        self.challenges.iter().filter(|(place, _)| stays(place)).map(|(_, shown)| Arc::clone(shown)).collect()
    }

    /// The next offer. Pending without certificates to ask for.
    pub(super) async fn offer(&mut self) -> Offer {
        match self.inbox.recv().await {
            Some(offer) => offer,
            // This holds a sender itself.
            None => std::future::pending().await,
        }
    }

    /// What an offer changes; `None` if the task that made it is gone.
    pub(super) fn change(&mut self, offer: &Offer) -> Option<Change> {
        let task = self.tasks.iter().find(|task| Arc::ptr_eq(&task.place, &offer.place))?;
        match &offer.what {
            What::Use(issued) => return Some(Change::Certificate(task.index, Arc::clone(&issued.certificate))),
            What::Show(challenge) => self.challenges.push((Arc::clone(&offer.place), Arc::clone(challenge))),
            What::Withdraw => self.challenges.retain(|(place, _)| !Arc::ptr_eq(place, &offer.place)),
        }
        Some(Change::Challenges(self.challenges.iter().map(|(_, shown)| Arc::clone(shown)).collect()))
    }

    /// Each certificate, in the order of the configuration.
    pub(super) fn overview(&self) -> Vec<Overview> {
        self.tasks.iter().map(|task| task.place.overview()).collect()
    }

    /// The values of the metric label `certificate`.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.tasks.iter().map(|task| task.place.name())
    }
}

impl Task {
    fn start(place: Arc<Place>, index: usize, offers: mpsc::Sender<Offer>) -> Self {
        if place.current.load().is_none() {
            let names = place.order.domains.join(", ");
            tracing::warn!(
                names,
                "there is no certificate for these names yet: handshakes for them are refused until it is issued"
            );
        }
        let mut running = JoinSet::new();
        running.spawn(task::keep_current(Arc::clone(&place), offers));
        Self { place, index, _running: running }
    }
}

impl Place {
    /// The first name, for metrics.
    fn name(&self) -> &str {
        self.order.domains.first().map_or("", String::as_str)
    }
}

impl Offer {
    /// Says whether it is in the snapshot now, or why not.
    pub(super) fn answer(self, verdict: Result<(), String>) {
        // If it is, a reload that comes before the task runs again must find it.
        if let (Ok(()), What::Use(issued)) = (&verdict, &self.what) {
            self.place.current.store(Some(Arc::clone(issued)));
            self.place.unkept.store(Some(Arc::clone(issued)));
        }
        // The task may have ended because of a reload.
        let _ = self.verdict.send(verdict);
    }
}

/// The way of a task to the snapshot.
struct Proofs {
    place: Arc<Place>,
    offers: mpsc::Sender<Offer>,
}

impl Proofs {
    /// Waits until every new handshake with an authority is answered by this.
    async fn show(&self, challenge: Challenge) -> Result<(), String> {
        self.offer(What::Show(Arc::new(challenge))).await
    }

    /// Ends that.
    async fn withdraw(&self) {
        // What cannot be withdrawn goes with the process.
        let _ = self.offer(What::Withdraw).await;
    }

    /// Waits until every new handshake has this certificate.
    async fn put_in_use(&self, issued: Arc<Kept>) -> Result<(), String> {
        self.offer(What::Use(issued)).await
    }

    async fn offer(&self, what: What) -> Result<(), String> {
        let (verdict, answer) = oneshot::channel();
        let gone = "hookgate is ending";
        let offer = Offer { place: Arc::clone(&self.place), what, verdict };
        self.offers.send(offer).await.map_err(|_| gone.to_owned())?;
        answer.await.unwrap_or_else(|_| Err(gone.to_owned()))
    }
}
