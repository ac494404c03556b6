//! Which library does the cryptography of handshakes and certificates: ring, or aws-lc in a build with the feature `aws-lc`.
//!
//! Owns the choice, and what is accepted: key exchange groups, cipher suites, signature schemes and kinds of keys are the same
//! whichever library works. With the feature, key exchange and signatures are aws-lc's. Cipher suites, tickets and randomness
//! stay ring's, which cost a handshake no more, and so do hashes and HMACs elsewhere. Nobody else names a library's provider,
//! and nobody relies on rustls' process-wide default, which two libraries in one build leave undecided.

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

/// The library that does key exchange and signatures, for people and for metrics.
pub const LIBRARY: &str = if cfg!(feature = "aws-lc") { "aws-lc" } else { "ring" };

/// The signatures of handshakes: those schemes that ring's provider has, in its order, each with the library's algorithms for the
/// keys that fit. (For TLS 1.2 a scheme leaves the curve open, so there are two.)
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

/// The provider of every TLS connection, ours as a server and those to token issuers. X25519 is preferred; the hybrid groups with
/// ML-KEM, which aws-lc has and ring has not, are left out.
pub fn provider() -> CryptoProvider {
    use library::kx_group::{SECP256R1, SECP384R1, X25519};
    if cfg!(feature = "aws-lc") {
        // Its first key of a process has aws-lc gather entropy for 30 to 60 ms of CPU: now, rather than in a handshake. Where
        // that fails, every handshake will fail and say so.
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

/// The key of one of our certificates, ready to sign. ring reads it first in every build, so that no build takes a key that
/// another refuses (aws-lc would take P-521, ML-DSA, and RSA keys of more than 4096 bits), and all refuse in the same words.
///
/// # Errors
///
/// Where the key is damaged, or not RSA of 2048 to 4096 bits, ECDSA on P-256 or P-384, or Ed25519.
pub fn signing_key(key: &PrivateKeyDer<'_>) -> Result<Arc<dyn SigningKey>, Error> {
    let read_by_ring = ring::sign::any_supported_type(key)?;
    if cfg!(feature = "aws-lc") { library::sign::any_supported_type(key) } else { Ok(read_by_ring) }
}

/// Seals and opens session tickets, with a fresh key.
///
/// # Errors
///
/// [`Error`] where the system gives no randomness.
pub fn ticketer() -> Result<Arc<dyn ProducesTickets>, Error> {
    ring::Ticketer::new()
}

#[cfg(test)]
mod tests;
