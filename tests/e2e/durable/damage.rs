//! A file of deliveries that is damaged while the daemon uses it: 503 rather than 202, said once; and what the documentation says of its rescue.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use hookgate_testkit::handler::Behaviour;
use hookgate_testkit::http::Request;
use hookgate_testkit::process::run;
use hookgate_testkit::wait::wait_until;
use rusqlite::Connection;

use super::bounds::assert_unavailable;
use super::{DURABLE, LATER, Stored};
use crate::environment::SOON;

/// What SQLite writes as a whole.
const PAGE_BYTES: u64 = 4096;

/// The page about delivery, whose commands are run.
const DELIVERY: &str = include_str!("../../../docs/delivery.md");

/// A daemon whose handler does not run, with so many deliveries in the file itself, each of more than a page. What is attempted meanwhile is in the
/// log of the database, unless the route is paused.
fn filled(count: usize, is_paused: bool) -> Stored {
    let stored = Stored::new("");
    if is_paused {
        stored.commanded(&["pause"]);
    }
    for number in 0..count {
        stored.store(&format!("{number} {}", "x".repeat(5000)));
    }
    let other = Connection::open(stored.database()).unwrap();
    other.busy_timeout(SOON).unwrap();
    let has_copied = || {
        let is_busy = other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
        is_busy.unwrap() == 0
    };
    wait_until("the log is in the file", LATER, has_copied).unwrap();
    stored
}

/// Overwrites pages of the file, counted from 1.
fn overwrite(stored: &Stored, pages: impl IntoIterator<Item = u64>) {
    let file = OpenOptions::new().write(true).open(stored.database()).unwrap();
    for page in pages {
        file.write_all_at(&[0xa5; PAGE_BYTES as usize], (page - 1) * PAGE_BYTES).unwrap();
    }
}

fn pages(stored: &Stored) -> u64 {
    fs::metadata(stored.database()).unwrap().len() / PAGE_BYTES
}

/// The one file that was put aside.
fn aside(stored: &Stored) -> String {
    let directory = stored.base.environment.state_directory();
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let aside: Vec<String> = names.filter(|name| name.starts_with("deliveries-damaged-")).collect();
    assert_eq!(aside.len(), 1, "{aside:?}");
    aside[0].clone()
}

#[test]
fn damage_at_run_time_is_a_503_is_said_once_and_ends_with_a_restart() {
    let mut stored = filled(10, true);
    // All from the first of the spool on: those before have the schema and the memory of deliveries, which the daemon's own try writes.
    let first: u64 = stored.query("SELECT rootpage FROM sqlite_master WHERE name = 'spool'")[0].parse().unwrap();
    overwrite(&stored, first..=pages(&stored));
    assert_unavailable(&stored.send("one"), "state_unavailable");
    stored.base.daemon.wait_metric("hookgate_deliveries_failing", &[], 1.0, SOON).unwrap();
    let handler = stored.start_handler(Behaviour::Json);
    // Every request and every try of the daemon itself, once a second, meets it.
    for _ in 0..4 {
        assert_unavailable(&stored.send("more"), "state_unavailable");
        thread::sleep(Duration::from_millis(500));
    }
    let retried = stored.command(&["retry", "--route", "orders"]);
    assert!(!retried.success() && retried.stderr_text().contains("is damaged"), "{}", retried.stderr_text());
    let listed = stored.command(&["list"]);
    assert!(!listed.success() && listed.stderr_text().contains("cannot be read"), "{}", listed.stderr_text());
    stored.base.still_serves().unwrap();
    assert_eq!(handler.request_count(), 0);
    let log = stored.base.daemon.log();
    assert_eq!(log.matches("the file of deliveries is damaged").count(), 1, "{log}");
    for unsaid in ["cannot be kept", "are kept again", "cannot be read", "panicked"] {
        assert!(!log.contains(unsaid), "{unsaid}: {log}");
    }
    stored.stop();
    // The pause is forgotten with the file.
    stored.start_again(DURABLE);
    stored.base.daemon.wait_log("was damaged and is put aside", SOON).unwrap();
    aside(&stored);
    stored.store("after");
    assert_eq!(handler.wait_for(1, LATER).unwrap()[0].text(), "after");
}

/// The dispatcher meets the damage, while nothing is written.
#[test]
fn damage_that_an_attempt_meets_is_a_503_too() {
    let stored = filled(10, false);
    overwrite(&stored, 2..=pages(&stored));
    let _handler = stored.start_handler(Behaviour::Json);
    stored.base.daemon.wait_log("the file of deliveries is damaged", LATER).unwrap();
    stored.base.daemon.wait_metric("hookgate_deliveries_failing", &[], 1.0, SOON).unwrap();
    for _ in 0..4 {
        assert_unavailable(&stored.send("one"), "state_unavailable");
        thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(stored.base.daemon.log().matches("the file of deliveries is damaged").count(), 1);
}

/// Its outcome cannot be written, and no one waits for that.
#[test]
fn damage_during_an_attempt_does_not_hold_up_the_end() {
    let mut stored = filled(3, false);
    let handler = stored.start_handler(Behaviour::Delay(Duration::from_secs(1), Behaviour::Json.boxed()));
    handler.wait_for(1, LATER).unwrap();
    overwrite(&stored, 2..=pages(&stored));
    stored.base.daemon.wait_log("the file of deliveries is damaged", LATER).unwrap();
    let began = Instant::now();
    stored.stop();
    assert!(began.elapsed() < LATER / 2, "{:?}, as long as a drain may take", began.elapsed());
    assert_eq!(stored.base.daemon.log().matches("the file of deliveries is damaged").count(), 1);
}

/// The commands of the page, in the state directory.
#[test]
fn what_a_damaged_file_still_has_is_rescued_as_documented() {
    let mut stored = filled(40, false);
    stored.stop();
    // One page in the middle.
    let middle = pages(&stored) / 2;
    overwrite(&stored, [middle]);
    stored.start_again(DURABLE);
    stored.base.daemon.wait_log("was damaged and is put aside", SOON).unwrap();
    stored.store("since");
    stored.stop();

    let section = DELIVERY.split("\n## A damaged file\n").nth(1).unwrap();
    let lines =
        section.lines().skip_while(|line| !line.starts_with("    ")).take_while(|line| line.starts_with("    "));
    let script = lines.collect::<Vec<_>>().join("\n").replace("deliveries-damaged-TIME.db", &aside(&stored));
    let mut shell = Command::new("sh");
    shell.args(["-e", "-c", &script]).current_dir(stored.base.environment.state_directory());
    let finished = run(shell, &[], SOON).unwrap();
    assert!(finished.success() && finished.stderr.is_empty(), "{script}\n{}", finished.stderr_text());

    stored.start_again(DURABLE);
    let rescued = stored.query("SELECT id FROM spool").len();
    assert!(rescued > 30, "{rescued}");
    let handler = stored.start_handler(Behaviour::Json);
    stored.commanded(&["retry", "--route", "orders"]);
    let requests = handler.wait_for(rescued as u64, LATER).unwrap();
    stored.wait_rows("waiting", 0);
    let different: BTreeSet<String> = requests.iter().map(Request::text).collect();
    assert_eq!(different.len(), rescued);
    assert!(different.contains("since"));
}
