//! The task of one certificate: wait until it is due, ask for it, put it in use, keep it.
//!
//! Owns the schedule, the log and the metrics. Must not decide what a certificate must satisfy: `config` does.

use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::UnixTime;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::failure::{Failure, Step};
use super::order::{advice, obtain};
use super::schedule::{Lifetime, SHORTEST_PAUSE, backoff, left, pause};
use super::store::{CertificateRecord, FailureRecord, Kept};
use super::{Advised, Offer, Place, Proofs};
use crate::config::ServerCertificate;
use crate::metrics::acme as metrics;

/// The longest attempt. An authority that answers each request in time could otherwise stretch one without end.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(600);

/// The longest sleep: the clock of the host may be set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// How often an authority is asked when it advises to renew, at least and at most, whatever it says.
const ADVICE: (Duration, Duration) = (Duration::from_secs(3600), Duration::from_secs(24 * 3600));

/// How often it is asked if it says nothing.
const NO_ADVICE: Duration = Duration::from_secs(6 * 3600);

/// Keeps one certificate current for as long as it is polled.
pub(super) async fn keep_current(place: Arc<Place>, offers: mpsc::Sender<Offer>) {
    let proofs = Proofs { place: Arc::clone(&place), offers };
    let mut failures = resumed(&place).await;
    let mut hurried = 0_u32;
    let mut earliest = Instant::now();
    loop {
        wait_until_due(&place, earliest).await;
        // A process that ends meanwhile has failed: one that crashes at this would otherwise ask with each start.
        record(&place, failures.saturating_add(1), backoff(failures.saturating_add(1), false, fastrand::f64())).await;
        place.attempts.begin();
        let outcome = attempt(&place, &proofs).await;
        let Err(failure) = outcome else {
            failures = 0;
            forget(&place).await;
            note(&place, None, 0);
            let is_hurried = place.current.load().as_ref().is_some_and(|kept| is_hurried(kept));
            hurried = if is_hurried { hurried.saturating_add(1) } else { 0 };
            earliest = Instant::now() + pause(hurried, fastrand::f64());
            continue;
        };
        failures = failures.saturating_add(1);
        note(&place, Some(&failure), failures);
        let next = backoff(failures, failure.step.is_free(), fastrand::f64());
        plan(&place, now() + next.as_secs());
        log_failure(&place, &failure, failures, next);
        record(&place, failures, next).await;
        back_off(&place, next).await;
    }
}

fn note(place: &Place, failure: Option<&Failure>, failures: u32) {
    metrics::attempted(place.name(), Failure::result(failure));
    metrics::failures(place.name(), failures);
    place.attempts.end(now(), failure, failures);
}

/// How many attempts of the process before failed in a row, when their back-off is over or a reload has ended it.
async fn resumed(place: &Place) -> u32 {
    let record = place.is_resumed.then(|| FailureRecord::read(&place.state, &place.order)).flatten();
    // Of an attempt that succeeded, if that process ended at that moment.
    let is_over = |at| place.current.load().as_ref().is_some_and(|kept| kept.fits && kept.obtained >= at);
    let Some(FailureRecord { failures, next, .. }) = record.filter(|record| !is_over(record.at)) else { return 0 };
    metrics::failures(place.name(), failures);
    place.attempts.resume(failures);
    let left = left(next, now());
    if !left.is_zero() {
        plan(place, now() + left.as_secs());
        let (names, next_s) = (place.order.domains.join(", "), left.as_secs());
        tracing::warn!(
            names,
            failures,
            next_s,
            "attempts failed or ended before this start, so the next one waits; a reload asks for it at once"
        );
        back_off(place, left).await;
    }
    failures
}

/// Keeps the back-off over the end of this process, on a thread that may wait for the disk.
async fn record(place: &Place, failures: u32, next: Duration) {
    let (state, order, now) = (place.state.clone(), Arc::clone(&place.order), now());
    let record = FailureRecord { failures, at: now, next: now + next.as_secs() };
    let written = tokio::task::spawn_blocking(move || record.write(&state, &order)).await;
    if let Ok(Err(error)) = written {
        // Without a place for files, the attempt ends before it costs the authority anything.
        tracing::debug!(%error, "the back-off is not kept");
    }
}

/// After a success there is none.
async fn forget(place: &Place) {
    let (state, order) = (place.state.clone(), Arc::clone(&place.order));
    let removed = tokio::task::spawn_blocking(move || FailureRecord::remove(&state, &order)).await;
    if let Ok(Err(error)) = removed {
        tracing::warn!(%error, "the back-off of before cannot be removed");
    }
}

/// The next attempt is at `next`, in seconds since 1970.
fn plan(place: &Place, next: u64) {
    metrics::next_attempt(place.name(), next);
    place.attempts.plan(next);
}

/// One attempt, with all of its steps.
async fn attempt(place: &Arc<Place>, proofs: &Proofs) -> Result<(), Failure> {
    if place.unkept.load().is_none() {
        let _turn = place.turns.acquire().await;
        let names = place.order.domains.join(", ");
        tracing::info!(names, directory = place.order.directory.name(), "asking for a certificate");
        let before = place.current.load_full().map(|kept| Arc::clone(&kept.certificate));
        let obtained = timeout(LONGEST_ATTEMPT, obtain(place, proofs, before.as_deref())).await;
        if obtained.is_err() {
            proofs.withdraw().await;
        }
        let late = |_| Failure::new(Step::Order, format!("no result within {} s", LONGEST_ATTEMPT.as_secs()));
        let issued = Arc::new(Kept::issued(obtained.map_err(late)??, now()));
        proofs.put_in_use(Arc::clone(&issued)).await.map_err(|why| Failure::new(Step::Certificate, why))?;
        *place.advised.lock().await = None;
        log_success(place, &issued);
    }
    keep(place).await
}

/// Writes the certificate that is in use and not kept.
async fn keep(place: &Arc<Place>) -> Result<(), Failure> {
    let Some(unkept) = place.unkept.load_full() else { return Ok(()) };
    let writer = Arc::clone(place);
    let written = tokio::task::spawn_blocking(move || {
        CertificateRecord::new(&writer.order, &unkept).write(&writer.state, &writer.order)
    });
    match written.await {
        Ok(Ok(())) => {
            place.unkept.store(None);
            Ok(())
        }
        Ok(Err(error)) => Err(Failure::new(Step::State, error)),
        // The runtime is ending.
        Err(_) => Ok(()),
    }
}

/// Whether the next order has to wait, whenever this certificate is to be renewed.
fn is_hurried(kept: &Kept) -> bool {
    lifetime(&kept.certificate).is_some_and(|lifetime| lifetime.is_hurried(kept.obtained))
}

fn lifetime(certificate: &ServerCertificate) -> Option<Lifetime> {
    certificate.validity().map(|(from, until)| Lifetime { from, until })
}

fn log_success(place: &Place, issued: &Kept) {
    let certificate = &issued.certificate;
    let names = place.order.domains.join(", ");
    let until = certificate.validity().map_or(0, |(_, until)| until);
    let until = crate::config::day_of(until);
    tracing::info!(names, %until, "a new certificate is in use");
    if lifetime(certificate).is_some_and(|lifetime| lifetime.is_late(issued.obtained)) {
        tracing::warn!(names, %until, "two thirds of the new certificate's lifetime are over; check the clock of this host, and what the authority issues");
    }
    // With a ca_file the authority is the operator's own.
    if place.order.directory.roots.is_none()
        && let Some(root) = certificate.private_root()
    {
        tracing::warn!(names, %root, "no public root vouches for the certificate: senders that trust public roots alone refuse it");
    }
}

/// Says at which step an attempt failed, and what serves meanwhile.
fn log_failure(place: &Place, failure: &Failure, failures: u32, next: Duration) {
    let (names, next_s) = (place.order.domains.join(", "), next.as_secs());
    let (step, error) = (failure.step.label(), failure);
    let directory = place.order.directory.name();
    match place.current.load().as_ref().map(|kept| kept.certificate.validity().map_or(0, |(_, until)| until)) {
        _ if place.unkept.load().is_some() => {
            tracing::warn!(names, step, %error, failures, next_s, "the new certificate is in use, and not kept: a restart would ask for another");
        }
        Some(until) => {
            let until = crate::config::day_of(until);
            tracing::warn!(names, directory, step, %error, failures, next_s, %until, "no certificate was issued; the one in use stays");
        }
        None => {
            tracing::warn!(names, directory, step, %error, failures, next_s, "no certificate was issued, and there is none; handshakes for these names are refused");
        }
    }
}

/// Waits after a failure: until it is over, or a reload asks to try again.
async fn back_off(place: &Place, next: Duration) {
    let began = Instant::now();
    let woken = timeout(next, place.wake.notified()).await;
    if woken.is_ok() {
        sleep(SHORTEST_PAUSE.saturating_sub(began.elapsed())).await;
    }
}

/// Waits until the certificate is to be asked for, or written; in any case until `earliest`.
async fn wait_until_due(place: &Place, earliest: Instant) {
    loop {
        let (due, now) = (due(place).await, now());
        // The clock of the host may be set meanwhile, so a pause is no time of day.
        let paused = earliest.saturating_duration_since(Instant::now());
        plan(place, due.max(now + paused.as_secs()));
        let left = Duration::from_secs(due.saturating_sub(now)).max(paused);
        if left.is_zero() {
            return;
        }
        sleep(left.min(LONGEST_SLEEP)).await;
    }
}

/// When it is to be asked for, in seconds since 1970: now if there is none that fits.
async fn due(place: &Place) -> u64 {
    let Some(kept) = place.current.load_full().filter(|kept| kept.fits && place.unkept.load().is_none()) else {
        return now();
    };
    let Some(lifetime) = lifetime(&kept.certificate) else { return now() };
    let lifetime = lifetime.left_at(kept.obtained, now());
    let without_advice = lifetime.renewal(place.luck);
    if without_advice <= now() {
        return without_advice;
    }
    let mut advised = place.advised.lock().await;
    let known = match *advised {
        Some(known) if now() < known.again => known,
        _ => ask_for_advice(place, &kept.certificate).await,
    };
    *advised = Some(known);
    known.window.map_or(without_advice, |window| lifetime.renewal_in(window, place.luck))
}

/// Asks the authority when to renew. If it does not answer, it is as if it had nothing to say.
async fn ask_for_advice(place: &Place, certificate: &Arc<ServerCertificate>) -> Advised {
    let outcome = advice(place, certificate).await.unwrap_or_else(|error| {
        let names = place.order.domains.join(", ");
        tracing::info!(names, %error, "the authority does not say when to renew; it is two thirds of the lifetime");
        None
    });
    let (window, wait) = outcome.map_or((None, NO_ADVICE), |(window, again)| (Some(window), again));
    Advised { window, again: now() + wait.clamp(ADVICE.0, ADVICE.1).as_secs() }
}

fn now() -> u64 {
    UnixTime::now().as_secs()
}
