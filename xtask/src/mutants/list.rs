//! What there is to change, as cargo-mutants lists it. Must not build or run anything.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::command::{cargo, root};

/// One change of one place.
#[derive(Debug, Deserialize)]
pub(super) struct Mutant {
    /// File, line, column, and what is changed.
    pub(super) name: String,
    pub(super) package: String,
    /// Below the root of the workspace.
    pub(super) file: String,
    /// What is replaced.
    pub(super) span: Span,
    pub(super) replacement: String,
}

impl Mutant {
    /// The beginning of the names of the tests beside it: its module below the root of the crate, and `::`.
    pub(super) fn room(&self) -> String {
        let module = self.file.split_once("/src/").map_or("", |(_, module)| module);
        let room = module.split('/').next().unwrap_or_default().trim_end_matches(".rs");
        format!("{room}::")
    }
}

/// A part of a file. The end is exclusive.
#[derive(Debug, Deserialize)]
pub(super) struct Span {
    pub(super) start: Place,
    pub(super) end: Place,
}

/// A place in a file, from line 1 and column 1. Columns count characters.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// The mutants of the files that match `globs`, in the order of the files.
///
/// # Errors
///
/// cargo-mutants fails.
pub(super) fn of(globs: &[&str]) -> Result<Vec<Mutant>> {
    let mut list: Command = cargo();
    list.args(["mutants", "--package", "hookgate-core", "--package", "hookgate", "--list", "--json"]);
    for glob in globs {
        list.args(["--file", glob]);
    }
    let output = list.current_dir(root()).output().context("starting cargo-mutants")?;
    ensure!(output.status.success(), "cargo-mutants failed: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("reading the list of cargo-mutants")
}
