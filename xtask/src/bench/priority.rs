//! Whose turn it is while latencies are measured.
//!
//! The kernel's ordinary policy lets whoever runs go on for some milliseconds, whoever has become ready meanwhile: the tail of every
//! server's latencies is then the scheduler's, on the one core or on the other.

use std::process::{Command, Stdio};

/// Processes that come first on their cores, among each other in turn, for as long as this lives.
pub(crate) struct First {
    pids: Vec<u32>,
}

impl First {
    /// Puts `pids`, with all their threads, first. `None` where the system does not allow it, and then nothing has changed.
    pub(crate) fn put(pids: Vec<u32>) -> Option<Self> {
        let first = Self { pids };
        // Lives already: whatever was changed is changed back.
        first.pids.iter().all(|pid| chrt("--rr", "1", *pid)).then_some(first)
    }
}

impl Drop for First {
    fn drop(&mut self) {
        for pid in &self.pids {
            chrt("--other", "0", *pid);
        }
    }
}

/// chrt(1), of util-linux.
fn chrt(policy: &str, priority: &str, pid: u32) -> bool {
    let mut command = Command::new("chrt");
    command.args([policy, "--all-tasks", "--pid", priority, &pid.to_string()]).stdout(Stdio::null());
    command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
