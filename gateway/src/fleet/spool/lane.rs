//! The deliveries of one route that this host hands over: how many it pulls, and what it does with each.
//!
//! Owns the pull, the sign of life of what is held, and that an outcome is with the servers before the dispatcher knows it. Which of a key is next
//! is in [`super::turn`]. Must not ask a handler: the dispatcher does.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{AckKind, Message as Pull};
use async_nats::{Client, RequestErrorKind};
use futures_util::StreamExt as _;
use hookgate_io::timer::{sleep, timeout};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::spawn_local;

use super::message::{Message, Meta};
use super::streams::{ACK_WAIT, Attempts, NotPut, Streams, attempts_of};
use super::{Demands, Outcome, Pulled, Settling, Shared, turn};
use crate::cause::Cause;
use crate::deliveries::{Fate, Waiting, now_ms};
use crate::fleet::stream::{Failed, failed};

/// How long the servers hold a pull that finds nothing. It also bounds how long a lost pull goes unnoticed.
const PULL: Duration = Duration::from_secs(5);

/// Most deliveries of one pull.
const AT_ONCE: usize = 64;

/// Between two signs of life of a delivery that is held: a third of [`ACK_WAIT`].
const ALIVE: Duration = Duration::from_secs(10);

/// The pause after the servers gave no answer.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// The pause of a delivery that this host cannot hand over, before it comes again here or at another host.
const ELSEWHERE: Duration = Duration::from_secs(30);

/// How often a consumer may miss an acknowledgement because it has no leader, a second apart: longer than an election. Then the delivery comes again, if it
/// is there.
const UNHEARD: u32 = 20;

/// The pause of a delivery that no handler will take, and for which there is no room among the dead letters, in milliseconds.
const FULL_PAUSE_MS: u64 = 300_000;

/// The longest pause of a message that is none of hookgate.
const FOREIGN: Duration = Duration::from_secs(3600);

/// The deliveries of a route at this host.
pub(super) struct Lane {
    pub(super) route: Arc<str>,
    pub(super) shared: Rc<Shared>,
    held: Cell<usize>,
    freed: Notify,
}

/// A place of a delivery that is held.
struct Place(Rc<Lane>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.held.set(self.0.held.get().saturating_sub(1));
        self.0.freed.notify_one();
    }
}

/// Keeps a lane for each route that the dispatcher names. Ends with it.
pub(super) async fn keep(shared: Rc<Shared>) {
    let mut demands = shared.demands.clone();
    let mut lanes = std::collections::HashMap::new();
    loop {
        let routes: Vec<Arc<str>> = demands.borrow_and_update().keys().cloned().collect();
        for route in routes {
            let lane = lanes.entry(Arc::clone(&route)).or_insert_with(|| None::<tokio::task::JoinHandle<()>>);
            if lane.as_ref().is_none_or(tokio::task::JoinHandle::is_finished) {
                *lane = Some(spawn_local(Rc::new(Lane::new(&shared, route)).serve(demands.clone())));
            }
        }
        if demands.changed().await.is_err() {
            return;
        }
    }
}

/// Hands over the deliveries of this key after a pause, if no host has their turn then. It counts as one that waits until then.
pub(super) fn take_turn(shared: &Rc<Shared>, streams: Streams, route: Arc<str>, key: String, pause: Duration) {
    shared.waits.set(shared.waits.get() + 1);
    let lane = Lane::new(shared, route);
    drop(spawn_local(async move {
        sleep(pause).await;
        lane.shared.waits.set(lane.shared.waits.get().saturating_sub(1));
        // A host whose handler does not answer leaves the key to the others.
        let wanted = lane.shared.demands.borrow().get(&lane.route).map_or(0, |demand| demand.wanted);
        if wanted == 0 {
            return;
        }
        if let Err(error) = turn::serve(&lane, &streams, &key, None).await {
            lane.shared.failed(&error);
        }
    }));
}

/// Acknowledges a delivery, and returns when the servers have it.
async fn acknowledge(client: &Client, pull: &Pull) -> Result<(), Failed> {
    let reply = pull.reply.clone().ok_or_else(|| failed("a message cannot be acknowledged"))?;
    for _ in 0..=UNHEARD {
        // Not by `double_ack`, for which it is an answer that no consumer listens.
        match client.request(reply.clone(), "+ACK".into()).await {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == RequestErrorKind::NoResponders => sleep(PAUSE).await,
            Err(error) => return Err(failed(error)),
        }
    }
    // The consumer is gone, and the delivery with it.
    Ok(())
}

impl Lane {
    fn new(shared: &Rc<Shared>, route: Arc<str>) -> Self {
        Self { route, shared: Rc::clone(shared), held: Cell::new(0), freed: Notify::new() }
    }

    /// Pulls as many as the dispatcher wants, until it does not name the route any more.
    async fn serve(self: Rc<Self>, mut demands: watch::Receiver<Demands>) {
        loop {
            let Some(demand) = demands.borrow_and_update().get(&self.route).cloned() else { return };
            let room = demand.wanted.saturating_sub(self.held.get());
            if room == 0 || self.is_paused() {
                let waited = async {
                    tokio::select! {
                        changed = demands.changed() => changed.is_ok(),
                        () = self.freed.notified() => true,
                    }
                };
                // A pause ends without a sign.
                if matches!(timeout(PAUSE, waited).await, Ok(false)) {
                    return;
                }
                continue;
            }
            let Some(streams) = self.shared.streams().await else {
                sleep(PAUSE).await;
                continue;
            };
            if let Err(error) = self.pull(&streams, room.min(AT_ONCE)).await {
                self.shared.failed(&error);
                sleep(PAUSE).await;
            }
        }
    }

    /// Whether the route of this host admits the provider.
    fn admits(&self, meta: &Meta) -> bool {
        let demands = self.shared.demands.borrow();
        demands
            .get(&self.route)
            .is_some_and(|demand| demand.providers.iter().any(|provider| **provider == *meta.provider))
    }

    /// Whether nothing is to be handed over now: the route is paused at all hosts, or it is not known yet that it is not.
    pub(super) fn is_paused(&self) -> bool {
        self.shared.is_paused(&self.route) != Some(false)
    }

    async fn pull(self: &Rc<Self>, streams: &Streams, room: usize) -> Result<(), Failed> {
        let consumer = streams.consumer(&self.route).await?;
        let batch = consumer.batch().max_messages(room).expires(PULL).messages().await;
        let mut batch = batch.map_err(failed)?;
        while let Some(message) = batch.next().await {
            let message = message.map_err(failed)?;
            self.held.set(self.held.get() + 1);
            let (lane, streams) = (Rc::clone(self), streams.clone());
            spawn_local(async move {
                let place = Place(Rc::clone(&lane));
                lane.take(&streams, message).await;
                drop(place);
            });
        }
        Ok(())
    }

    /// Hands over what was pulled, or gives it back.
    async fn take(&self, streams: &Streams, pull: Pull) {
        let parsed = Message::parse(pull.headers.as_ref(), pull.payload.clone());
        let parsed = parsed.filter(|message| streams.subjects.are_of(&message.meta, &pull.subject));
        let Some(message) = parsed else {
            let cause = Cause::Gateway.label();
            let (subject, sequence) = (pull.subject.as_str(), pull.info().map_or(0, |info| info.stream_sequence));
            tracing::error!(
                subject,
                sequence,
                cause,
                "a message in the stream of the spool is not one of hookgate; remove it, see docs/fleet.md"
            );
            return give_back(&pull, FOREIGN).await;
        };
        // It was asked for before the pause.
        if self.is_paused() {
            return give_back(&pull, Duration::ZERO).await;
        }
        let handed = match message.meta.key.clone() {
            Some(key) => turn::serve(self, streams, &key, Some(&pull)).await,
            None => self.hand_over(streams, &pull, message).await,
        };
        if let Err(error) = handed {
            // The servers give it to a host again when they have heard nothing of it.
            self.shared.failed(&error);
        }
    }

    /// Hands over a delivery without an order key.
    async fn hand_over(&self, streams: &Streams, pull: &Pull, message: Message) -> Result<(), Failed> {
        let info = pull.info().map_err(failed)?;
        // A first one has no attempts.
        let noted = if info.delivered > 1 { streams.attempts(&message.meta.id).await? } else { None };
        let was_noted = noted.is_some();
        let before = attempts_of(&message.meta, noted);
        let alive = || async { drop(pull.ack_with(AckKind::Progress).await) };
        let pause = match self.outcome(info.stream_sequence, &message, &before, alive).await {
            Ok(outcome) => {
                let remove = || acknowledge(&self.shared.client, pull);
                self.settle(streams, &message, was_noted, outcome, remove).await
            }
            Err(pause) => Some(pause),
        };
        if let Some(pause) = pause {
            give_back(pull, pause).await;
        }
        Ok(())
    }

    /// The outcome of a delivery whose turn it is: that of an attempt, or its end if no route of this host admits its provider.
    ///
    /// # Errors
    ///
    /// The pause after which it is to come again, here or at another host; zero if the dispatcher gives it back.
    pub(super) async fn outcome<A: Future<Output = ()>>(
        &self,
        sequence: u64,
        message: &Message,
        before: &Attempts,
        alive: impl Fn() -> A,
    ) -> Result<Outcome, Duration> {
        let pause = before.next_ms.saturating_sub(now_ms());
        if pause > 0 {
            return Err(Duration::from_millis(pause));
        }
        if self.admits(&message.meta) {
            return self.offer(sequence, message, before, alive).await.ok_or(Duration::ZERO);
        }
        // Another host may admit the provider, or this one after a reload, until its time has passed.
        if let Some(left) = message.meta.until_ms.checked_sub(now_ms()) {
            return Err(ELSEWHERE.min(Duration::from_millis(left + 1)));
        }
        let outcome = "No route of this name admits its provider, and retry_for_s has passed.".to_owned();
        Ok(Outcome::without_attempt(Fate::Dead { attempts: before.attempts, outcome }))
    }

    /// Tells the servers an outcome, and then the dispatcher. `remove` takes the delivery out of the stream. Returns the pause before the next
    /// attempt, if there is one.
    pub(super) async fn settle<F: Future<Output = Result<(), Failed>>>(
        &self,
        streams: &Streams,
        message: &Message,
        was_noted: bool,
        outcome: Outcome,
        remove: impl Fn() -> F,
    ) -> Option<Duration> {
        let Outcome { fate, stored } = outcome;
        let id = &message.meta.id;
        let fate = fate.told_by(&self.shared.host_name);
        let pause = match self.settle_dead(streams, message, fate).await {
            Fate::Taken | Fate::Dead { .. } => {
                self.insist(remove).await;
                if was_noted {
                    self.insist(|| streams.forget(id)).await;
                }
                None
            }
            Fate::Again { attempts, next_ms, outcome } => {
                let noted = Attempts { attempts, next_ms, outcome };
                self.insist(|| streams.note(id, &noted)).await;
                Some(Duration::from_millis(next_ms.saturating_sub(now_ms())))
            }
        };
        // The dispatcher may have ended.
        let _ = stored.send(());
        pause
    }

    /// Gives a delivery to the dispatcher, and waits for its outcome; `None` if it gives it back.
    async fn offer<A: Future<Output = ()>>(
        &self,
        sequence: u64,
        message: &Message,
        before: &Attempts,
        alive: impl Fn() -> A,
    ) -> Option<Outcome> {
        let Some(request) = message.request() else {
            let fate = Fate::Dead { attempts: before.attempts, outcome: "The message is damaged.".to_owned() };
            return Some(Outcome::without_attempt(fate));
        };
        let (told, outcome) = oneshot::channel();
        let waiting = self.waiting(sequence, &message.meta, before)?;
        self.shared.pulled.send(Pulled { waiting, request, settling: Settling(told) }).ok()?;
        tokio::pin!(outcome);
        loop {
            tokio::select! {
                outcome = &mut outcome => return outcome.ok(),
                () = sleep(ALIVE) => alive().await,
            }
        }
    }

    /// As the schedule of the dispatcher has it: with a negative number, because those of rows are positive, and without its key, whose turn it is.
    fn waiting(&self, sequence: u64, meta: &Meta, before: &Attempts) -> Option<Waiting> {
        Some(Waiting {
            number: -i64::try_from(sequence).ok()?,
            id: meta.id.as_str().into(),
            route: Arc::clone(&self.route),
            provider: meta.provider.as_str().into(),
            key: None,
            received_ms: meta.received_ms,
            until_ms: meta.until_ms,
            attempts: before.attempts,
            next_ms: before.next_ms,
        })
    }

    /// Puts a dead letter among the others. If there is no room, another attempt follows.
    async fn settle_dead(&self, streams: &Streams, message: &Message, fate: Fate) -> Fate {
        let Fate::Dead { attempts, outcome } = fate else { return fate };
        let mut letter = message.clone();
        (letter.meta.attempts, letter.meta.outcome) = (attempts, outcome.clone());
        loop {
            match streams.bury(&letter).await {
                Ok(()) => return Fate::Dead { attempts, outcome },
                Err(NotPut::Full(because)) => {
                    let (cause, route) = (Cause::Gateway.label(), &self.route);
                    tracing::error!(%route, because, cause, "the dead letters of the fleet are full; retry or drop some");
                    let next_ms = now_ms().saturating_add(FULL_PAUSE_MS);
                    return Fate::Again { attempts, next_ms, outcome };
                }
                Err(NotPut::Failed(error)) => self.shared.failed(&error),
            }
            sleep(PAUSE).await;
        }
    }

    /// Repeats an operation until the servers say that it is done. Meanwhile the delivery counts as in flight.
    async fn insist<T, F: Future<Output = Result<T, Failed>>>(&self, operation: impl Fn() -> F) {
        while let Err(error) = operation().await {
            self.shared.failed(&error);
            sleep(PAUSE).await;
        }
    }
}

/// Gives a message back to the servers, which give it to a host after the pause. If that is lost, they do after [`ACK_WAIT`].
pub(super) async fn give_back(pull: &Pull, pause: Duration) {
    drop(pull.ack_with(AckKind::Nak(Some(pause))).await);
}

/// Where lanes give what they pulled.
pub(super) type Offers = mpsc::UnboundedSender<Pulled>;

const _: () = assert!(ALIVE.as_secs() * 2 < ACK_WAIT.as_secs(), "a lost sign of life is not fatal");
