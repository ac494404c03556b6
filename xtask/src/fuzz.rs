//! `cargo xtask fuzz`: libFuzzer on the targets of `fuzz/`, for as long as wanted.
//!
//! `cargo xtask test` runs the same targets on the committed corpora. Must not change those: what a run finds stays below `target/fuzz`,
//! and a failing input in `fuzz/artifacts`.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::command::{self, root};
use crate::nightly;

/// What this command needs, and how to get it.
const NEEDED: &str = "install what is missing, then run this again:\n  \
     a nightly compiler: rustup toolchain install nightly\n  \
     cargo-fuzz:         cargo install --locked cargo-fuzz\n  \
     a C++ compiler:     apt-get install g++";

/// The longest input, in bytes: a chain of the default `max_presented_bytes`.
const BYTES_MAX: usize = 32 * 1024;

/// Runs libFuzzer, or makes the seeds.
#[derive(Debug, clap::Args)]
pub(crate) struct Fuzz {
    /// Only this target; without it, each target in turn
    target: Option<String>,
    /// How long each target runs
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Make the certificates, tokens and keys of the cases and the seeds of the corpora anew, and stop
    #[arg(long)]
    seeds: bool,
}

impl Fuzz {
    /// Runs the targets in turn, in the order of their names.
    ///
    /// # Errors
    ///
    /// Something is missing, there is no such target, or a target failed. Names the command that keeps the input.
    pub(crate) fn run(&self) -> Result<()> {
        if self.seeds {
            return command::step(&["run", "--quiet", "--package", "hookgate-fuzz-cases", "--example", "seeds"]);
        }
        let mut targets = targets()?;
        if let Some(target) = &self.target {
            ensure!(targets.contains(target), "no target {target}; there are {}", targets.join(", "));
            targets = vec![target.clone()];
        }
        let is_there = nightly::is_installed() && command::is_installed("cargo-fuzz") && command::is_installed("c++");
        ensure!(is_there, NEEDED);
        let failed: Vec<&String> = targets.iter().filter(|target| self.fuzz(target).is_err()).collect();
        let Some(first) = failed.first() else { return Ok(()) };
        bail!(
            "failed: {failed:?}. The inputs are in fuzz/artifacts. Mend the code, and keep each input under a name that says what \
             was wrong: mv fuzz/artifacts/{first}/FILE fuzz/corpus/{first}/NAME"
        )
    }

    fn fuzz(&self, target: &str) -> Result<()> {
        let found = command::target()?.join("fuzz").join(target);
        fs::create_dir_all(&found).with_context(|| format!("making {}", found.display()))?;
        let mut fuzz: Command = nightly::cargo();
        // New inputs go to the first directory, so the committed corpus stays as it is.
        fuzz.args(["fuzz", "run", target]).arg(&found).arg(format!("fuzz/corpus/{target}"));
        fuzz.args(["--", "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"]);
        fuzz.arg(format!("-max_len={BYTES_MAX}")).arg(format!("-max_total_time={}", self.seconds));
        command::run(&mut fuzz)
    }
}

/// The names of all targets, in order.
fn targets() -> Result<Vec<String>> {
    let directory = root().join("fuzz/fuzz_targets");
    let entries = fs::read_dir(&directory).with_context(|| format!("reading {}", directory.display()))?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().trim_end_matches(".rs").to_owned()));
    let mut names: Vec<String> = names.collect::<Result<_>>()?;
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_a_corpus() {
        let targets = targets().expect("the directory of the targets");
        assert!(targets.len() >= 11, "{targets:?}");
        for target in targets {
            let corpus = root().join("fuzz/corpus").join(&target);
            assert!(fs::read_dir(&corpus).is_ok_and(|mut inputs| inputs.next().is_some()), "{}", corpus.display());
        }
    }
}
