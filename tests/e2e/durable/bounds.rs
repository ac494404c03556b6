//! What does not fit, and a disk that fails: 503, never a 202 and never a silent loss.

use std::fs;

use hookgate_testkit::handler::Behaviour;
use hookgate_testkit::http::Response;
use rusqlite::Connection;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::{DURABLE, LATER, Stored};
use crate::environment::SOON;

pub(super) fn assert_unavailable(response: &Response, reason: &str) {
    assert_eq!((response.status, response.reason().as_deref()), (503, Some(reason)), "{}", response.text());
    assert!(response.field("retry-after").is_some(), "{response:?}");
}

#[test]
fn a_full_spool_is_a_503_and_takes_again_what_fits() {
    let stored = Stored::new("max_entries = 10");
    for number in 0..10 {
        stored.store(&number.to_string());
        if number == 7 {
            stored.base.daemon.wait_log("the spool of the route fills", SOON).unwrap();
        }
    }
    assert_unavailable(&stored.send("one more"), "spool_full");
    assert_eq!(stored.query("SELECT id FROM spool").len(), 10);
    stored.base.daemon.wait_metric("hookgate_spool_filled_ratio", &[("route", "orders")], 1.0, SOON).unwrap();
    assert_eq!(stored.base.rejections("spool_full").unwrap(), 1.0);
    let first = stored.query("SELECT id FROM spool ORDER BY number").remove(0);
    stored.commanded(&["drop", &first]);
    stored.store("room again");
    assert_unavailable(&stored.send("one more"), "spool_full");
    let handler = stored.start_handler(Behaviour::Json);
    handler.wait_for(10, LATER).unwrap();
    stored.wait_rows("waiting", 0);
    stored.store("and more");
}

#[test]
fn bytes_are_bounded_too_and_dead_letters_count() {
    let stored = Stored::new("max_bytes = 65536");
    let _handler = stored.start_handler(Behaviour::status(400, ""));
    stored.store(&"x".repeat(40_000));
    stored.wait_rows("dead", 1);
    assert_unavailable(&stored.send(&"x".repeat(40_000)), "spool_full");
    stored.store("short");
}

/// The file may not grow any more: as with a full disk, a write fails.
#[test]
fn a_full_disk_is_a_503_until_there_is_room() {
    let stored = Stored::new("");
    let before = stored.store("before");
    let process = Pid::from_raw(i32::try_from(stored.base.daemon.process_id()).unwrap());
    let size = fs::metadata(stored.database().with_extension("db-wal")).unwrap().len();
    let old = prlimit(process, Resource::Fsize, Rlimit { current: Some(size), maximum: None }).unwrap();
    let body = "x".repeat(200_000);
    assert_unavailable(&stored.send(&body), "state_unavailable");
    stored.base.daemon.wait_log("deliveries cannot be kept", SOON).unwrap();
    assert_eq!(stored.query("SELECT id FROM spool"), [before.as_str()]);
    prlimit(process, Resource::Fsize, old).unwrap();
    let after = stored.store(&body);
    stored.base.daemon.wait_log("deliveries are kept again", SOON).unwrap();
    assert_eq!(stored.query("SELECT id FROM spool ORDER BY number"), [before, after]);
    let handler = stored.start_handler(Behaviour::Json);
    handler.wait_for(2, LATER).unwrap();
}

/// Another process holds the database. The outcome of an attempt waits for it, and the delivery is not attempted again meanwhile.
#[test]
fn a_disk_that_takes_nothing_delays_outcomes_and_repeats_no_attempt() {
    let stored = Stored::new("");
    let handler =
        stored.start_handler(Behaviour::Delay(std::time::Duration::from_millis(500), Behaviour::Json.boxed()));
    stored.store("one");
    handler.wait_for(1, SOON).unwrap();
    let other = Connection::open(stored.database()).unwrap();
    other.busy_timeout(SOON).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_unavailable(&stored.send("two"), "state_unavailable");
    assert_eq!(handler.request_count(), 1);
    other.execute_batch("COMMIT").unwrap();
    stored.wait_rows("waiting", 0);
    assert_eq!(handler.request_count(), 1);
}

#[test]
fn a_damaged_file_is_kept_aside_and_hookgate_stores_again() {
    let mut stored = Stored::new("");
    stored.store("lost to hookgate, kept for the operator");
    stored.kill();
    let directory = stored.base.environment.state_directory();
    for end in ["-wal", "-shm"] {
        drop(fs::remove_file(directory.join(format!("deliveries.db{end}"))));
    }
    fs::write(directory.join("deliveries.db"), "no database ".repeat(1000)).unwrap();
    stored.start_again(DURABLE);
    stored.base.daemon.wait_log("was damaged and is put aside", SOON).unwrap();
    stored.store("new");
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.starts_with("deliveries-damaged-")).count(), 1);
}

/// A row that another program has damaged is a dead letter, and stops no other.
#[test]
fn a_damaged_row_is_a_dead_letter() {
    let stored = Stored::new("");
    stored.commanded(&["pause"]);
    stored.store("bad");
    stored.store("good");
    let other = Connection::open(stored.database()).unwrap();
    other.busy_timeout(SOON).unwrap();
    other.execute("UPDATE spool SET fields = 'no field' WHERE number = 1", []).unwrap();
    let handler = stored.start_handler(Behaviour::Json);
    stored.commanded(&["resume"]);
    assert_eq!(handler.wait_for(1, SOON).unwrap()[0].text(), "good");
    stored.wait_rows("dead", 1);
    assert_eq!(
        stored.query("SELECT outcome FROM spool WHERE state = 'dead'"),
        ["The row is damaged: its fields cannot be read."]
    );
}
