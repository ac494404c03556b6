//! Tests of the policy: combination, precedence of refusals, replay rules, labels and challenges.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use http::header::{HeaderName, HeaderValue};

use super::*;
use crate::auth::testing::{
    ISSUER, Issuer, NOW, Request, SOURCE, at, dialogflow, dialogflow_claims, published, reason, secret,
};
use crate::auth::{
    DeliveryId, JsonPointer, SignatureAlgorithm, SignatureForm, SignatureKeys, TokenExpectations, body_signature,
};

fn pagerduty(secrets: &[&str]) -> BodySignature {
    BodySignature::pagerduty(&secrets.iter().map(|text| secret(text)).collect::<Vec<_>>()).unwrap()
}

fn parameter() -> SessionParameter {
    let pointer = JsonPointer::parse("/sessionInfo/parameters/key").unwrap();
    SessionParameter::secret(pointer, vec![secret("open sesame")]).unwrap()
}

const BODY: &str = r#"{"sessionInfo":{"session":"s","parameters":{"key":"open sesame"}}}"#;

/// A request with the named proofs: `token`, `bad-token`, `parameter`, `signature`, `bad-signature`.
fn request(proofs: &[&str]) -> Request {
    let body = if proofs.contains(&"parameter") { BODY } else { "{}" };
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"s3cret");
    let tag = data_encoding::HEXLOWER.encode(ring::hmac::sign(&key, body.as_bytes()).as_ref());
    let mut headers: Vec<(&str, String)> = Vec::new();
    for proof in proofs {
        match *proof {
            "token" => headers.push(("authorization", format!("Bearer {}", ISSUER.token(&dialogflow_claims())))),
            "bad-token" => headers.push(("authorization", "Bearer x".to_owned())),
            "signature" => headers.push(("x-pagerduty-signature", format!("v1={tag}"))),
            "bad-signature" => headers.push(("x-pagerduty-signature", format!("v1={}", "0".repeat(64)))),
            _ => {}
        }
    }
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, &**value)).collect();
    Request::new(&headers, body)
}

fn judge(policy: &ProofPolicy, request: &Request) -> Result<Proven, Unproven> {
    policy.check(&request.view(), &ISSUER.sets(), &Arc::new(ReplayGuard::new(64)))
}

#[track_caller]
fn check(policy: &ProofPolicy, proofs: &[&str], expected: &str) {
    let outcome = match judge(policy, &request(proofs)) {
        Ok(proven) => proven.labels().to_owned(),
        Err(unproven) => unproven.refusal.reject.row().reason.to_owned(),
    };
    assert_eq!(outcome, expected, "{proofs:?}");
}

fn one_token() -> Clause {
    Clause::One(Proof::Token(dialogflow()))
}

fn one_parameter() -> Clause {
    Clause::One(Proof::SessionParameter(parameter()))
}

fn one_secret() -> Clause {
    Clause::One(Proof::Secret(FieldSecret::new("x-gitlab-token", "", &[secret("open sesame")]).unwrap()))
}

fn one_user() -> Clause {
    let users = [("Aladdin".to_owned(), vec![secret("open sesame")])];
    Clause::One(Proof::Basic(BasicCredentials::new(&users).unwrap()))
}

fn one_signature() -> Clause {
    Clause::One(Proof::Signature(pagerduty(&["s3cret"])))
}

#[test]
fn the_certificate_alone_suffices_without_proofs() {
    check(&ProofPolicy::certificate_alone(), &[], "certificate");
}

#[test]
fn all_demands_every_proof() {
    let policy = ProofPolicy::all(vec![one_token(), one_parameter(), one_signature()]).unwrap();
    check(&policy, &["token", "parameter", "signature"], "certificate, token, session-parameter, signature");
    check(&policy, &["parameter", "signature"], "token_missing");
    check(&policy, &["token", "signature"], "session_parameter_missing");
    check(&policy, &["token", "parameter"], "signature_missing");
    check(&policy, &["token", "parameter", "bad-signature"], "signature_mismatch");
}

#[test]
fn any_accepts_one_and_reports_an_attempted_proof_first() {
    let policy = ProofPolicy::any(vec![one_token(), one_parameter(), one_signature()]).unwrap();
    check(&policy, &["token"], "certificate, token");
    check(&policy, &["bad-token", "parameter"], "certificate, session-parameter");
    check(&policy, &["signature"], "certificate, signature");
    check(&policy, &[], "token_missing");
    check(&policy, &["bad-signature"], "signature_mismatch");
    check(&policy, &["bad-token", "bad-signature"], "token_malformed");
}

#[test]
fn static_credentials_combine_with_other_proofs() {
    let any = ProofPolicy::any(vec![one_secret(), one_user()]).unwrap();
    let all = ProofPolicy::all(vec![one_secret(), one_user()]).unwrap();
    let (secret, user) = (("x-gitlab-token", "open sesame"), ("authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
    for (fields, by_any, by_all) in [
        (&[secret][..], "certificate, secret", "credentials_missing"),
        (&[user], "certificate, basic", "secret_missing"),
        (&[secret, user], "certificate, secret", "certificate, secret, basic"),
        (&[("x-gitlab-token", "sesame"), user], "certificate, basic", "secret_mismatch"),
        (&[("authorization", "Basic AAAA")], "credentials_mismatch", "secret_missing"),
        (&[], "secret_missing", "secret_missing"),
    ] {
        for (policy, expected) in [(&any, by_any), (&all, by_all)] {
            let outcome = match judge(policy, &Request::new(fields, "{}")) {
                Ok(proven) => proven.labels(),
                Err(unproven) => unproven.refusal.reject.row().reason,
            };
            assert_eq!(outcome, expected, "{fields:?}");
        }
    }
}

#[test]
fn a_failure_that_newer_keys_could_cure_is_reported_first() {
    let policy = ProofPolicy::any(vec![one_signature(), one_token()]).unwrap();
    let request = request(&["token", "bad-signature"]);
    let guard = Arc::new(ReplayGuard::new(64));
    let unproven = policy.check(&request.view(), &KeySets::empty(1), &guard).unwrap_err();
    assert_eq!(unproven.refusal.reject, Reject::KeysUnavailable);
    let others = published(&Issuer::generate().jwks().replace("\"rsa\"", "\"other\""), u64::MAX);
    let unproven = policy.check(&request.view(), &others, &guard).unwrap_err();
    assert_eq!((unproven.refusal.reject, unproven.wants_keys), (Reject::TokenUnknownKey, Some(SOURCE)));
}

#[test]
fn clauses_nest_once() {
    let either = Clause::Any(vec![Proof::Token(dialogflow()), Proof::SessionParameter(parameter())]);
    let policy = ProofPolicy::all(vec![one_signature(), either]).unwrap();
    check(&policy, &["signature", "token"], "certificate, token, signature");
    check(&policy, &["signature", "parameter"], "certificate, session-parameter, signature");
    check(&policy, &["signature"], "token_missing");
    check(&policy, &["token", "parameter"], "signature_missing");
    let both = Clause::All(vec![Proof::Token(dialogflow()), Proof::SessionParameter(parameter())]);
    let policy = ProofPolicy::any(vec![one_signature(), both]).unwrap();
    check(&policy, &["token", "parameter"], "certificate, token, session-parameter");
    check(&policy, &["token"], "signature_missing");
    check(&policy, &["signature"], "certificate, signature");
}

#[test]
fn empty_and_oversized_lists_are_refused() {
    assert_eq!(ProofPolicy::all(Vec::new()).unwrap_err(), ProofPolicyError::Empty);
    assert_eq!(ProofPolicy::any(Vec::new()).unwrap_err(), ProofPolicyError::Empty);
    assert_eq!(ProofPolicy::all(vec![Clause::All(Vec::new())]).unwrap_err(), ProofPolicyError::Empty);
    assert_eq!(ProofPolicy::any(vec![one_token(), Clause::Any(Vec::new())]).unwrap_err(), ProofPolicyError::Empty);
    let many = (0..9).map(|_| one_signature()).collect();
    assert_eq!(ProofPolicy::all(many).unwrap_err(), ProofPolicyError::TooMany { count: 9 });
}

fn replay(keys: Vec<DeliveryId>, window_seconds: u64) -> ReplayRule {
    ReplayRule::new("pagerduty", keys, window_seconds, StatusCode::OK).unwrap()
}

#[test]
fn a_delivery_is_taken_once_and_a_failed_one_can_be_retried() {
    let policy = ProofPolicy::all(vec![one_signature()]).unwrap();
    let policy = policy.with_replay(replay(vec![DeliveryId::SignedMessage], 600)).unwrap();
    let guard = Arc::new(ReplayGuard::new(64));
    let keys = KeySets::empty(0);
    let request = request(&["signature"]);
    let judge = |seconds| policy.check(&RequestView { received_at: at(seconds), ..request.view() }, &keys, &guard);

    let first = judge(NOW).unwrap();
    assert_eq!(reason(judge(NOW)), "delivery_in_flight");
    drop(first);
    let mut second = judge(NOW).unwrap();
    second.take_reservation().unwrap().commit(at(NOW + 5));
    drop(second);
    assert_eq!(reason(judge(NOW)), "duplicate_delivery");
    guard.advance(Duration::from_secs(1000));
    assert_eq!(reason(judge(NOW + 605)), "duplicate_delivery");
    assert_eq!(reason(judge(NOW + 606)), "ok");
    assert_eq!(policy.duplicate_answer(), Some(StatusCode::OK));
}

/// The sender's clock is ahead by the whole tolerance, and the window has the minimum length.
#[test]
fn a_delivery_is_remembered_while_its_timestamp_is_accepted() {
    let form = SignatureForm {
        header: "x-signature".to_owned(),
        separator: None,
        prefix: String::new(),
        encoding: body_signature::Encoding::Hex,
        message: "{timestamp}.{body}".to_owned(),
        timestamp: Some(body_signature::TimestampPlace::Header("x-timestamp".to_owned())),
        tolerance_seconds: 300,
        id_header: None,
        url: None,
    };
    let signature = BodySignature::hmac(&form, body_signature::HmacHash::Sha256, &[secret("s3cret")]).unwrap();
    let policy = ProofPolicy::all(vec![Clause::One(Proof::Signature(signature))]).unwrap();
    let policy = policy.with_replay(replay(vec![DeliveryId::SignedMessage], 600)).unwrap();
    let timestamp = (NOW + 300).to_string();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"s3cret");
    let tag = data_encoding::HEXLOWER.encode(ring::hmac::sign(&key, format!("{timestamp}.{{}}").as_bytes()).as_ref());
    let request = Request::new(&[("x-signature", &tag), ("x-timestamp", &timestamp)], "{}");
    let guard = Arc::new(ReplayGuard::new(64));
    let judge = |seconds| {
        let view = RequestView { received_at: at(seconds), ..request.view() };
        let proven = policy.check(&view, &KeySets::empty(0), &guard);
        reason(proven.map(|mut proven| proven.take_reservation().unwrap().commit(at(seconds))))
    };
    for (seconds, expected) in [
        (NOW, "ok"),
        (NOW + 599, "duplicate_delivery"),
        (NOW + 600, "duplicate_delivery"),
        (NOW + 601, "timestamp_outside_window"),
    ] {
        assert_eq!(judge(seconds), expected, "{} s later", seconds - NOW);
    }
}

#[test]
fn a_refused_request_is_not_remembered() {
    let policy = ProofPolicy::all(vec![one_signature()]).unwrap();
    let id = DeliveryId::Header(HeaderName::from_static("x-webhook-id"));
    assert_eq!(policy.duplicate_answer(), None);
    let policy = policy.with_replay(ReplayRule::new("a", vec![id], 600, StatusCode::CONFLICT).unwrap()).unwrap();
    assert_eq!(policy.duplicate_answer(), Some(StatusCode::CONFLICT));
    let guard = Arc::new(ReplayGuard::new(64));
    let mut forged = request(&["bad-signature"]);
    forged.headers.insert("x-webhook-id", HeaderValue::from_static("1"));
    assert_eq!(reason(policy.check(&forged.view(), &KeySets::default(), &guard)), "signature_mismatch");
    assert!(guard.is_empty());
}

/// A sender that signs the body, and the body with a timestamp. One of the signatures suffices.
#[test]
fn a_copy_without_one_of_two_signatures_is_a_copy() {
    let hmac = |header: &str, message: &str, timestamp: Option<&str>| {
        let form = SignatureForm {
            header: header.to_owned(),
            separator: None,
            prefix: String::new(),
            encoding: body_signature::Encoding::Hex,
            message: message.to_owned(),
            timestamp: timestamp.map(|name| body_signature::TimestampPlace::Header(name.to_owned())),
            tolerance_seconds: 300,
            id_header: None,
            url: None,
        };
        Proof::Signature(BodySignature::hmac(&form, body_signature::HmacHash::Sha256, &[secret("s3cret")]).unwrap())
    };
    let both = || vec![hmac("x-dated", "{timestamp}.{body}", Some("x-time")), hmac("x-plain", "{body}", None)];
    let sign = |message: &str| {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"s3cret");
        data_encoding::HEXLOWER.encode(ring::hmac::sign(&key, message.as_bytes()).as_ref())
    };
    let (dated, plain, time) = (sign(&format!("{NOW}.{{}}")), sign("{}"), NOW.to_string());
    let fields = [("x-dated", &*dated), ("x-time", &*time), ("x-plain", &*plain)];
    for policy in [
        ProofPolicy::any(both().into_iter().map(Clause::One).collect()).unwrap(),
        ProofPolicy::all(vec![Clause::Any(both())]).unwrap(),
        ProofPolicy::all(both().into_iter().map(Clause::One).collect()).unwrap(),
    ] {
        let Ok(policy) = policy.with_replay(replay(vec![DeliveryId::SignedMessage], 600)) else { continue };
        let guard = Arc::new(ReplayGuard::new(64));
        let deliver = |omitted: &str| {
            let fields: Vec<_> = fields.iter().copied().filter(|(name, _)| *name != omitted).collect();
            let request = Request::new(&fields, "{}");
            let proven = policy.check(&request.view(), &KeySets::empty(0), &guard);
            reason(proven.map(|mut proven| proven.take_reservation().unwrap().commit(at(NOW))))
        };
        assert_eq!(deliver(""), "ok");
        for omitted in ["", "x-dated", "x-plain"] {
            let expected = ["duplicate_delivery", "signature_missing"];
            assert!(expected.contains(&deliver(omitted)), "without {omitted:?}: {}", deliver(omitted));
        }
        assert_eq!(deliver(""), "duplicate_delivery");
    }
}

#[test]
fn replay_rules_must_fit_the_proofs() {
    let rule = || replay(vec![DeliveryId::SignedMessage], 600);
    let unsigned = ProofPolicy::any(vec![one_signature(), one_token()]).unwrap();
    assert_eq!(unsigned.with_replay(rule()).unwrap_err(), ProofPolicyError::NotAlwaysSigned);
    let standard = BodySignature::standard_webhooks(
        &body_signature::StandardFields::default(),
        &[secret("whsec_MTIzNDU2Nzg5MDEyMzQ1Ng==")],
        301,
    )
    .unwrap();
    let policy = ProofPolicy::all(vec![Clause::One(Proof::Signature(standard))]).unwrap();
    assert_eq!(
        policy.with_replay(rule()).unwrap_err(),
        ProofPolicyError::WindowTooShort { window: 600, tolerance: 301 }
    );
}

#[test]
fn challenges_follow_their_schemes() {
    let refusal = |reject| Refusal::new(reject, "");
    for reject in [Reject::CredentialsMissing, Reject::CredentialsMismatch] {
        assert_eq!(challenge(&refusal(reject)).unwrap(), "Basic realm=\"hookgate\", charset=\"UTF-8\"");
    }
    assert_eq!(challenge(&refusal(Reject::TokenMissing)).unwrap(), "Bearer realm=\"hookgate\"");
    assert_eq!(
        challenge(&refusal(Reject::TokenExpired)).unwrap(),
        "Bearer realm=\"hookgate\", error=\"invalid_token\", error_description=\"The token has expired\""
    );
    for reject in Reject::ALL {
        // RFC 9110, section 15.5.2: a 401 has a challenge. A title must not end the quoted string.
        assert_eq!(challenge(&refusal(*reject)).is_some(), reject.row().status == 401, "{reject:?}");
        let unauthorized = refusal(*reject).unauthorized();
        assert!(unauthorized.status() == 401 && challenge(&unauthorized).is_some(), "{reject:?}");
        assert!(!reject.row().title.contains(['"', '\\']));
    }
}

#[test]
fn labels_match_their_bits() {
    let kinds = [Kinds::TOKEN, Kinds::SESSION_PARAMETER, Kinds::SIGNATURE, Kinds::SECRET, Kinds::BASIC];
    assert_eq!(LABELS.len(), 32);
    for (bits, labels) in (0_u8..).zip(LABELS.iter()) {
        let shown: Vec<&str> = labels.split(", ").collect();
        assert_eq!(shown.first(), Some(&"certificate"));
        for (bit, label) in kinds.iter().zip(Kinds::NAMES) {
            assert_eq!(shown.contains(&label), bits & bit != 0, "{labels}");
        }
    }
}

#[test]
fn a_policy_does_not_print_secrets() {
    let hmac = SessionParameter::hmac(
        JsonPointer::parse("/a").unwrap(),
        JsonPointer::parse("/b").unwrap(),
        &[secret("s3cret")],
        body_signature::Encoding::Hex,
    );
    let clauses = vec![one_signature(), one_parameter(), Clause::One(Proof::SessionParameter(hmac.unwrap()))];
    let policy = ProofPolicy::all(clauses).unwrap();
    let shown = format!("{policy:?}");
    for needle in ["s3cret", "open sesame", "[115, 51"] {
        assert!(!shown.contains(needle), "{shown}");
    }
}

#[test]
fn the_weakest_way_to_satisfy_a_policy_decides_what_it_binds() {
    let all = |clauses| ProofPolicy::all(clauses).unwrap().binding();
    let any = |clauses| ProofPolicy::any(clauses).unwrap().binding();
    assert_eq!(ProofPolicy::certificate_alone().binding(), Binding::None);
    for (clause, binding) in [
        (one_parameter as fn() -> Clause, Binding::Static),
        (one_secret, Binding::Static),
        (one_user, Binding::Static),
        (one_token, Binding::Token),
        (one_signature, Binding::Body),
    ] {
        assert_eq!((all(vec![clause()]), any(vec![clause()])), (binding, binding));
    }
    assert_eq!(all(vec![one_parameter(), one_signature()]), Binding::Body);
    assert_eq!(any(vec![one_signature(), one_parameter()]), Binding::Static);
    let either = || Clause::Any(vec![Proof::Token(dialogflow()), Proof::SessionParameter(parameter())]);
    let both = || Clause::All(vec![Proof::Token(dialogflow()), Proof::SessionParameter(parameter())]);
    assert_eq!(all(vec![either()]), Binding::Static);
    assert_eq!(all(vec![either(), one_signature()]), Binding::Body);
    assert_eq!(any(vec![both(), one_signature()]), Binding::Token);
}

#[test]
fn a_policy_binds_a_request_as_well_as_the_weakest_way_to_satisfy_it() {
    use crate::identity::ClientCertificate;
    let check = |policy: Result<ProofPolicy, ProofPolicyError>, binds: bool, is_static: bool| {
        let policy = policy.unwrap();
        let completes =
            |static_secret_suffices| ClientCertificate::None { static_secret_suffices }.is_completed_by(&policy);
        assert_eq!((completes(false), completes(true)), (binds, binds || is_static), "{policy:?}");
        assert!(ClientCertificate::Required.is_completed_by(&policy));
    };
    check(Ok(ProofPolicy::certificate_alone()), false, false);
    check(ProofPolicy::all(vec![one_signature()]), true, false);
    check(ProofPolicy::all(vec![one_token()]), true, false);
    for credential in [one_parameter as fn() -> Clause, one_secret, one_user] {
        check(ProofPolicy::all(vec![credential()]), false, true);
        check(ProofPolicy::all(vec![credential(), one_signature()]), true, false);
        check(ProofPolicy::any(vec![credential(), one_signature()]), false, true);
    }
    check(ProofPolicy::any(vec![one_token(), one_signature()]), true, false);
    let parameter = || Proof::SessionParameter(parameter());
    check(ProofPolicy::all(vec![Clause::Any(vec![parameter(), Proof::Token(dialogflow())])]), false, true);
    check(ProofPolicy::any(vec![Clause::All(vec![parameter(), Proof::Token(dialogflow())])]), true, false);
}

#[test]
fn a_policy_holds_as_it_checks_but_reserves_no_delivery() {
    let holds = |policy: &ProofPolicy, proofs: &[&str]| policy.holds(&request(proofs).view(), &ISSUER.sets());
    assert!(!holds(&ProofPolicy::certificate_alone(), &[]));
    let all = ProofPolicy::all(vec![one_token(), one_signature()]).unwrap();
    let any = ProofPolicy::any(vec![one_token(), one_signature()]).unwrap();
    for (proofs, by_all, by_any) in [
        (&["token", "signature"][..], true, true),
        (&["token"], false, true),
        (&["bad-token", "signature"], false, true),
        (&["bad-signature"], false, false),
        (&[], false, false),
    ] {
        assert_eq!((holds(&all, proofs), holds(&any, proofs)), (by_all, by_any), "{proofs:?}");
    }
    // A copy holds as the first one does, and a delivery without an id too.
    let id = DeliveryId::Header(HeaderName::from_static("x-id"));
    let policy = ProofPolicy::all(vec![one_signature()]).unwrap().with_replay(replay(vec![id], 600)).unwrap();
    assert!(holds(&policy, &["signature"]));
    assert!(holds(&policy, &["signature"]));
}

#[test]
fn only_the_certificate_alone_demands_no_proof() {
    assert!(!ProofPolicy::certificate_alone().demands_proof());
    assert!(ProofPolicy::all(vec![one_signature()]).unwrap().demands_proof());
    assert!(ProofPolicy::any(vec![one_parameter()]).unwrap().demands_proof());
}

#[test]
fn the_key_sources_of_a_policy_are_those_of_its_tokens_and_signatures() {
    let token = |source| {
        let expectations = TokenExpectations::dialogflow("4711", vec!["https://a.example".to_owned()]);
        TokenRule::new(KeySourceId(source), &expectations.unwrap()).unwrap()
    };
    let keys = |source| SignatureKeys::of_source(KeySourceId(source), None);
    let in_session = SessionParameter::token(JsonPointer::parse("/a").unwrap(), token(2), None);
    let jws = BodySignature::detached_jws("x-jws", keys(3)).unwrap();
    let form = SignatureForm {
        header: "x-signature".to_owned(),
        separator: None,
        prefix: String::new(),
        encoding: body_signature::Encoding::Hex,
        message: "{body}".to_owned(),
        timestamp: None,
        tolerance_seconds: 0,
        id_header: None,
        url: None,
    };
    let algorithm = Some(SignatureAlgorithm::Ed25519);
    let public = SignatureKeys::of_source(KeySourceId(4), algorithm);
    let public = BodySignature::public_key(&form, public, None).unwrap();
    let sources = |policy: ProofPolicy| policy.key_sources().map(|source| source.0).collect::<Vec<_>>();
    let clauses = vec![
        Clause::One(Proof::Token(token(1))),
        Clause::Any(vec![Proof::SessionParameter(in_session), Proof::Signature(jws)]),
        Clause::All(vec![Proof::Signature(public)]),
        one_parameter(),
        one_secret(),
        one_user(),
        one_signature(),
    ];
    assert_eq!(sources(ProofPolicy::all(clauses).unwrap()), [1, 2, 3, 4]);
    assert!(sources(ProofPolicy::any(vec![one_signature(), one_parameter()]).unwrap()).is_empty());
    assert!(sources(ProofPolicy::certificate_alone()).is_empty());
}

#[test]
fn a_token_in_a_session_parameter_binds_as_a_token_does() {
    let token = SessionParameter::token(JsonPointer::parse("/a").unwrap(), dialogflow(), None);
    let policy = ProofPolicy::all(vec![Clause::One(Proof::SessionParameter(token))]).unwrap();
    assert_eq!(policy.binding(), Binding::Token);
}

#[test]
fn eight_proofs_are_the_most() {
    let signatures = |count: usize| (0..count).map(|_| one_signature()).collect();
    assert!(ProofPolicy::all(signatures(8)).is_ok());
    let nested = || Clause::Any((0..3).map(|_| Proof::Signature(pagerduty(&["a"]))).collect());
    let error = ProofPolicy::any(vec![nested(), nested(), nested()]).unwrap_err();
    assert_eq!(error, ProofPolicyError::TooMany { count: 9 });
}

#[test]
fn a_policy_refuses_for_what_it_demands_alone() {
    let policies = [
        (ProofPolicy::all(vec![one_token()]), Reject::TokenExpired),
        (ProofPolicy::all(vec![one_parameter()]), Reject::SessionParameterMissing),
        (ProofPolicy::any(vec![one_signature()]), Reject::SignatureMissing),
        (ProofPolicy::all(vec![one_secret()]), Reject::SecretMismatch),
        (ProofPolicy::all(vec![one_user()]), Reject::CredentialsMissing),
    ];
    let policies = policies.map(|(policy, reject)| (policy.unwrap(), reject));
    for (index, (policy, _)) in policies.iter().enumerate() {
        for (other, (_, reject)) in policies.iter().enumerate() {
            assert_eq!(policy.can_refuse_for(*reject), index == other, "{reject:?}");
        }
        assert!(policy.can_refuse_for(Reject::KeysUnavailable) && !policy.can_refuse_for(Reject::DuplicateDelivery));
    }
    let alone = ProofPolicy::certificate_alone();
    assert!(!alone.can_refuse_for(Reject::KeysUnavailable) && !alone.can_refuse_for(Reject::BodyNotJson));
    let ids = vec![DeliveryId::Header(HeaderName::from_static("x-id"))];
    let remembering = alone.with_replay(replay(ids, 60)).unwrap();
    assert!(remembering.can_refuse_for(Reject::DeliveryIdMissing) && remembering.can_refuse_for(Reject::BodyNotJson));
    assert!(!remembering.can_refuse_for(Reject::SignatureMissing));
    // What belongs to no proof is always possible.
    assert!(remembering.can_refuse_for(Reject::StateUnavailable) && remembering.can_refuse_for(Reject::BodyTooLarge));
}
