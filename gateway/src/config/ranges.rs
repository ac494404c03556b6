//! Ranges of addresses: lists in the configuration, and files that operators keep or senders publish.
//!
//! Owns the formats of such files, and the default of `source_ranges_check`. Must not merge ranges or look addresses up:
//! `hookgate_core::ranges` does.

use std::path::Path;

use ipnet::IpNet;
use serde::Deserialize;
use toml::Spanned;

use super::document::WordOr;
use super::error::{Problem, RangeProblem};
use super::file::{self, MAXIMUM_FILE_BYTES};
use super::report::Report;
use hookgate_core::ranges::{self, Ranges, SourceCheck};

/// The most files of one list. Some senders publish one file per region.
const MAXIMUM_FILES: usize = 64;

const WRITE_FILE: &str = "file = \"goog.json\": the file with the ranges";
const WRITE_RANGES: &str = "ranges, such as [\"192.0.2.0/24\", \"2001:db8::/32\"], or remove the key";

/// A file of ranges, minus the ranges of another file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRangeFile {
    file: Option<Spanned<String>>,
    minus: Option<Spanned<String>>,
}

/// An array of ranges as written.
pub(super) type RawRanges = Option<Spanned<Vec<Spanned<String>>>>;
/// An array of files of ranges as written.
pub(super) type RawRangeFiles = Option<Spanned<Vec<Spanned<WordOr<RawRangeFile>>>>>;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawSourceCheck {
    Off,
    Count,
    Refuse,
}

/// The ranges of one provider as written.
pub(super) struct ProviderRanges {
    pub(super) prefixes: Vec<IpNet>,
    pub(super) check: SourceCheck,
    pub(super) files: Vec<RangeFile>,
}

/// What shows whether a file of ranges was cut since it was read before.
#[derive(Clone, Debug)]
pub(super) struct RangeFile {
    /// As the document names it.
    pub(super) name: String,
    /// A last line without a line break: it may be the beginning of another one.
    pub(super) open_end: Option<IpNet>,
    /// What counts of it if `minus` is a plain file, and what that file leaves out. A JSON document that is cut is an error.
    pub(super) kept: Ranges,
    pub(super) left_out: Ranges,
}

/// What a provider's table says about its addresses, as written.
pub(super) struct RawSources<'r> {
    pub(super) ranges: &'r RawRanges,
    pub(super) files: &'r RawRangeFiles,
    /// Whether there are lists that are fetched.
    pub(super) has_urls: bool,
    pub(super) check: Option<&'r Spanned<RawSourceCheck>>,
}

/// Parses the ranges of a provider, and how they are checked. If there are ranges, the default is to refuse requests from
/// other addresses.
pub(super) fn of_provider(raw: &RawSources<'_>, report: &mut Report<'_>) -> ProviderRanges {
    check_emptiness(raw, report);
    let has_ranges = raw.ranges.is_some() || raw.files.is_some() || raw.has_urls;
    let check = match raw.check.map(|check| (check, *check.get_ref())) {
        Some((_, RawSourceCheck::Off)) => SourceCheck::Off,
        Some((at, RawSourceCheck::Count | RawSourceCheck::Refuse)) if !has_ranges => {
            report.error(at, RangeProblem::CheckWithoutRanges.into());
            SourceCheck::Off
        }
        Some((_, RawSourceCheck::Count)) => SourceCheck::Count,
        None if !has_ranges => SourceCheck::Off,
        Some((_, RawSourceCheck::Refuse)) | None => SourceCheck::Refuse,
    };
    let (prefixes, files) = read_all(raw.ranges.as_ref(), raw.files.as_ref(), report);
    ProviderRanges { prefixes, check, files }
}

/// Parses a list of ranges and a list of files of ranges. Reports what is wrong, and leaves it out.
pub(super) fn prefixes(
    listed: Option<&Spanned<Vec<Spanned<String>>>>,
    files: Option<&Spanned<Vec<Spanned<WordOr<RawRangeFile>>>>>,
    report: &mut Report<'_>,
) -> Vec<IpNet> {
    read_all(listed, files, report).0
}

fn read_all(
    listed: Option<&Spanned<Vec<Spanned<String>>>>,
    files: Option<&Spanned<Vec<Spanned<WordOr<RawRangeFile>>>>>,
    report: &mut Report<'_>,
) -> (Vec<IpNet>, Vec<RangeFile>) {
    let (mut prefixes, mut read) = (Vec::new(), Vec::new());
    for text in listed.into_iter().flat_map(Spanned::get_ref) {
        match ranges::parse(text.get_ref()) {
            Ok(range) => prefixes.push(range),
            Err(error) => report.error(text, RangeProblem::Range(error).into()),
        }
    }
    if let Some(files) = files {
        let count = files.get_ref().len();
        if count > MAXIMUM_FILES {
            report.error(files, Problem::TooMany { count, maximum: MAXIMUM_FILES });
            return (prefixes, read);
        }
        for entry in files.get_ref() {
            match read_entry(entry, report) {
                Ok(Some((found, file))) => {
                    prefixes.extend(found);
                    read.push(file);
                }
                Ok(None) => {}
                Err(problem) => report.error(entry, problem),
            }
        }
    }
    (prefixes, read)
}

/// Reports empty arrays: they are mistakes.
fn check_emptiness(raw: &RawSources<'_>, report: &mut Report<'_>) {
    if let Some(ranges) = raw.ranges.as_ref().filter(|ranges| ranges.get_ref().is_empty()) {
        report.empty(ranges, Problem::Empty { write: WRITE_RANGES });
    }
    if let Some(files) = raw.files.as_ref().filter(|files| files.get_ref().is_empty()) {
        report.empty(files, Problem::Empty { write: "files of ranges, or remove the key" });
    }
}

fn read_entry(
    entry: &Spanned<WordOr<RawRangeFile>>,
    report: &mut Report<'_>,
) -> Result<Option<(Vec<IpNet>, RangeFile)>, Problem> {
    let (name, minus) = match entry.get_ref() {
        WordOr::Word(name) => (name, None),
        WordOr::Table(RawRangeFile { file: Some(name), minus }) => (name.get_ref(), minus.as_ref()),
        WordOr::Table(RawRangeFile { file: None, .. }) => {
            report.missing(entry, "file", WRITE_FILE);
            return Ok(None);
        }
    };
    let path = report.resolve(name);
    let Document { prefixes, open_end, .. } = read(&path)?;
    let mut file = RangeFile { name: name.clone(), open_end, kept: Ranges::default(), left_out: Ranges::default() };
    let Some(minus) = minus else { return Ok(Some((prefixes, file))) };
    let taken = read(&report.resolve(minus.get_ref()))?;
    let whole = Ranges::new(&prefixes);
    let left = whole.minus(&Ranges::new(&taken.prefixes));
    if left.is_empty() {
        return Err(RangeProblem::NoRange { path }.into());
    }
    if taken.is_plain {
        file.kept = Ranges::new(&left);
        file.left_out = Ranges::new(&whole.minus(&file.kept));
    }
    Ok(Some((left, file)))
}

/// What a file of ranges says.
struct Document {
    /// At least one.
    prefixes: Vec<IpNet>,
    is_plain: bool,
    /// As [`RangeFile::open_end`].
    open_end: Option<IpNet>,
}

fn read(path: &Path) -> Result<Document, Problem> {
    let bytes = file::read_named(path, MAXIMUM_FILE_BYTES)?;
    let prefixes =
        parse(&bytes).map_err(|(line, reason)| RangeProblem::File { path: path.to_owned(), line, reason })?;
    if prefixes.is_empty() {
        return Err(RangeProblem::NoRange { path: path.to_owned() }.into());
    }
    let is_plain = !matches!(bytes.trim_ascii_start().first(), Some(b'[' | b'{'));
    let open_end = if is_plain { open_end(&bytes) } else { None };
    Ok(Document { prefixes, is_plain, open_end })
}

/// The range in a last line that has neither a line break nor a comment after it.
fn open_end(text: &[u8]) -> Option<IpNet> {
    let last = text.rsplit(|byte| *byte == b'\n').next().filter(|line| !line.contains(&b'#'))?;
    ranges::parse(std::str::from_utf8(last).ok()?).ok()
}

/// The format of Google, such as <https://www.gstatic.com/ipranges/goog.json>. Other members, such as times, are ignored.
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

/// Parses a file. The first character tells the format.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<IpNet>, (Option<usize>, String)> {
    let text = std::str::from_utf8(bytes).map_err(|error| (None, error.to_string()))?;
    let json = |error: serde_json::Error| (None, format!("not valid JSON of ranges: {error}"));
    let range = |text: &str| ranges::parse(text).map_err(|error| (None, error.to_string()));
    match text.trim_start().bytes().next() {
        Some(b'[') => {
            let listed: Vec<String> = serde_json::from_str(text).map_err(json)?;
            listed.iter().map(|text| range(text)).collect()
        }
        Some(b'{') => {
            let published: Published = serde_json::from_str(text).map_err(json)?;
            let mut prefixes = Vec::with_capacity(published.prefixes.len());
            for PublishedPrefix { ipv4_prefix, ipv6_prefix } in published.prefixes {
                if ipv4_prefix.is_none() && ipv6_prefix.is_none() {
                    return Err((None, "an entry of prefixes has neither ipv4Prefix nor ipv6Prefix".to_owned()));
                }
                for text in [ipv4_prefix, ipv6_prefix].into_iter().flatten() {
                    prefixes.push(range(&text)?);
                }
            }
            Ok(prefixes)
        }
        _ => parse_plain(text),
    }
}

/// One range per line; the rest of a line after `#` is a comment.
pub(super) fn parse_plain(text: &str) -> Result<Vec<IpNet>, (Option<usize>, String)> {
    let lines = text.lines().zip(1..).map(|(line, number)| {
        let range = line.split('#').next().unwrap_or_default().trim();
        (range, number)
    });
    let written = lines.filter(|(range, _)| !range.is_empty());
    written.map(|(range, number)| ranges::parse(range).map_err(|error| (Some(number), error.to_string()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_formats_of_files_are_told_apart() {
        let check = |text: &str, expected: Result<&[&str], &str>| match (parse(text.as_bytes()), expected) {
            (Ok(found), Ok(expected)) => {
                assert_eq!(found.iter().map(IpNet::to_string).collect::<Vec<_>>(), expected, "{text}");
            }
            (Err((line, reason)), Err(expected)) => {
                let place = line.map(|line| format!(":{line}")).unwrap_or_default();
                let found = format!("{place}{reason}");
                assert!(found.contains(expected), "{text}: {found}");
            }
            (found, _) => unreachable!("{text}: {found:?}"),
        };
        check("192.0.2.0/24\n", Ok(&["192.0.2.0/24"]));
        check("# ours\r\n\r\n 192.0.2.7 # one\r\n2001:db8::/32", Ok(&["192.0.2.7/32", "2001:db8::/32"]));
        check("192.0.2.0/24\n192.0.2.1/24\n", Err(":2`192.0.2.1/24` has bits set"));
        check("<html>", Err(":1`<html>` is not an IP address"));
        check("", Ok(&[]));
        check(r#"["44.242.69.192", "52.89.71.0/24"]"#, Ok(&["44.242.69.192/32", "52.89.71.0/24"]));
        check(r#"["44.242.69.192", 7]"#, Err("not valid JSON of ranges"));
        check(r#"["44.242.69.256"]"#, Err("not an IP address"));
        let google = r#"{"syncToken": "1", "creationTime": "2026-06-01T00:00:00",
            "prefixes": [{"ipv4Prefix": "8.8.4.0/24"}, {"ipv6Prefix": "2001:4860::/32", "service": "Google Cloud"}]}"#;
        check(google, Ok(&["8.8.4.0/24", "2001:4860::/32"]));
        let both = r#"{"prefixes": [{"ipv4Prefix": "8.8.4.0/24", "ipv6Prefix": "2001:4860::/32"}]}"#;
        check(both, Ok(&["8.8.4.0/24", "2001:4860::/32"]));
        check("::ffff:192.0.2.0/120\n", Ok(&["192.0.2.0/24"]));
        check(r#"{"prefixes": [{"scope": "us"}]}"#, Err("neither ipv4Prefix nor ipv6Prefix"));
        check(r#"{"addresses": []}"#, Err("missing field `prefixes`"));
        check(r#"{"prefixes": []}"#, Ok(&[]));
    }
}
