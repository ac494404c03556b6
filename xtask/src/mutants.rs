//! `cargo xtask mutants`: changes the code that decides, one place at a time, and looks whether a test notices.
//!
//! Owns which files are changed: those that say who a peer is and what it may do. Takes hours for all of them, so it is no part of
//! `cargo xtask test`, and changes a sample unless told otherwise. The mutants that are left out, each with a reason, are in
//! `.cargo/mutants.toml`.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::command::{self, cargo, root};

/// The files that are changed. The tests of their own package judge a mutant.
const FILES: [&str; 7] = [
    "gateway/core/src/identity/**",
    "gateway/core/src/auth/**",
    "gateway/core/src/route/**",
    "gateway/core/src/route.rs",
    "gateway/core/src/ranges.rs",
    "gateway/src/config/ranges.rs",
    "gateway/src/config/range_url.rs",
];

/// The least share of mutants, in percent, that the tests must notice.
const SCORE_MIN: f64 = 95.0;

/// Runs cargo-mutants.
#[derive(Debug, clap::Args)]
pub(crate) struct Mutants {
    /// Only files whose path matches this glob
    #[arg(long)]
    file: Option<String>,
    /// About so many mutants, evenly spread over the files: always the same ones, as long as the code is the same
    #[arg(long, value_name = "COUNT", default_value_t = 200)]
    sample: usize,
    /// Every mutant; takes hours
    #[arg(long, conflicts_with = "sample")]
    all: bool,
    /// Only this part of all mutants: `3/50` is every fiftieth, from the fourth
    #[arg(long, value_name = "K/N", conflicts_with_all = ["sample", "all"])]
    shard: Option<String>,
    /// Print the mutants, and test none
    #[arg(long)]
    list: bool,
}

impl Mutants {
    /// Tests the mutants, and prints which share of them the tests notice. `target/mutants.out/missed.txt` names those that no test
    /// noticed.
    ///
    /// # Errors
    ///
    /// cargo-mutants is missing or fails, or too few mutants were noticed.
    pub(crate) fn run(&self) -> Result<()> {
        ensure!(
            command::is_installed("cargo-mutants"),
            "cargo-mutants is missing: run `cargo install --locked cargo-mutants`, then this again"
        );
        let all = self.count()?;
        ensure!(all > 0, "no file has a mutant");
        let shard = self.shard.clone().or_else(|| {
            let shards = all.div_ceil(self.sample.max(1));
            (!self.all && shards > 1).then(|| format!("0/{shards}"))
        });
        let mut mutants = self.mutants();
        if let Some(shard) = &shard {
            mutants.args(["--shard", shard, "--sharding", "round-robin"]);
        }
        if self.list {
            return command::run(mutants.arg("--list"));
        }
        // A failing property needs no smaller example here.
        mutants.env("PROPTEST_MAX_SHRINK_ITERS", "0").env("PROPTEST_CASES", "64");
        mutants.args(["--profile", "mutants", "--output"]).arg(command::target()?);
        // 2: some were missed; 3: the tests of some did not end. Both are part of the score.
        match command::status(&mut mutants)? {
            (_, status) if matches!(status.code(), Some(0 | 2 | 3)) => judge(all),
            (line, status) => bail!("{line}: {status}"),
        }
    }

    /// cargo-mutants, with the files and how they are built.
    fn mutants(&self) -> Command {
        let mut mutants = cargo();
        mutants.args(["mutants", "--package", "hookgate-core", "--package", "hookgate", "--colors", "never"]);
        // Unit tests alone: a doc test compiles one program each, and an end-to-end test starts a daemon.
        mutants.arg("--cargo-arg=--lib");
        for file in self.file.as_deref().map_or(FILES.to_vec(), |file| vec![file]) {
            mutants.args(["--file", file]);
        }
        mutants
    }

    /// The number of all mutants of the files.
    fn count(&self) -> Result<usize> {
        let output = self.mutants().arg("--list").current_dir(root()).output().context("starting cargo-mutants")?;
        ensure!(output.status.success(), "cargo-mutants failed: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).lines().count())
    }
}

/// Prints the score of the run that has ended.
fn judge(all: usize) -> Result<()> {
    let directory = command::target()?.join("mutants.out");
    let count = |name: &str| {
        let path = directory.join(name);
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok::<usize, anyhow::Error>(text.lines().count())
    };
    let (caught, missed) = (count("caught.txt")?, count("missed.txt")?);
    let (endless, unviable) = (count("timeout.txt")?, count("unviable.txt")?);
    let Some(score) = score(caught + endless, missed) else { bail!("no mutant of the sample could be built") };
    println!(
        "{score:.1} % noticed: {} of {} mutants ({endless} of them by tests that did not end); {unviable} more do not compile. The \
         files have {all} mutants.",
        caught + endless,
        caught + endless + missed,
    );
    ensure!(
        score >= SCORE_MIN,
        "less than {SCORE_MIN} % were noticed; {} names the others",
        directory.join("missed.txt").display()
    );
    Ok(())
}

/// The share of mutants that were noticed, in percent; `None` if there were none.
fn score(noticed: usize, missed: usize) -> Option<f64> {
    let all = noticed + missed;
    // A few thousand at most.
    (all > 0).then(|| {
        100.0 * f64::from(u32::try_from(noticed).unwrap_or(0)) / f64::from(u32::try_from(all).unwrap_or(u32::MAX))
    })
}
