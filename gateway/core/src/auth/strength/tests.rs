//! Tests of what makes a policy weaker.

#![expect(clippy::unwrap_used, reason = "tests")]

use http::StatusCode;
use http::header::HeaderName;

use super::*;
use crate::auth::body_signature::{Encoding, HmacHash, TimestampPlace};
use crate::auth::testing::{ISSUER, secret};
use crate::auth::{
    BasicCredentials, BodySignature, DeliveryId, FieldSecret, JsonPointer, KeySet, ProofPolicy, ReplayRule,
    SessionParameter, SignatureAlgorithm, SignatureForm, SignatureKeys, TokenExpectations, TokenRule,
};

const LONG: &str = "a secret of more than sixteen bytes";

fn form(header: &str) -> SignatureForm {
    SignatureForm {
        header: header.to_owned(),
        separator: None,
        prefix: String::new(),
        encoding: Encoding::Hex,
        message: "{method} {path}\n{timestamp}.{body}".to_owned(),
        timestamp: Some(TimestampPlace::Header("x-time".to_owned())),
        tolerance_seconds: 60,
        id_header: None,
        url: None,
    }
}

fn signature(form: &SignatureForm, secrets: &[&str]) -> Proof {
    hashed(form, HmacHash::Sha384, secrets)
}

fn hashed(form: &SignatureForm, hash: HmacHash, secrets: &[&str]) -> Proof {
    let secrets: Vec<_> = secrets.iter().map(|text| secret(text)).collect();
    Proof::Signature(BodySignature::hmac(form, hash, &secrets).unwrap())
}

fn a() -> Proof {
    signature(&form("x-a"), &[LONG])
}

fn b() -> Proof {
    signature(&form("x-b"), &[LONG])
}

fn expectations() -> TokenExpectations {
    TokenExpectations {
        issuers: vec!["https://login.example".to_owned()],
        audiences: vec!["hook".to_owned()],
        emails: vec!["a@example.com".to_owned()],
        subjects: vec!["a".to_owned()],
        unsafe_any_subject: true,
        leeway_seconds: 5,
    }
}

fn token(expectations: &TokenExpectations, source: u16) -> Proof {
    Proof::Token(TokenRule::new(KeySourceId(source), expectations).unwrap())
}

fn t() -> Proof {
    token(&expectations(), 0)
}

fn all(proofs: Vec<Proof>) -> ProofPolicy {
    ProofPolicy::all(proofs.into_iter().map(Clause::One).collect()).unwrap()
}

fn any(proofs: Vec<Proof>) -> ProofPolicy {
    ProofPolicy::any(proofs.into_iter().map(Clause::One).collect()).unwrap()
}

fn strength(policy: &ProofPolicy) -> PolicyStrength {
    policy.strength(&|source| Aspects::from([("keys".to_owned(), Aspect::Exactly(format!("source {}", source.0)))]))
}

/// Expects that `new` lacks this of `old`.
#[track_caller]
fn check(old: &ProofPolicy, new: &ProofPolicy, expected: &[&str]) {
    assert_eq!(strength(old).lost_in(&strength(new)), expected);
    assert_eq!(strength(old).lost_in(&strength(old)), [""; 0], "from itself");
}

#[test]
fn fewer_proofs_are_weaker() {
    let alone = ProofPolicy::certificate_alone;
    check(&all(vec![a()]), &alone(), &["signature in x-a is no longer demanded"]);
    check(&alone(), &all(vec![a()]), &[]);
    check(&all(vec![a(), b()]), &all(vec![a()]), &["signature in x-b is no longer demanded"]);
    check(&all(vec![a()]), &all(vec![b(), a()]), &[]);
    check(
        &all(vec![a(), t()]),
        &any(vec![a(), t()]),
        &["signature in x-a is no longer demanded", "token is no longer demanded"],
    );
    // An alternative of a new place names who else may send; one of a known place is a way around the others.
    check(&all(vec![a()]), &any(vec![a(), t()]), &[]);
    check(&all(vec![a()]), &any(vec![b(), t()]), &["signature in x-a is no longer demanded"]);
    let around = ProofPolicy::any(vec![Clause::All(vec![a(), b()]), Clause::One(b())]).unwrap();
    check(&all(vec![a(), b()]), &around, &["signature in x-a is no longer demanded"]);
    check(&any(vec![a(), t()]), &all(vec![t()]), &[]);
    // Two signatures at one place are two proofs.
    check(&all(vec![a(), a()]), &all(vec![a()]), &["signature in x-a is no longer demanded"]);
    check(&all(vec![a(), a()]), &all(vec![a(), a(), b()]), &[]);
}

#[test]
fn an_alternative_that_comes_back_must_come_back_with_its_demands() {
    let after = |new: &ProofPolicy, old: &PolicyStrength| {
        let mut new = strength(new);
        new.remember(old);
        new
    };
    let both = any(vec![a(), t()]);
    let alone = after(&all(vec![a()]), &strength(&both));
    assert_eq!(alone.lost_in(&strength(&both)), [""; 0]);
    let lax = |leeway_seconds| token(&TokenExpectations { leeway_seconds, ..expectations() }, 0);
    assert_eq!(
        alone.lost_in(&strength(&any(vec![a(), lax(60)]))),
        ["leeway_s 5 → 60"].map(|loss| format!("token: {loss}"))
    );
    assert_eq!(alone.lost_in(&strength(&any(vec![a(), lax(1)]))), [""; 0]);
    // However many policies lie between, and also as a part of what it was.
    let later = after(&any(vec![a(), b()]), &after(&all(vec![a()]), &alone));
    assert_eq!(later.lost_in(&strength(&any(vec![a(), b(), lax(60)]))), ["token: leeway_s 5 → 60"]);
    let pair = ProofPolicy::any(vec![Clause::One(a()), Clause::All(vec![b(), t()])]).unwrap();
    let alone = after(&all(vec![a()]), &strength(&pair));
    assert_eq!(alone.lost_in(&strength(&any(vec![a(), t()]))), ["signature in x-b is no longer demanded"]);
    assert_eq!(alone.lost_in(&strength(&pair)), [""; 0]);
    // One that never was there names who else may send.
    assert_eq!(strength(&all(vec![a()])).lost_in(&strength(&any(vec![a(), lax(60)]))), [""; 0]);
}

#[test]
fn an_alternative_that_stays_as_it_was_lacks_nothing() {
    let tolerant = |seconds| signature(&SignatureForm { tolerance_seconds: seconds, ..form("x-a") }, &[LONG]);
    check(&any(vec![tolerant(60), tolerant(300)]), &any(vec![tolerant(300)]), &[]);
    check(&any(vec![tolerant(300), tolerant(60)]), &any(vec![tolerant(300)]), &[]);
}

#[test]
fn what_is_lost_is_told_of_the_way_with_the_fewest_proofs_missing() {
    let tolerant = |seconds| signature(&SignatureForm { tolerance_seconds: seconds, ..form("x-a") }, &[LONG]);
    let expected = ["signature in x-a: tolerance_s 60 → 300"];
    check(&any(vec![b(), tolerant(60)]), &any(vec![tolerant(300)]), &expected);
    check(&any(vec![tolerant(60), b()]), &any(vec![tolerant(300)]), &expected);
}

#[test]
fn proofs_of_one_field_may_change_places() {
    let tolerant = |seconds| signature(&SignatureForm { tolerance_seconds: seconds, ..form("x-a") }, &[LONG]);
    check(&all(vec![tolerant(300), tolerant(60)]), &all(vec![tolerant(60), tolerant(300)]), &[]);
    let expected = ["signature in x-a: tolerance_s 60 → 300"];
    check(&all(vec![tolerant(300), tolerant(60)]), &all(vec![tolerant(300), tolerant(300)]), &expected);
}

#[test]
fn as_many_ways_are_remembered_as_a_policy_can_have() {
    let mut current = strength(&all(vec![a()]));
    for number in 0..30 {
        current.remember(&strength(&all(vec![signature(&form(&format!("x-{number}")), &[LONG])])));
        assert_eq!(current.removed.len(), MAXIMUM_WAYS.min(number + 1));
    }
}

#[test]
fn nested_groups_are_compared_by_their_ways() {
    let nested =
        |group: fn(Vec<Proof>) -> Clause| ProofPolicy::all(vec![Clause::One(a()), group(vec![b(), t()])]).unwrap();
    let (any_of, all_of) = (nested(Clause::Any), nested(Clause::All));
    check(&all_of, &any_of, &["signature in x-b is no longer demanded", "token is no longer demanded"]);
    check(&any_of, &all_of, &[]);
    check(&any_of, &all(vec![b(), a()]), &[]);
    check(&any_of, &all(vec![a()]), &["signature in x-b is no longer demanded"]);
    let either = ProofPolicy::any(vec![Clause::All(vec![a(), b()]), Clause::All(vec![a(), t()])]).unwrap();
    check(&any_of, &either, &[]);
    check(&either, &any_of, &[]);
}

#[test]
fn a_signature_that_covers_less_is_weaker() {
    let other = |change: fn(&mut SignatureForm)| {
        let mut form = form("x-a");
        change(&mut form);
        all(vec![signature(&form, &[LONG])])
    };
    let old = all(vec![a()]);
    check(&old, &other(|form| form.tolerance_seconds = 300), &["signature in x-a: tolerance_s 60 → 300"]);
    check(&old, &other(|form| form.tolerance_seconds = 30), &[]);
    let hash = |hash| all(vec![hashed(&form("x-a"), hash, &[LONG])]);
    check(&old, &hash(HmacHash::Sha256), &["signature in x-a: bits of the hash 384 → 256"]);
    check(&old, &hash(HmacHash::Sha512), &[]);
    check(&old, &other(|form| form.prefix = "v1=".to_owned()), &[]);
    let uncovered = other(|form| (form.message, form.timestamp) = ("{body}".to_owned(), None));
    check(
        &old,
        &uncovered,
        &[
            "signature in x-a: tolerance_s is no longer demanded",
            "signature in x-a: {method} in message is no longer demanded",
            "signature in x-a: {path} in message is no longer demanded",
            "signature in x-a: {timestamp} in message is no longer demanded",
        ],
    );
}

#[test]
fn a_secret_may_be_added_and_replaced_but_not_become_short() {
    let of = |secrets: &[&str]| all(vec![signature(&form("x-a"), secrets)]);
    check(&of(&[LONG]), &of(&["another secret of many bytes", LONG]), &[]);
    check(&of(&[LONG]), &of(&["0123456789abcdef"]), &[]);
    let short = "signature in x-a: bytes of the shortest secret 16 → 3";
    check(&of(&[LONG]), &of(&["abc"]), &[short]);
    check(&of(&[LONG]), &of(&[LONG, "abc"]), &[short]);
    check(&of(&["abc"]), &of(&["xyz"]), &[]);
}

#[test]
fn a_public_key_is_not_replaced_by_less() {
    let plain = || SignatureForm { timestamp: None, message: "{body}".to_owned(), ..form("x-a") };
    let set = |spki: Vec<u8>| KeySet::of_public_key(&spki).unwrap();
    let keys = |algorithm| SignatureKeys::of_files(set(ISSUER.rsa_spki()), Some(algorithm));
    let by = |keys| all(vec![Proof::Signature(BodySignature::public_key(&plain(), keys, None).unwrap())]);
    let source = |id, algorithm| by(SignatureKeys::of_source(KeySourceId(id), Some(algorithm)));
    let rsa = |algorithm| by(keys(algorithm));
    let old = rsa(SignatureAlgorithm::RsaPkcs1Sha512);
    check(&old, &rsa(SignatureAlgorithm::RsaPssSha512), &[]);
    let hash = "signature in x-a: bits of the hash 512 → 256";
    check(&old, &rsa(SignatureAlgorithm::RsaPssSha256), &[hash]);
    let file = "signature in x-a: keys from a file is no longer demanded";
    check(&old, &source(0, SignatureAlgorithm::RsaPkcs1Sha512), &[file]);
    let other = source(1, SignatureAlgorithm::Ed25519);
    check(&source(0, SignatureAlgorithm::Ed25519), &other, &["signature in x-a: keys source 0 → source 1"]);
    let hmac = all(vec![hashed(&plain(), HmacHash::Sha512, &[LONG])]);
    let private = "signature in x-a: a private key of the sender is no longer demanded";
    check(&old, &hmac, &[private, file]);
    check(&hmac, &old, &["signature in x-a: bytes of the shortest secret 16 → 14"]);
    let stronger = SignatureKeys::of_files(set(ISSUER.ec_spki()), Some(SignatureAlgorithm::EcdsaP256Sha256));
    check(&rsa(SignatureAlgorithm::RsaPkcs1Sha256), &by(stronger), &[]);
    let jws = SignatureKeys::of_files(set(ISSUER.ec_spki()), None);
    let jws = all(vec![Proof::Signature(BodySignature::detached_jws("x-a", jws).unwrap())]);
    check(&jws, &all(vec![hashed(&plain(), HmacHash::Sha256, &[LONG])]), &[private, file]);
    check(&jws, &ProofPolicy::certificate_alone(), &["signature in x-a is no longer demanded"]);
}

#[test]
fn the_url_stays_signed() {
    let with = |message: &str, url: Option<&str>| {
        let (message, url) = (message.to_owned(), url.map(str::to_owned));
        all(vec![signature(&SignatureForm { timestamp: None, message, url, ..form("x-a") }, &[LONG])])
    };
    let old = with("{url}{body}", Some("https://a.example/"));
    check(&old, &with("{body}", None), &["signature in x-a: {url} in message is no longer demanded"]);
    check(&old, &with("{url}{body}", Some("https://b.example/")), &[]);
}

#[test]
fn static_credentials_stay_demanded_and_do_not_get_shorter() {
    let field =
        |header: &str, text: &str| all(vec![Proof::Secret(FieldSecret::new(header, "", &[secret(text)]).unwrap())]);
    let basic = |texts: &[&str]| {
        let users: Vec<_> = texts.iter().map(|text| ((*text).to_owned(), vec![secret(text)])).collect();
        all(vec![Proof::Basic(BasicCredentials::new(&users).unwrap())])
    };
    check(&field("x-a", LONG), &field("x-a", "0123456789abcdef"), &[]);
    check(&field("x-a", LONG), &field("x-a", "abc"), &["secret in x-a: bytes of the shortest secret 16 → 3"]);
    check(&field("x-a", LONG), &field("x-b", LONG), &["secret in x-a is no longer demanded"]);
    check(&basic(&[LONG]), &basic(&[LONG, "a second user of many bytes"]), &[]);
    check(&basic(&[LONG]), &basic(&[LONG, "abc"]), &["basic authentication: bytes of the shortest secret 16 → 3"]);
    check(&basic(&[LONG]), &field("x-a", LONG), &["basic authentication is no longer demanded"]);
}

#[test]
fn a_token_with_fewer_claims_is_weaker() {
    let other = |change: fn(&mut TokenExpectations), source| {
        let mut expectations = expectations();
        change(&mut expectations);
        all(vec![token(&expectations, source)])
    };
    let old = all(vec![t()]);
    check(&old, &other(|it| it.leeway_seconds = 60, 0), &["token: leeway_s 5 → 60"]);
    check(&old, &other(|it| it.emails.clear(), 0), &["token: emails is no longer demanded"]);
    check(&old, &other(|it| it.subjects.clear(), 0), &["token: subjects is no longer demanded"]);
    check(&old, &other(|_| {}, 1), &["token: keys source 0 → source 1"]);
    check(&old, &other(|it| it.audiences.push("other".to_owned()), 0), &[]);
}

#[test]
fn a_session_parameter_that_fits_every_session_is_weaker() {
    let pointer = || JsonPointer::parse("/parameter").unwrap();
    let session = || JsonPointer::parse("/session").unwrap();
    let hmac = SessionParameter::hmac(pointer(), session(), &[secret(LONG)], Encoding::Hex).unwrap();
    let hmac = all(vec![Proof::SessionParameter(hmac)]);
    let fixed = SessionParameter::secret(pointer(), vec![secret(LONG)]).unwrap();
    let fixed = all(vec![Proof::SessionParameter(fixed)]);
    let rule = |session| {
        let rule = TokenRule::new(KeySourceId(0), &expectations()).unwrap();
        all(vec![Proof::SessionParameter(SessionParameter::token(pointer(), rule, session))])
    };
    let lost = "session parameter at /parameter: the session's name is no longer demanded";
    check(&hmac, &fixed, &[lost]);
    check(&fixed, &hmac, &[]);
    check(&rule(Some(session())), &rule(None), &[lost]);
}

#[test]
fn a_replay_rule_that_finds_fewer_copies_is_weaker() {
    let with = |ids: Vec<DeliveryId>, window| {
        let rule = ReplayRule::new("a", ids, window, StatusCode::OK).unwrap();
        all(vec![a()]).with_replay(rule).unwrap()
    };
    let header = || DeliveryId::Header(HeaderName::from_static("x-id"));
    let old = with(vec![header(), DeliveryId::SignedMessage], 600);
    check(&old, &with(vec![DeliveryId::SignedMessage], 600), &["replay: id_header x-id is no longer demanded"]);
    check(&old, &with(vec![header(), DeliveryId::SignedMessage], 300), &["replay: window_s 600 → 300"]);
    check(&old, &with(vec![DeliveryId::SignedMessage, header()], 900), &[]);
    check(
        &old,
        &all(vec![a()]),
        &[
            "replay: by_signature is no longer demanded",
            "replay: id_header x-id is no longer demanded",
            "replay: window_s is no longer demanded",
        ],
    );
}

#[test]
fn the_shortest_secret_of_a_session_parameter_counts() {
    let pointer = || JsonPointer::parse("/parameter").unwrap();
    let fixed = |texts: &[&str]| {
        let secrets = texts.iter().map(|text| secret(text)).collect();
        all(vec![Proof::SessionParameter(SessionParameter::secret(pointer(), secrets).unwrap())])
    };
    let keyed = |texts: &[&str]| {
        let secrets: Vec<_> = texts.iter().map(|text| secret(text)).collect();
        let session = JsonPointer::parse("/session").unwrap();
        let hmac = SessionParameter::hmac(pointer(), session, &secrets, Encoding::Hex).unwrap();
        all(vec![Proof::SessionParameter(hmac)])
    };
    let lost = "session parameter at /parameter: bytes of the shortest secret 16 → 3";
    check(&fixed(&[LONG]), &fixed(&[LONG, "abc"]), &[lost]);
    check(&keyed(&[LONG]), &keyed(&[LONG, "abc"]), &[lost]);
    check(&keyed(&[LONG, "abc"]), &keyed(&[LONG]), &[]);
}
