//! The cryptographic library of handshakes and certificates: ring, or aws-lc in a build with the feature `aws-lc`.
//!
//! Owns the choice, and what is accepted: both libraries accept the same key exchange groups, cipher suites, signature schemes and kinds
//! of keys. With the feature, aws-lc does key exchange and signatures. ring still does cipher suites, tickets and randomness, at the
//! same cost per handshake, and hashes and HMACs elsewhere.
//!
//! No other module names a provider of rustls, or relies on rustls' process-wide default, which is ambiguous in a build with two
//! libraries.

use std::sync::Arc;

use hookgate_core::signatures::CERTIFICATE_SIGNATURES;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::server::ProducesTickets;
use rustls::sign::SigningKey;
use rustls::{Error, SignatureScheme};
use rustls_pki_types::{PrivateKeyDer, SignatureVerificationAlgorithm};

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

/// The provider of every TLS connection, to peers and to token issuers. Prefers X25519, and omits the hybrid groups with ML-KEM, which
/// only aws-lc has.
pub fn provider() -> CryptoProvider {
    use library::kx_group::{SECP256R1, SECP384R1, X25519};
    if cfg!(feature = "aws-lc") {
        // For the first key of a process, aws-lc gathers entropy, which takes 30 to 60 ms of CPU. Do it now, not in a handshake. If it
        // fails, every handshake fails with an error.
        drop(X25519.start());
    }
    CryptoProvider {
        kx_groups: vec![X25519, SECP256R1, SECP384R1],
        signature_verification_algorithms: WebPkiSupportedAlgorithms {
            all: CERTIFICATE_SIGNATURES,
            mapping: HANDSHAKE_SIGNATURES,
        },
        ..ring::default_provider()
    }
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

/// Encrypts and decrypts session tickets with a new random key.
///
/// # Errors
///
/// [`Error`] if the system provides no randomness.
pub fn ticketer() -> Result<Arc<dyn ProducesTickets>, Error> {
    ring::Ticketer::new()
}

#[cfg(test)]
mod tests;
