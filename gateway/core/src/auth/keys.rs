//! Public keys of token issuers, as JSON Web Key Sets (RFC 7517) carry them.
//!
//! Owns which keys are usable and with which one algorithm: the key decides the algorithm, never the token (RFC 8725,
//! section 3.1). Must not fetch: `control::jwks` does, and publishes [`KeySets`].

use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use rustls_pki_types::UnixTime;
use serde::Deserialize;

use super::request::Quoted;

/// Most keys in a set. Issuers publish two to four, and some dozens at most.
const MAX_KEYS: usize = 64;

/// Modulus lengths that `RSA_PKCS1_2048_8192_SHA256` takes, in bytes.
const RSA_MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// A place that keys come from, from 0 in the order of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeySourceId(pub u16);

/// The current keys of every source: an immutable value that the control plane replaces whole.
#[derive(Clone, Debug, Default)]
pub struct KeySets(Vec<Option<PublishedKeys>>);

/// The keys of one source, and how long they may be relied on.
#[derive(Clone, Debug)]
pub struct PublishedKeys {
    /// The keys.
    pub set: Arc<KeySet>,
    /// From then on the keys count as unavailable: the bound on the use of stale keys. `u64::MAX` seconds for keys from a file.
    pub usable_until: UnixTime,
}

impl KeySets {
    /// No keys, for `sources` sources: every token is refused with `keys_unavailable`.
    #[must_use]
    pub fn empty(sources: usize) -> Self {
        Self(vec![None; sources])
    }

    /// The same, with the keys of one source replaced. A source beyond those that there are is added.
    #[must_use]
    pub fn with(&self, source: KeySourceId, keys: PublishedKeys) -> Self {
        let mut all = self.0.clone();
        let index = usize::from(source.0);
        if all.len() <= index {
            all.resize(index + 1, None);
        }
        all[index] = Some(keys);
        Self(all)
    }

    /// What is published for `source`, usable or not.
    #[must_use]
    pub fn published(&self, source: KeySourceId) -> Option<&PublishedKeys> {
        self.0.get(usize::from(source.0))?.as_ref()
    }

    /// The keys of `source` that may be relied on at `now`.
    pub(super) fn usable(&self, source: KeySourceId, now: UnixTime) -> Option<&KeySet> {
        self.published(source).filter(|keys| now < keys.usable_until).map(|keys| &*keys.set)
    }
}

/// The usable keys of a JSON Web Key Set. Never empty.
#[derive(Debug)]
pub struct KeySet {
    keys: Box<[VerifyingKey]>,
    skipped: Box<[Box<str>]>,
}

/// Why a document is no usable key set.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// Not JSON, or without `keys`.
    #[error("not a JSON Web Key Set (RFC 7517): {0}")]
    Malformed(#[from] serde_json::Error),
    /// Too many keys.
    #[error("{count} keys, more than {MAX_KEYS}")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// No key can verify a token.
    #[error("none of the {count} keys can verify a token (RS256 or ES256){reason}")]
    NoneUsable {
        /// How many keys there are.
        count: usize,
        /// Why the first was skipped.
        reason: String,
    },
}

impl KeySet {
    /// Reads a JWK set. Keys that cannot verify a token here are skipped, as RFC 7517, section 5, asks.
    ///
    /// # Errors
    ///
    /// Where `document` is no key set, has more than 64 keys, or has no usable one.
    pub fn parse(document: &[u8]) -> Result<Self, KeySetError> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<serde_json::Value>,
        }
        let Document { keys: all } = serde_json::from_slice(document)?;
        let count = all.len();
        if count > MAX_KEYS {
            return Err(KeySetError::TooMany { count });
        }
        let (mut keys, mut skipped) = (Vec::new(), Vec::<Box<str>>::new());
        for (index, value) in all.into_iter().enumerate() {
            match Jwk::deserialize(value).map_err(|error| error.to_string()).and_then(Jwk::into_key) {
                Ok(key) => keys.push(key),
                Err(reason) => skipped.push(format!("key {index}: {reason}").into()),
            }
        }
        if keys.is_empty() {
            let reason = skipped.first().map(|reason| format!("; {reason}")).unwrap_or_default();
            return Err(KeySetError::NoneUsable { count, reason });
        }
        Ok(Self { keys: keys.into(), skipped: skipped.into() })
    }

    /// How many keys are usable.
    #[must_use]
    pub fn usable_keys(&self) -> usize {
        self.keys.len()
    }

    /// Which keys were skipped, and why, for the operator.
    #[must_use]
    pub fn skipped(&self) -> &[Box<str>] {
        &self.skipped
    }

    /// The keys that a token with this `kid` can mean. A token without one means the only key of a set, and no key of a
    /// larger set.
    pub(super) fn candidates<'set>(&'set self, kid: Option<&'set str>) -> impl Iterator<Item = &'set VerifyingKey> {
        self.keys.iter().filter(move |key| match kid {
            Some(kid) => key.kid.as_deref() == Some(kid),
            None => self.keys.len() == 1,
        })
    }
}

/// Algorithms of RFC 7518 that tokens are signed with. There is no HMAC here and no `none`, so none can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
}

impl Algorithm {
    /// The `alg` of RFC 7518, section 3.1.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
        }
    }
}

/// One public key, with the one algorithm that it verifies.
#[derive(Debug)]
pub(super) struct VerifyingKey {
    kid: Option<Box<str>>,
    material: Material,
}

#[derive(Debug)]
enum Material {
    Rsa { modulus: Box<[u8]>, exponent: Box<[u8]> },
    P256 { point: [u8; 65] },
}

impl VerifyingKey {
    pub(super) fn algorithm(&self) -> Algorithm {
        match self.material {
            Material::Rsa { .. } => Algorithm::Rs256,
            Material::P256 { .. } => Algorithm::Es256,
        }
    }

    /// Whether `signature` is this key's over `message`.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Rsa { modulus, exponent } => RsaPublicKeyComponents { n: &**modulus, e: &**exponent }
                .verify(&signature::RSA_PKCS1_2048_8192_SHA256, message, signature)
                .is_ok(),
            Material::P256 { point } => {
                UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok()
            }
        }
    }
}

/// A JSON Web Key as sent (RFC 7517, section 4; RFC 7518, section 6).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    d: Option<serde::de::IgnoredAny>,
}

impl Jwk {
    /// The key, or why it is skipped.
    fn into_key(self) -> Result<VerifyingKey, String> {
        if self.d.is_some() {
            return Err("it is a private key; whoever can read it can sign tokens".to_owned());
        }
        if self.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return Err("its \"use\" is not \"sig\"".to_owned());
        }
        if self.key_ops.as_ref().is_some_and(|operations| !operations.iter().any(|operation| operation == "verify")) {
            return Err("its \"key_ops\" lack \"verify\"".to_owned());
        }
        let material = match self.kty.as_str() {
            "RSA" => rsa(self.n.as_deref(), self.e.as_deref())?,
            "EC" if self.crv.as_deref() == Some("P-256") => p256(self.x.as_deref(), self.y.as_deref())?,
            "EC" => return Err("its curve is not P-256".to_owned()),
            other => return Err(format!("its \"kty\" is {}", Quoted(other.as_bytes()))),
        };
        let key = VerifyingKey { kid: self.kid.map(Into::into), material };
        match self.alg.as_deref() {
            Some(alg) if alg != key.algorithm().name() => Err(format!("its \"alg\" is {}", Quoted(alg.as_bytes()))),
            _ => Ok(key),
        }
    }
}

fn rsa(modulus: Option<&str>, exponent: Option<&str>) -> Result<Material, String> {
    let (modulus, exponent) = (integer(modulus, "n")?, integer(exponent, "e")?);
    if !RSA_MODULUS_BYTES.contains(&modulus.len()) {
        return Err(format!("its modulus has {} bits; 2048 to 8192 are accepted", modulus.len() * 8));
    }
    Ok(Material::Rsa { modulus, exponent })
}

fn p256(x: Option<&str>, y: Option<&str>) -> Result<Material, String> {
    // SEC 1, section 2.3.3: 0x04, then both coordinates.
    let mut point = [0; 65];
    point[0] = 4;
    for (coordinate, name, place) in [(x, "x", 1..33), (y, "y", 33..65)] {
        let bytes = base64url(coordinate, name)?;
        if bytes.len() != 32 {
            return Err(format!("\"{name}\" has {} bytes and not 32", bytes.len()));
        }
        point[place].copy_from_slice(&bytes);
    }
    Ok(Material::P256 { point })
}

/// A Base64urlUInt (RFC 7518, section 2): big-endian. Leading zero bytes, which it must not have, are taken off, since
/// `ring` refuses them and some issuers send one.
fn integer(text: Option<&str>, name: &str) -> Result<Box<[u8]>, String> {
    let bytes = base64url(text, name)?;
    let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
    Ok(bytes[zeros..].into())
}

fn base64url(text: Option<&str>, name: &str) -> Result<Vec<u8>, String> {
    let text = text.ok_or_else(|| format!("\"{name}\" is missing"))?;
    BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| format!("\"{name}\" is not base64url"))
}
