//! What an operator asks of the spool, and the answers, both as JSON: `hookgate deliveries` over the control socket.
//!
//! Owns the questions, their bounds and their statements. Runs on the thread that writes, so an answer and a change see what is stored. A
//! body is told only to who asks for the body of one delivery.

use rusqlite::types::Value as Cell;
use rusqlite::{Connection, OptionalExtension as _, Row, ToSql, Transaction, params};
use serde::{Deserialize, Serialize};

use super::spool::{self, Fate, Waiting, fields_of, unsigned};

/// Most deliveries of one answer. Who asks for more asks again, after the last number.
pub const PAGE: u32 = 500;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// The deliveries that fit, in the order in which they were stored: a [`Listed`] each, at most [`PAGE`].
    List(Filter),
    /// One delivery: a [`Shown`].
    Show {
        /// Its id.
        id: String,
        /// With the body.
        body: bool,
    },
    /// Attempt them now, dead letters too.
    Retry(Selection),
    /// Remove one.
    Drop {
        /// Its id.
        id: String,
    },
    /// Attempt none of a route, or of all.
    Pause {
        /// Its name.
        route: Option<String>,
    },
    /// Attempt those of a route again; of all, whichever are paused.
    Resume {
        /// Its name.
        route: Option<String>,
    },
}

/// Which deliveries are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Of this route.
    pub route: Option<String>,
    /// Of this provider.
    pub provider: Option<String>,
    /// `waiting` or `dead`.
    pub state: Option<String>,
    /// After this number.
    pub after: i64,
}

/// Which deliveries are attempted now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// The one with this id.
    Id(String),
    /// Those of this route, waiting or dead.
    Route(String),
    /// Every dead letter.
    AllDead,
}

/// A delivery as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its number, in the order in which deliveries were stored.
    pub number: i64,
    /// Its id.
    pub id: String,
    /// The name of its route.
    pub route: String,
    /// The name of its provider.
    pub provider: String,
    /// `waiting` or `dead`.
    pub state: String,
    /// Attempts with an outcome.
    pub attempts: u32,
    /// When it came, in milliseconds since 1970.
    pub received_ms: u64,
    /// No attempt begins before it.
    pub next_ms: u64,
    /// No attempt begins after it.
    pub until_ms: u64,
    /// The outcome of the last attempt; empty before.
    pub outcome: String,
    /// Bytes of fields, body and target.
    pub bytes: u64,
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Whether its route is paused, alone or with all.
    #[serde(default)]
    pub is_paused: bool,
}

/// One delivery with its fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// What is listed of it.
    #[serde(flatten)]
    pub listed: Listed,
    /// What it proved.
    pub proof: String,
    /// Names and values.
    pub fields: Vec<(String, String)>,
    /// The bytes of its body.
    pub body_bytes: u64,
    /// The id of the delivery with the same order key that comes first, if it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<String>,
    /// The body in base64, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Command::List`].
    Deliveries(Vec<Listed>),
    /// To [`Command::Show`].
    Delivery(Box<Shown>),
    /// How many a change was about.
    Changed(u64),
    /// Why there is no answer.
    Error(String),
}

impl Answer {
    /// No delivery with this id is stored.
    pub fn unknown(id: &str) -> Self {
        Self::Error(format!(
            "no delivery {id} is stored: its handler took it, it was dropped, or it never was; hookgate deliveries list shows those that are"
        ))
    }
}

/// What is stored, as the dispatcher hears of it: in the order of the transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A delivery waits, or waits in another way.
    Waits(Waiting),
    /// An attempt had this outcome; `None` if the delivery was gone.
    Settled {
        /// Its number.
        number: i64,
        /// What became of it.
        fate: Option<Fate>,
    },
    /// A delivery is gone.
    Gone {
        /// Its number.
        number: i64,
    },
    /// A route is paused; an empty name stands for every route.
    Paused(String),
    /// A route is not paused any more; an empty name stands for every route.
    Resumed(String),
}

const LISTED: &str = "number, id, route, provider, state, attempts, received_ms, next_ms, until_ms, outcome, bytes, method, target, \
     EXISTS (SELECT 1 FROM spool_pause WHERE spool_pause.route IN ('', spool.route))";

/// The id of the first delivery that waits with the order key of this one, unless it is this one.
const BEHIND: &str = "CASE WHEN state = 'waiting' THEN (SELECT before.id FROM spool AS before WHERE before.state = 'waiting' \
     AND before.route = spool.route AND before.order_key = spool.order_key AND before.number < spool.number ORDER BY before.number LIMIT 1) END";

fn listed(row: &Row<'_>) -> rusqlite::Result<Listed> {
    Ok(Listed {
        number: row.get(0)?,
        id: row.get(1)?,
        route: row.get(2)?,
        provider: row.get(3)?,
        state: row.get(4)?,
        attempts: row.get(5)?,
        received_ms: unsigned(row.get(6)?),
        next_ms: unsigned(row.get(7)?),
        until_ms: unsigned(row.get(8)?),
        outcome: row.get(9)?,
        bytes: unsigned(row.get(10)?),
        method: row.get(11)?,
        target: row.get(12)?,
        is_paused: row.get(13)?,
    })
}

/// Answers a question that changes nothing; `None` if it would change something.
pub(super) fn told(connection: &Connection, command: &Command) -> rusqlite::Result<Option<Answer>> {
    match command {
        Command::List(filter) => list(connection, filter).map(|found| Some(Answer::Deliveries(found))),
        Command::Show { id, body } => show(connection, id, *body).map(Some),
        Command::Retry(_) | Command::Drop { .. } | Command::Pause { .. } | Command::Resume { .. } => Ok(None),
    }
}

fn list(connection: &Connection, filter: &Filter) -> rusqlite::Result<Vec<Listed>> {
    let mut sql = format!("SELECT {LISTED} FROM spool WHERE number > ?");
    let mut values = vec![Cell::from(filter.after)];
    for (column, wanted) in [("route", &filter.route), ("provider", &filter.provider), ("state", &filter.state)] {
        if let Some(wanted) = wanted {
            sql += &format!(" AND {column} = ?");
            values.push(Cell::from(wanted.clone()));
        }
    }
    sql += " ORDER BY number LIMIT ?";
    values.push(Cell::from(i64::from(PAGE)));
    connection.prepare(&sql)?.query_map(rusqlite::params_from_iter(values), listed)?.collect()
}

fn show(connection: &Connection, id: &str, with_body: bool) -> rusqlite::Result<Answer> {
    let sql = format!(
        "SELECT {LISTED}, proof, fields, length(body), CASE WHEN ?2 THEN body END, {BEHIND} FROM spool WHERE id = ?1"
    );
    let found = connection.query_row(&sql, params![id, with_body], |row| {
        let fields = fields_of(&row.get::<_, Vec<u8>>(15)?).unwrap_or_default();
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        Ok(Shown {
            listed: listed(row)?,
            proof: row.get(14)?,
            fields: fields.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect(),
            body_bytes: unsigned(row.get(16)?),
            behind: row.get(18)?,
            body_base64: row.get::<_, Option<Vec<u8>>>(17)?.map(|body| data_encoding::BASE64.encode(&body)),
        })
    });
    Ok(found.optional()?.map_or_else(|| Answer::unknown(id), |shown| Answer::Delivery(Box::new(shown))))
}

/// What a change did: the answer, and what the dispatcher has to know.
pub(super) struct Changed {
    pub(super) answer: Answer,
    pub(super) changes: Vec<Change>,
    /// Of each dead letter that waits again, and of each delivery that was dropped: its route, its bytes, and whether it was dead.
    pub(super) revived: Vec<String>,
    pub(super) dropped: Option<spool::Size>,
}

/// Changes something.
pub(super) fn change(transaction: &Transaction<'_>, command: &Command, now_ms: i64) -> rusqlite::Result<Changed> {
    let mut changed = Changed { answer: Answer::Changed(0), changes: Vec::new(), revived: Vec::new(), dropped: None };
    match command {
        Command::Retry(selection) => retry(transaction, selection, now_ms, &mut changed)?,
        Command::Drop { id } => {
            let found = transaction
                .query_row("DELETE FROM spool WHERE id = ?1 RETURNING number, route, bytes, state", [id], |row| {
                    let is_dead = row.get::<_, String>(3)? == "dead";
                    Ok((row.get(0)?, spool::Size { route: row.get(1)?, bytes: unsigned(row.get(2)?), is_dead }))
                })
                .optional()?;
            changed.answer = match found {
                None => Answer::unknown(id),
                Some((number, size)) => {
                    changed.changes.push(Change::Gone { number });
                    changed.dropped = Some(size);
                    Answer::Changed(1)
                }
            };
        }
        Command::Pause { route } => {
            let route = route.clone().unwrap_or_default();
            let written = transaction.execute("INSERT OR IGNORE INTO spool_pause (route) VALUES (?1)", [&route])?;
            changed.answer = Answer::Changed(written as u64);
            changed.changes.push(Change::Paused(route));
        }
        Command::Resume { route } => {
            let written = match route {
                Some(route) => transaction.execute("DELETE FROM spool_pause WHERE route = ?1", [route])?,
                None => transaction.execute("DELETE FROM spool_pause", [])?,
            };
            changed.answer = Answer::Changed(written as u64);
            changed.changes.push(Change::Resumed(route.clone().unwrap_or_default()));
        }
        Command::List(_) | Command::Show { .. } => {}
    }
    Ok(changed)
}

/// Lets deliveries be attempted now. A dead letter gets as much time again as it had.
fn retry(
    transaction: &Transaction<'_>,
    selection: &Selection,
    now_ms: i64,
    changed: &mut Changed,
) -> rusqlite::Result<()> {
    let (condition, wanted): (&str, &dyn ToSql) = match selection {
        Selection::Id(id) => ("id = ?2", id),
        Selection::Route(route) => ("route = ?2", route),
        Selection::AllDead => ("state = ?2", &"dead"),
    };
    let find = format!("SELECT number, route FROM spool WHERE state = 'dead' AND ?1 >= 0 AND {condition}");
    let revived: Vec<(i64, String)> = transaction
        .prepare(&find)?
        .query_map(params![now_ms, wanted], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let revive = format!(
        "UPDATE spool SET next_ms = ?1, until_ms = CASE state WHEN 'dead' THEN ?1 + max(until_ms - received_ms, 1) ELSE until_ms END, \
         state = 'waiting' WHERE {condition} RETURNING number"
    );
    let numbers: Vec<i64> = transaction
        .prepare(&revive)?
        .query_map(params![now_ms, wanted], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    changed.answer = match selection {
        Selection::Id(id) if numbers.is_empty() => Answer::unknown(id),
        _ => Answer::Changed(numbers.len() as u64),
    };
    // Without a further condition the whole spool would be read for one delivery.
    let waiting = match selection {
        Selection::Id(id) => spool::waiting(transaction, "id = ?1", &[id])?,
        Selection::Route(route) => spool::waiting(transaction, "route = ?1", &[route])?,
        Selection::AllDead => {
            let least = revived.iter().map(|(number, _)| *number).min().unwrap_or(i64::MAX);
            spool::waiting(transaction, "next_ms = ?1 AND number >= ?2", &[&now_ms, &least])?
        }
    };
    changed.revived = revived.into_iter().map(|(_, route)| route).collect();
    changed.changes = waiting.into_iter().map(Change::Waits).collect();
    Ok(())
}
