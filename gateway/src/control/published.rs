//! Lists of ranges that their publishers serve: which are fetched, when, and which copy is in use.
//!
//! Owns one task per list, its schedule, and the last good copy of each list in the state directory ([`copy`]). One fetch is
//! [`super::jwks::fetch`]; how a copy takes effect is [`super::reload`]. Must not judge requests.
//!
//! A list is fetched again when its copy is no longer fresh (`Cache-Control`), with exponential backoff after a failure. A copy stays in
//! use until a better one is there: a failure of any kind changes nothing. A new list is *offered* to the control loop, which applies it
//! to filter and snapshot, or refuses it as a whole.
//!
//! A reload that leaves a list as it is keeps its copy and its task, so reloads cause no fetch.

mod copy;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::{ArcSwap, ArcSwapOption};
use ipnet::IpNet;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep, timeout_at};

use super::jwks::fetch::{Answer, FetchError, Fetcher, Validators, system_roots, tls_settings};
use super::jwks::{backoff, configured_roots, earlier};
use crate::config::RangeSource;
use crate::metrics::fetches as metrics;
use crate::state::StateDirectory;
use copy::Copy;
use hookgate_filter::{Action, Policy, RangeSet};

/// How long start-up waits for lists of which there is no copy. Longer than one fetch by default, so that a publisher that fails is known.
const FIRST_ROUND: Duration = Duration::from_secs(12);

/// Offers that wait for the control loop. Each task waits for the answer to its own, so more would not help.
const OFFERS: usize = 16;

/// How much of a list may disappear at once: that of `[filter]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Guard {
    /// `largest_shrink_percent`, from 0 to 1.
    pub(super) largest_shrink: f64,
    /// `force_shrink`
    pub(super) forced: bool,
}

/// Keeps the lists of the configuration in use current.
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

/// The task of one list. Ends when it is dropped.
struct Task {
    place: Arc<Place>,
    _running: JoinSet<()>,
}

/// What a task and the control loop share.
struct Place {
    source: Arc<RangeSource>,
    /// The copy in use.
    current: ArcSwapOption<Copy>,
    /// Whether a fetch has ended, in whatever way.
    attempted: AtomicBool,
    guard: ArcSwap<Guard>,
    /// Ends a wait: another guard may take the list that was refused.
    wake: Notify,
    state: Option<StateDirectory>,
}

/// The lists of a configuration, before their tasks start.
pub(super) struct PreparedLists {
    places: Vec<(Arc<Place>, Option<Fetcher>)>,
    guard: Guard,
}

impl Default for Publisher {
    fn default() -> Self {
        let (offers, inbox) = mpsc::channel(OFFERS);
        Self { tasks: Vec::new(), offers, inbox }
    }
}

impl Publisher {
    /// Looks for the copies of `sources`: those in use, or else those in the state directory. Changes nothing.
    ///
    /// # Errors
    ///
    /// If a list is fetched with the roots of this host, and it has none.
    pub(super) fn prepare(
        &self,
        sources: Vec<Arc<RangeSource>>,
        guard: Guard,
        state: Option<&StateDirectory>,
    ) -> anyhow::Result<PreparedLists> {
        let mut places = Vec::new();
        for source in sources {
            if let Some(task) = self.tasks.iter().find(|task| *task.place.source == *source) {
                places.push((Arc::clone(&task.place), None));
                continue;
            }
            let roots = match &source.roots {
                Some(roots) => configured_roots(roots),
                None => system_roots()?,
            };
            let fetcher = Fetcher::new(source.url.clone(), tls_settings(roots)?, source.limits);
            // A list that is only fetched in another way keeps its copy.
            let is_same = |task: &&Task| task.place.source.is_same_list(&source);
            let known = self.tasks.iter().find(is_same).and_then(|task| task.place.current.load_full());
            let kept = || state.and_then(|state| copy::read(state, &source)).map(Arc::new);
            let place = Place {
                current: ArcSwapOption::from(known.or_else(kept)),
                attempted: AtomicBool::new(false),
                guard: ArcSwap::from_pointee(guard),
                wake: Notify::new(),
                state: state.cloned(),
                source,
            };
            places.push((Arc::new(place), Some(fetcher)));
        }
        Ok(PreparedLists { places, guard })
    }

    /// Starts the tasks of new lists, and ends those of lists that are gone.
    pub(super) fn adopt(&mut self, prepared: PreparedLists) {
        let mut before = std::mem::take(&mut self.tasks);
        for (place, fetcher) in prepared.places {
            if *place.guard.swap(Arc::new(prepared.guard)) != prepared.guard {
                place.wake.notify_one();
            }
            let task = match fetcher {
                Some(fetcher) => Task::start(place, fetcher, self.offers.clone()),
                None => match before.iter().position(|task| Arc::ptr_eq(&task.place, &place)) {
                    Some(index) => before.swap_remove(index),
                    None => continue,
                },
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

    /// The offers of start-up, one with each call: `None` when every list has a copy or was tried, or after `deadline`.
    pub(super) async fn first_offer(&mut self, deadline: Instant) -> Option<Offer> {
        loop {
            let is_known =
                |task: &Task| task.place.current.load().is_some() || task.place.attempted.load(Ordering::Relaxed);
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

    /// The ranges in use of a list.
    pub(super) fn known(&self, source: &RangeSource) -> Option<Arc<[IpNet]>> {
        let task = self.tasks.iter().find(|task| *task.place.source == *source)?;
        task.place.ranges()
    }
}

impl PreparedLists {
    /// The ranges of a list, once this is adopted.
    pub(super) fn known(&self, source: &RangeSource) -> Option<Arc<[IpNet]>> {
        self.places.iter().find(|(place, _)| *place.source == *source)?.0.ranges()
    }
}

impl Offer {
    /// The ranges, if `source` is the list that is offered.
    pub(super) fn ranges_of(&self, source: &RangeSource) -> Option<Arc<[IpNet]>> {
        (*self.place.source == *source).then(|| Arc::clone(&self.copy.ranges))
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
    fn ranges(&self) -> Option<Arc<[IpNet]>> {
        self.current.load().as_ref().map(|copy| Arc::clone(&copy.ranges))
    }
}

impl Task {
    fn start(place: Arc<Place>, fetcher: Fetcher, offers: mpsc::Sender<Offer>) -> Self {
        let name = place.source.name();
        if let Some(copy) = place.current.load().as_ref() {
            metrics::have(&name, copy.fetched);
            tracing::info!(
                source = name,
                ranges = copy.ranges.len(),
                age_s = age(copy.fetched),
                "using the kept copy of a list"
            );
        }
        let mut running = JoinSet::new();
        running.spawn(keep_current(Arc::clone(&place), fetcher, offers));
        Self { place, _running: running }
    }
}

/// Keeps one list current for as long as it is polled.
async fn keep_current(place: Arc<Place>, fetcher: Fetcher, offers: mpsc::Sender<Offer>) {
    let name = place.source.name();
    let mut failures = 0;
    loop {
        let outcome = renew(&place, &fetcher, &offers).await;
        place.attempted.store(true, Ordering::Relaxed);
        let next = match outcome {
            Ok((result, fresh_for)) => {
                failures = 0;
                metrics::counted(&name, result);
                metrics::have(&name, now());
                earlier(fresh_for)
            }
            Err(error) => {
                failures += 1;
                metrics::counted(&name, error.label());
                let next = backoff(failures);
                let copy = place.current.load();
                let age_s = copy.as_ref().map(|copy| age(copy.fetched));
                tracing::warn!(source = name, %error, failures, age_s, next_s = next.as_secs(), "list not fetched; the copy in use stays");
                next
            }
        };
        tokio::select! {
            () = sleep(next) => {}
            () = place.wake.notified() => {}
        }
    }
}

/// Fetches the list once, and puts it in force if it is new. Returns the result for the metrics, and how long it is fresh.
async fn renew(
    place: &Arc<Place>,
    fetcher: &Fetcher,
    offers: &mpsc::Sender<Offer>,
) -> Result<(&'static str, Duration), FetchError> {
    let before = place.current.load_full();
    let validators = before.as_ref().map(|copy| copy.validators.clone()).unwrap_or_default();
    let (bytes, validators, fresh_for) = match fetcher.get(&validators).await? {
        Answer::Document { bytes, validators, fresh_for } => (bytes, validators, fresh_for),
        Answer::NotModified { fresh_for } => {
            if let Some(copy) = &before {
                place.current.store(Some(Arc::new(copy.again(now()))));
            }
            return Ok(("not_modified", fresh_for));
        }
    };
    // Reading some megabytes takes long enough to delay the control thread.
    let (source, document) = (Arc::clone(&place.source), bytes.clone());
    let parsed = spawn_blocking(move || source.parse(&document)).await;
    let ranges: Arc<[IpNet]> =
        parsed.map_err(|error| FetchError::Document(error.to_string()))?.map_err(FetchError::Document)?.into();
    let copy = Arc::new(Copy { fetched: now(), validators, ranges });
    let result = match &before {
        Some(before) if before.ranges == copy.ranges => {
            place.current.store(Some(Arc::clone(&copy)));
            "unchanged"
        }
        _ => {
            let known = before.as_ref().map(|copy| &*copy.ranges).unwrap_or_default();
            check_shrink(known, &copy.ranges, **place.guard.load()).map_err(FetchError::Refused)?;
            offer(place, &copy, offers).await.map_err(FetchError::Refused)?;
            log_change(&place.source.name(), known, &copy.ranges);
            "ok"
        }
    };
    if let Some(state) = place.state.clone() {
        let source = Arc::clone(&place.source);
        // Counted by `state`; the list is in force in any case.
        let written = spawn_blocking(move || copy::write(&state, &source, &copy, &bytes)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(source = place.source.name(), %error, "the copy of a list is not kept over a restart");
        }
    }
    Ok((result, fresh_for))
}

/// Waits until the control loop has put the list in force, or has refused it.
async fn offer(place: &Arc<Place>, copy: &Arc<Copy>, offers: &mpsc::Sender<Offer>) -> Result<(), String> {
    let (verdict, answer) = oneshot::channel();
    let offer = Offer { place: Arc::clone(place), copy: Arc::clone(copy), verdict };
    let gone = "hookgate is ending";
    offers.send(offer).await.map_err(|_| gone.to_owned())?;
    answer.await.unwrap_or_else(|_| Err(gone.to_owned()))
}

/// Checks that a list does not lose too many addresses at once, as the filter checks its sets.
fn check_shrink(old: &[IpNet], new: &[IpNet], guard: Guard) -> Result<(), String> {
    let policy = |ranges: &[IpNet]| Policy {
        sets: vec![RangeSet { name: "the list".to_owned(), action: Action::Allow, prefixes: ranges.to_vec() }],
        largest_shrink: guard.largest_shrink,
        ..Policy::default()
    };
    policy(old).may_become(&policy(new), guard.forced).map_err(|error| error.to_string())
}

fn log_change(source: &str, old: &[IpNet], new: &[IpNet]) {
    let added = new.iter().filter(|range| !old.contains(range)).count();
    let removed = old.iter().filter(|range| !new.contains(range)).count();
    tracing::info!(source, ranges = new.len(), added, removed, "list fetched and in force");
}

/// Fetches one list, for `hookgate fetch`. Changes nothing.
///
/// # Errors
///
/// Why there is no usable list.
pub(super) async fn fetch_once(source: &RangeSource) -> anyhow::Result<(Vec<IpNet>, Duration)> {
    let roots = match &source.roots {
        Some(roots) => configured_roots(roots),
        None => system_roots()?,
    };
    let fetcher = Fetcher::new(source.url.clone(), tls_settings(roots)?, source.limits);
    match fetcher.get(&Validators::default()).await? {
        Answer::Document { bytes, fresh_for, .. } => {
            Ok((source.parse(&bytes).map_err(FetchError::Document)?, fresh_for))
        }
        Answer::NotModified { .. } => Err(FetchError::Status(hyper::StatusCode::NOT_MODIFIED).into()),
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn age(fetched: u64) -> u64 {
    now().saturating_sub(fetched)
}

#[cfg(test)]
mod tests;
