//! What is published elsewhere: which lists and keys are fetched, when, and which copy of each is in use.
//!
//! Owns one task per source, its schedule, and the last good copy of each in the state directory ([`copy`]). One fetch is
//! [`super::fetcher`]; what a document is and which one is taken is [`source`]. Must not judge requests.
//!
//! A document is fetched again when its copy is no longer fresh (`Cache-Control`), with exponential backoff after a failure. A copy stays in
//! use until a better one is there: a failure of any kind changes nothing. New keys go to the [`KeyStore`](crate::key_store::KeyStore) at
//! once. A new list of ranges or of revocations is *offered* to the control loop, which puts it in force ([`super::reload`]), or refuses it
//! as a whole.
//!
//! A reload that leaves a source as it is keeps its copy and its task, so reloads cause no fetch.

mod copy;
mod source;
mod task;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::ClientConfig;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::fetcher::{Answer, FetchError, Fetcher, Validators, configured_roots, system_roots, tls_settings};
use crate::metrics::fetches as metrics;
use crate::state::StateDirectory;
pub(super) use copy::Copy;
use hookgate_core::identity::RevocationList;
pub(super) use source::{Content, Guard, KeyFeed, Outlet, Source, Terms};
pub(super) use task::doubled;

/// How long start-up waits for lists of which there is no copy. Longer than one fetch by default, so that a publisher that fails is known.
const FIRST_ROUND: Duration = Duration::from_secs(12);

/// Offers that wait for the control loop. Each task waits for the answer to its own, so more would not help.
const OFFERS: usize = 16;

/// Keeps the sources of the configuration in use current.
pub(super) struct Publisher {
    tasks: Vec<Task>,
    offers: mpsc::Sender<Offer>,
    inbox: mpsc::Receiver<Offer>,
}

/// A new version of a list, which waits for the verdict of the control loop.
pub(super) struct Offer {
    place: Arc<Place>,
    copy: Arc<Copy>,
    verdict: oneshot::Sender<Result<(), String>>,
}

/// The task of one source. Ends when it is dropped.
struct Task {
    place: Arc<Place>,
    _running: JoinSet<()>,
}

/// What a task and the control loop share.
struct Place {
    source: Source,
    /// The copy in use.
    current: ArcSwapOption<Copy>,
    /// Whether a fetch has ended, in whatever way.
    attempted: AtomicBool,
    terms: ArcSwap<Terms>,
    /// The revocation lists in use whose sources went when this one came.
    former: Vec<RevocationList>,
    /// Ends a wait: other terms may take the document that was refused.
    wake: Notify,
    state: Option<StateDirectory>,
    /// When the file of the copy was written last, in seconds since 1970.
    noted: AtomicU64,
    /// Whether that file has the key that signed a revocation list.
    has_noted_signer: AtomicBool,
    /// The providers that use it, for the log.
    users: ArcSwap<String>,
    /// The time, in seconds since 1970.
    clock: fn() -> u64,
}

/// The sources of a configuration, before their tasks start.
#[derive(Default)]
pub(super) struct PreparedSources {
    places: Vec<(Arc<Place>, Terms, Option<Fetcher>)>,
}

impl Default for Publisher {
    fn default() -> Self {
        let (offers, inbox) = mpsc::channel(OFFERS);
        Self { tasks: Vec::new(), offers, inbox }
    }
}

impl Publisher {
    /// Looks for the copies of `sources`, each of which is there once: those in use, or else those in the state directory. Changes nothing.
    ///
    /// # Errors
    ///
    /// If a source is fetched with the roots of this host, and it has none.
    pub(super) fn prepare(
        &self,
        sources: Vec<(Source, Terms)>,
        state: Option<&StateDirectory>,
    ) -> anyhow::Result<PreparedSources> {
        let mut in_use: HashMap<String, Vec<&Arc<Place>>> = HashMap::new();
        for task in &self.tasks {
            in_use.entry(task.place.source.feed().url.to_string()).or_default().push(&task.place);
        }
        let former = self.going(&sources);
        let mut settings = TlsSettings::default();
        let mut places = Vec::new();
        for (source, terms) in sources {
            let of_url = in_use.get(&source.feed().url.to_string()).map(Vec::as_slice).unwrap_or_default();
            if let Some(place) = of_url.iter().find(|place| place.source == source) {
                places.push((Arc::clone(place), terms, None));
                continue;
            }
            let fetcher = settings.fetcher(&source)?;
            // What is only fetched in another way keeps its copy.
            let same = of_url.iter().find(|place| place.source.is_same_document(&source));
            let known = same.and_then(|place| place.current.load_full());
            let kept = || state.and_then(|state| copy::read(state, &source, now())).map(Arc::new);
            let copy = known.or_else(kept).filter(|copy| source::check_former(&former, &copy.content).is_ok());
            let place = Place { former: former.clone(), ..Place::new(source, terms.clone(), copy, state.cloned()) };
            places.push((Arc::new(place), terms, Some(fetcher)));
        }
        Ok(PreparedSources { places })
    }

    /// The lists in use, by a known signer, of the sources that are not among `stay`.
    fn going(&self, stay: &[(Source, Terms)]) -> Vec<RevocationList> {
        let stays = |place: &Place| stay.iter().any(|(source, _)| source.is_same_document(&place.source));
        let lists =
            self.tasks.iter().filter(|task| matches!(task.place.source, Source::List(_)) && !stays(&task.place));
        let list = |task: &Task| match &task.place.current.load().as_ref()?.content {
            Content::List(list) => list.signer().is_some().then(|| list.clone()),
            Content::Ranges(_) | Content::Keys(_) => None,
        };
        lists.filter_map(list).collect()
    }

    /// Starts the tasks of new sources, leads those that stay to their terms, and ends those of sources that are gone. Must be called before a
    /// task runs again after [`Publisher::prepare`]: both run on the thread of the tasks.
    pub(super) fn adopt(&mut self, prepared: PreparedSources) {
        let before = std::mem::take(&mut self.tasks);
        let mut before: HashMap<*const Place, Task> =
            before.into_iter().map(|task| (Arc::as_ptr(&task.place), task)).collect();
        for (place, terms, fetcher) in prepared.places {
            let task = match fetcher {
                Some(fetcher) => Task::start(place, fetcher, self.offers.clone()),
                None => {
                    place.accept(terms);
                    match before.remove(&Arc::as_ptr(&place)) {
                        Some(task) => task,
                        None => continue,
                    }
                }
            };
            self.tasks.push(task);
        }
    }

    /// The next offer. Pending without lists.
    pub(super) async fn offer(&mut self) -> Offer {
        match self.inbox.recv().await {
            Some(offer) => offer,
            // This holds a sender itself.
            None => std::future::pending().await,
        }
    }

    /// The offers of start-up, one with each call: `None` when every list has a copy or was tried, or after `deadline`. Keys are not waited
    /// for: a request that needs them waits itself.
    pub(super) async fn first_offer(&mut self, deadline: Instant) -> Option<Offer> {
        loop {
            let is_known = |task: &Task| {
                let Place { source, current, attempted, .. } = &*task.place;
                matches!(source, Source::Keys(_)) || current.load().is_some() || attempted.load(Ordering::Relaxed)
            };
            if self.tasks.iter().all(is_known) {
                return None;
            }
            // A failure makes no offer, so this looks again.
            let next = Instant::now() + Duration::from_millis(50);
            match timeout_at(next.min(deadline), self.inbox.recv()).await {
                Ok(offer) => return offer,
                Err(_) if Instant::now() >= deadline => return None,
                Err(_) => {}
            }
        }
    }

    /// When the first round of start-up ends at the latest.
    pub(super) fn first_deadline() -> Instant {
        Instant::now() + FIRST_ROUND
    }

    /// Removes the kept copy of a source that is gone for good.
    pub(super) fn discard(source: &Source, state: &StateDirectory) {
        if let Err(error) = copy::remove(state, source) {
            tracing::warn!(source = source.name(), %error, "the kept copy cannot be removed");
        }
    }

    /// The copy in use of a source.
    pub(super) fn known(&self, source: &Source) -> Option<Arc<Copy>> {
        self.tasks.iter().find(|task| task.place.source == *source)?.place.current.load_full()
    }
}

impl PreparedSources {
    /// Says which providers use each source, for the log.
    pub(super) fn name_users(&self, users: impl Fn(&Source) -> String) {
        for (place, ..) in &self.places {
            place.users.store(Arc::new(users(&place.source)));
        }
    }

    /// The copy of a source, once this is adopted.
    pub(super) fn known(&self, source: &Source) -> Option<Arc<Copy>> {
        self.places.iter().find(|(place, ..)| place.source == *source)?.0.current.load_full()
    }
}

impl Offer {
    /// What is offered.
    pub(super) fn source(&self) -> &Source {
        &self.place.source
    }

    /// The copy that is offered.
    pub(super) fn copy(&self) -> &Arc<Copy> {
        &self.copy
    }

    /// Says whether the list is in force now, or why not. From then on it is the copy in use, so that no other list or reload that comes before
    /// the task runs again brings the old one back.
    pub(super) fn answer(self, verdict: Result<(), String>) {
        if verdict.is_ok() {
            self.place.current.store(Some(self.copy));
        }
        // The task may have ended because of a reload.
        let _ = self.verdict.send(verdict);
    }
}

impl Place {
    fn new(source: Source, terms: Terms, copy: Option<Arc<Copy>>, state: Option<StateDirectory>) -> Self {
        let noted = copy.as_ref().map_or(0, |copy| copy.fetched);
        Self {
            source,
            current: ArcSwapOption::from(copy),
            attempted: AtomicBool::new(false),
            terms: ArcSwap::from_pointee(terms),
            former: Vec::new(),
            wake: Notify::new(),
            state,
            noted: AtomicU64::new(noted),
            has_noted_signer: AtomicBool::new(false),
            users: ArcSwap::default(),
            clock: now,
        }
    }

    /// Judges what comes by these terms from now on. If they may take what the old ones refused, it is fetched again at once.
    fn accept(&self, terms: Terms) {
        let current = self.current.load_full();
        let is_urgent = match (&**self.terms.load(), &terms) {
            (Terms::Ranges(old), Terms::Ranges(new)) => old != new,
            (Terms::List(old), Terms::List(new)) => {
                let mut added = new.iter().filter(|signer| !old.contains(signer));
                added.any(|signer| match current.as_deref().map(|copy| &copy.content) {
                    Some(Content::List(list)) => signer.is_issuer_of(list),
                    _ => true,
                })
            }
            _ => false,
        };
        self.terms.store(Arc::new(terms));
        if let Some(copy) = &current {
            task::put_in_use(self, copy);
        }
        if is_urgent {
            self.wake.notify_one();
        }
    }
}

/// The TLS settings of the sources that have no `ca_file`, made once: the roots of the host are many.
#[derive(Default)]
struct TlsSettings(Option<Arc<ClientConfig>>);

impl TlsSettings {
    fn fetcher(&mut self, source: &Source) -> anyhow::Result<Fetcher> {
        let (feed, is_signed) = (source.feed(), source.is_signed());
        let tls = match (&feed.roots, &self.0) {
            (Some(roots), _) => tls_settings(configured_roots(roots))?,
            (None, Some(known)) => Arc::clone(known),
            (None, None) => {
                let roots = match system_roots() {
                    Ok(roots) => roots,
                    // No server needs a certificate, unless a redirect leads to one.
                    Err(_) if is_signed && !feed.url.is_https() => configured_roots(&[]),
                    Err(error) => return Err(error.into()),
                };
                let is_complete = !roots.is_empty();
                let settings = tls_settings(roots)?;
                self.0 = is_complete.then(|| Arc::clone(&settings));
                settings
            }
        };
        Ok(Fetcher::new(feed, tls, source.accept(), is_signed))
    }
}

/// The copy of a source that a daemon keeps in this state directory.
pub(super) fn kept(source: &Source, state: &StateDirectory) -> Option<Arc<Copy>> {
    copy::read(state, source, now()).map(Arc::new)
}

/// Fetches a source, for `hookgate fetch`, to take the place of the copy `before`. Changes nothing. Returns what came, and how long it is fresh.
///
/// # Errors
///
/// Why there is nothing usable.
pub(super) async fn fetch_once(
    source: &Source,
    terms: &Terms,
    before: Option<&Copy>,
) -> anyhow::Result<(Content, Duration)> {
    let fetcher = TlsSettings::default().fetcher(source)?;
    match fetcher.get(&Validators::default()).await? {
        Answer::Document { bytes, fresh_for, .. } => {
            let content = source.parse(&bytes).map_err(FetchError::Document)?;
            let before = before.map(|copy| &copy.content).filter(|before| terms.hold(before));
            terms.judge(before, &content, now())?;
            Ok((content, fresh_for))
        }
        Answer::NotModified { .. } => Err(FetchError::Status(hyper::StatusCode::NOT_MODIFIED).into()),
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
pub(in crate::control) mod tests;
