//! The cryptographic library of handshakes and certificates: aws-lc, or ring in a build without the feature `aws-lc`.
//!
//! Owns the choice, and what is accepted: both libraries accept the same cipher suites, signature schemes and kinds of keys, and the same
//! key exchange groups but for the hybrid one with ML-KEM, which ring has not. With the feature, aws-lc does key exchange and signatures.
//! ring still does cipher suites, tickets ([`tickets`] has those that hosts share) and randomness, at the same cost per handshake, and hashes
//! and HMACs elsewhere.
//!
//! No other module names a provider of rustls, or relies on rustls' process-wide default, which is ambiguous in a build with two
//! libraries.

mod tickets;

use std::sync::Arc;

use hookgate_core::signatures::CERTIFICATE_SIGNATURES;
use rustls::crypto::SupportedKxGroup;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::server::ProducesTickets;
use rustls::sign::SigningKey;
use rustls::{
    CipherSuite, Error, NamedGroup, SignatureScheme, SupportedCipherSuite, SupportedProtocolVersion, version,
};
use rustls_pki_types::{PrivateKeyDer, SignatureVerificationAlgorithm};
use serde::Deserialize;

use self::tickets::SharedTickets;
pub use self::tickets::{SharedKeys, TicketSecrets};

#[cfg(feature = "aws-lc")]
use rustls::crypto::aws_lc_rs as library;
#[cfg(not(feature = "aws-lc"))]
use rustls::crypto::ring as library;

#[cfg(feature = "aws-lc")]
use webpki::aws_lc_rs as algorithms;
#[cfg(not(feature = "aws-lc"))]
use webpki::ring as algorithms;

/// The name of the library that does key exchange and signatures, for the log and metrics.
pub const LIBRARY: &str = if cfg!(feature = "aws-lc") { "aws-lc" } else { "ring" };

/// The signature schemes of handshakes: those of ring's provider, in its order, each with the library's algorithms. An ECDSA scheme has
/// two algorithms, because TLS 1.2 does not bind it to a curve.
static HANDSHAKE_SIGNATURES: &[(SignatureScheme, &[&dyn SignatureVerificationAlgorithm])] = &[
    (SignatureScheme::ECDSA_NISTP384_SHA384, &[algorithms::ECDSA_P384_SHA384, algorithms::ECDSA_P256_SHA384]),
    (SignatureScheme::ECDSA_NISTP256_SHA256, &[algorithms::ECDSA_P256_SHA256, algorithms::ECDSA_P384_SHA256]),
    (SignatureScheme::ED25519, &[algorithms::ED25519]),
    (SignatureScheme::RSA_PSS_SHA512, &[algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY]),
    (SignatureScheme::RSA_PSS_SHA384, &[algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY]),
    (SignatureScheme::RSA_PSS_SHA256, &[algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY]),
    (SignatureScheme::RSA_PKCS1_SHA512, &[algorithms::RSA_PKCS1_2048_8192_SHA512]),
    (SignatureScheme::RSA_PKCS1_SHA384, &[algorithms::RSA_PKCS1_2048_8192_SHA384]),
    (SignatureScheme::RSA_PKCS1_SHA256, &[algorithms::RSA_PKCS1_2048_8192_SHA256]),
];

/// A group of key exchange, in the order in which hookgate prefers them: the hybrid first, which an attacker who records today and has a
/// quantum computer later cannot open, then by cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum KeyExchange {
    /// X25519 and ML-KEM-768 together (draft-ietf-tls-ecdhe-mlkem). Only in TLS 1.3, and only with aws-lc.
    #[serde(rename = "X25519MLKEM768")]
    X25519MlKem768,
    /// X25519 (RFC 7748).
    X25519,
    /// The curve P-256, which OpenSSL calls prime256v1 and IANA secp256r1.
    #[serde(rename = "P-256")]
    P256,
    /// The curve P-384; secp384r1 at IANA.
    #[serde(rename = "P-384")]
    P384,
}

impl KeyExchange {
    /// Those that this build has, in the order of preference.
    pub const AVAILABLE: &[Self] = if cfg!(feature = "aws-lc") {
        &[Self::X25519MlKem768, Self::X25519, Self::P256, Self::P384]
    } else {
        &[Self::X25519, Self::P256, Self::P384]
    };

    /// As in the configuration and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::X25519MlKem768 => "X25519MLKEM768",
            Self::X25519 => "X25519",
            Self::P256 => "P-256",
            Self::P384 => "P-384",
        }
    }

    /// Whether TLS 1.2 has it. Such a group is also one that a quantum computer opens later.
    #[must_use]
    pub const fn is_classical(self) -> bool {
        !matches!(self, Self::X25519MlKem768)
    }

    /// The name of the group with this number in TLS; empty for any other than [`KeyExchange::AVAILABLE`].
    #[must_use]
    pub fn name_of(group: NamedGroup) -> &'static str {
        match group {
            NamedGroup::X25519MLKEM768 => Self::X25519MlKem768.name(),
            NamedGroup::X25519 => Self::X25519.name(),
            NamedGroup::secp256r1 => Self::P256.name(),
            NamedGroup::secp384r1 => Self::P384.name(),
            _ => "",
        }
    }

    /// The library's; `None` if this build has it not.
    fn group(self) -> Option<&'static dyn SupportedKxGroup> {
        match self {
            #[cfg(feature = "aws-lc")]
            Self::X25519MlKem768 => Some(library::kx_group::X25519MLKEM768),
            #[cfg(not(feature = "aws-lc"))]
            Self::X25519MlKem768 => None,
            Self::X25519 => Some(library::kx_group::X25519),
            Self::P256 => Some(library::kx_group::SECP256R1),
            Self::P384 => Some(library::kx_group::SECP384R1),
        }
    }
}

/// Which versions of TLS and which cipher suites senders are served with. None has a suite without forward secrecy and authenticated
/// encryption: the libraries have no such suite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsPolicy {
    /// TLS 1.3 and 1.2, as Mozilla's configuration of this name has them, but for the suites with finite-field Diffie-Hellman.
    #[default]
    Intermediate,
    /// TLS 1.3 alone, as Mozilla's configuration of this name.
    Modern,
    /// TLS 1.2 with the suites that PagerDuty documents and hookgate has.
    PagerDuty,
}

/// The versions of TLS that the libraries have.
static VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];

/// The suites of PagerDuty's list that the libraries have.
const PAGERDUTY_SUITES: [CipherSuite; 4] = [
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
];

impl TlsPolicy {
    /// Every policy.
    pub const ALL: [Self; 3] = [Self::Intermediate, Self::Modern, Self::PagerDuty];

    /// As in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Intermediate => "intermediate",
            Self::Modern => "modern",
            Self::PagerDuty => "pagerduty",
        }
    }

    /// The versions that it has.
    #[must_use]
    pub fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Self::Intermediate => &VERSIONS,
            Self::Modern => &VERSIONS[..1],
            Self::PagerDuty => &VERSIONS[1..],
        }
    }

    /// The suites that it has, in its versions.
    pub fn suites(self) -> impl Iterator<Item = CipherSuite> {
        let all = ring::default_provider().cipher_suites.into_iter();
        let is_offered =
            move |suite: &SupportedCipherSuite| self.has(suite.suite()) && self.versions().contains(&suite.version());
        all.filter(is_offered).map(|suite| suite.suite())
    }

    /// Whether it has this suite, in one of its versions.
    fn has(self, suite: CipherSuite) -> bool {
        self != Self::PagerDuty || PAGERDUTY_SUITES.contains(&suite)
    }
}

/// The provider of the connections that hookgate opens, with every group of this build.
pub fn provider() -> CryptoProvider {
    provider_for(TlsPolicy::default(), KeyExchange::AVAILABLE)
}

/// The provider of handshakes under `policy` with these groups, the first preferred. Groups that this build lacks are left out.
pub fn provider_for(policy: TlsPolicy, groups: &[KeyExchange]) -> CryptoProvider {
    if cfg!(feature = "aws-lc") {
        // For the first key of a process, aws-lc gathers entropy: 30 to 60 ms of CPU if it was built to take the jitter of the CPU too, which
        // `.cargo/config.toml` leaves out. Do it now, not in a handshake. If it fails, every handshake fails with an error.
        drop(library::kx_group::X25519.start());
    }
    let mut provider = CryptoProvider {
        kx_groups: groups.iter().filter_map(|group| group.group()).collect(),
        signature_verification_algorithms: WebPkiSupportedAlgorithms {
            all: CERTIFICATE_SIGNATURES,
            mapping: HANDSHAKE_SIGNATURES,
        },
        ..ring::default_provider()
    };
    provider.cipher_suites.retain(|suite| policy.has(suite.suite()));
    provider
}

/// The key of a server certificate, ready to sign. In every build ring parses it first, so that all builds accept the same keys (aws-lc
/// also accepts P-521, ML-DSA, and RSA keys of more than 4096 bits) and report the same errors.
///
/// # Errors
///
/// If the key is damaged, or not RSA of 2048 to 4096 bits, ECDSA on P-256 or P-384, or Ed25519.
pub fn signing_key(key: &PrivateKeyDer<'_>) -> Result<Arc<dyn SigningKey>, Error> {
    let read_by_ring = ring::sign::any_supported_type(key)?;
    if cfg!(feature = "aws-lc") { library::sign::any_supported_type(key) } else { Ok(read_by_ring) }
}

/// Encrypts and decrypts session tickets with the keys that hosts share, or without such with a new random key.
///
/// # Errors
///
/// [`Error`] if the system provides no randomness.
pub fn ticketer(shared: Option<SharedKeys>) -> Result<Arc<dyn ProducesTickets>, Error> {
    match shared {
        Some(keys) => Ok(Arc::new(SharedTickets::new(keys))),
        None => ring::Ticketer::new(),
    }
}

#[cfg(test)]
mod tests;
