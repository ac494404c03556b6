//! Signatures of a message that a template describes: where they and its pieces stand, and their comparison.
//!
//! Owns the values of a signature field, the pieces of the message, and its timestamp. Must not know how keys are found: `public_key` does.

use http::header::HeaderName;
use ring::{digest, hmac, signature};
use rustls_pki_types::UnixTime;
use subtle::ConstantTimeEq;

use super::public_key::{Attempt, SignatureKeys};
use super::{Encoding, MAX_ATTEMPTS, MAX_VALUES, field};
use crate::auth::message_template::{MessageParts, MessageTemplate};
use crate::auth::proof_policy::Unproven;
use crate::auth::public_key::MAX_SIGNATURE_BYTES;
use crate::auth::request_view::RequestView;
use crate::auth::strength::{Aspect, Aspects, KeyAspects, SECRET_BYTES};
use crate::auth::token_keys::KeySets;
use crate::reject::{Refusal, Reject};

/// RFC 8032, section 5.1.6.
const ED25519_SIGNATURE_BYTES: usize = 64;

/// Longest signature by a secret, in bytes: HMAC-SHA-512, and the ed25519 of Standard Webhooks.
const MAX_TAG_BYTES: usize = 64;

/// The rule of a signature field whose values sign one message.
#[derive(Debug)]
pub(super) struct MessageRule {
    pub(super) header: HeaderName,
    pub(super) separator: Option<u8>,
    pub(super) verification: Verification,
    pub(super) message: MessageTemplate,
    pub(super) id_header: Option<HeaderName>,
    pub(super) timestamp: Option<TimestampRule>,
}

/// What can have made a signature.
#[derive(Debug)]
pub(super) enum Verification {
    Secrets(Box<[Verifier]>),
    PublicKeys { prefix: Box<[u8]>, encoding: Encoding, keys: SignatureKeys, key_id_header: Option<HeaderName> },
}

#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) prefix: Box<[u8]>,
    pub(super) encoding: Encoding,
    pub(super) key: VerifierKey,
    /// The length of the secret or public key.
    pub(super) key_bytes: usize,
}

#[derive(Debug)]
pub(super) enum VerifierKey {
    Hmac(hmac::Key),
    Ed25519([u8; 32]),
}

#[derive(Debug)]
pub(super) struct TimestampRule {
    pub(super) place: Place,
    pub(super) tolerance_seconds: u64,
}

#[derive(Debug)]
pub(super) enum Place {
    Header(HeaderName),
    Value(Box<[u8]>),
}

impl MessageRule {
    /// What it demands.
    pub(super) fn aspects(&self, keys: &KeyAspects<'_>) -> Aspects {
        let mut aspects = match &self.verification {
            Verification::Secrets(verifiers) => secret_aspects(verifiers),
            Verification::PublicKeys { keys: own, .. } => own.aspects(keys),
        };
        let covered = self.message.covered().filter(|piece| *piece != "body");
        aspects.extend(covered.map(|piece| (format!("{{{piece}}} in message"), Aspect::Demanded)));
        if let Some(rule) = &self.timestamp {
            aspects.insert("tolerance_s".to_owned(), Aspect::AtMost(rule.tolerance_seconds));
        }
        aspects
    }

    pub(super) fn check(&self, request: &RequestView<'_>, keys: &KeySets) -> Result<(), Unproven> {
        let (values, parts) = self.parts(request)?;
        if let Some(rule) = &self.timestamp {
            rule.check(parts.timestamp, request.received_at)?;
        }
        let nearest = match &self.verification {
            Verification::Secrets(verifiers) => {
                let mut nearest = Nearest::NoValue;
                for verifier in verifiers {
                    nearest = nearest.max(verifier.check(self.split(values), &self.message, &parts));
                    if nearest == Nearest::Match {
                        return Ok(());
                    }
                }
                nearest
            }
            Verification::PublicKeys { prefix, encoding, keys: own, key_id_header } => {
                let id = match key_id_header {
                    Some(name) => Some(own.id(field(request, name)?)?),
                    None => None,
                };
                let attempt = own.attempt(keys, request.received_at, id)?;
                let candidates = self.split(values).filter_map(|value| value.strip_prefix(&**prefix));
                let nearest = self.try_keys(&attempt, candidates, *encoding, &parts)?;
                match nearest {
                    Nearest::Match => return Ok(()),
                    Nearest::Mismatch => return Err(attempt.mismatch(&self.header)),
                    Nearest::NoValue | Nearest::Undecodable => nearest,
                }
            }
        };
        Err(self.refusal(nearest).into())
    }

    pub(super) fn digest(&self, request: &RequestView<'_>) -> Result<digest::Digest, Refusal> {
        let (_, parts) = self.parts(request)?;
        Ok(self.message.digest(&parts))
    }

    fn refusal(&self, nearest: Nearest) -> Refusal {
        let header = &self.header;
        match nearest {
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
                    "No signature in the field {header} matches: the sender signed with another secret, or the request was altered; sign what \
                     is sent, byte by byte, with the secret that the receiver has."
                );
                Refusal::new(Reject::SignatureMismatch, detail)
            }
        }
    }

    /// The nearest of all values to a signature by one of the keys.
    fn try_keys<'request>(
        &self,
        attempt: &Attempt<'_>,
        candidates: impl Iterator<Item = &'request [u8]> + Clone,
        encoding: Encoding,
        parts: &MessageParts<'_>,
    ) -> Result<Nearest, Refusal> {
        let keys = attempt.signers().count();
        if candidates.clone().count().saturating_mul(keys) > MAX_ATTEMPTS {
            let detail = format!(
                "The field {} has too many values: with {keys} keys, at most {} are tried.",
                self.header,
                MAX_ATTEMPTS / keys.max(1)
            );
            return Err(Refusal::new(Reject::SignatureMalformed, detail));
        }
        // In one piece, as ring takes it, and of the right size, so that it is copied once.
        let mut length = 0;
        self.message.write(parts, &mut |bytes| length += bytes.len());
        let mut signed = Vec::with_capacity(length);
        self.message.write(parts, &mut |bytes| signed.extend_from_slice(bytes));
        let judge = |candidate: &[u8]| {
            // Base64 decodes into a multiple of three bytes, then removes the padding.
            let mut buffer = [0; MAX_SIGNATURE_BYTES + 2];
            match encoding.decode(candidate, &mut buffer) {
                Some(presented) if attempt.verifies(&signed, presented) => Nearest::Match,
                Some(presented) if !presented.is_empty() => Nearest::Mismatch,
                _ => Nearest::Undecodable,
            }
        };
        Ok(candidates.map(judge).max().unwrap_or(Nearest::NoValue))
    }

    /// The signature field, and the variable pieces of the message.
    fn parts<'request>(
        &self,
        request: &RequestView<'request>,
    ) -> Result<(&'request [u8], MessageParts<'request>), Refusal> {
        let values = field(request, &self.header)?;
        let id = match &self.id_header {
            Some(name) => delivery_id(request, name)?,
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
        if self.message.has_other_width(timestamp) {
            let detail = "The signed timestamp does not have the number of digits that the signed message needs.";
            return Err(Refusal::new(Reject::SignatureMalformed, detail));
        }
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

/// The id of the delivery. An empty one tells no delivery from another, so a sender that signs it has a fault.
fn delivery_id<'request>(request: &RequestView<'request>, name: &HeaderName) -> Result<&'request [u8], Refusal> {
    let id = field(request, name)?;
    if id.is_empty() {
        let detail = format!("The field {name} is empty, and the delivery needs an id; the sender must write one.");
        return Err(Refusal::new(Reject::SignatureMalformed, detail));
    }
    Ok(id)
}

fn secret_aspects(verifiers: &[Verifier]) -> Aspects {
    let bits = |verifier: &Verifier| match &verifier.key {
        VerifierKey::Hmac(key) => key.algorithm().digest_algorithm().output_len() as u64 * 8,
        VerifierKey::Ed25519(_) => 256,
    };
    let key_bytes = |verifier: &Verifier| verifier.key_bytes.min(SECRET_BYTES) as u64;
    let least = |of: &dyn Fn(&Verifier) -> u64| verifiers.iter().map(of).min().unwrap_or(0);
    Aspects::from([
        ("bits of the hash".to_owned(), Aspect::AtLeast(least(&bits))),
        ("bytes of the shortest secret".to_owned(), Aspect::AtLeast(least(&key_bytes))),
    ])
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
            let mut buffer = [0; MAX_TAG_BYTES + 2];
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
