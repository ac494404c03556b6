//! The task of one source: fetch, judge, put in force, wait.
//!
//! Owns the schedule, and the order of these steps. Must not decide what a document must satisfy: [`super::source`] does.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::sleep;

use super::copy::{self, Copy, sha256};
use super::source::{self, Content, Outlet, Source, Terms};
use super::{Offer, Place, Task, metrics};
use crate::control::fetcher::{Answer, FetchError, Fetcher};
use crate::key_store::Attendant;
use crate::state::{StateDirectory, StateError};

/// The wait after the first failure. Each further failure doubles it, up to [`LAST_BACKOFF`].
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LAST_BACKOFF: Duration = Duration::from_secs(300);

/// How often to look whether a chain has shown the key of a list, until it is kept.
const SIGNER_PERIOD: Duration = Duration::from_secs(5);

/// How old the note in the state directory about the last confirmation of a copy may be, in seconds: an hour. Publishers are asked every few
/// minutes, and each note writes the file again.
const NOTE_SECONDS: u64 = 3600;

impl Task {
    pub(super) fn start(place: Arc<Place>, fetcher: Fetcher, offers: mpsc::Sender<Offer>) -> Self {
        let name = place.source.name();
        if let Some(copy) = place.current.load_full() {
            let age_s = (place.clock)().saturating_sub(copy.fetched);
            let (provider, url) = (place.users(), place.url());
            tracing::info!(provider, source = name, url, holds = %copy.content, age_s, "using the kept copy");
            put_in_use(&place, &copy);
        }
        let mut running = JoinSet::new();
        running.spawn(keep_current(Arc::clone(&place), fetcher, offers));
        Self { place, _running: running }
    }
}

/// Keeps one source current for as long as it is polled.
pub(super) async fn keep_current(place: Arc<Place>, fetcher: Fetcher, offers: mpsc::Sender<Offer>) {
    let name = place.source.name();
    let attendant = match &**place.terms.load() {
        Terms::Keys(Outlet { store, source }) => store.attend(*source),
        Terms::Ranges(_) | Terms::List(_) => None,
    };
    let mut failures = 0;
    loop {
        keep_signer(&place).await;
        attendant.iter().for_each(Attendant::begin);
        let outcome = renew(&place, &fetcher, &offers).await;
        place.attempted.store(true, Ordering::Relaxed);
        let next = match outcome {
            Ok(Renewed { result, next }) => {
                failures = 0;
                metrics::counted(&name, result);
                earlier(next)
            }
            Err(error) => {
                failures += 1;
                metrics::counted(&name, error.label());
                let next = backoff(failures);
                log_failure(&place, &error, failures, next);
                next
            }
        };
        attendant.iter().for_each(Attendant::end);
        rest(&place, next, attendant.as_ref()).await;
    }
}

/// Waits until the next round is due or wanted. Keeps the key of a revocation list meanwhile, if a chain shows it.
async fn rest(place: &Place, next: Duration, attendant: Option<&Attendant>) {
    let wanted = async {
        match attendant {
            Some(attendant) => attendant.wanted().await,
            None => std::future::pending().await,
        }
    };
    let (mut due, mut wanted) = (pin!(sleep(next)), pin!(wanted));
    loop {
        tokio::select! {
            () = &mut due => return,
            () = place.wake.notified() => return,
            () = &mut wanted => return,
            () = sleep(SIGNER_PERIOD), if place.lacks_signer() => keep_signer(place).await,
        }
    }
}

/// Writes the key that signed the revocation list in use beside the kept copy: it vouches for the next list after a restart.
pub(super) async fn keep_signer(place: &Place) {
    let Some(copy) = place.current.load_full() else { return };
    let is_signed = matches!(&copy.content, Content::List(list) if list.signer().is_some());
    if is_signed && place.lacks_signer() {
        // The age of the copy stays as it was noted.
        let noted = place.noted.load(Ordering::Relaxed);
        keep(place, move |state, source| copy::confirm(state, source, &copy)).await;
        place.noted.store(noted, Ordering::Relaxed);
    }
}

/// Says why nothing was fetched, for whom, and what stays in use.
fn log_failure(place: &Place, error: &FetchError, failures: u32, next: Duration) {
    let (provider, source, url, next_s) = (place.users(), place.source.name(), place.url(), next.as_secs());
    match place.current.load().as_ref() {
        Some(copy) => {
            let age_s = (place.clock)().saturating_sub(copy.fetched);
            tracing::warn!(provider, source, url, %error, failures, age_s, next_s, "not fetched; the copy in use stays");
        }
        None => tracing::warn!(provider, source, url, %error, failures, next_s, "not fetched; there is no copy to use"),
    }
}

impl Place {
    /// Whether the key of its revocation list may have to be written to the state directory.
    fn lacks_signer(&self) -> bool {
        let is_kept_list = self.state.is_some() && matches!(self.source, Source::List(_));
        is_kept_list && !self.has_noted_signer.load(Ordering::Relaxed)
    }

    /// The providers that use it, for the log.
    fn users(&self) -> Option<String> {
        let users = self.users.load();
        (!users.is_empty()).then(|| String::clone(&users))
    }

    /// The URL for the log, without its query, if the name is another one.
    fn url(&self) -> Option<String> {
        matches!(self.source, Source::Keys(_)).then(|| self.source.feed().name())
    }

    /// Whether the file of the copy was not written for so long that its age says little.
    fn is_note_due(&self) -> bool {
        (self.clock)().saturating_sub(self.noted.load(Ordering::Relaxed)) >= NOTE_SECONDS
    }
}

/// A round that did not fail.
#[derive(Debug)]
pub(super) struct Renewed {
    /// For the metrics.
    pub(super) result: &'static str,
    /// When the next round is due.
    pub(super) next: Duration,
}

/// A document as it came, and what it holds.
struct Arrived {
    content: Content,
    digest: [u8; 32],
}

/// Fetches the document once, and puts it in force if it is new.
pub(super) async fn renew(
    place: &Arc<Place>,
    fetcher: &Fetcher,
    offers: &mpsc::Sender<Offer>,
) -> Result<Renewed, FetchError> {
    let before = credible(place).await;
    let validators = before.as_ref().map(|copy| copy.validators.clone()).unwrap_or_default();
    let (bytes, validators, fresh_for) = match fetcher.get(&validators).await? {
        Answer::Document { bytes, validators, fresh_for } => (bytes, validators, fresh_for),
        Answer::NotModified { fresh_for } => return confirm(place, before, fresh_for).await,
    };
    // Reading some megabytes takes long enough to delay the control thread, and so does the signature of a long list.
    let (judged_by, old, document) = (Arc::clone(place), before.clone(), bytes.clone());
    let arrived = spawn_blocking(move || arrive(&judged_by, old.as_deref(), &document)).await;
    let Arrived { content, digest } = arrived.map_err(|error| FetchError::Document(error.to_string()))??;
    let copy = Copy { fetched: (place.clock)(), fresh_for, validators, digest, content };
    let next = place.source.wait(&copy.content, fresh_for, copy.fetched);
    let is_same = before.as_ref().is_some_and(|before| before.content.is_same(&copy.content));
    let is_kept = before.as_ref().is_some_and(|before| before.digest == digest) && !place.is_note_due();
    let copy = Arc::new(match before {
        // The content in use stays, so that nobody takes it for another.
        Some(before) if is_same => Copy { content: before.content.clone(), ..copy },
        _ => copy,
    });
    if is_same || matches!(copy.content, Content::Keys(_)) {
        place.current.store(Some(Arc::clone(&copy)));
        put_in_use(place, &copy);
    } else {
        offer(place, &copy, offers).await.map_err(FetchError::Refused)?;
        put_in_use(place, &copy);
    }
    if !is_same {
        let (provider, source, url) = (place.users(), place.source.name(), place.url());
        tracing::info!(provider, source, url, holds = %copy.content, next_s = next.as_secs(), "fetched and in use");
        if let Content::Keys(set) = &copy.content {
            set.skipped().iter().for_each(|skipped| tracing::debug!(source, %skipped, "token key not usable"));
        }
    }
    if !is_kept {
        keep(place, move |state, source| copy::write(state, source, &copy, &bytes)).await;
    }
    Ok(Renewed { result: if is_same { "unchanged" } else { "ok" }, next })
}

/// The copy in use, unless it turned out to be by somebody else.
async fn credible(place: &Arc<Place>) -> Option<Arc<Copy>> {
    let copy = place.current.load_full()?;
    if copy.content.is_beyond_doubt() {
        return Some(copy);
    }
    let (judged_by, judged) = (Arc::clone(place), Arc::clone(&copy));
    let holds = spawn_blocking(move || judged_by.terms.load().hold(&judged.content)).await.unwrap_or(true);
    if !holds {
        let source = place.source.name();
        tracing::warn!(source, holds = %copy.content, "the copy in use is not signed by its issuer; it is fetched anew");
    }
    holds.then_some(copy)
}

/// Reads and judges a document.
fn arrive(place: &Place, before: Option<&Copy>, document: &[u8]) -> Result<Arrived, FetchError> {
    let digest = sha256(document);
    let content = match before {
        // The same bytes are not read again.
        Some(before) if before.digest == digest => before.content.clone(),
        _ => place.source.parse(document).map_err(FetchError::Document)?,
    };
    let before = before.map(|before| &before.content);
    if !before.is_some_and(|before| before.is_same(&content)) {
        place.terms.load().judge(before, &content, (place.clock)())?;
    }
    source::check_former(&place.former, &content)?;
    Ok(Arrived { content, digest })
}

/// Notes that the publisher has nothing newer.
async fn confirm(place: &Arc<Place>, before: Option<Arc<Copy>>, fresh_for: Duration) -> Result<Renewed, FetchError> {
    // Only the version of a copy is asked for, so there is one.
    let before = before.ok_or(FetchError::Status(hyper::StatusCode::NOT_MODIFIED))?;
    let copy = Arc::new(before.again((place.clock)(), fresh_for));
    place.current.store(Some(Arc::clone(&copy)));
    put_in_use(place, &copy);
    let next = place.source.wait(&copy.content, fresh_for, copy.fetched);
    if place.is_note_due() {
        keep(place, move |state, source| copy::confirm(state, source, &copy)).await;
    }
    Ok(Renewed { result: "not_modified", next })
}

/// Publishes the age of a copy, and the keys that it holds.
pub(super) fn put_in_use(place: &Place, copy: &Copy) {
    let name = place.source.name();
    metrics::have(&name, copy.fetched);
    if let (Content::Keys(set), Terms::Keys(outlet)) = (&copy.content, &**place.terms.load()) {
        let until = place.source.usable_until(copy);
        metrics::keys_usable_until(&name, until);
        outlet.publish(set, until);
    }
}

/// Waits until the control loop has put the list in force, or has refused it.
async fn offer(place: &Arc<Place>, copy: &Arc<Copy>, offers: &mpsc::Sender<Offer>) -> Result<(), String> {
    let (verdict, answer) = oneshot::channel();
    let offer = Offer { place: Arc::clone(place), copy: Arc::clone(copy), verdict };
    let gone = "hookgate is ending";
    offers.send(offer).await.map_err(|_| gone.to_owned())?;
    answer.await.unwrap_or_else(|_| Err(gone.to_owned()))
}

/// Writes to the state directory, if there is one. Failures are counted by `state`; the copy is in use in any case.
async fn keep(place: &Place, write: impl FnOnce(&StateDirectory, &Source) -> Result<(), StateError> + Send + 'static) {
    let Some(state) = place.state.clone() else { return };
    let source = place.source.clone();
    let signed = |place: &Place| place.current.load().as_ref().is_some_and(|copy| copy.content.is_beyond_doubt());
    let has_signer = signed(place);
    match spawn_blocking(move || write(&state, &source)).await {
        Ok(Ok(())) => {
            place.noted.store((place.clock)(), Ordering::Relaxed);
            place.has_noted_signer.store(has_signer, Ordering::Relaxed);
        }
        Ok(Err(error)) => {
            tracing::warn!(source = place.source.name(), %error, "the copy is not kept over a restart");
        }
        // The runtime is ending.
        Err(_) => {}
    }
}

/// The wait before a regular fetch: 90 to 100 % of `fresh_for`, at random, so that keys do not become stale and instances do not fetch
/// at the same moment.
pub(super) fn earlier(fresh_for: Duration) -> Duration {
    fresh_for.mul_f64(0.9 + 0.1 * fastrand::f64())
}

/// The wait after `failures` in a row, from 1: doubled by each failure, and its second half random.
pub(super) fn backoff(failures: u32) -> Duration {
    doubled(failures, (FIRST_BACKOFF, LAST_BACKOFF), fastrand::f64())
}

/// The wait after `failures` in a row, from 1, between the first and the longest of these: doubled by each, and its second half by `luck` (0 to 1).
pub(in crate::control) fn doubled(failures: u32, (first, longest): (Duration, Duration), luck: f64) -> Duration {
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(longest);
    doubled.mul_f64(0.5 + 0.5 * luck.clamp(0.0, 1.0))
}
