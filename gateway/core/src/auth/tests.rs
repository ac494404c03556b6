//! Who is admitted to a route, and what becomes of an admitted request.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use super::*;
use crate::identity::{
    ChainCache, ChainLimits, Condition, ConfiguredAnchor, ExtendedKeyUsage, Identity, IdentityRule, OnFailure,
    PeerChain, Profile, Scope,
};
use crate::route::{Handler, Handlers, PathPattern, Route};

const NONE: ClientCertificate = ClientCertificate::None { static_secret_suffices: false };
const REQUIRED: ClientCertificate = ClientCertificate::Required;

fn signature() -> Arc<ProofPolicy> {
    let signature = BodySignature::pagerduty(&[testing::secret("s3cret")]).unwrap();
    Arc::new(ProofPolicy::all(vec![Clause::One(Proof::Signature(signature))]).unwrap())
}

fn alone() -> Arc<ProofPolicy> {
    Arc::new(ProofPolicy::certificate_alone())
}

/// One route that admits these providers.
fn routes(providers: &[u16]) -> RouteTable {
    let providers = providers.iter().copied().map(ProviderId).collect();
    let handler = Handlers::new(Handler::unix(""), []);
    RouteTable::new(Arc::new([Route::new("r", PathPattern::Exact("/".into()), providers, handler)]))
}

#[test]
fn a_route_that_hookgate_answers_admits_nobody_to_a_handler() {
    let routes = RouteTable::new(Arc::new([Route::public("up", "/".into(), http::StatusCode::OK)]));
    let none = ClientCertificate::None { static_secret_suffices: true };
    let demands = demands(vec![(none, alone()), (ClientCertificate::Required, alone())], None);
    assert!(AuthorizedPeer::without_certificate(&routes, RouteId(0), &demands).is_ok_and(|peer| peer.is_none()));
    let (chain, name) = (chain(&[0, 1]), |id: ProviderId| id.0.to_string().into());
    let refused = AuthorizedPeer::admit(&chain, &routes, RouteId(0), &demands, name);
    assert_eq!(refused.err().map(|refusal| refusal.reject), Some(Reject::ProviderNotAdmitted));
    assert!(routes.route(RouteId(0)).handlers().is_none());
}

fn demands(providers: Vec<(ClientCertificate, Arc<ProofPolicy>)>, route: Option<Arc<ProofPolicy>>) -> Demands {
    let (certificates, policies): (Vec<_>, Vec<_>) = providers.into_iter().unzip();
    let provider = |client_certificate| Provider {
        name: "p".into(),
        profiles: Vec::new(),
        on_failure: OnFailure::Respond,
        refusal: Default::default(),
        client_certificate,
    };
    let providers: Vec<Provider> = certificates.into_iter().map(provider).collect();
    Demands::new(policies, vec![route]).of_providers(&providers)
}

/// A chain that proves the providers whose place is in `proved`, of three.
fn chain(proved: &[usize]) -> Arc<VerifiedChain> {
    let params = |name: &str| {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params
    };
    let mut root = params("root");
    root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = rcgen::CertifiedIssuer::self_signed(root, rcgen::KeyPair::generate().unwrap()).unwrap();
    let leaf = params("sender").signed_by(&rcgen::KeyPair::generate().unwrap(), &root).unwrap();
    let profile = |name: &str| Profile {
        name: "default".into(),
        trust_anchors: [ConfiguredAnchor::of(root.der(), u64::MAX).unwrap()].into_iter().collect(),
        overlap_ends: None,
        verify_depth: 1,
        identity: vec![IdentityRule::new(vec![Condition::subject_cn(name).unwrap()]).unwrap()],
        extended_key_usage: ExtendedKeyUsage::ClientAuth,
        revocation: None,
    };
    let provider = |place| Provider {
        name: "p".into(),
        profiles: vec![profile(if proved.contains(&place) { "sender" } else { "other" })],
        on_failure: OnFailure::Respond,
        refusal: Default::default(),
        client_certificate: REQUIRED,
    };
    let cache = Arc::new(ChainCache::new(0, Duration::ZERO));
    let limits = ChainLimits { max_certificates: 8, max_bytes: 32 * 1024 };
    let identity = Identity::new(1, (0..3).map(provider).collect(), cache, limits);
    let scope = Scope { id: 0, providers: (0..3).map(ProviderId).collect() };
    let presented = [leaf.der().clone()];
    identity.verify(&scope, PeerChain::unsafe_assumed(&presented), testing::at(testing::NOW)).result.unwrap()
}

/// Admits a peer without a certificate to a route of all providers, with these certificates and policies.
fn admit(
    providers: Vec<(ClientCertificate, Arc<ProofPolicy>)>,
    route: Option<Arc<ProofPolicy>>,
) -> Result<Option<AuthorizedPeer>, Refusal> {
    let ids: Vec<u16> = (0..).take(providers.len()).collect();
    AuthorizedPeer::without_certificate(&routes(&ids), RouteId(0), &demands(providers, route))
}

#[test]
fn without_a_certificate_a_peer_is_admitted_as_the_provider_that_demands_none() {
    assert!(admit(vec![(REQUIRED, signature())], None).unwrap().is_none());
    let peer = admit(vec![(REQUIRED, alone()), (NONE, signature())], None).unwrap().unwrap();
    assert_eq!((peer.provider(), peer.route()), (ProviderId(1), RouteId(0)));
    assert!(peer.chain().is_none());
}

#[test]
fn a_policy_that_proves_no_sender_admits_none_without_a_certificate() {
    let refused = |provider, route| admit(vec![(NONE, provider)], route).err().map(|it| it.reject);
    assert_eq!(refused(alone(), None), Some(Reject::Internal));
    assert_eq!(refused(signature(), Some(alone())), Some(Reject::Internal), "the policy of the route counts");
    assert_eq!(refused(alone(), Some(signature())), None);
}

#[test]
fn a_chain_is_admitted_as_the_first_provider_of_the_route_that_it_proves() {
    let chain = chain(&[1, 2]);
    let names = |id: ProviderId| -> Arc<str> { ["zero", "one", "two"][usize::from(id.0)].into() };
    let of_route = signature();
    let three = |third| vec![(REQUIRED, alone()), (REQUIRED, alone()), (third, signature())];
    let admit = |admitted: &[u16], demands: &Demands| {
        AuthorizedPeer::admit(&chain, &routes(admitted), RouteId(0), demands, names)
    };
    for (admitted, provider) in [(&[0, 1, 2][..], 1), (&[2, 1], 2), (&[0, 2], 2)] {
        let peer = admit(admitted, &demands(three(REQUIRED), Some(Arc::clone(&of_route)))).unwrap();
        assert_eq!((peer.provider(), peer.route()), (ProviderId(provider), RouteId(0)));
        assert!(Arc::ptr_eq(peer.chain().unwrap(), &chain));
        assert!(Arc::ptr_eq(peer.proof_policy(), &of_route));
    }
    let peer = admit(&[1], &demands(three(REQUIRED), None)).unwrap();
    assert!(!peer.proof_policy().demands_proof());

    let refusal = admit(&[0], &demands(three(REQUIRED), None)).err().unwrap();
    assert_eq!(refusal.reject, Reject::ProviderNotAdmitted);
    assert_eq!(
        refusal.detail(),
        "The certificate with subject \"CN=sender\" proves one, two, but this route admits only zero."
    );
    // As if there were no chain, if the route has a provider that demands none.
    let unproven = chain_of_none();
    let peer = AuthorizedPeer::admit(&unproven, &routes(&[0, 2]), RouteId(0), &demands(three(NONE), None), names);
    let peer = peer.unwrap();
    assert_eq!(peer.provider(), ProviderId(2));
    assert!(peer.chain().is_none());
    // A provider of which the snapshot has no policy.
    let refusal = admit(&[1], &demands(Vec::new(), None)).err().unwrap();
    assert_eq!(refusal.reject, Reject::Internal);
    assert!(refusal.detail().contains("no proof policy"), "{refusal}");
}

/// A chain that proves the second of three providers alone.
fn chain_of_none() -> Arc<VerifiedChain> {
    chain(&[1])
}

/// A signed request, with this tag.
fn head(tag: &str) -> Parts {
    let request = http::Request::post("/hook?x=1").header("x-pagerduty-signature", format!("v1={tag}"));
    request.body(()).unwrap().into_parts().0
}

fn tag(body: &[u8]) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"s3cret");
    data_encoding::HEXLOWER.encode(ring::hmac::sign(&key, body).as_ref())
}

#[test]
fn a_request_that_proves_itself_is_what_was_sent() {
    let guard = Arc::new(ReplayGuard::new(8));
    let with = AuthorizedPeer::admit(
        &chain(&[0]),
        &routes(&[0]),
        RouteId(0),
        &demands(vec![(REQUIRED, signature())], None),
        |_| "p".into(),
    );
    let without = admit(vec![(NONE, signature())], None).unwrap().unwrap();
    for (peer, proof) in [(with.unwrap(), "certificate, signature"), (without, "signature")] {
        let candidate = Candidate::new(peer.clone(), head(&tag(b"{}")), Bytes::from_static(b"{}"));
        let mut request = candidate.authenticate(&KeySets::empty(0), &guard, testing::at(testing::NOW)).ok().unwrap();
        assert_eq!(request.proof(), proof);
        assert_eq!(request.peer().provider(), peer.provider());
        assert_eq!(request.head().uri, "/hook?x=1");
        assert_eq!(request.body(), "{}".as_bytes());
        assert!(request.proven().claims().is_none());
        assert!(request.take_reservation().is_none());

        let forged = Candidate::new(peer, head(&tag(b"{}")), Bytes::from_static(b"[]"));
        let refused = forged.authenticate(&KeySets::empty(0), &guard, testing::at(testing::NOW)).err().unwrap();
        assert_eq!(refused.unproven.refusal.reject, Reject::SignatureMismatch);
        // It can be judged again.
        let again = refused.candidate.authenticate(&KeySets::empty(0), &guard, testing::at(testing::NOW));
        assert_eq!(again.err().unwrap().unproven.refusal.reject, Reject::SignatureMismatch);
    }
}

#[test]
fn a_request_with_a_token_and_a_delivery_id_has_claims_and_a_reservation() {
    let rule = ReplayRule::new(
        "p",
        vec![DeliveryId::Header(http::HeaderName::from_static("x-id"))],
        600,
        http::StatusCode::OK,
    );
    let policy = ProofPolicy::all(vec![Clause::One(Proof::Token(testing::dialogflow()))]).unwrap();
    let policy = Arc::new(policy.with_replay(rule.unwrap()).unwrap());
    let token = testing::ISSUER.token(&testing::dialogflow_claims());
    let request = http::Request::post("/").header("authorization", format!("Bearer {token}")).header("x-id", "1");
    let peer = admit(vec![(NONE, policy)], None).unwrap().unwrap();
    let candidate = Candidate::new(peer, request.body(()).unwrap().into_parts().0, Bytes::new());
    let guard = Arc::new(ReplayGuard::new(8));
    let request = candidate.authenticate(&testing::ISSUER.sets(), &guard, testing::at(testing::NOW));
    let mut request = request.ok().unwrap();
    assert_eq!(request.proof(), "token");
    assert!(request.proven().claims().is_some());
    assert!(request.take_reservation().is_some());
    assert!(request.take_reservation().is_none());
}
