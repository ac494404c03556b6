//! Where the configuration says what: the file and line of a key, or of the table that lacks it.
//!
//! Owns the search in the text, because an operator edits text. Must not judge it: the configuration was parsed before.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Serialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A place in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Place {
    pub(super) file: PathBuf,
    /// From 1; `None` of a section that is not written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) line: Option<usize>,
    /// The key there, or the header of the table where it would be.
    pub(super) key: String,
    /// What else to know: which key to write there, or which others decide too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<String>,
}

impl Place {
    fn noting(self, note: Option<String>) -> Self {
        Self { note, ..self }
    }

    /// The header of a table that lacks these keys.
    fn lacking(self, keys: &[&str], whereabouts: &str) -> Self {
        let note = (!keys.is_empty()).then(|| format!("write {} {whereabouts}", keys.join(" or ")));
        self.noting(note)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(formatter, ":{line}")?;
        }
        write!(formatter, ": {}", self.key)?;
        match &self.note {
            Some(note) => write!(formatter, " ({note})"),
            None => Ok(()),
        }
    }
}

/// The text of a configuration.
pub(super) struct Places<'t> {
    file: &'t Path,
    text: &'t str,
    root: DeTable<'t>,
}

impl<'t> Places<'t> {
    /// `None` if the text is not TOML.
    pub(super) fn new(file: &'t Path, text: &'t str) -> Option<Self> {
        let root = DeTable::parse(text).ok()?.into_inner();
        Some(Self { file, text, root })
    }

    /// Of these keys in a section, of which each can decide; otherwise of its header, or of the file that lacks it. Of an array of tables, the
    /// first one.
    pub(super) fn in_section(&self, section: &str, keys: &[&str]) -> Option<Place> {
        let Some((header, value)) = entry(&self.root, section) else {
            let place = Place { file: self.file.to_owned(), line: None, key: format!("[{section}]"), note: None };
            let note = format!("there is no such section; add it, with {}", keys.join(" or "));
            return Some(place.noting(Some(note)));
        };
        let (table, header) = match value.get_ref() {
            DeValue::Table(table) => (table, self.place(&header, format!("[{section}]"))),
            DeValue::Array(_) => {
                let (header, table) = self.element(section, 0)?;
                (table, self.place(&header, format!("[[{section}]]")))
            }
            _ => return None,
        };
        let found: Vec<Place> = keys.iter().filter_map(|key| self.key_of(table, &[key])).collect();
        let Some(first) = found.first().cloned() else { return Some(header.lacking(keys, "below it")) };
        let others =
            found.iter().skip(1).map(|place| format!("{} in line {}", place.key, place.line.unwrap_or_default()));
        let unwritten = keys.iter().filter(|key| !found.iter().any(|place| place.key == **key));
        let others: Vec<String> = others.chain(unwritten.map(|key| format!("{key}, which is not written"))).collect();
        Some(first.noting((!others.is_empty()).then(|| format!("or {}", others.join(", or ")))))
    }

    /// Of one of these keys of a provider: in its table or in that of the profile; otherwise of the `preset` that says it, or of the header.
    pub(super) fn of_provider(&self, index: usize, profile: Option<&str>, keys: &[&str]) -> Option<Place> {
        let (header, table) = self.element("provider", index)?;
        let first = keys.get(..1).unwrap_or_default();
        let of_profile = || {
            let (_, profiles) = entry(table, "profile")?;
            let DeValue::Array(profiles) = profiles.get_ref() else { return None };
            let named = profiles.iter().filter_map(|element| Some((element.span(), element.get_ref().as_table()?)));
            let mut named = named.filter(|(_, table)| profile.is_none_or(|name| text_of(table, "name") == Some(name)));
            let (header, table) = named.next()?;
            let of_header = || self.place(&header, "[[provider.profile]]".to_owned()).lacking(first, "below it");
            self.key_of(table, keys).or_else(|| Some(of_header()))
        };
        self.key_of(table, keys)
            .or_else(of_profile)
            .or_else(|| Some(self.key_of(table, &["preset"])?.lacking(first, beside_preset(first))))
            .or_else(|| Some(self.place(&header, "[[provider]]".to_owned()).lacking(first, "below it")))
    }

    /// Of one of these keys of a route, or of its header.
    pub(super) fn of_route(&self, index: usize, keys: &[&str]) -> Option<Place> {
        let (header, table) = self.element("route", index)?;
        let of_header = || {
            let first = keys.get(..1).unwrap_or_default();
            self.place(&header, "[[route]]".to_owned()).lacking(first, "below it")
        };
        self.key_of(table, keys).or_else(|| Some(of_header()))
    }

    /// Whether a route has one of these keys itself.
    pub(super) fn route_has(&self, index: usize, keys: &[&str]) -> bool {
        self.element("route", index).is_some_and(|(_, table)| keys.iter().any(|key| entry(table, key).is_some()))
    }

    /// The name of the preset of a provider.
    pub(super) fn preset(&self, index: usize) -> Option<&str> {
        text_of(self.element("provider", index)?.1, "preset")
    }

    fn element(&self, section: &str, index: usize) -> Option<(Range<usize>, &DeTable<'t>)> {
        let (_, elements) = entry(&self.root, section)?;
        let DeValue::Array(elements) = elements.get_ref() else { return None };
        let element = elements.get(index)?;
        Some((element.span(), element.get_ref().as_table()?))
    }

    fn key_of(&self, table: &DeTable<'t>, keys: &[&str]) -> Option<Place> {
        let (key, (span, _)) = keys.iter().find_map(|key| Some((*key, entry(table, key)?)))?;
        Some(self.place(&span, key.to_owned()))
    }

    fn place(&self, span: &Range<usize>, key: String) -> Place {
        let line = self.text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1;
        Place { file: self.file.to_owned(), line: Some(line), key, note: None }
    }
}

/// Where a key belongs that a preset decides: one of a profile replaces what the preset says in each of them.
fn beside_preset(keys: &[&str]) -> &'static str {
    match keys {
        ["trust_anchors" | "identity" | "verify_depth" | "extended_key_usage"] => "in a [[provider.profile]] beside it",
        _ => "beside it",
    }
}

/// The span of a key, and its value.
fn entry<'v, 't>(table: &'v DeTable<'t>, key: &str) -> Option<(Range<usize>, &'v Spanned<DeValue<'t>>)> {
    let (key, value) = table.iter().find(|(found, _)| found.get_ref() == key)?;
    Some((key.span(), value))
}

fn text_of<'v>(table: &'v DeTable<'_>, key: &str) -> Option<&'v str> {
    entry(table, key)?.1.get_ref().as_str()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

    use super::*;

    const TEXT: &str = r#"reload = "signal"
[limits]
max_body_bytes = 1

[[provider]]
name = "a"
preset = "pagerduty"

[[provider]]
name = "b"
verify_depth = 2
[[provider.profile]]
name = "old"
trust_anchors = ["a.pem"]
[[provider.profile]]
name = "new"
trust_anchors = ["b.pem"]
identity = [{ subject_cn = "b" }]
[provider.signature]
secrets = []

[[route]]
host = "a"
providers = ["a"]
"#;

    #[test]
    fn a_key_is_found_where_an_operator_would_change_it() {
        let file = Path::new("hookgate.toml");
        let places = Places::new(file, TEXT).unwrap();
        let check = |place: Option<Place>, expected: &str| {
            assert_eq!(place.map(|it| it.to_string()).as_deref(), Some(expected))
        };
        check(places.in_section("limits", &["max_body_bytes"]), "hookgate.toml:3: max_body_bytes");
        check(
            places.in_section("limits", &["max_head_bytes", "max_headers"]),
            "hookgate.toml:2: [limits] (write max_head_bytes or max_headers below it)",
        );
        check(
            places.in_section("limits", &["max_headers", "max_body_bytes"]),
            "hookgate.toml:3: max_body_bytes (or max_headers, which is not written)",
        );
        check(
            places.in_section("state", &["directory"]),
            "hookgate.toml: [state] (there is no such section; add it, with directory)",
        );
        check(places.in_section("route", &["host"]), "hookgate.toml:23: host");
        check(
            places.of_provider(0, Some("x"), &["identity"]),
            "hookgate.toml:7: preset (write identity in a [[provider.profile]] beside it)",
        );
        assert_eq!(places.preset(0), Some("pagerduty"));
        check(places.of_provider(1, Some("new"), &["trust_anchors"]), "hookgate.toml:17: trust_anchors");
        check(
            places.of_provider(1, Some("old"), &["identity"]),
            "hookgate.toml:12: [[provider.profile]] (write identity below it)",
        );
        check(places.of_provider(1, Some("old"), &["verify_depth"]), "hookgate.toml:11: verify_depth");
        check(places.of_provider(1, None, &["signature", "proof"]), "hookgate.toml:19: signature");
        check(places.of_route(0, &["providers"]), "hookgate.toml:24: providers");
        check(places.of_route(0, &["methods"]), "hookgate.toml:22: [[route]] (write methods below it)");
        assert!(places.route_has(0, &["host"]) && !places.route_has(0, &["proof"]) && !places.route_has(1, &["host"]));
        assert_eq!(places.of_provider(2, None, &[]), None);
        assert!(Places::new(file, "a = ").is_none());
    }
}
