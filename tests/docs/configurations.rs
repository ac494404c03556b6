//! Every whole configuration of the documentation is accepted by `hookgate check`.

use std::fs;
use std::process::Command;

use crate::BINARY;
use crate::page::{Files, blocks};

/// Pages with whole configurations, and how many each has.
const PAGES: [(&str, usize); 7] = [
    ("README.md", 1),
    ("docs/acme.md", 1),
    ("docs/configuration.md", 1),
    ("docs/handlers.md", 1),
    ("docs/migration.md", 2),
    ("docs/quick-start.md", 6),
    ("docs/send.md", 1),
];

#[test]
fn every_whole_configuration_is_accepted() {
    let files = Files::new();
    for (page, count) in PAGES {
        let whole: Vec<_> = blocks(page, "toml").into_iter().filter(|block| is_whole(block)).collect();
        assert_eq!(whole.len(), count, "{page} has another number of whole configurations: write it here");
        for (index, block) in whole.iter().enumerate() {
            let path = files.path("hookgate.toml");
            fs::write(&path, block).unwrap();
            let output = Command::new(BINARY).arg("check").arg("--config").arg(&path).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{page}, configuration {index}: {said}\n{block}");
        }
    }
}

fn is_whole(block: &str) -> bool {
    ["[listen]", "[[certificate]]", "[[provider]]", "[[route]]"].iter().all(|section| block.contains(section))
}
