//! Waiting for what no event announces, such as a counter of the daemon.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// How often the condition is checked.
const POLL: Duration = Duration::from_millis(5);

/// Waits until `is_done` returns true.
///
/// # Errors
///
/// It does not within `limit`; the message names `what`.
pub fn wait_until(what: &str, limit: Duration, mut is_done: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + limit;
    while !is_done() {
        ensure!(Instant::now() < deadline, "{what}: not within {limit:?}");
        thread::sleep(POLL);
    }
    Ok(())
}
