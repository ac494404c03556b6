//! What is said of a chain: the proof, or the refusal with what its provider wants of the answer.
//!
//! Owns plain data. Must not decide: `verdict` does.

use std::sync::Arc;

use rustls_pki_types::CertificateDer;

use super::{MissingList, OnFailure, ProviderId, RefusalAnswer, SharedChain, Suspect, VerifiedChain, Work};
use crate::reject::Refusal;

/// The refusal of a chain whose sender has not proven possession of its key yet.
#[derive(Clone, Debug)]
pub struct PresentedRefusal {
    /// The refusal.
    pub refusal: ChainRefusal,
    /// The checks that failed were so expensive that the handshake must end without another one, whatever `on_failure` says.
    pub ends_handshake: bool,
}

/// The result for one chain.
#[derive(Clone, Debug)]
pub struct Verification {
    /// The proof, or the refusal.
    pub result: Result<Arc<VerifiedChain>, ChainRefusal>,
    /// Whether the proof came from the cache.
    pub cache: CacheOutcome,
    /// What was done for it.
    pub work: Work,
}

impl Verification {
    /// A refusal for which nothing was done now.
    pub fn of_refusal(refusal: ChainRefusal) -> Self {
        Self { result: Err(refusal), cache: CacheOutcome::Miss, work: Work::default() }
    }
}

/// The `cache` label of verification metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheOutcome {
    /// The chain was in the cache and still valid.
    Hit,
    /// The chain was verified or refused by this call.
    Miss,
}

/// Why a chain was refused, and how its sender learns of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainRefusal {
    /// The reason, and a sentence that names the certificate at fault.
    pub refusal: Refusal,
    /// `on_failure` of the provider whose identity rule the end entity matches. If it matches none, `Abort` only if every provider
    /// in scope has it.
    pub on_failure: OnFailure,
    /// The provider whose identity rule the end entity matches, although no path could be verified. Of `identity_mismatch`, whose path is good,
    /// the provider with the trust anchor of the path whose rule the end entity nearly matches.
    pub provider: Option<ProviderId>,
    /// How it is answered over HTTP: as the provider wants that the end entity claims. If it claims none, `Terse` only if every provider in
    /// scope has it, and never `Retry`.
    pub answer: RefusalAnswer,
    /// The chain with all of its claims, if one of them may be refused by ignorance of this receiver.
    pub suspect: Option<Arc<Suspect>>,
    /// The revocation lists that it lacks, for each claimed profile of which it lacks nothing else.
    pub missing: Vec<MissingLists>,
    /// The chain, unless it is absent or too large.
    pub presented: Option<SharedChain>,
    /// What the search took.
    pub work: Work,
}

/// The revocation lists that are missing for a chain which leads to a trust anchor of a profile and matches its identity rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingLists {
    /// The provider that the chain claims.
    pub provider: ProviderId,
    /// The index of the profile.
    pub profile: u16,
    /// One for each certificate without a list.
    pub lists: Vec<MissingList>,
}

impl ChainRefusal {
    /// A refusal of a peer that claims no provider.
    pub fn unidentified(refusal: Refusal, on_failure: OnFailure) -> Self {
        Self {
            refusal,
            on_failure,
            provider: None,
            answer: RefusalAnswer::Deny,
            suspect: None,
            missing: Vec::new(),
            presented: None,
            work: Work::default(),
        }
    }

    /// The same refusal with the chain, and with what its search took.
    pub(super) fn keeping(self, chain: &[CertificateDer<'_>], work: Work) -> Self {
        let of_suspect = self.suspect.as_ref().map(|suspect| suspect.chain().clone());
        let presented = Some(of_suspect.unwrap_or_else(|| SharedChain::new(chain)));
        Self { presented, work, ..self }
    }

    /// The bytes of the certificates that it keeps.
    pub fn kept_bytes(&self) -> usize {
        let public_root = self.suspect.as_ref().and_then(|suspect| suspect.public_root());
        self.presented.as_ref().map_or(0, SharedChain::bytes) + public_root.map_or(0, |root| root.len())
    }
}
