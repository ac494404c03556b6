//! A connection of `s_client` that stays open while a test acts.

use std::io::Write;
use std::process::{ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::openssl::alert_number;
use crate::http::{self, Response};
use crate::process::{Capture, KilledOnDrop};

/// How often the state of the child and its output are checked.
const POLL: Duration = Duration::from_millis(5);

/// An open connection; its `s_client` is killed and reaped on drop.
#[derive(Debug)]
pub struct OpenSslConnection {
    child: KilledOnDrop,
    stdin: ChildStdin,
    stdout: Capture,
    stderr: Capture,
}

impl OpenSslConnection {
    pub(super) fn start(mut command: Command, first: &[u8]) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = KilledOnDrop(command.spawn().context("starting openssl")?);
        let stdin = child.0.stdin.take().context("stdin was asked for as a pipe")?;
        let stdout = Capture::start(child.0.stdout.take().context("stdout was asked for as a pipe")?);
        let stderr = Capture::start(child.0.stderr.take().context("stderr was asked for as a pipe")?);
        let mut this = Self { child, stdin, stdout, stderr };
        this.send(first)?;
        Ok(this)
    }

    /// Sends bytes.
    ///
    /// # Errors
    ///
    /// `s_client` has ended.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stdin.write_all(bytes).context("writing to openssl")
    }

    /// Sends a POST of `body` that leaves the connection open.
    ///
    /// # Errors
    ///
    /// `s_client` has ended.
    pub fn post(&mut self, host: &str, target: &str, body: &[u8]) -> Result<()> {
        self.send(&http::request("POST", target, host, &[], body))
    }

    /// Waits for `count` responses on this connection, and returns them all.
    ///
    /// # Errors
    ///
    /// They do not arrive within `limit`, or the connection ends first; the standard error of `s_client` is in the message.
    pub fn responses(&self, count: usize, limit: Duration) -> Result<Vec<Response>> {
        let deadline = Instant::now() + limit;
        loop {
            // Checked first, so that the responses include all that was written before the end.
            let ended = self.stdout.is_finished();
            let responses = self.stdout.inspect(Response::read_all);
            if responses.len() >= count && responses.iter().all(|response| response.complete) {
                return Ok(responses);
            }
            let came = responses.len();
            ensure!(!ended, "openssl ended after {came} of {count} responses: {}", self.stderr());
            ensure!(Instant::now() < deadline, "{came} of {count} responses within {limit:?}: {}", self.stderr());
            thread::sleep(POLL);
        }
    }

    /// Whether the server closes the connection within `limit`.
    ///
    /// # Errors
    ///
    /// `s_client` cannot be waited for.
    pub fn ends(&mut self, limit: Duration) -> Result<bool> {
        let deadline = Instant::now() + limit;
        loop {
            if self.child.0.try_wait()?.is_some() {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            thread::sleep(POLL);
        }
    }

    /// The number of the alert that the server has sent (RFC 8446, section 6).
    pub fn alert(&self) -> Option<u8> {
        alert_number(&self.stderr())
    }

    fn stderr(&self) -> String {
        self.stderr.inspect(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }
}
