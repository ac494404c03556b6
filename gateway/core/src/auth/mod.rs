//! What a request must prove beside the certificate of its sender, and the only way to an [`AuthenticatedRequest`].
//!
//! A certificate proves *PagerDuty* or *Google*, not *your* account or agent. A request is trusted only if its chain is verified,
//! *and* the chain proves a provider that the route admits, *and* the request shows every proof that the route or the provider
//! demands. A provider that demands no certificate ([`ClientCertificate::None`]) is proven by the request alone: its policy must
//! bind the request ([`Binding`]), and a certificate of the connection does not count for it. Owns the policy of proofs and [`AuthenticatedRequest`]. Does no I/O and reads no clock: keys and the time are
//! arguments.
//!
//! A request meets the types in this order:
//!
//! 1. [`AuthorizedPeer`] gets the [`ProofPolicy`] of the route, or else of the provider, from [`Demands`], and keeps it.
//! 2. The policy is a list of [`Clause`]s, of which all or one must hold. A clause is one [`Proof`], or all or any of several.
//! 3. [`Candidate::authenticate`] judges the request by [`ProofPolicy::check`], after the whole body has arrived.
//! 4. [`Proven`] is the result if the proofs hold and the delivery is new. It has the proven claims and the [`Reservation`].
//! 5. [`Unproven`] is the result otherwise. It has the [`Refusal`], and the source of keys to fetch if newer keys could change it.
//!
//! # The only constructor
//!
//! `upstream` forwards only an [`AuthenticatedRequest`]. Its fields are private, and only [`Candidate::authenticate`] makes one.
//! That takes an [`AuthorizedPeer`], which only [`AuthorizedPeer::admit`] makes, from a [`VerifiedChain`], and
//! [`AuthorizedPeer::without_certificate`], for a policy that identifies its sender; and a [`Proven`], which only
//! [`ProofPolicy::check`] makes:
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

use crate::identity::{ClientCertificate, Provider, ProviderId, VerifiedChain};
use crate::reject::{Refusal, Reject};
use crate::route::{RouteId, RouteTable};

pub use body_signature::{BodySignature, SignatureForm, SignatureKeys};
pub use json_pointer::JsonPointer;
pub use message_template::TemplateError;
pub use proof_policy::{Binding, Clause, Proof, ProofPolicy, Proven, Unproven, challenge};
pub use public_key::SignatureAlgorithm;
pub use replay::{DeliveryId, KeptDelivery, ReplayGuard, ReplayRule, Reservation};
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
    client_certificates: Vec<ClientCertificate>,
}

impl Demands {
    /// `providers` by [`ProviderId`], `routes` by [`RouteId`]. The policy of a route replaces that of the provider; `None` is a
    /// route without a policy of its own. Every provider demands a certificate.
    pub fn new(providers: Vec<Arc<ProofPolicy>>, routes: Vec<Option<Arc<ProofPolicy>>>) -> Self {
        Self { providers, routes, client_certificates: Vec::new() }
    }

    /// The same, of `providers` by [`ProviderId`], which may demand no certificate.
    #[must_use]
    pub fn of_providers(self, providers: &[Provider]) -> Self {
        let client_certificates = providers.iter().map(|provider| provider.client_certificate).collect();
        Self { client_certificates, ..self }
    }

    /// What a request to this route must prove as this provider. `None` if there is no such provider.
    pub fn of(&self, route: RouteId, provider: ProviderId) -> Option<&Arc<ProofPolicy>> {
        let own = self.routes.get(route.0).and_then(Option::as_ref);
        own.or_else(|| self.providers.get(usize::from(provider.0)))
    }

    /// As which of these providers of a route a peer is admitted whose chain `proves` some: the first of those, otherwise the first that
    /// demands no certificate. Says too what it demands. `None` if the peer is not admitted.
    pub fn choose(
        &self,
        admitted: &[ProviderId],
        proves: impl Fn(ProviderId) -> bool,
    ) -> Option<(ProviderId, ClientCertificate)> {
        let with = |id: &ProviderId| (*id, self.client_certificate(*id));
        let proven = admitted.iter().find(|id| proves(**id)).map(|id| (*id, ClientCertificate::Required));
        proven.or_else(|| admitted.iter().map(with).find(|(_, it)| *it != ClientCertificate::Required))
    }

    fn client_certificate(&self, provider: ProviderId) -> ClientCertificate {
        self.client_certificates.get(usize::from(provider.0)).copied().unwrap_or_default()
    }
}

impl ClientCertificate {
    /// Whether `policy` tells who sent a request to a provider that demands this.
    #[must_use]
    pub fn is_completed_by(self, policy: &ProofPolicy) -> bool {
        match self {
            Self::Required => true,
            Self::None { static_secret_suffices: false } => policy.binding() >= Binding::Token,
            Self::None { static_secret_suffices: true } => policy.binding() >= Binding::Static,
        }
    }
}

/// A peer that a route admits: by its verified chain, or as the provider of the route that demands no certificate. Only
/// [`AuthorizedPeer::admit`] and [`AuthorizedPeer::without_certificate`] make one.
///
/// It holds the [`ProofPolicy`] from that moment on, so that no other policy can be applied to its request. Without a chain, that policy
/// is one that tells who sent the request ([`ClientCertificate::is_completed_by`]).
#[derive(Clone)]
pub struct AuthorizedPeer {
    /// The chain that proves the provider; `None` if the provider demands none.
    chain: Option<Arc<VerifiedChain>>,
    provider: ProviderId,
    route: RouteId,
    policy: Arc<ProofPolicy>,
}

impl AuthorizedPeer {
    /// Admits the peer of `chain` to `route`, as the first provider of the route that the chain proves. If it proves none of them, as the
    /// provider of the route that demands no certificate, as if there were no chain.
    ///
    /// # Errors
    ///
    /// `provider_not_admitted` if the chain proves no provider of the route, and each demands a certificate; `internal` if `demands` has
    /// no policy for the provider, which does not happen in a complete snapshot.
    pub fn admit(
        chain: &Arc<VerifiedChain>,
        routes: &RouteTable,
        route: RouteId,
        demands: &Demands,
        provider_name: impl Fn(ProviderId) -> Arc<str>,
    ) -> Result<Self, Refusal> {
        let admitted = &routes.route(route).providers;
        let Some((provider, client_certificate)) = demands.choose(admitted, |id| chain.matched(id).is_some()) else {
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
        let policy = demands.of(route, provider).ok_or_else(no_policy)?;
        let chain = match client_certificate {
            ClientCertificate::Required => Some(Arc::clone(chain)),
            ClientCertificate::None { .. } => {
                require_completed(client_certificate, policy)?;
                None
            }
        };
        Ok(Self { chain, provider, route, policy: Arc::clone(policy) })
    }

    /// Admits a peer of which nothing is proven yet to `route`, as the first provider of the route that demands no certificate. `None` if
    /// each demands one.
    ///
    /// # Errors
    ///
    /// `internal` if `demands` has no policy for the provider, or one that does not tell who sent a request. Neither happens in a
    /// snapshot: `config` refuses such a file.
    pub fn without_certificate(
        routes: &RouteTable,
        route: RouteId,
        demands: &Demands,
    ) -> Result<Option<Self>, Refusal> {
        let found = demands.choose(&routes.route(route).providers, |_| false);
        let Some((provider, client_certificate)) = found else { return Ok(None) };
        let policy = demands.of(route, provider).ok_or_else(no_policy)?;
        require_completed(client_certificate, policy)?;
        Ok(Some(Self { chain: None, provider, route, policy: Arc::clone(policy) }))
    }

    /// The provider that the peer is admitted as.
    pub fn provider(&self) -> ProviderId {
        self.provider
    }

    /// The route that admits it.
    pub fn route(&self) -> RouteId {
        self.route
    }

    /// The verified chain that proves the provider; `None` if the provider demands no certificate, whatever the peer presented.
    pub fn chain(&self) -> Option<&Arc<VerifiedChain>> {
        self.chain.as_ref()
    }

    /// What its request must prove beside the certificate, if there is one.
    pub fn proof_policy(&self) -> &Arc<ProofPolicy> {
        &self.policy
    }
}

/// Fails if nothing would tell who sent a request of a provider that demands this.
fn require_completed(client_certificate: ClientCertificate, policy: &ProofPolicy) -> Result<(), Refusal> {
    if client_certificate.is_completed_by(policy) {
        return Ok(());
    }
    let detail =
        "This provider demands neither a certificate nor a proof that replaces it, so hookgate refuses its requests.";
    Err(Refusal::new(Reject::Internal, detail))
}

fn no_policy() -> Refusal {
    Refusal::new(Reject::Internal, "This provider has no proof policy, so hookgate refuses its requests.")
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

/// A request for the handler: the chain is verified or the provider demands none, the route admits the peer, the body is complete, every
/// proof holds.
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

    /// What was proven, the value of `X-Hookgate-Proof`: [`Proven::labels`], without `certificate` if the provider demands none.
    pub fn proof(&self) -> &'static str {
        let labels = self.proven.labels();
        match self.peer.chain {
            Some(_) => labels,
            None => labels.strip_prefix(Proven::BESIDE_CERTIFICATE).unwrap_or_default(),
        }
    }

    /// What it proved beside the certificate.
    pub fn proven(&self) -> &Proven {
        &self.proven
    }
}

#[cfg(test)]
mod tests;
