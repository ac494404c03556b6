//! Public keys, and the algorithms by which they verify a signature.
//!
//! Owns the reading of a SubjectPublicKeyInfo (RFC 5280, section 4.1), which keys an algorithm takes, and the verification by `ring`. A
//! key, or the configuration, decides the algorithm, never the request (RFC 8725, section 3.1). Must not know where keys come from.

use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// Modulus lengths that `ring` accepts, in bytes: 2048 to 8192 bits.
pub(super) const RSA_MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// Longest signature, in bytes: RSA with 8192 bits.
pub(super) const MAX_SIGNATURE_BYTES: usize = 1024;

/// From this length on, the modulus of an RSA key is as strong as 128 bits (NIST SP 800-57, part 1, table 2), in bytes.
const STRONG_MODULUS_BYTES: usize = 384;

/// id-ecPublicKey, secp256r1 (RFC 5480, section 2.1) and id-Ed25519 (RFC 8410, section 3).
const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";
const SECP256R1: &str = "1.2.840.10045.3.1.7";
const ED25519: &str = "1.3.101.112";

/// An algorithm of public-key signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256: RS256.
    RsaPkcs1Sha256,
    /// RSASSA-PKCS1-v1_5 with SHA-384: RS384.
    RsaPkcs1Sha384,
    /// RSASSA-PKCS1-v1_5 with SHA-512: RS512.
    RsaPkcs1Sha512,
    /// RSASSA-PSS with SHA-256, MGF1 with the same hash, and a salt of its length: PS256.
    RsaPssSha256,
    /// The same with SHA-384: PS384.
    RsaPssSha384,
    /// The same with SHA-512: PS512.
    RsaPssSha512,
    /// ECDSA on P-256 with SHA-256, written in DER (RFC 3279, section 2.2.3).
    EcdsaP256Sha256,
    /// ECDSA on P-256 with SHA-256, written as two numbers of 32 bytes (RFC 7518, section 3.4): ES256.
    EcdsaP256Sha256Fixed,
    /// Ed25519 (RFC 8032): EdDSA.
    Ed25519,
}

impl SignatureAlgorithm {
    /// Every algorithm.
    pub const ALL: [Self; 9] = [
        Self::RsaPkcs1Sha256,
        Self::RsaPkcs1Sha384,
        Self::RsaPkcs1Sha512,
        Self::RsaPssSha256,
        Self::RsaPssSha384,
        Self::RsaPssSha512,
        Self::EcdsaP256Sha256,
        Self::EcdsaP256Sha256Fixed,
        Self::Ed25519,
    ];

    /// The name in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RsaPkcs1Sha256 => "rsa-pkcs1-sha256",
            Self::RsaPkcs1Sha384 => "rsa-pkcs1-sha384",
            Self::RsaPkcs1Sha512 => "rsa-pkcs1-sha512",
            Self::RsaPssSha256 => "rsa-pss-sha256",
            Self::RsaPssSha384 => "rsa-pss-sha384",
            Self::RsaPssSha512 => "rsa-pss-sha512",
            Self::EcdsaP256Sha256 => "ecdsa-p256-sha256",
            Self::EcdsaP256Sha256Fixed => "ecdsa-p256-sha256-fixed",
            Self::Ed25519 => "ed25519",
        }
    }

    /// The `alg` of RFC 7518, section 3.1, and RFC 8037, section 3.1.
    pub(super) fn jose_name(self) -> &'static str {
        match self {
            Self::RsaPkcs1Sha256 => "RS256",
            Self::RsaPkcs1Sha384 => "RS384",
            Self::RsaPkcs1Sha512 => "RS512",
            Self::RsaPssSha256 => "PS256",
            Self::RsaPssSha384 => "PS384",
            Self::RsaPssSha512 => "PS512",
            Self::EcdsaP256Sha256 | Self::EcdsaP256Sha256Fixed => "ES256",
            Self::Ed25519 => "EdDSA",
        }
    }

    /// The algorithm with this `alg`. `Ed25519` is the name of RFC 9864 for EdDSA with that curve.
    pub(super) fn of_jose_name(alg: &str) -> Option<Self> {
        let jose = Self::ALL.into_iter().filter(|algorithm| *algorithm != Self::EcdsaP256Sha256);
        let alg = if alg == "Ed25519" { "EdDSA" } else { alg };
        jose.into_iter().find(|algorithm| algorithm.jose_name() == alg)
    }

    /// Whether both are the same operation: the form in which an ECDSA signature is written is none.
    pub(super) fn is_like(self, other: Self) -> bool {
        self.jose_name() == other.jose_name()
    }

    /// The length of its hash, in bits.
    pub(super) fn hash_bits(self) -> u64 {
        match self {
            Self::RsaPkcs1Sha384 | Self::RsaPssSha384 => 384,
            Self::RsaPkcs1Sha512 | Self::RsaPssSha512 => 512,
            _ => 256,
        }
    }
}

/// A public key. Its type decides which algorithms it is for.
#[derive(Debug)]
pub(super) enum PublicKeyMaterial {
    Rsa { modulus: Box<[u8]>, exponent: Box<[u8]> },
    P256 { point: [u8; 65] },
    Ed25519([u8; 32]),
}

/// Why a key cannot be used. A sentence without its subject, which is the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// Not a SubjectPublicKeyInfo, or not a certificate.
    #[error("is not a public key in DER (SubjectPublicKeyInfo), nor a certificate")]
    Malformed,
    /// Another type of key.
    #[error("is not an RSA, P-256 or Ed25519 key")]
    Type,
    /// An RSA key that is too short or too long.
    #[error("has a modulus of {bits} bits, and 2048 to 8192 are accepted")]
    RsaLength {
        /// The length of the modulus.
        bits: usize,
    },
}

impl PublicKeyMaterial {
    /// The key of a SubjectPublicKeyInfo in DER.
    pub(super) fn of_spki(der: &[u8]) -> Result<Self, PublicKeyError> {
        match SubjectPublicKeyInfo::from_der(der) {
            Ok(([], info)) => Self::of_info(&info),
            _ => Err(PublicKeyError::Malformed),
        }
    }

    /// The key of a certificate in DER. The certificate is not judged: the operator chose it.
    pub(super) fn of_certificate(der: &[u8]) -> Result<Self, PublicKeyError> {
        match X509Certificate::from_der(der) {
            Ok(([], certificate)) => Self::of_info(certificate.public_key()),
            _ => Err(PublicKeyError::Malformed),
        }
    }

    fn of_info(info: &SubjectPublicKeyInfo<'_>) -> Result<Self, PublicKeyError> {
        let bytes = &*info.subject_public_key.data;
        let parameters = info.algorithm.parameters.as_ref();
        let curve = || parameters.and_then(|parameters| parameters.as_oid().ok()).map(|oid| oid.to_id_string());
        match info.algorithm.algorithm.to_id_string().as_str() {
            ED25519 => bytes.try_into().map(Self::Ed25519).map_err(|_| PublicKeyError::Malformed),
            EC_PUBLIC_KEY if curve().as_deref() == Some(SECP256R1) => match <[u8; 65]>::try_from(bytes) {
                // SEC 1, section 2.3.3: an uncompressed point.
                Ok(point) if point[0] == 4 => Ok(Self::P256 { point }),
                _ => Err(PublicKeyError::Type),
            },
            _ => match info.parsed() {
                Ok(PublicKey::RSA(key)) => Self::rsa(key.modulus, key.exponent),
                Ok(_) => Err(PublicKeyError::Type),
                Err(_) => Err(PublicKeyError::Malformed),
            },
        }
    }

    /// An RSA key. Leading zero bytes, as DER and some issuers write them, are removed, because `ring` refuses them.
    pub(super) fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, PublicKeyError> {
        let digits = |bytes: &[u8]| -> Box<[u8]> {
            let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
            bytes[zeros..].into()
        };
        let (modulus, exponent) = (digits(modulus), digits(exponent));
        if !RSA_MODULUS_BYTES.contains(&modulus.len()) {
            return Err(PublicKeyError::RsaLength { bits: modulus.len() * 8 });
        }
        Ok(Self::Rsa { modulus, exponent })
    }

    /// The algorithm of a key that names none.
    pub(super) fn usual_algorithm(&self) -> SignatureAlgorithm {
        match self {
            Self::Rsa { .. } => SignatureAlgorithm::RsaPkcs1Sha256,
            Self::P256 { .. } => SignatureAlgorithm::EcdsaP256Sha256Fixed,
            Self::Ed25519(_) => SignatureAlgorithm::Ed25519,
        }
    }

    /// Whether a key of this type is for `algorithm`.
    pub(super) fn fits(&self, algorithm: SignatureAlgorithm) -> bool {
        match algorithm {
            SignatureAlgorithm::EcdsaP256Sha256 | SignatureAlgorithm::EcdsaP256Sha256Fixed => {
                matches!(self, Self::P256 { .. })
            }
            SignatureAlgorithm::Ed25519 => matches!(self, Self::Ed25519(_)),
            _ => matches!(self, Self::Rsa { .. }),
        }
    }

    /// The strength of the key, in bits of a symmetric one (NIST SP 800-57, part 1, table 2), up to 128.
    pub(super) fn strength_bits(&self) -> u64 {
        match self {
            Self::Rsa { modulus, .. } if modulus.len() < STRONG_MODULUS_BYTES => 112,
            _ => 128,
        }
    }

    /// Whether this key made `signature` over `message` by `algorithm`.
    pub(super) fn verifies(&self, algorithm: SignatureAlgorithm, message: &[u8], signature: &[u8]) -> bool {
        use SignatureAlgorithm as A;
        let verified = match (self, algorithm) {
            (Self::Rsa { modulus, exponent }, algorithm) => {
                let parameters = match algorithm {
                    A::RsaPkcs1Sha256 => &signature::RSA_PKCS1_2048_8192_SHA256,
                    A::RsaPkcs1Sha384 => &signature::RSA_PKCS1_2048_8192_SHA384,
                    A::RsaPkcs1Sha512 => &signature::RSA_PKCS1_2048_8192_SHA512,
                    A::RsaPssSha256 => &signature::RSA_PSS_2048_8192_SHA256,
                    A::RsaPssSha384 => &signature::RSA_PSS_2048_8192_SHA384,
                    A::RsaPssSha512 => &signature::RSA_PSS_2048_8192_SHA512,
                    A::EcdsaP256Sha256 | A::EcdsaP256Sha256Fixed | A::Ed25519 => return false,
                };
                RsaPublicKeyComponents { n: &**modulus, e: &**exponent }.verify(parameters, message, signature)
            }
            (Self::P256 { point }, A::EcdsaP256Sha256) => {
                UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_ASN1, point).verify(message, signature)
            }
            (Self::P256 { point }, A::EcdsaP256Sha256Fixed) => {
                UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            (Self::Ed25519(key), A::Ed25519) => {
                UnparsedPublicKey::new(&signature::ED25519, key).verify(message, signature)
            }
            (Self::P256 { .. } | Self::Ed25519(_), _) => return false,
        };
        verified.is_ok()
    }
}

#[cfg(test)]
mod tests;
