//! The keys that can have made a signature: which of them are tried, and what is said if none did.
//!
//! Owns the choice among configured or published keys. Must not know where a signature stands.

use std::sync::Arc;

use http::header::HeaderName;
use rustls_pki_types::UnixTime;

use super::SignatureRuleError;
use crate::auth::proof_policy::Unproven;
use crate::auth::public_key::SignatureAlgorithm;
use crate::auth::request_view::Quoted;
use crate::auth::strength::{Aspect, Aspects, KeyAspects};
use crate::auth::token_keys::{KeySet, KeySets, KeySourceId, VerifyingKey};
use crate::reject::{Refusal, Reject};

/// Most keys of files: as many as there may be secrets. A set from a source has at most 64.
const MAX_KEYS: usize = 8;

/// The strength of a published key, in bits of a symmetric one: at least RSA with 2048 bits.
const LEAST_STRENGTH_BITS: u64 = 112;

/// The public keys of a sender, and the algorithm that it signs with.
#[derive(Debug)]
pub struct SignatureKeys {
    origin: Origin,
    algorithm: Option<SignatureAlgorithm>,
}

#[derive(Debug)]
enum Origin {
    Files(Arc<KeySet>),
    Source(KeySourceId),
}

impl SignatureKeys {
    /// Keys of files. Without an algorithm, each key is for the `alg` of its JSON Web Key, or for RS256, ES256 or EdDSA by its type.
    #[must_use]
    pub fn of_files(set: KeySet, algorithm: Option<SignatureAlgorithm>) -> Self {
        Self { origin: Origin::Files(Arc::new(set)), algorithm }
    }

    /// The keys of a source, which are published while hookgate runs.
    #[must_use]
    pub fn of_source(source: KeySourceId, algorithm: Option<SignatureAlgorithm>) -> Self {
        Self { origin: Origin::Source(source), algorithm }
    }

    pub(super) fn algorithm(&self) -> Option<SignatureAlgorithm> {
        self.algorithm
    }

    pub(super) fn source(&self) -> Option<KeySourceId> {
        match self.origin {
            Origin::Files(_) => None,
            Origin::Source(source) => Some(source),
        }
    }

    /// Whether the keys, as far as they are known, can verify anything.
    pub(super) fn judge(&self) -> Result<(), SignatureRuleError> {
        match (&self.origin, self.algorithm) {
            (Origin::Files(set), _) if !(1..=MAX_KEYS).contains(&set.usable_keys()) => {
                Err(SignatureRuleError::Keys { count: set.usable_keys() })
            }
            (Origin::Files(set), Some(algorithm)) if !set.has_key_for(algorithm) => {
                Err(SignatureRuleError::KeyType { algorithm: algorithm.name() })
            }
            _ => Ok(()),
        }
    }

    /// What they demand. A private key at the sender is more than a secret that both sides have.
    pub(super) fn aspects(&self, keys: &KeyAspects<'_>) -> Aspects {
        let (mut aspects, strength_bits) = match &self.origin {
            Origin::Files(set) => {
                let own = Aspects::from([("keys from a file".to_owned(), Aspect::Demanded)]);
                (own, set.strength_bits())
            }
            Origin::Source(source) => (keys(*source), LEAST_STRENGTH_BITS),
        };
        let hash_bits = self.algorithm.map_or(256, SignatureAlgorithm::hash_bits);
        aspects.insert("a private key of the sender".to_owned(), Aspect::Demanded);
        aspects.insert("bits of the hash".to_owned(), Aspect::AtLeast(hash_bits));
        aspects.insert("bytes of the shortest secret".to_owned(), Aspect::AtLeast(strength_bits / 8));
        aspects
    }

    /// The id of a key, as the sender wrote it.
    pub(super) fn id<'request>(&self, bytes: &'request [u8]) -> Result<&'request str, Refusal> {
        std::str::from_utf8(bytes).map_err(|_| {
            Refusal::new(Reject::SignatureMalformed, format!("The key id {} is not UTF-8.", Quoted(bytes)))
        })
    }

    /// The keys to try for a signature by the key `id`; for one by any key if the sender names none.
    ///
    /// # Errors
    ///
    /// `keys_unavailable` or `signature_unknown_key`.
    pub(super) fn attempt<'keys>(
        &'keys self,
        sets: &'keys KeySets,
        now: UnixTime,
        id: Option<&'keys str>,
    ) -> Result<Attempt<'keys>, Unproven> {
        let set = match &self.origin {
            Origin::Files(set) => &**set,
            Origin::Source(source) => sets.usable(*source, now).ok_or_else(|| {
                Refusal::new(Reject::KeysUnavailable, "The sender's keys have not been fetched yet, or are too old.")
            })?,
        };
        let attempt = Attempt { keys: self, set, id };
        if attempt.signers().next().is_some() {
            return Ok(attempt);
        }
        let detail = match id {
            Some(id) => format!("No key of the sender has the id {} and is for this signature.", Quoted(id.as_bytes())),
            None => "No key of the sender is for this signature.".to_owned(),
        };
        let refusal = Refusal::new(Reject::SignatureUnknownKey, detail);
        Err(Unproven { refusal, wants_keys: self.source() })
    }
}

/// The keys that are tried for one signature. At least one.
pub(super) struct Attempt<'keys> {
    keys: &'keys SignatureKeys,
    set: &'keys KeySet,
    id: Option<&'keys str>,
}

impl Attempt<'_> {
    /// Each key that can have made the signature, with its algorithm.
    pub(super) fn signers(&self) -> impl Iterator<Item = (&VerifyingKey, SignatureAlgorithm)> {
        let algorithm = |key| VerifyingKey::algorithm_for(key, self.keys.algorithm);
        self.set.signers(self.id).filter_map(move |key| Some((key, algorithm(key)?)))
    }

    /// Whether one of the keys made `signature` over `message`.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.signers().any(|(key, algorithm)| key.material().verifies(algorithm, message, signature))
    }

    /// The refusal if none of the keys made a signature. Without a key id, a newer key can have made it.
    pub(super) fn mismatch(&self, header: &HeaderName) -> Unproven {
        let detail = format!(
            "No signature in the field {header} matches: the sender signed with another key, or the request was altered; sign what is \
             sent, byte by byte, with a key that the receiver has."
        );
        let wants_keys = if self.id.is_none() { self.keys.source() } else { None };
        Unproven { refusal: Refusal::new(Reject::SignatureMismatch, detail), wants_keys }
    }
}
