//! Where and with what a run was made, and how busy the machine was otherwise.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde::Serialize;

use super::server::Program;

/// The machine, and the versions of everything.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    /// When the run began, UTC.
    pub(crate) date: String,
    /// Model and number of cores.
    pub(crate) processor: String,
    /// Of the kernel.
    pub(crate) kernel: String,
    /// Of the compiler of hookgate.
    pub(crate) compiler: String,
    /// The commit of the work tree; a `+` where it was changed.
    pub(crate) commit: String,
    /// Server, and what it says of itself.
    pub(crate) versions: Vec<(&'static str, String)>,
    /// Load averages (1, 5, 15 minutes) at the beginning; above 0 there were others on the machine.
    pub(crate) load_before: String,
    /// The same at the end; the run's own load is in it.
    pub(crate) load_after: String,
    /// How long the run took, seconds.
    pub(crate) seconds: u64,
}

impl Machine {
    /// Looks around.
    pub(crate) fn look(programs: &[Program]) -> Self {
        let information = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let models = || information.lines().filter_map(|line| line.strip_prefix("model name"));
        let model = models().next().unwrap_or_default().trim_start_matches([' ', '\t', ':']);
        Self {
            date: said("date", &["--utc", "+%Y-%m-%d %H:%M"]),
            processor: format!("{model}, {} cores", models().count()),
            kernel: said("uname", &["-sr"]),
            compiler: said("rustc", &["--version"]),
            commit: said("git", &["describe", "--always", "--dirty=+"]),
            versions: programs.iter().map(|program| (program.kind.name(), program.version.clone())).collect(),
            load_before: load(),
            load_after: String::new(),
            seconds: 0,
        }
    }

    /// Notes how it ended.
    pub(crate) fn finish(self, elapsed: Duration) -> Self {
        Self { load_after: load(), seconds: elapsed.as_secs(), ..self }
    }
}

/// What a program prints; empty where it is not there, since a report without a version is still a report.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(crate::command::root()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}
