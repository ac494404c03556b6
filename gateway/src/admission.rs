//! Who the peer of a connection is: the one place that asks `identity`, notes whom it saw and what it lacked, and counts the verdict.
//!
//! Must not speak to the peer: what becomes of a refusal is for `http` and `worker::connection`.

use std::sync::Arc;

use hookgate_core::identity::{ChainRefusal, OnFailure, PeerChain, ProfileMatch, Scope, Verification, VerifiedChain};
use hookgate_core::reject::{Refusal, Reject};

use crate::context::WorkerContext;
use crate::snapshot::Snapshot;

/// What the certificates of a peer prove, or why they prove nothing.
pub type Verdict = Result<Arc<VerifiedChain>, ChainRefusal>;

/// Judges the chain of a finished handshake, or of a peer that was admitted before.
pub fn judge(context: &WorkerContext, snapshot: &Snapshot, scope: &Scope, chain: PeerChain<'_>) -> Verdict {
    let now = context.now();
    let verification = snapshot.identity.verify(scope, chain, now);
    if let Ok(chain) = &verification.result {
        snapshot.identity.note_admitted(chain, now);
    }
    count(context, snapshot, &verification);
    verification.result
}

/// The verdict on a chain that was refused during the handshake, where it is not counted.
pub fn refused_in_handshake(context: &WorkerContext, snapshot: &Snapshot, refusal: ChainRefusal) -> Verdict {
    let verification = Verification::of_refusal(refusal);
    count(context, snapshot, &verification);
    verification.result
}

/// The verdict on a peer that presented no certificate, at a server name where its request may prove it. Nothing was verified, so nothing
/// is counted. It admits no peer.
pub fn no_certificate() -> Verdict {
    let detail = "The peer presented no client certificate; this server name requires one.";
    let refusal = Refusal::new(Reject::NoCertificate, detail);
    Err(ChainRefusal::unidentified(refusal, OnFailure::Respond))
}

fn count(context: &WorkerContext, snapshot: &Snapshot, verification: &Verification) {
    let provider = |id| snapshot.identity.provider(id);
    let missing = match &verification.result {
        Ok(chain) => chain.missing(),
        Err(refused) => &refused.missing,
    };
    for missing in missing {
        snapshot.list_notes.note(provider(missing.provider), missing);
    }
    let rule = |found: &ProfileMatch| {
        let profile = provider(found.provider).profiles.get(usize::from(found.profile));
        profile.map_or("", |profile| profile.extended_key_usage.label())
    };
    context.meters.verified(verification, |id| Arc::clone(&provider(id).name), rule);
}
