//! CPU time of processes, as counted by the scheduler.

use std::fs;

use anyhow::{Context, Result, ensure};

/// The nanoseconds that all living threads of `pids` spent on a CPU: `/proc/PID/task/TID/schedstat`, first field (kernel
/// documentation, scheduler/sched-stats). Includes kernel threads that serve a ring of the process, which are its tasks.
///
/// # Errors
///
/// A process has ended.
pub(crate) fn on_cpu_ns(pids: &[u32]) -> Result<u64> {
    let mut sum = 0;
    for pid in pids {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid} has ended"))?;
        for task in tasks {
            // If a thread ends between the listing and the read, its time is lost.
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            let first = text.split_ascii_whitespace().next().unwrap_or_default();
            ensure!(!first.is_empty(), "this kernel has no schedstat");
            sum += first.parse::<u64>().with_context(|| format!("schedstat of process {pid}"))?;
        }
    }
    Ok(sum)
}
