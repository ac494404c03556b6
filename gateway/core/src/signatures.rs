//! The signature algorithms that certificates and revocation lists may carry.
//!
//! Owns the list, and what a check costs. The list is the same for both libraries that can verify: ring, and aws-lc in a build with
//! the feature `aws-lc`. Must not name a TLS crypto provider; `crypto` of the daemon does.

use rustls_pki_types::{SignatureVerificationAlgorithm, alg_id};

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

/// The cost of one check by ECDSA on P-256 or by Ed25519; see [`cost`].
pub(crate) const CHEAP_CHECK: u32 = 60;

/// The cost of one check by ECDSA on P-384; see [`cost`].
pub(crate) const P384_CHECK: u32 = 740;

/// About how many microseconds ring takes for this check, on one core of a recent server. Only the proportions matter. aws-lc takes
/// less for P-384.
///
/// The cost of RSA grows with the square of the length of the modulus, and with the length of the exponent, which ring limits to 33 bits.
pub(crate) fn cost(algorithm: &dyn SignatureVerificationAlgorithm, public_key: &[u8], message: &[u8]) -> u32 {
    let key = algorithm.public_key_alg_id();
    let check = if key == alg_id::RSA_ENCRYPTION {
        let length = u32::try_from(public_key.len()).unwrap_or(u32::MAX);
        let blocks = length.div_ceil(128);
        let check = blocks.saturating_mul(blocks).saturating_mul(5);
        // An RSAPublicKey ends with its exponent (RFC 8017, appendix A.1.1): an INTEGER, here of at most 3 bytes.
        let is_short = matches!(public_key, [.., 0x02, 0x01, _] | [.., 0x02, 0x03, _, _, _]);
        if is_short { check } else { check.saturating_mul(4) }
    } else if key == alg_id::ECDSA_P384 {
        P384_CHECK
    } else {
        CHEAP_CHECK
    };
    // The message is hashed, 500 bytes in a microsecond. Usual certificates are shorter than a block.
    let blocks = u32::try_from(message.len() >> 11).unwrap_or(u32::MAX);
    check.saturating_add(blocks.saturating_mul(4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_of_a_check_follows_its_key_and_message() {
        let by = |wanted: &dyn SignatureVerificationAlgorithm, key: &[u8], message: usize| {
            let same =
                |found: &&&dyn SignatureVerificationAlgorithm| found.public_key_alg_id() == wanted.public_key_alg_id();
            cost(*CERTIFICATE_SIGNATURES.iter().find(same).expect("it is accepted"), key, &vec![0; message])
        };
        let rsa = |bits: usize, exponent: &[u8]| {
            let integer = [&[0x02, u8::try_from(exponent.len()).expect("short")], exponent].concat();
            by(algorithms::RSA_PKCS1_2048_8192_SHA256, &[&vec![7; bits / 8 + 9], &integer[..]].concat(), 1000)
        };
        assert_eq!(by(algorithms::ECDSA_P256_SHA256, &[4; 65], 1000), 60);
        assert_eq!(by(algorithms::ED25519, &[4; 32], 1000), 60);
        assert_eq!(by(algorithms::ECDSA_P384_SHA384, &[4; 97], 1000), 740);
        assert_eq!(by(algorithms::ECDSA_P256_SHA256, &[4; 65], 8192), 76);
        assert_eq!(by(algorithms::ECDSA_P256_SHA256, &[4; 65], 5_000_000), 9_824);
        assert_eq!([rsa(2048, &[1, 0, 1]), rsa(4096, &[1, 0, 1]), rsa(4096, &[3])], [45, 125, 125]);
        assert_eq!(rsa(8192, &[1, 0, 1]), 405);
        assert_eq!(rsa(8192, &[1, 0xff, 0xff, 0xff, 0xff]), 1620);
    }
}
