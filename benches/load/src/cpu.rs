//! CPU time of processes, as the scheduler counted it.

use std::fs;

use anyhow::{Context, Result, ensure};

/// Nanoseconds on a CPU of every living thread of `pids`: `/proc/PID/task/TID/schedstat`, first field (kernel documentation,
/// scheduler/sched-stats). Kernel threads that serve a ring for the process are tasks of it, so they are in the sum.
///
/// # Errors
///
/// A process that has ended.
pub(crate) fn on_cpu_ns(pids: &[u32]) -> Result<u64> {
    let mut sum = 0;
    for pid in pids {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid} has ended"))?;
        for task in tasks {
            // A thread may end between the listing and the read; its time is lost, and it was about to be over anyway.
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            let first = text.split_ascii_whitespace().next().unwrap_or_default();
            ensure!(!first.is_empty(), "this kernel keeps no schedstat");
            sum += first.parse::<u64>().with_context(|| format!("schedstat of process {pid}"))?;
        }
    }
    Ok(sum)
}
