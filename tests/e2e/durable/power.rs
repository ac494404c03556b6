//! Power failures: the daemon is killed under load, and what it has not synced is lost. Every 202 is stored or was delivered, and of each
//! body, however often its sender sends it, there is one delivery.
//!
//! A kill alone loses nothing that was written: the kernel has it. So the real daemon runs with a library that notes each write below the
//! state directory, and each sync (`power/journal.c`). After the kill, the writes since the last sync of a file are taken back, and any of their
//! sectors made again, in any combination: a disk may have taken some of them, in any order. A file whose directory was not synced may be gone
//! as well. Without the syncs the test must fail, which is a test of its own.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use fastrand::Rng;
use hookgate_testkit::handler::Behaviour;

use super::crash::{Crashes, rounds};
use super::{DURABLE, Stored, replay};
use crate::environment::Environment;

/// What a disk writes as a whole.
const SECTOR_BYTES: u64 = 512;

/// What part of the sectors that were not synced is on the disk, by round.
const SURVIVING: [f64; 5] = [0.0, 0.5, 0.9, 0.1, 1.0];

/// The kinds of records, as in `journal.c`.
const WRITE: u32 = 1;
const SYNC: u32 = 2;
const TRUNCATE: u32 = 3;
const CREATE: u32 = 4;
const SYNC_DIRECTORY: u32 = 5;
const UNLINK: u32 = 6;

/// A record of the journal.
#[derive(Debug)]
struct Change {
    kind: u32,
    path: PathBuf,
    /// Where it wrote, or the new size.
    offset: u64,
    size_before: u64,
    old: Vec<u8>,
    new: Vec<u8>,
}

/// The records of a journal, without one that was being written.
fn read_journal(path: &Path) -> Vec<Change> {
    let content = fs::read(path).unwrap();
    let mut rest = content.as_slice();
    let mut changes = Vec::new();
    while let Some(change) = read_change(&mut rest) {
        changes.push(change);
    }
    changes
}

fn read_change(rest: &mut &[u8]) -> Option<Change> {
    let kind = u32::from_le_bytes(take(rest)?);
    let path_bytes = u32::from_le_bytes(take(rest)?);
    let (offset, size_before) = (u64::from_le_bytes(take(rest)?), u64::from_le_bytes(take(rest)?));
    let (old_bytes, new_bytes) = (u32::from_le_bytes(take(rest)?), u32::from_le_bytes(take(rest)?));
    let mut bytes = |count: u32| -> Option<Vec<u8>> {
        let (first, after) = rest.split_at_checked(usize::try_from(count).ok()?)?;
        *rest = after;
        Some(first.to_vec())
    };
    let path = PathBuf::from(String::from_utf8(bytes(path_bytes)?).ok()?);
    Some(Change { kind, path, offset, size_before, old: bytes(old_bytes)?, new: bytes(new_bytes)? })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*first)
}

/// Makes of the files what a power failure leaves: all that was synced, and of the rest each sector with the probability `surviving`. Returns the
/// number of writes that were not synced.
fn fail_power(changes: &[Change], surviving: f64, random: &mut Rng) -> usize {
    let paths: BTreeSet<&Path> = changes.iter().map(|change| change.path.as_path()).collect();
    paths.into_iter().map(|path| lose(path, changes, surviving, random)).sum()
}

fn lose(path: &Path, changes: &[Change], surviving: f64, random: &mut Rng) -> usize {
    let last = |kind: u32| changes.iter().rposition(|change| change.kind == kind && change.path == path);
    if !path.is_file() || last(UNLINK).is_some() {
        return 0;
    }
    // Memory that the processes of a database share. The first one after a failure makes it anew.
    if path.to_string_lossy().ends_with("-shm") {
        fs::remove_file(path).unwrap();
        return 0;
    }
    let since = last(SYNC).map_or(0, |sync| sync + 1);
    let unsynced = changes[since..].iter().filter(|it| it.path == path && [WRITE, TRUNCATE].contains(&it.kind));
    let unsynced: Vec<&Change> = unsynced.collect();
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    for change in unsynced.iter().rev() {
        file.write_all_at(&change.old, change.offset).unwrap();
        file.set_len(change.size_before).unwrap();
    }
    for change in &unsynced {
        make_again(&file, change, surviving, random);
    }
    let directory_synced = changes.iter().rposition(|change| change.kind == SYNC_DIRECTORY);
    if last(CREATE).is_some_and(|made| directory_synced.is_none_or(|synced| synced < made)) && random.f64() >= surviving
    {
        fs::remove_file(path).unwrap();
    }
    unsynced.len()
}

fn make_again(file: &File, change: &Change, surviving: f64, random: &mut Rng) {
    if change.kind == TRUNCATE {
        if random.f64() < surviving {
            file.set_len(change.offset).unwrap();
        }
        return;
    }
    let (mut offset, mut rest) = (change.offset, change.new.as_slice());
    while !rest.is_empty() {
        let until_next = SECTOR_BYTES - offset % SECTOR_BYTES;
        let (sector, after) = rest.split_at(rest.len().min(usize::try_from(until_next).unwrap()));
        if random.f64() < surviving {
            file.write_all_at(sector, offset).unwrap();
        }
        (offset, rest) = (offset + until_next, after);
    }
}

/// Builds the library.
fn library(environment: &Environment) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/e2e/durable/power/journal.c");
    let library = environment.path("journal.so");
    let mut command = Command::new("cc");
    command.args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&library).arg(source);
    let output = command.args(["-ldl", "-lpthread"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    library
}

/// A daemon that runs with the library.
struct Power {
    crashes: Crashes,
    journal: PathBuf,
}

impl Power {
    /// Without syncs if `swallows`.
    fn new(swallows: bool) -> Self {
        // An orderly end: what is there before the first failure is on the disk.
        let mut stored = Stored::with_copies();
        stored.stop();
        let environment = &stored.base.environment;
        let journal = environment.path("writes.journal");
        let mut variables = vec![
            ("LD_PRELOAD", library(environment)),
            ("HOOKGATE_POWER_DIRECTORY", environment.state_directory()),
            ("HOOKGATE_POWER_JOURNAL", journal.clone()),
        ];
        if swallows {
            variables.push(("HOOKGATE_POWER_SWALLOW", PathBuf::from("1")));
        }
        stored.options.environment = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        let lines = format!("{DURABLE}\n{}", replay(&stored.base.environment));
        stored.start_again(&lines);
        Self { crashes: Crashes::of(stored), journal }
    }

    /// Kills the daemon under load, and loses what is not synced. Returns which accepted deliveries are gone, and how many writes were not
    /// synced.
    fn fail(&mut self, surviving: f64) -> (Vec<String>, usize) {
        self.crashes.kill_under_load();
        let changes = read_journal(&self.journal);
        assert!(changes.iter().any(|change| change.kind == WRITE), "the library saw no write: is the binary static?");
        let unsynced = fail_power(&changes, surviving, &mut self.crashes.random);
        fs::remove_file(&self.journal).unwrap();
        (self.crashes.gone(&self.copied()), unsynced)
    }

    /// A copy of the database: who opens the first one after a failure repairs it, and that must be the daemon.
    fn copied(&self) -> PathBuf {
        let (database, copy) = (self.crashes.stored.database(), self.crashes.stored.base.environment.path("copy.db"));
        for end in ["", "-wal"] {
            let name = |path: &Path| PathBuf::from(format!("{}{end}", path.display()));
            drop(fs::remove_file(name(&copy)));
            if name(&database).exists() {
                fs::copy(name(&database), name(&copy)).unwrap();
            }
        }
        copy
    }
}

#[test]
fn no_accepted_delivery_is_lost_by_a_power_failure() {
    let mut power = Power::new(false);
    let mut unsynced = 0;
    for round in 0..rounds() {
        let surviving = SURVIVING[usize::try_from(round).unwrap() % SURVIVING.len()];
        let (gone, writes) = power.fail(surviving);
        assert!(gone.is_empty(), "round {round}, {surviving} survive: {gone:?} were answered 202 and are gone");
        unsynced += writes;
        power.crashes.start_again();
    }
    power.crashes.finish();
    println!("{unsynced} writes were not synced");
    assert!(unsynced > 0, "no failure came between a write and its sync");
}

/// The test above can fail.
#[test]
fn a_disk_that_does_not_sync_loses_accepted_deliveries() {
    let mut power = Power::new(true);
    power.crashes.behaviour = |_| Behaviour::status(503, "");
    let (gone, unsynced) = power.fail(0.0);
    assert!(unsynced > 0 && !gone.is_empty());
    assert_eq!(gone, power.crashes.accepted.keys().cloned().collect::<Vec<_>>(), "{unsynced} writes");
}
