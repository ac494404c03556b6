//! The turn of an order key: one host at a time hands over its deliveries, in the order in which they are in the stream.
//!
//! Owns who has the turn, and which delivery is next: the first one that the stream still has. So none is attempted while an earlier one of its key
//! is there, at whichever host. Must not ask a handler.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::{AckKind, Message as Pull};

use super::lane::{Lane, PAUSE, give_back, take_turn};
use super::message::token;
use super::streams::{Streams, TURN, attempts_of};
use crate::fleet::stream::Failed;

/// The first pause of a delivery whose key is another host's turn. It doubles with each further one, up to [`LONGEST`]. Who has the turn
/// goes on with this delivery, so the pause matters only if that host is lost.
const FIRST: Duration = Duration::from_millis(500);

/// Most keys whose next attempt a host waits for without a pull. The servers' pauses do for others.
const WAITS: usize = 1024;

const LONGEST: Duration = Duration::from_secs(30);

/// The turn of a key, while this host has it.
struct Turn<'s> {
    lane: &'s Lane,
    streams: &'s Streams,
    key: String,
    revision: Cell<u64>,
    /// When it was renewed; `None` if it is lost.
    renewed: Cell<Option<Instant>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.lane.shared.turns.borrow_mut().remove(&self.key);
    }
}

impl Turn<'_> {
    /// Goes on with it.
    async fn renew(&self) {
        match self.streams.renew_turn(&self.key, &self.lane.shared.host, self.revision.get()).await {
            Ok(revision) => {
                self.revision.set(revision);
                self.renewed.set(Some(Instant::now()));
            }
            Err(_) => self.renewed.set(None),
        }
    }

    /// Whether it is still this host's.
    async fn holds(&self) -> bool {
        if self.renewed.get().is_some_and(|then| then.elapsed() > TURN / 3) {
            self.renew().await;
        }
        self.renewed.get().is_some()
    }
}

/// Hands over the deliveries of a key until there is none, or the first must wait. `pull` is the one that told of it.
pub(super) async fn serve(lane: &Lane, streams: &Streams, key: &str, pull: Option<&Pull>) -> Result<(), Failed> {
    let Some(turn) = begin(lane, streams, key).await? else {
        if let Some(pull) = pull {
            let count = pull.info().map_or(1, |info| info.delivered).clamp(1, 8);
            give_back(pull, LONGEST.min(FIRST * (1 << (count - 1)))).await;
        }
        return Ok(());
    };
    let pause = serve_turn(&turn, key, pull).await;
    if turn.renewed.get().is_some()
        && let Err(error) = streams.end_turn(turn.revision.get()).await
    {
        // It ends by itself.
        lane.shared.failed(&error);
    }
    drop(turn);
    let Some(pause) = pause? else { return Ok(()) };
    // It may be another one than the first; one that is gone is not given to anybody.
    if let Some(pull) = pull {
        give_back(pull, pause).await;
    }
    // The first one comes by its own pull too, but perhaps later. A host that is lost does not wait.
    if lane.shared.waits.get() < WAITS {
        let (shared, streams, route) = (Rc::clone(&lane.shared), streams.clone(), Arc::clone(&lane.route));
        take_turn(&shared, streams, route, key.to_owned(), pause);
    }
    Ok(())
}

/// Begins the turn of a key; `None` if another has it, here or at another host.
async fn begin<'s>(lane: &'s Lane, streams: &'s Streams, key: &str) -> Result<Option<Turn<'s>>, Failed> {
    let name = format!("{}.{key}", token(&lane.route));
    if !lane.shared.turns.borrow_mut().insert(name.clone()) {
        return Ok(None);
    }
    let (revision, renewed) = (Cell::new(0), Cell::new(None));
    let turn = Turn { lane, streams, key: name, revision, renewed };
    let Some(revision) = streams.begin_turn(&turn.key, &lane.shared.host).await? else { return Ok(None) };
    turn.revision.set(revision);
    turn.renewed.set(Some(Instant::now()));
    Ok(Some(turn))
}

/// Returns after which pause the first one is to be attempted; `None` if there is none.
async fn serve_turn(turn: &Turn<'_>, key: &str, pull: Option<&Pull>) -> Result<Option<Duration>, Failed> {
    let (lane, streams) = (turn.lane, turn.streams);
    let subject = streams.subjects.of_key(&lane.route, key);
    loop {
        if !turn.holds().await {
            return Ok(Some(FIRST));
        }
        if lane.is_paused() {
            return Ok(Some(Duration::ZERO));
        }
        let Some((sequence, message)) = streams.next_waiting(&subject, 0).await? else { return Ok(None) };
        let noted = streams.attempts(&message.meta.id).await?;
        let was_noted = noted.is_some();
        let before = attempts_of(&message.meta, noted);
        let alive = || async {
            turn.renew().await;
            if let Some(pull) = pull {
                drop(pull.ack_with(AckKind::Progress).await);
            }
        };
        let outcome = match lane.outcome(sequence, &message, &before, alive).await {
            Ok(outcome) => outcome,
            Err(pause) => return Ok(Some(if pause.is_zero() { PAUSE } else { pause })),
        };
        let remove = || streams.remove_waiting(sequence);
        let next = lane.settle(streams, &message, was_noted, outcome, remove).await;
        if next.is_some() {
            return Ok(next);
        }
    }
}
