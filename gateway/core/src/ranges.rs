//! The addresses that a provider sends from, and whether a request came from one of them.
//!
//! Owns how a range is written, and sets of addresses: lookup and difference. The pre-filter knows only the union of all
//! providers' ranges; this module checks that the request of a verified provider came from the ranges of that provider. Must
//! not read files, nor know requests.

use std::net::IpAddr;

use ipnet::IpNet;

/// What to do with a request from outside its provider's ranges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceCheck {
    /// Ignore the address.
    #[default]
    Off,
    /// Count the request, and go on.
    Count,
    /// Count the request, and refuse it.
    Refuse,
}

/// The ranges of one provider, and how they are checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// What to do with requests from other addresses.
    pub check: SourceCheck,
    /// The ranges.
    pub ranges: Ranges,
    /// Whether `ranges` has all of them: false as long as a list that is fetched is unknown.
    pub is_complete: bool,
}

impl Sources {
    /// Whether the check is on and `address` is outside the ranges.
    pub fn misses(&self, address: IpAddr) -> bool {
        self.check != SourceCheck::Off && !self.ranges.contains(address)
    }
}

/// Why a text is not a range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// The part before the slash.
    #[error("`{0}` is not an IP address: write a range such as 192.0.2.0/24 or 2001:db8::/32, or one address")]
    Address(String),
    /// The part after the slash.
    #[error("`{length}` is not a prefix length: write a number from 0 to {most}")]
    Length {
        /// As written.
        length: String,
        /// The longest prefix of the family: 32 or 128.
        most: u8,
    },
    /// An address inside a range, with the length of the range.
    #[error("`{written}` has bits set after its prefix: write {meant}, or {address} for the one address")]
    HostBits {
        /// As written.
        written: String,
        /// The range that contains the address.
        meant: IpNet,
        /// The address alone.
        address: IpAddr,
    },
}

/// Parses a range as configuration and feeds write it: `192.0.2.0/24`, `2001:db8::/32`, or one address, which is a /32 or a
/// /128. Unlike the parser of [`IpNet`] it refuses host bits. A range of IPv4-mapped addresses (`::ffff:192.0.2.0/120`) is the IPv4
/// range that it means, because [`Ranges::contains`] knows such addresses as IPv4.
///
/// # Errors
///
/// If the text is something else; the error says what to write.
pub fn parse(text: &str) -> Result<IpNet, RangeError> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address.trim(), Some(length.trim())),
        None => (text.trim(), None),
    };
    let address: IpAddr = address.parse().map_err(|_| RangeError::Address(address.to_owned()))?;
    let Some(length) = length else { return Ok(address.to_canonical().into()) };
    let most = IpNet::from(address).max_prefix_len();
    let parsed = length.parse().ok().filter(|_| length.bytes().all(|byte| byte.is_ascii_digit()));
    let range = parsed.and_then(|length| IpNet::new(address, length).ok());
    let range = range.ok_or_else(|| RangeError::Length { length: length.to_owned(), most })?;
    let meant = range.trunc();
    if meant != range {
        return Err(RangeError::HostBits { written: text.to_owned(), meant, address });
    }
    Ok(unmapped(range).unwrap_or(range))
}

/// The IPv4 range of a range of IPv4-mapped addresses (RFC 4291, section 2.5.5.2): ::ffff:0:0/96 and what it contains.
fn unmapped(range: IpNet) -> Option<IpNet> {
    const MAPPED_BITS: u8 = 96;
    let IpAddr::V4(address) = range.addr().to_canonical() else { return None };
    let length = range.prefix_len().checked_sub(MAPPED_BITS).filter(|_| range.addr().is_ipv6())?;
    IpNet::new(address.into(), length).ok()
}

/// A set of addresses: disjoint ranges in ascending order, IPv4 before IPv6, so that a lookup is a binary search.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<IpNet>);

impl Ranges {
    /// The addresses of `ranges`, which may overlap and have any order.
    pub fn new(ranges: &[IpNet]) -> Self {
        Self(IpNet::aggregate(&ranges.to_vec()))
    }

    /// Whether `address` is in the set. An IPv4-mapped IPv6 address counts as the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let after = self.0.partition_point(|range| range.addr() <= address);
        after.checked_sub(1).is_some_and(|index| self.0[index].contains(&address))
    }

    /// What is in this set and not in `other`, as the fewest ranges, in ascending order.
    pub fn minus(&self, other: &Self) -> Vec<IpNet> {
        let mut left = Vec::new();
        self.0.iter().for_each(|range| subtract(*range, &other.0, &mut left));
        left
    }
}

/// Appends what is in `range` and in none of `taken` to `left`, by halving the range until each part is whole or gone.
/// `taken` is disjoint and ascending. The depth is at most 128, the bits of an address.
fn subtract(range: IpNet, taken: &[IpNet], left: &mut Vec<IpNet>) {
    let begin = taken.partition_point(|other| other.broadcast() < range.addr());
    let end = taken.partition_point(|other| other.addr() <= range.broadcast());
    let taken = &taken[begin..end];
    match taken.first() {
        None => left.push(range),
        Some(first) if first.contains(&range) => {}
        Some(_) => {
            let halves = range.subnets(range.prefix_len() + 1).into_iter().flatten();
            halves.for_each(|half| subtract(half, taken, left));
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

    use proptest::prelude::*;

    use super::*;

    fn ranges(texts: &[&str]) -> Ranges {
        let parsed: Vec<IpNet> = texts.iter().map(|text| parse(text).unwrap()).collect();
        Ranges::new(&parsed)
    }

    #[test]
    fn ranges_are_parsed_or_refused_with_what_to_write_instead() {
        let check = |text: &str, expected: Result<&str, &str>| {
            let found = parse(text);
            match expected {
                Ok(shown) => assert_eq!(found.map(|range| range.to_string()), Ok(shown.to_owned()), "{text}"),
                Err(part) => match found {
                    Ok(range) => unreachable!("{text} is read as {range}"),
                    Err(error) => assert!(error.to_string().contains(part), "{text}: {error}"),
                },
            }
        };
        check("192.0.2.0/24", Ok("192.0.2.0/24"));
        check("192.0.2.7", Ok("192.0.2.7/32"));
        check("0.0.0.0/0", Ok("0.0.0.0/0"));
        check("2001:DB8::/32", Ok("2001:db8::/32"));
        check("::1", Ok("::1/128"));
        check("::ffff:192.0.2.7", Ok("192.0.2.7/32"));
        check("::ffff:192.0.2.0/120", Ok("192.0.2.0/24"));
        check("::ffff:c000:200/128", Ok("192.0.2.0/32"));
        check("::ffff:0:0/96", Ok("0.0.0.0/0"));
        check("::/64", Ok("::/64"));
        check("::ffff:192.0.2.7/120", Err("has bits set"));
        check("192.0.2.7/24", Err("write 192.0.2.0/24, or 192.0.2.7"));
        check("192.0.2.0/33", Err("0 to 32"));
        check("2001:db8::/129", Err("0 to 128"));
        check("192.0.2.0/+24", Err("0 to 32"));
        check("192.0.2.0/", Err("0 to 32"));
        check("192.0.2/24", Err("not an IP address"));
        check("", Err("not an IP address"));
    }

    #[test]
    fn a_range_contains_what_it_says() {
        let check = |range: &str, address: &str, expected| {
            assert_eq!(ranges(&[range]).contains(address.parse().unwrap()), expected, "{range} {address}");
        };
        check("192.0.2.0/25", "192.0.2.127", true);
        check("192.0.2.0/25", "192.0.2.128", false);
        check("192.0.2.0/25", "::ffff:192.0.2.1", true);
        check("0.0.0.0/0", "255.255.255.255", true);
        check("0.0.0.0/0", "::1", false);
        check("::/0", "192.0.2.1", false);
        check("2001:db8::1/128", "2001:db8::1", true);
        check("2001:db8::1/128", "2001:db8::2", false);
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
            let left: Vec<String> = ranges(from).minus(&ranges(taken)).iter().map(IpNet::to_string).collect();
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
        let sources = |check| Sources { check, ranges: ranges(&["192.0.2.0/24"]), is_complete: true };
        assert!(!sources(SourceCheck::Off).misses(address));
        assert!(sources(SourceCheck::Count).misses(address));
        assert!(sources(SourceCheck::Refuse).misses(address));
        assert!(!sources(SourceCheck::Refuse).misses("192.0.2.1".parse().unwrap()));
    }

    /// Addresses of a small universe, so that ranges touch, nest and repeat: the first and the last 16 of each family.
    fn universe() -> impl Iterator<Item = IpAddr> {
        let ipv4 = (0..16_u32).flat_map(|number| [number, u32::MAX - number]);
        let ipv6 = (0..16_u128).flat_map(|number| [number, u128::MAX - number]);
        let ipv4 = ipv4.map(|bits| IpAddr::from(std::net::Ipv4Addr::from_bits(bits)));
        ipv4.chain(ipv6.map(|bits| IpAddr::from(std::net::Ipv6Addr::from_bits(bits))))
    }

    fn any_range() -> impl Strategy<Value = IpNet> {
        let addresses: Vec<IpAddr> = universe().collect();
        (prop::sample::select(addresses), 0..=5_u8).prop_map(|(address, size)| {
            let whole = IpNet::from(address);
            IpNet::new(address, whole.max_prefix_len() - size).unwrap().trunc()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_set_of_ranges_contains_what_one_of_its_ranges_contains(
            list in prop::collection::vec(any_range(), 0..12),
            taken in prop::collection::vec(any_range(), 0..12),
        ) {
            let is_in = |list: &[IpNet], address: IpAddr| list.iter().any(|range| range.contains(&address.to_canonical()));
            let (set, other) = (Ranges::new(&list), Ranges::new(&taken));
            let left = set.minus(&other);
            for address in universe() {
                prop_assert_eq!(set.contains(address), is_in(&list, address), "{}", address);
                let is_left = is_in(&list, address) && !is_in(&taken, address);
                prop_assert_eq!(is_in(&left, address), is_left, "{} in {:?}", address, left);
            }
            prop_assert_eq!(&IpNet::aggregate(&left), &left, "not the fewest");
        }
    }
}
