//! The files of the daemon's crates, and the module of each.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// The folders that are read, without `target` in them.
const FOLDERS: [&str; 2] = ["gateway", "gateway-ebpf"];

/// Files that are tests by their name.
const TEST_FILES: [&str; 2] = ["tests.rs", "testing.rs"];

/// A file of the repository.
#[derive(Clone, Debug)]
pub(super) struct File {
    /// From the root of the repository, with `/`.
    pub(super) path: String,
    pub(super) text: String,
}

/// The crate and module of a Rust file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// From the root of the repository.
    pub(super) path: String,
    /// The source folder of its crate: `gateway/src`.
    pub(super) folder: String,
    /// The module that the file is: empty for `lib.rs` and `main.rs`.
    pub(super) module: Vec<String>,
}

impl Place {
    /// `None` if the file is in no crate's source folder, or is a test by its name.
    pub(super) fn of(path: &str) -> Option<Self> {
        let (krate, below) = path.split_once("/src/")?;
        let below = below.strip_suffix(".rs")?;
        let mut module: Vec<String> = below.split('/').map(str::to_owned).collect();
        let is_test = module.iter().any(|part| part == "tests")
            || TEST_FILES.iter().any(|name| path.ends_with(&format!("/{name}")));
        if is_test {
            return None;
        }
        let is_root = module.len() == 1 && ["lib", "main"].contains(&module[0].as_str());
        if is_root || module.last().is_some_and(|last| last == "mod") {
            module.pop();
        }
        Some(Self { path: path.to_owned(), folder: format!("{krate}/src"), module })
    }
}

/// Every Rust file and every manifest below [`FOLDERS`], and the workspace's manifest.
///
/// # Errors
///
/// A file cannot be read.
pub(super) fn read(root: &Path) -> Result<Vec<File>> {
    let mut files = Vec::new();
    add(root, "Cargo.toml", &mut files)?;
    for folder in FOLDERS {
        walk(root, folder, &mut files)?;
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(files)
}

fn walk(root: &Path, folder: &str, files: &mut Vec<File>) -> Result<()> {
    for entry in fs::read_dir(root.join(folder)).with_context(|| format!("reading {folder}"))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{folder}/{name}");
        if entry.file_type()?.is_dir() {
            if name != "target" {
                walk(root, &path, files)?;
            }
        } else if name.ends_with(".rs") || name == "Cargo.toml" {
            add(root, &path, files)?;
        }
    }
    Ok(())
}

fn add(root: &Path, path: &str, files: &mut Vec<File>) -> Result<()> {
    let text = fs::read_to_string(root.join(path)).with_context(|| format!("reading {path}"))?;
    files.push(File { path: path.to_owned(), text });
    Ok(())
}
