//! The problems of ranges of addresses, as a closed list with their messages.
//!
//! Owns these messages. Must not decide: `ranges` finds the problems.

use std::path::PathBuf;

use hookgate_core::ranges::RangeError;

/// A problem of ranges. The message says what to write instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RangeProblem {
    /// Not a range.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// A file of ranges cannot be parsed.
    #[error("{}{}: {reason}", .path.display(), place(.line))]
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1; only of a plain file.
        line: Option<usize>,
        /// What is wrong.
        reason: String,
    },
    /// A file without ranges, or with all of them subtracted: it may come from a broken feed.
    #[error("{} holds no range; write one range per line, or remove the file from the list", .path.display())]
    NoRange {
        /// The file.
        path: PathBuf,
    },
    /// A pointer into a document that is no JSON.
    #[error("a plain list has no pointer; remove pointer, or write format = \"json\"")]
    PointerIntoPlain,
    /// A check without ranges.
    #[error(
        "there are no ranges to check by; write source_ranges, source_range_files or source_range_urls, or remove source_ranges_check"
    )]
    CheckWithoutRanges,
}

fn place(line: &Option<usize>) -> String {
    line.map(|line| format!(":{line}")).unwrap_or_default()
}
