//! Signatures over the body: HMAC and public-key signatures in the forms that webhook senders use, and detached JSON Web Signatures.
//!
//! Owns the rules of a signature. [`message`] finds the signatures of a request and what they cover, [`public_key`] the keys that can have
//! made one, [`detached_jws`] what a JWS covers. Works on the raw bytes of the body, before any parser does. Must not remember
//! deliveries: `replay` does.
//!
//! `ring` keeps an HMAC key as the state of two hashes, and does not zero it when it is dropped. [`Secret`] does not protect
//! against a reader of this process's memory.

mod detached_jws;
mod form;
mod message;
mod public_key;

use data_encoding::BASE64_NOPAD;
use http::header::HeaderName;
use ring::{digest, hmac};
use zeroize::Zeroizing;

use super::message_template::MessageTemplate;
use super::proof_policy::Unproven;
use super::public_key::SignatureAlgorithm;
use super::request_view::{RequestView, only_field};
use super::secret::{Secret, SecretError};
use super::strength::{Aspects, KeyAspects};
use super::token_keys::{KeySets, KeySourceId};
use crate::reject::{Blame, Refusal, Reject};
use detached_jws::DetachedJws;
use message::{MessageRule, Place, TimestampRule, Verification, Verifier, VerifierKey};

pub(super) use form::without_padding;
pub use form::{Encoding, HmacHash, SignatureForm, SignatureRuleError, StandardFields, TimestampPlace};
pub use public_key::SignatureKeys;

/// Most values in the signature field; a request with more is malformed. Senders write one for each secret, and have at most two
/// secrets, during a rotation.
const MAX_VALUES: usize = 16;

/// Most secrets of one rule. Each costs a hash over the body.
const MAX_SECRETS: usize = 8;

/// Longest tolerance, in seconds: a day. With a longer one, a timestamp does not protect against replay.
const MAX_TOLERANCE_SECONDS: u64 = 86_400;

/// Most pairs of a value and a key that are tried for one request: an RSA key of 8192 bits takes a third of a millisecond for each.
const MAX_ATTEMPTS: usize = 32;

/// Longest configured URL, in bytes.
const MAX_URL_BYTES: usize = 512;

/// A rule for signatures over the body. One configured secret or key must match one value of the request, so that both sides can replace
/// a secret without losing a delivery.
#[derive(Debug)]
pub struct BodySignature {
    rule: Box<Rule>,
    /// Whether a refusal has the status 401 instead of 403.
    refuses_as_unauthorized: bool,
}

#[derive(Debug)]
enum Rule {
    Message(MessageRule),
    Jws(DetachedJws),
}

impl BodySignature {
    /// A rule of the general form, by HMAC. `secrets` are those that the sender may sign with.
    ///
    /// # Errors
    ///
    /// If the form contradicts itself or does not cover the body, or if there are no secrets, or more than 8.
    pub fn hmac(form: &SignatureForm, hash: HmacHash, secrets: &[Secret]) -> Result<Self, SignatureRuleError> {
        if secrets.is_empty() || secrets.len() > MAX_SECRETS {
            return Err(SignatureRuleError::Secrets { count: secrets.len() });
        }
        let verifier = |secret: &Secret| Verifier {
            prefix: form.prefix.as_bytes().into(),
            encoding: form.encoding,
            key: VerifierKey::Hmac(hmac::Key::new(hash.algorithm(), secret.expose())),
            key_bytes: secret.length(),
        };
        let verification = Verification::Secrets(secrets.iter().map(verifier).collect());
        Self::of_form(form, verification)
    }

    /// A rule of the general form, by a public key. `key_id_header` is the header field in which the sender names its key.
    ///
    /// # Errors
    ///
    /// If the form contradicts itself or does not cover the body, or if no key is for the algorithm of `keys`.
    pub fn public_key(
        form: &SignatureForm,
        keys: SignatureKeys,
        key_id_header: Option<&str>,
    ) -> Result<Self, SignatureRuleError> {
        keys.judge()?;
        let verification = Verification::PublicKeys {
            prefix: form.prefix.as_bytes().into(),
            encoding: form.encoding,
            keys,
            key_id_header: key_id_header.map(header_name).transpose()?,
        };
        Self::of_form(form, verification)
    }

    /// A JSON Web Signature in compact serialization in the field `header`, whose payload is the body and is left out (RFC 7515, appendix
    /// F), encoded or as it is (RFC 7797).
    ///
    /// # Errors
    ///
    /// If `header` is not a field name, or if no key is for the algorithm of `keys`.
    pub fn detached_jws(header: &str, keys: SignatureKeys) -> Result<Self, SignatureRuleError> {
        if keys.algorithm() == Some(SignatureAlgorithm::EcdsaP256Sha256) {
            return Err(SignatureRuleError::DerInJws);
        }
        keys.judge()?;
        Ok(Self::of(Rule::Jws(DetachedJws::new(header_name(header)?, keys))))
    }

    /// The same rule, whose refusals have the status 401 instead of 403, for senders that try whether a wrong signature gets this status.
    #[must_use]
    pub fn refusing_as_unauthorized(self) -> Self {
        Self { refuses_as_unauthorized: true, ..self }
    }

    fn of(rule: Rule) -> Self {
        Self { rule: Box::new(rule), refuses_as_unauthorized: false }
    }

    fn of_form(form: &SignatureForm, verification: Verification) -> Result<Self, SignatureRuleError> {
        if form.message.contains("{url}") != form.url.is_some() {
            return Err(SignatureRuleError::Unplaced { piece: "url" });
        }
        if let Some(url) = form.url.as_ref().filter(|url| url.is_empty() || url.len() > MAX_URL_BYTES) {
            return Err(SignatureRuleError::Url { bytes: url.len() });
        }
        let message = MessageTemplate::parse(&form.message, form.url.as_deref())?;
        if message.has_timestamp() != form.timestamp.is_some() {
            return Err(SignatureRuleError::Unplaced { piece: "timestamp" });
        }
        if message.has_id() != form.id_header.is_some() {
            return Err(SignatureRuleError::Unplaced { piece: "id" });
        }
        let timestamp = form
            .timestamp
            .as_ref()
            .map(|place| {
                if !(1..=MAX_TOLERANCE_SECONDS).contains(&form.tolerance_seconds) {
                    return Err(SignatureRuleError::Tolerance { seconds: form.tolerance_seconds });
                }
                let place = match place {
                    TimestampPlace::Header(name) => Place::Header(header_name(name)?),
                    TimestampPlace::Value(prefix) => Place::Value(prefix.as_bytes().into()),
                };
                Ok(TimestampRule { place, tolerance_seconds: form.tolerance_seconds })
            })
            .transpose()?;
        let separator = form
            .separator
            .map(|separator| match u8::try_from(separator) {
                Ok(byte) if byte.is_ascii() => Ok(byte),
                _ => Err(SignatureRuleError::Separator { separator }),
            })
            .transpose()?;
        Ok(Self::of(Rule::Message(MessageRule {
            header: header_name(&form.header)?,
            separator,
            verification,
            message,
            id_header: form.id_header.as_deref().map(header_name).transpose()?,
            timestamp,
        })))
    }

    /// The form of PagerDuty: `X-PagerDuty-Signature: v1=<hex>,v1=<hex>`, HMAC-SHA-256 over the body, without a timestamp
    /// (PagerDuty developer documentation, "Verifying Signatures").
    ///
    /// # Errors
    ///
    /// If there are no secrets, or more than 8.
    pub fn pagerduty(secrets: &[Secret]) -> Result<Self, SignatureRuleError> {
        Self::hmac(&SignatureForm::pagerduty(), HmacHash::Sha256, secrets)
    }

    /// The form of Standard Webhooks: three `fields`. That of the signature has values separated by spaces: `v1,` with an HMAC-SHA-256 or
    /// `v1a,` with an ed25519 signature, in base64, over `{id}.{timestamp}.{body}`.
    ///
    /// Each of `keys` is the text that the sender shows: `whsec_…` is an HMAC secret in base64, `whpk_…` an ed25519 public key.
    ///
    /// # Errors
    ///
    /// If there are no keys, or more than 8, if a key has neither form, if the tolerance is not 1 s to a day, or if a name is not that of a
    /// header field.
    pub fn standard_webhooks(
        fields: &StandardFields,
        keys: &[Secret],
        tolerance_seconds: u64,
    ) -> Result<Self, SignatureRuleError> {
        if keys.is_empty() || keys.len() > MAX_SECRETS {
            return Err(SignatureRuleError::Secrets { count: keys.len() });
        }
        if !(1..=MAX_TOLERANCE_SECONDS).contains(&tolerance_seconds) {
            return Err(SignatureRuleError::Tolerance { seconds: tolerance_seconds });
        }
        let verifiers = keys
            .iter()
            .enumerate()
            .map(|(index, key)| standard_webhooks_key(key).map_err(|error| SignatureRuleError::Secret { index, error }))
            .collect::<Result<_, _>>()?;
        Ok(Self::of(Rule::Message(MessageRule {
            header: header_name(&fields.signature)?,
            separator: Some(b' '),
            verification: Verification::Secrets(verifiers),
            message: MessageTemplate::parse("{id}.{timestamp}.{body}", None)?,
            id_header: Some(header_name(&fields.id)?),
            timestamp: Some(TimestampRule { place: Place::Header(header_name(&fields.timestamp)?), tolerance_seconds }),
        })))
    }

    /// The largest difference between the signed timestamp and now, in seconds; `None` if no timestamp is signed.
    #[must_use]
    pub fn tolerance_seconds(&self) -> Option<u64> {
        match &*self.rule {
            Rule::Message(rule) => rule.timestamp.as_ref().map(|rule| rule.tolerance_seconds),
            Rule::Jws(_) => None,
        }
    }

    /// The source of the keys that verify it, if they are not in files.
    pub(super) fn key_source(&self) -> Option<KeySourceId> {
        match &*self.rule {
            Rule::Message(MessageRule { verification: Verification::PublicKeys { keys, .. }, .. }) => keys.source(),
            Rule::Message(_) => None,
            Rule::Jws(rule) => rule.keys().source(),
        }
    }

    /// Its place, and what it demands.
    pub(super) fn strength(&self, keys: &KeyAspects<'_>) -> (String, Aspects) {
        let (header, aspects) = match &*self.rule {
            Rule::Message(rule) => (&rule.header, rule.aspects(keys)),
            Rule::Jws(rule) => (rule.header(), rule.keys().aspects(keys)),
        };
        (format!("signature in {header}"), aspects)
    }

    /// Judges the signatures of a request. Allocates for public keys only, which need the signed bytes in one piece.
    ///
    /// # Errors
    ///
    /// `signature_*`, `timestamp_outside_window` or `keys_unavailable`.
    pub(super) fn check(&self, request: &RequestView<'_>, keys: &KeySets) -> Result<(), Unproven> {
        let judged = match &*self.rule {
            Rule::Message(rule) => rule.check(request, keys),
            Rule::Jws(rule) => rule.check(request, keys),
        };
        judged.map_err(|unproven| match unproven.refusal.reject.row().blame {
            Blame::Peer if self.refuses_as_unauthorized => {
                Unproven { refusal: unproven.refusal.unauthorized(), ..unproven }
            }
            _ => unproven,
        })
    }

    /// The SHA-256 of the signed message. It does not depend on the secret or on how a signature is written, so a rewritten
    /// signature does not make a delivery new.
    ///
    /// # Errors
    ///
    /// If the request lacks a piece of the message. Does not happen after [`BodySignature::check`] has passed.
    pub(super) fn digest(&self, request: &RequestView<'_>) -> Result<digest::Digest, Refusal> {
        match &*self.rule {
            Rule::Message(rule) => rule.digest(request),
            Rule::Jws(rule) => rule.digest(request),
        }
    }
}

/// The value of a header field that the signature needs exactly once.
fn field<'request>(request: &RequestView<'request>, name: &HeaderName) -> Result<&'request [u8], Refusal> {
    only_field(request.headers, name)
        .map_err(|_| Refusal::new(Reject::SignatureMalformed, format!("The request has more than one field {name}.")))?
        .ok_or_else(|| Refusal::new(Reject::SignatureMissing, format!("The request has no field {name}.")))
}

fn header_name(text: &str) -> Result<HeaderName, SignatureRuleError> {
    HeaderName::try_from(text).map_err(|_| SignatureRuleError::HeaderName { name: text.to_owned() })
}

fn standard_webhooks_key(key: &Secret) -> Result<Verifier, SecretError> {
    const EXPECTED: &str = "a Standard Webhooks key; write whsec_ and base64, or whpk_ and 32 bytes in base64";
    let wrong = SecretError::Encoding { expected: EXPECTED };
    let decode = |text: &[u8]| {
        let unpadded = text.iter().rposition(|&byte| byte != b'=').map_or(&text[..0], |last| &text[..=last]);
        BASE64_NOPAD.decode(unpadded).map(Zeroizing::new).ok().filter(|bytes| !bytes.is_empty())
    };
    if let Some(text) = key.expose().strip_prefix(b"whpk_") {
        let public_key = decode(text).and_then(|bytes| bytes.as_slice().try_into().ok()).ok_or(wrong)?;
        return Ok(Verifier {
            prefix: (*b"v1a,").into(),
            encoding: Encoding::Base64,
            key: VerifierKey::Ed25519(public_key),
            key_bytes: 32,
        });
    }
    let text = key.expose().strip_prefix(b"whsec_").ok_or(wrong)?;
    let bytes = decode(text).ok_or(wrong)?;
    let key = VerifierKey::Hmac(hmac::Key::new(hmac::HMAC_SHA256, &bytes));
    Ok(Verifier { prefix: (*b"v1,").into(), encoding: Encoding::Base64, key, key_bytes: bytes.len() })
}

#[cfg(test)]
mod tests;
