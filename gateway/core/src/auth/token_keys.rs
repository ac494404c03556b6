//! Public keys of token issuers, from JSON Web Key Sets (RFC 7517).
//!
//! Owns the choice of usable keys, and the one algorithm of each: the key decides the algorithm, never the token (RFC 8725,
//! section 3.1). Must not fetch: the daemon's `control::jwks` does, and publishes [`KeySets`].

use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use rustls_pki_types::UnixTime;
use serde::Deserialize;

use super::request_view::Quoted;

/// Most keys in a set. Issuers publish two to four keys, and a few dozen at most.
const MAX_KEYS: usize = 64;

/// Modulus lengths that `RSA_PKCS1_2048_8192_SHA256` accepts, in bytes.
const RSA_MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// A source of keys: its index in the order of the configuration, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeySourceId(pub u16);

/// The current keys of every source. Immutable: the control plane replaces the whole value.
#[derive(Clone, Debug, Default)]
pub struct KeySets(Vec<Option<PublishedKeys>>);

/// The keys of one source, and the end of their use.
#[derive(Clone, Debug)]
pub struct PublishedKeys {
    /// The keys.
    pub set: Arc<KeySet>,
    /// From this time on the keys count as unavailable, which bounds the use of stale keys. `u64::MAX` seconds for keys from a
    /// file.
    pub usable_until: UnixTime,
}

impl KeySets {
    /// A value without keys for `sources` sources: every token is refused with `keys_unavailable`.
    #[must_use]
    pub fn empty(sources: usize) -> Self {
        Self(vec![None; sources])
    }

    /// A copy in which `keys` replace those of `source`. A new source is added.
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

    /// The keys published for `source`, usable or not.
    #[must_use]
    pub fn published(&self, source: KeySourceId) -> Option<&PublishedKeys> {
        self.0.get(usize::from(source.0))?.as_ref()
    }

    /// The keys of `source`, if they are usable at `now`.
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

/// Why a document is not a usable key set.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// Not JSON, or without `keys`.
    #[error("not a JSON Web Key Set (RFC 7517): {0}")]
    Malformed(#[from] serde_json::Error),
    /// Too many keys.
    #[error("the key set has {count} keys, and the limit is {MAX_KEYS}")]
    TooMany {
        /// The number of keys.
        count: usize,
    },
    /// No key can verify a token.
    #[error("none of the {count} keys of the set can verify a token (RS256 or ES256){reason}")]
    NoneUsable {
        /// The number of keys.
        count: usize,
        /// Why the first key was skipped, after a semicolon; empty if there is no key.
        reason: String,
    },
}

impl KeySet {
    /// Parses a JWK set. Skips keys that cannot verify a token here, as RFC 7517, section 5, recommends.
    ///
    /// # Errors
    ///
    /// If `document` is not a key set, has more than 64 keys, or has no usable key.
    pub fn parse(document: &[u8]) -> Result<Self, KeySetError> {
        #[derive(Deserialize)]
        #[serde(expecting = "a JSON object with the member keys")]
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

    /// The number of usable keys.
    #[must_use]
    pub fn usable_keys(&self) -> usize {
        self.keys.len()
    }

    /// For the operator: each skipped key, by its index from 0, and why it was skipped.
    #[must_use]
    pub fn skipped(&self) -> &[Box<str>] {
        &self.skipped
    }

    /// The keys with this `kid`. For a token without a `kid`: the only key of the set, or none if the set has several.
    pub(super) fn candidates<'set>(&'set self, kid: Option<&'set str>) -> impl Iterator<Item = &'set VerifyingKey> {
        self.keys.iter().filter(move |key| match kid {
            Some(kid) => key.kid.as_deref() == Some(kid),
            None => self.keys.len() == 1,
        })
    }
}

/// The accepted signature algorithms (RFC 7518). HMAC and `none` are not among them, so no token can select them.
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

/// One public key. Its type decides its algorithm.
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

    /// Whether this key signed `message` with `signature`.
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

/// A JSON Web Key, as published (RFC 7517, section 4; RFC 7518, section 6).
#[derive(Deserialize)]
#[serde(expecting = "a JSON object")]
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
    /// The key, or the reason to skip it.
    fn into_key(self) -> Result<VerifyingKey, String> {
        if self.d.is_some() {
            return Err("it is a private key; publish the public key only".to_owned());
        }
        if self.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return Err("its \"use\" is not \"sig\"".to_owned());
        }
        if self.key_ops.as_ref().is_some_and(|operations| !operations.iter().any(|operation| operation == "verify")) {
            return Err("its \"key_ops\" do not include \"verify\"".to_owned());
        }
        let material = match self.kty.as_str() {
            "RSA" => rsa(self.n.as_deref(), self.e.as_deref())?,
            "EC" if self.crv.as_deref() == Some("P-256") => p256(self.x.as_deref(), self.y.as_deref())?,
            "EC" => return Err("its curve is not P-256".to_owned()),
            other => return Err(format!("its \"kty\" is {}, not RSA or EC", Quoted(other.as_bytes()))),
        };
        let key = VerifyingKey { kid: self.kid.map(Into::into), material };
        match self.alg.as_deref() {
            Some(alg) if alg != key.algorithm().name() => {
                Err(format!("its \"alg\" is {}, not {}", Quoted(alg.as_bytes()), key.algorithm().name()))
            }
            _ => Ok(key),
        }
    }
}

fn rsa(modulus: Option<&str>, exponent: Option<&str>) -> Result<Material, String> {
    let (modulus, exponent) = (integer(modulus, "n")?, integer(exponent, "e")?);
    if !RSA_MODULUS_BYTES.contains(&modulus.len()) {
        return Err(format!("its modulus has {} bits, and 2048 to 8192 are accepted", modulus.len() * 8));
    }
    Ok(Material::Rsa { modulus, exponent })
}

fn p256(x: Option<&str>, y: Option<&str>) -> Result<Material, String> {
    // SEC 1, section 2.3.3: 0x04, then the two coordinates.
    let mut point = [0; 65];
    point[0] = 4;
    for (coordinate, name, place) in [(x, "x", 1..33), (y, "y", 33..65)] {
        let bytes = base64url(coordinate, name)?;
        if bytes.len() != 32 {
            return Err(format!("its \"{name}\" has {} bytes, not 32", bytes.len()));
        }
        point[place].copy_from_slice(&bytes);
    }
    Ok(Material::P256 { point })
}

/// A big-endian Base64urlUInt (RFC 7518, section 2). It must not have leading zero bytes, but some issuers send one, and `ring`
/// refuses it. So they are removed.
fn integer(text: Option<&str>, name: &str) -> Result<Box<[u8]>, String> {
    let bytes = base64url(text, name)?;
    let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
    Ok(bytes[zeros..].into())
}

fn base64url(text: Option<&str>, name: &str) -> Result<Vec<u8>, String> {
    let text = text.ok_or_else(|| format!("its \"{name}\" is missing"))?;
    BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| format!("its \"{name}\" is not base64url"))
}
