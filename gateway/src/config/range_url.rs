//! `source_range_urls`: lists of ranges that their publishers serve.
//!
//! Owns the keys of such a list, and how ranges are read out of a document. Must not fetch: `control::published` does.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;
use toml::Spanned;

use super::bound::Bound;
use super::document::WordOr;
use super::error::{Problem, ProofProblem, RangeProblem};
use super::feed::{self, Feed, FetchLimits, TIMEOUT};
use super::ranges;
use super::report::Report;
use hookgate_core::auth::json_pointer::JsonPointer;
use hookgate_core::ranges::{Ranges, parse};

/// The most URLs of one provider. PagerDuty has one for each region.
const MAXIMUM_URLS: usize = 16;
/// The most pointers of one list. Amazon has one for each family.
const MAXIMUM_POINTERS: usize = 8;
/// From one range to the lists of large clouds, which have 2 to 5 MB.
const BYTES: Bound = Bound::new(1024, 16 * 1024 * 1024, " bytes");
const DEFAULT_BYTES: usize = 4 * 1024 * 1024;
/// Redirects that are followed, each to another https URL.
const REDIRECTS: usize = 3;
/// The most ranges of one list. The largest in public use have some ten thousand.
const MAXIMUM_RANGES: usize = 100_000;
/// The widest ranges that a publisher may list. No sender owns more, and a list with 0.0.0.0/0 would switch the check off.
const WIDEST: (u8, u8) = (8, 16);

const WRITE_URL: &str = "url = \"https://example.com/ranges.json\": where the list is";
const WRITE_URLS: &str = "lists of ranges, such as [\"https://example.com/ranges.txt\"], or remove the key";

/// An entry of `source_range_urls` as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRangeUrl {
    url: Option<Spanned<String>>,
    minus: Option<Spanned<String>>,
    format: Option<RawFormat>,
    pointer: Option<Spanned<OneOrMany>>,
    ca_file: Option<Spanned<String>>,
    allow_private: Option<bool>,
    timeout_ms: Option<Spanned<i64>>,
    max_bytes: Option<Spanned<i64>>,
}

/// The array as written.
pub(super) type RawRangeUrls = Option<Spanned<Vec<Spanned<WordOr<RawRangeUrl>>>>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawFormat {
    Plain,
    Json,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// A list that is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeSource {
    /// Where it is.
    pub feed: Feed,
    /// How it is read.
    pub format: RangeFormat,
}

/// How ranges are read out of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeFormat {
    /// The first character tells, as in files.
    Any,
    /// One range a line.
    Plain,
    /// A JSON array of ranges, or an object with `prefixes`.
    Json,
    /// What these pointers find in a JSON document.
    Pointers(Vec<RangePointer>),
}

/// A JSON pointer whose token `*` stands for every element of an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangePointer(Vec<String>);

/// A list of a provider, less another list.
#[derive(Clone, Debug)]
pub struct RangeUrl {
    /// The list.
    pub list: Arc<RangeSource>,
    /// `minus`: what is left out.
    pub minus: Option<Arc<RangeSource>>,
}

impl RangeUrl {
    /// The ranges of the entry; `None` as long as a list of it is unknown. `known` has what was fetched.
    pub fn ranges(&self, known: impl Fn(&Arc<RangeSource>) -> Option<Arc<[IpNet]>>) -> Option<Vec<IpNet>> {
        let list = known(&self.list)?;
        let Some(minus) = &self.minus else { return Some(list.to_vec()) };
        Some(Ranges::new(&list).minus(&Ranges::new(&known(minus)?)))
    }

    /// The lists that must be fetched.
    pub fn sources(&self) -> impl Iterator<Item = &Arc<RangeSource>> {
        std::iter::once(&self.list).chain(&self.minus)
    }
}

impl RangeSource {
    /// Whether a copy of this list is one of `other`: the same document, read in the same format.
    #[must_use]
    pub fn is_same_list(&self, other: &Self) -> bool {
        self.feed.is_same_document(&other.feed) && self.format == other.format
    }

    /// Reads the ranges of a document; at least one.
    ///
    /// # Errors
    ///
    /// What is wrong, as one sentence.
    pub fn parse(&self, document: &[u8]) -> Result<Vec<IpNet>, String> {
        let placed = |(line, reason): (Option<usize>, String)| match line {
            Some(line) => format!("line {line}: {reason}"),
            None => reason,
        };
        let found = match &self.format {
            RangeFormat::Any => {
                ranges::parse(document).map_err(placed).map_err(|reason| with_hint(document, reason))?
            }
            RangeFormat::Plain => ranges::parse_plain(text(document)?).map_err(placed)?,
            RangeFormat::Json => match document.trim_ascii_start().first() {
                Some(b'[' | b'{') => {
                    ranges::parse(document).map_err(placed).map_err(|reason| with_hint(document, reason))?
                }
                _ => return Err("not a JSON array or object".to_owned()),
            },
            RangeFormat::Pointers(pointers) => {
                let document = serde_json::from_slice(document).map_err(|error| format!("not valid JSON: {error}"))?;
                let mut found = Vec::new();
                for pointer in pointers {
                    pointer.collect(&document, &mut found)?;
                }
                if found.is_empty() {
                    return Err("the list holds no range at its pointer; correct pointer".to_owned());
                }
                found
            }
        };
        check(found)
    }
}

impl RangePointer {
    /// Parses a pointer, whose syntax is that of [`JsonPointer`].
    fn parse(text: &str) -> Result<Self, ProofProblem> {
        JsonPointer::parse(text).map_err(ProofProblem::from)?;
        let token = |token: &str| token.replace("~1", "/").replace("~0", "~");
        Ok(Self(text.trim_start_matches('/').split('/').map(token).collect()))
    }

    /// Adds the ranges at the pointer to `found`. A member that an element of an array lacks is left out, as Google's lists have one
    /// family in each; a value that is no range is an error.
    fn collect(&self, document: &Value, found: &mut Vec<IpNet>) -> Result<(), String> {
        let mut places = vec![document];
        for token in &self.0 {
            places = places
                .into_iter()
                .flat_map(|place| match place {
                    Value::Array(elements) if token == "*" => elements.iter().collect(),
                    Value::Array(elements) => {
                        token.parse().ok().and_then(|index: usize| elements.get(index)).into_iter().collect()
                    }
                    Value::Object(members) => members.get(token).into_iter().collect::<Vec<_>>(),
                    _ => Vec::new(),
                })
                .collect();
        }
        for place in places {
            let Value::String(text) = place else {
                let write = "for the elements of an array, end pointer with /*";
                return Err(format!("a value at the pointer is not a string; {write}"));
            };
            found.push(parse(text).map_err(|error| error.to_string())?);
        }
        Ok(())
    }
}

/// `reason`, and for a JSON document of another form how to read it.
fn with_hint(document: &[u8], reason: String) -> String {
    let Ok(document) = serde_json::from_slice::<Value>(document) else { return reason };
    let is_range = |value: &Value| value.as_str().is_some_and(|text| parse(text).is_ok());
    let is_list = |value: &Value| value.as_array().is_some_and(|list| list.first().is_some_and(is_range));
    let members = document.as_object();
    let listed = members.and_then(|members| members.iter().find(|(_, value)| is_list(value)));
    let pointer = match listed {
        Some((name, _)) => format!("pointer = \"/{}/*\"", name.replace('~', "~0").replace('/', "~1").escape_default()),
        None => "pointer, such as pointer = \"/hooks/*\"".to_owned(),
    };
    match members.is_some_and(|members| !members.contains_key("prefixes")) {
        true => format!("it is a JSON object without `prefixes`; to say where its ranges are, write {pointer}"),
        false => format!("{reason}; if its ranges are elsewhere, write {pointer}"),
    }
}

fn text(document: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(document).map_err(|error| error.to_string())
}

/// The bounds of a list that somebody else writes.
fn check(found: Vec<IpNet>) -> Result<Vec<IpNet>, String> {
    if found.is_empty() {
        return Err("the list holds no range".to_owned());
    }
    if found.len() > MAXIMUM_RANGES {
        return Err(format!("the list has {} ranges, more than {MAXIMUM_RANGES}", found.len()));
    }
    let (ipv4, ipv6) = WIDEST;
    let widest = |range: &IpNet| if matches!(range, IpNet::V4(_)) { ipv4 } else { ipv6 };
    if let Some(range) = found.iter().find(|range| range.prefix_len() < widest(range)) {
        return Err(format!("the range {range} is wider than a /{}, which no sender owns", widest(range)));
    }
    Ok(found)
}

/// Parses the lists of a provider. Reports what is wrong, and leaves it out.
pub(super) fn range_urls(raw: &RawRangeUrls, known: &mut KnownSources, report: &mut Report<'_>) -> Vec<RangeUrl> {
    let Some(raw) = raw else { return Vec::new() };
    let count = raw.get_ref().len();
    if count == 0 {
        report.empty(raw, Problem::Empty { write: WRITE_URLS });
    }
    if count > MAXIMUM_URLS {
        report.error(raw, Problem::TooMany { count, maximum: MAXIMUM_URLS });
        return Vec::new();
    }
    raw.get_ref().iter().filter_map(|entry| range_url(entry, known, report)).collect()
}

fn range_url(
    raw: &Spanned<WordOr<RawRangeUrl>>,
    known: &mut KnownSources,
    report: &mut Report<'_>,
) -> Option<RangeUrl> {
    let nothing = RawRangeUrl::default();
    let (url, table) = match raw.get_ref() {
        WordOr::Word(text) => (Some(feed::url(text, raw, report)?), &nothing),
        WordOr::Table(table) => (table.url.as_ref().and_then(|url| feed::url(url.get_ref(), url, report)), table),
    };
    if url.is_none() && matches!(raw.get_ref(), WordOr::Table(RawRangeUrl { url: None, .. })) {
        report.missing(raw, "url", WRITE_URL);
    }
    let minus = table.minus.as_ref().map(|url| feed::url(url.get_ref(), url, report));
    let format = format(table, report)?;
    let limits = FetchLimits {
        timeout: TIMEOUT.milliseconds(table.timeout_ms.as_ref(), FetchLimits::default().timeout, report),
        max_bytes: BYTES.count(table.max_bytes.as_ref(), DEFAULT_BYTES, report),
        min_fresh: Duration::from_secs(300),
        allow_private: table.allow_private.unwrap_or(false),
        redirects: REDIRECTS,
        ..FetchLimits::default()
    };
    let roots = feed::roots(table.ca_file.as_ref(), report)?;
    let mut source = |url| {
        let feed = Feed { url, limits, roots: roots.clone() };
        known.intern(RangeSource { feed, format: format.clone() })
    };
    let list = source(url?);
    let minus = match minus {
        Some(url) => Some(source(url?)),
        None => None,
    };
    Some(RangeUrl { list, minus })
}

fn format(table: &RawRangeUrl, report: &mut Report<'_>) -> Option<RangeFormat> {
    let Some(pointer) = &table.pointer else {
        return Some(match table.format {
            None => RangeFormat::Any,
            Some(RawFormat::Plain) => RangeFormat::Plain,
            Some(RawFormat::Json) => RangeFormat::Json,
        });
    };
    if table.format == Some(RawFormat::Plain) {
        report.error(pointer, RangeProblem::PointerIntoPlain.into());
        return None;
    }
    let texts = match pointer.get_ref() {
        OneOrMany::One(text) => std::slice::from_ref(text),
        OneOrMany::Many(texts) => texts.as_slice(),
    };
    if texts.is_empty() || texts.len() > MAXIMUM_POINTERS {
        report.error(pointer, Problem::TooMany { count: texts.len(), maximum: MAXIMUM_POINTERS });
        return None;
    }
    let parsed: Result<Vec<_>, _> = texts.iter().map(|text| RangePointer::parse(text)).collect();
    parsed.map(RangeFormat::Pointers).map_err(|problem| report.error(pointer, problem.into())).ok()
}

/// The lists of a file, each of which is fetched once, whoever names it.
#[derive(Default)]
pub(super) struct KnownSources(HashMap<String, Vec<Arc<RangeSource>>>);

impl KnownSources {
    fn intern(&mut self, source: RangeSource) -> Arc<RangeSource> {
        let of_url = self.0.entry(source.feed.url.to_string()).or_default();
        if let Some(known) = of_url.iter().find(|known| ***known == source) {
            return Arc::clone(known);
        }
        let source = Arc::new(source);
        of_url.push(Arc::clone(&source));
        source
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::config::FeedUrl;

    fn source(format: RangeFormat) -> RangeSource {
        let url = FeedUrl::parse("https://example.com/a.json?key=1").unwrap();
        RangeSource { feed: Feed { url, limits: FetchLimits::default(), roots: None }, format }
    }

    fn pointers(texts: &[&str]) -> RangeFormat {
        RangeFormat::Pointers(texts.iter().map(|text| RangePointer::parse(text).unwrap()).collect())
    }

    #[test]
    fn the_lists_of_publishers_are_read() {
        let google =
            r#"{"syncToken": "1", "prefixes": [{"ipv4Prefix": "8.8.4.0/24"}, {"ipv6Prefix": "2001:4860::/32"}]}"#;
        let amazon = r#"{"prefixes": [{"ip_prefix": "3.4.12.4/32", "region": "eu"}], "ipv6_prefixes": [{"ipv6_prefix": "2a05:d07a:a000::/40"}]}"#;
        let github = r#"{"verifiable_password_authentication": false, "hooks": ["192.30.252.0/22", "2a0a:a440::/29"]}"#;
        let azure = r#"{"values": [{"name": "A", "properties": {"addressPrefixes": ["4.145.74.52/30"]}}]}"#;
        let stripe = r#"{"WEBHOOKS": ["3.18.12.63", "3.130.192.231"]}"#;
        for (format, document, expected) in [
            (RangeFormat::Any, google, Ok("8.8.4.0/24 2001:4860::/32")),
            (pointers(&["/prefixes/*/ipv4Prefix"]), google, Ok("8.8.4.0/24")),
            (
                pointers(&["/prefixes/*/ip_prefix", "/ipv6_prefixes/*/ipv6_prefix"]),
                amazon,
                Ok("3.4.12.4/32 2a05:d07a:a000::/40"),
            ),
            (pointers(&["/hooks/*"]), github, Ok("192.30.252.0/22 2a0a:a440::/29")),
            (pointers(&["/hooks/0"]), github, Ok("192.30.252.0/22")),
            (pointers(&["/values/*/properties/addressPrefixes/*"]), azure, Ok("4.145.74.52/30")),
            (pointers(&["/WEBHOOKS/*"]), stripe, Ok("3.18.12.63/32 3.130.192.231/32")),
            (RangeFormat::Any, "44.242.69.192\n52.89.71.166\n", Ok("44.242.69.192/32 52.89.71.166/32")),
            (RangeFormat::Plain, "<!doctype html>", Err("line 1: `<!doctype html>` is not an IP address")),
            (RangeFormat::Any, "<html>", Err("is not an IP address")),
            (RangeFormat::Json, "<html>", Err("not a JSON array or object")),
            (pointers(&["/hooks/*"]), "<html>", Err("not valid JSON")),
            (pointers(&["/hooks"]), github, Err("is not a string; for the elements of an array, end pointer with /*")),
            (RangeFormat::Any, github, Err("to say where its ranges are, write pointer = \"/hooks/*\"")),
            (
                RangeFormat::Json,
                azure,
                Err("a JSON object without `prefixes`; to say where its ranges are, write pointer, such"),
            ),
            (
                RangeFormat::Any,
                amazon,
                Err("neither ipv4Prefix nor ipv6Prefix; if its ranges are elsewhere, write pointer"),
            ),
            (pointers(&["/hook/*"]), github, Err("holds no range at its pointer")),
            (pointers(&["/a/*"]), r#"{"a": ["x"]}"#, Err("not an IP address")),
            (RangeFormat::Any, "", Err("holds no range")),
            (RangeFormat::Any, "0.0.0.0/0", Err("0.0.0.0/0 is wider than a /8")),
            (RangeFormat::Any, "192.0.2.0/24\n::/0", Err("::/0 is wider than a /16")),
        ] {
            let found = source(format).parse(document.as_bytes());
            match (&found, expected) {
                (Ok(found), Ok(expected)) => {
                    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
                    assert_eq!(found.join(" "), expected, "{document}");
                }
                (Err(reason), Err(expected)) => assert!(reason.contains(expected), "{document}: {reason}"),
                _ => unreachable!("{document}: {found:?}"),
            }
        }
        let many = "192.0.2.1\n".repeat(MAXIMUM_RANGES + 1);
        assert!(source(RangeFormat::Any).parse(many.as_bytes()).unwrap_err().contains("more than 100000"));
    }

    #[test]
    fn a_name_shows_no_query() {
        assert_eq!(source(RangeFormat::Any).feed.name(), "https://example.com/a.json");
    }

    #[test]
    fn an_entry_is_unknown_until_all_of_it_was_fetched() {
        let list = Arc::new(source(RangeFormat::Any));
        let minus = Arc::new(source(RangeFormat::Plain));
        let of = |text: &str| -> Option<Arc<[IpNet]>> { Some(Arc::from([parse(text).unwrap()])) };
        let entry = RangeUrl { list: Arc::clone(&list), minus: Some(Arc::clone(&minus)) };
        assert_eq!(entry.ranges(|source| (**source == *list).then(|| of("192.0.2.0/24")).flatten()), None);
        let both = entry.ranges(|source| of(if **source == *list { "192.0.2.0/24" } else { "192.0.2.0/25" }));
        assert_eq!(both.unwrap(), [parse("192.0.2.128/25").unwrap()]);
    }
}
