//! The promises of SECURITY.md: every test that it names exists.
//!
//! Owns how the tables are read: in each table whose last column is headed `test`, the code spans of that column are names of tests, but
//! for names of files. Needs no build.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::command::root;

const DOCUMENT: &str = "SECURITY.md";

/// Where tests are.
const FOLDERS: [&str; 6] = ["fuzz/cases", "gateway", "gateway-ebpf", "tests", "benches", "xtask"];

/// Lines between the attribute of a test and its name, for further attributes.
const ATTRIBUTES: usize = 4;

/// Checks the names.
///
/// # Errors
///
/// The names without a test.
pub(crate) fn check() -> Result<()> {
    let document = fs::read_to_string(root().join(DOCUMENT)).with_context(|| format!("reading {DOCUMENT}"))?;
    let named = named(&document);
    ensure!(!named.is_empty(), "{DOCUMENT} names no test: a table needs a last column that is headed `test`");
    let mut tests = BTreeSet::new();
    for folder in FOLDERS {
        collect(&root().join(folder), &mut tests)?;
    }
    let missing: Vec<_> = named.difference(&tests).collect();
    ensure!(
        missing.is_empty(),
        "{DOCUMENT} names tests that do not exist: {missing:?}. If a test was renamed, write its new name; if it was removed, the \
         promise needs another one"
    );
    println!("promises: {} tests of {DOCUMENT} exist", named.len());
    Ok(())
}

/// The names of tests in the tables of `document`.
fn named(document: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut is_of_tests = false;
    let mut is_in_table = false;
    for line in document.lines() {
        let Some(row) = line.strip_prefix('|').map(|row| row.trim_end().trim_end_matches('|')) else {
            is_in_table = false;
            continue;
        };
        let last = row.rsplit('|').next().unwrap_or_default().trim();
        if !is_in_table {
            is_in_table = true;
            is_of_tests = last == "test" || last.starts_with("test ");
        } else if is_of_tests {
            let spans = last.split('`').skip(1).step_by(2);
            names.extend(spans.filter(|name| !name.contains('.')).map(str::to_owned));
        }
    }
    names
}

/// Adds the names of all tests in the Rust files below `folder`.
fn collect(folder: &Path, tests: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                collect(&path, tests)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            tests.extend(tests_in(&text).map(str::to_owned));
        }
    }
    Ok(())
}

/// The names of the functions that follow `#[test]` or `#[tokio::test]`.
fn tests_in(text: &str) -> impl Iterator<Item = &str> {
    let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    let attributes = (0..lines.len())
        .filter(|at| lines[*at] == "#[test]" || lines[*at].starts_with("#[tokio::test"))
        .collect::<Vec<_>>();
    attributes.into_iter().filter_map(move |at| {
        let below = lines.iter().skip(at + 1).take(ATTRIBUTES);
        let mut names =
            below.filter_map(|line| line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?.split('(').next());
        names.next()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tables_of_tests_name_tests() {
        let document = "| bound | test (`x.rs`) |\n| --- | --- |\n| one | `a_b`, `c` |\n| two | `d` (`y.rs`) |\n\n\
                        | other | why |\n| --- | --- |\n| `e` | `f` |\n\n| promise | test |\n|---|---|\n| `g` | `h` |\n";
        assert_eq!(named(document).into_iter().collect::<Vec<_>>(), ["a_b", "c", "d", "h"]);
    }

    #[test]
    fn only_functions_that_are_tests_count() {
        let text = "fn no_test() {}\n#[test]\nfn one() {}\n    #[test]\n    #[expect(x)]\n    fn two(\n        a: u8,\n    ) {}\n";
        assert_eq!(tests_in(text).collect::<Vec<_>>(), ["one", "two"]);
    }
}
