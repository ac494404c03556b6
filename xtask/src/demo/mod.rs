//! `cargo xtask demo`: shows what the gateway does.
//!
//! Builds the daemon, makes a throwaway PKI, and starts two handlers and the gateway on loopback. Sends the providers' documented
//! requests with the right certificates, then with wrong ones, without any (also by `hookgate send`), to a handler that is
//! down, and again after an operator has admitted a new authority; as root also through the pre-filter. Prints each answer, and whether it was the expected one.

mod durable;
mod environment;
mod filter;
mod rotation;
mod send;
mod table;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;

use crate::command::{self, cargo};
use crate::setup;
use environment::Environment;

/// Shows the gateway at work.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Keep everything running at the end, and print commands to try
    #[arg(long)]
    keep: bool,
    /// Show this program, instead of the one that is built first
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

impl Demo {
    /// Runs the demo.
    ///
    /// # Errors
    ///
    /// Something cannot be built or started, or an answer was not the expected one.
    pub(crate) fn run(&self) -> Result<()> {
        setup::install(&[setup::Task::Demo])?;
        let binary = self.binary.clone().map_or_else(build, Ok)?;
        let environment = Environment::start(&binary)?;
        let mut rows = environment.send_all()?;
        rows.extend(filter::send_all(&binary)?);
        print!("{}", table::render(&rows));
        let unexpected = rows.iter().filter(|row| !row.as_expected).count();
        println!("{} requests, {unexpected} not as expected", rows.len());
        if self.keep {
            environment.wait()?;
        }
        ensure!(unexpected == 0, "{unexpected} requests were not answered as expected; see the table");
        Ok(())
    }
}

/// Builds the daemon. Returns its path.
fn build() -> Result<PathBuf> {
    println!("building hookgate …");
    // With the features of the workspace, which xtask was built with: its dependencies are not built again.
    command::run(cargo().args(["build", "--quiet", "--workspace", "--bin", "hookgate"]))?;
    Ok(command::target()?.join("debug/hookgate"))
}
