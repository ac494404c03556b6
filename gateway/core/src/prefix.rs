//! A range of addresses, as configuration and feeds write it: `192.0.2.0/24`, `2001:db8::/32`, or one address.
//!
//! Owns parsing and the arithmetic of prefixes. Must not know what a range is for.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A prefix whose host bits are zero.
///
/// Ordered by family, then first address, then length: a prefix comes right before everything that it covers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    family: AddressFamily,
    /// The address, left-aligned: an IPv4 address stands in the first 32 bits.
    bits: u128,
    length: u8,
}

/// The family of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AddressFamily {
    /// 32-bit addresses.
    Ipv4,
    /// 128-bit addresses.
    Ipv6,
}

impl AddressFamily {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    /// Bits of an address.
    pub const fn bits(self) -> u8 {
        match self {
            Self::Ipv4 => 32,
            Self::Ipv6 => 128,
        }
    }

    /// The metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        }
    }
}

/// Why a text is no prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// The part before the slash.
    #[error("`{0}` is no IP address: write a range as 192.0.2.0/24 or 2001:db8::/32, or one address")]
    Address(String),
    /// The part after it.
    #[error("`{length}` is no prefix length: write a number from 0 to {most}")]
    Length {
        /// As written.
        length: String,
        /// The most that the family has.
        most: u8,
    },
    /// Not a prefix but an address within one.
    #[error("`{written}` has bits set behind its length: write {meant}, or {address} for the one address")]
    HostBits {
        /// As written.
        written: String,
        /// The range that it lies in.
        meant: Prefix,
        /// The address alone.
        address: IpAddr,
    },
}

impl Prefix {
    /// The prefix of `length` bits that holds `address`; a length beyond the family's bits is the address itself.
    pub fn containing(address: IpAddr, length: u8) -> Self {
        let (family, bits) = left_aligned(address);
        let length = length.min(family.bits());
        Self { family, bits: bits & mask(length), length }
    }

    /// IPv4 or IPv6.
    pub fn family(&self) -> AddressFamily {
        self.family
    }

    /// The first address, left-aligned in 128 bits.
    pub fn bits(&self) -> u128 {
        self.bits
    }

    /// Bits of the prefix: 0 to 32 or 128.
    pub fn length(&self) -> u8 {
        self.length
    }

    /// The first address.
    pub fn address(&self) -> IpAddr {
        match self.family {
            AddressFamily::Ipv4 => IpAddr::V4(Ipv4Addr::from_bits((self.bits >> 96) as u32)),
            AddressFamily::Ipv6 => IpAddr::V6(Ipv6Addr::from_bits(self.bits)),
        }
    }

    /// Whether every address of `other` is in this one.
    pub fn covers(&self, other: &Self) -> bool {
        self.family == other.family && self.length <= other.length && (self.bits ^ other.bits) & mask(self.length) == 0
    }

    /// Whether `address` is in it. An IPv4-mapped IPv6 address counts as the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.covers(&Self::containing(address.to_canonical(), u8::MAX))
    }

    /// The last address, left-aligned; the bits behind an IPv4 address are ones.
    pub fn last(&self) -> u128 {
        self.bits | !mask(self.length)
    }
}

/// `length` ones, then zeros.
fn mask(length: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

fn left_aligned(address: IpAddr) -> (AddressFamily, u128) {
    match address {
        IpAddr::V4(address) => (AddressFamily::Ipv4, u128::from(address.to_bits()) << 96),
        IpAddr::V6(address) => (AddressFamily::Ipv6, address.to_bits()),
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.trim().parse().map_err(|_| PrefixError::Address(address.trim().to_owned()))?;
        let (family, bits) = left_aligned(address);
        let most = family.bits();
        let length = match length.map(str::trim) {
            None => most,
            Some(length) => match length.parse() {
                Ok(parsed) if parsed <= most && length.bytes().all(|byte| byte.is_ascii_digit()) => parsed,
                _ => return Err(PrefixError::Length { length: length.to_owned(), most }),
            },
        };
        let meant = Self::containing(address, length);
        if meant.bits != bits {
            return Err(PrefixError::HostBits { written: text.to_owned(), meant, address });
        }
        Ok(meant)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address(), self.length)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_parsed_or_refused_with_what_to_write_instead() {
        let check = |text: &str, expected: Result<&str, &str>| {
            let found = text.parse::<Prefix>();
            match expected {
                Ok(shown) => assert_eq!(found.map(|prefix| prefix.to_string()), Ok(shown.to_owned()), "{text}"),
                Err(part) => match found {
                    Ok(prefix) => unreachable!("{text} is read as {prefix}"),
                    Err(error) => assert!(error.to_string().contains(part), "{text}: {error}"),
                },
            }
        };
        check("192.0.2.0/24", Ok("192.0.2.0/24"));
        check("192.0.2.7", Ok("192.0.2.7/32"));
        check("0.0.0.0/0", Ok("0.0.0.0/0"));
        check("2001:DB8::/32", Ok("2001:db8::/32"));
        check("::1", Ok("::1/128"));
        check("192.0.2.7/24", Err("write 192.0.2.0/24, or 192.0.2.7"));
        check("192.0.2.0/33", Err("0 to 32"));
        check("2001:db8::/129", Err("0 to 128"));
        check("192.0.2.0/+24", Err("0 to 32"));
        check("192.0.2.0/", Err("0 to 32"));
        check("192.0.2/24", Err("no IP address"));
        check("", Err("no IP address"));
    }

    #[test]
    fn a_prefix_covers_what_it_says() {
        let check = |prefix: &str, address: &str, expected| {
            let (prefix, address): (Prefix, IpAddr) = match (prefix.parse(), address.parse()) {
                (Ok(prefix), Ok(address)) => (prefix, address),
                _ => unreachable!("{prefix} {address}"),
            };
            assert_eq!(prefix.contains(address), expected, "{prefix} {address}");
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
}
