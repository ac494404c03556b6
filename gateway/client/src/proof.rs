//! What a request carries to prove itself: signature, token, secret, session parameter.
//!
//! Owns how a sender makes each. Written from the forms alone, and not with the code that verifies them, so that an error there shows.
//! Must not choose a proof: `delivery` does.

use std::path::Path;
use std::time::SystemTime;

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use hookgate_core::auth::SignatureForm;
use hookgate_core::auth::body_signature::{Encoding, HmacHash, StandardFields, TimestampPlace};
use ring::rand::SystemRandom;
use ring::signature::{RsaEncoding, RsaKeyPair};
use ring::{hmac, signature};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use crate::roots::{self, FileError};
use crate::sender::{KeyAlgorithm, Proof};

/// The prefix of a secret of Standard Webhooks.
const WHSEC: &str = "whsec_";

/// What a proof is made with: the content of the file of `--secret-file`, without the line break at its end.
pub struct Key(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Key(REDACTED)")
    }
}

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file has another form than the proof needs.
    #[error("the file of --secret-file must hold {0}")]
    Form(&'static str),
    /// The proof is one that this program cannot make.
    #[error("this program cannot make the proof of this sender: {0}")]
    Unsupported(&'static str),
}

impl Key {
    /// Reads the file at `path`.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is larger than 4 MiB.
    pub fn read(path: &Path) -> Result<Self, ProofError> {
        let mut bytes = Zeroizing::new(roots::read(path)?);
        if bytes.ends_with(b"\n") {
            bytes.pop();
        }
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
        Ok(Self(bytes))
    }

    /// A key in memory.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    fn text(&self) -> Result<&str, ProofError> {
        let text =
            std::str::from_utf8(&self.0).ok().filter(|text| text.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
        text.ok_or(ProofError::Form("one line of printable text"))
    }
}

/// The parts of a request that a signature can cover.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// The method.
    pub method: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// The URL.
    pub url: &'a str,
    /// The delivery's id.
    pub id: &'a str,
    /// The time, in seconds since 1970.
    pub timestamp: u64,
    /// The body.
    pub body: &'a [u8],
}

/// Seconds since 1970.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The header fields that prove `signed`. None for a session parameter, which is in the body.
///
/// # Errors
///
/// The key has not the form that the proof needs.
pub fn fields(proof: &Proof, key: &Key, signed: &Signed<'_>) -> Result<Vec<(String, String)>, ProofError> {
    match proof {
        Proof::Hmac(form, hash) => {
            let key = hmac::Key::new(algorithm(*hash), &key.0);
            Ok(of_form(form, signed, hmac::sign(&key, &message(form, signed)).as_ref()))
        }
        Proof::PublicKey(form, algorithm) => {
            Ok(of_form(form, signed, &by_key(*algorithm, key, &message(form, signed))?))
        }
        Proof::StandardWebhooks(names) => standard_webhooks(names, key, signed),
        Proof::Token => Ok(vec![("authorization".into(), format!("Bearer {}", key.text()?))]),
        Proof::FieldSecret { header: Some(header), prefix } => {
            Ok(vec![(header.clone(), format!("{prefix}{}", key.text()?))])
        }
        Proof::FieldSecret { header: None, .. } => Err(ProofError::Unsupported("the preset leaves the field open")),
        Proof::Basic => {
            let text = key.text()?;
            if !text.contains(':') {
                return Err(ProofError::Form("USER:PASSWORD on one line"));
            }
            Ok(vec![("authorization".into(), format!("Basic {}", BASE64.encode(text.as_bytes())))])
        }
        Proof::SessionParameter(_) => Ok(Vec::new()),
        Proof::Unsupported(what) => Err(ProofError::Unsupported(what)),
    }
}

/// The value of a session parameter.
///
/// # Errors
///
/// The key is not one line of text.
pub fn parameter(key: &Key) -> Result<&str, ProofError> {
    key.text()
}

fn algorithm(hash: HmacHash) -> hmac::Algorithm {
    match hash {
        HmacHash::Sha256 => hmac::HMAC_SHA256,
        HmacHash::Sha384 => hmac::HMAC_SHA384,
        HmacHash::Sha512 => hmac::HMAC_SHA512,
    }
}

/// The signed message of `form`. The rule that verifies it has checked the template.
fn message(form: &SignatureForm, signed: &Signed<'_>) -> Vec<u8> {
    let timestamp = signed.timestamp.to_string();
    let pieces: [(&str, &[u8]); 7] = [
        ("{body}", signed.body),
        ("{timestamp}", timestamp.as_bytes()),
        ("{timestamp:10}", timestamp.as_bytes()),
        ("{id}", signed.id.as_bytes()),
        ("{method}", signed.method.as_bytes()),
        ("{path}", signed.path.as_bytes()),
        ("{url}", signed.url.as_bytes()),
    ];
    let mut message = Vec::with_capacity(form.message.len() + signed.body.len());
    let mut rest = form.message.as_str();
    while let Some(first) = rest.chars().next() {
        match pieces.iter().find(|(name, _)| rest.starts_with(name)) {
            Some((name, bytes)) => {
                message.extend_from_slice(bytes);
                rest = &rest[name.len()..];
            }
            None => {
                let length = first.len_utf8();
                message.extend_from_slice(&rest.as_bytes()[..length]);
                rest = &rest[length..];
            }
        }
    }
    message
}

/// The fields of a signature in the general form.
fn of_form(form: &SignatureForm, signed: &Signed<'_>, signature: &[u8]) -> Vec<(String, String)> {
    let encoded = match form.encoding {
        Encoding::Hex => HEXLOWER.encode(signature),
        Encoding::Base64 => BASE64.encode(signature),
        Encoding::Base64Url => BASE64URL_NOPAD.encode(signature),
    };
    let mut value = format!("{}{encoded}", form.prefix);
    let mut fields = Vec::new();
    match &form.timestamp {
        None => {}
        Some(TimestampPlace::Header(header)) => fields.push((header.clone(), signed.timestamp.to_string())),
        Some(TimestampPlace::Value(prefix)) => {
            let separator = form.separator.map(String::from).unwrap_or_default();
            value = format!("{prefix}{}{separator}{value}", signed.timestamp);
        }
    }
    if let Some(header) = &form.id_header {
        fields.push((header.clone(), signed.id.to_owned()));
    }
    fields.push((form.header.clone(), value));
    fields
}

fn by_key(algorithm: KeyAlgorithm, key: &Key, message: &[u8]) -> Result<Vec<u8>, ProofError> {
    let form = || ProofError::Form("the sender's private key as PEM (BEGIN PRIVATE KEY)");
    let der = PrivateKeyDer::from_pem_slice(&key.0).map_err(|_| form())?;
    match algorithm {
        KeyAlgorithm::Ed25519 => {
            let pair = signature::Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_der()).map_err(|_| form())?;
            Ok(pair.sign(message).as_ref().to_vec())
        }
        KeyAlgorithm::RsaPkcs1Sha256 => by_rsa(&signature::RSA_PKCS1_SHA256, &der, message).ok_or_else(form),
        KeyAlgorithm::RsaPkcs1Sha512 => by_rsa(&signature::RSA_PKCS1_SHA512, &der, message).ok_or_else(form),
        KeyAlgorithm::EcdsaP256 => {
            let (random, kind) = (SystemRandom::new(), &signature::ECDSA_P256_SHA256_ASN1_SIGNING);
            let pair = signature::EcdsaKeyPair::from_pkcs8(kind, der.secret_der(), &random).map_err(|_| form())?;
            Ok(pair.sign(&random, message).map_err(|_| form())?.as_ref().to_vec())
        }
    }
}

/// `None` if the key is no RSA key of 2048 bits or more.
fn by_rsa(padding: &'static dyn RsaEncoding, key: &PrivateKeyDer<'_>, message: &[u8]) -> Option<Vec<u8>> {
    let pair = match key {
        PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
        other => RsaKeyPair::from_pkcs8(other.secret_der()),
    };
    let pair = pair.ok()?;
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(padding, &SystemRandom::new(), message, &mut signature).ok()?;
    Some(signature)
}

/// Standard Webhooks: HMAC-SHA-256 in base64 over `id.timestamp.body`, with the secret behind `whsec_` in base64.
fn standard_webhooks(
    names: &StandardFields,
    key: &Key,
    signed: &Signed<'_>,
) -> Result<Vec<(String, String)>, ProofError> {
    const FORM: ProofError = ProofError::Form("whsec_ and the secret in base64");
    let secret = key.text()?.strip_prefix(WHSEC).ok_or(FORM)?;
    let secret = Zeroizing::new(BASE64.decode(secret.as_bytes()).map_err(|_| FORM)?);
    let timestamp = signed.timestamp.to_string();
    let message = [signed.id.as_bytes(), b".", timestamp.as_bytes(), b".", signed.body].concat();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), &message);
    Ok(vec![
        (names.id.clone(), signed.id.to_owned()),
        (names.timestamp.clone(), timestamp),
        (names.signature.clone(), format!("v1,{}", BASE64.encode(tag.as_ref()))),
    ])
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const BODY: &[u8] = b"{\"id\":\"evt_1\",\"n\":1}";

    fn signed(body: &'static [u8]) -> Signed<'static> {
        Signed {
            method: "POST",
            path: "/hook",
            url: "https://example.com/hook",
            id: "msg_1",
            timestamp: 1_700_000_000,
            body,
        }
    }

    fn form(header: &str, prefix: &str, message: &str) -> SignatureForm {
        SignatureForm {
            header: header.into(),
            separator: None,
            prefix: prefix.into(),
            encoding: Encoding::Hex,
            message: message.into(),
            timestamp: None,
            tolerance_seconds: 0,
            id_header: None,
            url: None,
        }
    }

    fn only(proof: &Proof, key: &str, body: &'static [u8], name: &str) -> String {
        let fields = fields(proof, &Key::new(key.into()), &signed(body)).unwrap();
        fields.into_iter().find(|(field, _)| field == name).unwrap().1
    }

    /// The example of GitHub's documentation, "Validating webhook deliveries".
    #[test]
    fn the_published_signature_of_github() {
        let proof = Proof::Hmac(form("x-hub-signature-256", "sha256=", "{body}"), HmacHash::Sha256);
        let value = only(&proof, "It's a Secret to Everybody", b"Hello, World!", "x-hub-signature-256");
        assert_eq!(value, "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17");
    }

    #[test]
    fn time_id_and_url_are_placed_and_covered() {
        let stripe = SignatureForm {
            separator: Some(','),
            timestamp: Some(TimestampPlace::Value("t=".into())),
            ..form("stripe-signature", "v1=", "{timestamp}.{body}")
        };
        let value = only(&Proof::Hmac(stripe, HmacHash::Sha256), "whsec_test", BODY, "stripe-signature");
        let expected = "t=1700000000,v1=180efed470f69ea63d2145336828f968c61b2264f977a79fa77b058fec58b7b1";
        assert_eq!(value, expected);
        let square = SignatureForm { encoding: Encoding::Base64, ..form("x-square", "", "{url}{body}") };
        let value = only(&Proof::Hmac(square, HmacHash::Sha256), "sq-key", BODY, "x-square");
        assert_eq!(value, "LEPZPM0OcCSk8+QXioQtQkCaI97lrg/NKr3vb+9I0NU=");
        let zoom = SignatureForm {
            timestamp: Some(TimestampPlace::Header("x-zm-request-timestamp".into())),
            ..form("x-zm-signature", "v0=", "v0:{timestamp}:{body}")
        };
        let value = only(&Proof::Hmac(zoom, HmacHash::Sha256), "zoom-secret", BODY, "x-zm-signature");
        assert_eq!(value, "v0=2e8d320bf5beef9d8f2753873cdcdf5391f20c602ca53fb90459cfe5af5ab23b");
    }

    #[test]
    fn other_proofs_have_their_fields() {
        let key = |text: &str| Key::new(text.into());
        let signed = signed(BODY);
        let basic = fields(&Proof::Basic, &key("hook:s3cret"), &signed).unwrap();
        assert_eq!(basic, [("authorization".into(), "Basic aG9vazpzM2NyZXQ=".into())]);
        assert!(fields(&Proof::Basic, &key("hook"), &signed).is_err());
        let token = fields(&Proof::Token, &key("abc"), &signed).unwrap();
        assert_eq!(token, [("authorization".into(), "Bearer abc".into())]);
        assert!(fields(&Proof::Token, &key("a\nb"), &signed).is_err(), "a line break would add a field");
        assert!(fields(&Proof::StandardWebhooks(StandardFields::default()), &key("no prefix"), &signed).is_err());
        let ours = fields(
            &Proof::StandardWebhooks(StandardFields::default()),
            &key("whsec_dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0dGVzdHRlc3Q="),
            &signed,
        );
        assert_eq!(ours.unwrap().len(), 3);
    }
}
