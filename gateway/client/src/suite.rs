//! Names of TLS versions and cipher suites, as IANA registers them and senders document them.
//!
//! Owns the way from a name to its number and back. Must not connect.

use rustls::CipherSuite;

/// A version of TLS, by its number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// TLS 1.0 (RFC 2246).
    Tls10,
    /// TLS 1.1 (RFC 4346).
    Tls11,
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

impl TlsVersion {
    /// Every version, the oldest first.
    pub const ALL: [Self; 4] = [Self::Tls10, Self::Tls11, Self::Tls12, Self::Tls13];

    /// As in the preset and in reports: `1.2`.
    #[must_use]
    pub fn number(self) -> &'static str {
        match self {
            Self::Tls10 => "1.0",
            Self::Tls11 => "1.1",
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        }
    }

    /// The version that [`TlsVersion::number`] names.
    #[must_use]
    pub fn parse(number: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.number() == number)
    }

    /// `ProtocolVersion` on the wire.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Tls10 => 0x0301,
            Self::Tls11 => 0x0302,
            Self::Tls12 => 0x0303,
            Self::Tls13 => 0x0304,
        }
    }

    /// The version with this number on the wire.
    #[must_use]
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.code() == code)
    }
}

/// The blocks of numbers in which IANA has registered suites (TLS Cipher Suites registry).
const BLOCKS: [std::ops::RangeInclusive<u16>; 4] = [0x0000..=0x00ff, 0x1300..=0x13ff, 0xc000..=0xc0ff, 0xcca0..=0xccaf];

/// Every suite with a name.
pub fn named() -> impl Iterator<Item = CipherSuite> {
    BLOCKS.into_iter().flatten().map(CipherSuite::from).filter(|suite| suite.as_str().is_some())
}

/// The suite that IANA registers under `name`, such as `TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`.
#[must_use]
pub fn parse(name: &str) -> Option<CipherSuite> {
    named().find(|suite| self::name(*suite) == name)
}

/// The name at IANA; the number if it has none.
#[must_use]
pub fn name(suite: CipherSuite) -> String {
    match suite.as_str() {
        // rustls has names of its own for the suites of TLS 1.3.
        Some(name) => name.replacen("TLS13_", "TLS_", 1),
        None => format!("0x{:04x}", u16::from(suite)),
    }
}

/// Whether the suite is one of TLS 1.3, which no other version has (RFC 8446, appendix B.4).
#[must_use]
pub fn is_of_tls13(suite: CipherSuite) -> bool {
    u16::from(suite) >> 8 == 0x13
}

/// Whether it is a signal, and no suite: renegotiation (RFC 5746) or fallback (RFC 7507).
#[must_use]
pub fn is_signal(suite: CipherSuite) -> bool {
    matches!(u16::from(suite), 0x00ff | 0x5600)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_registry() {
        for (registered, code) in [
            ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", 0xc02f),
            ("TLS_DHE_DSS_WITH_AES_256_CBC_SHA256", 0x006a),
            ("TLS_EMPTY_RENEGOTIATION_INFO_SCSV", 0x00ff),
            ("TLS_AES_128_GCM_SHA256", 0x1301),
            ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", 0xcca9),
        ] {
            let suite = parse(registered).map(u16::from);
            assert_eq!(suite, Some(code), "{registered}");
            assert_eq!(name(CipherSuite::from(code)), registered);
        }
        assert_eq!(parse("ECDHE-RSA-AES128-GCM-SHA256"), None, "OpenSSL's names are others");
        assert_eq!(name(CipherSuite::from(0x0a0a)), "0x0a0a");
    }
}
