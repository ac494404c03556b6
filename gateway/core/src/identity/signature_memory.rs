//! Signatures of certificates and revocation lists, verified once instead of once for each client.
//!
//! Clients of one provider present the same intermediate certificates, so that every second signature check of a new client repeats
//! an earlier one. webpki verifies the signature of a revocation list each time it looks up a certificate in it, which means hashing
//! the whole list: a millisecond for some hundred thousand entries, and for a short list as much as a certificate's signature.
//!
//! Owns the memory of the checks that succeeded. Must not remember end entities, whose number has no bound, nor a failure. Says
//! nothing about whether a certificate is valid *now*: dates, names, constraints and revocation are checked each time.
//!
//! **Why this is no shortcut.** Whether a signature is good depends on four things and on nothing else: key, algorithm, message and
//! signature. What is remembered is the SHA-256 over all of them.
//!
//! **Why an address can stand for a list.** A list's bytes never change. They live as long as [`super::revocation::RevocationLists`],
//! which owns both them and the memory of their signatures, so that nothing else can lie at their address meanwhile. What remains to
//! be told apart is a list from a certificate in a buffer that is freed tomorrow: a TBSCertList of version 2 begins with an INTEGER, a
//! TBSCertificate of version 3 with a context tag (RFC 5280, sections 5.1 and 4.1), and webpki takes no other versions.

use std::sync::{PoisonError, RwLock};

use ring::digest::{Context, SHA256};
use rustls_pki_types::{AlgorithmIdentifier, CertificateDer, InvalidSignature, SignatureVerificationAlgorithm};

use crate::signatures::CERTIFICATE_SIGNATURES;

/// Most signatures of issuers: some for each of dozens of providers, in both their profiles.
const ISSUERS_MAX: usize = 256;

/// Most signatures of lists. An authority has one key for its lists; more than a few come only from foreign certificates that imitate
/// its name, and those fail and are not remembered.
const LISTS_MAX: usize = 1024;

/// Checks that succeeded. If the memory is full, the oldest makes room.
#[derive(Debug)]
pub(super) struct SignatureMemory {
    most: usize,
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    digests: Vec<[u8; 32]>,
    /// The place of the oldest once the memory is full.
    oldest: usize,
}

impl SignatureMemory {
    /// An empty memory for the issuers' certificates of one policy.
    pub(super) fn of_issuers() -> Self {
        Self { most: ISSUERS_MAX, known: RwLock::default() }
    }

    /// An empty memory for the revocation lists of its owner.
    pub(super) fn of_lists() -> Self {
        Self { most: LISTS_MAX, known: RwLock::default() }
    }

    fn is_known(&self, digest: &[u8; 32]) -> bool {
        // A thread that panicked while it held the lock left at worst a digest out.
        self.known.read().unwrap_or_else(PoisonError::into_inner).digests.contains(digest)
    }

    fn remember(&self, digest: [u8; 32]) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.digests.contains(&digest) {
            return;
        }
        if known.digests.len() < self.most {
            known.digests.push(digest);
            return;
        }
        let oldest = known.oldest;
        known.digests[oldest] = digest;
        known.oldest = (oldest + 1) % self.most;
    }

    /// How many checks are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.known.read().unwrap_or_else(PoisonError::into_inner).digests.len()
    }
}

/// The algorithms of certificates' signatures for one path through `issuers`, which remember what they find good.
pub(super) fn remembering<'a>(
    issuers: &'a [CertificateDer<'a>],
    of_issuers: &'a SignatureMemory,
    of_lists: Option<&'a SignatureMemory>,
) -> Vec<Remembering<'a>> {
    let algorithms = CERTIFICATE_SIGNATURES.iter();
    algorithms.map(|algorithm| Remembering { algorithm: *algorithm, issuers, of_issuers, of_lists }).collect()
}

/// One of the algorithms, while one path is built.
#[derive(Debug)]
pub(super) struct Remembering<'a> {
    algorithm: &'static dyn SignatureVerificationAlgorithm,
    issuers: &'a [CertificateDer<'a>],
    of_issuers: &'a SignatureMemory,
    of_lists: Option<&'a SignatureMemory>,
}

impl Remembering<'_> {
    /// The memory that `message` belongs in, with the digest of its check; `None` for an end entity.
    fn place(&self, public_key: &[u8], message: &[u8], signature: &[u8]) -> Option<(&SignatureMemory, [u8; 32])> {
        if self.is_of_issuer(message) {
            return Some((self.of_issuers, self.digest(public_key, message, signature)));
        }
        let of_lists = self.of_lists.filter(|_| is_list(message))?;
        let mut lies_at = [0; 16];
        // `usize` is at most 64 bits wide on every target.
        lies_at[..8].copy_from_slice(&(message.as_ptr().addr() as u64).to_be_bytes());
        lies_at[8..].copy_from_slice(&(message.len() as u64).to_be_bytes());
        Some((of_lists, self.digest(public_key, &lies_at, signature)))
    }

    /// Whether what is signed is one of the issuers' certificates: webpki passes the signed part where it lies.
    fn is_of_issuer(&self, message: &[u8]) -> bool {
        let message = message.as_ptr_range();
        self.issuers.iter().any(|issuer| {
            let issuer = issuer.as_ref().as_ptr_range();
            issuer.start <= message.start && message.end <= issuer.end
        })
    }

    fn digest(&self, public_key: &[u8], message: &[u8], signature: &[u8]) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        let (key_algorithm, signature_algorithm) = (self.public_key_alg_id(), self.signature_alg_id());
        for part in [key_algorithm.as_ref(), signature_algorithm.as_ref(), public_key, message, signature] {
            // `usize` is at most 64 bits wide on every target.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        digest
    }
}

impl SignatureVerificationAlgorithm for Remembering<'_> {
    fn verify_signature(&self, public_key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let place = self.place(public_key, message, signature);
        if place.is_some_and(|(memory, digest)| memory.is_known(&digest)) {
            return Ok(());
        }
        self.algorithm.verify_signature(public_key, message, signature)?;
        if let Some((memory, digest)) = place {
            memory.remember(digest);
        }
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
    fn memory_is_bounded_and_forgets_the_oldest() {
        let digest = |number: usize| {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&(number as u64).to_be_bytes());
            digest
        };
        for (memory, most) in [(SignatureMemory::of_issuers(), ISSUERS_MAX), (SignatureMemory::of_lists(), LISTS_MAX)] {
            for number in 0..most + 2 {
                memory.remember(digest(number));
                memory.remember(digest(number));
            }
            assert_eq!(memory.remembered(), most);
            let known = [0, 1, 2, most, most + 1].map(|number| memory.is_known(&digest(number)));
            assert_eq!(known, [false, false, true, true, true]);
        }
    }

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
