//! The machine of a run, the versions of the programs, and the load of the machine.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde::Serialize;

use super::server::Program;

/// The machine, and the versions of everything.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    /// Start of the run, UTC.
    pub(crate) date: String,
    /// Model and number of cores.
    pub(crate) processor: String,
    /// Name and version of the kernel.
    pub(crate) kernel: String,
    /// Version of hookgate's compiler.
    pub(crate) compiler: String,
    /// The commit of the work tree, with `+` if the tree has changes.
    pub(crate) commit: String,
    /// Each server with the version that it prints.
    pub(crate) versions: Vec<(&'static str, String)>,
    /// Load averages (1, 5, 15 minutes) at the start. Above 0, the machine was not idle.
    pub(crate) load_before: String,
    /// Load averages at the end, the load of the run included.
    pub(crate) load_after: String,
    /// Duration of the run, seconds.
    pub(crate) seconds: u64,
}

impl Machine {
    /// Describes this machine.
    pub(crate) fn current(programs: &[Program]) -> Self {
        let information = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let models = || information.lines().filter_map(|line| line.strip_prefix("model name"));
        let model = models().next().unwrap_or_default().trim_start_matches([' ', '\t', ':']);
        Self {
            date: output_of("date", &["--utc", "+%Y-%m-%d %H:%M"]),
            processor: format!("{model}, {} cores", models().count()),
            kernel: output_of("uname", &["-sr"]),
            compiler: output_of("rustc", &["--version"]),
            commit: output_of("git", &["describe", "--always", "--dirty=+"]),
            versions: programs.iter().map(|program| (program.kind.name(), program.version.clone())).collect(),
            load_before: load(),
            load_after: String::new(),
            seconds: 0,
        }
    }

    /// Adds what is known at the end of the run.
    pub(crate) fn finish(self, elapsed: Duration) -> Self {
        Self { load_after: load(), seconds: elapsed.as_secs(), ..self }
    }
}

/// What a program prints; empty if it is not installed, because a report without a version is still useful.
fn output_of(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(crate::command::root()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}
