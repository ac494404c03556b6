//! Target `fields`: proofs in one header field: a detached JSON Web Signature, a secret, and basic authentication.
//!
//! Input: a field value, the protected header of a signature, and a body, separated by 0x1e.

use std::sync::{Arc, LazyLock};

use data_encoding::{BASE64, BASE64URL_NOPAD};
use hookgate_core::auth::{
    BasicCredentials, BodySignature, Clause, FieldSecret, KeySet, KeySets, Proof, ProofPolicy, ReplayGuard,
    RequestView, Secret, SignatureKeys,
};
use http::Method;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use crate::policy::NOW;

const JWS: HeaderName = HeaderName::from_static("x-jws-signature");
const TOKEN: HeaderName = HeaderName::from_static("x-token");
const SECRET: &[u8] = b"an open secret of 32 bytes, fine";
const USER: &str = "sender";

static KEY: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("32 bytes are a seed"));

static BY_JWS: LazyLock<ProofPolicy> = LazyLock::new(|| {
    let key = BASE64URL_NOPAD.encode(KEY.public_key().as_ref());
    let set = format!("{{\"keys\":[{{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"k\",\"x\":\"{key}\"}}]}}");
    let set = KeySet::parse(set.as_bytes()).expect("it is a key set");
    let rule = BodySignature::detached_jws(JWS.as_str(), SignatureKeys::of_files(set, None));
    policy(Proof::Signature(rule.expect("one key makes a rule")))
});

static BY_SECRET: LazyLock<ProofPolicy> = LazyLock::new(|| {
    policy(Proof::Secret(FieldSecret::new(TOKEN.as_str(), "v1 ", &[secret()]).expect("one secret makes a rule")))
});

static BY_USER: LazyLock<ProofPolicy> = LazyLock::new(|| {
    let users = [(USER.to_owned(), vec![secret()])];
    policy(Proof::Basic(BasicCredentials::new(&users).expect("one user makes a rule")))
});

fn secret() -> Secret {
    Secret::new(SECRET.to_vec()).expect("32 bytes are a secret")
}

fn policy(proof: Proof) -> ProofPolicy {
    ProofPolicy::all(vec![Clause::One(proof)]).expect("one clause makes a policy")
}

/// A secret and credentials pass only if they are the right ones, by an independent reading. A signature over either form of the payload
/// passes only if the header says that form; one that was not made with the key never does.
pub fn judge(input: &[u8]) {
    let mut parts = input.splitn(3, |byte| *byte == 0x1e);
    let (value, header) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let body = parts.next().unwrap_or_default();

    let expected = [b"v1 ", SECRET].concat();
    assert_eq!(passes(&BY_SECRET, TOKEN, value, body), value == expected, "a secret");
    // 39 bytes need no padding.
    let pair = BASE64.encode(&[USER.as_bytes(), b":", SECRET].concat());
    let (scheme, credentials) = value.split_at_checked(6).unwrap_or((value, b""));
    let is_right = scheme.eq_ignore_ascii_case(b"basic ") && credentials.trim_ascii() == pair.as_bytes();
    assert_eq!(passes(&BY_USER, AUTHORIZATION, value, body), is_right && is_field(value), "credentials");

    assert!(!passes(&BY_JWS, JWS, value, body) || is_ours(value, body), "a forged signature");
    let encoded = BASE64URL_NOPAD.encode(header);
    let payload = BASE64URL_NOPAD.encode(body);
    let signed = [sign(&encoded, payload.as_bytes()), sign(&encoded, body)];
    let passed = signed.each_ref().map(|value| passes(&BY_JWS, JWS, value.as_bytes(), body));
    let parsed: Option<serde_json::Value> = serde_json::from_slice(header).ok();
    let b64 = parsed.as_ref().and_then(|header| header.get("b64"));
    if passed[0] && payload.as_bytes() != body {
        assert_ne!(b64, Some(&serde_json::Value::Bool(false)), "an encoded payload under b64 = false");
    }
    if passed[1] && payload.as_bytes() != body {
        assert_eq!(b64, Some(&serde_json::Value::Bool(false)), "a payload as it is without b64 = false");
        let crit = parsed.as_ref().and_then(|header| header.get("crit"));
        assert_eq!(crit, Some(&serde_json::json!(["b64"])), "b64 without crit");
    }
    if passed != [false, false] {
        let alg = parsed.as_ref().and_then(|header| header.get("alg")).and_then(serde_json::Value::as_str);
        assert!(matches!(alg, Some("EdDSA" | "Ed25519")), "another algorithm: {alg:?}");
    }
}

/// Whether a good signature under this header passes, over one form of the payload.
#[cfg(test)]
pub(crate) fn passes_under(header: &[u8], body: &[u8]) -> bool {
    let (encoded, payload) = (BASE64URL_NOPAD.encode(header), BASE64URL_NOPAD.encode(body));
    let signed = [sign(&encoded, payload.as_bytes()), sign(&encoded, body)];
    signed.iter().any(|value| passes(&BY_JWS, JWS, value.as_bytes(), body))
}

fn is_field(value: &[u8]) -> bool {
    HeaderValue::from_bytes(value).is_ok()
}

/// A detached signature over a payload in the form in which it is signed.
fn sign(header: &str, payload: &[u8]) -> String {
    let signature = KEY.sign(&[header.as_bytes(), b".", payload].concat());
    format!("{header}..{}", BASE64URL_NOPAD.encode(signature.as_ref()))
}

/// Whether this is what [`sign`] makes for this body. Ed25519 is deterministic.
fn is_ours(value: &[u8], body: &[u8]) -> bool {
    let header = value.split(|byte| *byte == b'.').next().unwrap_or_default();
    let Ok(header) = std::str::from_utf8(header) else { return false };
    let payload = BASE64URL_NOPAD.encode(body);
    [payload.as_bytes(), body].iter().any(|payload| sign(header, payload).as_bytes() == value)
}

fn passes(policy: &ProofPolicy, name: HeaderName, value: &[u8], body: &[u8]) -> bool {
    let Ok(value) = HeaderValue::from_bytes(value) else { return false };
    let headers = HeaderMap::from_iter([(name, value)]);
    let view = RequestView { method: &Method::POST, path: "/", headers: &headers, body, received_at: NOW };
    match policy.check(&view, &KeySets::empty(0), &Arc::new(ReplayGuard::new(1))) {
        Ok(_) => true,
        Err(unproven) => {
            assert!([401, 403].contains(&unproven.refusal.reject.row().status), "{}", unproven.refusal);
            assert!(unproven.wants_keys.is_none(), "{}", unproven.refusal);
            false
        }
    }
}
