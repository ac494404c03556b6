//! The allocations of a request that is admitted, and of noting the chain of its sender: none, except those of `ring` for verifying
//! a token or a signature by a public key, the message of the latter, the stack of the JSON parser (a byte per level), and the subject of
//! a token.
//!
//! A separate program, because it counts every allocation of its thread.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use allocation_counter::measure;
use bytes::Bytes;
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use hookgate_core::auth::body_signature::{Encoding, HmacHash, StandardFields, TimestampPlace};
use hookgate_core::auth::{
    AuthorizedPeer, BasicCredentials, BodySignature, Candidate, Clause, DeliveryId, Demands, FieldSecret, JsonPointer,
    KeySet, KeySets, KeySourceId, Proof, ProofPolicy, PublishedKeys, ReplayGuard, ReplayRule, RequestView, Secret,
    SessionParameter, SignatureAlgorithm, SignatureForm, SignatureKeys, TokenExpectations, TokenRule,
};
use hookgate_core::identity::{
    ChainCache, ChainLimits, ClientCertificate, Condition, ConfiguredAnchor, ExtendedKeyUsage, Identity, IdentityRule,
    OnFailure, PeerChain, Profile, Provider, ProviderId, RefusalAnswer, Scope,
};
use hookgate_core::route::{Handler, Handlers, PathPattern, Route, RouteTable};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    UnparsedPublicKey, VerificationAlgorithm,
};
use rustls_pki_types::{CertificateDer, UnixTime};

const NOW: u64 = 1_795_000_000;
const SESSION: &str = "projects/1/locations/eu/agents/2/sessions/3";

/// A body of Dialogflow CX, long enough that a copy is noticed.
fn body(parameter: &str) -> String {
    let messages = r#"{"text":{"text":["Ok, let\u0027s start a new order."]},"source":"VIRTUAL_AGENT"}"#;
    let messages = [messages; 200].join(",");
    format!(
        r#"{{"messages":[{messages}],"sessionInfo":{{"session":"{SESSION}","parameters":{{"key":"{parameter}"}}}}}}"#
    )
}

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec()).unwrap()
}

fn tag(secret: &[u8], message: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes())
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// The allocations of one successful check, after another that made what is made once per process.
fn allocations(policy: &ProofPolicy, headers: &[(&'static str, &str)], body: &str, keys: &KeySets) -> u64 {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    let request =
        RequestView { method: &Method::POST, path: "/", headers: &map, body: body.as_bytes(), received_at: at(NOW) };
    let guard = Arc::new(ReplayGuard::new(1024));
    drop(policy.check(&request, keys, &guard).unwrap());
    let mut passed = false;
    let info = measure(|| passed = policy.check(&request, keys, &guard).is_ok());
    assert!(passed);
    info.count_total
}

#[track_caller]
fn check(proof: Proof, headers: &[(&'static str, &str)], body: &str, expected: u64) {
    let policy = ProofPolicy::all(vec![Clause::One(proof)]).unwrap();
    assert_eq!(allocations(&policy, headers, body, &KeySets::empty(0)), expected);
}

/// A policy of one provider, and a chain that proves it.
fn sender() -> (Identity, Scope, Vec<CertificateDer<'static>>) {
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
    let profile = Profile {
        name: "default".into(),
        trust_anchors: [ConfiguredAnchor::of(root.der(), NOW).unwrap()].into_iter().collect(),
        overlap_ends: None,
        verify_depth: 1,
        identity: vec![IdentityRule::new(vec![Condition::subject_cn("sender").unwrap()]).unwrap()],
        extended_key_usage: ExtendedKeyUsage::ClientAuth,
        revocation: None,
    };
    let cache = Arc::new(ChainCache::new(8, Duration::from_secs(60)));
    let limits = ChainLimits { max_certificates: 8, max_bytes: 32 * 1024 };
    let identity = Identity::new(1, Arc::new([provider(vec![profile], ClientCertificate::Required)]), cache, limits);
    (identity, Scope { id: 0, providers: vec![ProviderId(0)] }, vec![leaf.der().clone()])
}

fn provider(profiles: Vec<Profile>, client_certificate: ClientCertificate) -> Provider {
    Provider {
        name: "sender".into(),
        profiles,
        on_failure: OnFailure::Respond,
        refusal: RefusalAnswer::Retry,
        client_certificate,
    }
}

#[test]
fn a_known_chain_is_judged_and_noted_without_an_allocation() {
    let (identity, scope, chain) = sender();
    let verify = || identity.verify(&scope, PeerChain::unsafe_assumed(&chain), at(NOW)).result.unwrap();
    let verified = verify();
    assert_eq!(measure(|| drop(verify())).count_total, 0);
    assert_eq!(measure(|| identity.note_admitted(&verified, at(NOW))).count_total, 0);
    let sighting = identity.sightings().chains().next().unwrap();
    assert_eq!((sighting.admitted(), sighting.last_seen()), (1, NOW));
}

/// With a certificate alone, with one and an HMAC, and with an HMAC alone.
#[test]
fn a_request_is_admitted_and_authenticated_without_an_allocation() {
    let (identity, scope, chain) = sender();
    let chain = identity.verify(&scope, PeerChain::unsafe_assumed(&chain), at(NOW)).result.unwrap();
    let alone = || Arc::new(ProofPolicy::certificate_alone());
    let signed = || {
        let rule = BodySignature::pagerduty(&[secret("s3cret")]).unwrap();
        Arc::new(ProofPolicy::all(vec![Clause::One(Proof::Signature(rule))]).unwrap())
    };
    let none = ClientCertificate::None { static_secret_suffices: false };
    for (client_certificate, policy, expected) in [
        (ClientCertificate::Required, alone(), "certificate"),
        (ClientCertificate::Required, signed(), "certificate, signature"),
        (none, signed(), "signature"),
    ] {
        let demands = Demands::new(vec![policy], vec![None]).of_providers(&[provider(Vec::new(), client_certificate)]);
        let path = PathPattern::Exact("/".into());
        let route = Route::new("r", path, vec![ProviderId(0)], Handlers::new(Handler::unix(""), []));
        let routes = RouteTable::new(Arc::new([route]));
        let request = || {
            let tag = HEXLOWER.encode(tag(b"s3cret", "{}").as_ref());
            let request = hyper::Request::post("/").header("x-pagerduty-signature", format!("v1={tag}"));
            request.body(()).unwrap().into_parts().0
        };
        let (keys, guard) = (KeySets::empty(0), Arc::new(ReplayGuard::new(1024)));
        let admit = |head| {
            let route = routes.find("a.example", "/", &Method::POST).unwrap();
            let peer = match client_certificate {
                ClientCertificate::Required => {
                    AuthorizedPeer::admit(&chain, &routes, route, &demands, |_| "sender".into()).unwrap()
                }
                ClientCertificate::None { .. } => {
                    AuthorizedPeer::without_certificate(&routes, route, &demands).unwrap().unwrap()
                }
            };
            let candidate = Candidate::new(peer, head, Bytes::from_static(b"{}"));
            candidate.authenticate(&keys, &guard, at(NOW)).ok().expect(expected)
        };
        drop(admit(request()));
        let mut head = Some(request());
        let mut admitted = None;
        assert_eq!(measure(|| admitted = head.take().map(&admit)).count_total, 0, "{expected}");
        assert_eq!(admitted.unwrap().proof(), expected);
    }
}

#[test]
fn allocations_are_counted() {
    assert_eq!(measure(|| drop(std::hint::black_box(Box::new(7)))).count_total, 1);
}

#[test]
fn a_body_signature_allocates_nothing() {
    let body = body("x");
    let signature = format!("v1={},v1={}", "0".repeat(64), HEXLOWER.encode(tag(b"s3cret", &body).as_ref()));
    let rule = || BodySignature::pagerduty(&[secret("other"), secret("s3cret")]).unwrap();
    let headers = [("x-pagerduty-signature", &*signature)];
    check(Proof::Signature(rule()), &headers, &body, 0);

    let policy = ProofPolicy::all(vec![Clause::One(Proof::Signature(rule()))]).unwrap();
    let replay = ReplayRule::new("pagerduty", vec![DeliveryId::SignedMessage], 3600, StatusCode::OK).unwrap();
    let policy = policy.with_replay(replay).unwrap();
    assert_eq!(allocations(&policy, &headers, &body, &KeySets::empty(0)), 0);
}

#[test]
fn a_standard_webhook_allocates_nothing() {
    let body = body("x");
    let signature = BASE64.encode(tag(b"1234567890123456", &format!("msg_1.{NOW}.{body}")).as_ref());
    let rule =
        BodySignature::standard_webhooks(&StandardFields::default(), &[secret("whsec_MTIzNDU2Nzg5MDEyMzQ1Ng==")], 300)
            .unwrap();
    let (signature, now) = (format!("v1,{signature}"), NOW.to_string());
    let headers = [("webhook-id", "msg_1"), ("webhook-timestamp", &*now), ("webhook-signature", &*signature)];
    check(Proof::Signature(rule), &headers, &body, 0);
}

#[test]
fn an_hmac_over_every_piece_of_a_request_allocates_nothing() {
    let body = body("x");
    let message = format!("POST\n/\nhttps://hooks.example/\nmsg_1\n{NOW}.{body}");
    let form = SignatureForm {
        header: "x-signature".to_owned(),
        separator: Some(','),
        prefix: "v1=".to_owned(),
        encoding: Encoding::Base64,
        message: "{method}\n{path}\n{url}\n{id}\n{timestamp}.{body}".to_owned(),
        timestamp: Some(TimestampPlace::Header("x-time".to_owned())),
        tolerance_seconds: 300,
        id_header: Some("x-id".to_owned()),
        url: Some("https://hooks.example/".to_owned()),
    };
    for (hash, algorithm) in [(HmacHash::Sha256, hmac::HMAC_SHA256), (HmacHash::Sha512, hmac::HMAC_SHA512)] {
        let tag = hmac::sign(&hmac::Key::new(algorithm, b"s3cret"), message.as_bytes());
        let value = format!("v1=AAAA,v1={}", BASE64.encode(tag.as_ref()));
        let rule = BodySignature::hmac(&form, hash, &[secret("other"), secret("s3cret")]).unwrap();
        let headers = [("x-signature", &*value), ("x-time", &NOW.to_string()), ("x-id", "msg_1")];
        check(Proof::Signature(rule), &headers, &body, 0);
    }
}

/// Those of ring, and one for the message: ring takes it in one piece.
#[test]
fn a_signature_by_a_public_key_allocates_what_its_verification_needs() {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
    let ed25519 = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let body = body("x");
    let (point, key) = (pair.public_key().as_ref(), ed25519.public_key().as_ref());
    let encode = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
    let jwks = format!(
        r#"{{"keys":[{{"kty":"EC","crv":"P-256","x":"{}","y":"{}"}},{{"kty":"OKP","crv":"Ed25519","x":"{}"}}]}}"#,
        encode(&point[1..33]),
        encode(&point[33..]),
        encode(key)
    );
    let keys = |algorithm| SignatureKeys::of_files(KeySet::parse(jwks.as_bytes()).unwrap(), algorithm);
    let form = SignatureForm {
        header: "x-signature".to_owned(),
        separator: None,
        prefix: String::new(),
        encoding: Encoding::Base64,
        message: "{timestamp:10}{body}".to_owned(),
        timestamp: Some(TimestampPlace::Header("x-time".to_owned())),
        tolerance_seconds: 300,
        id_header: None,
        url: None,
    };
    let of_ring = |algorithm: &'static dyn VerificationAlgorithm, key: &[u8], message: &[u8], signature: &[u8]| {
        measure(|| UnparsedPublicKey::new(algorithm, key).verify(message, signature).unwrap()).count_total
    };
    let (now, message) = (NOW.to_string(), format!("{NOW}{body}"));
    let rule = |algorithm| BodySignature::public_key(&form, keys(Some(algorithm)), None).unwrap();
    let check_one = |algorithm, signature: &[u8], expected: u64| {
        let value = BASE64.encode(signature);
        let headers = [("x-signature", &*value), ("x-time", &*now)];
        check(Proof::Signature(rule(algorithm)), &headers, &body, expected + 1);
    };
    let ecdsa = pair.sign(&random, message.as_bytes()).unwrap();
    let expected = of_ring(&ECDSA_P256_SHA256_FIXED, point, message.as_bytes(), ecdsa.as_ref());
    check_one(SignatureAlgorithm::EcdsaP256Sha256Fixed, ecdsa.as_ref(), expected);
    let signature = ed25519.sign(message.as_bytes());
    let expected = of_ring(&ED25519, key, message.as_bytes(), signature.as_ref());
    check_one(SignatureAlgorithm::Ed25519, signature.as_ref(), expected);

    let header = encode(br#"{"alg":"EdDSA"}"#);
    let signed = format!("{header}.{}", encode(body.as_bytes()));
    let signature = ed25519.sign(signed.as_bytes());
    let expected = of_ring(&ED25519, key, signed.as_bytes(), signature.as_ref());
    let value = format!("{header}..{}", encode(signature.as_ref()));
    let rule = BodySignature::detached_jws("x-signature", keys(None)).unwrap();
    check(Proof::Signature(rule), &[("x-signature", &value)], &body, expected + 1);
}

#[test]
fn static_credentials_allocate_nothing() {
    let rule = FieldSecret::new("x-gitlab-token", "", &[secret("other"), secret("s3cret")]).unwrap();
    check(Proof::Secret(rule), &[("x-gitlab-token", "s3cret")], "{}", 0);
    let rule = BasicCredentials::new(&[("Aladdin".to_owned(), vec![secret("open sesame")])]).unwrap();
    check(Proof::Basic(rule), &[("authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")], "{}", 0);
}

#[test]
fn a_session_parameter_allocates_the_parser_stack_of_each_walk() {
    let pointer = |text: &str| JsonPointer::parse(text).unwrap();
    let place = "/sessionInfo/parameters/key";
    let rule = SessionParameter::secret(pointer(place), vec![secret("open sesame")]).unwrap();
    check(Proof::SessionParameter(rule), &[], &body("open sesame"), 1);

    let session = pointer("/sessionInfo/session");
    let rule = SessionParameter::hmac(pointer(place), session, &[secret("s3cret")], Encoding::Hex).unwrap();
    let value = HEXLOWER.encode(tag(b"s3cret", SESSION).as_ref());
    check(Proof::SessionParameter(rule), &[], &body(&value), 2);
}

#[test]
fn a_token_allocates_what_its_signature_needs() {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
    let point = pair.public_key().as_ref();
    let encode = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
    let jwks = format!(
        r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"1","x":"{}","y":"{}"}}]}}"#,
        encode(&point[1..33]),
        encode(&point[33..])
    );
    let set = Arc::new(KeySet::parse(jwks.as_bytes()).unwrap());
    let keys = KeySets::empty(1).with(KeySourceId(0), PublishedKeys { set, usable_until: at(u64::MAX) });
    let email = "service-4711@gcp-sa-dialogflow.iam.gserviceaccount.com";
    let claims = format!(
        r#"{{"iss":"https://accounts.google.com","aud":"https://hooks.example/","email":"{email}","email_verified":true,"sub":"1","iat":{NOW},"exp":{}}}"#,
        NOW + 3600
    );
    let signed = format!("{}.{}", encode(br#"{"alg":"ES256","kid":"1","typ":"JWT"}"#), encode(claims.as_bytes()));
    let signature = pair.sign(&random, signed.as_bytes()).unwrap();
    let token = format!("Bearer {signed}.{}", encode(signature.as_ref()));

    let expectations = TokenExpectations::dialogflow("4711", vec!["https://hooks.example/".to_owned()]).unwrap();
    let rule = TokenRule::new(KeySourceId(0), &expectations).unwrap();
    let policy = ProofPolicy::all(vec![Clause::One(Proof::Token(rule))]).unwrap();
    let verification = measure(|| {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        key.verify(signed.as_bytes(), signature.as_ref()).unwrap();
    });
    // One more: the subject, which is not configured, is copied for the handler.
    assert_eq!(allocations(&policy, &[("authorization", &token)], "", &keys), verification.count_total + 1);
}
