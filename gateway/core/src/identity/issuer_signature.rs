//! The signatures on issuers' certificates, verified once instead of once for each client.
//!
//! Clients of one provider present the same intermediate certificates, so that every second signature check of a new client repeats
//! one that was made before. Owns the memory of the checks that succeeded. Must not remember end entities, of which there is no end,
//! nor a failure; and says nothing about whether a certificate is valid *now*: dates, names, constraints and revocation are asked
//! each time.
//!
//! **Why this is no shortcut.** Whether a signature is good depends on four things, key, algorithm, message and signature, and on
//! nothing else; what is remembered is the SHA-256 over all of them.

use std::sync::{PoisonError, RwLock};

use ring::digest::{Context, SHA256};
use rustls_pki_types::{AlgorithmIdentifier, CertificateDer, InvalidSignature, SignatureVerificationAlgorithm};

/// Most signatures that are remembered: some for each of dozens of providers, in both their profiles. Beyond it, the one that was
/// remembered first makes room.
const REMEMBERED_MAX: usize = 256;

/// The checks that succeeded.
#[derive(Debug, Default)]
pub(super) struct IssuerSignatures {
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    digests: Vec<[u8; 32]>,
    /// Where the next one goes once there are as many as may be.
    oldest: usize,
}

impl IssuerSignatures {
    /// `algorithms` with this memory, for a path through `issuers`.
    pub(super) fn remembering<'a>(
        &'a self,
        algorithms: &[&'a dyn SignatureVerificationAlgorithm],
        issuers: &'a [CertificateDer<'a>],
    ) -> Vec<Remembering<'a>> {
        algorithms.iter().map(|algorithm| Remembering { algorithm: *algorithm, issuers, memory: self }).collect()
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
        if known.digests.len() < REMEMBERED_MAX {
            known.digests.push(digest);
            return;
        }
        let oldest = known.oldest;
        known.digests[oldest] = digest;
        known.oldest = (oldest + 1) % REMEMBERED_MAX;
    }

    /// How many checks are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.known.read().unwrap_or_else(PoisonError::into_inner).digests.len()
    }
}

/// One of the algorithms, while one path is built.
#[derive(Debug)]
pub(super) struct Remembering<'a> {
    algorithm: &'a dyn SignatureVerificationAlgorithm,
    issuers: &'a [CertificateDer<'a>],
    memory: &'a IssuerSignatures,
}

impl Remembering<'_> {
    /// Whether what is signed is one of the issuers' certificates: webpki hands over the signed part where it lies.
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
            // `usize` is at most 64 bits wide wherever this runs.
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
        if !self.is_of_issuer(message) {
            return self.algorithm.verify_signature(public_key, message, signature);
        }
        let digest = self.digest(public_key, message, signature);
        if self.memory.is_known(&digest) {
            return Ok(());
        }
        self.algorithm.verify_signature(public_key, message, signature)?;
        self.memory.remember(digest);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_forgets_the_oldest() {
        let memory = IssuerSignatures::default();
        let digest = |number: usize| {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&(number as u64).to_be_bytes());
            digest
        };
        for number in 0..REMEMBERED_MAX + 2 {
            memory.remember(digest(number));
            memory.remember(digest(number));
        }
        assert_eq!(memory.remembered(), REMEMBERED_MAX);
        let known = [0, 1, 2, REMEMBERED_MAX, REMEMBERED_MAX + 1].map(|number| memory.is_known(&digest(number)));
        assert_eq!(known, [false, false, true, true, true]);
    }
}
