//! Requests, and a token issuer with real keys, for the tests of this crate and of the daemon. Must not be built into the daemon.

#![expect(clippy::unwrap_used, missing_docs, reason = "tests, of this crate and of the daemon")]

use std::fmt::Debug;
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use http::Method;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use ring::rand::SystemRandom;
use ring::rsa::{KeyPair as RsaKeyPair, PublicKeyComponents};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaEncoding};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivatePkcs8KeyDer, UnixTime};
use serde_json::{Value, json};

use super::{KeySet, KeySets, KeySourceId, PublishedKeys, RequestView, Secret, TokenExpectations, TokenRule};
use crate::reject::Refusal;

/// 2026-11-23, a Monday.
pub const NOW: u64 = 1_795_000_000;

pub fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// A request that owns what a [`RequestView`] borrows.
pub struct Request {
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub received_at: u64,
}

impl Request {
    pub fn new(headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Self {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        Self { headers: map, body: body.into(), received_at: NOW }
    }

    pub fn at(mut self, seconds: u64) -> Self {
        self.received_at = seconds;
        self
    }

    pub fn view(&self) -> RequestView<'_> {
        RequestView {
            method: &Method::POST,
            path: "/hook?x=1",
            headers: &self.headers,
            body: &self.body,
            received_at: at(self.received_at),
        }
    }
}

pub fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec()).unwrap()
}

pub fn reason<T: Debug>(result: Result<T, impl Into<Refusal>>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(refusal) => refusal.into().reject.row().reason,
    }
}

/// An Ed25519 key as a SubjectPublicKeyInfo (RFC 8410, section 10.1).
pub fn ed25519_spki(key: &[u8]) -> Vec<u8> {
    [b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00", key].concat()
}

/// An issuer with an RSA key `rsa` and a P-256 key `ec`.
pub struct Issuer {
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
}

/// One issuer for all tests, because openssl is slow to generate an RSA key.
pub static ISSUER: LazyLock<Issuer> = LazyLock::new(Issuer::generate);

impl Issuer {
    pub fn generate() -> Self {
        let openssl = Command::new("openssl")
            .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"])
            .output()
            .unwrap();
        assert!(openssl.status.success(), "{}", String::from_utf8_lossy(&openssl.stderr));
        let rsa = PrivatePkcs8KeyDer::from_pem_slice(&openssl.stdout).unwrap();
        let random = SystemRandom::new();
        let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        Self {
            rsa: RsaKeyPair::from_pkcs8(rsa.secret_pkcs8_der()).unwrap(),
            ec: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, ec.as_ref(), &random).unwrap(),
        }
    }

    pub fn rsa_jwk(&self, kid: &str) -> Value {
        let public = PublicKeyComponents::<Vec<u8>>::from(self.rsa.public());
        json!({ "kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256",
            "n": BASE64URL_NOPAD.encode(&public.n), "e": BASE64URL_NOPAD.encode(&public.e) })
    }

    pub fn ec_jwk(&self, kid: &str) -> Value {
        let point = self.ec.public_key().as_ref();
        json!({ "kty": "EC", "crv": "P-256", "kid": kid,
            "x": BASE64URL_NOPAD.encode(&point[1..33]), "y": BASE64URL_NOPAD.encode(&point[33..]) })
    }

    /// The public keys as a JSON Web Key Set.
    pub fn jwks(&self) -> String {
        json!({ "keys": [self.rsa_jwk("rsa"), self.ec_jwk("ec")] }).to_string()
    }

    pub fn sets(&self) -> KeySets {
        published(&self.jwks(), u64::MAX)
    }

    pub fn rs256(&self, signed: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.rsa.public().modulus_len()];
        self.rsa.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed, &mut signature).unwrap();
        signature
    }

    /// A signature by the RSA key, in any encoding.
    pub fn rsa(&self, encoding: &'static dyn RsaEncoding, signed: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.rsa.public().modulus_len()];
        self.rsa.sign(encoding, &SystemRandom::new(), signed, &mut signature).unwrap();
        signature
    }

    /// The RSA key as a SubjectPublicKeyInfo.
    pub fn rsa_spki(&self) -> Vec<u8> {
        const HEAD: &[u8] =
            b"\x30\x82\x01\x22\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00\x03\x82\x01\x0f\x00";
        [HEAD, self.rsa.public_key().as_ref()].concat()
    }

    /// The P-256 key as a SubjectPublicKeyInfo.
    pub fn ec_spki(&self) -> Vec<u8> {
        const HEAD: &[u8] =
            b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
        [HEAD, self.ec.public_key().as_ref()].concat()
    }

    pub fn es256(&self, signed: &[u8]) -> Vec<u8> {
        self.ec.sign(&SystemRandom::new(), signed).unwrap().as_ref().to_vec()
    }

    /// A token signed by the RSA key.
    pub fn token(&self, claims: &Value) -> String {
        token(&json!({ "alg": "RS256", "kid": "rsa", "typ": "JWT" }), claims, |signed| self.rs256(signed))
    }
}

pub fn token(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    token_of(&header.to_string(), &claims.to_string(), sign)
}

pub fn token_of(header: &str, claims: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", BASE64URL_NOPAD.encode(header.as_bytes()), BASE64URL_NOPAD.encode(claims.as_bytes()));
    let signature = BASE64URL_NOPAD.encode(&sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

pub const SOURCE: KeySourceId = KeySourceId(0);

pub fn published(jwks: &str, usable_until: u64) -> KeySets {
    let set = Arc::new(KeySet::parse(jwks.as_bytes()).unwrap());
    KeySets::empty(1).with(SOURCE, PublishedKeys { set, usable_until: at(usable_until) })
}

/// A rule for the tokens of Dialogflow for project 4711.
pub fn dialogflow() -> TokenRule {
    let audiences = vec!["https://hooks.example/dialogflow".to_owned()];
    TokenRule::new(SOURCE, &TokenExpectations::dialogflow("4711", audiences).unwrap()).unwrap()
}

/// Claims that satisfy the rule of [`dialogflow`].
pub fn dialogflow_claims() -> Value {
    json!({
        "iss": "https://accounts.google.com",
        "aud": "https://hooks.example/dialogflow",
        "azp": "103647213467",
        "sub": "103647213467",
        "email": "service-4711@gcp-sa-dialogflow.iam.gserviceaccount.com",
        "email_verified": true,
        "iat": NOW - 10,
        "exp": NOW + 3590,
    })
}
