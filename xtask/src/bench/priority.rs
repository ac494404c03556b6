//! Real-time priority while latencies are measured.
//!
//! With the kernel's default policy, a running process keeps its core for some milliseconds, even if another process becomes ready. The
//! tail of every server's latencies would then be that of the scheduler.

use std::process::{Command, Stdio};

/// Processes with real-time priority and round-robin scheduling (sched(7)); the default policy returns when this is dropped.
pub(crate) struct RealTime {
    pids: Vec<u32>,
}

impl RealTime {
    /// Raises `pids` and all their threads. `None` if the system does not allow it; then nothing has changed.
    pub(crate) fn set(pids: Vec<u32>) -> Option<Self> {
        let raised = Self { pids };
        // If one fails, dropping this restores the others.
        raised.pids.iter().all(|pid| chrt("--rr", "1", *pid)).then_some(raised)
    }
}

impl Drop for RealTime {
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
