//! Tests of signatures by public keys: the vectors of senders, the choice of a key, and bounds.

use ring::signature::{RSA_PSS_SHA256, RSA_PSS_SHA512};

use super::*;
use crate::auth::testing::{ISSUER, SOURCE, ed25519_spki, published};
use crate::auth::token_keys::KeySet;

pub(super) fn keys(spki: &[u8], algorithm: SignatureAlgorithm) -> SignatureKeys {
    SignatureKeys::of_files(KeySet::of_public_key(spki).unwrap(), Some(algorithm))
}

fn timed(header: &str, timestamp: &str, encoding: Encoding) -> SignatureForm {
    let timestamp = Some(TimestampPlace::Header(timestamp.to_owned()));
    SignatureForm { timestamp, encoding, ..form(header, "", "{timestamp:10}{body}") }
}

/// The example of sendgrid-python, `test/unit/test_eventwebhook.py`.
#[test]
fn verifies_the_example_of_sendgrid() {
    const KEY: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==";
    const SIGNATURE: &str =
        "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM=";
    const BODY: &str = "[{\"email\":\"hello@world.com\",\"event\":\"dropped\",\"reason\":\"Bounced Address\",\"sg_event_id\":\"ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA\",\"sg_message_id\":\"LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0\",\"smtp-id\":\"<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>\",\"timestamp\":1600112492}]\r\n";
    let spki = BASE64.decode(KEY.as_bytes()).unwrap();
    let form = timed("x-signature", "x-timestamp", Encoding::Base64);
    let rule = BodySignature::public_key(&form, keys(&spki, SignatureAlgorithm::EcdsaP256Sha256), None).unwrap();
    let request = |time: &str, signature: &str, body: &str| {
        Request::new(&[("x-signature", signature), ("x-timestamp", time)], body).at(1_600_112_502)
    };
    check(&rule, &request("1600112502", SIGNATURE, BODY), "ok");
    check(&rule, &request("1600112502", SIGNATURE, BODY.trim_end()), "signature_mismatch");
    check(&rule, &request("1600112503", SIGNATURE, BODY), "signature_mismatch");
    check(&rule, &request("1600112502", "AAAA", BODY), "signature_mismatch");
    check(&rule, &request("1600112502", "", BODY), "signature_malformed");
    check(&rule, &request("1600112502", "!", BODY), "signature_malformed");
    // The digits of the timestamp cannot move into the body: "160011250" before "2[{…" signs the same bytes.
    check(&rule, &request("160011250", SIGNATURE, &format!("2{BODY}")), "signature_malformed");
    check(&rule, &request("01600112502", SIGNATURE, BODY), "signature_malformed");
    let fixed = keys(&spki, SignatureAlgorithm::EcdsaP256Sha256Fixed);
    let fixed = BodySignature::public_key(&form, fixed, None).unwrap();
    check(&fixed, &request("1600112502", SIGNATURE, BODY), "signature_mismatch");
}

/// Computed with OpenSSL for the seed 00..1f, in the form of Discord: a timestamp, directly before the body.
#[test]
fn verifies_a_request_in_the_form_of_discord() {
    let key = HEXLOWER.decode(b"03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8").unwrap();
    let signature = "b1644a24336e5db810885385cd6327111eb612abeaf117726232e4fb91a005252c477a5a073b65092b8580c32e70ebbd9b19e40fd7b2fc2c02e257eb8a989c0b";
    let form = timed("x-signature-ed25519", "x-signature-timestamp", Encoding::Hex);
    let keys = keys(&ed25519_spki(&key), SignatureAlgorithm::Ed25519);
    let rule = BodySignature::public_key(&form, keys, None).unwrap();
    let request = |signature: &str, body: &str| {
        let fields = [("x-signature-ed25519", signature), ("x-signature-timestamp", "1700000000")];
        Request::new(&fields, body).at(1_700_000_000)
    };
    check(&rule, &request(signature, "{\"id\":\"evt_1\",\"n\":1}"), "ok");
    check(&rule, &request(signature, "{\"id\":\"evt_1\",\"n\":2}"), "signature_mismatch");
    check(&rule, &request(&signature.replace("b1644a", "b1644b"), "{\"id\":\"evt_1\",\"n\":1}"), "signature_mismatch");
}

#[test]
fn a_prefix_without_a_signature_is_malformed() {
    let form = SignatureForm { separator: Some(','), ..form("x-signature", "v1=", "{body}") };
    let keys = keys(&ed25519_spki(&[7; 32]), SignatureAlgorithm::Ed25519);
    let rule = BodySignature::public_key(&form, keys, None).unwrap();
    for (value, expected) in [
        ("v1=", "signature_malformed"),
        ("v1=,v1=zz", "signature_malformed"),
        ("v2=00", "signature_malformed"),
        ("v1=,v1=00", "signature_mismatch"),
    ] {
        check(&rule, &Request::new(&[("x-signature", value)], "{}"), expected);
    }
}

/// Square: HMAC over the notification URL and the body. The tag was computed with OpenSSL.
#[test]
fn the_configured_url_can_be_signed() {
    let url = Some("https://example.com/hook".to_owned());
    let form =
        SignatureForm { url, encoding: Encoding::Base64, ..form("x-square-hmacsha256-signature", "", "{url}{body}") };
    let rule = BodySignature::hmac(&form, HmacHash::Sha256, &secrets(&["sq-key"])).unwrap();
    let request = |body: &str| {
        Request::new(&[("x-square-hmacsha256-signature", "LEPZPM0OcCSk8+QXioQtQkCaI97lrg/NKr3vb+9I0NU=")], body)
    };
    check(&rule, &request("{\"id\":\"evt_1\",\"n\":1}"), "ok");
    check(&rule, &request("{\"id\":\"evt_1\",\"n\":2}"), "signature_mismatch");
    let other = SignatureForm { url: Some("https://example.com/hook2".to_owned()), ..form.clone() };
    let other = BodySignature::hmac(&other, HmacHash::Sha256, &secrets(&["sq-key"])).unwrap();
    check(&other, &request("{\"id\":\"evt_1\",\"n\":1}"), "signature_mismatch");
    let longest = SignatureForm { url: Some("x".repeat(512)), ..form.clone() };
    assert!(BodySignature::hmac(&longest, HmacHash::Sha256, &secrets(&["a"])).is_ok());
    for (message, url, error) in [
        ("{url}{body}", None, SignatureRuleError::Unplaced { piece: "url" }),
        ("{body}", Some(String::from("a")), SignatureRuleError::Unplaced { piece: "url" }),
        ("{url}{body}", Some(String::new()), SignatureRuleError::Url { bytes: 0 }),
        ("{url}{body}", Some("x".repeat(513)), SignatureRuleError::Url { bytes: 513 }),
    ] {
        let form = SignatureForm { url, message: message.to_owned(), ..form.clone() };
        assert_eq!(BodySignature::hmac(&form, HmacHash::Sha256, &secrets(&["a"])).unwrap_err(), error);
    }
}

fn plain(keys: SignatureKeys, key_id_header: Option<&str>) -> BodySignature {
    let form = SignatureForm { encoding: Encoding::Base64, separator: Some(','), ..form("x-signature", "", "{body}") };
    BodySignature::public_key(&form, keys, key_id_header).unwrap()
}

#[test]
fn published_keys_are_found_by_the_id_in_a_field() {
    let keys = || SignatureKeys::of_source(SOURCE, Some(SignatureAlgorithm::RsaPssSha256));
    // An RSA key without "alg" is for any RSA algorithm. The one with "alg" is for RS256 alone.
    let mut free = ISSUER.rsa_jwk("free");
    free.as_object_mut().unwrap().remove("alg");
    let set = serde_json::json!({ "keys": [free, ISSUER.rsa_jwk("rs256"), ISSUER.ec_jwk("ec")] }).to_string();
    let sets = published(&set, u64::MAX);
    let signature = BASE64.encode(&ISSUER.rsa(&RSA_PSS_SHA256, b"{}"));
    let named = plain(keys(), Some("x-key"));
    let judge = |rule: &BodySignature, fields: &[(&str, &str)], sets: &KeySets| match rule
        .check(&Request::new(fields, "{}").view(), sets)
    {
        Ok(()) => ("ok", None),
        Err(unproven) => (unproven.refusal.reject.row().reason, unproven.wants_keys),
    };
    let field = ("x-signature", &*signature);
    for (id, expected) in [
        ("free", ("ok", None)),
        ("rs256", ("signature_unknown_key", Some(SOURCE))),
        ("ec", ("signature_unknown_key", Some(SOURCE))),
        ("other", ("signature_unknown_key", Some(SOURCE))),
        ("", ("signature_unknown_key", Some(SOURCE))),
    ] {
        assert_eq!(judge(&named, &[field, ("x-key", id)], &sets), expected, "{id}");
    }
    assert_eq!(judge(&named, &[field], &sets), ("signature_missing", None));
    let mut unreadable = Request::new(&[field], "{}");
    unreadable.headers.insert("x-key", http::header::HeaderValue::from_bytes(b"\xff").unwrap());
    assert_eq!(reason(named.check(&unreadable.view(), &sets)), "signature_malformed");
    let others = published(&serde_json::json!({ "keys": [ISSUER.ec_jwk("ec")] }).to_string(), u64::MAX);
    assert_eq!(judge(&plain(keys(), None), &[field], &others), ("signature_unknown_key", Some(SOURCE)));
    assert_eq!(judge(&named, &[field, ("x-key", "free")], &KeySets::empty(1)).0, "keys_unavailable");
    assert_eq!(judge(&named, &[field, ("x-key", "free")], &published(&set, 0)).0, "keys_unavailable");
    let forged = BASE64.encode(&ISSUER.rsa(&RSA_PSS_SHA512, b"{}"));
    assert_eq!(judge(&named, &[("x-signature", &forged), ("x-key", "free")], &sets), ("signature_mismatch", None));
    // If the sender names no key, a newer one can have signed.
    let unnamed = plain(keys(), None);
    assert_eq!(judge(&unnamed, &[field], &sets), ("ok", None));
    assert_eq!(judge(&unnamed, &[("x-signature", &forged)], &sets), ("signature_mismatch", Some(SOURCE)));
}

#[test]
fn one_of_several_keys_and_values_suffices_within_a_bound() {
    let other = crate::auth::testing::Issuer::generate();
    let set = KeySet::union(vec![
        KeySet::of_public_key(&other.rsa_spki()).unwrap(),
        KeySet::of_public_key(&ISSUER.rsa_spki()).unwrap(),
        KeySet::of_public_key(&ISSUER.ec_spki()).unwrap(),
    ]);
    let rule = plain(SignatureKeys::of_files(set, Some(SignatureAlgorithm::RsaPkcs1Sha256)), None);
    let good = BASE64.encode(&ISSUER.rs256(b"{}"));
    let request = |value: &str| Request::new(&[("x-signature", value)], "{}");
    check(&rule, &request(&good), "ok");
    check(&rule, &request(&format!("{},{good}", "AAAA,".repeat(14))), "ok");
    check(&rule, &request(&BASE64.encode(&ISSUER.rs256(b"{} "))), "signature_mismatch");
    // 16 values and two keys of the type are as many as are tried.
    check(&rule, &request(&format!("{}{good}", "AAAA,".repeat(15))), "ok");
    check(&rule, &request(&format!("{}{good}", "AAAA,".repeat(16))), "signature_malformed");
    // With three keys of the type, ten values are.
    let set = (0..3).map(|_| KeySet::of_public_key(&ISSUER.rsa_spki()).unwrap()).collect();
    let rule = plain(SignatureKeys::of_files(KeySet::union(set), Some(SignatureAlgorithm::RsaPkcs1Sha256)), None);
    check(&rule, &request(&format!("{}{good}", "AAAA,".repeat(9))), "ok");
    let refusal = rule.check(&request(&format!("{}{good}", "AAAA,".repeat(10))).view(), &KeySets::default());
    let refusal = refusal.unwrap_err().refusal;
    assert_eq!(refusal.reject, Reject::SignatureMalformed);
    assert!(refusal.detail().contains("with 3 keys, at most 10 are tried"), "{refusal}");
}

#[test]
fn keys_of_another_type_are_no_rule() {
    let error = |spki: &[u8], algorithm: SignatureAlgorithm| {
        BodySignature::public_key(&form("x-a", "", "{body}"), keys(spki, algorithm), None).unwrap_err()
    };
    for (spki, algorithm) in [
        (ISSUER.rsa_spki(), SignatureAlgorithm::Ed25519),
        (ISSUER.rsa_spki(), SignatureAlgorithm::EcdsaP256Sha256),
        (ISSUER.ec_spki(), SignatureAlgorithm::RsaPssSha384),
        (ed25519_spki(&[7; 32]), SignatureAlgorithm::EcdsaP256Sha256Fixed),
    ] {
        assert_eq!(error(&spki, algorithm), SignatureRuleError::KeyType { algorithm: algorithm.name() });
    }
    let many = KeySet::union((0..9).map(|_| KeySet::of_public_key(&ISSUER.ec_spki()).unwrap()).collect());
    let many = BodySignature::detached_jws("x-jws", SignatureKeys::of_files(many, None)).unwrap_err();
    assert_eq!(many, SignatureRuleError::Keys { count: 9 });
    let der = keys(&ISSUER.ec_spki(), SignatureAlgorithm::EcdsaP256Sha256);
    assert_eq!(BodySignature::detached_jws("x-jws", der).unwrap_err(), SignatureRuleError::DerInJws);
}
