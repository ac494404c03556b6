//! Signatures of certificates, verified once instead of once for each client.
//!
//! Clients of one provider present the same intermediate certificates, so that every second signature check of a new client repeats
//! an earlier one.
//!
//! Owns the memory of the checks that succeeded, over all searches, and of those of lists that failed. [`super::checks`] consults and fills
//! it. Must not be given end entities, whose number has no bound, nor failures of certificates, whose number a sender determines, nor good
//! checks of revocation lists, each of which remembers its signer itself. A list is checked with the key of an issuer on a verified path,
//! and fails with each key once: otherwise every client of an authority that has another key than the list would cost the hash of the
//! whole list. Says nothing about whether a certificate is valid *now*: dates, names, constraints and revocation are checked each time.
//!
//! **Why this is no shortcut.** Whether a signature is good depends on four things and on nothing else: key, algorithm, message and
//! signature. What is remembered is the SHA-256 over all of them.

use std::sync::{PoisonError, RwLock};

use ring::digest::{Context, SHA256};
use rustls_pki_types::SignatureVerificationAlgorithm;

/// Most signatures of issuers: some for each of dozens of providers, in both their profiles.
const ISSUERS_MAX: usize = 256;

/// Most failed checks of lists. An authority has one key for its lists, or two if it changes its key.
const FAILED_LISTS_MAX: usize = 1024;

/// Checks that had one outcome. If the memory is full, the oldest makes room.
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

    /// An empty memory for the failed checks of the revocation lists of its owner.
    pub(super) fn of_failed_lists() -> Self {
        Self { most: FAILED_LISTS_MAX, known: RwLock::default() }
    }

    pub(super) fn is_known(&self, digest: &[u8; 32]) -> bool {
        // A thread that panicked while it held the lock left at worst a digest out.
        self.known.read().unwrap_or_else(PoisonError::into_inner).digests.contains(digest)
    }

    pub(super) fn remember(&self, digest: [u8; 32]) {
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

/// What stands for one check.
pub(super) fn digest(
    algorithm: &dyn SignatureVerificationAlgorithm,
    public_key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    let (key_algorithm, signature_algorithm) = (algorithm.public_key_alg_id(), algorithm.signature_alg_id());
    for part in [key_algorithm.as_ref(), signature_algorithm.as_ref(), public_key, message, signature] {
        // `usize` is at most 64 bits wide on every target.
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

/// What stands for the signed part of a list in its [`digest`]: its address and its length.
pub(super) fn address(list: &[u8]) -> [u8; 16] {
    let mut lies_at = [0; 16];
    // `usize` is at most 64 bits wide on every target.
    lies_at[..8].copy_from_slice(&(list.as_ptr().addr() as u64).to_be_bytes());
    lies_at[8..].copy_from_slice(&(list.len() as u64).to_be_bytes());
    lies_at
}

/// Whether a signed message is a TBSCertList: a SEQUENCE that begins with an INTEGER, its version.
pub(super) fn is_list(message: &[u8]) -> bool {
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
        let memories =
            [(SignatureMemory::of_issuers(), ISSUERS_MAX), (SignatureMemory::of_failed_lists(), FAILED_LISTS_MAX)];
        for (memory, most) in memories {
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
    fn a_list_is_told_from_others_by_its_place_and_length() {
        let lists = [7; 8];
        assert_eq!(address(&lists[1..4]), address(&lists[1..4]));
        for other in [&lists[1..5], &lists[2..5], &lists[..4]] {
            assert_ne!(address(&lists[1..4]), address(other));
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
