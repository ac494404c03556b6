//! The store with its thread, on a real file system.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::thread;
use std::time::Duration;

use rustls_pki_types::UnixTime;
use tempfile::TempDir;

use super::*;

/// Far in the future of the real clock, by which the database removes what has expired.
const NOW: u64 = 4_000_000_000;

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn delivery(number: u8, until: u64) -> KeptDelivery {
    KeptDelivery { digest: [number; 32], until }
}

fn numbers(kept: &[KeptDelivery]) -> Vec<u8> {
    let mut numbers: Vec<u8> = kept.iter().map(|delivery| delivery.digest[0]).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn what_was_stored_is_there_until_it_expires() {
    let directory = TempDir::new().unwrap();
    let mut opened = Database::open(directory.path(), at(NOW)).unwrap();
    assert!(opened.kept.is_empty() && opened.damaged.is_none());
    opened.database.store(&[delivery(1, NOW + 10), delivery(2, NOW + 20)]).unwrap();
    // The same delivery again, for longer.
    opened.database.store(&[delivery(1, NOW + 30)]).unwrap();
    drop(opened);
    // A clock may be ahead for a day, and then right again.
    let day = 86_400;
    for (now, kept) in
        [(NOW, vec![1, 2]), (NOW + 20 + day, vec![1, 2]), (NOW + 21 + day, vec![1]), (NOW + 31 + day, vec![])]
    {
        assert_eq!(numbers(&Database::open(directory.path(), at(now)).unwrap().kept), kept, "{now}");
    }
    let mode = |name: &str| fs::metadata(directory.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("deliveries.db"), 0o600);
}

#[test]
fn expired_deliveries_leave_the_file() {
    let directory = TempDir::new().unwrap();
    let mut database = Database::open(directory.path(), at(NOW)).unwrap().database;
    // In the past of the real clock, by which the database cleans up.
    let hour_ago = UnixTime::now().as_secs() - 3600;
    database.store(&[delivery(1, 1_000_000_000), delivery(2, hour_ago)]).unwrap();
    database.store(&[]).unwrap();
    assert_eq!(database.count().unwrap(), 1, "the clock may have been set forward an hour ago");
}

#[test]
fn a_damaged_file_is_put_aside_and_nothing_of_it_is_used() {
    for damage in [&b"no database at all, but longer than a header of 100 bytes. ".repeat(40)[..], b"\0\0\0"] {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("deliveries.db"), damage).unwrap();
        let mut opened = Database::open(directory.path(), at(NOW)).unwrap();
        let aside = opened.damaged.unwrap();
        assert_eq!((fs::read(&aside).unwrap(), opened.kept), (damage.to_vec(), vec![]));
        opened.database.store(&[delivery(1, NOW + 10)]).unwrap();
    }
    // The pages of a real one.
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("deliveries.db");
    let mut database = Database::open(directory.path(), at(NOW)).unwrap().database;
    let many: Vec<_> = (0..=255).map(|number| delivery(number, NOW + 10)).collect();
    database.store(&many).unwrap();
    drop(database);
    let mut bytes = fs::read(&path).unwrap();
    // The beginning of each but the first: the rest of one may be free.
    bytes.chunks_mut(4096).skip(1).for_each(|page| page[..2048].fill(0xa5));
    fs::write(&path, bytes).unwrap();
    let opened = Database::open(directory.path(), at(NOW)).unwrap();
    assert!(opened.damaged.is_some() && opened.kept.is_empty());
}

#[test]
fn a_file_of_a_newer_version_is_refused_and_stays() {
    let directory = TempDir::new().unwrap();
    drop(Database::open(directory.path(), at(NOW)).unwrap());
    let path = directory.path().join("deliveries.db");
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 3).unwrap();
    let error = Database::open(directory.path(), at(NOW)).unwrap_err();
    assert!(error.to_string().contains("has version 3 of its schema"), "{error}");
    assert!(path.exists());
}

/// A database that refuses every write.
fn refusing(directory: &TempDir) -> Database {
    let database = Database::open(directory.path(), at(NOW)).unwrap().database;
    database.set_writable(false).unwrap();
    database
}

#[tokio::test]
async fn a_delivery_is_kept_before_keep_returns() {
    let directory = TempDir::new().unwrap();
    let database = Database::open(directory.path(), at(NOW)).unwrap().database;
    let (store, unwritten, _changes) = DeliveryStore::new(OnStateFailure::Refuse);
    let writer = thread::spawn(move || unwritten.write_to(database));
    for number in 0..100 {
        assert_eq!(store.keep(vec![delivery(number, NOW + 10)]).await, Ok(()));
        if number % 10 == 0 {
            // As another process sees it, without an orderly end of this one.
            let kept = Database::open(directory.path(), at(NOW)).unwrap().kept;
            assert_eq!(numbers(&kept), (0..=number).collect::<Vec<_>>());
        }
    }
    drop(store);
    writer.join().unwrap();
}

#[tokio::test]
async fn a_failed_write_refuses_or_admits_as_configured() {
    for (on_failure, expected) in [(OnStateFailure::Refuse, Err(NotStored)), (OnStateFailure::Admit, Ok(()))] {
        let directory = TempDir::new().unwrap();
        let database = refusing(&directory);
        let (store, unwritten, _changes) = DeliveryStore::new(on_failure);
        let writer = thread::spawn(move || unwritten.write_to(database));
        assert!(!store.refuses());
        assert_eq!(store.keep(vec![delivery(1, NOW + 10)]).await, expected);
        assert_eq!(store.refuses(), on_failure == OnStateFailure::Refuse);
        drop(store);
        writer.join().unwrap();
        assert!(Database::open(directory.path(), at(NOW)).unwrap().kept.is_empty());
    }
}

#[tokio::test]
async fn a_full_queue_is_a_failure_and_no_wait() {
    let (store, unwritten, _changes) = DeliveryStore::new(OnStateFailure::Refuse);
    for _ in 0..QUEUE {
        let (stored, _) = oneshot::channel();
        store.queue.try_send(Work::Write(Write::Keep { deliveries: Vec::new(), stored })).unwrap();
    }
    assert_eq!(store.keep(vec![delivery(1, NOW + 10)]).await, Err(NotStored));
    drop(unwritten);
    assert_eq!(store.keep(vec![delivery(1, NOW + 10)]).await, Err(NotStored));
}
