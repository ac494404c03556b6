//! Running other programs until they end or a deadline passes. A child that hangs is killed.
//!
//! Owns the children: each is killed and reaped, however the test ends.

use std::fs;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How often the state of a child is checked.
const POLL: Duration = Duration::from_millis(2);

/// How a child ended, and what it wrote.
#[derive(Clone, Debug)]
pub struct Finished {
    /// `None` if it was killed: at the deadline, or because its output was enough.
    pub status: Option<ExitStatus>,
    /// Whether the deadline passed.
    pub timed_out: bool,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Finished {
    /// Whether the child ended by itself with status 0.
    pub fn success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// Standard output as text; bytes that are no UTF-8 are replaced.
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text; bytes that are no UTF-8 are replaced.
    pub fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

/// Runs `command` to its end with `input` on its standard input, and kills it after `limit`.
///
/// # Errors
///
/// The program cannot be started.
pub fn run(command: Command, input: &[u8], limit: Duration) -> Result<Finished> {
    run_until(command, input, limit, |_| false)
}

/// As [`run`], but kills the child as soon as `enough` returns true for its standard output.
///
/// # Errors
///
/// The program cannot be started.
pub fn run_until(
    mut command: Command,
    input: &[u8],
    limit: Duration,
    enough: impl Fn(&[u8]) -> bool,
) -> Result<Finished> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = KilledOnDrop(command.spawn().with_context(|| format!("starting {program}"))?);
    let writer = child.0.stdin.take().map(|mut stdin| {
        let input = input.to_vec();
        // If the child ends without reading its input, that is no error: its exit status tells.
        thread::spawn(move || drop(stdin.write_all(&input)))
    });
    let stdout = child.0.stdout.take().map(Capture::start);
    let stderr = child.0.stderr.take().map(Capture::start);
    let deadline = Instant::now() + limit;
    let mut status = None;
    let mut timed_out = false;
    loop {
        if let Some(ended) = child.0.try_wait()? {
            status = Some(ended);
            break;
        }
        if stdout.as_ref().is_some_and(|stdout| stdout.inspect(&enough)) {
            break;
        }
        if Instant::now() >= deadline {
            timed_out = true;
            break;
        }
        thread::sleep(POLL);
    }
    drop(child);
    // The pipes are closed now, so these threads end.
    if let Some(writer) = writer {
        drop(writer.join());
    }
    Ok(Finished {
        status,
        timed_out,
        stdout: stdout.map(Capture::finish).unwrap_or_default(),
        stderr: stderr.map(Capture::finish).unwrap_or_default(),
    })
}

/// The id of the thread of `process` with this name.
///
/// # Errors
///
/// There is none, or the process has ended.
pub fn thread_id(process: u32, name: &str) -> Result<i32> {
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let task = task?;
        if fs::read_to_string(task.path().join("comm"))?.trim() == name {
            return Ok(task.file_name().to_string_lossy().parse()?);
        }
    }
    bail!("process {process} has no thread {name}")
}

/// A child that is killed and reaped on drop.
#[derive(Debug)]
pub struct KilledOnDrop(pub Child);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        // Both fail only if the child has been reaped already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The output of a child on one of its pipes, readable while the child runs.
#[derive(Debug)]
pub struct Capture {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Capture {
    /// Reads `pipe` to its end, in a thread of its own.
    pub fn start(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let mut piece = [0; 16 * 1024];
            while let Ok(length @ 1..) = pipe.read(&mut piece) {
                sink.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&piece[..length]);
            }
        });
        Self { bytes, reader }
    }

    /// Shows what was read so far to `look`.
    pub fn inspect<T>(&self, look: impl FnOnce(&[u8]) -> T) -> T {
        look(&self.bytes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits, at most `limit`, until the pipe has been read to its end.
    pub(crate) fn wait_end(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while !self.is_finished() && Instant::now() < deadline {
            thread::sleep(POLL);
        }
    }

    /// Whether the pipe has been read to its end.
    pub(crate) fn is_finished(&self) -> bool {
        self.reader.is_finished()
    }

    fn finish(self) -> Vec<u8> {
        drop(self.reader.join());
        std::mem::take(&mut *self.bytes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
