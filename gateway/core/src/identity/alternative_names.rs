//! The names in the subject alternative name extension of an end entity, for the identity rules of many providers.
//!
//! Owns the comparison of one expected name with all of them. A few names are compared one by one. Many are looked up, since each
//! provider asks and a certificate may have thousands. Must not parse the extension: `presented` does.

use std::cell::OnceCell;
use std::collections::HashSet;

use x509_parser::extensions::GeneralName;

/// Most names that are compared one by one. Above that, a look-up table costs less than the comparisons of two providers.
const COMPARED_MAX: usize = 16;

/// The names of one certificate.
pub(super) struct AlternativeNames<'a> {
    names: &'a [GeneralName<'a>],
    table: OnceCell<Table<'a>>,
}

struct Table<'a> {
    /// DNS names in lower case.
    dns: HashSet<String>,
    /// What follows the first label of a DNS name, in lower case.
    parents: HashSet<String>,
    uris: HashSet<&'a str>,
}

impl<'a> AlternativeNames<'a> {
    pub(super) fn new(names: &'a [GeneralName<'a>]) -> Self {
        Self { names, table: OnceCell::new() }
    }

    /// Whether one of the DNS names is `name`, which is in lower case.
    pub(super) fn has_dns(&self, name: &str) -> bool {
        match self.table() {
            Some(table) => table.dns.contains(name),
            None => self.dns().any(|found| found.eq_ignore_ascii_case(name)),
        }
    }

    /// Whether one of the DNS names is one label and a dot before `domain`, which is in lower case.
    pub(super) fn has_dns_directly_below(&self, domain: &str) -> bool {
        match self.table() {
            Some(table) => table.parents.contains(domain),
            None => self.dns().filter_map(parent).any(|parent| parent.eq_ignore_ascii_case(domain)),
        }
    }

    /// Whether one of the URIs is `uri`.
    pub(super) fn has_uri(&self, uri: &str) -> bool {
        match self.table() {
            Some(table) => table.uris.contains(uri),
            None => self.uris().any(|found| found == uri),
        }
    }

    fn table(&self) -> Option<&Table<'a>> {
        (self.names.len() > COMPARED_MAX).then(|| {
            self.table.get_or_init(|| Table {
                dns: self.dns().map(str::to_ascii_lowercase).collect(),
                parents: self.dns().filter_map(parent).map(str::to_ascii_lowercase).collect(),
                uris: self.uris().collect(),
            })
        })
    }

    fn dns(&self) -> impl Iterator<Item = &'a str> {
        self.names.iter().filter_map(|name| match name {
            GeneralName::DNSName(found) => Some(*found),
            _ => None,
        })
    }

    fn uris(&self) -> impl Iterator<Item = &'a str> {
        self.names.iter().filter_map(|name| match name {
            GeneralName::URI(found) => Some(*found),
            _ => None,
        })
    }
}

/// What follows the first label of a DNS name.
fn parent(name: &str) -> Option<&str> {
    name.split_once('.').filter(|(label, _)| is_label(label)).map(|(_, parent)| parent)
}

/// One label: RFC 1035, section 2.3.1, plus a leading digit (RFC 1123) and the underscore that service names use.
pub(super) fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_names_are_found_like_a_few() {
        let few = [
            GeneralName::DNSName("A.example.com"),
            GeneralName::DNSName("*.wild.example.com"),
            GeneralName::DNSName("-.bad.example.com"),
            GeneralName::DNSName("example"),
            GeneralName::URI("https://example.com/A"),
            GeneralName::RFC822Name("mail.example.com"),
        ];
        let others: Vec<String> = (0..COMPARED_MAX).map(|number| format!("{number}.other.example.com")).collect();
        let many: Vec<_> = few.iter().cloned().chain(others.iter().map(|name| GeneralName::DNSName(name))).collect();
        for names in [&few[..], &many] {
            let names = AlternativeNames::new(names);
            assert_eq!(names.table().is_some(), names.names.len() > few.len());
            let dns = ["a.example.com", "*.wild.example.com", "b.example.com", "mail.example.com", "example"];
            assert_eq!(dns.map(|name| names.has_dns(name)), [true, true, false, false, true]);
            let domains = ["example.com", "wild.example.com", "bad.example.com", "com", "example"];
            assert_eq!(domains.map(|domain| names.has_dns_directly_below(domain)), [true, false, false, false, false]);
            let uris = ["https://example.com/A", "https://example.com/a", "A.example.com"];
            assert_eq!(uris.map(|uri| names.has_uri(uri)), [true, false, false]);
        }
    }
}
