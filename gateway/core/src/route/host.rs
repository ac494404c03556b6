//! `host` of a route: one host, the names below a domain, or every host.
//!
//! Owns which hosts a pattern matches, which patterns another one covers, and the look-up by host. Pure. Must not know routes.
//!
//! `*.example.com` matches names with exactly one label more, as a certificate of that name does (RFC 9525, section 6.3), and as in Caddy; in nginx
//! it matches names of any depth. So one wildcard at most matches a name, a certificate for the pattern is one for every name that it matches, and
//! a name deeper than the operator thought of belongs to no route.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// What stands before the domain of a wildcard.
const WILDCARD: &str = "*.";

/// The longest label of a name (RFC 1035, section 2.3.4).
const MAXIMUM_LABEL_BYTES: usize = 63;

/// The hosts of a route. Those that are more specific come first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// This host: in lower case, without port.
    Exact(Arc<str>),
    /// `*.example.com`: every name with one label before the domain. The value is the whole pattern.
    Wildcard(Arc<str>),
    /// Every host, also an absent one.
    Every,
}

impl HostPattern {
    /// The pattern of `text`, a host in lower case, or `*.` and a domain.
    pub fn new(text: &str) -> Self {
        match text.strip_prefix(WILDCARD) {
            Some(_) => Self::Wildcard(Arc::from(text)),
            None => Self::Exact(Arc::from(text)),
        }
    }

    /// As it is written; `None` for every host, which is not written.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Exact(text) | Self::Wildcard(text) => Some(text),
            Self::Every => None,
        }
    }

    /// Whether a request for `host`, in lower case and without port, is one for this pattern.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *host,
            Self::Wildcard(text) => domain_of(host).is_some_and(|domain| domain == domain_of_wildcard(text)),
            Self::Every => true,
        }
    }

    /// Whether every host that `other` matches is one of this pattern.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Every, _) => true,
            (_, Self::Exact(host)) => self.matches(host),
            (_, _) => self == other,
        }
    }

    /// Whether some host is one of both patterns. No two patterns have only a part of their hosts in common.
    pub fn meets(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }
}

impl fmt::Display for HostPattern {
    /// As it is written; nothing for every host.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str().unwrap_or_default())
    }
}

/// The domain whose wildcard matches `host`: what follows its first label. `None` if the host does not begin with a label of letters, digits, `-`
/// and `_`, or has no other one: an address in brackets, or a host in escapes.
pub fn domain_of(host: &str) -> Option<&str> {
    let (label, domain) = host.split_once('.')?;
    let is_label = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_whole = (1..=MAXIMUM_LABEL_BYTES).contains(&label.len()) && label.bytes().all(is_label);
    (is_whole && !domain.is_empty()).then_some(domain)
}

fn domain_of_wildcard(text: &str) -> &str {
    text.strip_prefix(WILDCARD).unwrap_or(text)
}

/// Values by exact host and by wildcard.
#[derive(Clone, Debug)]
pub struct HostMap<T> {
    exact: HashMap<Arc<str>, T>,
    /// By the domain.
    wildcard: HashMap<Arc<str>, T>,
}

impl<T> Default for HostMap<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), wildcard: HashMap::new() }
    }
}

impl<T> HostMap<T> {
    /// The value of a pattern, which is made if there is none. `None` of every host, which has no place here.
    pub fn entry(&mut self, pattern: &HostPattern) -> Option<&mut T>
    where
        T: Default,
    {
        match pattern {
            HostPattern::Exact(host) => Some(self.exact.entry(Arc::clone(host)).or_default()),
            HostPattern::Wildcard(text) => Some(self.wildcard.entry(domain_of_wildcard(text).into()).or_default()),
            HostPattern::Every => None,
        }
    }

    /// Sets the value of a pattern. Nothing of every host, which has no place here.
    pub fn insert(&mut self, pattern: &HostPattern, value: T) {
        match pattern {
            HostPattern::Exact(host) => drop(self.exact.insert(Arc::clone(host), value)),
            HostPattern::Wildcard(text) => drop(self.wildcard.insert(domain_of_wildcard(text).into(), value)),
            HostPattern::Every => {}
        }
    }

    /// The values of this host: its own, then that of the wildcard that matches it.
    pub fn of(&self, host: &str) -> [Option<&T>; 2] {
        // A configuration without wildcards does not look for the domain.
        let domain = if self.wildcard.is_empty() { None } else { domain_of(host) };
        [self.exact.get(host), domain.and_then(|domain| self.wildcard.get(domain))]
    }

    /// Every value.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.exact.values_mut().chain(self.wildcard.values_mut())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_matches_names_with_one_label_more() {
        let wildcard = HostPattern::new("*.example.com");
        let check = |host: &str, expected: bool| assert_eq!(wildcard.matches(host), expected, "{host}");
        for host in ["a.example.com", "a-1.example.com", "_a.example.com", "xn--bcher-kva.example.com"] {
            check(host, true);
        }
        for host in ["example.com", ".example.com", "a.b.example.com", "aexample.com", "a.example.org", ""] {
            check(host, false);
        }
        // What no server name is, a request without one can name.
        for host in ["*.example.com", "a%2eb.example.com", "a:b.example.com", "[::1].example.com", "a.example.com."] {
            check(host, false);
        }
        check(&format!("{}.example.com", "a".repeat(63)), true);
        check(&format!("{}.example.com", "a".repeat(64)), false);
    }

    #[test]
    fn a_pattern_covers_those_that_match_no_other_host() {
        let all = ["a.example.com", "*.example.com", "*.a.example.com"].map(HostPattern::new);
        let [exact, wildcard, deeper] = &all;
        let covers = |one: &HostPattern, other: &HostPattern| one.covers(other);
        assert!(covers(wildcard, exact) && !covers(exact, wildcard) && !covers(wildcard, deeper));
        for pattern in &all {
            assert!(covers(pattern, pattern) && covers(&HostPattern::Every, pattern));
            assert!(!covers(pattern, &HostPattern::Every) && !covers(deeper, exact));
        }
    }

    #[test]
    fn a_host_has_its_own_value_and_that_of_its_wildcard() {
        let mut map = HostMap::default();
        for (number, pattern) in (1..).zip(["a.example.com", "*.example.com", "*.b.example.com", "b.example.com"]) {
            map.insert(&HostPattern::new(pattern), number);
        }
        map.insert(&HostPattern::Every, 9);
        let check = |host: &str, expected: [Option<i32>; 2]| {
            assert_eq!(map.of(host).map(|found| found.copied()), expected, "{host}");
        };
        check("a.example.com", [Some(1), Some(2)]);
        check("b.example.com", [Some(4), Some(2)]);
        check("c.example.com", [None, Some(2)]);
        check("c.b.example.com", [None, Some(3)]);
        check("example.com", [None, None]);
        check("d.c.b.example.com", [None, None]);
    }
}
