//! The signatures of revocation lists, verified once for each key instead of once for each client.
//!
//! webpki verifies the signature of a list whenever it looks a certificate up in it, which means hashing the whole list: a
//! millisecond for some hundred thousand entries, and as dear as a certificate's signature for a short one. Owns the memory of the
//! lists that were found good. Must not remember anything about certificates, nor a failure.
//!
//! **Why an address is enough.** A list's bytes never change and live as long as [`super::revocation::RevocationLists`], which owns
//! both them and this memory. Nothing else can stand at their address meanwhile. So what must be told apart is only whether a
//! message is a list at all, and not a certificate in some buffer that is gone tomorrow: a TBSCertList of version 2 begins with an
//! INTEGER, a TBSCertificate of version 3 with a context tag (RFC 5280, sections 5.1 and 4.1), and webpki takes no others.

use std::sync::{Arc, PoisonError, RwLock};

use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm};

use crate::signatures::CERTIFICATE_SIGNATURES;

/// Most verified pairs of list and key. An authority has one key for its lists; more than a few come only from foreign
/// certificates that imitate its name, and those fail and are not remembered.
const REMEMBERED_MAX: usize = 1024;

/// The algorithms of certificates' signatures, with a memory of the lists that they verified.
#[derive(Clone, Debug)]
pub(super) struct ListSignatures {
    algorithms: Arc<[Remembering]>,
}

impl ListSignatures {
    /// Nothing verified yet.
    pub(super) fn new() -> Self {
        let verified = Arc::new(Verified::default());
        let remembering = |algorithm: &&'static dyn SignatureVerificationAlgorithm| Remembering {
            algorithm: *algorithm,
            verified: Arc::clone(&verified),
        };
        Self { algorithms: CERTIFICATE_SIGNATURES.iter().map(remembering).collect() }
    }

    /// The algorithms as webpki wants them.
    pub(super) fn algorithms(&self) -> Vec<&dyn SignatureVerificationAlgorithm> {
        self.algorithms.iter().map(|algorithm| algorithm as &dyn SignatureVerificationAlgorithm).collect()
    }

    /// How many pairs of list and key are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        let pairs = |first: &Remembering| first.verified.pairs.read().unwrap_or_else(PoisonError::into_inner).len();
        self.algorithms.first().map_or(0, pairs)
    }
}

/// The lists whose signature was good.
#[derive(Debug, Default)]
struct Verified {
    pairs: RwLock<Vec<Pair>>,
}

/// A list, by its place in memory, and the key that signed it.
#[derive(Debug, PartialEq, Eq)]
struct Pair {
    address: usize,
    length: usize,
    signature_algorithm: AlgorithmIdentifier,
    public_key: Box<[u8]>,
}

/// One of the algorithms.
#[derive(Debug)]
struct Remembering {
    algorithm: &'static dyn SignatureVerificationAlgorithm,
    verified: Arc<Verified>,
}

impl Remembering {
    fn is_known(&self, public_key: &[u8], list: &[u8]) -> bool {
        // A thread that panicked while it held the lock left at worst a pair out.
        let pairs = self.verified.pairs.read().unwrap_or_else(PoisonError::into_inner);
        pairs.iter().any(|pair| {
            pair.address == list.as_ptr().addr()
                && pair.length == list.len()
                && pair.signature_algorithm == self.algorithm.signature_alg_id()
                && *pair.public_key == *public_key
        })
    }

    fn remember(&self, public_key: &[u8], list: &[u8]) {
        let pair = Pair {
            address: list.as_ptr().addr(),
            length: list.len(),
            signature_algorithm: self.algorithm.signature_alg_id(),
            public_key: public_key.into(),
        };
        let mut pairs = self.verified.pairs.write().unwrap_or_else(PoisonError::into_inner);
        if pairs.len() < REMEMBERED_MAX && !pairs.contains(&pair) {
            pairs.push(pair);
        }
    }
}

impl SignatureVerificationAlgorithm for Remembering {
    fn verify_signature(&self, public_key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        if !is_list(message) {
            return self.algorithm.verify_signature(public_key, message, signature);
        }
        if self.is_known(public_key, message) {
            return Ok(());
        }
        self.algorithm.verify_signature(public_key, message, signature)?;
        self.remember(public_key, message);
        Ok(())
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.signature_alg_id()
    }

    fn fips(&self) -> bool {
        self.algorithm.fips()
    }
}

/// Whether a signed message is a TBSCertList: a SEQUENCE that begins with an INTEGER, its version.
fn is_list(message: &[u8]) -> bool {
    const INTEGER: u8 = 0x02;
    let [0x30, length, rest @ ..] = message else { return false };
    // The long form of a length (X.690, section 8.1.3.5) says how many bytes of length follow.
    let more = if *length < 0x80 { 0 } else { usize::from(length & 0x7f) };
    rest.get(more) == Some(&INTEGER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_told_from_certificates() {
        let check = |message: &[u8], expected: bool| assert_eq!(is_list(message), expected, "{message:?}");
        check(&[0x30, 0x03, 0x02, 0x01, 0x01], true);
        check(&[0x30, 0x81, 0x80, 0x02, 0x01, 0x01], true);
        check(&[0x30, 0x83, 0x01, 0x00, 0x00, 0x02, 0x01, 0x01], true);
        check(&[0x30, 0x82, 0x01, 0x00, 0xa0, 0x03, 0x02, 0x01, 0x02], false);
        check(&[0x30, 0x05, 0xa0, 0x03, 0x02, 0x01, 0x02], false);
        check(&[0x31, 0x03, 0x02, 0x01, 0x01], false);
        check(&[0x30, 0xff, 0x02], false);
        check(&[0x30], false);
        check(&[], false);
    }
}
