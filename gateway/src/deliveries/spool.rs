//! The rows of the spool: what is written of a delivery, and what is read of it.
//!
//! Owns the statements about the table, the form of fields, and [`StoredRequest`], which only a row becomes. Calls block on the disk.
//!
//! ```sql
//! -- user_version = 2
//! CREATE TABLE spool (
//!     number      INTEGER PRIMARY KEY AUTOINCREMENT, -- the order in which deliveries were stored
//!     id          TEXT NOT NULL UNIQUE,  -- X-Hookgate-Delivery, and X-Request-ID of the sender's request
//!     route       TEXT NOT NULL,         -- the name of the route
//!     provider    TEXT NOT NULL,
//!     proof       TEXT NOT NULL,         -- X-Hookgate-Proof
//!     order_key   BLOB,                  -- the first 16 bytes of the SHA-256 of what order_by finds
//!     received_ms INTEGER NOT NULL,      -- milliseconds since 1970
//!     until_ms    INTEGER NOT NULL,      -- no attempt begins after it
//!     attempts    INTEGER NOT NULL,      -- attempts with an outcome
//!     next_ms     INTEGER NOT NULL,      -- no attempt begins before it
//!     state       TEXT NOT NULL,         -- waiting, dead
//!     outcome     TEXT NOT NULL,         -- of the last attempt; empty before
//!     bytes       INTEGER NOT NULL,      -- of fields, body and target
//!     method      TEXT NOT NULL,
//!     target      TEXT NOT NULL,         -- path and query
//!     fields      BLOB NOT NULL,         -- lines "name: value", each with CR LF
//!     body        BLOB NOT NULL);
//! CREATE TABLE spool_pause (route TEXT PRIMARY KEY) WITHOUT ROWID; -- an empty text stands for every route
//! ```

use std::sync::Arc;

use bytes::Bytes;
use hookgate_core::auth::KeptDelivery;
use hyper::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Uri};
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use super::order::OrderKey;
use super::pauses::Pauses;
use crate::config::Durable;

/// The tables, made at the first start of a version that has them.
pub(super) const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS spool (
         number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, route TEXT NOT NULL, provider TEXT NOT NULL,
         proof TEXT NOT NULL, order_key BLOB, received_ms INTEGER NOT NULL, until_ms INTEGER NOT NULL, attempts INTEGER NOT NULL,
         next_ms INTEGER NOT NULL, state TEXT NOT NULL, outcome TEXT NOT NULL, bytes INTEGER NOT NULL, method TEXT NOT NULL,
         target TEXT NOT NULL, fields BLOB NOT NULL, body BLOB NOT NULL);
     CREATE TABLE IF NOT EXISTS spool_pause (route TEXT PRIMARY KEY) WITHOUT ROWID;";

/// The columns of a [`Waiting`].
const WAITING: &str = "number, id, route, provider, order_key, received_ms, until_ms, attempts, next_ms";

/// Most bytes of one delivery. SQLite takes rows of up to a billion bytes.
pub(super) const MAXIMUM_BYTES: u64 = 512 * 1024 * 1024;

/// A request as a handler gets it, but for the fields of one attempt.
#[derive(Clone, Debug)]
pub struct RequestParts {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub target: Uri,
    /// The fields, those of hookgate included.
    pub fields: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// A delivery that is to be stored. Every check has passed.
#[derive(Debug)]
pub struct NewDelivery {
    /// Its id: that of the request.
    pub id: Box<str>,
    /// The name of its route.
    pub route: Arc<str>,
    /// The name of its provider.
    pub provider: Arc<str>,
    /// What it proved.
    pub proof: &'static str,
    /// What it waits for.
    pub key: Option<OrderKey>,
    /// When it came, in milliseconds since 1970.
    pub received_ms: u64,
    /// What the handler gets.
    pub request: RequestParts,
    /// What makes copies of it duplicates; empty without a replay rule.
    pub kept: Vec<KeptDelivery>,
    /// The rule of its route.
    pub rule: Arc<Durable>,
}

impl RequestParts {
    /// As a message of a stream has it: a line with method and target, the lines of the fields, an empty line, the body.
    pub fn to_message(&self) -> Vec<u8> {
        let target = self.target.path_and_query().map_or("/", PathAndQuery::as_str);
        let mut message = format!("{} {target}\r\n", self.method).into_bytes();
        message.extend_from_slice(&lines(&self.fields));
        message.extend_from_slice(b"\r\n");
        message.extend_from_slice(&self.body);
        message
    }
}

impl NewDelivery {
    /// No attempt begins after it, in milliseconds since 1970.
    pub fn until_ms(&self) -> u64 {
        until(self.received_ms, &self.rule)
    }

    /// What counts of it against `max_bytes`.
    pub(super) fn bytes(&self) -> u64 {
        let RequestParts { target, fields, body, .. } = &self.request;
        let lines: usize = fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        (lines + body.len() + target.path_and_query().map_or(0, |target| target.as_str().len())) as u64
    }
}

/// A delivery that waits for its handler, without its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its number, in the order in which deliveries were stored.
    pub number: i64,
    /// Its id.
    pub id: Box<str>,
    /// The name of its route.
    pub route: Arc<str>,
    /// The name of its provider.
    pub provider: Arc<str>,
    /// What it waits for.
    pub key: Option<OrderKey>,
    /// When it came, in milliseconds since 1970.
    pub received_ms: u64,
    /// No attempt begins after it, in milliseconds since 1970.
    pub until_ms: u64,
    /// Attempts with an outcome.
    pub attempts: u32,
    /// No attempt begins before it, in milliseconds since 1970.
    pub next_ms: u64,
}

/// A request that was stored after every check: only [`stored_request`] makes one, of a row, and [`StoredRequest::of_message`], of a message in the
/// stream of a fleet.
///
/// The row counts as verified because only hookgate writes the file, the message because only the hosts of the fleet may write to the stream.
#[derive(Debug)]
pub struct StoredRequest(RequestParts);

impl StoredRequest {
    /// The request of a message, as [`RequestParts::to_message`] writes it; `None` if it is none.
    pub fn of_message(message: &Bytes) -> Option<Self> {
        let line_end = memchr::memmem::find(message, b"\r\n")?;
        let mut words = message.get(..line_end)?.splitn(2, |byte| *byte == b' ');
        let method = Method::from_bytes(words.next()?).ok()?;
        let target = Uri::try_from(words.next()?).ok()?;
        // Without fields, the empty line follows at once.
        let fields_end = line_end + memchr::memmem::find(message.get(line_end..)?, b"\r\n\r\n")? + 2;
        let fields = fields_of(message.get(line_end + 2..fields_end)?)?;
        let body = message.slice(fields_end + 2..);
        // What hookgate makes has a path as its target, and the length of its body, if any.
        let has_path = target.authority().is_none() && target.path().starts_with('/');
        let mut lengths = fields.get_all(CONTENT_LENGTH).iter().map(|length| length.to_str().ok()?.parse().ok());
        let is_whole = lengths.all(|length| length == Some(body.len())) && !fields.contains_key(TRANSFER_ENCODING);
        let is_ours = has_path && method != Method::CONNECT && is_whole;
        is_ours.then_some(Self(RequestParts { method, target, fields, body }))
    }

    /// What the handler gets.
    pub fn parts(&self) -> &RequestParts {
        &self.0
    }
}

/// The outcome of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The number of the delivery.
    pub number: i64,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a delivery after an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The handler took it: the row goes.
    Taken,
    /// There will be another attempt.
    Again {
        /// Attempts with an outcome.
        attempts: u32,
        /// When, in milliseconds since 1970.
        next_ms: u64,
        /// What came of this one.
        outcome: String,
    },
    /// It is a dead letter.
    Dead {
        /// Attempts with an outcome.
        attempts: u32,
        /// Why.
        outcome: String,
    },
}

impl Fate {
    /// The same, with the host at which it came to that.
    #[must_use]
    pub fn told_by(mut self, host: &str) -> Self {
        if let Self::Again { outcome, .. } | Self::Dead { outcome, .. } = &mut self {
            *outcome = format!("{host}: {outcome}");
        }
        self
    }
}

/// How many bytes a row has, and whether it is a dead letter.
pub(super) struct Size {
    pub(super) route: String,
    pub(super) bytes: u64,
    pub(super) is_dead: bool,
}

/// Whether one of `kept` is remembered and has not expired.
pub(super) fn is_duplicate(connection: &Connection, kept: &[KeptDelivery], now: i64) -> rusqlite::Result<bool> {
    let mut find = connection.prepare_cached("SELECT 1 FROM delivery WHERE digest = ?1 AND until >= ?2")?;
    for delivery in kept {
        if find.exists(params![delivery.digest, now])? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Writes a row. Returns its number; `None` if there is one with this id.
pub(super) fn insert(transaction: &Transaction<'_>, delivery: &NewDelivery) -> rusqlite::Result<Option<i64>> {
    let NewDelivery { id, route, provider, proof, key, received_ms, request, rule, .. } = delivery;
    let until_ms = until(*received_ms, rule);
    let mut insert = transaction.prepare_cached(
        "INSERT OR IGNORE INTO spool (id, route, provider, proof, order_key, received_ms, until_ms, attempts, next_ms, state, outcome, \
         bytes, method, target, fields, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?6, 'waiting', '', ?8, ?9, ?10, ?11, ?12)",
    )?;
    let target = request.target.path_and_query().map_or("/", PathAndQuery::as_str);
    let written = insert.execute(params![
        &**id,
        &**route,
        &**provider,
        proof,
        key.as_ref().map(OrderKey::as_bytes),
        signed(*received_ms),
        signed(until_ms),
        signed(delivery.bytes()),
        request.method.as_str(),
        target,
        lines(&request.fields),
        &*request.body,
    ])?;
    Ok((written > 0).then(|| transaction.last_insert_rowid()))
}

/// The end of the attempts of a delivery.
pub(super) fn until(received_ms: u64, rule: &Durable) -> u64 {
    received_ms.saturating_add(u64::try_from(rule.retry_for.as_millis()).unwrap_or(u64::MAX))
}

/// Writes what became of a delivery. Returns what it was before; `None` if it is not there any more.
pub(super) fn settle(transaction: &Transaction<'_>, settled: &Settled) -> rusqlite::Result<Option<Size>> {
    let number = settled.number;
    let before = transaction
        .prepare_cached("SELECT route, bytes, state FROM spool WHERE number = ?1")?
        .query_row([number], size)
        .optional()?;
    match &settled.fate {
        Fate::Taken => transaction.prepare_cached("DELETE FROM spool WHERE number = ?1")?.execute([number]),
        Fate::Again { attempts, next_ms, outcome } => transaction
            .prepare_cached("UPDATE spool SET attempts = ?2, next_ms = ?3, outcome = ?4 WHERE number = ?1")?
            .execute(params![number, attempts, signed(*next_ms), outcome]),
        Fate::Dead { attempts, outcome } => transaction
            .prepare_cached("UPDATE spool SET attempts = ?2, state = 'dead', outcome = ?3 WHERE number = ?1")?
            .execute(params![number, attempts, outcome]),
    }?;
    Ok(before)
}

fn size(row: &Row<'_>) -> rusqlite::Result<Size> {
    Ok(Size { route: row.get(0)?, bytes: unsigned(row.get(1)?), is_dead: row.get::<_, String>(2)? == "dead" })
}

/// Every row, without its request.
pub(super) fn sizes(connection: &Connection) -> rusqlite::Result<Vec<Size>> {
    connection.prepare("SELECT route, bytes, state FROM spool")?.query_map([], size)?.collect()
}

/// The deliveries that wait and fit `condition`, a part of a statement with these values, in the order in which they were stored.
pub(super) fn waiting(
    connection: &Connection,
    condition: &str,
    values: &[&dyn rusqlite::ToSql],
) -> rusqlite::Result<Vec<Waiting>> {
    let sql = format!("SELECT {WAITING} FROM spool WHERE state = 'waiting' AND {condition} ORDER BY number");
    // Names repeat in every row.
    let mut names = Names::default();
    let mut statement = connection.prepare(&sql)?;
    let found = statement.query_map(values, |row| {
        let key: Option<Vec<u8>> = row.get(4)?;
        Ok(Waiting {
            number: row.get(0)?,
            id: row.get::<_, String>(1)?.into(),
            route: names.shared(row.get_ref(2)?.as_str()?),
            provider: names.shared(row.get_ref(3)?.as_str()?),
            key: key.and_then(|key| OrderKey::of_row(&key)),
            received_ms: unsigned(row.get(5)?),
            until_ms: unsigned(row.get(6)?),
            attempts: row.get(7)?,
            next_ms: unsigned(row.get(8)?),
        })
    })?;
    found.collect()
}

#[derive(Default)]
struct Names(Vec<Arc<str>>);

impl Names {
    fn shared(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.iter().find(|known| &***known == name) {
            return Arc::clone(known);
        }
        let name = Arc::<str>::from(name);
        self.0.push(Arc::clone(&name));
        name
    }
}

/// The routes that are paused.
pub(super) fn paused(connection: &Connection) -> rusqlite::Result<Pauses> {
    connection.prepare("SELECT route FROM spool_pause")?.query_map([], |row| row.get(0))?.collect()
}

/// Why the request of a row cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// SQLite cannot read it.
    #[error("the spool cannot be read: {0}")]
    Database(#[from] rusqlite::Error),
    /// The file was found damaged, which was logged. Nothing more is read from it.
    #[error("the file of deliveries is damaged")]
    DamagedFile,
    /// It is not what hookgate writes.
    #[error("the row is damaged: its {0} cannot be read")]
    Damaged(&'static str),
}

/// The request of a row; `None` if it is not there any more.
pub(super) fn stored_request(connection: &Connection, number: i64) -> Result<Option<StoredRequest>, ReadError> {
    let mut find = connection.prepare_cached("SELECT method, target, fields, body FROM spool WHERE number = ?1")?;
    // Text or bytes: another program may have written either.
    let bytes = |row: &Row<'_>, column| Some(row.get_ref(column).ok()?.as_bytes().ok()?.to_vec());
    let found = find.query_row([number], |row| Ok([0, 1, 2, 3].map(|column| bytes(row, column))));
    let Some([method, target, fields, body]) = found.optional()? else { return Ok(None) };
    let method = method.and_then(|method| Method::from_bytes(&method).ok()).ok_or(ReadError::Damaged("method"))?;
    let target = target.and_then(|target| Uri::try_from(target).ok()).ok_or(ReadError::Damaged("target"))?;
    let fields = fields.and_then(|fields| fields_of(&fields)).ok_or(ReadError::Damaged("fields"))?;
    let body = body.ok_or(ReadError::Damaged("body"))?;
    Ok(Some(StoredRequest(RequestParts { method, target, fields, body: body.into() })))
}

/// The fields as a row has them.
pub(super) fn lines(fields: &HeaderMap) -> Vec<u8> {
    let mut lines = Vec::new();
    for (name, value) in fields {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            lines.extend_from_slice(part);
        }
    }
    lines
}

/// The fields of a row; `None` if one is no field.
pub(super) fn fields_of(mut lines: &[u8]) -> Option<HeaderMap> {
    let mut fields = HeaderMap::new();
    while !lines.is_empty() {
        let end = memchr::memmem::find(lines, b"\r\n")?;
        let (line, rest) = (lines.get(..end)?, lines.get(end + 2..)?);
        let colon = memchr::memmem::find(line, b": ")?;
        let name = HeaderName::from_bytes(line.get(..colon)?).ok()?;
        fields.append(name, HeaderValue::from_bytes(line.get(colon + 2..)?).ok()?);
        lines = rest;
    }
    Some(fields)
}

/// As SQLite stores it.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// As it was stored; a negative number becomes 0.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests;
