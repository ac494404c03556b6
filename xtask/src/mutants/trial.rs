//! Runs unit tests against a mutant, and says whether they notice it.
//!
//! Owns how long a run may take and how much memory it may use: a mutant can make a loop endless.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::build::Tests;
use super::weave::VARIABLE;
use crate::command;

/// A test may take so many times as long as the slowest one without a mutant, and [`SPARE`].
const TIMES: u32 = 5;
/// What a test may take in addition: the machine may do other things, too.
const SPARE: Duration = Duration::from_secs(10);
/// A test is slow if it takes more than this part of all.
const SLOW_PART: u32 = 50;
/// The address space of a run, in KiB. One without a mutant uses a tenth of it.
const MEMORY_KIB: &str = "6000000";

/// What became of a mutant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// A test failed, or the process ended.
    Caught,
    /// The tests did not end.
    Timeout,
    /// All tests passed.
    Missed,
    /// It does not compile.
    Unviable,
}

impl Verdict {
    pub(super) const ALL: [Self; 4] = [Self::Caught, Self::Timeout, Self::Missed, Self::Unviable];
}

/// How long the tests of a package take, so that those run first that are quick and near to the mutant: few mutants need the others.
#[derive(Debug)]
pub(super) struct Pace {
    pub(super) all: Duration,
    /// The names of the slow tests.
    slow: Vec<String>,
    /// How long a quick test may take, and a slow one.
    quick_limit: Duration,
    slow_limit: Duration,
}

impl Pace {
    /// Runs the tests without a mutant.
    ///
    /// # Errors
    ///
    /// A test fails.
    pub(super) fn measure(tests: &Tests) -> Result<Self> {
        let mut times: Vec<(Duration, String)> = Vec::new();
        let mut before = Instant::now();
        let verdict = run(tests, None, &[], Duration::from_secs(300), &mut |line| {
            let now = Instant::now();
            if let Some(name) = line.strip_prefix("test ").and_then(|line| line.strip_suffix(" ... ok")) {
                times.push((now - before, name.trim_end_matches(" - should panic").to_owned()));
            }
            before = now;
        })?;
        ensure!(verdict == Verdict::Missed, "the tests fail without a mutant: {verdict:?}");
        let all: Duration = times.iter().map(|(time, _)| *time).sum();
        let (slow, quick): (Vec<_>, Vec<_>) = times.into_iter().partition(|(time, _)| *time > all / SLOW_PART);
        let limit = |times: &[(Duration, String)]| {
            times.iter().map(|(time, _)| *time).max().unwrap_or_default() * TIMES + SPARE
        };
        let (quick_limit, slow_limit) = (limit(&quick), limit(&slow));
        Ok(Self { all, slow: slow.into_iter().map(|(_, name)| name).collect(), quick_limit, slow_limit })
    }
}

/// Runs the tests against each mutant of `numbers`, `jobs` at a time, and calls `note` for each. `room` says in which module a mutant is.
///
/// # Errors
///
/// The tests cannot be started, or `note` failed.
pub(super) fn all(
    tests: &Tests,
    pace: &Pace,
    mut numbers: Vec<usize>,
    jobs: usize,
    room: &(dyn Fn(usize) -> String + Sync),
    note: &mut dyn FnMut(usize, Verdict) -> Result<()>,
) -> Result<()> {
    // In an order without meaning, but always the same one: what is done when a run is interrupted is a sample of all.
    numbers.sort_by_key(|number| number.wrapping_mul(0x9e37_79b9) & 0xffff_ffff);
    let waiting: Mutex<Vec<usize>> = Mutex::new(numbers);
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let (done, verdicts) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..jobs {
            let (done, next) = (done.clone(), &next);
            scope.spawn(move || {
                while let Some(number) = next() {
                    if done.send((number, one(tests, pace, &room(number), Some(number)))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        verdicts.into_iter().try_for_each(|(number, verdict)| note(number, verdict?))
    })
}

/// Runs the tests against one mutant of the build, or as they were built: first the quick ones of `room`, then the other quick ones, then
/// the slow ones.
///
/// # Errors
///
/// The tests cannot be started.
pub(super) fn one(tests: &Tests, pace: &Pace, room: &str, number: Option<usize>) -> Result<Verdict> {
    let without_slow: Vec<&str> = pace.slow.iter().flat_map(|name| ["--skip", name]).collect();
    let near = [&[room], without_slow.as_slice()].concat();
    let far = [&["--skip", room], without_slow.as_slice()].concat();
    let slow: Vec<&str> = pace.slow.iter().map(String::as_str).collect();
    for (arguments, limit) in [(near, pace.quick_limit), (far, pace.quick_limit), (slow, pace.slow_limit)] {
        // Without a name, all tests would run again.
        if arguments.is_empty() {
            continue;
        }
        let verdict = run(tests, number, &arguments, limit, &mut |_| {})?;
        if verdict != Verdict::Missed {
            return Ok(verdict);
        }
    }
    Ok(Verdict::Missed)
}

/// Runs the tests that `arguments` select, one after the other, until the first one fails or takes longer than `limit`. Passes each line of
/// the output to `line`.
fn run(
    tests: &Tests,
    number: Option<usize>,
    arguments: &[&str],
    limit: Duration,
    line: &mut dyn FnMut(&str),
) -> Result<Verdict> {
    let mut command = Command::new("sh");
    command::without_package(&mut command);
    command.args(["-c", "ulimit -v \"$0\"; exec \"$@\"", MEMORY_KIB]).arg(&tests.program);
    command.arg("--test-threads=1").args(arguments);
    // A failing property needs no smaller example here, and each run tries the same values.
    command.env("PROPTEST_MAX_SHRINK_ITERS", "0").env("PROPTEST_CASES", "64").env("PROPTEST_RNG_SEED", "1");
    command.env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "true").env("RUST_BACKTRACE", "0");
    if let Some(number) = number {
        command.env(VARIABLE, number.to_string());
    }
    command.current_dir(&tests.directory).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().context("starting the tests")?;
    let verdict = watch(&mut child, limit, line);
    // It may have ended already.
    let _ = child.kill();
    let status = child.wait().context("waiting for the tests")?;
    Ok(match verdict? {
        Some(verdict) => verdict,
        None if status.success() => Verdict::Missed,
        None => Verdict::Caught,
    })
}

/// Reads the output up to the first test that fails. `None` if the output ended before.
fn watch(child: &mut Child, limit: Duration, line: &mut dyn FnMut(&str)) -> Result<Option<Verdict>> {
    let output = BufReader::new(child.stdout.take().context("no output")?);
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        // The receiver may be gone.
        let _ = output.lines().map_while(std::io::Result::ok).try_for_each(|line| sender.send(line));
    });
    loop {
        match lines.recv_timeout(limit) {
            Ok(text) if text.ends_with("FAILED") => return Ok(Some(Verdict::Caught)),
            Ok(text) => line(&text),
            Err(mpsc::RecvTimeoutError::Timeout) => return Ok(Some(Verdict::Timeout)),
            Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(None),
        }
    }
}
