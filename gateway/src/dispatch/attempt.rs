//! One attempt to hand a stored delivery over, and the write of its outcome.
//!
//! Owns the order: the request is read, the handler is asked, the outcome is on the disk, and only then does the schedule know it. Must not
//! choose the delivery: `schedule` does.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http_body_util::BodyExt as _;
use hyper::{Response, StatusCode};

use super::Dispatcher;
use super::verdict::{Verdict, after_failure, judge};
use crate::access::{Attempt, Handover};
use crate::deliveries::{Fate, ReadError, Settled, Spooled, Waiting, now_ms};
use crate::fleet::{Fleet, Pulled};
use crate::metrics::spool as metrics;
use crate::snapshot::Snapshot;
use crate::upstream::{HandlerBody, HandlerLimits, Outgoing};
use hookgate_core::route::RouteId;
use hookgate_io::timer::{sleep, timeout};

/// The most of a handler's answer that is read, so that its connection can be used again. It is dropped.
const ANSWER_BYTES: usize = 64 * 1024;

/// How long that may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// The pause before the next try to write an outcome that the disk did not take.
const WRITE_PAUSE: Duration = Duration::from_secs(1);

/// The pause before the next try to read a delivery that could not be read, in milliseconds.
const READ_PAUSE_MS: u64 = 30_000;

/// The longest pause of a delivery of a fleet's spool whose handler did not answer here: that of another host may. The pauses of the route keep this
/// host from asking its handler for each.
const ELSEWHERE_MS: u64 = 2000;

/// The pause before the next try to move a row to the servers of a fleet.
const MOVE_PAUSE_MS: u64 = 1000;

/// What came of an attempt.
struct Attempted {
    fate: Fate,
    status: Option<StatusCode>,
    elapsed: Duration,
}

/// What has ended.
pub(super) enum Ended {
    /// The handler answered an attempt for the delivery of this number, or did not. The outcome follows.
    Asked { number: i64, answered: bool },
    /// The attempt ended without an outcome to write: the delivery is gone (`None`), or cannot be read.
    Unwritten { number: i64, fate: Option<Fate> },
}

/// Attempts a delivery of this route, and writes the outcome, of which the thread that writes tells the schedule.
pub(super) async fn attempt(dispatcher: Rc<Dispatcher>, snapshot: Arc<Snapshot>, route: RouteId, waiting: Waiting) {
    let number = waiting.number;
    // The loop may have ended.
    let unwritten = |fate| drop(dispatcher.ended.send(Ended::Unwritten { number, fate }));
    let outgoing = match dispatcher.reader.request(number) {
        Ok(Some(request)) => Outgoing::of_stored(request, &waiting.id, waiting.attempts.saturating_add(1)),
        Ok(None) => return unwritten(None),
        Err(ReadError::Damaged(what)) => {
            let outcome = format!("The row is damaged: its {what} cannot be read.");
            let fate = Fate::Dead { attempts: waiting.attempts, outcome };
            return settle(&dispatcher, number, fate).await;
        }
        Err(error @ (ReadError::Database(_) | ReadError::DamagedFile)) => {
            if matches!(error, ReadError::DamagedFile) {
                // So that requests are refused from now on, also those that store nothing before their handler answers.
                dispatcher.store.probe();
                // The pauses of a handler that does not answer keep this from being done for each of thousands.
                drop(dispatcher.ended.send(Ended::Asked { number, answered: false }));
            } else {
                tracing::error!(%error, "a stored delivery cannot be read; it is tried again");
            }
            return unwritten(Some(unread(waiting.attempts)));
        }
    };
    if let Some(fleet) = dispatcher.fleet.as_ref().filter(|_| snapshot.durable(route).is_some()) {
        match move_to(fleet, &waiting, &outgoing).await {
            Moved::Stored => {
                drop(dispatcher.ended.send(Ended::Asked { number, answered: true }));
                return settle(&dispatcher, number, Fate::Taken).await;
            }
            Moved::Later => {
                drop(dispatcher.ended.send(Ended::Asked { number, answered: false }));
                let next_ms = now_ms().saturating_add(MOVE_PAUSE_MS);
                let outcome = String::new();
                return unwritten(Some(Fate::Again { attempts: waiting.attempts, next_ms, outcome }));
            }
            Moved::Here => {}
        }
    }
    let attempted = ask(&dispatcher, &snapshot, route, &waiting, &outgoing).await;
    tell(&snapshot, &waiting, &attempted);
    // The loop may have ended.
    drop(dispatcher.ended.send(Ended::Asked { number, answered: attempted.status.is_some() }));
    settle(&dispatcher, number, attempted.fate).await
}

/// Attempts a delivery that this host has of the spool of a fleet, and tells the servers the outcome. The schedule knows it when it is stored.
pub(super) async fn attempt_pulled(
    dispatcher: Rc<Dispatcher>,
    snapshot: Arc<Snapshot>,
    route: RouteId,
    pulled: Pulled,
) {
    let Pulled { waiting, request, settling } = pulled;
    let number = waiting.number;
    let outgoing = Outgoing::of_stored(request, &waiting.id, waiting.attempts.saturating_add(1));
    let mut attempted = ask(&dispatcher, &snapshot, route, &waiting, &outgoing).await;
    if let (None, Fate::Again { next_ms, .. }) = (attempted.status, &mut attempted.fate) {
        *next_ms = (*next_ms).min(now_ms().saturating_add(ELSEWHERE_MS));
    }
    tell(&snapshot, &waiting, &attempted);
    // The loop may have ended.
    drop(dispatcher.ended.send(Ended::Asked { number, answered: attempted.status.is_some() }));
    settling.settle(attempted.fate).await;
    drop(dispatcher.ended.send(Ended::Unwritten { number, fate: None }));
}

/// What became of a row that is to be moved to the servers of a fleet.
enum Moved {
    /// They have it.
    Stored,
    /// They do not store it now.
    Later,
    /// This host hands it over.
    Here,
}

/// Moves a row to the servers of the fleet, from which every host hands over.
async fn move_to(fleet: &Fleet, waiting: &Waiting, outgoing: &Outgoing<'_>) -> Moved {
    // While the servers store nothing, this host hands over what waits for no other. They take none that is too long for them.
    let is_stored = match fleet.is_storing() || waiting.key.is_some() {
        true => fleet.store_waiting(waiting, &outgoing.to_parts()).await,
        false => None,
    };
    match is_stored {
        Some(Spooled::Stored | Spooled::Duplicate) => Moved::Stored,
        None if fleet.may_hand_over(&waiting.route) => Moved::Here,
        Some(Spooled::Full(_) | Spooled::Failed) | None => Moved::Later,
    }
}

/// Makes a delivery that no route took in its time a dead letter.
pub(super) async fn expire(dispatcher: Rc<Dispatcher>, snapshot: Arc<Snapshot>, waiting: Waiting) {
    let outcome = "No route of this name admits its provider, and retry_for_s has passed.".to_owned();
    let fate = Fate::Dead { attempts: waiting.attempts, outcome };
    tell(&snapshot, &waiting, &Attempted { fate: fate.clone(), status: None, elapsed: Duration::ZERO });
    settle(&dispatcher, waiting.number, fate).await
}

async fn ask(
    dispatcher: &Dispatcher,
    snapshot: &Snapshot,
    route: RouteId,
    waiting: &Waiting,
    outgoing: &Outgoing<'_>,
) -> Attempted {
    let route = snapshot.routes.route(route);
    let (began, mut answered) = (Instant::now(), None);
    let limits = HandlerLimits::share(&snapshot.limits, &route.limits, 1);
    let answer = dispatcher.upstream.forward(outgoing, route, limits, &mut answered).await;
    let elapsed = answered.map_or_else(|| began.elapsed(), |answered| answered.at.saturating_duration_since(began));
    let (fate, status) = match answer {
        Ok(answer) => {
            let (status, fields) = (answer.status(), answer.headers());
            let fate = match judge(status, fields, SystemTime::now()) {
                Verdict::Taken => Fate::Taken,
                Verdict::Later(not_before) => {
                    let outcome = format!("The handler answered {}.", status.as_u16());
                    again(dispatcher, waiting, not_before, outcome)
                }
                Verdict::Never => {
                    let outcome = format!("The handler answered {}, which is final.", status.as_u16());
                    Fate::Dead { attempts: waiting.attempts.saturating_add(1), outcome }
                }
            };
            // What is left then is cut with its connection.
            let _ = timeout(ANSWER_LIMIT, read_rest(answer)).await;
            (fate, Some(status))
        }
        Err(refusal) => (again(dispatcher, waiting, Duration::ZERO, refusal.detail().to_owned()), None),
    };
    Attempted { fate, status, elapsed }
}

fn again(dispatcher: &Dispatcher, waiting: &Waiting, not_before: Duration, outcome: String) -> Fate {
    after_failure(waiting, not_before, outcome, now_ms(), dispatcher.random.borrow_mut().f64())
}

/// Reads the body of an answer, so that its connection goes back to the pool.
async fn read_rest(mut answer: Response<HandlerBody>) {
    let mut read = 0;
    while let Some(Ok(frame)) = answer.body_mut().frame().await {
        read += frame.data_ref().map_or(0, bytes::Bytes::len);
        if read > ANSWER_BYTES {
            return;
        }
    }
}

/// Writes the outcome until the disk takes it. Meanwhile the delivery counts as in flight: it is not attempted again. A damaged file takes none, and
/// nothing is read from it for another attempt.
async fn settle(dispatcher: &Dispatcher, number: i64, fate: Fate) {
    while !dispatcher.store.settle(Settled { number, fate: fate.clone() }).await {
        if dispatcher.reader.is_damaged() {
            // No attempt follows, so their number does not matter.
            drop(dispatcher.ended.send(Ended::Unwritten { number, fate: Some(unread(0)) }));
            return;
        }
        sleep(WRITE_PAUSE).await;
    }
}

/// A delivery whose row cannot be read or changed now waits, after so many attempts.
fn unread(attempts: u32) -> Fate {
    Fate::Again { attempts, next_ms: now_ms().saturating_add(READ_PAUSE_MS), outcome: String::new() }
}

/// Counts and logs an attempt.
fn tell(snapshot: &Snapshot, waiting: &Waiting, attempted: &Attempted) {
    let Attempted { fate, status, elapsed } = attempted;
    let (handover, label, outcome, next, attempts) = match fate {
        Fate::Taken => (Handover::Taken, "taken", None, None, waiting.attempts.saturating_add(1)),
        Fate::Again { next_ms, outcome, attempts } => {
            let next = Duration::from_millis(next_ms.saturating_sub(now_ms()));
            (Handover::Again, "again", Some(outcome.as_str()), Some(next), *attempts)
        }
        Fate::Dead { outcome, attempts } => (Handover::Dead, "dead", Some(outcome.as_str()), None, *attempts),
    };
    metrics::attempted(&waiting.route, label);
    let event = Attempt {
        delivery: &waiting.id,
        route: &waiting.route,
        provider: &waiting.provider,
        attempt: attempts,
        status: status.map(|status| status.as_u16()),
        handler: *elapsed,
        next,
        outcome,
    };
    event.log(&snapshot.access, handover);
}
