//! `cargo xtask mutants`: changes the code that decides, one place at a time, and looks whether a test notices.
//!
//! Owns which files are changed: those of `gateway/core` that say who a peer is and what it may do. Takes hours for all of them, so it is
//! no part of `cargo xtask test`.

use anyhow::{Result, ensure};

use crate::command::{self, cargo};

/// The files that are changed.
const FILES: [&str; 5] = [
    "gateway/core/src/identity/**",
    "gateway/core/src/auth/**",
    "gateway/core/src/route/**",
    "gateway/core/src/route.rs",
    "gateway/core/src/ranges.rs",
];

/// Runs cargo-mutants.
#[derive(Debug, clap::Args)]
pub(crate) struct Mutants {
    /// Only files whose path matches this glob
    #[arg(long)]
    file: Option<String>,
    /// Only this part of all mutants: `0/50` is every fiftieth, from the first
    #[arg(long, value_name = "K/N")]
    shard: Option<String>,
    /// Print the mutants, and test none
    #[arg(long)]
    list: bool,
}

impl Mutants {
    /// Tests the mutants. `target/mutants.out/missed.txt` names those that no test noticed.
    ///
    /// # Errors
    ///
    /// cargo-mutants is missing, or a mutant was missed.
    pub(crate) fn run(&self) -> Result<()> {
        ensure!(
            command::is_installed("cargo-mutants"),
            "cargo-mutants is missing: run `cargo install --locked cargo-mutants`, then this again"
        );
        let mut mutants = cargo();
        mutants.args(["mutants", "--package", "hookgate-core", "--output", "target", "--colors", "never"]);
        let files = self.file.as_deref().map_or(FILES.to_vec(), |file| vec![file]);
        for file in files {
            mutants.args(["--file", file]);
        }
        if let Some(shard) = &self.shard {
            mutants.args(["--shard", shard]);
        }
        if self.list {
            mutants.arg("--list");
        }
        // Doc tests compile one program each, and test what the compiler enforces anyway.
        mutants.args(["--", "--lib"]);
        command::run(&mut mutants)
    }
}
