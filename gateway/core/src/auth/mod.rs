//! What a request must prove beside the certificate of its sender, and the only way to an [`AuthenticatedRequest`].
//!
//! A certificate proves *PagerDuty* or *Google*, not *your* account or agent. A request is trusted only if its chain is verified,
//! *and* the chain proves a provider that the route admits, *and* the request shows every proof that the route or the provider
//! demands. Owns the policy of proofs and [`AuthenticatedRequest`]. Does no I/O and reads no clock: keys and the time are
//! arguments.
//!
//! A request meets the types in this order:
//!
//! 1. [`AuthorizedPeer::admit`] gets the [`ProofPolicy`] of the route, or else of the provider, from [`Demands`], and keeps it.
//! 2. The policy is a list of [`Clause`]s, of which all or one must hold. A clause is one [`Proof`], or all or any of several.
//! 3. [`Candidate::authenticate`] judges the request by [`ProofPolicy::check`], after the whole body has arrived.
//! 4. [`Proven`] is the result if the proofs hold and the delivery is new. It has the proven claims and the [`Reservation`].
//! 5. [`Unproven`] is the result otherwise. It has the [`Refusal`], and the source of keys to fetch if newer keys could change it.
//!
//! # The only constructor
//!
//! `upstream` forwards only an [`AuthenticatedRequest`]. Its fields are private, and only [`Candidate::authenticate`] makes one.
//! That takes an [`AuthorizedPeer`], which only [`AuthorizedPeer::admit`] makes, from a [`VerifiedChain`]; and a [`Proven`],
//! which only [`ProofPolicy::check`] makes:
//!
//! ```
//! use std::sync::Arc;
//! use hookgate_core::auth::{AuthenticatedRequest, AuthorizedPeer, Candidate, KeySets, ReplayGuard};
//!
//! fn authenticate(peer: AuthorizedPeer, head: http::request::Parts, body: bytes::Bytes) -> Option<AuthenticatedRequest> {
//!     let (keys, guard) = (KeySets::empty(0), Arc::new(ReplayGuard::new(1)));
//!     let now = rustls_pki_types::UnixTime::since_unix_epoch(std::time::Duration::ZERO);
//!     Candidate::new(peer, head, body).authenticate(&keys, &guard, now).ok()
//! }
//! ```
//!
//! Code outside this module cannot make one, even from all of its parts:
//!
//! ```compile_fail,E0451
//! use hookgate_core::auth::{AuthenticatedRequest, AuthorizedPeer, Proven};
//!
//! fn forge(peer: AuthorizedPeer, head: http::request::Parts, body: bytes::Bytes, proven: Proven) -> AuthenticatedRequest {
//!     AuthenticatedRequest { peer, head, body, proven }
//! }
//! ```
//!
//! Nor can it change one:
//!
//! ```compile_fail,E0616
//! use hookgate_core::auth::AuthenticatedRequest;
//!
//! fn replace_body(request: &mut AuthenticatedRequest, body: bytes::Bytes) {
//!     request.body = body;
//! }
//! ```

pub mod body_signature;
pub mod json_pointer;
pub mod proof_policy;
pub mod public_key;
pub mod replay;
pub mod secret;
pub mod session_parameter;
pub mod static_credential;
pub mod strength;
pub mod token;
pub mod token_keys;

mod json_member;
mod jws;
mod message_template;
mod request_view;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;

use rustls_pki_types::UnixTime;

use crate::identity::{ProviderId, VerifiedChain};
use crate::reject::{Refusal, Reject};
use crate::route::{RouteId, RouteTable};

pub use body_signature::{BodySignature, SignatureForm, SignatureKeys};
pub use json_pointer::JsonPointer;
pub use message_template::TemplateError;
pub use proof_policy::{Binding, Clause, Proof, ProofPolicy, Proven, Unproven, challenge};
pub use public_key::SignatureAlgorithm;
pub use replay::{DeliveryId, ReplayGuard, ReplayRule, Reservation};
pub use request_view::RequestView;
pub use secret::Secret;
pub use session_parameter::SessionParameter;
pub use static_credential::{BasicCredentials, FieldSecret};
pub use strength::PolicyStrength;
pub use token::{TokenClaims, TokenExpectations, TokenRule};
pub use token_keys::{KeySet, KeySets, KeySourceId, PublishedKeys};

/// The [`ProofPolicy`] of every provider and of every route of a snapshot.
#[derive(Debug)]
pub struct Demands {
    providers: Vec<Arc<ProofPolicy>>,
    routes: Vec<Option<Arc<ProofPolicy>>>,
}

impl Demands {
    /// `providers` by [`ProviderId`], `routes` by [`RouteId`]. The policy of a route replaces that of the provider; `None` is a
    /// route without a policy of its own.
    pub fn new(providers: Vec<Arc<ProofPolicy>>, routes: Vec<Option<Arc<ProofPolicy>>>) -> Self {
        Self { providers, routes }
    }

    pub(crate) fn of(&self, route: RouteId, provider: ProviderId) -> Option<&Arc<ProofPolicy>> {
        let own = self.routes.get(route.0).and_then(Option::as_ref);
        own.or_else(|| self.providers.get(usize::from(provider.0)))
    }
}

/// A peer with a verified chain that a route admits. Only [`AuthorizedPeer::admit`] makes one.
///
/// It holds the [`ProofPolicy`] from that moment on, so that no other policy can be applied to its request.
#[derive(Clone)]
pub struct AuthorizedPeer {
    chain: Arc<VerifiedChain>,
    provider: ProviderId,
    route: RouteId,
    policy: Arc<ProofPolicy>,
}

impl AuthorizedPeer {
    /// Admits the peer of `chain` to `route`, as the first provider of the route that the chain proves.
    ///
    /// # Errors
    ///
    /// `provider_not_admitted` if the chain proves no provider of the route; `internal` if `demands` has no policy for the
    /// provider, which does not happen in a complete snapshot.
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
        let policy = demands.of(route, provider).ok_or_else(|| {
            Refusal::new(Reject::Internal, "This provider has no proof policy, so hookgate refuses its requests.")
        })?;
        Ok(Self { chain: Arc::clone(chain), provider, route, policy: Arc::clone(policy) })
    }

    /// The provider that the peer is admitted as.
    pub fn provider(&self) -> ProviderId {
        self.provider
    }

    /// The route that admits it.
    pub fn route(&self) -> RouteId {
        self.route
    }

    /// Its verified chain.
    pub fn chain(&self) -> &Arc<VerifiedChain> {
        &self.chain
    }

    /// What its request must prove beside the certificate.
    pub fn proof_policy(&self) -> &Arc<ProofPolicy> {
        &self.policy
    }
}

/// A complete request of an [`AuthorizedPeer`], not judged yet.
pub struct Candidate {
    peer: AuthorizedPeer,
    head: Parts,
    body: Bytes,
}

/// A request that was refused, returned so that it can be judged again with newer keys.
pub struct Unauthenticated {
    /// The request.
    pub candidate: Candidate,
    /// What is missing or wrong.
    pub unproven: Unproven,
}

impl Candidate {
    /// A request of `peer`. `body` is the whole body.
    pub fn new(peer: AuthorizedPeer, head: Parts, body: Bytes) -> Self {
        Self { peer, head, body }
    }

    /// Judges the request by the policy of its peer, with the current `keys` of the token issuers. The only function that makes an
    /// [`AuthenticatedRequest`].
    ///
    /// # Errors
    ///
    /// The request, and the proof that is missing or wrong.
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
        match self.peer.policy.check(&view, keys, guard) {
            Ok(proven) => {
                let Self { peer, head, body } = self;
                Ok(AuthenticatedRequest { peer, head, body, proven })
            }
            Err(unproven) => Err(Box::new(Unauthenticated { candidate: self, unproven })),
        }
    }
}

/// A request for the handler: the chain is verified, the route admits the peer, the body is complete, every proof holds.
///
/// Only [`Candidate::authenticate`] makes one: see [the only constructor](self#the-only-constructor).
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

    /// The reservation of the delivery, if the policy has a replay rule; see [`Proven::take_reservation`].
    pub fn take_reservation(&mut self) -> Option<Reservation> {
        self.proven.take_reservation()
    }

    /// Method, target and header fields, as sent.
    pub fn head(&self) -> &Parts {
        &self.head
    }

    /// The whole body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// What it proved beside the certificate.
    pub fn proven(&self) -> &Proven {
        &self.proven
    }
}
