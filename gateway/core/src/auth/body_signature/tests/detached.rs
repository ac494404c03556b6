//! Tests of detached JSON Web Signatures: published vectors, unencoded payloads, headers that are not understood, and keys.

use data_encoding::BASE64URL_NOPAD;
use ring::signature::RSA_PKCS1_SHA512;
use serde_json::{Value, json};

use super::*;
use crate::auth::testing::{ISSUER, SOURCE, published};
use crate::auth::token_keys::KeySet;

fn of_set(jwk: &str) -> BodySignature {
    let set = KeySet::parse(format!("{{\"keys\":[{jwk}]}}").as_bytes()).unwrap();
    BodySignature::detached_jws("X-JWS-Signature", SignatureKeys::of_files(set, None)).unwrap()
}

fn ours() -> BodySignature {
    BodySignature::detached_jws("x-jws-signature", SignatureKeys::of_source(SOURCE, None)).unwrap()
}

fn judge(rule: &BodySignature, value: &str, body: &str) -> &'static str {
    let request = Request::new(&[("x-jws-signature", value)], body);
    reason(rule.check(&request.view(), &ISSUER.sets()))
}

/// A signature by a key of the issuer, over the body in base64url or as it is.
fn sign(header: &str, encoded: bool, body: &str, by: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let header = BASE64URL_NOPAD.encode(header.as_bytes());
    let payload = if encoded { BASE64URL_NOPAD.encode(body.as_bytes()) } else { body.to_owned() };
    format!("{header}..{}", BASE64URL_NOPAD.encode(&by(format!("{header}.{payload}").as_bytes())))
}

fn es256(header: &Value, encoded: bool) -> String {
    sign(&header.to_string(), encoded, "{}", |signed| ISSUER.es256(signed))
}

/// RFC 7515, appendix A.3, detached as appendix F says, and RFC 8037, appendix A.4.
#[test]
fn verifies_the_vectors_of_rfc_7515_and_8037() {
    for (jwk, value, body) in [
        (
            r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#,
            "eyJhbGciOiJFUzI1NiJ9..DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
            "{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}",
        ),
        (
            r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
            "eyJhbGciOiJFZERTQSJ9..hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
            "Example of Ed25519 signing",
        ),
    ] {
        let rule = of_set(jwk);
        assert_eq!(judge(&rule, value, body), "ok");
        assert_eq!(judge(&rule, value, &format!("{body} ")), "signature_mismatch");
        for index in (0..value.len()).filter(|index| value.as_bytes()[*index] != b'.') {
            let mut altered = value.as_bytes().to_vec();
            altered[index] = if altered[index] == b'A' { b'B' } else { b'A' };
            assert_ne!(judge(&rule, &String::from_utf8(altered).unwrap(), body), "ok", "character {index}");
        }
    }
}

#[test]
fn an_unencoded_payload_needs_its_critical_header() {
    let unencoded = json!({ "alg": "ES256", "kid": "ec", "b64": false, "crit": ["b64"] });
    for (header, encoded, expected) in [
        (json!({ "alg": "ES256", "kid": "ec" }), true, "ok"),
        (unencoded.clone(), false, "ok"),
        (json!({ "alg": "ES256", "kid": "ec", "b64": true, "crit": ["b64"] }), true, "ok"),
        (json!({ "alg": "ES256", "kid": "ec", "b64": true }), true, "ok"),
        (json!({ "alg": "ES256", "kid": "ec", "typ": "anything", "iat": 1 }), true, "ok"),
        // The header says one thing, and the other is signed.
        (unencoded, true, "signature_mismatch"),
        (json!({ "alg": "ES256", "kid": "ec" }), false, "signature_mismatch"),
        (json!({ "alg": "ES256", "kid": "ec", "b64": false }), false, "signature_malformed"),
        (json!({ "alg": "ES256", "kid": "ec", "crit": ["b64"] }), true, "signature_malformed"),
        (json!({ "alg": "ES256", "kid": "ec", "b64": true, "crit": [] }), true, "signature_malformed"),
        (json!({ "alg": "ES256", "kid": "ec", "b64": true, "crit": null }), true, "signature_malformed"),
        (json!({ "alg": "ES256", "kid": "ec", "b64": true, "crit": "b64" }), true, "signature_malformed"),
        (json!({ "alg": "ES256", "kid": "ec", "b64": false, "crit": ["b64", "exp"] }), false, "signature_malformed"),
        (json!({ "alg": "ES256", "kid": "ec", "b64": false, "crit": ["b64", "b64"] }), false, "signature_malformed"),
        (json!({ "alg": "ES256", "kid": "ec", "exp": 1, "crit": ["exp"] }), true, "signature_malformed"),
        (json!({ "alg": "ES256", "kid": "ec", "b64": true, "exp": 1, "crit": ["exp"] }), true, "signature_malformed"),
        (json!({ "alg": "ES256", "kid": "ec", "b64": false, "exp": 1, "crit": ["exp"] }), false, "signature_malformed"),
        (json!({ "alg": "ES256", "kid": "ec", "b64": "false", "crit": ["b64"] }), false, "signature_malformed"),
    ] {
        assert_eq!(judge(&ours(), &es256(&header, encoded), "{}"), expected, "{header}");
    }
}

#[test]
fn the_key_decides_the_algorithm() {
    for (header, expected) in [
        (json!({ "alg": "none", "kid": "ec" }), "signature_mismatch"),
        (json!({ "alg": "HS256", "kid": "ec" }), "signature_mismatch"),
        (json!({ "alg": "RS256", "kid": "ec" }), "signature_mismatch"),
        (json!({ "alg": "ES256", "kid": "rsa" }), "signature_mismatch"),
        (json!({ "alg": "ES256", "kid": "other" }), "signature_unknown_key"),
        (json!({ "alg": "ES256" }), "ok"),
        (json!({ "kid": "ec" }), "signature_malformed"),
        (json!({ "alg": ["ES256"], "kid": "ec" }), "signature_malformed"),
        (json!({ "alg": "ES256", "kid": 1 }), "signature_malformed"),
    ] {
        assert_eq!(judge(&ours(), &es256(&header, true), "{}"), expected, "{header}");
    }
    let header = r#"{"alg":"none","kid":"ec","alg":"ES256"}"#;
    let twice = sign(header, true, "{}", |signed| ISSUER.es256(signed));
    assert_eq!(judge(&ours(), &twice, "{}"), "signature_malformed");
    // Fireblocks: RS512. A key of a PEM file gets its algorithm from the configuration.
    let rs512 = |signed: &[u8]| ISSUER.rsa(&RSA_PKCS1_SHA512, signed);
    let value = sign(r#"{"alg":"RS512","kid":"any"}"#, true, "{}", rs512);
    let set = || KeySet::of_public_key(&ISSUER.rsa_spki()).unwrap();
    let rule = |algorithm| BodySignature::detached_jws("x-jws-signature", SignatureKeys::of_files(set(), algorithm));
    assert_eq!(judge(&rule(Some(SignatureAlgorithm::RsaPkcs1Sha512)).unwrap(), &value, "{}"), "ok");
    assert_eq!(judge(&rule(None).unwrap(), &value, "{}"), "signature_mismatch");
}

#[test]
fn other_forms_are_refused() {
    let good = es256(&json!({ "alg": "ES256", "kid": "ec" }), true);
    let (header, signature) = good.split_once("..").unwrap();
    for value in [
        "",
        ".",
        "..",
        &good.replace("..", "."),
        &good.replace("..", "..."),
        &good.replace("..", ".e30."),
        &format!("{good}."),
        &format!("{header}=..{signature}"),
        &format!("{header}..{signature}="),
        &format!("{header}..{}", "A".repeat(1400)),
        &format!("{}..{signature}", "A".repeat(1400)),
        &format!("W10..{signature}"),
        &format!("e30..{signature}"),
    ] {
        assert_eq!(judge(&ours(), value, "{}"), "signature_malformed", "{value}");
    }
    assert_eq!(judge(&ours(), &format!("{header}.."), "{}"), "signature_mismatch");
    let request = Request::new(&[], "{}");
    assert_eq!(reason(ours().check(&request.view(), &ISSUER.sets())), "signature_missing");
    assert_eq!(
        reason(ours().check(&Request::new(&[("x-jws-signature", &good)], "{}").view(), &KeySets::empty(1))),
        "keys_unavailable"
    );
    let unknown = published(&ISSUER.jwks().replace("\"ec\"", "\"old\""), u64::MAX);
    let unproven = ours().check(&Request::new(&[("x-jws-signature", &good)], "{}").view(), &unknown).unwrap_err();
    assert_eq!(unproven.wants_keys, Some(SOURCE));
}

#[test]
fn the_digest_is_that_of_the_signed_bytes() {
    let value = es256(&json!({ "alg": "ES256", "kid": "ec" }), true);
    let again = es256(&json!({ "alg": "ES256", "kid": "ec" }), true);
    assert_ne!(value, again, "an ECDSA signature is random");
    let digest = |value: &str, body: &str| {
        let request = Request::new(&[("x-jws-signature", value)], body);
        ours().digest(&request.view()).unwrap().as_ref().to_vec()
    };
    assert_eq!(digest(&value, "{}"), digest(&again, "{}"));
    assert_ne!(digest(&value, "{}"), digest(&value, "{ }"));
}

#[test]
fn up_to_32_keys_are_tried_if_none_is_named() {
    let value = es256(&json!({ "alg": "ES256" }), true);
    for (count, expected) in [(32, "ok"), (33, "signature_malformed")] {
        let keys: Vec<Value> = (0..count).map(|number| ISSUER.ec_jwk(&number.to_string())).collect();
        let sets = published(&json!({ "keys": keys }).to_string(), u64::MAX);
        let request = Request::new(&[("x-jws-signature", &value)], "{}");
        assert_eq!(reason(ours().check(&request.view(), &sets)), expected, "{count} keys");
    }
}
