//! Evidence that a refused chain is its provider's all the same: the sender changed its authority, and this receiver does not know yet.
//!
//! A rotation is then a delay and not a loss: the refusal is answered with 503, and the sender tries again while the operator acts. Owns the
//! three kinds of evidence, of which one suffices, and the only way to that answer. Must not admit: nothing here makes a
//! [`VerifiedChain`](crate::identity::VerifiedChain), and no refused request reaches a handler.
//!
//! A chain claims every provider whose names it has: two accounts of one sender share certificate and authority. So evidence is that of one
//! [`Claim`], and it is looked for with each provider of the route.
//!
//! Whoever can read a certificate can make one with the same names. So a claim alone raises no alarm and changes no answer:
//!
//! ```compile_fail,E0451
//! use hookgate_core::suspicion::Evidence;
//!
//! fn forge(kind: hookgate_core::suspicion::EvidenceKind) -> Evidence {
//!     Evidence { kind }
//! }
//! ```

use std::net::IpAddr;

use crate::auth::{Demands, KeySets, RequestView};
use crate::identity::{Claim, RefusalAnswer, Suspect};
use crate::ranges::Sources;
use crate::reject::Refusal;
use crate::route::{RouteId, RouteTable};

/// The most providers of a route by whose proofs one request of a refused peer is checked. Each costs what an admitted request costs, and a
/// stranger can ask for that with every request.
pub const MAX_COMPARED: usize = 8;

/// What speaks for the claim of a refused chain. Only the checks of this module make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    kind: EvidenceKind,
}

/// The kinds of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvidenceKind {
    /// The request shows every proof that the route or the provider demands beside the certificate.
    Proof,
    /// The request comes from one of the provider's ranges.
    SourceRange,
    /// The chain verifies up to a public root of this host, which vouches for the claimed DNS name.
    PublicRoot,
}

impl EvidenceKind {
    /// As the log and the state directory name it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Proof => "proof",
            Self::SourceRange => "source_range",
            Self::PublicRoot => "public_root",
        }
    }
}

impl Evidence {
    /// That of the chain itself, and of where it came from. Costs no look at the request.
    pub fn of_connection(suspect: &Suspect, claim: &Claim, sources: Option<&Sources>, address: IpAddr) -> Option<Self> {
        if claim.is_vouched() && suspect.public_root().is_some() {
            return Some(Self { kind: EvidenceKind::PublicRoot });
        }
        let is_in = sources.is_some_and(|sources| sources.ranges.contains(address));
        is_in.then_some(Self { kind: EvidenceKind::SourceRange })
    }

    /// That of a complete request to `route`. No delivery is reserved for it.
    pub fn of_request(
        claim: &Claim,
        demands: &Demands,
        routes: &RouteTable,
        route: RouteId,
        request: &RequestView<'_>,
        keys: &KeySets,
    ) -> Option<Self> {
        let is_admitted = routes.route(route).providers.contains(&claim.provider());
        let policy = demands.of(route, claim.provider()).filter(|_| is_admitted)?;
        policy.holds(request, keys).then_some(Self { kind: EvidenceKind::Proof })
    }

    /// Whether a request to `route` could show evidence, so that its body is worth reading.
    pub fn is_possible(claim: &Claim, demands: &Demands, routes: &RouteTable, route: RouteId) -> bool {
        let is_admitted = routes.route(route).providers.contains(&claim.provider());
        is_admitted && demands.of(route, claim.provider()).is_some_and(|policy| policy.demands_proof())
    }

    /// Which kind it is.
    pub fn kind(self) -> EvidenceKind {
        self.kind
    }
}

/// The answer to a refused peer, as its provider wants it: `deferred` takes evidence.
#[must_use]
pub fn answered(refusal: Refusal, answer: RefusalAnswer, evidence: Option<Evidence>) -> Refusal {
    match (answer, evidence) {
        (RefusalAnswer::Retry, Some(_)) => refusal.deferred(),
        (RefusalAnswer::Terse, _) => refusal.terse(),
        (RefusalAnswer::Retry, None) | (RefusalAnswer::Deny, _) => refusal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reject::Reject;

    #[test]
    fn only_evidence_and_the_wish_to_retry_make_a_delay() {
        let evidence = Evidence { kind: EvidenceKind::SourceRange };
        let check = |answer, evidence, status: u16, detail: Option<&str>| {
            let refusal = answered(Refusal::new(Reject::UnknownIssuer, "Why."), answer, evidence);
            assert_eq!((refusal.status(), refusal.shown_detail()), (status, detail), "{answer:?} {evidence:?}");
            assert_eq!(refusal.detail(), "Why.");
        };
        check(RefusalAnswer::Deny, None, 403, Some("Why."));
        check(RefusalAnswer::Deny, Some(evidence), 403, Some("Why."));
        check(RefusalAnswer::Retry, None, 403, Some("Why."));
        check(RefusalAnswer::Retry, Some(evidence), 503, Some("Why."));
        check(RefusalAnswer::Terse, None, 403, None);
        check(RefusalAnswer::Terse, Some(evidence), 403, None);
    }
}
