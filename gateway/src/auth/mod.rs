//! The request's own proof, and the one place where a request becomes trusted.
//!
//! Its rule: the chain is verified, *and* it proves a provider that the route admits, *and* every proof that the route demands
//! is there; a certificate proves *PagerDuty* or *Google*, not *your* account or agent. Owns [`AuthenticatedRequest`], without
//! which `upstream` takes nothing, and the policy of proofs. Pure: no socket, no clock; keys and the time are passed in.

pub mod keys;
pub mod pointer;
pub mod policy;
pub mod replay;
pub mod secret;
pub mod session;
pub mod signature;
pub mod token;

mod jws;
mod message;
mod request;
#[cfg(test)]
pub(crate) mod testing;

use std::sync::Arc;

use bytes::Bytes;
use hyper::http::request::Parts;

use crate::identity::{ProviderId, VerifiedChain};
use crate::reject::{Refusal, Reject};
use crate::route::{RouteId, RouteTable};

pub use keys::{KeySet, KeySets, KeySourceId, PublishedKeys};
pub use message::TemplateError;
pub use pointer::JsonPointer;
pub use policy::{Clause, Proof, ProofPolicy, Proven, Unproven, challenge};
pub use replay::{ReplayGuard, ReplayKey, ReplayRule, Reservation};
pub use request::RequestView;
pub use secret::Secret;
pub use session::SessionParameter;
pub use signature::{BodySignature, HmacForm};
pub use token::{TokenClaims, TokenExpectations, TokenRule};

/// A verified peer, admitted by a route: what the certificate alone can prove about a request.
#[derive(Clone)]
pub struct AuthorizedPeer {
    chain: Arc<VerifiedChain>,
    provider: ProviderId,
    route: RouteId,
}

impl AuthorizedPeer {
    /// Admits the peer of `chain` to `route`, as the first provider of the route that its chain proves.
    ///
    /// # Errors
    ///
    /// `provider_not_admitted` where the chain proves none of the route's providers.
    pub fn admit(
        chain: &Arc<VerifiedChain>,
        routes: &RouteTable,
        route: RouteId,
        provider_name: impl Fn(ProviderId) -> Arc<str>,
    ) -> Result<Self, Refusal> {
        let admitted = &routes.route(route).providers;
        match admitted.iter().find(|provider| chain.matched(**provider).is_some()) {
            Some(provider) => Ok(Self { chain: Arc::clone(chain), provider: *provider, route }),
            None => {
                let names = |ids: &mut dyn Iterator<Item = ProviderId>| {
                    ids.map(|id| provider_name(id).to_string()).collect::<Vec<_>>().join(", ")
                };
                let proved = names(&mut chain.matches().iter().map(|found| found.provider));
                let admitted = names(&mut admitted.iter().copied());
                let detail = format!(
                    "The certificate with subject \"{}\" proves {proved}, but this route admits only {admitted}.",
                    chain.subject()
                );
                Err(Refusal::new(Reject::ProviderNotAdmitted, detail))
            }
        }
    }

    /// The provider as which the peer is admitted.
    pub fn provider(&self) -> ProviderId {
        self.provider
    }

    /// The route that admits it.
    pub fn route(&self) -> RouteId {
        self.route
    }

    /// What its certificate chain proves.
    pub fn chain(&self) -> &Arc<VerifiedChain> {
        &self.chain
    }
}

/// A request that may be handed over: verified sender, admitted by its route, body complete.
pub struct AuthenticatedRequest {
    peer: AuthorizedPeer,
    head: Parts,
    body: Bytes,
}

impl AuthenticatedRequest {
    /// Checks the proofs that the route demands of the request itself.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] that names the proof which is missing or wrong.
    pub fn authenticate(peer: AuthorizedPeer, head: Parts, body: Bytes) -> Result<Self, Refusal> {
        Ok(Self { peer, head, body })
    }

    /// Who sent it.
    pub fn peer(&self) -> &AuthorizedPeer {
        &self.peer
    }

    /// Takes it apart, to be sent.
    pub fn into_parts(self) -> (AuthorizedPeer, Parts, Bytes) {
        (self.peer, self.head, self.body)
    }
}
