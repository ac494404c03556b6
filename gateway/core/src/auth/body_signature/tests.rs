//! Tests of body signatures: published examples of senders, tampering, rotation, clocks, header fields.

#![expect(clippy::unwrap_used, reason = "tests")]

mod detached;
mod public_keys;

use data_encoding::{BASE64, HEXLOWER};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};

use super::*;
use crate::auth::testing::{NOW, Request, reason, secret};

fn secrets(texts: &[&str]) -> Vec<Secret> {
    texts.iter().map(|text| secret(text)).collect()
}

fn form(header: &str, prefix: &str, message: &str) -> SignatureForm {
    SignatureForm {
        header: header.to_owned(),
        separator: None,
        prefix: prefix.to_owned(),
        encoding: Encoding::Hex,
        message: message.to_owned(),
        timestamp: None,
        tolerance_seconds: 300,
        id_header: None,
        url: None,
    }
}

fn github() -> BodySignature {
    let form = form("X-Hub-Signature-256", "sha256=", "{body}");
    BodySignature::hmac(&form, HmacHash::Sha256, &secrets(&["It's a Secret to Everybody"])).unwrap()
}

fn slack() -> BodySignature {
    let timestamp = Some(TimestampPlace::Header("X-Slack-Request-Timestamp".to_owned()));
    let form = SignatureForm { timestamp, ..form("X-Slack-Signature", "v0=", "v0:{timestamp}:{body}") };
    BodySignature::hmac(&form, HmacHash::Sha256, &secrets(&["8f742231b10e8888abcd99yyyzzz85a5"])).unwrap()
}

fn stripe(texts: &[&str]) -> BodySignature {
    let timestamp = Some(TimestampPlace::Value("t=".to_owned()));
    let form =
        SignatureForm { separator: Some(','), timestamp, ..form("Stripe-Signature", "v1=", "{timestamp}.{body}") };
    BodySignature::hmac(&form, HmacHash::Sha256, &secrets(texts)).unwrap()
}

fn hex_hmac(secret: &str, message: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    HEXLOWER.encode(hmac::sign(&key, message.as_bytes()).as_ref())
}

#[track_caller]
fn check(rule: &BodySignature, request: &Request, expected: &str) {
    assert_eq!(reason(rule.check(&request.view(), &KeySets::default())), expected, "{:?}", request.headers);
}

/// GitHub documentation, "Validating webhook deliveries", "Testing the webhook payload validation".
const GITHUB_EXAMPLE: (&str, &str) =
    ("sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17", "Hello, World!");

/// Slack documentation, "Verifying requests from Slack".
const SLACK_EXAMPLE: (&str, &str) = (
    "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c",
);

/// Standard Webhooks, the vector of its reference libraries.
const STANDARD_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const STANDARD_ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const STANDARD_TIME: u64 = 1_614_265_330;
const STANDARD_BODY: &str = r#"{"test": 2432232314}"#;
const STANDARD_SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

fn standard(signature: &str, body: &str) -> Request {
    standard_with(STANDARD_ID, "1614265330", signature, body)
}

fn standard_with(id: &str, timestamp: &str, signature: &str, body: &str) -> Request {
    let headers = [("webhook-id", id), ("webhook-timestamp", timestamp), ("webhook-signature", signature)];
    Request::new(&headers, body).at(STANDARD_TIME)
}

fn standard_rule(keys: &[&str]) -> BodySignature {
    BodySignature::standard_webhooks(&StandardFields::default(), &secrets(keys), 300).unwrap()
}

#[test]
fn the_general_form_verifies_the_examples_of_senders() {
    let (signature, body) = GITHUB_EXAMPLE;
    check(&github(), &Request::new(&[("x-hub-signature-256", signature)], body), "ok");
    check(&github(), &Request::new(&[("x-hub-signature-256", &signature.to_uppercase())], body), "signature_malformed");

    let (signature, body) = SLACK_EXAMPLE;
    let headers = [("x-slack-request-timestamp", "1531420618"), ("x-slack-signature", signature)];
    check(&slack(), &Request::new(&headers, body).at(1_531_420_618), "ok");
    check(&slack(), &Request::new(&headers, body), "timestamp_outside_window");

    // Stripe documents the form, without an example that verifies: `t=1492774577,v1=5257a8…,v0=6ffbb5…`.
    let tag = hex_hmac("whsec_test", &format!("{NOW}.{{}}"));
    let value = format!("t={NOW},v1={tag},v0={}", "6".repeat(64));
    check(&stripe(&["whsec_test"]), &Request::new(&[("stripe-signature", &value)], "{}"), "ok");
}

#[test]
fn standard_webhooks_may_have_fields_of_other_names() {
    let name = |name: &str| format!("Svix-{name}");
    let fields = StandardFields { signature: name("Signature"), id: name("Id"), timestamp: name("Timestamp") };
    let rule = BodySignature::standard_webhooks(&fields, &secrets(&[STANDARD_SECRET]), 300).unwrap();
    let headers = [("svix-id", STANDARD_ID), ("svix-timestamp", "1614265330"), ("svix-signature", STANDARD_SIGNATURE)];
    check(&rule, &Request::new(&headers, STANDARD_BODY).at(STANDARD_TIME), "ok");
    check(&rule, &Request::new(&headers, "{}").at(STANDARD_TIME), "signature_mismatch");
    check(&rule, &standard(STANDARD_SIGNATURE, STANDARD_BODY), "signature_missing");
    let fields = StandardFields { id: "svix id".to_owned(), ..fields };
    let wrong = BodySignature::standard_webhooks(&fields, &secrets(&[STANDARD_SECRET]), 300).unwrap_err();
    assert_eq!(wrong, SignatureRuleError::HeaderName { name: "svix id".to_owned() });
}

#[test]
fn a_refusal_has_the_status_that_the_sender_tries() {
    let request = |value: &str| Request::new(&[("x-hub-signature-256", value)], "{}");
    let wrong = format!("sha256={}", "0".repeat(64));
    for (value, reject) in [(wrong.as_str(), Reject::SignatureMismatch), ("sha256=0", Reject::SignatureMalformed)] {
        for (rule, status) in [(github(), 403), (github().refusing_as_unauthorized(), 401)] {
            let refusal = rule.check(&request(value).view(), &KeySets::default()).unwrap_err().refusal;
            assert_eq!((refusal.reject, refusal.status()), (reject, status));
        }
    }
    // The sender tries again after 503.
    let keys = SignatureKeys::of_source(KeySourceId(0), None);
    let rule = BodySignature::detached_jws("x-jws", keys).unwrap().refusing_as_unauthorized();
    let request = Request::new(&[("x-jws", "e30..AAAA")], "{}");
    let refusal = rule.check(&request.view(), &KeySets::default()).unwrap_err().refusal;
    assert_eq!((refusal.reject, refusal.status()), (Reject::SignatureMalformed, 401));
    let request = Request::new(&[("x-jws", "eyJhbGciOiJSUzI1NiJ9..AAAA")], "{}");
    let refusal = rule.check(&request.view(), &KeySets::default()).unwrap_err().refusal;
    assert_eq!((refusal.reject, refusal.status()), (Reject::KeysUnavailable, 503));
}

#[test]
fn verifies_the_vector_of_standard_webhooks() {
    let rule = standard_rule(&[STANDARD_SECRET]);
    check(&rule, &standard(STANDARD_SIGNATURE, STANDARD_BODY), "ok");
    let several = format!("v1,{} v2,anything v1a,AAAA {STANDARD_SIGNATURE}", BASE64.encode(&[7; 32]));
    check(&rule, &standard(&several, STANDARD_BODY), "ok");
    for (request, expected) in [
        (standard(STANDARD_SIGNATURE, r#"{"test":2432232314}"#), "signature_mismatch"),
        (standard_with("msg_other", "1614265330", STANDARD_SIGNATURE, STANDARD_BODY), "signature_mismatch"),
        (standard_with(STANDARD_ID, "1614265331", STANDARD_SIGNATURE, STANDARD_BODY), "signature_mismatch"),
        (standard_with(STANDARD_ID, "01614265330", STANDARD_SIGNATURE, STANDARD_BODY), "signature_mismatch"),
        (standard("v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", STANDARD_BODY), "signature_malformed"),
        (standard("v1,g0hM9SsE-OTPJTGt_tmIKtSyZlE3uFJELVlNIOLJ1OE=", STANDARD_BODY), "signature_malformed"),
        (standard("v1,g0hM", STANDARD_BODY), "signature_malformed"),
        (standard("v1,", STANDARD_BODY), "signature_malformed"),
        (standard("", STANDARD_BODY), "signature_malformed"),
    ] {
        check(&rule, &request, expected);
    }
}

#[test]
fn bytes_of_an_id_cannot_move_into_the_body() {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"1234567890123456");
    let rule = standard_rule(&["whsec_MTIzNDU2Nzg5MDEyMzQ1Ng=="]);
    let tag = hmac::sign(&key, b"a.1614265330.1614265330.{}");
    let signature = format!("v1,{}", BASE64.encode(tag.as_ref()));
    check(&rule, &standard_with("a", "1614265330", &signature, "1614265330.{}"), "ok");
    check(&rule, &standard_with("a.1614265330", "1614265330", &signature, "{}"), "signature_malformed");
}

#[test]
fn a_signed_id_is_not_empty() {
    let form = SignatureForm { id_header: Some("x-id".to_owned()), ..form("x-signature", "", "{id}:{body}") };
    let rule = BodySignature::hmac(&form, HmacHash::Sha256, &secrets(&["a"])).unwrap();
    for (id, expected) in [("", "signature_malformed"), ("1", "ok")] {
        let signature = hex_hmac("a", &format!("{id}:{{}}"));
        check(&rule, &Request::new(&[("x-id", id), ("x-signature", &signature)], "{}"), expected);
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
        let tag = BASE64.encode(hmac::sign(&key, format!("{id}.1614265330.{{}}").as_bytes()).as_ref());
        let request = standard_with(id, "1614265330", &format!("v1,{tag}"), "{}");
        check(&standard_rule(&[&format!("whsec_{}", BASE64.encode(b"secret"))]), &request, expected);
    }
}

#[test]
fn ed25519_verifies_beside_hmac() {
    let pair =
        Ed25519KeyPair::from_pkcs8(Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap().as_ref()).unwrap();
    let public = format!("whpk_{}", BASE64.encode(pair.public_key().as_ref()));
    let sign = |message: &str| format!("v1a,{}", BASE64.encode(pair.sign(message.as_bytes()).as_ref()));
    let message = format!("{STANDARD_ID}.{STANDARD_TIME}.{STANDARD_BODY}");
    let rule = standard_rule(&[&public]);
    check(&rule, &standard(&sign(&message), STANDARD_BODY), "ok");
    check(&rule, &standard(&format!("{STANDARD_SIGNATURE} {}", sign(&message)), STANDARD_BODY), "ok");
    check(&rule, &standard(&sign(&message), "{}"), "signature_mismatch");
    check(&rule, &standard(STANDARD_SIGNATURE, STANDARD_BODY), "signature_malformed");
    // A signature of one kind with the prefix of the other.
    check(&rule, &standard(&sign(&message).replace("v1a,", "v1,"), STANDARD_BODY), "signature_malformed");
    check(&rule, &standard(&STANDARD_SIGNATURE.replace("v1,", "v1a,"), STANDARD_BODY), "signature_malformed");
    let both = standard_rule(&[STANDARD_SECRET, &public]);
    check(&both, &standard(&sign(&message), STANDARD_BODY), "ok");
    check(&both, &standard(STANDARD_SIGNATURE, STANDARD_BODY), "ok");
}

#[test]
fn pagerduty_may_send_several_values() {
    let rule = BodySignature::pagerduty(&secrets(&["new", "old"])).unwrap();
    let body = r#"{"event":{"id":"5ac64822-4adc-4fda-ade0-410becf0de4f"}}"#;
    let (new, old, other) = (hex_hmac("new", body), hex_hmac("old", body), hex_hmac("other", body));
    for (value, expected) in [
        (format!("v1={new}"), "ok"),
        (format!("v1={old}"), "ok"),
        (format!("v1={other},v1={old}"), "ok"),
        (format!("v1={other}, v1={new}"), "ok"),
        (format!("v1={},v1={new}", &new[..10]), "ok"),
        (format!("v2={new},v1={old}"), "ok"),
        (format!("v1={other}"), "signature_mismatch"),
        (format!("v2={new}"), "signature_malformed"),
        (new.clone(), "signature_malformed"),
        (format!("V1={new}"), "signature_malformed"),
        (format!("v1={new}0"), "signature_malformed"),
        (format!("v1={}", &new[..62]), "signature_malformed"),
        (format!("v1={}g", &new[..63]), "signature_malformed"),
        (format!("{}v1={new}", "v0=0,".repeat(16)), "signature_malformed"),
        (format!("{}v1={new}", "v0=0,".repeat(15)), "ok"),
    ] {
        check(&rule, &Request::new(&[("x-pagerduty-signature", &value)], body), expected);
    }
}

#[test]
fn every_altered_byte_is_noticed() {
    let (signature, body) = GITHUB_EXAMPLE;
    for index in 0..body.len() {
        for bit in 0..8 {
            let mut altered = body.as_bytes().to_vec();
            altered[index] ^= 1 << bit;
            check(&github(), &Request::new(&[("x-hub-signature-256", signature)], altered), "signature_mismatch");
        }
        check(&github(), &Request::new(&[("x-hub-signature-256", signature)], &body[..index]), "signature_mismatch");
    }
    check(&github(), &Request::new(&[("x-hub-signature-256", signature)], format!("{body}\n")), "signature_mismatch");
    for index in 7..signature.len() {
        let mut altered = signature.as_bytes().to_vec();
        altered[index] = if altered[index] == b'0' { b'1' } else { b'0' };
        let altered = String::from_utf8(altered).unwrap();
        check(&github(), &Request::new(&[("x-hub-signature-256", &altered)], body), "signature_mismatch");
    }
}

#[test]
fn a_signature_covers_the_bytes_as_sent() {
    // Begins as gzip does, and is not UTF-8: a signature covers the bytes, not their meaning.
    let body = [0x1f, 0x8b, 0x08, 0x00, 0xff, 0x00, 0x0a];
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"It's a Secret to Everybody");
    let value = format!("sha256={}", HEXLOWER.encode(hmac::sign(&key, &body).as_ref()));
    let headers = [("x-hub-signature-256", &*value), ("content-encoding", "gzip")];
    check(&github(), &Request::new(&headers, body), "ok");
    check(&github(), &Request::new(&headers, &body[..6]), "signature_mismatch");
    let empty = format!("sha256={}", HEXLOWER.encode(hmac::sign(&key, b"").as_ref()));
    check(&github(), &Request::new(&[("x-hub-signature-256", &empty)], ""), "ok");
}

#[test]
fn signed_fields_must_be_unique() {
    let (signature, body) = GITHUB_EXAMPLE;
    let twice = [("x-hub-signature-256", signature), ("x-hub-signature-256", signature)];
    check(&github(), &Request::new(&twice, body), "signature_malformed");
    check(&github(), &Request::new(&[], body), "signature_missing");

    let valid = standard(STANDARD_SIGNATURE, STANDARD_BODY);
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        let mut request = standard(STANDARD_SIGNATURE, STANDARD_BODY);
        request.headers.append(name, valid.headers[name].clone());
        check(&standard_rule(&[STANDARD_SECRET]), &request, "signature_malformed");
        request.headers.remove(name);
        check(&standard_rule(&[STANDARD_SECRET]), &request, "signature_missing");
    }
    for (value, expected) in [("v1=00", "signature_missing"), ("t=1,t=2,v1=00", "signature_malformed")] {
        check(&stripe(&["a"]), &Request::new(&[("stripe-signature", value)], "{}"), expected);
    }
}

#[test]
fn a_timestamp_is_accepted_up_to_the_tolerance() {
    let judge = |timestamp: &str| {
        let tag = hex_hmac("a", &format!("{timestamp}.{{}}"));
        let value = format!("t={timestamp},v1={tag}");
        reason(stripe(&["a"]).check(&Request::new(&[("stripe-signature", &value)], "{}").view(), &KeySets::default()))
    };
    for (seconds, expected) in [
        (NOW - 301, "timestamp_outside_window"),
        (NOW - 300, "ok"),
        (NOW, "ok"),
        (NOW + 300, "ok"),
        (NOW + 301, "timestamp_outside_window"),
        (0, "timestamp_outside_window"),
        (999_999_999_999, "timestamp_outside_window"),
    ] {
        assert_eq!(judge(&seconds.to_string()), expected, "{seconds}");
    }
    for text in ["", "+1795000000", "-1", "1795000000.0", "0x1", "1795000000000000", "soon"] {
        assert_eq!(judge(text), "signature_malformed", "{text:?}");
    }
}

#[test]
fn a_timestamp_outside_the_window_is_told_with_its_distance() {
    for (seconds, words) in [(NOW - 301, "301 s in the past"), (NOW + 400, "400 s in the future")] {
        let value = format!("t={seconds},v1={}", hex_hmac("a", &format!("{seconds}.{{}}")));
        let request = Request::new(&[("stripe-signature", &value)], "{}");
        let refusal = stripe(&["a"]).check(&request.view(), &KeySets::default()).unwrap_err().refusal;
        assert!(refusal.detail().contains(words), "{words}: {}", refusal.detail());
    }
}

#[test]
fn encodings_and_hashes_are_as_configured() {
    let message = b"{}";
    for (encoding, hash) in [
        (Encoding::Hex, HmacHash::Sha256),
        (Encoding::Hex, HmacHash::Sha384),
        (Encoding::Hex, HmacHash::Sha512),
        (Encoding::Base64, HmacHash::Sha256),
        (Encoding::Base64, HmacHash::Sha512),
        (Encoding::Base64Url, HmacHash::Sha512),
    ] {
        let rule = SignatureForm { encoding, ..form("X-Signature", "", "{body}") };
        let rule = BodySignature::hmac(&rule, hash, &secrets(&["a"])).unwrap();
        let tag = hmac::sign(&hmac::Key::new(hash.algorithm(), b"a"), message);
        let value = match encoding {
            Encoding::Hex => HEXLOWER.encode(tag.as_ref()),
            Encoding::Base64 => BASE64.encode(tag.as_ref()),
            Encoding::Base64Url => data_encoding::BASE64URL_NOPAD.encode(tag.as_ref()),
        };
        check(&rule, &Request::new(&[("x-signature", &value)], &message[..]), "ok");
        check(&rule, &Request::new(&[("x-signature", &value)], "[]"), "signature_mismatch");
    }
}

#[test]
fn method_and_path_can_be_signed() {
    let rule =
        BodySignature::hmac(&form("X-Signature", "", "{method} {path}\n{body}"), HmacHash::Sha256, &secrets(&["a"]))
            .unwrap();
    let tag = hex_hmac("a", "POST /hook?x=1\n{}");
    check(&rule, &Request::new(&[("x-signature", &tag)], "{}"), "ok");
    let tag = hex_hmac("a", "POST /hook?x=2\n{}");
    check(&rule, &Request::new(&[("x-signature", &tag)], "{}"), "signature_mismatch");
}

#[test]
fn the_digest_covers_the_message_and_not_the_signature() {
    let rule = BodySignature::pagerduty(&secrets(&["new", "old"])).unwrap();
    let digest = |value: &str, body: &str| {
        rule.digest(&Request::new(&[("x-pagerduty-signature", value)], body).view()).unwrap().as_ref().to_vec()
    };
    let (new, old) = (hex_hmac("new", "{}"), hex_hmac("old", "{}"));
    let first = digest(&format!("v1={new},v1={old}"), "{}");
    assert_eq!(first, digest(&format!("v1={old}"), "{}"));
    assert_eq!(first, digest(&format!("v1={}", new.to_uppercase()), "{}"));
    assert_ne!(first, digest(&format!("v1={new}"), "{} "));
}

#[test]
fn refuses_rules_that_do_not_prove_the_body() {
    let error = |form: &SignatureForm, texts: &[&str]| {
        BodySignature::hmac(form, HmacHash::Sha256, &secrets(texts)).unwrap_err()
    };
    let plain = form("X-Signature", "", "{body}");
    assert_eq!(error(&plain, &[]), SignatureRuleError::Secrets { count: 0 });
    assert_eq!(error(&plain, &["a"; 9]), SignatureRuleError::Secrets { count: 9 });
    let unsigned = SignatureForm { timestamp: Some(TimestampPlace::Value("t=".to_owned())), ..plain.clone() };
    assert_eq!(error(&unsigned, &["a"]), SignatureRuleError::Unplaced { piece: "timestamp" });
    let unplaced = form("X-Signature", "", "{timestamp}.{body}");
    assert_eq!(error(&unplaced, &["a"]), SignatureRuleError::Unplaced { piece: "timestamp" });
    let unplaced = form("X-Signature", "", "{id}.{body}");
    assert_eq!(error(&unplaced, &["a"]), SignatureRuleError::Unplaced { piece: "id" });
    let name = form("X Signature", "", "{body}");
    assert_eq!(error(&name, &["a"]), SignatureRuleError::HeaderName { name: "X Signature".to_owned() });
    let separator = SignatureForm { separator: Some('·'), ..plain.clone() };
    assert_eq!(error(&separator, &["a"]), SignatureRuleError::Separator { separator: '·' });
    for seconds in [0, 86_401] {
        let timestamp = Some(TimestampPlace::Header("X-Time".to_owned()));
        let rule =
            SignatureForm { timestamp, tolerance_seconds: seconds, ..form("X-Signature", "", "{timestamp}.{body}") };
        assert_eq!(error(&rule, &["a"]), SignatureRuleError::Tolerance { seconds });
        let standard =
            BodySignature::standard_webhooks(&StandardFields::default(), &secrets(&[STANDARD_SECRET]), seconds);
        assert_eq!(standard.unwrap_err(), SignatureRuleError::Tolerance { seconds });
    }
    for wrong in ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_", "whsec_!", "whpk_AAAA", "whsk_AAAA"] {
        let error =
            BodySignature::standard_webhooks(&StandardFields::default(), &secrets(&[STANDARD_SECRET, wrong]), 300)
                .unwrap_err();
        assert!(
            matches!(error, SignatureRuleError::Secret { index: 1, error: SecretError::Encoding { .. } }),
            "{wrong}"
        );
        assert!(!error.to_string().contains("MfKQ9"), "{error}");
    }
}

#[test]
fn padding_is_optional_and_never_ambiguous() {
    let mut buffer = [0; 8];
    for (encoding, text, expected) in [
        (Encoding::Base64, "+/8=", Some(&[0xfb, 0xff][..])),
        (Encoding::Base64, "+/8", Some(&[0xfb, 0xff])),
        (Encoding::Base64Url, "-_8=", Some(&[0xfb, 0xff])),
        (Encoding::Base64Url, "-_8", Some(&[0xfb, 0xff])),
        (Encoding::Base64, "+w==", Some(&[0xfb])),
        (Encoding::Base64, "+w", Some(&[0xfb])),
        (Encoding::Base64, "+/v7", Some(&[0xfb, 0xfb, 0xfb])),
        // Wrong padding, another alphabet, bits that no encoder sets, and other text.
        (Encoding::Base64, "+w=", None),
        (Encoding::Base64, "+/8==", None),
        (Encoding::Base64, "+/v7====", None),
        (Encoding::Base64, "====", None),
        (Encoding::Base64, "+=8=", None),
        (Encoding::Base64, "-_8", None),
        (Encoding::Base64Url, "+/8", None),
        (Encoding::Base64, "+/9", None),
        (Encoding::Base64, " +/8", None),
        (Encoding::Base64, "+", None),
        (Encoding::Hex, "fb=", None),
    ] {
        assert_eq!(encoding.decode(text.as_bytes(), &mut buffer).map(<[u8]>::to_vec).as_deref(), expected, "{text}");
    }
}

#[test]
fn a_rule_has_one_to_eight_secrets_and_a_tolerance_up_to_a_day() {
    let general = |texts: &[&str]| {
        BodySignature::hmac(&form("x-signature", "", "{body}"), HmacHash::Sha256, &secrets(texts)).err()
    };
    let standard = |keys: &[&str], tolerance: u64| {
        BodySignature::standard_webhooks(&StandardFields::default(), &secrets(keys), tolerance).err()
    };
    for (count, is_accepted) in [(0, false), (1, true), (8, true), (9, false)] {
        let refusal = (!is_accepted).then_some(SignatureRuleError::Secrets { count });
        assert_eq!(general(&vec!["secret"; count]), refusal);
        assert_eq!(standard(&vec![STANDARD_SECRET; count], 300), refusal);
    }
    for (seconds, is_accepted) in [(0, false), (1, true), (86_400, true), (86_401, false)] {
        let refusal = (!is_accepted).then_some(SignatureRuleError::Tolerance { seconds });
        assert_eq!(standard(&[STANDARD_SECRET], seconds), refusal);
        let timestamp = Some(TimestampPlace::Header("x-time".to_owned()));
        let form = SignatureForm { timestamp, tolerance_seconds: seconds, ..form("x", "", "{timestamp}.{body}") };
        assert_eq!(BodySignature::hmac(&form, HmacHash::Sha256, &secrets(&["secret"])).err(), refusal);
    }
}
