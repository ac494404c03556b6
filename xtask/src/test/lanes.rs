//! Runs steps in two lanes: one only computes, the other has tests with time-outs, which mostly wait.
//!
//! The output of a step is printed whole when the step has ended. The output of the last step of the waiting lane is printed last, so that a
//! run ends with the closing line of the last test binary.

use std::io::{self, Write as _};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Result, anyhow, ensure};

use super::step::{Outcome, Step};

/// Runs `computing` beside `waiting`, each in its order. Computing steps have a lower priority, so that they use the CPU while the others
/// wait. After a failure no further step begins.
///
/// # Errors
///
/// Names every step that failed.
pub(super) fn run(computing: Vec<Step>, mut waiting: Vec<Step>) -> Result<()> {
    let printer = Printer::default();
    let last = waiting.pop();
    let held = thread::scope(|scope| {
        let beside = scope.spawn(|| computing.into_iter().for_each(|step| printer.run(&step.nice())));
        waiting.iter().for_each(|step| printer.run(step));
        let held = last.as_ref().and_then(|step| Some((step, printer.begin(step)?)));
        beside.join().map_err(|_| anyhow!("the computing lane panicked"))?;
        Ok::<_, anyhow::Error>(held)
    })?;
    if let Some((step, outcome)) = held {
        printer.end(step, outcome);
    }
    let failed = printer.failed.into_inner().unwrap_or_default();
    ensure!(failed.is_empty(), "failed: {} (see the output above)", failed.join("; "));
    Ok(())
}

#[derive(Debug, Default)]
struct Printer {
    has_failed: AtomicBool,
    failed: Mutex<Vec<String>>,
}

impl Printer {
    fn run(&self, step: &Step) {
        if let Some(outcome) = self.begin(step) {
            self.end(step, outcome);
        }
    }

    /// `None` if an earlier step has failed.
    fn begin(&self, step: &Step) -> Option<Result<Outcome>> {
        if self.has_failed.load(Ordering::Relaxed) {
            return None;
        }
        eprintln!("$ {}", step.shown);
        let outcome = step.run();
        if !outcome.as_ref().is_ok_and(Outcome::is_success) {
            self.has_failed.store(true, Ordering::Relaxed);
        }
        Some(outcome)
    }

    fn end(&self, step: &Step, outcome: Result<Outcome>) {
        let (output, verdict, is_success) = match outcome {
            Ok(outcome) => {
                let verdict = format!("{} after {:.1} s", outcome.verdict(), outcome.lasted.as_secs_f64());
                let is_success = outcome.is_success();
                (outcome.output, verdict, is_success)
            }
            Err(error) => (Vec::new(), format!("{error:#}"), false),
        };
        let mut stdout = io::stdout().lock();
        // If standard output is closed, there is no reader.
        let _ = writeln!(stdout, "\n=== {}: {verdict}", step.shown);
        let _ = stdout.write_all(&output);
        let _ = stdout.flush();
        if !is_success && let Ok(mut failed) = self.failed.lock() {
            failed.push(step.shown.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn shell(script: &str) -> Step {
        Step::new(script.to_owned(), Path::new("sh"), ["-c", script])
    }

    #[test]
    fn both_lanes_run_to_their_end() {
        let directory = tempfile::tempdir().expect("a directory");
        let touch = |name: &str| shell(&format!("touch {}", directory.path().join(name).display()));
        run(vec![touch("a"), touch("b")], vec![touch("c"), touch("d")]).expect("all succeed");
        assert_eq!(std::fs::read_dir(directory.path()).expect("it is there").count(), 4);
    }

    #[test]
    fn a_failure_is_named_and_ends_the_run() {
        for (computing, waiting) in [
            (vec![shell("false")], vec![shell("sleep 1"), shell("exit 4")]),
            (vec![], vec![shell("false"), shell("exit 4")]),
        ] {
            let error = run(computing, waiting).expect_err("a step fails").to_string();
            assert!(error.contains("false") && !error.contains("exit 4"), "{error}");
        }
        let error = run(vec![], vec![shell("exit 4")]).expect_err("the last step fails").to_string();
        assert!(error.contains("exit 4"), "{error}");
    }
}
