//! The thread that writes: it takes what waits, makes one transaction of it, and answers.
//!
//! Owns what belongs into one transaction, and what is told of it, to those who wait and to the dispatcher. Must not decide what a copy is:
//! `core::auth::replay` does, and the table of remembered deliveries.

use std::time::{Instant, SystemTime};

use hookgate_core::auth::KeptDelivery;
use rusqlite::{Connection, Transaction};
use rustls_pki_types::UnixTime;
use tokio::sync::{mpsc, oneshot};

use super::command::{self, Answer, Change, Changed, Command};
use super::database::{self, Database, DatabaseError};
use super::pauses::Pauses;
use super::spool::{self, Fate, NewDelivery, Settled, Waiting};
use super::usage::Usages;
use super::{Spooled, Unwritten};
use crate::metrics::{kept as metrics, spool as spool_metrics};

/// Most works of one transaction, which is one sync of the disk.
const BATCH: usize = 1024;

/// What waits for the thread.
pub(super) enum Work {
    /// To be stored.
    Write(Write),
    /// To be answered after what is stored by then.
    Question(Question),
}

/// What belongs into a transaction with others, and who waits for it.
pub(super) enum Write {
    /// A handler took these.
    Keep { deliveries: Vec<KeptDelivery>, stored: oneshot::Sender<bool> },
    /// A durable route has this.
    Spool { delivery: Box<NewDelivery>, stored: oneshot::Sender<Spooled> },
    /// An attempt had this outcome.
    Settle { settled: Settled, stored: oneshot::Sender<bool> },
}

/// Who asks, and what.
pub(super) enum Question {
    /// The dispatcher begins, and has to know what is stored now.
    Survey { told: oneshot::Sender<Option<Survey>> },
    /// An operator.
    Operator { command: Command, answer: oneshot::Sender<Answer> },
}

/// What is stored, and which routes are paused.
#[derive(Debug, Default)]
pub struct Survey {
    /// The deliveries that wait.
    pub waiting: Vec<Waiting>,
    /// The routes that are paused.
    pub paused: Pauses,
}

/// What a transaction did with one write.
enum Done {
    Kept,
    Stored(Waiting),
    Spooled(Spooled),
    Settled(Option<spool::Size>),
}

impl Unwritten {
    /// Writes what arrives until every [`super::DeliveryStore`] is gone. Blocks: run it on a thread of its own.
    pub fn write_to(mut self, mut database: Database) {
        let mut works = Vec::with_capacity(BATCH);
        database.usages.publish(&self.levels);
        self.count_waiting(&database);
        while self.queue.blocking_recv_many(&mut works, BATCH) > 0 {
            self.work(&mut database, &mut works);
            database.usages.publish(&self.levels);
            self.count_waiting(&database);
        }
    }

    /// One transaction of all but the questions, which follow.
    fn work(&self, database: &mut Database, works: &mut Vec<Work>) {
        let (mut writes, mut questions) = (Vec::with_capacity(works.len()), Vec::new());
        for work in works.drain(..) {
            match work {
                Work::Write(write) => writes.push(write),
                Work::Question(question) => questions.push(question),
            }
        }
        if !writes.is_empty() {
            self.write(database, writes);
        }
        for question in questions {
            // Who asked may have left.
            match question {
                Question::Operator { command, answer } => drop(answer.send(self.answer(database, &command))),
                Question::Survey { told } => drop(told.send(survey(database))),
            }
        }
    }

    fn write(&self, database: &mut Database, writes: Vec<Write>) {
        let (began, now) = (Instant::now(), UnixTime::now());
        // Counted as the transaction goes, and forgotten if it fails.
        let mut usages = database.usages.clone();
        let is_probe =
            writes.iter().all(|write| matches!(write, Write::Keep { deliveries, .. } if deliveries.is_empty()));
        let outcome = match is_probe {
            true => database.store(&[]).map(|()| writes.iter().map(|_| Done::Kept).collect()),
            false => database.write(now, |transaction| {
                writes.iter().map(|write| make(transaction, write, now, &mut usages)).collect::<Result<Vec<_>, _>>()
            }),
        };
        let failed = self.note(&outcome);
        let done = outcome.as_deref().unwrap_or_default();
        let kept = writes.iter().zip(done).map(|(write, done)| kept(write, done)).sum();
        metrics::written(kept, failed);
        if writes.iter().any(|write| matches!(write, Write::Spool { .. })) {
            spool_metrics::written(began.elapsed());
        }
        let Ok(done) = outcome else {
            writes.into_iter().for_each(|write| self.tell_failure(write));
            return;
        };
        database.usages = usages;
        self.count_waiting(database);
        for (write, done) in writes.into_iter().zip(done) {
            self.tell(database, write, done);
        }
    }

    /// Logs when writes begin to fail, and when they work again. Returns whether this one failed.
    fn note<T>(&self, outcome: &Result<T, DatabaseError>) -> bool {
        use std::sync::atomic::Ordering::Relaxed;

        let failed = outcome.is_err();
        match (outcome, self.failing.swap(failed, Relaxed)) {
            // Who found it has said it, and it does not end.
            (Err(DatabaseError::Damaged { .. }), _) => {}
            (Err(error), false) => {
                tracing::error!(
                    %error,
                    "deliveries cannot be kept; senders of durable routes get 503, others as on_state_failure in [state] says"
                );
            }
            (Ok(_), true) => tracing::info!("deliveries are kept again"),
            (Ok(_), false) | (Err(_), true) => {}
        }
        failed
    }

    fn tell_failure(&self, write: Write) {
        // Those who wait may have left.
        match write {
            Write::Keep { stored, .. } | Write::Settle { stored, .. } => {
                let _ = stored.send(false);
            }
            Write::Spool { delivery, stored } => {
                self.forget(&delivery);
                drop(stored.send(Spooled::Failed));
            }
        }
    }

    fn tell(&self, database: &mut Database, write: Write, done: Done) {
        match (write, done) {
            (Write::Spool { delivery, stored }, done) => {
                self.forget(&delivery);
                let spooled = match done {
                    Done::Stored(waiting) => {
                        spool_metrics::accepted(&waiting.route, &waiting.provider);
                        self.change(Change::Waits(waiting));
                        Spooled::Stored
                    }
                    Done::Spooled(spooled) => spooled,
                    Done::Kept | Done::Settled(_) => Spooled::Failed,
                };
                drop(stored.send(spooled));
            }
            (Write::Settle { settled, stored }, Done::Settled(before)) => {
                if let Some(before) = &before {
                    count(&mut database.usages, &settled.fate, before);
                }
                // Not by the answer: an operator's next change could overtake it.
                let Settled { number, fate } = settled;
                self.change(Change::Settled { number, fate: before.map(|_| fate) });
                let _ = stored.send(true);
            }
            (Write::Keep { stored, .. } | Write::Settle { stored, .. }, _) => {
                let _ = stored.send(true);
            }
        }
    }

    /// The body of a delivery is in the queue no longer.
    fn forget(&self, delivery: &NewDelivery) {
        self.queued_bytes.fetch_sub(delivery.bytes(), std::sync::atomic::Ordering::Relaxed);
    }

    fn count_waiting(&self, database: &Database) {
        self.waiting.store(database.usages.waiting(), std::sync::atomic::Ordering::Release);
    }

    fn change(&self, change: Change) {
        // Without a dispatcher there is nothing to do: the process ends.
        let _ = self.changes.send(change);
    }

    fn answer(&self, database: &mut Database, command: &Command) -> Answer {
        match database.read(|connection| command::told(connection, command)) {
            Ok(Some(answer)) => return answer,
            Ok(None) => {}
            Err(error) => return Answer::Error(format!("the spool cannot be read: {error}")),
        }
        let now_ms = spool::signed(now_ms());
        let changed = database.write(UnixTime::now(), |transaction| command::change(transaction, command, now_ms));
        let Changed { answer, changes, revived, dropped } = match changed {
            Ok(changed) => changed,
            Err(error) => return Answer::Error(format!("nothing has changed: {error}")),
        };
        for route in revived {
            let usage = database.usages.of(&route);
            (usage.dead, usage.waiting) = (usage.dead.saturating_sub(1), usage.waiting + 1);
        }
        if let Some(before) = dropped {
            count(&mut database.usages, &Fate::Taken, &before);
        }
        changes.into_iter().for_each(|change| self.change(change));
        answer
    }
}

/// Reads what is stored, and counts it anew: another process may have written until now.
fn survey(database: &mut Database) -> Option<Survey> {
    let read = |connection: &Connection| {
        let (sizes, waiting) = (spool::sizes(connection)?, spool::waiting(connection, "true", &[])?);
        Ok::<_, rusqlite::Error>((sizes, Survey { waiting, paused: spool::paused(connection)? }))
    };
    match database.read(read) {
        Ok((sizes, survey)) => {
            database.usages.count_again(&sizes);
            Some(survey)
        }
        Err(error) => {
            if !database.is_damaged() {
                tracing::error!(%error, "the spool cannot be read; it is tried again");
            }
            None
        }
    }
}

/// Counts what became of a row.
fn count(usages: &mut Usages, fate: &Fate, before: &spool::Size) {
    let usage = usages.of(&before.route);
    let place = if before.is_dead { &mut usage.dead } else { &mut usage.waiting };
    match fate {
        Fate::Taken => {
            *place = place.saturating_sub(1);
            usage.bytes = usage.bytes.saturating_sub(before.bytes);
        }
        Fate::Dead { .. } if !before.is_dead => {
            (usage.waiting, usage.dead) = (usage.waiting.saturating_sub(1), usage.dead + 1);
        }
        Fate::Dead { .. } | Fate::Again { .. } => {}
    }
}

/// How many ids of deliveries a write has stored.
fn kept(write: &Write, done: &Done) -> usize {
    match (write, done) {
        (Write::Keep { deliveries, .. }, Done::Kept) => deliveries.len(),
        (Write::Spool { delivery, .. }, Done::Stored(_)) => delivery.kept.len(),
        _ => 0,
    }
}

/// Does one write within a transaction.
fn make(transaction: &Transaction<'_>, write: &Write, now: UnixTime, usages: &mut Usages) -> rusqlite::Result<Done> {
    match write {
        Write::Keep { deliveries, .. } => database::keep(transaction, deliveries).map(|()| Done::Kept),
        Write::Settle { settled, .. } => spool::settle(transaction, settled).map(Done::Settled),
        Write::Spool { delivery, .. } => store(transaction, delivery, now, usages),
    }
}

/// Stores a delivery with what makes copies of it duplicates, unless it is one, or there is no room.
fn store(
    transaction: &Transaction<'_>,
    delivery: &NewDelivery,
    now: UnixTime,
    usages: &mut Usages,
) -> rusqlite::Result<Done> {
    if spool::is_duplicate(transaction, &delivery.kept, database::seconds(now))? {
        return Ok(Done::Spooled(Spooled::Duplicate));
    }
    if let Err(bound) = usages.add(&delivery.route, &delivery.rule, delivery.bytes()) {
        return Ok(Done::Spooled(Spooled::Full(bound)));
    }
    let Some(number) = spool::insert(transaction, delivery)? else {
        // The id is random. A sender that tries again gets another one.
        count(
            usages,
            &Fate::Taken,
            &spool::Size { route: delivery.route.to_string(), bytes: delivery.bytes(), is_dead: false },
        );
        return Ok(Done::Spooled(Spooled::Failed));
    };
    database::keep(transaction, &delivery.kept)?;
    let NewDelivery { id, route, provider, key, received_ms, rule, .. } = delivery;
    Ok(Done::Stored(Waiting {
        number,
        id: id.clone(),
        route: route.clone(),
        provider: provider.clone(),
        key: *key,
        received_ms: *received_ms,
        until_ms: spool::until(*received_ms, rule),
        attempts: 0,
        next_ms: *received_ms,
    }))
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// Where the dispatcher hears of what is stored.
pub type Changes = mpsc::UnboundedReceiver<Change>;
