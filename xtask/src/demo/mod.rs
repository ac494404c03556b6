//! `cargo xtask demo`: the main job, shown.
//!
//! Builds the daemon, makes a throwaway PKI, starts two handlers and the gateway on loopback, sends the providers' documented
//! requests with the right certificates and then with wrong ones, as root also through the pre-filter, and prints what happened, as expected or not.

mod cast;
mod foreign;
mod table;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;

use crate::command::{self, cargo};
use crate::setup;
use cast::Cast;

/// What to show.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Leave everything running at the end, and print commands to try
    #[arg(long)]
    keep: bool,
}

impl Demo {
    /// Runs the demo, and fails where anything was not as expected.
    pub(crate) fn run(&self) -> Result<()> {
        setup::install(&[setup::Task::Demo])?;
        let binary = build()?;
        let cast = Cast::assemble(&binary)?;
        let mut rows = cast.play()?;
        rows.extend(foreign::play(&binary)?);
        print!("{}", table::render(&rows));
        let unexpected = rows.iter().filter(|row| !row.as_expected).count();
        println!("{} requests, {unexpected} not as expected", rows.len());
        if self.keep {
            cast.keep()?;
        }
        ensure!(unexpected == 0, "not everything was as expected; see the table");
        Ok(())
    }
}

/// Builds the daemon, and says where it is.
fn build() -> Result<PathBuf> {
    println!("building hookgate …");
    command::run(cargo().args(["build", "--quiet", "--package", "hookgate"]))?;
    Ok(command::target()?.join("debug/hookgate"))
}
