//! The turn of an order key: one host at a time hands over its deliveries, in the order in which they are in the stream.
//!
//! Owns who has the turn, and which delivery is next: the first one that the stream still has. So none is attempted while an earlier one of its key
//! is there, at whichever host. Must not ask a handler.

use std::cell::Cell;
use std::time::{Duration, Instant};

use async_nats::jetstream::{AckKind, Message as Pull};

use super::Outcome;
use super::lane::{Lane, PAUSE, give_back};
use super::message::token;
use super::streams::{Failed, Streams, TURN, attempts_of, read};
use crate::deliveries::{Fate, now_ms};

/// The first pause of a delivery whose key is another host's turn. It doubles with each further one, up to [`LONGEST`]. Who has the turn
/// goes on with this delivery, so the pause matters only if that host is lost.
const FIRST: Duration = Duration::from_millis(500);

const LONGEST: Duration = Duration::from_secs(30);

/// The turn of a key, while this host has it.
struct Turn<'s> {
    streams: &'s Streams,
    key: String,
    revision: Cell<u64>,
    /// When it was renewed; `None` if it is lost.
    renewed: Cell<Option<Instant>>,
}

impl Turn<'_> {
    /// Goes on with it.
    async fn renew(&self) {
        match self.streams.renew_turn(&self.key, self.revision.get()).await {
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
    let name = format!("{}.{key}", token(&lane.route));
    let Some(revision) = streams.begin_turn(&name).await? else {
        if let Some(pull) = pull {
            let count = pull.info().map_or(1, |info| info.delivered).clamp(1, 8);
            give_back(pull, LONGEST.min(FIRST * (1 << (count - 1)))).await;
        }
        return Ok(());
    };
    let turn = Turn { streams, key: name, revision: Cell::new(revision), renewed: Cell::new(Some(Instant::now())) };
    let pause = serve_turn(lane, &turn, key, pull).await;
    if turn.renewed.get().is_some()
        && let Err(error) = streams.end_turn(turn.revision.get()).await
    {
        // It ends by itself.
        lane.shared.failed(&error);
    }
    // One that is gone is not given to anybody.
    if let (Some(pull), Some(pause)) = (pull, pause?) {
        give_back(pull, pause).await;
    }
    Ok(())
}

/// Returns after which pause the first one is to be attempted; `None` if there is none.
async fn serve_turn(lane: &Lane, turn: &Turn<'_>, key: &str, pull: Option<&Pull>) -> Result<Option<Duration>, Failed> {
    let streams = turn.streams;
    let subject = streams.subjects.of_key(&lane.route, key);
    loop {
        if !turn.holds().await {
            return Ok(Some(FIRST));
        }
        if lane.is_paused() {
            return Ok(Some(Duration::ZERO));
        }
        let Some(first) = streams.next_waiting(&subject, 0).await? else { return Ok(None) };
        let sequence = first.sequence;
        let Some((_, message)) = read(first) else {
            return Err(Failed(format!("message {sequence} of the spool is not one of hookgate; remove it")));
        };
        let noted = streams.attempts(&message.meta.id).await?;
        let was_noted = noted.is_some();
        let before = attempts_of(&message.meta, noted);
        let pause = before.next_ms.saturating_sub(now_ms());
        if pause > 0 {
            return Ok(Some(Duration::from_millis(pause)));
        }
        let alive = || async {
            turn.renew().await;
            if let Some(pull) = pull {
                drop(pull.ack_with(AckKind::Progress).await);
            }
        };
        let Some(Outcome { fate, stored }) = lane.offer(sequence, &message, &before, alive).await else {
            return Ok(Some(PAUSE));
        };
        let mut next = None;
        match &fate {
            Fate::Taken => lane.insist(|| streams.remove_waiting(sequence)).await,
            Fate::Again { .. } => next = Some(lane.note(streams, &message.meta, &fate).await),
            Fate::Dead { .. } => {
                lane.bury(streams, message.clone(), &fate).await;
                lane.insist(|| streams.remove_waiting(sequence)).await;
            }
        }
        if was_noted && next.is_none() {
            lane.insist(|| streams.forget(&message.meta.id)).await;
        }
        // The dispatcher may have ended.
        let _ = stored.send(());
        if next.is_some() {
            return Ok(next);
        }
    }
}
