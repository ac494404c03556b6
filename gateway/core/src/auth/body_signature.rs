//! Signatures over the body: HMAC in the forms that webhook senders use, and the ed25519 of Standard Webhooks.
//!
//! Owns the place of signatures, the message that they cover, and their comparison. Works on the raw bytes of the body, before any
//! parser does. Must not remember deliveries: `replay` does.
//!
//! `ring` keeps an HMAC key as the state of two hashes, and does not zero it when it is dropped. [`Secret`] does not protect
//! against a reader of this process's memory.

mod form;

use data_encoding::BASE64_NOPAD;
use http::header::HeaderName;
use ring::{digest, hmac, signature};
use rustls_pki_types::UnixTime;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::message_template::{MessageParts, MessageTemplate};
use super::request_view::{RequestView, only_field};
use super::secret::{Secret, SecretError};
use super::strength::{Aspect, Aspects, SECRET_BYTES};
use crate::reject::{Refusal, Reject};

pub(super) use form::without_padding;
pub use form::{Encoding, HmacForm, HmacHash, SignatureRuleError, TimestampPlace};

/// Most values in the signature field; a request with more is malformed. Senders write one for each secret, and have at most two
/// secrets, during a rotation.
const MAX_VALUES: usize = 16;

/// Most secrets of one rule. Each costs a hash over the body.
const MAX_SECRETS: usize = 8;

/// Longest tolerance, in seconds: a day. With a longer one, a timestamp does not protect against replay.
const MAX_TOLERANCE_SECONDS: u64 = 86_400;

/// RFC 8032, section 5.1.6.
const ED25519_SIGNATURE_BYTES: usize = 64;

/// Longest signature, in bytes: ed25519 and HMAC-SHA-512.
const MAX_SIGNATURE_BYTES: usize = 64;

/// A rule for signatures over the body. One configured secret must match one value of the request, so that both sides can replace a
/// secret without losing a delivery.
#[derive(Debug)]
pub struct BodySignature {
    header: HeaderName,
    separator: Option<u8>,
    verifiers: Box<[Verifier]>,
    message: MessageTemplate,
    id_header: Option<HeaderName>,
    timestamp: Option<TimestampRule>,
}

#[derive(Debug)]
struct Verifier {
    prefix: Box<[u8]>,
    encoding: Encoding,
    key: VerifierKey,
    /// The length of the secret or public key.
    key_bytes: usize,
}

#[derive(Debug)]
enum VerifierKey {
    Hmac(hmac::Key),
    Ed25519([u8; 32]),
}

#[derive(Debug)]
struct TimestampRule {
    place: Place,
    tolerance_seconds: u64,
}

#[derive(Debug)]
enum Place {
    Header(HeaderName),
    Value(Box<[u8]>),
}

impl BodySignature {
    /// A rule of the general form. `secrets` are those that the sender may sign with.
    ///
    /// # Errors
    ///
    /// If the form contradicts itself or does not cover the body, or if there are no secrets, or more than 8.
    pub fn hmac(form: &HmacForm, secrets: &[Secret]) -> Result<Self, SignatureRuleError> {
        if secrets.is_empty() || secrets.len() > MAX_SECRETS {
            return Err(SignatureRuleError::Secrets { count: secrets.len() });
        }
        let message = MessageTemplate::parse(&form.message)?;
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
        let verifier = |secret: &Secret| Verifier {
            prefix: form.prefix.as_bytes().into(),
            encoding: form.encoding,
            key: VerifierKey::Hmac(hmac::Key::new(form.hash.algorithm(), secret.expose())),
            key_bytes: secret.length(),
        };
        Ok(Self {
            header: header_name(&form.header)?,
            separator,
            verifiers: secrets.iter().map(verifier).collect(),
            message,
            id_header: form.id_header.as_deref().map(header_name).transpose()?,
            timestamp,
        })
    }

    /// The form of PagerDuty: `X-PagerDuty-Signature: v1=<hex>,v1=<hex>`, HMAC-SHA-256 over the body, without a timestamp
    /// (PagerDuty developer documentation, "Verifying Signatures").
    ///
    /// # Errors
    ///
    /// If there are no secrets, or more than 8.
    pub fn pagerduty(secrets: &[Secret]) -> Result<Self, SignatureRuleError> {
        let form = HmacForm {
            header: "x-pagerduty-signature".to_owned(),
            separator: Some(','),
            prefix: "v1=".to_owned(),
            encoding: Encoding::Hex,
            hash: HmacHash::Sha256,
            message: "{body}".to_owned(),
            timestamp: None,
            tolerance_seconds: 0,
            id_header: None,
        };
        Self::hmac(&form, secrets)
    }

    /// The form of Standard Webhooks: the fields `webhook-id`, `webhook-timestamp` and `webhook-signature`. The last has values
    /// separated by spaces: `v1,` with an HMAC-SHA-256 or `v1a,` with an ed25519 signature, in base64, over
    /// `{id}.{timestamp}.{body}`.
    ///
    /// Each of `keys` is the text that the sender shows: `whsec_…` is an HMAC secret in base64, `whpk_…` an ed25519 public key.
    ///
    /// # Errors
    ///
    /// If there are no keys, or more than 8, if a key has neither form, or if the tolerance is out of bounds.
    pub fn standard_webhooks(keys: &[Secret], tolerance_seconds: u64) -> Result<Self, SignatureRuleError> {
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
        Ok(Self {
            header: HeaderName::from_static("webhook-signature"),
            separator: Some(b' '),
            verifiers,
            message: MessageTemplate::parse("{id}.{timestamp}.{body}")?,
            id_header: Some(HeaderName::from_static("webhook-id")),
            timestamp: Some(TimestampRule {
                place: Place::Header(HeaderName::from_static("webhook-timestamp")),
                tolerance_seconds,
            }),
        })
    }

    /// The largest difference between the signed timestamp and now, in seconds; `None` if no timestamp is signed.
    #[must_use]
    pub fn tolerance_seconds(&self) -> Option<u64> {
        self.timestamp.as_ref().map(|rule| rule.tolerance_seconds)
    }

    /// Its place, and what it demands.
    pub(super) fn strength(&self) -> (String, Aspects) {
        let mut aspects = Aspects::new();
        let covered = self.message.covered().filter(|piece| *piece != "body");
        aspects.extend(covered.map(|piece| (format!("{{{piece}}} in message"), Aspect::Demanded)));
        if let Some(rule) = &self.timestamp {
            aspects.insert("tolerance_s".to_owned(), Aspect::AtMost(rule.tolerance_seconds));
        }
        let bits = |verifier: &Verifier| match &verifier.key {
            VerifierKey::Hmac(key) => key.algorithm().digest_algorithm().output_len() as u64 * 8,
            VerifierKey::Ed25519(_) => 256,
        };
        let key_bytes = |verifier: &Verifier| verifier.key_bytes.min(SECRET_BYTES) as u64;
        let least = |of: &dyn Fn(&Verifier) -> u64| self.verifiers.iter().map(of).min().unwrap_or(0);
        aspects.insert("bits of the hash".to_owned(), Aspect::AtLeast(least(&bits)));
        aspects.insert("bytes of the shortest secret".to_owned(), Aspect::AtLeast(least(&key_bytes)));
        (format!("signature in {}", self.header), aspects)
    }

    /// Judges the signatures of a request. Allocates for ed25519 only, which needs the signed bytes in one piece.
    ///
    /// # Errors
    ///
    /// `signature_*` or `timestamp_outside_window`.
    pub(super) fn check(&self, request: &RequestView<'_>) -> Result<(), Refusal> {
        let (values, parts) = self.parts(request)?;
        if let Some(rule) = &self.timestamp {
            rule.check(parts.timestamp, request.received_at)?;
        }
        let mut nearest = Nearest::NoValue;
        for verifier in &self.verifiers {
            nearest = nearest.max(verifier.check(self.split(values), &self.message, &parts));
            if nearest == Nearest::Match {
                return Ok(());
            }
        }
        let header = &self.header;
        Err(match nearest {
            Nearest::NoValue => {
                let detail = format!("The field {header} has no value, or none with the expected prefix.");
                Refusal::new(Reject::SignatureMalformed, detail)
            }
            Nearest::Undecodable => Refusal::new(
                Reject::SignatureMalformed,
                format!("The signature in the field {header} does not have the expected encoding and length."),
            ),
            Nearest::Mismatch | Nearest::Match => {
                let detail = format!(
                    "No signature in the field {header} matches: the sender signed with another secret, or the request was altered."
                );
                Refusal::new(Reject::SignatureMismatch, detail)
            }
        })
    }

    /// The SHA-256 of the signed message. It does not depend on the secret or on how a signature is written, so a rewritten
    /// signature does not make a delivery new.
    ///
    /// # Errors
    ///
    /// If the request lacks a piece of the message. Does not happen after [`BodySignature::check`] has passed.
    pub(super) fn digest(&self, request: &RequestView<'_>) -> Result<digest::Digest, Refusal> {
        let (_, parts) = self.parts(request)?;
        Ok(self.message.digest(&parts))
    }

    /// The signature field, and the variable pieces of the message.
    fn parts<'request>(
        &self,
        request: &RequestView<'request>,
    ) -> Result<(&'request [u8], MessageParts<'request>), Refusal> {
        let values = field(request, &self.header)?;
        let id = match &self.id_header {
            Some(name) => field(request, name)?,
            None => b"",
        };
        let timestamp = match self.timestamp.as_ref().map(|rule| &rule.place) {
            Some(Place::Header(name)) => field(request, name)?,
            Some(Place::Value(prefix)) => self.timestamp_value(values, prefix)?,
            None => b"",
        };
        if self.split(values).count() > MAX_VALUES {
            let detail = format!("The field {} has more than {MAX_VALUES} values.", self.header);
            return Err(Refusal::new(Reject::SignatureMalformed, detail));
        }
        let (method, path) = (request.method.as_str().as_bytes(), request.path.as_bytes());
        let parts = MessageParts { id, timestamp, method, path, body: request.body };
        if self.message.has_early_end(&parts) {
            let detail =
                "The signed id contains the text that ends it in the signed message, or ends with a part of it.";
            return Err(Refusal::new(Reject::SignatureMalformed, detail));
        }
        Ok((values, parts))
    }

    fn timestamp_value<'request>(&self, values: &'request [u8], prefix: &[u8]) -> Result<&'request [u8], Refusal> {
        let mut found = self.split(values).filter_map(|value| value.strip_prefix(prefix));
        match (found.next(), found.next()) {
            (Some(timestamp), None) => Ok(timestamp),
            (None, _) => {
                Err(Refusal::new(Reject::SignatureMissing, format!("The field {} has no timestamp.", self.header)))
            }
            (Some(_), Some(_)) => Err(Refusal::new(
                Reject::SignatureMalformed,
                format!("The field {} has more than one timestamp.", self.header),
            )),
        }
    }

    fn split<'request>(&self, values: &'request [u8]) -> impl Iterator<Item = &'request [u8]> + Clone {
        let separator = self.separator;
        values.split(move |&byte| Some(byte) == separator).map(<[u8]>::trim_ascii).filter(|value| !value.is_empty())
    }
}

/// How near the values of a request came to a match, in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Nearest {
    NoValue,
    Undecodable,
    Mismatch,
    Match,
}

impl Verifier {
    fn check<'request>(
        &self,
        values: impl Iterator<Item = &'request [u8]> + Clone,
        message: &MessageTemplate,
        parts: &MessageParts<'_>,
    ) -> Nearest {
        let candidates = values.filter_map(|value| value.strip_prefix(&*self.prefix));
        if candidates.clone().next().is_none() {
            return Nearest::NoValue;
        }
        match &self.key {
            VerifierKey::Hmac(key) => {
                let mut context = hmac::Context::with_key(key);
                message.write(parts, &mut |bytes| context.update(bytes));
                let tag = context.sign();
                self.nearest(candidates, tag.as_ref().len(), |presented| tag.as_ref().ct_eq(presented).into())
            }
            VerifierKey::Ed25519(key) => {
                let mut signed = Vec::new();
                message.write(parts, &mut |bytes| signed.extend_from_slice(bytes));
                let key = signature::UnparsedPublicKey::new(&signature::ED25519, key);
                self.nearest(candidates, ED25519_SIGNATURE_BYTES, |presented| key.verify(&signed, presented).is_ok())
            }
        }
    }

    /// The nearest of the candidates. Only those of `length` bytes are passed to `matches`.
    fn nearest<'request>(
        &self,
        candidates: impl Iterator<Item = &'request [u8]>,
        length: usize,
        matches: impl Fn(&[u8]) -> bool,
    ) -> Nearest {
        let judge = |candidate: &[u8]| {
            // Base64 decodes into a multiple of three bytes, then removes the padding.
            let mut buffer = [0; MAX_SIGNATURE_BYTES + 2];
            match self.encoding.decode(candidate, &mut buffer) {
                Some(presented) if presented.len() == length && matches(presented) => Nearest::Match,
                Some(presented) if presented.len() == length => Nearest::Mismatch,
                _ => Nearest::Undecodable,
            }
        };
        candidates.map(judge).max().unwrap_or(Nearest::NoValue)
    }
}

impl TimestampRule {
    fn check(&self, timestamp: &[u8], now: UnixTime) -> Result<(), Refusal> {
        // Digits only: `parse` accepts a sign, and the compared number must be the signed one. 12 digits last until the year
        // 33,658.
        let digits = (1..=12).contains(&timestamp.len()) && timestamp.iter().all(u8::is_ascii_digit);
        let seconds: u64 =
            std::str::from_utf8(timestamp).ok().filter(|_| digits).and_then(|text| text.parse().ok()).ok_or_else(
                || {
                    Refusal::new(
                        Reject::SignatureMalformed,
                        "The signed timestamp is not a whole number of seconds since 1970.",
                    )
                },
            )?;
        let now = now.as_secs();
        if now.abs_diff(seconds) > self.tolerance_seconds {
            let (distance, direction) = (now.abs_diff(seconds), if seconds < now { "past" } else { "future" });
            let detail = format!(
                "The signed timestamp is {distance} s in the {direction}, and the limit is {} s. Check the clocks of the \
                 sender and of this host.",
                self.tolerance_seconds
            );
            return Err(Refusal::new(Reject::TimestampOutsideWindow, detail));
        }
        Ok(())
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
