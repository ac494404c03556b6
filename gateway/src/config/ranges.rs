//! Ranges of addresses: lists in the configuration, and files of them as operators keep them and senders publish them.
//!
//! Owns the formats of such files, and what a provider's ranges mean where nothing is said about checking them. Merges and looks
//! up nothing: `ranges` does.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::document::{Report, WordOr};
use super::error::Problem;
use super::file::{self, MAXIMUM_FILE_BYTES};
use super::provider::RawProvider;
use hookgate_core::prefix::{Prefix, PrefixError};
use hookgate_core::ranges::{Ranges, SourceCheck};

/// Most files of one list: senders publish one for each of their regions.
const MAXIMUM_FILES: usize = 64;

const WRITE_FILE: &str = "file = \"goog.json\": the file with the ranges";
const WRITE_RANGES: &str = "ranges, such as [\"192.0.2.0/24\", \"2001:db8::/32\"], or leave the key out";

/// What can be wrong with ranges.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RangeProblem {
    /// Not a range.
    #[error(transparent)]
    Prefix(#[from] PrefixError),
    /// Something in a file of ranges.
    #[error("{}{}: {reason}", .path.display(), place(.line))]
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1, of a plain file.
        line: Option<usize>,
        /// What is wrong.
        reason: String,
    },
    /// A list that comes to nothing. A broken feed looks like that.
    #[error("{} holds no range; write one a line, or take the file out", .path.display())]
    NoRange {
        /// The file.
        path: PathBuf,
    },
    /// A check without anything to check by.
    #[error("there are no ranges to check by; write source_ranges or source_range_files, or leave the check out")]
    CheckWithoutRanges,
}

fn place(line: &Option<usize>) -> String {
    line.map(|line| format!(":{line}")).unwrap_or_default()
}

/// A file of ranges, without those of another.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRangeFile {
    file: Option<Spanned<String>>,
    minus: Option<Spanned<String>>,
}

/// An array of ranges as it stands in the file.
pub(super) type RawRanges = Option<Spanned<Vec<Spanned<String>>>>;
/// An array of files of ranges as it stands in the file.
pub(super) type RawRangeFiles = Option<Spanned<Vec<Spanned<WordOr<RawRangeFile>>>>>;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawSourceCheck {
    Off,
    Count,
    Refuse,
}

/// Where one provider sends from, as it was written.
pub(super) struct ProviderRanges {
    pub(super) prefixes: Vec<Prefix>,
    pub(super) check: SourceCheck,
}

/// Parses the ranges of every provider, and how they are checked. A provider with ranges is refused from elsewhere unless it says
/// otherwise: whoever writes them means them.
pub(super) fn of_providers(raw: &[Spanned<RawProvider>], report: &mut Report<'_>) -> Vec<ProviderRanges> {
    let mut of_provider = |provider: &Spanned<RawProvider>| {
        let fields = provider.get_ref();
        check_emptiness(fields, report);
        let has_ranges = fields.source_ranges.is_some() || fields.source_range_files.is_some();
        let check = match fields.source_ranges_check.as_ref().map(|check| (check, *check.get_ref())) {
            Some((_, RawSourceCheck::Off)) => SourceCheck::Off,
            Some((at, RawSourceCheck::Count | RawSourceCheck::Refuse)) if !has_ranges => {
                report.error(at, RangeProblem::CheckWithoutRanges.into());
                SourceCheck::Off
            }
            Some((_, RawSourceCheck::Count)) => SourceCheck::Count,
            None if !has_ranges => SourceCheck::Off,
            Some((_, RawSourceCheck::Refuse)) | None => SourceCheck::Refuse,
        };
        let prefixes = prefixes(fields.source_ranges.as_ref(), fields.source_range_files.as_ref(), report);
        ProviderRanges { prefixes, check }
    };
    raw.iter().map(&mut of_provider).collect()
}

/// Parses a list of ranges and a list of files of them; what is at fault is reported and left out.
pub(super) fn prefixes(
    listed: Option<&Spanned<Vec<Spanned<String>>>>,
    files: Option<&Spanned<Vec<Spanned<WordOr<RawRangeFile>>>>>,
    report: &mut Report<'_>,
) -> Vec<Prefix> {
    let mut prefixes = Vec::new();
    for text in listed.into_iter().flat_map(Spanned::get_ref) {
        match text.get_ref().parse() {
            Ok(prefix) => prefixes.push(prefix),
            Err(error) => report.error(text, RangeProblem::Prefix(error).into()),
        }
    }
    if let Some(files) = files {
        let count = files.get_ref().len();
        if count > MAXIMUM_FILES {
            report.error(files, Problem::TooMany { count, maximum: MAXIMUM_FILES });
            return prefixes;
        }
        for entry in files.get_ref() {
            match read_entry(entry, report) {
                Ok(found) => prefixes.extend(found),
                Err(problem) => report.error(entry, problem),
            }
        }
    }
    prefixes
}

/// An array that is there and holds nothing is reported: nobody writes that and means it.
fn check_emptiness(provider: &RawProvider, report: &mut Report<'_>) {
    if let Some(ranges) = provider.source_ranges.as_ref().filter(|ranges| ranges.get_ref().is_empty()) {
        report.empty(ranges, Problem::Empty { write: WRITE_RANGES });
    }
    if let Some(files) = provider.source_range_files.as_ref().filter(|files| files.get_ref().is_empty()) {
        report.empty(files, Problem::Empty { write: "files of ranges, or leave the key out" });
    }
}

fn read_entry(entry: &Spanned<WordOr<RawRangeFile>>, report: &mut Report<'_>) -> Result<Vec<Prefix>, Problem> {
    let (name, minus) = match entry.get_ref() {
        WordOr::Word(name) => (name, None),
        WordOr::Table(RawRangeFile { file: Some(name), minus }) => (name.get_ref(), minus.as_ref()),
        WordOr::Table(RawRangeFile { file: None, .. }) => {
            report.missing(entry, "file", WRITE_FILE);
            return Ok(Vec::new());
        }
    };
    let path = report.resolve(name);
    let prefixes = read(&path)?;
    let Some(minus) = minus else { return Ok(prefixes) };
    let left = Ranges::new(&prefixes).minus(&Ranges::new(&read(&report.resolve(minus.get_ref()))?));
    if left.is_empty() { Err(RangeProblem::NoRange { path }.into()) } else { Ok(left) }
}

/// The ranges of a file; never none.
fn read(path: &Path) -> Result<Vec<Prefix>, Problem> {
    let bytes = file::read_named(path, MAXIMUM_FILE_BYTES)?;
    let prefixes =
        parse(&bytes).map_err(|(line, reason)| RangeProblem::File { path: path.to_owned(), line, reason })?;
    if prefixes.is_empty() { Err(RangeProblem::NoRange { path: path.to_owned() }.into()) } else { Ok(prefixes) }
}

/// What Google publishes, as <https://www.gstatic.com/ipranges/goog.json>. Times and tokens that stand beside are not looked at.
#[derive(Deserialize)]
struct Published {
    prefixes: Vec<PublishedPrefix>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PublishedPrefix {
    ipv4_prefix: Option<String>,
    ipv6_prefix: Option<String>,
}

/// Tells the formats apart by their first character.
fn parse(bytes: &[u8]) -> Result<Vec<Prefix>, (Option<usize>, String)> {
    let text = std::str::from_utf8(bytes).map_err(|error| (None, error.to_string()))?;
    let json = |error: serde_json::Error| (None, format!("no JSON of ranges: {error}"));
    let prefix = |text: &str| text.parse::<Prefix>().map_err(|error| (None, error.to_string()));
    match text.trim_start().bytes().next() {
        Some(b'[') => {
            let listed: Vec<String> = serde_json::from_str(text).map_err(json)?;
            listed.iter().map(|text| prefix(text)).collect()
        }
        Some(b'{') => {
            let published: Published = serde_json::from_str(text).map_err(json)?;
            let text = |entry: &PublishedPrefix| entry.ipv4_prefix.clone().or(entry.ipv6_prefix.clone());
            let none = || (None, "an entry of prefixes has neither ipv4Prefix nor ipv6Prefix".to_owned());
            published.prefixes.iter().map(|entry| prefix(&text(entry).ok_or_else(none)?)).collect()
        }
        _ => parse_plain(text),
    }
}

/// One range a line; the rest of a line after `#` is a comment.
fn parse_plain(text: &str) -> Result<Vec<Prefix>, (Option<usize>, String)> {
    let lines = text.lines().zip(1..).map(|(line, number)| {
        let range = line.split('#').next().unwrap_or_default().trim();
        (range, number)
    });
    let ranges = lines.filter(|(range, _)| !range.is_empty());
    ranges
        .map(|(range, number)| range.parse().map_err(|error: PrefixError| (Some(number), error.to_string())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_formats_of_files_are_told_apart() {
        let check = |text: &str, expected: Result<&[&str], &str>| match (parse(text.as_bytes()), expected) {
            (Ok(found), Ok(expected)) => {
                assert_eq!(found.iter().map(Prefix::to_string).collect::<Vec<_>>(), expected, "{text}");
            }
            (Err((line, reason)), Err(expected)) => {
                let found = format!("{}{reason}", place(&line));
                assert!(found.contains(expected), "{text}: {found}");
            }
            (found, _) => unreachable!("{text}: {found:?}"),
        };
        check("192.0.2.0/24\n", Ok(&["192.0.2.0/24"]));
        check("# ours\r\n\r\n 192.0.2.7 # one\r\n2001:db8::/32", Ok(&["192.0.2.7/32", "2001:db8::/32"]));
        check("192.0.2.0/24\n192.0.2.1/24\n", Err(":2`192.0.2.1/24` has bits set"));
        check("<html>", Err(":1`<html>` is no IP address"));
        check("", Ok(&[]));
        check(r#"["44.242.69.192", "52.89.71.0/24"]"#, Ok(&["44.242.69.192/32", "52.89.71.0/24"]));
        check(r#"["44.242.69.192", 7]"#, Err("no JSON of ranges"));
        check(r#"["44.242.69.256"]"#, Err("no IP address"));
        let google = r#"{"syncToken": "1", "creationTime": "2026-06-01T00:00:00",
            "prefixes": [{"ipv4Prefix": "8.8.4.0/24"}, {"ipv6Prefix": "2001:4860::/32", "service": "Google Cloud"}]}"#;
        check(google, Ok(&["8.8.4.0/24", "2001:4860::/32"]));
        check(r#"{"prefixes": [{"scope": "us"}]}"#, Err("neither ipv4Prefix nor ipv6Prefix"));
        check(r#"{"addresses": []}"#, Err("missing field `prefixes`"));
        check(r#"{"prefixes": []}"#, Ok(&[]));
    }
}
