//! `cargo xtask ci`: what CI runs, and anyone can. Nothing weaker than `cargo xtask test`.

use std::process::Command;

use anyhow::Result;

use crate::command::{self, cargo};
use crate::test;

/// The licence check comes first, since the tests' closing line is to be the last.
pub(crate) fn run() -> Result<()> {
    if command::is_installed("cargo-deny") {
        command::run(Command::new(cargo()).args(["deny", "check", "licenses", "bans", "sources"]))?;
    }
    test::run()
}
