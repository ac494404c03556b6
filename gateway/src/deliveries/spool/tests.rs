//! Rows of the spool, and the thread that writes them, on a real file system.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::future::poll_fn;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use futures_util::future::join_all;
use rustls_pki_types::UnixTime;
use tempfile::TempDir;

use super::super::database::{Database, Opened};
use super::super::{Answer, Change, Changes, Command, DeliveryStore, Filter, Selection, Spooled};
use super::*;
use crate::config::OnStateFailure;

/// Far in the future of the real clock, so that nothing is removed as expired.
const UNTIL: u64 = 4_000_000_000;

fn open(directory: &TempDir) -> Opened {
    Database::open(directory.path(), UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000))).unwrap()
}

fn delivery(id: &str, digest: u8, rule: Durable) -> NewDelivery {
    let mut fields = HeaderMap::new();
    fields.append("x-tag", HeaderValue::from_bytes(b"one: \xff").unwrap());
    fields.append("host", HeaderValue::from_static("h"));
    fields.append("x-tag", HeaderValue::from_static(""));
    let target = "/a%20b?c=d".parse().unwrap();
    let request = RequestParts { method: Method::PUT, target, fields, body: Bytes::from_static(b"\0body\xff") };
    NewDelivery {
        id: id.into(),
        route: "orders".into(),
        provider: "p".into(),
        proof: "certificate",
        key: OrderKey::of_row(&[7; 16]),
        received_ms: 1000,
        request,
        kept: (digest > 0).then_some(KeptDelivery { digest: [digest; 32], until: UNTIL }).into_iter().collect(),
        rule: Arc::new(rule),
    }
}

/// A store whose thread runs, and where the dispatcher would hear of changes.
fn running(database: Database) -> (DeliveryStore, Changes, thread::JoinHandle<()>) {
    let (store, unwritten, changes) = DeliveryStore::new(OnStateFailure::Admit);
    (store, changes, thread::spawn(move || unwritten.write_to(database)))
}

#[tokio::test]
async fn a_row_is_what_was_stored_and_is_there_after_a_crash() {
    let directory = TempDir::new().unwrap();
    let Opened { database, reader, .. } = open(&directory);
    let (store, mut changes, _writer) = running(database);
    assert_eq!(store.spool(delivery("a", 1, Durable::default())).await, Spooled::Stored);
    let Change::Waits(waiting) = changes.try_recv().unwrap() else { unreachable!() };
    // As another process sees it, without an orderly end of this one.
    let again = open(&directory);
    assert_eq!((&again.waiting, again.kept.len()), (&vec![waiting.clone()], 1));
    assert_eq!((waiting.received_ms, waiting.until_ms, waiting.next_ms), (1000, 1000 + 72 * 3600 * 1000, 1000));
    let written = delivery("a", 1, Durable::default()).request;
    let read = reader.request(waiting.number).unwrap().unwrap();
    let RequestParts { method, target, fields, body } = read.parts();
    assert_eq!((method, target, fields, body), (&written.method, &written.target, &written.fields, &written.body));
    let tags: Vec<_> = fields.get_all("x-tag").iter().map(HeaderValue::as_bytes).collect();
    assert_eq!(tags, [b"one: \xff".as_slice(), b""], "in their order");
    assert!(reader.request(waiting.number + 1).unwrap().is_none());
}

#[tokio::test]
async fn a_copy_makes_no_second_row_whatever_the_memory_says() {
    let directory = TempDir::new().unwrap();
    let (store, _changes, writer) = running(open(&directory).database);
    assert_eq!(store.spool(delivery("a", 1, Durable::default())).await, Spooled::Stored);
    assert_eq!(store.spool(delivery("b", 1, Durable::default())).await, Spooled::Duplicate);
    // One that a handler took directly is a duplicate too.
    store.keep(vec![KeptDelivery { digest: [2; 32], until: UNTIL }]).await.unwrap();
    assert_eq!(store.spool(delivery("c", 2, Durable::default())).await, Spooled::Duplicate);
    // One that has expired is not.
    store.keep(vec![KeptDelivery { digest: [3; 32], until: 1 }]).await.unwrap();
    assert_eq!(store.spool(delivery("d", 3, Durable::default())).await, Spooled::Stored);
    // Without a rule, every copy is a delivery; an id is used once.
    assert_eq!(store.spool(delivery("e", 0, Durable::default())).await, Spooled::Stored);
    assert_eq!(store.spool(delivery("e", 0, Durable::default())).await, Spooled::Failed);
    drop(store);
    writer.join().unwrap();
    let ids: Vec<_> = open(&directory).waiting.into_iter().map(|waiting| waiting.id).collect();
    assert_eq!(ids, ["a".into(), "d".into(), "e".into()]);
}

#[tokio::test]
async fn outcomes_change_rows_and_free_room() {
    let directory = TempDir::new().unwrap();
    let (store, mut changes, writer) = running(open(&directory).database);
    let rule = || Durable { max_entries: 2, ..Durable::default() };
    for id in ["a", "b"] {
        assert_eq!(store.spool(delivery(id, 0, rule())).await, Spooled::Stored);
    }
    let full = || async { matches!(store.spool(delivery("z", 0, rule())).await, Spooled::Full(_)) };
    assert!(full().await);
    let mut numbers = Vec::new();
    while let Ok(Change::Waits(waiting)) = changes.try_recv() {
        numbers.push(waiting.number);
    }
    let again = Fate::Again { attempts: 1, next_ms: 7000, outcome: "no.".into() };
    assert!(store.settle(Settled { number: numbers[0], fate: again }).await);
    let dead = Fate::Dead { attempts: 3, outcome: "never.".into() };
    assert!(store.settle(Settled { number: numbers[1], fate: dead }).await);
    assert!(full().await, "a dead letter counts");
    let Answer::Deliveries(listed) = store.ask(Command::List(Filter::default())).await else { unreachable!() };
    let states: Vec<_> = listed.iter().map(|row| (row.state.as_str(), row.attempts, row.outcome.as_str())).collect();
    assert_eq!(states, [("waiting", 1, "no."), ("dead", 3, "never.")]);
    assert_eq!(store.ask(Command::Retry(Selection::AllDead)).await, Answer::Changed(1));
    // The dispatcher hears of the outcomes first, as they were stored first.
    for number in &numbers {
        let change = changes.try_recv().unwrap();
        assert!(matches!(&change, Change::Settled { number: of, fate: Some(_) } if of == number), "{change:?}");
    }
    let Change::Waits(revived) = changes.try_recv().unwrap() else { unreachable!() };
    assert_eq!((revived.number, revived.attempts), (numbers[1], 3));
    assert_eq!(revived.until_ms - revived.next_ms, 72 * 3600 * 1000);
    for number in numbers {
        assert!(store.settle(Settled { number, fate: Fate::Taken }).await);
    }
    assert!(store.settle(Settled { number: 4711, fate: Fate::Taken }).await, "it is gone already");
    assert_eq!(store.spool(delivery("c", 0, rule())).await, Spooled::Stored);
    assert_eq!(store.ask(Command::Drop { id: "c".into() }).await, Answer::Changed(1));
    assert!(matches!(store.ask(Command::Drop { id: "c".into() }).await, Answer::Error(_)));
    drop(store);
    writer.join().unwrap();
    assert!(open(&directory).waiting.is_empty());
}

/// How many transactions the log of the database has: frames with the size of the database end one
/// (<https://www.sqlite.org/fileformat2.html#the_write_ahead_log>). Each is one sync.
fn commits(directory: &TempDir) -> usize {
    let log = std::fs::read(directory.path().join("deliveries.db-wal")).unwrap();
    let word = |bytes: &[u8], at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let (head, frames) = log.split_at(32);
    let frame_bytes = 24 + usize::try_from(word(head, 8)).unwrap();
    // Frames of an earlier round of the log have other salts.
    let is_current = |frame: &&[u8]| frame[8..16] == head[16..24];
    frames.chunks_exact(frame_bytes).filter(is_current).filter(|frame| word(frame, 4) > 0).count()
}

#[tokio::test]
async fn what_waits_for_the_disk_is_one_transaction() {
    const WORKS: u8 = 64;
    let directory = TempDir::new().unwrap();
    let database = open(&directory).database;
    let (store, unwritten, _changes) = DeliveryStore::new(OnStateFailure::Refuse);
    let works = (0..WORKS).map(|number| {
        let store = &store;
        async move {
            match number % 2 {
                0 => store.spool(delivery(&number.to_string(), number + 1, Durable::default())).await,
                _ => {
                    let kept = KeptDelivery { digest: [number + 1; 32], until: UNTIL };
                    store.keep(vec![kept]).await.map_or(Spooled::Failed, |()| Spooled::Stored)
                }
            }
        }
    });
    // All are in the queue before the thread takes the first.
    let mut stored = std::pin::pin!(join_all(works));
    assert!(poll_fn(|context| Poll::Ready(stored.as_mut().poll(context).is_pending())).await);
    assert_eq!(store.queue.max_capacity() - store.queue.capacity(), usize::from(WORKS));
    let before = commits(&directory);
    let _writer = thread::spawn(move || unwritten.write_to(database));
    assert_eq!(stored.await, vec![Spooled::Stored; usize::from(WORKS)]);
    assert_eq!(commits(&directory) - before, 1);
    // One that waits alone is written at once, and is one too.
    assert_eq!(store.spool(delivery("alone", 0, Durable::default())).await, Spooled::Stored);
    assert_eq!(commits(&directory) - before, 2);
}

/// The number of rows must not repeat: the order would be another.
#[tokio::test]
async fn no_number_is_used_twice() {
    let directory = TempDir::new().unwrap();
    let mut numbers = Vec::new();
    for id in ["a", "b", "c"] {
        let (store, mut changes, writer) = running(open(&directory).database);
        assert_eq!(store.spool(delivery(id, 0, Durable::default())).await, Spooled::Stored);
        let Change::Waits(waiting) = changes.try_recv().unwrap() else { unreachable!() };
        numbers.push(waiting.number);
        assert!(store.settle(Settled { number: waiting.number, fate: Fate::Taken }).await);
        drop(store);
        writer.join().unwrap();
    }
    assert_eq!(numbers, [1, 2, 3]);
}

/// The bound on pages makes SQLite say that the disk is full.
#[tokio::test]
async fn a_full_disk_stores_nothing_and_recovers() {
    let directory = TempDir::new().unwrap();
    let database = open(&directory).database;
    let pages: i64 = database.connection().pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    database.connection().pragma_update(None, "max_page_count", pages + 3).unwrap();
    let (store, _changes, writer) = running(database);
    let large = || {
        let mut large = delivery("large", 5, Durable::default());
        large.request.body = vec![0; 100_000].into();
        large
    };
    assert_eq!(store.spool(delivery("a", 1, Durable::default())).await, Spooled::Stored);
    assert_eq!(store.spool(large()).await, Spooled::Failed);
    assert_eq!(store.spool(delivery("b", 2, Durable::default())).await, Spooled::Stored);
    drop(store);
    writer.join().unwrap();
    let opened = open(&directory);
    assert_eq!((opened.waiting.len(), opened.kept.len()), (2, 2), "nothing of the failed one is there");
    let (store, _changes, writer) = running(opened.database);
    assert_eq!(store.spool(large()).await, Spooled::Stored, "with room, and it is no duplicate");
    drop(store);
    writer.join().unwrap();
}

/// Replaces every page of the file but the first, which has the schema, after the log is in it.
fn damage(directory: &TempDir) -> Vec<u8> {
    let path = directory.path().join("deliveries.db");
    let other = Connection::open(&path).unwrap();
    let is_busy: i64 = other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
    assert_eq!(is_busy, 0);
    let whole = std::fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    damaged[4096..].fill(0xa5);
    // The same file: the store has it open.
    std::fs::write(&path, damaged).unwrap();
    whole
}

#[tokio::test]
async fn nothing_is_stored_in_a_file_that_was_found_damaged() {
    for is_found_by_reader in [false, true] {
        let directory = TempDir::new().unwrap();
        let Opened { database, reader, .. } = open(&directory);
        let (store, _changes, _writer) = running(database);
        assert_eq!(store.spool(delivery("a", 1, Durable::default())).await, Spooled::Stored);
        let whole = damage(&directory);
        if is_found_by_reader {
            assert!(matches!(reader.request(1), Err(ReadError::DamagedFile)));
            // Now SQLite would take a write.
            std::fs::write(directory.path().join("deliveries.db"), &whole).unwrap();
        }
        assert_eq!(store.spool(delivery("b", 2, Durable::default())).await, Spooled::Failed);
        std::fs::write(directory.path().join("deliveries.db"), whole).unwrap();
        store.retry();
        assert_eq!(store.spool(delivery("c", 3, Durable::default())).await, Spooled::Failed, "it stays so");
        assert!(matches!(reader.request(1), Err(ReadError::DamagedFile)));
        let taken = Settled { number: 1, fate: Fate::Taken };
        assert!(!store.settle(taken).await);
        assert!(
            matches!(store.ask(Command::Retry(Selection::AllDead)).await, Answer::Error(error) if error.contains("damaged"))
        );
        let Answer::Deliveries(listed) = store.ask(Command::List(Filter::default())).await else { unreachable!() };
        assert_eq!(listed.len(), 1, "an operator reads what can be read");
    }
}

#[tokio::test]
async fn what_waits_for_the_disk_is_bounded_by_bytes() {
    let (store, unwritten, _changes) = DeliveryStore::new(OnStateFailure::Refuse);
    let large = |id: &str| {
        let mut large = delivery(id, 0, Durable::default());
        large.request.body = vec![0; 40 * 1024 * 1024].into();
        large
    };
    // No thread takes from the queue: the first waits until its limit, and the second has no room.
    let (first, second) = tokio::join!(store.spool(large("a")), store.spool(large("b")));
    assert_eq!((first, second), (Spooled::Failed, Spooled::Failed));
    drop(unwritten);
    assert_eq!(store.spool(delivery("c", 0, Durable::default())).await, Spooled::Failed);
}

#[test]
fn a_file_of_version_1_gets_the_spool() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("deliveries.db");
    let old = Connection::open(&path).unwrap();
    old.execute_batch(
        "CREATE TABLE delivery (digest BLOB PRIMARY KEY, until INTEGER NOT NULL) WITHOUT ROWID;
         CREATE INDEX delivery_until ON delivery (until);
         PRAGMA user_version = 1;",
    )
    .unwrap();
    old.execute("INSERT INTO delivery VALUES (?1, ?2)", params![[9_u8; 32], signed(UNTIL)]).unwrap();
    drop(old);
    let opened = open(&directory);
    assert_eq!((opened.kept.len(), opened.waiting.len(), opened.damaged), (1, 0, None));
    let version: i64 = opened.database.connection().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 2);
}

#[test]
fn fields_of_a_row_are_lines_or_damage() {
    for damage in ["no field\r\n", "a: b", "a b: c\r\n", ": c\r\n", "a: b\r\n\r\n"] {
        assert_eq!(fields_of(damage.as_bytes()), None, "{damage:?}");
    }
    assert_eq!(fields_of(b"").unwrap().len(), 0);
}
