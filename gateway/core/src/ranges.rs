//! The addresses that a provider sends from, and whether a request came from one of them.
//!
//! Owns the look-up and the arithmetic of sets of addresses. The pre-filter knows only the union of all providers' ranges; what is
//! checked here is that a verified provider's request came from that provider's own. Must not read files, nor know requests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::prefix::{AddressFamily, Prefix};

/// What becomes of a request from outside its provider's ranges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceCheck {
    /// Nothing: addresses are not looked at.
    #[default]
    Off,
    /// It is counted, and goes on.
    Count,
    /// It is counted and refused.
    Refuse,
}

/// Where one provider sends from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// What becomes of requests from elsewhere.
    pub check: SourceCheck,
    /// The addresses.
    pub ranges: Ranges,
}

impl Sources {
    /// Whether `address` is one that is looked for and not found.
    pub fn misses(&self, address: IpAddr) -> bool {
        self.check != SourceCheck::Off && !self.ranges.contains(address)
    }
}

/// A set of addresses: disjoint intervals of each family in ascending order, so that a look-up is a binary search.
///
/// Addresses are left-aligned in 128 bits, as in [`Prefix::bits`]; the last address of an IPv4 interval ends in ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    ipv4: Vec<(u128, u128)>,
    ipv6: Vec<(u128, u128)>,
}

impl Ranges {
    /// The addresses of `prefixes`, which may overlap and stand in any order.
    pub fn new(prefixes: &[Prefix]) -> Self {
        let merged = |family| {
            let of_family = prefixes.iter().filter(|prefix| prefix.family() == family);
            let mut intervals: Vec<_> = of_family.map(|prefix| (prefix.bits(), last(prefix))).collect();
            intervals.sort_unstable();
            merge(intervals)
        };
        Self { ipv4: merged(AddressFamily::Ipv4), ipv6: merged(AddressFamily::Ipv6) }
    }

    /// Whether `address` is in the set. An IPv4-mapped IPv6 address counts as the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (intervals, bits) = match address.to_canonical() {
            IpAddr::V4(address) => (&self.ipv4, u128::from(address.to_bits()) << 96),
            IpAddr::V6(address) => (&self.ipv6, address.to_bits()),
        };
        let after = intervals.partition_point(|(first, _)| *first <= bits);
        after.checked_sub(1).is_some_and(|index| bits <= intervals[index].1)
    }

    /// What is in this set and not in `other`, as the fewest prefixes, in ascending order.
    pub fn minus(&self, other: &Self) -> Vec<Prefix> {
        let ipv4 = subtract(&self.ipv4, &other.ipv4).into_iter().flat_map(|it| cover(AddressFamily::Ipv4, it));
        let ipv6 = subtract(&self.ipv6, &other.ipv6).into_iter().flat_map(|it| cover(AddressFamily::Ipv6, it));
        ipv4.chain(ipv6).collect()
    }
}

fn last(prefix: &Prefix) -> u128 {
    prefix.bits() | u128::MAX.checked_shr(u32::from(prefix.length())).unwrap_or(0)
}

/// Joins intervals, sorted by their first address, that overlap or touch.
fn merge(sorted: Vec<(u128, u128)>) -> Vec<(u128, u128)> {
    let mut merged: Vec<(u128, u128)> = Vec::with_capacity(sorted.len());
    for (first, last) in sorted {
        match merged.last_mut() {
            Some(previous) if first <= previous.1.saturating_add(1) => previous.1 = previous.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

/// What is in `from` and in none of `taken`; both disjoint and ascending.
fn subtract(from: &[(u128, u128)], taken: &[(u128, u128)]) -> Vec<(u128, u128)> {
    let mut rest = Vec::new();
    let mut next = 0;
    for &(first, last) in from {
        let mut first = Some(first);
        while taken.get(next).is_some_and(|taken| first.is_some_and(|first| taken.1 < first)) {
            next += 1;
        }
        for &(taken_first, taken_last) in taken[next..].iter().take_while(|taken| taken.0 <= last) {
            let Some(begin) = first else { break };
            if taken_first > begin {
                rest.push((begin, taken_first - 1));
            }
            first = taken_last.checked_add(1).filter(|begin| *begin <= last);
        }
        rest.extend(first.map(|first| (first, last)));
    }
    rest
}

/// The fewest prefixes that cover an interval and nothing else.
fn cover(family: AddressFamily, (mut first, last): (u128, u128)) -> Vec<Prefix> {
    let mut prefixes = Vec::new();
    loop {
        // As large as the alignment of the first address lets it be, and no larger than what is left.
        let fits = |length: &u32| {
            let size_minus_1 = u128::MAX.checked_shr(*length).unwrap_or(0);
            first & size_minus_1 == 0 && size_minus_1 <= last - first
        };
        let length = (0..=128).find(fits).unwrap_or(128);
        let address = match family {
            AddressFamily::Ipv4 => IpAddr::V4(Ipv4Addr::from_bits((first >> 96) as u32)),
            AddressFamily::Ipv6 => IpAddr::V6(Ipv6Addr::from_bits(first)),
        };
        prefixes.push(Prefix::containing(address, u8::try_from(length).unwrap_or(u8::MAX)));
        let covered = first | u128::MAX.checked_shr(length).unwrap_or(0);
        match covered.checked_add(1).filter(|_| covered < last) {
            Some(next) => first = next,
            None => return prefixes,
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

    use super::*;

    fn ranges(texts: &[&str]) -> Ranges {
        let prefixes: Vec<Prefix> = texts.iter().map(|text| text.parse().unwrap()).collect();
        Ranges::new(&prefixes)
    }

    #[test]
    fn an_address_is_found_in_its_range_and_nowhere_else() {
        let set = ranges(&["198.51.100.0/25", "192.0.2.0/24", "192.0.2.8", "198.51.100.128/25", "2001:db8::/32"]);
        let check = |address: &str, expected| assert_eq!(set.contains(address.parse().unwrap()), expected, "{address}");
        check("192.0.1.255", false);
        check("192.0.2.0", true);
        check("192.0.2.255", true);
        check("192.0.3.0", false);
        check("198.51.100.200", true);
        check("::ffff:192.0.2.1", true);
        check("::", false);
        check("2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", false);
        check("2001:db8::", true);
        check("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", true);
        check("2001:db9::", false);
        assert!(!Ranges::default().contains("0.0.0.0".parse().unwrap()));
        assert!(ranges(&["0.0.0.0/0"]).contains("255.255.255.255".parse().unwrap()));
        assert!(ranges(&["::/0"]).contains("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap()));
    }

    #[test]
    fn a_difference_is_what_is_left_in_the_fewest_prefixes() {
        let check = |from: &[&str], taken: &[&str], expected: &[&str]| {
            let left: Vec<String> = ranges(from).minus(&ranges(taken)).iter().map(Prefix::to_string).collect();
            assert_eq!(left, expected, "{from:?} minus {taken:?}");
        };
        check(&["192.0.2.0/24"], &[], &["192.0.2.0/24"]);
        check(&["192.0.2.0/24"], &["192.0.2.0/24"], &[]);
        check(&["192.0.2.0/24"], &["192.0.0.0/16"], &[]);
        check(&["192.0.2.0/24"], &["192.0.2.0/25"], &["192.0.2.128/25"]);
        check(&["192.0.2.0/24"], &["192.0.2.64/26"], &["192.0.2.0/26", "192.0.2.128/25"]);
        check(&["192.0.2.0/30"], &["192.0.2.1"], &["192.0.2.0/32", "192.0.2.2/31"]);
        check(&["192.0.2.0/25", "192.0.2.128/25"], &["8.0.0.0/8"], &["192.0.2.0/24"]);
        check(
            &["192.0.2.0/24", "198.51.100.0/24"],
            &["192.0.2.128/25", "198.51.100.0/25"],
            &["192.0.2.0/25", "198.51.100.128/25"],
        );
        check(&["0.0.0.0/0"], &["128.0.0.0/1"], &["0.0.0.0/1"]);
        check(&["::/0"], &["::/1"], &["8000::/1"]);
        check(&["::/0", "0.0.0.0/0"], &[], &["0.0.0.0/0", "::/0"]);
        check(&["2001:db8::/32"], &["2001:db8:8000::/33", "192.0.2.0/24"], &["2001:db8::/33"]);
    }

    #[test]
    fn only_a_check_that_is_on_misses() {
        let address = "203.0.113.1".parse().unwrap();
        let sources = |check| Sources { check, ranges: ranges(&["192.0.2.0/24"]) };
        assert!(!sources(SourceCheck::Off).misses(address));
        assert!(sources(SourceCheck::Count).misses(address));
        assert!(sources(SourceCheck::Refuse).misses(address));
        assert!(!sources(SourceCheck::Refuse).misses("192.0.2.1".parse().unwrap()));
    }
}
