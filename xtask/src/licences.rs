//! The dependencies against deny.toml: licences, sources, versions, and advisories about them.
//!
//! Owns how cargo-deny is run. A machine without it, or without the database of advisories, is told so loudly, and nothing fails.

use std::process::{Command, Stdio};

use anyhow::Result;

use crate::command::{self, cargo, root};

/// How long the database of advisories may take to arrive, in seconds.
const FETCH_LIMIT: &str = "60";

/// Checks licences, sources and versions. Needs no network.
///
/// # Errors
///
/// A dependency that deny.toml does not allow.
pub(crate) fn check() -> Result<()> {
    if !command::is_installed("cargo-deny") {
        skipped(
            "the licences and sources of the dependencies, and advisories about them",
            "cargo-deny is not installed",
        );
        return Ok(());
    }
    command::step(&["deny", "--log-level", "error", "check", "licenses", "bans", "sources"])
}

/// Checks advisories about the dependencies, by the database of RustSec as it is now.
///
/// # Errors
///
/// An advisory that deny.toml does not accept.
pub(crate) fn check_advisories() -> Result<()> {
    if !command::is_installed("cargo-deny") {
        return Ok(());
    }
    let mut fetch = Command::new("timeout");
    command::without_package(&mut fetch);
    fetch.arg(FETCH_LIMIT).arg(command::cargo_path()).args(["deny", "fetch", "db"]).current_dir(root());
    let fetched = fetch.stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !fetched.is_ok_and(|status| status.success()) {
        skipped(
            "advisories about the dependencies",
            "their database (github.com/RustSec/advisory-db) cannot be fetched",
        );
        return Ok(());
    }
    command::run(cargo().args(["deny", "--offline", "--log-level", "error", "check", "advisories"]))
}

fn skipped(what: &str, why: &str) {
    eprintln!("\n!!! SKIPPED: {what}: {why}.\n");
}
