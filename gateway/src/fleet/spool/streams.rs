//! The streams and buckets of the spool, and the operations on them.
//!
//! Owns what each must be like, and what an answer of the servers means. One that is there is never changed. Must not decide what is attempted.
//!
//! | stream | holds |
//! | --- | --- |
//! | `hookgate-spool-FLEET` | deliveries that wait; one leaves when it is acknowledged or deleted, and for no other reason |
//! | `hookgate-dead-FLEET` | dead letters |
//! | bucket `hookgate-attempts-FLEET` | of each delivery that was attempted and waits: attempts, outcome, next attempt; which routes are paused |
//! | bucket `hookgate-turns-FLEET` | which order keys are being handed over; an entry that is not renewed goes after [`TURN`] |

use std::error::Error as _;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::consumer::pull::Config as ConsumerConfig;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy};
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::kv::{CreateErrorKind, Store};
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{Config, LastRawMessageErrorKind, RetentionPolicy, Stream};
use async_nats::jetstream::{self, Context, ErrorCode};
use serde::{Deserialize, Serialize};

use super::message::{Message, Meta, Subjects, token};
use crate::config::percent_used;
use crate::deliveries::Pauses;
use crate::fleet::stream::{self, Failed, Told, failed};

/// How long a message counts as being handed over without a sign of its host. Also the longest pause after a lost host.
pub(super) const ACK_WAIT: Duration = Duration::from_secs(30);

/// How long the turn of an order key lasts without being renewed.
pub(super) const TURN: Duration = Duration::from_secs(30);

/// How long the servers know the id of a message, so that one that is sent again is stored once.
const DUPLICATES: Duration = Duration::from_secs(600);

/// The entry with the routes that are paused.
const PAUSED: &str = "paused";

/// Why a message was not put into a stream.
#[derive(Debug)]
pub(super) enum NotPut {
    /// There is no room, for this reason.
    Full(String),
    /// It is not known to be stored.
    Failed(Failed),
}

impl From<NotPut> for Failed {
    fn from(not_put: NotPut) -> Self {
        match not_put {
            NotPut::Full(because) => failed(because),
            NotPut::Failed(error) => error,
        }
    }
}

/// What became of the attempts of a delivery so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attempts {
    /// Attempts with an outcome.
    pub(super) attempts: u32,
    /// No attempt begins before it, in milliseconds since 1970.
    pub(super) next_ms: u64,
    /// What came of the last one.
    pub(super) outcome: String,
}

/// What the streams are made with, if they are not there.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) fleet: String,
    pub(super) replicas: usize,
    pub(super) max_bytes: i64,
}

/// All of them.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    context: Context,
    pub(super) subjects: Subjects,
    spool: Stream,
    dead: Stream,
    attempts: Store,
    turns: Store,
}

impl Streams {
    /// Finds them, or makes them.
    pub(super) async fn find(
        client: &Client,
        patience: Duration,
        wanted: &Wanted,
        told: &Told,
    ) -> Result<Self, Failed> {
        let mut context: Context = jetstream::new(client.clone());
        context.set_timeout(patience);
        let subjects = Subjects::new(&wanted.fleet);
        let name = |kind: &str| format!("hookgate-{kind}-{}", wanted.fleet);
        let spool = Config {
            description: Some("hookgate: deliveries that wait for their handlers".to_owned()),
            subjects: vec![subjects.spool()],
            retention: RetentionPolicy::WorkQueue,
            duplicate_window: DUPLICATES,
            ..wanted.stream(name("spool"))
        };
        let dead = Config {
            description: Some("hookgate: deliveries that no handler took".to_owned()),
            subjects: vec![subjects.dead()],
            duplicate_window: DUPLICATES,
            ..wanted.stream(name("dead"))
        };
        let spool = stream::find(&context, spool, told).await.map_err(failed)?;
        let dead = stream::find(&context, dead, told).await.map_err(failed)?;
        let attempts = find_bucket(&context, (wanted, told), &name("attempts"), Duration::ZERO).await?;
        let turns = find_bucket(&context, (wanted, told), &name("turns"), TURN).await?;
        Ok(Self { context, subjects, spool, dead, attempts, turns })
    }

    /// Stores a delivery, and returns when the servers say so.
    pub(super) async fn put(&self, message: &Message) -> Result<(), NotPut> {
        let subject = self.subjects.waiting(&message.meta);
        self.publish(subject, message, &message.meta.id).await
    }

    /// Stores a delivery that was stored before, as another message, at this time in milliseconds.
    pub(super) async fn put_again(&self, message: &Message, now_ms: u64) -> Result<(), NotPut> {
        let id = format!("{}.{now_ms}", message.meta.id);
        self.publish(self.subjects.waiting(&message.meta), message, &id).await
    }

    /// Stores a dead letter.
    pub(super) async fn bury(&self, message: &Message) -> Result<(), NotPut> {
        let subject = self.subjects.buried(&message.meta);
        // A dead letter that is retried has another end, and may become one again.
        let id = format!("{}.{}.{}", message.meta.id, message.meta.until_ms, message.meta.attempts);
        self.publish(subject, message, &id).await
    }

    async fn publish(&self, subject: String, message: &Message, id: &str) -> Result<(), NotPut> {
        let (headers, payload) = (message.headers(id), message.payload.clone());
        let sent = self.context.publish_with_headers(subject, headers, payload).await.map_err(not_put)?;
        sent.await.map_err(not_put).map(drop)
    }

    /// The consumer by which hosts share the deliveries of a route.
    pub(super) async fn consumer(&self, route: &str) -> Result<Consumer<ConsumerConfig>, Failed> {
        let name = format!("hand-{}", token(route));
        let config = ConsumerConfig {
            durable_name: Some(name.clone()),
            description: Some(format!("hookgate: the route {route}")),
            filter_subject: self.subjects.spool_of(route),
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            // Those that wait for their next attempt count, and hold up no other.
            max_ack_pending: -1,
            max_deliver: -1,
            ..ConsumerConfig::default()
        };
        self.spool.get_or_create_consumer(&name, config).await.map_err(failed)
    }

    /// Deliveries of a route that wait, and its dead letters.
    pub(super) async fn levels(&self, route: &str) -> Result<(u64, u64), Failed> {
        // Each consumer comes with what the servers said of it just now.
        let consumer = self.consumer(route).await?;
        let waiting = consumer.cached_info();
        // A consumer that no host pulls from counts what there is.
        let name = format!("count-{}", token(route));
        let config = ConsumerConfig {
            durable_name: Some(name.clone()),
            filter_subject: self.subjects.dead_of(route),
            ack_policy: AckPolicy::None,
            ..ConsumerConfig::default()
        };
        let counter = self.dead.get_or_create_consumer(&name, config).await.map_err(failed)?;
        Ok((waiting.num_pending + waiting.num_ack_pending as u64, counter.cached_info().num_pending))
    }

    /// How much of the bytes of the stream of what waits is used, in percent; 0 if it has no bound.
    pub(super) async fn filled_percent(&self) -> Result<u64, Failed> {
        let info = self.spool.get_info().await.map_err(failed)?;
        Ok(u64::try_from(info.config.max_bytes).map_or(0, |most| percent_used(info.state.bytes, most)))
    }

    /// The first delivery that waits with this subject, from this sequence number on, with its own.
    pub(super) async fn next_waiting(&self, subject: &str, from: u64) -> Result<Option<(u64, Message)>, Failed> {
        self.next(&self.spool, subject, from).await
    }

    /// The first dead letter with this subject, from this sequence number on, with its own.
    pub(super) async fn next_dead(&self, subject: &str, from: u64) -> Result<Option<(u64, Message)>, Failed> {
        self.next(&self.dead, subject, from).await
    }

    /// Passes over messages that are not of hookgate. The log names them when they are pulled.
    async fn next(&self, stream: &Stream, subject: &str, mut from: u64) -> Result<Option<(u64, Message)>, Failed> {
        loop {
            let message = match stream.raw_message_builder().next_by_subject(subject).sequence(from).send().await {
                Ok(message) => message,
                Err(error) if is_missing(&error.kind()) => return Ok(None),
                Err(error) => return Err(failed(error)),
            };
            let sequence = message.sequence;
            if let Some(message) = self.read(message) {
                return Ok(Some((sequence, message)));
            }
            from = sequence + 1;
        }
    }

    /// What a message of a stream is; `None` if it is not one of hookgate.
    fn read(&self, message: StreamMessage) -> Option<Message> {
        let StreamMessage { subject, headers, payload, .. } = message;
        Message::parse(Some(&headers), payload).filter(|message| self.subjects.are_of(&message.meta, &subject))
    }

    /// The last sequence number of the spool, or of the dead letters.
    pub(super) async fn last(&self, of_dead: bool) -> Result<u64, Failed> {
        let stream = if of_dead { &self.dead } else { &self.spool };
        stream.get_info().await.map(|info| info.state.last_sequence).map_err(failed)
    }

    /// Removes a delivery that waits. It is no error if it is gone.
    pub(super) async fn remove_waiting(&self, sequence: u64) -> Result<(), Failed> {
        remove(&self.spool, sequence).await
    }

    /// Removes a dead letter. It is no error if it is gone.
    pub(super) async fn remove_dead(&self, sequence: u64) -> Result<(), Failed> {
        remove(&self.dead, sequence).await
    }

    /// What became of a delivery so far; `None` if it was not attempted.
    pub(super) async fn attempts(&self, id: &str) -> Result<Option<Attempts>, Failed> {
        let value = self.attempts.get(attempts_key(id)).await.map_err(failed)?;
        Ok(value.and_then(|value| serde_json::from_slice(&value).ok()))
    }

    /// Notes the outcome of an attempt.
    pub(super) async fn note(&self, id: &str, attempts: &Attempts) -> Result<(), Failed> {
        let value = serde_json::to_vec(attempts).map_err(failed)?;
        self.attempts.put(attempts_key(id), value.into()).await.map_err(failed).map(drop)
    }

    /// Forgets the attempts of a delivery.
    pub(super) async fn forget(&self, id: &str) -> Result<(), Failed> {
        match self.attempts.entry(attempts_key(id)).await.map_err(failed)? {
            // Not by a marker, which would stay.
            Some(entry) => remove(&self.attempts.stream, entry.revision).await,
            None => Ok(()),
        }
    }

    /// The routes that are paused, and the revision that says so.
    pub(super) async fn pauses(&self) -> Result<(Pauses, u64), Failed> {
        let Some(entry) = self.attempts.entry(PAUSED).await.map_err(failed)? else { return Ok((Pauses::default(), 0)) };
        Ok((serde_json::from_slice(&entry.value).unwrap_or_default(), entry.revision))
    }

    /// Replaces what `revision` says. Fails if another host has changed it since.
    pub(super) async fn set_pauses(&self, pauses: &Pauses, revision: u64) -> Result<(), Failed> {
        let value = serde_json::to_vec(pauses).map_err(failed)?;
        self.attempts.update(PAUSED, value.into(), revision).await.map_err(failed).map(drop)
    }

    /// Begins the turn of an order key for this host, which has it not yet as far as it knows; `None` if it is another's.
    pub(super) async fn begin_turn(&self, key: &str, host: &str) -> Result<Option<u64>, Failed> {
        match self.turns.create(key, host.to_owned().into()).await {
            Ok(revision) => return Ok(Some(revision)),
            Err(error) if error.kind() == CreateErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
        // The answer to an earlier try may have been lost.
        let entry = self.turns.entry(key).await.map_err(failed)?;
        Ok(entry.filter(|entry| entry.value == host.as_bytes()).map(|entry| entry.revision))
    }

    /// Goes on with a turn. Fails if it has ended.
    pub(super) async fn renew_turn(&self, key: &str, host: &str, revision: u64) -> Result<u64, Failed> {
        self.turns.update(key, host.to_owned().into(), revision).await.map_err(failed)
    }

    /// Ends a turn.
    pub(super) async fn end_turn(&self, revision: u64) -> Result<(), Failed> {
        remove(&self.turns.stream, revision).await
    }
}

fn attempts_key(id: &str) -> String {
    format!("attempts.{id}")
}

impl Wanted {
    fn stream(&self, name: String) -> Config {
        Config { max_bytes: self.max_bytes, ..stream::wanted(name, self.replicas) }
    }
}

/// Finds a bucket, or makes it, with a history of 1.
async fn find_bucket(
    context: &Context,
    (wanted, told): (&Wanted, &Told),
    name: &str,
    max_age: Duration,
) -> Result<Store, Failed> {
    let duplicate_window = if max_age.is_zero() { Duration::from_secs(120) } else { max_age };
    let stream = Config {
        subjects: vec![format!("$KV.{name}.>")],
        max_messages_per_subject: 1,
        max_age,
        max_bytes: -1,
        allow_rollup: true,
        duplicate_window,
        ..wanted.stream(format!("KV_{name}"))
    };
    stream::find(context, stream, told).await.map_err(failed)?;
    context.get_key_value(name).await.map_err(failed)
}

fn is_missing(kind: &LastRawMessageErrorKind) -> bool {
    match kind {
        LastRawMessageErrorKind::NoMessageFound => true,
        LastRawMessageErrorKind::JetStream(error) => error.error_code() == ErrorCode::NO_MESSAGE_FOUND,
        _ => false,
    }
}

async fn remove(stream: &Stream, sequence: u64) -> Result<(), Failed> {
    match stream.delete_message(sequence).await {
        Ok(_) => Ok(()),
        // Its code is that of other failures too.
        Err(error) => match stream.get_raw_message(sequence).await {
            Err(absent) if is_missing(&absent.kind()) => Ok(()),
            Ok(_) | Err(_) => Err(failed(error)),
        },
    }
}

fn not_put(error: PublishError) -> NotPut {
    let because = error.source().map(ToString::to_string).unwrap_or_default();
    match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => {
            NotPut::Full("The delivery is longer than max_payload of the NATS servers.".to_owned())
        }
        // JetStream: "maximum bytes exceeded", "maximum messages exceeded".
        PublishErrorKind::Other if because.contains("maximum") => {
            NotPut::Full(format!("The stream of the fleet is full ({because})."))
        }
        _ => NotPut::Failed(failed(format!("{error} {because}"))),
    }
}

/// The state of a delivery that waits, with what was noted of it.
pub(super) fn attempts_of(meta: &Meta, noted: Option<Attempts>) -> Attempts {
    noted.unwrap_or(Attempts { attempts: meta.attempts, next_ms: meta.next_ms, outcome: String::new() })
}
