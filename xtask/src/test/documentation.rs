//! Whether any documentation has examples that Cargo would run.
//!
//! `cargo test --doc` takes many seconds of CPU to find that there is none.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// The folders of the libraries.
const LIBRARIES: [&str; 3] = ["gateway", "tests/support", "benches"];

/// What may stand behind the fence of an example that is Rust (rustdoc, "Documentation tests").
const ATTRIBUTES: [&str; 7] = ["", "rust", "should_panic", "no_run", "ignore", "compile_fail", "standalone_crate"];

/// Whether a doc comment of a library has an example in Rust.
///
/// # Errors
///
/// A file cannot be read.
pub(super) fn has_tests(root: &Path) -> Result<bool> {
    for library in LIBRARIES {
        if is_in(&root.join(library))? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_in(folder: &Path) -> Result<bool> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        let found = match path.extension().is_some_and(|extension| extension == "rs") {
            true => has_example(&fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?),
            false => path.is_dir() && is_in(&path)?,
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A fenced block in Rust, or an indented one, which is taken for Rust.
fn has_example(text: &str) -> bool {
    let mut is_open = false;
    let mut before = "";
    for line in text.lines() {
        let line = line.trim_start();
        let Some(comment) = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")) else {
            is_open = false;
            before = "";
            continue;
        };
        if let Some(info) = comment.trim_start().strip_prefix("```") {
            let is_rust = |word: &str| ATTRIBUTES.contains(&word) || word.starts_with("edition");
            if !is_open && info.split([',', ' ']).all(is_rust) {
                return true;
            }
            is_open = !is_open;
        } else if !is_open && before.is_empty() && comment.starts_with("     ") {
            return true;
        }
        before = comment.trim();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_told_from_other_text() {
        for example in [
            "/// ```\n/// f();\n/// ```\n",
            "//! ```no_run\n",
            "    /// ```rust,ignore\n",
            "/// Text.\n///\n///     f();\n",
        ] {
            assert!(has_example(example), "{example}");
        }
        for text in [
            "/// ```text\n/// a → b\n/// ```\n",
            "//! ```toml\n//! a = 1\n//! ```\n",
            "// ```\n",
            "/// - a list\n///     that goes on\n",
            "fn f() {}\n",
        ] {
            assert!(!has_example(text), "{text}");
        }
    }
}
