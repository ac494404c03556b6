//! Tests of public keys: published vectors, every algorithm, and which keys are refused.

#![expect(clippy::unwrap_used, reason = "tests")]

use data_encoding::HEXLOWER;
use ring::signature::{
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
};

use super::*;
use crate::auth::testing::{ISSUER, ed25519_spki};

fn hex(text: &str) -> Vec<u8> {
    HEXLOWER.decode(text.as_bytes()).unwrap()
}

/// NIST SP 800-57, part 1, table 2.
#[test]
fn rsa_is_as_strong_as_the_other_keys_from_3072_bits_on() {
    let rsa = |bits: usize| PublicKeyMaterial::Rsa { modulus: vec![0xff; bits / 8].into(), exponent: [1, 0, 1].into() };
    assert_eq!([2048, 3064, 3072, 4096].map(|bits| rsa(bits).strength_bits()), [112, 112, 128, 128]);
    assert_eq!(PublicKeyMaterial::of_spki(&ed25519_spki(&[7; 32])).unwrap().strength_bits(), 128);
}

/// RFC 8032, section 7.1, tests 1 to 3.
#[test]
fn verifies_the_vectors_of_rfc_8032() {
    for (key, message, signature) in [
        (
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
    ] {
        let key = PublicKeyMaterial::of_spki(&ed25519_spki(&hex(key))).unwrap();
        let (message, mut signature) = (hex(message), hex(signature));
        for algorithm in SignatureAlgorithm::ALL {
            let expected = algorithm == SignatureAlgorithm::Ed25519;
            assert_eq!(key.verifies(algorithm, &message, &signature), expected, "{algorithm:?}");
        }
        assert!(!key.verifies(SignatureAlgorithm::Ed25519, b"another", &signature));
        signature[7] ^= 1;
        assert!(!key.verifies(SignatureAlgorithm::Ed25519, &message, &signature));
    }
}

#[test]
fn each_rsa_signature_verifies_by_its_own_algorithm_only() {
    let key = PublicKeyMaterial::of_spki(&ISSUER.rsa_spki()).unwrap();
    let rows: [(&'static dyn RsaEncoding, SignatureAlgorithm); 6] = [
        (&RSA_PKCS1_SHA256, SignatureAlgorithm::RsaPkcs1Sha256),
        (&RSA_PKCS1_SHA384, SignatureAlgorithm::RsaPkcs1Sha384),
        (&RSA_PKCS1_SHA512, SignatureAlgorithm::RsaPkcs1Sha512),
        (&RSA_PSS_SHA256, SignatureAlgorithm::RsaPssSha256),
        (&RSA_PSS_SHA384, SignatureAlgorithm::RsaPssSha384),
        (&RSA_PSS_SHA512, SignatureAlgorithm::RsaPssSha512),
    ];
    for (encoding, of_signature) in rows {
        let signature = ISSUER.rsa(encoding, b"message");
        for algorithm in SignatureAlgorithm::ALL {
            let verified = key.verifies(algorithm, b"message", &signature);
            assert_eq!(verified, algorithm == of_signature, "{of_signature:?} by {algorithm:?}");
        }
        assert!(!key.verifies(of_signature, b"massage", &signature));
    }
}

#[test]
fn the_key_of_a_certificate_is_the_one_of_its_public_key() {
    let pair = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&pair).unwrap();
    let of_certificate = PublicKeyMaterial::of_certificate(certificate.der()).unwrap();
    let of_spki = PublicKeyMaterial::of_spki(&rcgen::PublicKeyData::subject_public_key_info(&pair)).unwrap();
    assert_eq!(format!("{of_certificate:?}"), format!("{of_spki:?}"));
    assert!(of_spki.fits(SignatureAlgorithm::EcdsaP256Sha256));
    assert_eq!(PublicKeyMaterial::of_spki(certificate.der()).unwrap_err(), PublicKeyError::Malformed);
}

#[test]
fn other_keys_are_refused() {
    let error = |der: &[u8]| PublicKeyMaterial::of_spki(der).unwrap_err();
    let rsa = ISSUER.rsa_spki();
    for cut in [0, 1, rsa.len() - 1] {
        assert_eq!(error(&rsa[..cut]), PublicKeyError::Malformed, "{cut} bytes");
    }
    assert_eq!(error(&[&rsa[..], b"\0"].concat()), PublicKeyError::Malformed);
    assert_eq!(error(&ed25519_spki(&[0; 32])[..43]), PublicKeyError::Malformed);
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    assert_eq!(error(&rcgen::PublicKeyData::subject_public_key_info(&pair)), PublicKeyError::Type);
    let short = PublicKeyMaterial::rsa(&[0xff; 128], &[1, 0, 1]).unwrap_err();
    assert_eq!(short, PublicKeyError::RsaLength { bits: 1024 });
    assert!(PublicKeyMaterial::rsa(&[0xff; 1025], &[3]).is_err());
    // DER writes a zero byte before a high first bit.
    assert!(PublicKeyMaterial::rsa(&[&[0][..], &[0xff; 256]].concat(), &[1, 0, 1]).is_ok());
}

#[test]
fn the_names_of_algorithms_are_those_of_jose() {
    for (alg, expected) in [
        ("RS256", Some(SignatureAlgorithm::RsaPkcs1Sha256)),
        ("PS512", Some(SignatureAlgorithm::RsaPssSha512)),
        ("ES256", Some(SignatureAlgorithm::EcdsaP256Sha256Fixed)),
        ("EdDSA", Some(SignatureAlgorithm::Ed25519)),
        ("Ed25519", Some(SignatureAlgorithm::Ed25519)),
        ("HS256", None),
        ("none", None),
        ("rs256", None),
        ("", None),
    ] {
        assert_eq!(SignatureAlgorithm::of_jose_name(alg), expected, "{alg}");
    }
}

#[test]
fn algorithms_have_the_names_and_hashes_of_the_configuration() {
    let found = SignatureAlgorithm::ALL.map(|algorithm| (algorithm.name(), algorithm.hash_bits()));
    assert_eq!(
        found,
        [
            ("rsa-pkcs1-sha256", 256),
            ("rsa-pkcs1-sha384", 384),
            ("rsa-pkcs1-sha512", 512),
            ("rsa-pss-sha256", 256),
            ("rsa-pss-sha384", 384),
            ("rsa-pss-sha512", 512),
            ("ecdsa-p256-sha256", 256),
            ("ecdsa-p256-sha256-fixed", 256),
            ("ed25519", 256),
        ]
    );
}

#[test]
fn a_key_that_is_not_whole_is_malformed() {
    let by = |algorithm: &[u8], key: &[u8]| {
        let bits = [&[0x03, u8::try_from(key.len() + 1).unwrap(), 0][..], key].concat();
        let contents = [algorithm, &bits].concat();
        [&[0x30, u8::try_from(contents.len()).unwrap()][..], &contents].concat()
    };
    let rsa = hex("300d06092a864886f70d0101010500");
    assert_eq!(PublicKeyMaterial::of_spki(&by(&rsa, &[0x30, 0x05])).unwrap_err(), PublicKeyError::Malformed);
    // A compressed point.
    let p256 = hex("301306072a8648ce3d020106082a8648ce3d030107");
    let point = |first: u8, bytes: usize| by(&p256, &[&[first][..], &vec![7; bytes]].concat());
    assert_eq!(PublicKeyMaterial::of_spki(&point(2, 32)).unwrap_err(), PublicKeyError::Type);
    assert_eq!(PublicKeyMaterial::of_spki(&point(6, 64)).unwrap_err(), PublicKeyError::Type);
    assert!(PublicKeyMaterial::of_spki(&point(4, 64)).is_ok());
    // DSA.
    let dsa = hex("300906072a8648ce380401");
    assert!(PublicKeyMaterial::of_spki(&by(&dsa, &[0x02, 0x01, 0x01])).is_err());
    assert_eq!(PublicKeyMaterial::of_certificate(b"").unwrap_err(), PublicKeyError::Malformed);
}
