//! Tests of tokens: published vectors, tampering, algorithms, claims, clocks and key sets.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use ring::hmac;
use serde_json::{Value, json};

use super::*;
use crate::auth::testing::{
    ISSUER, NOW, Request, SOURCE, at, dialogflow, dialogflow_claims, published, reason, token, token_of,
};
use crate::auth::token_keys::{KeySet, KeySetError};
use crate::auth::{PublishedKeys, SignatureAlgorithm};

/// RFC 7515, appendix A.2: key and token of RS256. The payload is that of RFC 7519, section 3.1.
const RFC_7515_RSA: &str = r#"{"kty":"RSA","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}"#;
const RFC_7515_RS256: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";

/// RFC 7515, appendix A.3: key and token of ES256.
const RFC_7515_EC: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
const RFC_7515_ES256: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";

/// RFC 7515, appendix A.1: a token of HS256. Appendix A.5 and RFC 7519, section 6.1: an unsecured one.
const RFC_7515_HS256: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const RFC_7515_NONE: &str = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.";
const RFC_7515_PAYLOAD: &[u8] = b"{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}";

fn set(key: &str) -> KeySet {
    KeySet::parse(format!("{{\"keys\":[{key}]}}").as_bytes()).unwrap()
}

fn verify(token: &str, set: &KeySet) -> Result<Vec<u8>, Refusal> {
    jws::verify(token.as_bytes(), set, &mut [0; MAX_PAYLOAD_BYTES]).map(<[u8]>::to_vec)
}

/// The outcome for a bearer token at `now`: a reason, or `ok`.
fn judge_at(token: &str, now: u64) -> &'static str {
    let request = Request::new(&[("authorization", &format!("Bearer {token}"))], "");
    reason(dialogflow().check_bearer(&request.headers, &ISSUER.sets(), at(now)))
}

#[track_caller]
fn check(token: &str, expected: &str) {
    assert_eq!(judge_at(token, NOW), expected, "{token}");
}

/// A token with the claims of Dialogflow, one of them replaced, or removed if `value` is `null`.
fn with(name: &str, value: Value) -> String {
    let mut claims = dialogflow_claims();
    if value.is_null() {
        claims.as_object_mut().unwrap().remove(name);
    } else {
        claims[name] = value;
    }
    ISSUER.token(&claims)
}

#[test]
fn verifies_the_vectors_of_rfc_7515() {
    for (token, key) in [(RFC_7515_RS256, RFC_7515_RSA), (RFC_7515_ES256, RFC_7515_EC)] {
        assert_eq!(verify(token, &set(key)).unwrap(), RFC_7515_PAYLOAD);
    }
    for (token, key) in [
        (RFC_7515_RS256, RFC_7515_EC),
        (RFC_7515_ES256, RFC_7515_RSA),
        (RFC_7515_HS256, RFC_7515_RSA),
        (RFC_7515_NONE, RFC_7515_RSA),
        (RFC_7515_NONE, RFC_7515_EC),
    ] {
        assert_eq!(reason(verify(token, &set(key))), "token_bad_signature", "{token}");
    }
}

#[test]
fn judges_the_claims_of_rfc_7519() {
    let expectations = TokenExpectations {
        issuers: vec!["joe".to_owned()],
        audiences: vec!["anyone".to_owned()],
        emails: Vec::new(),
        subjects: Vec::new(),
        unsafe_any_subject: true,
        leeway_seconds: 0,
    };
    let rule = TokenRule::new(SOURCE, &expectations).unwrap();
    let keys = published(&format!("{{\"keys\":[{RFC_7515_EC}]}}"), u64::MAX);
    // The example has no audience, so this is the reason of the refusal.
    let outcome = rule.check(RFC_7515_ES256.as_bytes(), &keys, at(1_300_819_379));
    assert_eq!(outcome.unwrap_err().refusal.reject, Reject::TokenWrongAudience);
}

#[test]
fn every_altered_character_is_noticed() {
    for (token, key) in [(RFC_7515_RS256, RFC_7515_RSA), (RFC_7515_ES256, RFC_7515_EC)] {
        let set = set(key);
        for index in 0..token.len() {
            let mut altered = token.as_bytes().to_vec();
            altered[index] = if altered[index] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).unwrap();
            assert!(verify(&altered, &set).is_err(), "character {index}");
            assert!(verify(&token[..index], &set).is_err(), "{index} characters");
        }
        assert!(verify(&format!("{token}A"), &set).is_err());
        assert!(verify(&format!("{token}="), &set).is_err());
        assert!(verify(&format!("{token}."), &set).is_err());
    }
}

#[test]
fn the_key_decides_the_algorithm() {
    let claims = dialogflow_claims();
    let header = |alg: &str, kid: &str| json!({ "alg": alg, "kid": kid });
    check(&token(&header("RS256", "rsa"), &claims, |signed| ISSUER.rs256(signed)), "ok");
    check(&token(&header("ES256", "ec"), &claims, |signed| ISSUER.es256(signed)), "ok");
    for (alg, kid) in [
        ("ES256", "rsa"),
        ("RS256", "ec"),
        ("RS512", "rsa"),
        ("PS256", "rsa"),
        ("none", "rsa"),
        ("rs256", "rsa"),
        ("", "ec"),
    ] {
        check(&token(&header(alg, kid), &claims, |signed| ISSUER.rs256(signed)), "token_bad_signature");
        check(&token(&header(alg, kid), &claims, |signed| ISSUER.es256(signed)), "token_bad_signature");
        check(&token(&header(alg, kid), &claims, |_| Vec::new()), "token_bad_signature");
    }
    check(&token(&header("ES256", "ec"), &claims, |_| vec![0; 64]), "token_bad_signature");
    check(&token(&header("RS256", "rsa"), &claims, |_| vec![0; 256]), "token_bad_signature");
}

#[test]
fn a_public_key_is_never_an_hmac_secret() {
    let modulus = ISSUER.rsa_jwk("rsa")["n"].as_str().unwrap().to_owned();
    let decoded = data_encoding::BASE64URL_NOPAD.decode(modulus.as_bytes()).unwrap();
    for secret in [modulus.as_bytes(), &decoded, ISSUER.jwks().as_bytes(), b""] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let forged = token(&json!({ "alg": "HS256", "kid": "rsa" }), &dialogflow_claims(), |signed| {
            hmac::sign(&key, signed).as_ref().to_vec()
        });
        check(&forged, "token_bad_signature");
    }
    let symmetric = r#"{"keys":[{"kty":"oct","kid":"rsa","alg":"HS256","k":"c2VjcmV0"}]}"#;
    assert!(matches!(KeySet::parse(symmetric.as_bytes()), Err(KeySetError::NoneUsable { count: 1, .. })));
}

#[test]
fn judges_each_claim() {
    let email = |project: u32| format!("service-{project}@gcp-sa-dialogflow.iam.gserviceaccount.com");
    for (name, value, expected) in [
        ("azp", json!("anything"), "ok"),
        ("iss", json!("https://accounts.google.com/"), "token_wrong_issuer"),
        ("iss", json!("https://evil.example"), "token_wrong_issuer"),
        ("iss", Value::Null, "token_wrong_issuer"),
        ("iss", json!(["https://accounts.google.com"]), "token_malformed"),
        ("aud", json!(["https://other.example", "https://hooks.example/dialogflow"]), "ok"),
        ("aud", json!("https://hooks.example/dialogflow/"), "token_wrong_audience"),
        ("aud", json!("https://HOOKS.example/dialogflow"), "token_wrong_audience"),
        ("aud", json!(["https://other.example"]), "token_wrong_audience"),
        ("aud", json!([]), "token_wrong_audience"),
        ("aud", Value::Null, "token_wrong_audience"),
        ("aud", json!({ "https://hooks.example/dialogflow": 1 }), "token_malformed"),
        ("email", json!(email(4712)), "token_wrong_email"),
        ("email", json!(format!("{}.evil.example", email(4711))), "token_wrong_email"),
        ("email", Value::Null, "token_wrong_email"),
        ("email_verified", json!(false), "token_wrong_email"),
        ("email_verified", Value::Null, "token_wrong_email"),
        ("email_verified", json!("true"), "token_malformed"),
        ("email_verified", json!(1), "token_malformed"),
        ("email", json!(["a@example.test"]), "token_malformed"),
        ("exp", Value::Null, "token_malformed"),
        ("exp", json!("1795003590"), "token_malformed"),
        ("exp", json!(-1), "token_malformed"),
        ("exp", json!(1e300), "token_malformed"),
        ("exp", json!(NOW as f64 + 10.5), "ok"),
        ("sub", Value::Null, "ok"),
        ("sub", json!(7), "ok"),
        ("sub", json!({ "id": [7] }), "ok"),
        ("iat", Value::Null, "ok"),
        ("iat", json!("yesterday"), "ok"),
        ("nbf", json!(false), "token_malformed"),
        ("aud", json!(["https://hooks.example/dialogflow", 7]), "token_malformed"),
        ("nbf", json!("soon"), "token_malformed"),
    ] {
        check(&with(name, value), expected);
    }
}

#[test]
fn a_wrong_type_is_named() {
    let refusal = |name: &str, value: Value| {
        let token = with(name, value);
        let request = Request::new(&[("authorization", &format!("Bearer {token}"))], "");
        let unproven = dialogflow().check_bearer(&request.headers, &ISSUER.sets(), at(NOW)).unwrap_err();
        unproven.refusal.detail().to_string()
    };
    for (name, value, expected) in [
        ("iss", json!(7), "its claim \"iss\" is a number, not a string."),
        (
            "aud",
            json!([7]),
            "its claim \"aud\" is a list of other values than strings, not a string or a list of strings.",
        ),
        ("exp", json!("1795003590"), "its claim \"exp\" is a string, not a number of seconds since 1970."),
        ("exp", json!(-1), "its \"exp\" is -1e0, not a number of seconds since 1970."),
        ("nbf", json!([]), "its claim \"nbf\" is a list of strings, not a number of seconds since 1970."),
        ("email_verified", json!("true"), "its claim \"email_verified\" is a string, not a Boolean."),
        ("email", json!({}), "its claim \"email\" is an object, not a string."),
    ] {
        assert_eq!(refusal(name, value), format!("The token cannot be read: {expected}"));
    }
}

#[test]
fn a_claim_that_is_not_accepted_is_named_with_its_value() {
    for (name, value, words) in [
        (
            "iss",
            json!("https://evil.example"),
            "\"iss\" is \"https://evil.example\", which this webhook does not accept",
        ),
        ("aud", json!("other"), "\"aud\" is \"other\", which this webhook does not accept"),
        ("aud", json!(["other"]), "\"aud\" is \"other\", which this webhook does not accept"),
        ("aud", json!(["one", "two"]), "None of the 2 audiences in the token's \"aud\" is one of this webhook"),
        ("aud", json!([]), "None of the 0 audiences"),
        ("aud", Value::Null, "The token has no \"aud\" claim, and this webhook requires one"),
        ("email", json!("other"), "\"email\" is \"other\", which this webhook does not accept"),
        ("exp", json!(NOW - 100), "The token expired 100 s ago"),
        ("nbf", json!(NOW + 100), "The token becomes valid in 100 s (\"nbf\""),
        ("iat", json!(NOW + 100), "The token becomes valid in 100 s (\"iat\""),
    ] {
        let request = Request::new(&[("authorization", &format!("Bearer {}", with(name, value)))], "");
        let unproven = dialogflow().check_bearer(&request.headers, &ISSUER.sets(), at(NOW)).unwrap_err();
        let detail = unproven.refusal.detail();
        assert!(detail.contains(words), "{words}: {detail}");
    }
}

#[test]
fn only_what_a_rule_asks_for_is_judged() {
    let expectations = TokenExpectations {
        issuers: vec!["i".to_owned()],
        audiences: vec!["a".to_owned()],
        emails: Vec::new(),
        subjects: vec!["u1".to_owned()],
        unsafe_any_subject: false,
        leeway_seconds: 0,
    };
    let rule = TokenRule::new(SOURCE, &expectations).unwrap();
    let claims = |name: &str, value: Value| {
        let mut claims = json!({ "iss": "i", "aud": "a", "sub": "u1", "exp": NOW + 60 });
        claims[name] = value;
        rule.check(ISSUER.token(&claims).as_bytes(), &ISSUER.sets(), at(NOW))
    };
    let email = |email: &str, verified: Value| {
        let claims = json!({
            "iss": "i", "aud": "a", "sub": "u1", "exp": NOW + 60, "email": email, "email_verified": verified,
        });
        rule.check(ISSUER.token(&claims).as_bytes(), &ISSUER.sets(), at(NOW)).unwrap().email
    };
    assert_eq!(email("a@example.test", json!(true)).unwrap(), "a@example.test");
    for verified in [json!("true"), json!(false), json!(1), Value::Null] {
        assert_eq!(email("a@example.test", verified), None);
    }
    for odd in [json!(7), json!([]), json!({}), json!([7]), Value::Null] {
        assert_eq!(claims("email", odd.clone()).unwrap().email, None);
        assert_eq!(claims("email_verified", odd.clone()).unwrap().email, None);
        let subject = reason(claims("sub", odd.clone()));
        assert_eq!(subject, if odd.is_null() { "token_wrong_subject" } else { "token_malformed" });
    }
}

#[test]
fn clocks_may_differ_up_to_the_leeway() {
    let valid = with("nbf", json!(NOW));
    let (issued, begins, expires, leeway) = (NOW - 10, NOW, NOW + 3590, 60);
    assert!(issued < begins);
    for (now, expected) in [
        (begins - leeway - 1, "token_not_yet_valid"),
        (begins - leeway, "ok"),
        (expires, "ok"),
        (expires + leeway - 1, "ok"),
        (expires + leeway, "token_expired"),
        (0, "token_not_yet_valid"),
        (u64::MAX, "keys_unavailable"),
    ] {
        assert_eq!(judge_at(&valid, now), expected, "at {now}");
    }
    let unbounded = with("exp", json!(9_007_199_254_740_991_u64));
    check(&unbounded, "ok");
    assert_eq!(judge_at(&with("iat", json!(NOW + 61)), NOW), "token_not_yet_valid");
}

#[test]
fn tells_the_kinds_of_wrong_tokens_apart() {
    let claims = dialogflow_claims();
    let header = |header: Value| token(&header, &claims, |signed| ISSUER.rs256(signed));
    for (token, expected) in [
        ("ya29.a0AfB_byC-secret-looking".to_owned(), "token_is_access_token"),
        (header(json!({ "alg": "RS256", "kid": "rsa", "typ": "at+jwt" })), "token_is_access_token"),
        (header(json!({ "alg": "RS256", "kid": "rsa", "typ": "application/at+JWT" })), "token_is_access_token"),
        (header(json!({ "alg": "RS256", "kid": "rsa", "typ": "jwt" })), "ok"),
        (header(json!({ "alg": "RS256", "kid": "rsa", "typ": "application/JWT" })), "ok"),
        (header(json!({ "alg": "RS256", "kid": "rsa", "typ": "application.JWT" })), "token_malformed"),
        (header(json!({ "alg": "RS256", "kid": "rsa", "typ": null })), "ok"),
        (header(json!({ "alg": "RS256", "kid": "rsa", "typ": 7 })), "token_malformed"),
        (header(json!({ "alg": ["RS256"], "kid": "rsa" })), "token_malformed"),
        (header(json!({ "alg": "RS256", "kid": "rsa", "typ": "secevent+jwt" })), "token_malformed"),
        (header(json!({ "alg": "RS256", "kid": "rsa", "crit": ["exp"] })), "token_malformed"),
        (header(json!({ "alg": "RS256", "kid": "rsa", "crit": null })), "token_malformed"),
        (header(json!({ "alg": "RS256", "kid": "rsa", "b64": false })), "ok"),
        (
            header(
                json!({ "alg": "RS256", "kid": "rsa", "jwk": ISSUER.rsa_jwk("rsa"), "jku": "https://evil.example" }),
            ),
            "ok",
        ),
        (header(json!({ "kid": "rsa" })), "token_malformed"),
        (header(json!({ "alg": "RS256", "kid": 1 })), "token_malformed"),
        (header(json!({ "alg": "RS256", "kid": "rsa", "x": "y".repeat(1024) })), "token_malformed"),
        (header(json!({ "alg": "RS256", "kid": "RSA" })), "token_unknown_key"),
        (header(json!({ "alg": "RS256" })), "token_unknown_key"),
        ("a.b".to_owned(), "token_malformed"),
        ("a.b.c.d.e".to_owned(), "token_malformed"),
        ("..".to_owned(), "token_malformed"),
        ("opaque".to_owned(), "token_malformed"),
        ("a".repeat(jws::MAX_TOKEN_BYTES + 1), "token_malformed"),
    ] {
        check(&token, expected);
    }
}

#[test]
fn a_repeated_member_is_refused() {
    let header = r#"{"alg":"RS256","kid":"rsa"}"#;
    let claims = dialogflow_claims().to_string();
    check(&token_of(header, &claims, |signed| ISSUER.rs256(signed)), "ok");
    let twice = claims.replacen('{', r#"{"aud":"https://other.example","#, 1);
    check(&token_of(header, &twice, |signed| ISSUER.rs256(signed)), "token_malformed");
    let twice = r#"{"alg":"none","kid":"rsa","alg":"RS256"}"#;
    check(&token_of(twice, &claims, |signed| ISSUER.rs256(signed)), "token_malformed");
}

#[test]
fn an_array_is_no_object_whatever_its_elements_are() {
    let (header, claims) = (r#"{"alg":"RS256","kid":"rsa"}"#, dialogflow_claims());
    check(&token_of(header, &claims.to_string(), |signed| ISSUER.rs256(signed)), "ok");
    check(&token_of(r#"["RS256","rsa"]"#, &claims.to_string(), |signed| ISSUER.rs256(signed)), "token_malformed");
    let elements = ["iss", "sub", "aud", "exp", "nbf", "iat", "email", "email_verified"].map(|name| &claims[name]);
    check(&token_of(header, &json!(elements).to_string(), |signed| ISSUER.rs256(signed)), "token_malformed");

    let rsa = ISSUER.rsa_jwk("rsa");
    for (document, words) in [
        (json!([[rsa]]).to_string(), "not a JSON object with the member keys"),
        (
            json!({ "keys": [["RSA", "rsa", null, null, null, null, rsa["n"], rsa["e"], null, null, null]] })
                .to_string(),
            "key 0: it is not a JSON object",
        ),
    ] {
        let error = KeySet::parse(document.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn finds_the_bearer_token_or_refuses() {
    let valid = ISSUER.token(&dialogflow_claims());
    let judge = |headers: &[(&str, &str)]| {
        let request = Request::new(headers, "");
        reason(dialogflow().check_bearer(&request.headers, &ISSUER.sets(), at(NOW)))
    };
    let value = |scheme: &str| format!("{scheme}{valid}");
    for (headers, expected) in [
        (&[("authorization", &*value("Bearer "))][..], "ok"),
        (&[("authorization", &value("bearer  "))], "ok"),
        (&[("authorization", &value("Bearer"))], "token_missing"),
        (&[("authorization", &value("Basic "))], "token_missing"),
        (&[("authorization", &value(""))], "token_missing"),
        (&[("authorization", "Bearer")], "token_missing"),
        (&[("authorization", "Bearer ")], "token_missing"),
        (&[("authorization", "")], "token_missing"),
        (&[], "token_missing"),
        (&[("authorization", &value("Bearer ")), ("authorization", &value("Bearer "))], "token_malformed"),
        (&[("authorization", &format!("{} x", value("Bearer ")))], "token_malformed"),
    ] {
        assert_eq!(judge(headers), expected, "{headers:?}");
    }
}

#[test]
fn keys_are_usable_until_their_bound() {
    let token = ISSUER.token(&dialogflow_claims());
    let judge = |keys: &KeySets| reason(dialogflow().check(token.as_bytes(), keys, at(NOW)));
    assert_eq!(judge(&published(&ISSUER.jwks(), NOW + 1)), "ok");
    assert_eq!(judge(&published(&ISSUER.jwks(), NOW)), "keys_unavailable");
    assert_eq!(judge(&KeySets::empty(1)), "keys_unavailable");
    assert_eq!(judge(&KeySets::default()), "keys_unavailable");
}

#[test]
fn only_an_unknown_key_asks_for_keys() {
    let ask = |token: &str| dialogflow().check(token.as_bytes(), &ISSUER.sets(), at(NOW)).unwrap_err().wants_keys;
    let unknown = token(&json!({ "alg": "RS256", "kid": "new" }), &dialogflow_claims(), |signed| ISSUER.rs256(signed));
    assert_eq!(ask(&unknown), Some(SOURCE));
    assert_eq!(ask(&with("iss", json!("joe"))), None);
    assert_eq!(ask("a.b.c"), None);
}

#[test]
fn returns_the_proven_claims() {
    let claims = dialogflow().check(ISSUER.token(&dialogflow_claims()).as_bytes(), &ISSUER.sets(), at(NOW)).unwrap();
    assert_eq!(claims.issuer, "https://accounts.google.com");
    assert_eq!(claims.audience, "https://hooks.example/dialogflow");
    assert_eq!(claims.subject.unwrap(), "103647213467");
    assert_eq!(claims.email.unwrap(), "service-4711@gcp-sa-dialogflow.iam.gserviceaccount.com");
    // A subject that a header field cannot carry is not forwarded, and is not an error.
    let claims = dialogflow().check(with("sub", json!("a\r\nX-Evil: 1")).as_bytes(), &ISSUER.sets(), at(NOW)).unwrap();
    assert_eq!(claims.subject, None);
}

#[test]
fn a_configured_subject_is_mandatory() {
    let expectations = TokenExpectations {
        emails: Vec::new(),
        subjects: vec!["103647213467".to_owned()],
        ..TokenExpectations::dialogflow("1", vec!["https://hooks.example/dialogflow".to_owned()]).unwrap()
    };
    let rule = TokenRule::new(SOURCE, &expectations).unwrap();
    let judge = |token: String| rule.check(token.as_bytes(), &ISSUER.sets(), at(NOW));
    assert_eq!(reason(judge(ISSUER.token(&dialogflow_claims()))), "ok");
    assert_eq!(reason(judge(with("sub", json!("103647213468")))), "token_wrong_subject");
    assert_eq!(reason(judge(with("sub", Value::Null))), "token_wrong_subject");
    // An email that the issuer did not verify is not forwarded.
    assert_eq!(judge(with("email_verified", json!(false))).unwrap().email, None);
}

#[test]
fn refuses_rules_that_admit_every_token_or_none() {
    let audience = || vec!["https://hooks.example/".to_owned()];
    let dialogflow = TokenExpectations::dialogflow("4711", audience()).unwrap();
    let error = |change: &dyn Fn(&mut TokenExpectations)| {
        let mut expectations = dialogflow.clone();
        change(&mut expectations);
        TokenRule::new(SOURCE, &expectations).unwrap_err()
    };
    assert!(matches!(error(&|rule| rule.issuers.clear()), TokenRuleError::Empty { key: "issuers", .. }));
    assert!(matches!(error(&|rule| rule.audiences.clear()), TokenRuleError::Empty { key: "audiences", .. }));
    assert_eq!(error(&|rule| rule.emails.clear()), TokenRuleError::AnySubject);
    assert_eq!(error(&|rule| rule.leeway_seconds = 301), TokenRuleError::Leeway { leeway: 301 });
    assert!(matches!(error(&|rule| rule.emails = vec![String::new()]), TokenRuleError::NotAscii { key: "emails", .. }));
    assert!(matches!(error(&|rule| rule.audiences = vec!["é".to_owned()]), TokenRuleError::NotAscii { .. }));
    for wrong in ["", "my-project", "4711 ", "-1"] {
        assert!(TokenExpectations::dialogflow(wrong, audience()).is_err(), "{wrong:?}");
    }
}

#[test]
fn skips_keys_that_cannot_verify_with_a_reason() {
    let change = |name: &str, value: Value| {
        let mut key = ISSUER.rsa_jwk("changed");
        key[name] = value;
        key
    };
    let cases = [
        (change("use", json!("enc")), "\"use\""),
        (change("alg", json!("ES256")), "\"ES256\""),
        (change("alg", json!("EdDSA")), "\"EdDSA\""),
        (change("alg", json!("HS256")), "\"HS256\""),
        (change("key_ops", json!(["sign"])), "\"key_ops\""),
        (change("d", json!("AQAB")), "private key"),
        (change("kty", json!("OKP")), "Ed25519"),
        (change("kty", json!("oct")), "\"oct\""),
        (json!({ "kty": "OKP", "crv": "Ed448", "x": "" }), "Ed25519"),
        (json!({ "kty": "OKP", "crv": "Ed25519", "x": "AQAB" }), "3 bytes"),
        (change("kty", json!(1)), "invalid type"),
        (change("n", json!("AQAB")), "of 24 bits"),
        (change("n", json!("A===")), "not base64url"),
        (change("e", Value::Null), "\"e\" is missing"),
        (json!({ "kty": "EC", "crv": "P-384", "x": "", "y": "" }), "P-256"),
        (json!({ "kty": "EC", "crv": "P-256", "x": "AQAB", "y": "AQAB" }), "3 bytes"),
        (json!("text"), "not a JSON object"),
    ];
    for (key, why) in cases {
        let document = json!({ "keys": [key, ISSUER.ec_jwk("ec")] }).to_string();
        let set = KeySet::parse(document.as_bytes()).unwrap();
        assert_eq!((set.usable_keys(), set.skipped().len()), (1, 1), "{document}");
        assert!(set.skipped()[0].contains(why), "{}", set.skipped()[0]);
    }
    assert_eq!(set(&change("key_ops", json!(["verify"])).to_string()).usable_keys(), 1);
    // Some issuers write the modulus with a leading zero byte.
    let decoded = data_encoding::BASE64URL_NOPAD.decode(ISSUER.rsa_jwk("")["n"].as_str().unwrap().as_bytes()).unwrap();
    let padded = data_encoding::BASE64URL_NOPAD.encode(&[&[0][..], &decoded].concat());
    let keys = published(&json!({ "keys": [change("n", json!(padded))] }).to_string(), u64::MAX);
    let header = json!({ "alg": "RS256" });
    let token = token(&header, &dialogflow_claims(), |signed| ISSUER.rs256(signed));
    assert_eq!(reason(dialogflow().check(token.as_bytes(), &keys, at(NOW))), "ok");
}

#[test]
fn refuses_documents_that_are_not_a_key_set() {
    for document in ["", "{}", "[]", "{\"keys\":{}}", "{\"keys\":[", "<html>", "null"] {
        assert!(matches!(KeySet::parse(document.as_bytes()), Err(KeySetError::Malformed(_))), "{document}");
    }
    // In the words of JSON, not of Rust.
    for (document, words) in
        [("3", "expected a JSON object with the member keys"), ("{\"keys\":[3]}", "it is not a JSON object")]
    {
        let error = KeySet::parse(document.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(words) && !error.contains("struct"), "{error}");
    }
    assert!(matches!(KeySet::parse(b"{\"keys\":[]}"), Err(KeySetError::NoneUsable { count: 0, .. })));
    let keys = |count: usize| json!({ "keys": vec![ISSUER.ec_jwk("ec"); count] }).to_string();
    assert_eq!(KeySet::parse(keys(64).as_bytes()).unwrap().usable_keys(), 64);
    let many = keys(65);
    assert!(matches!(KeySet::parse(many.as_bytes()), Err(KeySetError::TooMany { count: 65 })));
}

#[test]
fn the_keys_of_a_source_replace_its_former_ones_alone() {
    let keys = |count: usize| {
        let keys: Vec<Value> = (0..count).map(|index| ISSUER.ec_jwk(&index.to_string())).collect();
        let set = Arc::new(KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap());
        PublishedKeys { set, usable_until: at(u64::MAX) }
    };
    let counts = |sets: &KeySets| {
        [0, 1, 2, 3].map(|source| sets.published(KeySourceId(source)).map(|found| found.set.usable_keys()))
    };
    // Of a source beyond the known ones, and of one among them.
    let sets = KeySets::empty(1).with(KeySourceId(2), keys(2)).with(KeySourceId(0), keys(1));
    assert_eq!(counts(&sets), [Some(1), None, Some(2), None]);
    assert_eq!(counts(&sets.with(KeySourceId(2), keys(3))), [Some(1), None, Some(3), None]);
    assert_eq!(counts(&sets), [Some(1), None, Some(2), None]);
}

#[test]
fn a_set_of_the_key_of_a_certificate_verifies_as_that_of_the_key() {
    let pair = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&pair).unwrap();
    let set = KeySet::of_certificate(certificate.der()).unwrap();
    assert_eq!(set.usable_keys(), 1);
    assert!(set.has_key_for(SignatureAlgorithm::EcdsaP256Sha256));
    assert!(!set.has_key_for(SignatureAlgorithm::Ed25519));
    assert!(KeySet::of_certificate(b"junk").is_err());
}

#[test]
fn a_token_with_a_critical_header_is_refused_for_it() {
    for critical in [json!(["exp"]), json!([]), json!(null), json!("b64")] {
        let header = json!({ "alg": "RS256", "kid": "rsa", "crit": critical, "exp": 1 });
        let token = token(&header, &dialogflow_claims(), |signed| ISSUER.rs256(signed));
        let refusal = verify(&token, &KeySet::parse(ISSUER.jwks().as_bytes()).unwrap()).unwrap_err();
        assert_eq!(refusal.reject, Reject::TokenMalformed);
        assert!(refusal.detail().contains("\"crit\", and no extension is supported"), "{}", refusal.detail());
    }
}

#[test]
fn a_token_has_up_to_8192_bytes() {
    let refusal = |bytes: usize| verify(&"a".repeat(bytes), &set(RFC_7515_EC)).unwrap_err();
    for (bytes, words) in [(8192, "fewer than the three parts"), (8193, "it has 8193 bytes, and the limit is 8192")] {
        assert_eq!(refusal(bytes).reject, Reject::TokenMalformed);
        assert!(refusal(bytes).detail().contains(words), "{}", refusal(bytes).detail());
    }
    for (token, words) in [("a.b", "fewer than the three parts"), ("a.b.c.d", "it has more than three parts")] {
        let refusal = verify(token, &set(RFC_7515_EC)).unwrap_err();
        assert!(refusal.detail().contains(words), "{}", refusal.detail());
    }
}
