//! One step of a test run: a program, the command that is shown for it, and its output, which is kept until it ends.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::command::{self, root};

/// The time limit of a step: several times what the longest one takes on two busy cores. It ends a test that hangs, so that its output is
/// printed.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// How often a step is polled for its end.
const POLL: Duration = Duration::from_millis(20);

/// The niceness of computing steps, nice(1).
const NICENESS: &str = "10";

/// A program with its arguments.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// A plain command that reproduces the step.
    pub(super) shown: String,
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    directory: PathBuf,
}

/// The outcome of a step.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Standard output and error, in the order in which they were written.
    pub(super) output: Vec<u8>,
    /// `None` after [`LIMIT`].
    pub(super) status: Option<ExitStatus>,
    pub(super) lasted: Duration,
}

impl Outcome {
    pub(super) fn is_success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// How it ended, for the reader.
    pub(super) fn verdict(&self) -> String {
        match self.status {
            Some(status) if status.success() => "ok".to_owned(),
            Some(status) => status.to_string(),
            None => format!("killed because it did not end within {LIMIT:?}"),
        }
    }
}

impl Step {
    pub(super) fn new<'a>(shown: String, program: &Path, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        let arguments = arguments.into_iter().map(str::to_owned).collect();
        Self { shown, program: program.to_owned(), arguments, environment: Vec::new(), directory: root().to_owned() }
    }

    /// Adds arguments to those of a test program.
    pub(super) fn with(mut self, arguments: &[&str]) -> Self {
        self.shown = [&[&self.shown, "--"][..], arguments].concat().join(" ");
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// Sets a variable, and shows it.
    pub(super) fn variable(self, name: &str, value: &str) -> Self {
        let shown = format!("{name}={value} {}", self.shown);
        Self { shown, ..self.environment(name, value) }
    }

    /// Sets a variable.
    pub(super) fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn directory(self, directory: &Path) -> Self {
        Self { directory: directory.to_owned(), ..self }
    }

    /// Lowers its priority.
    pub(super) fn nice(self) -> Self {
        let program = self.program.to_string_lossy().into_owned();
        let before = ["-n".to_owned(), NICENESS.to_owned(), program];
        let arguments = before.into_iter().chain(self.arguments).collect();
        Self { program: "nice".into(), arguments, ..self }
    }

    /// Runs it to its end.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub(super) fn run(&self) -> Result<Outcome> {
        let begin = Instant::now();
        // A file instead of a pipe: a child process that outlives the step would keep a pipe open.
        let mut file: File = tempfile::tempfile().context("making a file for the output")?;
        let mut command = Command::new(&self.program);
        command::without_package(&mut command);
        command.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(&self.directory).stdin(Stdio::null());
        command.stdout(file.try_clone()?).stderr(file.try_clone()?);
        let mut child = command.spawn().with_context(|| format!("starting {}", self.program.display()))?;
        let mut status = None;
        while status.is_none() && begin.elapsed() < LIMIT {
            status = child.try_wait()?;
            thread::sleep(POLL);
        }
        if status.is_none() {
            child.kill()?;
            child.wait()?;
        }
        let mut output = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut output)?;
        Ok(Outcome { output, status, lasted: begin.elapsed() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Step {
        Step::new(script.to_owned(), Path::new("sh"), ["-c", script])
    }

    #[test]
    fn output_is_kept_in_order_with_the_exit_status() {
        let outcome = shell("echo one; echo two >&2; echo three; exit 3").run().expect("sh runs");
        assert_eq!(String::from_utf8_lossy(&outcome.output), "one\ntwo\nthree\n");
        assert!(!outcome.is_success());
        assert_eq!(outcome.verdict(), "exit status: 3");
    }

    #[test]
    fn a_step_is_shown_with_its_variables_and_arguments() {
        let step = shell("true").with(&["--skip", "proof::"]).variable("HOOKGATE_TEST_IO", "epoll");
        assert_eq!(step.shown, "HOOKGATE_TEST_IO=epoll true -- --skip proof::");
    }

    #[test]
    fn a_nice_step_is_the_same_step() {
        let step = shell("nice; echo $A").environment("A", "b").nice();
        let outcome = step.run().expect("nice runs");
        let own = String::from_utf8(shell("nice").run().expect("nice runs").output).expect("a number");
        let own: i32 = own.trim().parse().expect("a number");
        assert_eq!(String::from_utf8_lossy(&outcome.output), format!("{}\nb\n", (own + 10).min(19)));
    }
}
