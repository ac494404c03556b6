//! `docs/rfc5280.md` names tests that exist.

#![expect(clippy::disallowed_methods, reason = "the core reads no files; its tests may")]

use std::fs;
use std::path::{Path, PathBuf};

/// The Rust files below this directory.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let found = entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] });
    found.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

#[test]
fn every_test_that_the_page_about_path_validation_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("../../docs/rfc5280.md")).unwrap();
    let code: String =
        sources(&root.join("src/identity")).iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    // A test's name has four words or more, and no other name on the page has.
    let is_test = |text: &&str| {
        text.matches('_').count() > 2 && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    let named: Vec<&str> = page.split('`').skip(1).step_by(2).filter(is_test).collect();
    assert!(named.len() > 40, "{named:?}");
    for name in named {
        assert!(code.contains(&format!("#[test]\nfn {name}()")), "no test is called {name}");
    }
}
