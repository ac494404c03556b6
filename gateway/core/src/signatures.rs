//! The signature algorithms that certificates and revocation lists may carry.
//!
//! Owns the list, which is the same whichever library verifies: ring, or aws-lc in a build with the feature `aws-lc`. Names no
//! provider of TLS: that is the daemon's.

use rustls_pki_types::SignatureVerificationAlgorithm;

#[cfg(feature = "aws-lc")]
use webpki::aws_lc_rs as algorithms;
#[cfg(not(feature = "aws-lc"))]
use webpki::ring as algorithms;

/// The signatures that a certificate or a revocation list may carry: those that ring knows. aws-lc would know P-521 and ML-DSA.
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
