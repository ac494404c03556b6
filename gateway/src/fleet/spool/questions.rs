//! What an operator asks of the spool that hosts share.
//!
//! Owns how each question is answered from the streams. Messages are read one after the other, so a list of many takes its time, and holds up nothing.
//! The answers are those of [`crate::deliveries`]; the numbers of what is in the streams begin beyond those of rows.

use std::rc::Rc;
use std::time::Duration;

use data_encoding::BASE64;
use hookgate_io::timer::sleep;

use super::message::{Message, Meta};
use super::streams::{Attempts, Streams, attempts_of};
use super::{Shared, lane};
use crate::deliveries::{Answer, Command, Filter, Listed, PAGE, Selection, Shown, now_ms};
use crate::fleet::stream::Failed;

/// Beyond the number of every row: deliveries that wait in the stream.
const WAITING: i64 = 1 << 60;

/// Beyond those: dead letters.
const DEAD: i64 = 1 << 61;

/// The pause before that.
const PAUSE: Duration = Duration::from_millis(50);

/// How often the entry with the pauses is written again, if another host overtakes.
const TRIES: usize = 4;

/// Where a delivery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Waiting,
    Dead,
}

/// A delivery of a stream.
struct Found {
    place: Place,
    sequence: u64,
    message: Message,
    attempts: Attempts,
}

/// Answers one.
pub(super) async fn answer(shared: &Rc<Shared>, streams: &Streams, command: &Command) -> Result<Answer, Failed> {
    match command {
        Command::List(filter) => list(shared, streams, filter).await.map(Answer::Deliveries),
        Command::Show { id, body } => {
            let Some(found) = find(streams, id).await? else { return Ok(Answer::unknown(id)) };
            let behind = found.behind(streams).await?;
            Ok(Answer::Delivery(Box::new(shown(shared, &found, behind, *body))))
        }
        Command::Drop { id } => {
            let Some(found) = find(streams, id).await? else { return Ok(Answer::unknown(id)) };
            found.remove(streams).await?;
            Ok(Answer::Changed(1))
        }
        Command::Retry(Selection::Id(id)) => {
            let Some(found) = find(streams, id).await? else { return Ok(Answer::unknown(id)) };
            found.retry(shared, streams).await?;
            Ok(Answer::Changed(1))
        }
        Command::Retry(Selection::Route(route)) => {
            let of_route = Filter { route: Some(route.clone()), ..Filter::default() };
            retry_all(shared, streams, &of_route, &[Place::Dead, Place::Waiting]).await
        }
        Command::Retry(Selection::AllDead) => retry_all(shared, streams, &Filter::default(), &[Place::Dead]).await,
        Command::Pause { route } => {
            let route = route.clone().unwrap_or_default();
            pause(shared, streams, |pauses| pauses.pause(route.clone())).await
        }
        Command::Resume { route } => {
            let route = route.clone().unwrap_or_default();
            pause(shared, streams, |pauses| pauses.resume(&route)).await
        }
    }
}

/// The answer without streams: they cannot be used for this reason, or the servers cannot be reached.
pub(super) fn without_streams(command: &Command, problem: Option<String>) -> Answer {
    let because = match problem {
        Some(problem) => format!("the spool of the fleet cannot be used: {problem}"),
        None => "the NATS servers of the fleet cannot be reached".to_owned(),
    };
    let follows = match command {
        Command::Pause { .. } => {
            "a pause is one of all hosts and is kept by the servers, so it cannot be set now; to stop deliveries to a handler at this host, stop that handler"
        }
        Command::Resume { .. } => "a pause is one of all hosts and is kept by the servers, so it cannot be ended now",
        Command::List(_) | Command::Show { .. } | Command::Retry(_) | Command::Drop { .. } => {
            "what the servers store is not known"
        }
    };
    Answer::Error(format!("{because}; {follows}"))
}

async fn list(shared: &Shared, streams: &Streams, filter: &Filter) -> Result<Vec<Listed>, Failed> {
    let mut listed = Vec::new();
    let wants = |state: &str| filter.state.as_deref().is_none_or(|wanted| wanted == state);
    for (place, begin, state) in [(Place::Waiting, WAITING, "waiting"), (Place::Dead, DEAD, "dead")] {
        let is_past = place == Place::Waiting && filter.after >= DEAD;
        if !wants(state) || is_past {
            continue;
        }
        let mut from = u64::try_from(filter.after.saturating_sub(begin)).unwrap_or(0) + 1;
        while listed.len() < PAGE as usize {
            let Some(found) = next(streams, place, filter, from).await? else { break };
            from = found.sequence + 1;
            if filter.provider.as_ref().is_none_or(|wanted| *wanted == found.message.meta.provider) {
                listed.push(listed_as(shared, &found));
            }
        }
    }
    Ok(listed)
}

/// The first delivery at a place, from a sequence number on, of the route of `filter`.
async fn next(streams: &Streams, place: Place, filter: &Filter, from: u64) -> Result<Option<Found>, Failed> {
    let subjects = &streams.subjects;
    let subject = match (place, &filter.route) {
        (Place::Waiting, Some(route)) => subjects.spool_of(route),
        (Place::Waiting, None) => subjects.spool(),
        (Place::Dead, Some(route)) => subjects.dead_of(route),
        (Place::Dead, None) => subjects.dead(),
    };
    at(streams, place, &subject, from).await
}

/// The first delivery at a place with this subject, from a sequence number on.
async fn at(streams: &Streams, place: Place, subject: &str, from: u64) -> Result<Option<Found>, Failed> {
    let first = match place {
        Place::Waiting => streams.next_waiting(subject, from).await?,
        Place::Dead => streams.next_dead(subject, from).await?,
    };
    let Some((sequence, message)) = first else { return Ok(None) };
    found(streams, place, sequence, message).await.map(Some)
}

async fn found(streams: &Streams, place: Place, sequence: u64, message: Message) -> Result<Found, Failed> {
    let noted = match place {
        Place::Waiting => streams.attempts(&message.meta.id).await?,
        Place::Dead => None,
    };
    let mut attempts = attempts_of(&message.meta, noted);
    if place == Place::Dead {
        attempts.outcome.clone_from(&message.meta.outcome);
    }
    Ok(Found { place, sequence, message, attempts })
}

/// The delivery with this id.
async fn find(streams: &Streams, id: &str) -> Result<Option<Found>, Failed> {
    // An id is a part of subjects.
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Ok(None);
    }
    let by_id =
        [(Place::Waiting, streams.subjects.waiting_by_id(id)), (Place::Dead, streams.subjects.buried_by_id(id))];
    for (place, subject) in by_id {
        if let Some(found) = at(streams, place, &subject, 0).await? {
            return Ok(Some(found));
        }
    }
    // Those with an order key have another subject.
    let (subject, mut from) = (streams.subjects.keyed(), 0);
    while let Some((sequence, message)) = streams.next_waiting(&subject, from).await? {
        from = sequence + 1;
        if message.meta.id == id {
            return found(streams, Place::Waiting, sequence, message).await.map(Some);
        }
    }
    Ok(None)
}

impl Found {
    /// The id of the first delivery that waits with its order key, unless it is this one.
    async fn behind(&self, streams: &Streams) -> Result<Option<String>, Failed> {
        let Meta { route, key, .. } = &self.message.meta;
        let Some(key) = key.as_ref().filter(|_| self.place == Place::Waiting) else { return Ok(None) };
        let first = streams.next_waiting(&streams.subjects.of_key(route, key), 0).await?;
        Ok(first.filter(|(sequence, _)| *sequence < self.sequence).map(|(_, first)| first.meta.id))
    }

    async fn remove(&self, streams: &Streams) -> Result<(), Failed> {
        match self.place {
            Place::Waiting => {
                streams.remove_waiting(self.sequence).await?;
                streams.forget(&self.message.meta.id).await
            }
            Place::Dead => streams.remove_dead(self.sequence).await,
        }
    }

    /// Lets it be attempted now. A dead letter gets as much time again as it had. It is put at the end of the stream; one with an order key that
    /// waits stays where it is, and this host takes the turn of its key.
    async fn retry(self, shared: &Rc<Shared>, streams: &Streams) -> Result<(), Failed> {
        let Self { place, sequence, message, attempts } = self;
        let Meta { received_ms, until_ms, .. } = message.meta;
        if let (Place::Waiting, Some(key)) = (place, message.meta.key.clone()) {
            streams.note(&message.meta.id, &Attempts { next_ms: 0, ..attempts }).await?;
            lane::take_turn(shared, streams.clone(), message.meta.route.into(), key, Duration::ZERO);
            return Ok(());
        }
        let now = now_ms();
        let until_ms = match place {
            Place::Waiting => until_ms,
            Place::Dead => now.saturating_add(until_ms.saturating_sub(received_ms).max(1)),
        };
        let meta = Meta { until_ms, attempts: attempts.attempts, next_ms: 0, outcome: String::new(), ..message.meta };
        let again = Message { meta, payload: message.payload };
        if place == Place::Waiting {
            streams.forget(&again.meta.id).await?;
        }
        streams.put_again(&again, now).await?;
        match place {
            Place::Waiting => streams.remove_waiting(sequence).await,
            Place::Dead => streams.remove_dead(sequence).await,
        }
    }
}

/// Retries all that are there now.
async fn retry_all(
    shared: &Rc<Shared>,
    streams: &Streams,
    filter: &Filter,
    places: &[Place],
) -> Result<Answer, Failed> {
    let mut count = 0;
    for &place in places {
        let last = streams.last(place == Place::Dead).await?;
        let mut from = 1;
        while let Some(found) = next(streams, place, filter, from).await?.filter(|found| found.sequence <= last) {
            from = found.sequence + 1;
            found.retry(shared, streams).await?;
            count += 1;
        }
    }
    Ok(Answer::Changed(count))
}

async fn pause(
    shared: &Shared,
    streams: &Streams,
    change: impl Fn(&mut crate::deliveries::Pauses),
) -> Result<Answer, Failed> {
    let mut tries = 0;
    loop {
        let (before, revision) = streams.pauses().await?;
        let mut after = before.clone();
        change(&mut after);
        if after == before {
            return Ok(Answer::Changed(0));
        }
        tries += 1;
        match streams.set_pauses(&after, revision).await {
            Ok(()) => {
                shared.set_pauses(after);
                return Ok(Answer::Changed(1));
            }
            Err(error) if tries == TRIES => return Err(error),
            Err(_) => sleep(PAUSE).await,
        }
    }
}

fn listed_as(shared: &Shared, found: &Found) -> Listed {
    let Found { place, sequence, message, attempts } = found;
    let Meta { id, route, provider, received_ms, until_ms, .. } = &message.meta;
    let (begin, state) = match place {
        Place::Waiting => (WAITING, "waiting"),
        Place::Dead => (DEAD, "dead"),
    };
    let request = message.request();
    let parts = request.as_ref().map(crate::deliveries::StoredRequest::parts);
    Listed {
        number: begin.saturating_add(i64::try_from(*sequence).unwrap_or(i64::MAX)),
        id: id.clone(),
        route: route.clone(),
        provider: provider.clone(),
        state: state.to_owned(),
        attempts: attempts.attempts,
        received_ms: *received_ms,
        next_ms: attempts.next_ms.max(*received_ms),
        until_ms: *until_ms,
        outcome: attempts.outcome.clone(),
        bytes: message.payload.len() as u64,
        method: parts.map(|parts| parts.method.to_string()).unwrap_or_default(),
        target: parts.map(|parts| parts.target.to_string()).unwrap_or_default(),
        is_paused: *place == Place::Waiting && shared.is_paused(route) == Some(true),
    }
}

fn shown(shared: &Shared, found: &Found, behind: Option<String>, with_body: bool) -> Shown {
    let request = found.message.request();
    let parts = request.as_ref().map(crate::deliveries::StoredRequest::parts);
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let fields = parts.map(|parts| &parts.fields).into_iter().flatten();
    Shown {
        listed: listed_as(shared, found),
        proof: found.message.meta.proof.clone(),
        fields: fields.map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect(),
        body_bytes: parts.map_or(0, |parts| parts.body.len() as u64),
        behind,
        body_base64: parts.filter(|_| with_body).map(|parts| BASE64.encode(&parts.body)),
    }
}
