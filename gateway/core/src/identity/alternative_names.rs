//! The subject alternative names of an end entity, compared with the identity rules of many providers.
//!
//! Owns the comparison of an expected name with all of them. The first comparisons go through all names. Further ones use
//! a table, since each provider asks and a certificate may have thousands of names. Must not parse the extension: `presented` does.

use std::cell::{Cell, OnceCell};
use std::collections::HashSet;
use std::hash::{Hash, Hasher};

use x509_parser::extensions::GeneralName;

use super::effort::{Reading, note};

/// Comparisons of a name with all others before a table is made for further ones. A table costs as much as about ten.
const COMPARISONS: usize = 4;

/// Up to this many names, a comparison with all of them costs no more than a look-up in a table.
const FEW: usize = 16;

/// The names of one certificate.
pub(super) struct AlternativeNames<'a> {
    names: &'a [GeneralName<'a>],
    dns: Table<AnyCase<'a>>,
    /// Of what follows the first label of a DNS name.
    parents: Table<AnyCase<'a>>,
    uris: Table<&'a str>,
}

/// The names of one kind, once they are compared often. One for each kind, because most policies ask for one kind alone.
struct Table<T> {
    compared: Cell<usize>,
    names: OnceCell<HashSet<T>>,
}

impl<T: Eq + Hash> Table<T> {
    fn new() -> Self {
        Self { compared: Cell::new(0), names: OnceCell::new() }
    }

    /// The table of `names`, once it pays for a certificate of `count` names.
    fn of<I: Iterator<Item = T>>(&self, count: usize, names: impl FnOnce() -> I) -> Option<&HashSet<T>> {
        if count <= FEW {
            return None;
        }
        if self.compared.get() < COMPARISONS {
            self.compared.set(self.compared.get() + 1);
            return None;
        }
        Some(self.names.get_or_init(|| {
            let mut table = HashSet::with_capacity(count);
            table.extend(names());
            table
        }))
    }
}

/// A name that equals itself in any case of ASCII letters.
#[derive(Clone, Copy)]
struct AnyCase<'a>(&'a str);

impl PartialEq for AnyCase<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(other.0)
    }
}

impl Eq for AnyCase<'_> {}

impl Hash for AnyCase<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for chunk in self.0.as_bytes().chunks(32) {
            let mut lower = [0; 32];
            lower[..chunk.len()].copy_from_slice(chunk);
            lower.make_ascii_lowercase();
            state.write(&lower);
        }
    }
}

impl<'a> AlternativeNames<'a> {
    pub(super) fn new(names: &'a [GeneralName<'a>]) -> Self {
        Self { names, dns: Table::new(), parents: Table::new(), uris: Table::new() }
    }

    /// Whether one of the DNS names is `name`, in any case.
    pub(super) fn has_dns(&self, name: &str) -> bool {
        match self.dns.of(self.names.len(), || self.dns().map(AnyCase)) {
            Some(table) => table.contains(&AnyCase(name)),
            None => self.dns().any(|found| found.eq_ignore_ascii_case(name)),
        }
    }

    /// Whether one of the DNS names is one label and a dot before `domain`, in any case.
    pub(super) fn has_dns_directly_below(&self, domain: &str) -> bool {
        let parents = || self.dns().filter_map(parent);
        match self.parents.of(self.names.len(), || parents().map(AnyCase)) {
            Some(table) => table.contains(&AnyCase(domain)),
            None => parents().any(|parent| parent.eq_ignore_ascii_case(domain)),
        }
    }

    /// Whether one of the URIs is `uri`.
    pub(super) fn has_uri(&self, uri: &str) -> bool {
        match self.uris.of(self.names.len(), || self.uris()) {
            Some(table) => table.contains(uri),
            None => self.uris().any(|found| found == uri),
        }
    }

    fn dns(&self) -> impl Iterator<Item = &'a str> {
        note(Reading::Compared, self.names.len());
        self.names.iter().filter_map(|name| match name {
            GeneralName::DNSName(found) => Some(*found),
            _ => None,
        })
    }

    fn uris(&self) -> impl Iterator<Item = &'a str> {
        note(Reading::Compared, self.names.len());
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
    fn a_name_equals_itself_in_any_case_and_no_other() {
        for (left, right, expected) in
            [("a.b", "A.B", true), ("a.b", "a.c", false), ("a", "a.b", false), ("", "", true)]
        {
            assert_eq!(AnyCase(left) == AnyCase(right), expected, "{left} {right}");
        }
    }

    #[test]
    fn a_name_is_found_in_the_table_as_without_it() {
        let long = format!("{}.example.com", ["a23456789"; 5].join("."));
        let mut all = vec![GeneralName::DNSName("filler.invalid"); FEW];
        all.extend([
            GeneralName::DNSName("A.example.com"),
            GeneralName::DNSName("*.wild.example.com"),
            GeneralName::DNSName("-.bad.example.com"),
            GeneralName::DNSName("example"),
            GeneralName::DNSName(&long),
            GeneralName::URI("https://example.com/A"),
            GeneralName::RFC822Name("mail.example.com"),
        ]);
        let compared = |ask: &dyn Fn(&AlternativeNames<'_>) -> bool| {
            let names = AlternativeNames::new(&all);
            let answers = [(); 2 * COMPARISONS].map(|()| ask(&names));
            let AlternativeNames { dns, parents, uris, .. } = &names;
            let tables = [dns.names.get().is_some(), parents.names.get().is_some(), uris.names.get().is_some()];
            assert_eq!(tables.into_iter().filter(|made| *made).count(), 1, "a table for what is asked");
            assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
            answers[0]
        };
        let upper = long.to_ascii_uppercase();
        let dns = ["a.Example.com", "*.wild.example.com", "b.example.com", "mail.example.com", "example", &upper];
        assert_eq!(dns.map(|name| compared(&|names| names.has_dns(name))), [true, true, false, false, true, true]);
        let domains = ["example.Com", "wild.example.com", "bad.example.com", "com", "example", &upper[10..]];
        let found = domains.map(|domain| compared(&|names| names.has_dns_directly_below(domain)));
        assert_eq!(found, [true, false, false, false, false, true]);
        let uris = ["https://example.com/A", "https://example.com/a", "A.example.com"];
        assert_eq!(uris.map(|uri| compared(&|names| names.has_uri(uri))), [true, false, false]);
    }
}
