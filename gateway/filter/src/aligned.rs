//! Ranges as numbers that are alike for both families, for the arithmetic of the tables.
//!
//! Owns the alignment: an address stands at the left of 128 bits, an IPv4 address in the first 32. Must not know what a range
//! is for.

use std::net::IpAddr;

use hookgate_ebpf::Family;
use ipnet::IpNet;

/// IPv4 or IPv6.
pub(super) const fn family(range: &IpNet) -> Family {
    match range {
        IpNet::V4(_) => Family::Ipv4,
        IpNet::V6(_) => Family::Ipv6,
    }
}

/// The first address, with zeros after an IPv4 address.
pub(super) fn first(range: &IpNet) -> u128 {
    match range.network() {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The last address, with ones after an IPv4 address.
pub(super) fn last(range: &IpNet) -> u128 {
    first(range) | u128::MAX.checked_shr(u32::from(range.prefix_len())).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn ranges_are_left_aligned_and_sort_before_what_they_contain() {
        let check = |range: &str, expected_first: u128, expected_last: u128| {
            let range: IpNet = range.parse().unwrap_or_else(|error| unreachable!("{range}: {error}"));
            assert_eq!((first(&range), last(&range)), (expected_first, expected_last), "{range}");
            range
        };
        let ascending = [
            check("0.0.0.0/0", 0, u128::MAX),
            check("10.0.0.0/8", 10 << 120, (11 << 120) - 1),
            check("10.0.0.0/9", 10 << 120, (10 << 120) + (1 << 119) - 1),
            check("10.0.0.0/32", 10 << 120, (10 << 120) + (1 << 96) - 1),
            check("10.0.0.1/32", (10 << 120) + (1 << 96), (10 << 120) + (2 << 96) - 1),
            check("10.128.0.0/9", (10 << 120) + (1 << 119), (11 << 120) - 1),
            check("::/0", 0, u128::MAX),
            check("2001:db8::/32", 0x2001_0db8 << 96, (0x2001_0db9 << 96) - 1),
            check("2001:db8::/128", 0x2001_0db8 << 96, 0x2001_0db8 << 96),
        ];
        // The tables rely on the order of `IpNet` in their maps.
        assert!(ascending.is_sorted(), "{ascending:?}");
        assert_eq!(family(&IpNet::from(IpAddr::from(Ipv4Addr::LOCALHOST))), Family::Ipv4);
    }
}
