//! Requests that show proofs of every kind, whole and weaker ones.
//!
//! Owns what a sender of each kind sends. What the configurations of these tests name beside it: keys, secrets, URLs, places.

use std::sync::LazyLock;

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use hookgate_core::auth::testing::{ISSUER, NOW, Request};
use ring::signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RSA_PSS_SHA512};
use ring::{hmac, signature::RsaEncoding};
use serde_json::{Value, json};

pub(super) const SENDER: &str = "a secret of the sender";
pub(super) const PARTNER: &str = "a secret of the partner";
/// The secret of Standard Webhooks, without its prefix.
pub(super) const STANDARD: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub(super) const URL: &str = "https://a.example/url";

const BODY: &str = "{}";

/// A request, and what it shows.
pub(super) struct Variant {
    pub(super) shows: String,
    pub(super) request: Request,
}

/// Fields of a request.
type Fields = Vec<(&'static str, String)>;

static ED25519: LazyLock<Ed25519KeyPair> = LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap());

/// The public key of the Ed25519 signatures, as 64 hexadecimal digits.
pub(super) fn ed25519_key() -> String {
    HEXLOWER.encode(ED25519.public_key().as_ref())
}

/// All of them, each once with and once without an id of the delivery.
pub(super) fn variants() -> &'static [Variant] {
    static VARIANTS: LazyLock<Vec<Variant>> = LazyLock::new(|| {
        let without_id = all().into_iter().map(|(shows, fields, body)| (format!("{shows} and no id"), fields, body));
        let with_id = all().into_iter().map(|(shows, mut fields, body)| {
            fields.push(("x-id", "1".to_owned()));
            (shows, fields, body)
        });
        let variant = |(shows, fields, body): (String, Fields, String)| {
            let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
            Variant { shows, request: Request::new(&fields, body) }
        };
        with_id.chain(without_id).map(variant).collect()
    });
    &VARIANTS
}

fn all() -> Vec<(String, Fields, String)> {
    let by_fields = secrets().into_iter().chain(public_keys()).chain(tokens());
    let by_fields = by_fields.map(|(shows, fields)| (shows.to_owned(), fields, BODY.to_owned()));
    by_fields.chain(sessions()).collect()
}

fn mac(secret: &[u8], message: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes())
}

fn hex(secret: &str, message: &str) -> String {
    HEXLOWER.encode(mac(secret.as_bytes(), message).as_ref())
}

/// HMACs and static credentials.
fn secrets() -> Vec<(&'static str, Fields)> {
    let dated = |time: u64| vec![("x-a", hex(SENDER, &format!("{time}.{BODY}"))), ("x-time", time.to_string())];
    let plain = |name, secret| vec![(name, hex(secret, BODY))];
    let standard = |time: u64| {
        let tag = mac(&BASE64.decode(STANDARD.as_bytes()).unwrap(), &format!("d1.{time}.{BODY}"));
        let signature = format!("v1,{}", BASE64.encode(tag.as_ref()));
        vec![("webhook-id", "d1".to_owned()), ("webhook-timestamp", time.to_string()), ("webhook-signature", signature)]
    };
    let basic = |pair: &str| vec![("authorization", format!("Basic {}", BASE64.encode(pair.as_bytes())))];
    vec![
        ("nothing", Vec::new()),
        ("x-a", plain("x-a", SENDER)),
        ("x-b", plain("x-b", SENDER)),
        ("x-a and x-b", [plain("x-a", SENDER), plain("x-b", SENDER)].concat()),
        ("x-b of the partner", plain("x-b", PARTNER)),
        ("x-a with the time", dated(NOW)),
        ("x-a with an old time", dated(NOW - 120)),
        ("x-a with an older time", dated(NOW - 1000)),
        ("a signature over URL and body", vec![("x-url", hex(SENDER, &format!("{URL}\n{BODY}")))]),
        ("a signature over the body, without the URL", plain("x-url", SENDER)),
        ("PagerDuty's signature", vec![("x-pagerduty-signature", format!("v1={}", hex(SENDER, BODY)))]),
        ("a signature of Standard Webhooks", standard(NOW)),
        ("an old signature of Standard Webhooks", standard(NOW - 1000)),
        ("a secret", vec![("x-secret", SENDER.to_owned())]),
        ("a secret after its prefix", vec![("x-secret", format!("Bearer {SENDER}"))]),
        ("a secret and x-a", [vec![("x-secret", SENDER.to_owned())], plain("x-a", SENDER)].concat()),
        ("a password", basic(&format!("hook:{SENDER}"))),
    ]
}

/// Signatures by a private key of the sender.
fn public_keys() -> Vec<(&'static str, Fields)> {
    let ed = |message: &str| ("x-ed", HEXLOWER.encode(ED25519.sign(message.as_bytes()).as_ref()));
    let dated = |time: u64| vec![ed(&format!("{time}{BODY}")), ("x-ed-time", time.to_string())];
    let rsa =
        |encoding: &'static dyn RsaEncoding| vec![("x-rsa", BASE64.encode(&ISSUER.rsa(encoding, BODY.as_bytes())))];
    let jws = |header: &Value, payload: &str| {
        let header = BASE64URL_NOPAD.encode(header.to_string().as_bytes());
        let signature = BASE64URL_NOPAD.encode(&ISSUER.es256(format!("{header}.{payload}").as_bytes()));
        vec![("x-jws", format!("{header}..{signature}"))]
    };
    vec![
        ("Ed25519 with the time", dated(NOW)),
        ("Ed25519 with an old time", dated(NOW - 120)),
        ("Ed25519 over the body", vec![ed(BODY)]),
        ("P-256", vec![("x-ec", BASE64.encode(&ISSUER.es256(BODY.as_bytes())))]),
        ("RSA and SHA-256", rsa(&RSA_PKCS1_SHA256)),
        ("RSA and SHA-512", rsa(&RSA_PKCS1_SHA512)),
        ("RSA-PSS and SHA-512", rsa(&RSA_PSS_SHA512)),
        ("a detached JWS", jws(&json!({ "alg": "ES256", "kid": "ec" }), &BASE64URL_NOPAD.encode(BODY.as_bytes()))),
        (
            "a detached JWS over the plain body",
            jws(&json!({ "alg": "ES256", "kid": "ec", "b64": false, "crit": ["b64"] }), BODY),
        ),
    ]
}

fn claims(changes: &[(&str, Value)]) -> Value {
    let mut claims = json!({
        "iss": "https://login.example", "aud": "hook", "sub": "a", "email": "a@login.example", "email_verified": true,
        "iat": NOW - 10, "exp": NOW + 300,
    });
    for (name, value) in changes {
        claims[*name] = value.clone();
    }
    claims
}

fn tokens() -> Vec<(&'static str, Fields)> {
    let bearer =
        |changes: &[(&str, Value)]| vec![("authorization", format!("Bearer {}", ISSUER.token(&claims(changes))))];
    vec![
        ("a token", bearer(&[])),
        ("a token of another e-mail", bearer(&[("email", json!("b@login.example"))])),
        ("a token of an e-mail that is not verified", bearer(&[("email_verified", json!(false))])),
        ("a token of another subject", bearer(&[("sub", json!("b"))])),
        ("a token that has just ended", bearer(&[("exp", json!(NOW - 30))])),
        ("a token for another audience", bearer(&[("aud", json!("other"))])),
    ]
}

/// Parameters of a session, in the body.
fn sessions() -> Vec<(String, Fields, String)> {
    let token = |subject: &str| ISSUER.token(&claims(&[("sub", json!(subject))]));
    let bodies = [
        ("the parameter of a session", json!({ "key": SENDER })),
        ("the HMAC of a session", json!({ "session": "s1", "mac": hex(SENDER, "s1") })),
        ("the HMAC of another session", json!({ "session": "s2", "mac": hex(SENDER, "s1") })),
        ("the secret in place of the HMAC of a session", json!({ "session": "s1", "mac": SENDER })),
        ("the token of a session", json!({ "session": "s1", "jwt": token("s1") })),
        ("the token of another session", json!({ "session": "s1", "jwt": token("s2") })),
    ];
    let line = |(shows, body): (&str, Value)| (shows.to_owned(), Vec::new(), body.to_string());
    bodies.into_iter().map(line).collect()
}
