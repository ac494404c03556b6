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
#[cfg(any(test, feature = "testing"))]
pub mod testing;

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;

use rustls_pki_types::UnixTime;

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

/// What every provider and route of a snapshot demands of a request beyond its certificate.
#[derive(Debug)]
pub struct Demands {
    providers: Vec<Arc<ProofPolicy>>,
    routes: Vec<Option<Arc<ProofPolicy>>>,
}

impl Demands {
    /// `providers` by [`ProviderId`], `routes` by [`RouteId`]; what a route demands takes the place of what the provider does.
    pub fn new(providers: Vec<Arc<ProofPolicy>>, routes: Vec<Option<Arc<ProofPolicy>>>) -> Self {
        Self { providers, routes }
    }

    fn of(&self, route: RouteId, provider: ProviderId) -> Option<&Arc<ProofPolicy>> {
        let own = self.routes.get(route.0).and_then(Option::as_ref);
        own.or_else(|| self.providers.get(usize::from(provider.0)))
    }
}

/// A verified peer, admitted by a route: what the certificate alone can prove about a request.
#[derive(Clone)]
pub struct AuthorizedPeer {
    chain: Arc<VerifiedChain>,
    provider: ProviderId,
    route: RouteId,
    demand: Arc<ProofPolicy>,
}

impl AuthorizedPeer {
    /// Admits the peer of `chain` to `route`, as the first provider of the route that its chain proves.
    ///
    /// # Errors
    ///
    /// `provider_not_admitted` where the chain proves none of the route's providers; `internal` where nobody said what the
    /// provider must prove beside its certificate, which no snapshot leaves open.
    pub fn admit(
        chain: &Arc<VerifiedChain>,
        routes: &RouteTable,
        route: RouteId,
        demands: &Demands,
        provider_name: impl Fn(ProviderId) -> Arc<str>,
    ) -> Result<Self, Refusal> {
        let admitted = &routes.route(route).providers;
        let Some(provider) = admitted.iter().copied().find(|provider| chain.matched(*provider).is_some()) else {
            let names = |ids: &mut dyn Iterator<Item = ProviderId>| {
                ids.map(|id| provider_name(id).to_string()).collect::<Vec<_>>().join(", ")
            };
            let proved = names(&mut chain.matches().iter().map(|found| found.provider));
            let admitted = names(&mut admitted.iter().copied());
            let detail = format!(
                "The certificate with subject \"{}\" proves {proved}, but this route admits only {admitted}.",
                chain.subject()
            );
            return Err(Refusal::new(Reject::ProviderNotAdmitted, detail));
        };
        let demand = demands.of(route, provider).ok_or_else(|| {
            Refusal::new(Reject::Internal, "Nothing says what this provider must prove, so nothing would be enough.")
        })?;
        Ok(Self { chain: Arc::clone(chain), provider, route, demand: Arc::clone(demand) })
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

    /// What a request of it must prove beside that.
    pub fn demand(&self) -> &Arc<ProofPolicy> {
        &self.demand
    }
}

/// A complete request of an admitted peer, which has not proven itself yet.
pub struct Candidate {
    peer: AuthorizedPeer,
    head: Parts,
    body: Bytes,
}

/// A request that did not prove itself, given back: with newer keys it may yet.
pub struct Unauthenticated {
    /// The request.
    pub candidate: Candidate,
    /// What is missing or wrong.
    pub unproven: Unproven,
}

impl Candidate {
    /// A request of `peer` that has arrived whole.
    pub fn new(peer: AuthorizedPeer, head: Parts, body: Bytes) -> Self {
        Self { peer, head, body }
    }

    /// Checks what its route or provider demands of the request itself.
    ///
    /// # Errors
    ///
    /// The request again, with the proof that is missing or wrong.
    pub fn authenticate(
        self,
        keys: &KeySets,
        guard: &Arc<ReplayGuard>,
        now: UnixTime,
    ) -> Result<AuthenticatedRequest, Box<Unauthenticated>> {
        let view = RequestView {
            method: &self.head.method,
            path: self.head.uri.path_and_query().map_or("/", |target| target.as_str()),
            headers: &self.head.headers,
            body: &self.body,
            received_at: now,
        };
        match self.peer.demand.check(&view, keys, guard) {
            Ok(proven) => {
                let Self { peer, head, body } = self;
                Ok(AuthenticatedRequest { peer, head, body, proven })
            }
            Err(unproven) => Err(Box::new(Unauthenticated { candidate: self, unproven })),
        }
    }
}

/// A request that may be handed over: verified sender, admitted by its route, body complete, everything proven.
pub struct AuthenticatedRequest {
    peer: AuthorizedPeer,
    head: Parts,
    body: Bytes,
    proven: Proven,
}

impl AuthenticatedRequest {
    /// Who sent it.
    pub fn peer(&self) -> &AuthorizedPeer {
        &self.peer
    }

    /// The reservation of the delivery, where the demand guards from replay; see [`Proven::take_reservation`].
    pub fn take_reservation(&mut self) -> Option<Reservation> {
        self.proven.take_reservation()
    }

    /// Its method, target and header fields, as the peer sent them.
    pub fn head(&self) -> &Parts {
        &self.head
    }

    /// Its body, whole.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// What it showed beside the certificate.
    pub fn proven(&self) -> &Proven {
        &self.proven
    }
}
