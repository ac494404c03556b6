//! The signature algorithms that certificates and revocation lists may carry.
//!
//! Owns the list. It is the same for both libraries that can verify: ring, and aws-lc in a build with the feature `aws-lc`. Must not
//! name a TLS crypto provider; `crypto` of the daemon does.

use rustls_pki_types::SignatureVerificationAlgorithm;

#[cfg(feature = "aws-lc")]
use webpki::aws_lc_rs as algorithms;
#[cfg(not(feature = "aws-lc"))]
use webpki::ring as algorithms;

/// The signature algorithms that hookgate accepts on certificates and revocation lists: those that ring supports. aws-lc also
/// supports P-521 and ML-DSA, which are not accepted.
pub static CERTIFICATE_SIGNATURES: &[&dyn SignatureVerificationAlgorithm] = &[
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P256_SHA384,
    algorithms::ECDSA_P384_SHA256,
    algorithms::ECDSA_P384_SHA384,
    algorithms::ED25519,
    algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
    algorithms::RSA_PKCS1_2048_8192_SHA256,
    algorithms::RSA_PKCS1_2048_8192_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA512,
    algorithms::RSA_PKCS1_2048_8192_SHA256_ABSENT_PARAMS,
    algorithms::RSA_PKCS1_2048_8192_SHA384_ABSENT_PARAMS,
    algorithms::RSA_PKCS1_2048_8192_SHA512_ABSENT_PARAMS,
];
