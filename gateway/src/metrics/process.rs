//! The metrics of the process: CPU time, memory, descriptors and start, under the names that every client library of Prometheus gives them.
//!
//! They are read when they are asked for, so they are text beside what the recorder renders. Must not be called by a worker.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::table::{
    METRICS, PROCESS_CPU, PROCESS_MAX_FDS, PROCESS_OPEN_FDS, PROCESS_RESIDENT, PROCESS_START, PROCESS_VIRTUAL,
};

/// The process that this is.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    /// In seconds since 1970.
    started: f64,
}

impl Process {
    /// Call it at the start.
    #[must_use]
    pub fn begin() -> Self {
        Self { started: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()) }
    }

    /// Adds the metrics to `text`, in the text format of Prometheus. What /proc does not tell is left out.
    pub fn render(self, text: &mut String) {
        let used = clock_gettime(ClockId::ProcessCPUTime);
        #[expect(clippy::cast_precision_loss, reason = "seconds of CPU time stay far below 2^53")]
        let used = used.tv_sec as f64 + used.tv_nsec as f64 / 1e9;
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        // A limit of none is as many as there are numbers.
        let allowed = getrlimit(Resource::Nofile).current.unwrap_or(i32::MAX as u64);
        let samples = [
            (PROCESS_CPU, Some(used)),
            (PROCESS_RESIDENT, kibibytes(&status, "VmRSS:")),
            (PROCESS_VIRTUAL, kibibytes(&status, "VmSize:")),
            (PROCESS_OPEN_FDS, open_descriptors()),
            #[expect(clippy::cast_precision_loss, reason = "the number of descriptors stays far below 2^53")]
            (PROCESS_MAX_FDS, Some(allowed as f64)),
            (PROCESS_START, Some(self.started)),
        ];
        for (name, value) in samples {
            let (Some(value), Some(row)) = (value, METRICS.iter().find(|row| row.name == name)) else { continue };
            // Writing to a String cannot fail.
            let _ =
                writeln!(text, "# HELP {name} {}\n# TYPE {name} {}\n{name} {value}\n", row.help(), row.kind.label());
        }
    }
}

/// The bytes of a line of proc_pid_status(5), which is in KiB.
fn kibibytes(status: &str, key: &str) -> Option<f64> {
    let value = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kibibytes: f64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0)
}

/// Linux 6.2 and later tell the number as the size of the directory; before, its entries have to be counted, one of which is the look.
fn open_descriptors() -> Option<f64> {
    let told = fs::metadata("/proc/self/fd").ok()?.size();
    let count = match told {
        0 => u64::try_from(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1)).ok()?,
        told => told,
    };
    #[expect(clippy::cast_precision_loss, reason = "the number of descriptors stays far below 2^53")]
    Some(count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of a sample.
    fn value(text: &str, name: &str) -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or(f64::NAN)
    }

    #[test]
    fn the_process_tells_what_proc_says() {
        let mut text = String::new();
        Process::begin().render(&mut text);
        for row in METRICS.iter().filter(|row| row.name.starts_with("process_")) {
            assert!(value(&text, row.name) > 0.0, "{}: {text}", row.name);
            assert!(text.contains(&format!("# TYPE {} {}\n", row.name, row.kind.label())), "{text}");
        }
        let files: Vec<_> = (0..50).filter_map(|_| fs::File::open("/dev/null").ok()).collect();
        let mut later = String::new();
        Process::begin().render(&mut later);
        // Other tests run beside this one, and open and close a few.
        let more = value(&later, PROCESS_OPEN_FDS) - value(&text, PROCESS_OPEN_FDS);
        assert!(more > 0.0, "{more} more descriptors with {} more files", files.len());
        assert!(value(&later, PROCESS_CPU) >= value(&text, PROCESS_CPU));
    }
}
