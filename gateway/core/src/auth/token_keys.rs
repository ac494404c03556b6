//! Public keys of token issuers and of senders, from JSON Web Key Sets (RFC 7517).
//!
//! Owns the choice of usable keys, and the one algorithm of each. Must not fetch: the daemon's `control::jwks` does, and publishes [`KeySets`].

use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use rustls_pki_types::UnixTime;
use serde::Deserialize;
use serde::de::Error as _;

use super::public_key::{PublicKeyError, PublicKeyMaterial, SignatureAlgorithm};
use super::request_view::Quoted;

/// Most keys in a set. Issuers publish two to four keys, and a few dozen at most.
const MAX_KEYS: usize = 64;

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
    /// No key can verify a signature.
    #[error("none of the {count} keys of the set can verify a signature (RSA, P-256 or Ed25519){reason}")]
    NoneUsable {
        /// The number of keys.
        count: usize,
        /// Why the first key was skipped, after a semicolon; empty if there is no key.
        reason: String,
    },
    /// A key that is not in a set.
    #[error("the key {0}")]
    Key(#[from] PublicKeyError),
}

impl KeySet {
    /// Parses a JWK set. Skips keys that cannot verify a signature here, as RFC 7517, section 5, recommends.
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
        // serde reads a structure out of an array, too, by the places of its elements.
        if document.trim_ascii_start().first() == Some(&b'[') {
            return Err(serde_json::Error::custom("it is an array, not a JSON object with the member keys").into());
        }
        let Document { keys: all } = serde_json::from_slice(document)?;
        let count = all.len();
        if count > MAX_KEYS {
            return Err(KeySetError::TooMany { count });
        }
        let (mut keys, mut skipped) = (Vec::new(), Vec::<Box<str>>::new());
        for (index, value) in all.into_iter().enumerate() {
            let jwk = match value {
                serde_json::Value::Object(_) => Jwk::deserialize(value).map_err(|error| error.to_string()),
                _ => Err("it is not a JSON object".to_owned()),
            };
            match jwk.and_then(Jwk::into_key) {
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

    /// The one key of a SubjectPublicKeyInfo in DER, as of a PEM section `PUBLIC KEY`. It has no `kid`.
    ///
    /// # Errors
    ///
    /// If it is not an RSA key of 2048 to 8192 bits, a P-256 key or an Ed25519 key.
    pub fn of_public_key(der: &[u8]) -> Result<Self, KeySetError> {
        PublicKeyMaterial::of_spki(der).map(Self::of_material).map_err(KeySetError::from)
    }

    /// The one key of a certificate in DER, of which nothing else is judged. It has no `kid`.
    ///
    /// # Errors
    ///
    /// As [`KeySet::of_public_key`].
    pub fn of_certificate(der: &[u8]) -> Result<Self, KeySetError> {
        PublicKeyMaterial::of_certificate(der).map(Self::of_material).map_err(KeySetError::from)
    }

    fn of_material(material: PublicKeyMaterial) -> Self {
        Self { keys: [VerifyingKey { kid: None, material, declared: None }].into(), skipped: [].into() }
    }

    /// The keys of all `sets`.
    #[must_use]
    pub fn union(sets: Vec<Self>) -> Self {
        let (mut keys, mut skipped) = (Vec::new(), Vec::new());
        for set in sets {
            keys.extend(set.keys);
            skipped.extend(set.skipped);
        }
        Self { keys: keys.into(), skipped: skipped.into() }
    }

    /// Whether a key of the set is for this algorithm.
    #[must_use]
    pub fn has_key_for(&self, algorithm: SignatureAlgorithm) -> bool {
        self.keys.iter().any(|key| key.algorithm_for(Some(algorithm)).is_some())
    }

    /// The strength of the weakest key, in bits of a symmetric one, up to 128.
    pub(super) fn strength_bits(&self) -> u64 {
        self.keys.iter().map(|key| key.material.strength_bits()).min().unwrap_or(0)
    }

    /// The keys that can have made a signature of the key `kid`: those of this name, and those without a name. All of them, if the
    /// sender names none.
    pub(super) fn signers<'set>(
        &'set self,
        kid: Option<&'set str>,
    ) -> impl Iterator<Item = &'set VerifyingKey> + Clone {
        self.keys.iter().filter(move |key| kid.is_none() || key.kid.is_none() || key.kid.as_deref() == kid)
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

/// One public key. The key decides its algorithm: HMAC and `none` are not among them, so no token can select them.
#[derive(Debug)]
pub(super) struct VerifyingKey {
    kid: Option<Box<str>>,
    material: PublicKeyMaterial,
    /// `alg` of the key. A key without one is for the usual algorithm of its type, or for that of the configuration.
    declared: Option<SignatureAlgorithm>,
}

impl VerifyingKey {
    /// The algorithm of this key, where the configuration names none.
    pub(super) fn algorithm(&self) -> SignatureAlgorithm {
        self.declared.unwrap_or_else(|| self.material.usual_algorithm())
    }

    /// The algorithm by which this key verifies if the configuration names `configured`; `None` if the key is for another one.
    pub(super) fn algorithm_for(&self, configured: Option<SignatureAlgorithm>) -> Option<SignatureAlgorithm> {
        let Some(configured) = configured else { return Some(self.algorithm()) };
        let declared = self.declared.is_none_or(|declared| declared.is_like(configured));
        (declared && self.material.fits(configured)).then_some(configured)
    }

    /// The key.
    pub(super) fn material(&self) -> &PublicKeyMaterial {
        &self.material
    }

    /// Whether this key signed `message` with `signature`, by its own algorithm.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.material.verifies(self.algorithm(), message, signature)
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
            "OKP" if self.crv.as_deref() == Some("Ed25519") => ed25519(self.x.as_deref())?,
            "OKP" => return Err("its curve is not Ed25519".to_owned()),
            other => return Err(format!("its \"kty\" is {}, not RSA, EC or OKP", Quoted(other.as_bytes()))),
        };
        let declared = match self.alg.as_deref() {
            None => None,
            Some(alg) => match SignatureAlgorithm::of_jose_name(alg).filter(|algorithm| material.fits(*algorithm)) {
                Some(algorithm) => Some(algorithm),
                None => return Err(format!("its \"alg\" is {}, which it is not for", Quoted(alg.as_bytes()))),
            },
        };
        Ok(VerifyingKey { kid: self.kid.map(Into::into), material, declared })
    }
}

fn rsa(modulus: Option<&str>, exponent: Option<&str>) -> Result<PublicKeyMaterial, String> {
    // A big-endian Base64urlUInt (RFC 7518, section 2).
    let (modulus, exponent) = (base64url(modulus, "n")?, base64url(exponent, "e")?);
    PublicKeyMaterial::rsa(&modulus, &exponent).map_err(|error| format!("it {error}"))
}

fn p256(x: Option<&str>, y: Option<&str>) -> Result<PublicKeyMaterial, String> {
    // SEC 1, section 2.3.3: 0x04, then the two coordinates.
    let mut point = [0; 65];
    point[0] = 4;
    for (coordinate, name, place) in [(x, "x", 1..33), (y, "y", 33..65)] {
        point[place].copy_from_slice(&coordinate_of(coordinate, name)?);
    }
    Ok(PublicKeyMaterial::P256 { point })
}

/// RFC 8037, section 2.
fn ed25519(x: Option<&str>) -> Result<PublicKeyMaterial, String> {
    coordinate_of(x, "x").map(PublicKeyMaterial::Ed25519)
}

fn coordinate_of(text: Option<&str>, name: &str) -> Result<[u8; 32], String> {
    let bytes = base64url(text, name)?;
    let length = bytes.len();
    bytes.try_into().map_err(|_| format!("its \"{name}\" has {length} bytes, not 32"))
}

fn base64url(text: Option<&str>, name: &str) -> Result<Vec<u8>, String> {
    let text = text.ok_or_else(|| format!("its \"{name}\" is missing"))?;
    BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| format!("its \"{name}\" is not base64url"))
}
