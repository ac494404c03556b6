//! Detached JSON Web Signatures in compact serialization (RFC 7515, appendix F), with an encoded or an unencoded payload (RFC 7797).
//!
//! Owns the form of the field and the bytes that it signs. A header parameter that could change these and is not understood is refused.

use data_encoding::BASE64URL_NOPAD;
use http::header::HeaderName;
use ring::digest;
use serde::Deserialize;
use serde::de::Deserializer;

use super::public_key::SignatureKeys;
use super::{MAX_ATTEMPTS, field};
use crate::auth::json_member::{Member, WrongType};
use crate::auth::jws::{self, MAX_HEADER_BYTES};
use crate::auth::proof_policy::Unproven;
use crate::auth::public_key::MAX_SIGNATURE_BYTES;
use crate::auth::request_view::{Quoted, RequestView};
use crate::auth::token_keys::KeySets;
use crate::reject::{Refusal, Reject};

/// The rule of a field with a detached JWS.
#[derive(Debug)]
pub(super) struct DetachedJws {
    header: HeaderName,
    keys: SignatureKeys,
}

/// The protected header. Other members are ignored (RFC 7515, section 4.2). A second copy of one of these is an error.
#[derive(Deserialize)]
struct Header<'document> {
    #[serde(borrow, default)]
    alg: Member<'document>,
    #[serde(borrow, default)]
    kid: Member<'document>,
    #[serde(borrow, default)]
    b64: Member<'document>,
    #[serde(borrow, default, deserialize_with = "present")]
    crit: Option<Member<'document>>,
}

/// A member that is there. `null` is no absence of a list that must not be overlooked.
fn present<'document, D: Deserializer<'document>>(deserializer: D) -> Result<Option<Member<'document>>, D::Error> {
    Member::deserialize(deserializer).map(Some)
}

/// The parts of the field.
struct Compact<'request> {
    /// The header, still encoded.
    encoded: &'request [u8],
    signature: &'request [u8],
}

impl DetachedJws {
    pub(super) fn new(header: HeaderName, keys: SignatureKeys) -> Self {
        Self { header, keys }
    }

    pub(super) fn header(&self) -> &HeaderName {
        &self.header
    }

    pub(super) fn keys(&self) -> &SignatureKeys {
        &self.keys
    }

    pub(super) fn check(&self, request: &RequestView<'_>, sets: &KeySets) -> Result<(), Unproven> {
        let compact = self.split(request)?;
        let mut header_buffer = [0; MAX_HEADER_BYTES];
        let header = self.parse(compact.encoded, &mut header_buffer)?;
        let wrong_type = |error: WrongType| self.malformed(&format!("its {error}"));
        let alg = header.alg.text("alg").map_err(wrong_type)?;
        let alg = alg.ok_or_else(|| self.malformed("its header has no \"alg\""))?;
        let kid = header.kid.text("kid").map_err(wrong_type)?;
        let message = signed(compact.encoded, self.is_encoded(&header)?, request.body);

        let mut buffer = [0; MAX_SIGNATURE_BYTES];
        let signature = jws::decode(compact.signature, &mut buffer)
            .ok_or_else(|| self.malformed("its signature is not base64url, or is too long"))?;
        let attempt = self.keys.attempt(sets, request.received_at, kid)?;
        if attempt.signers().count() > MAX_ATTEMPTS {
            return Err(self.malformed("it does not name its key, and the sender has too many to try all").into());
        }
        let (mut expected, mut tried) = (None, false);
        for (key, algorithm) in attempt.signers() {
            if !jws::is_named(algorithm, alg) {
                expected = expected.or(Some(algorithm));
            } else if key.material().verifies(algorithm, &message, signature) {
                return Ok(());
            } else {
                tried = true;
            }
        }
        if tried {
            return Err(attempt.mismatch(&self.header));
        }
        let expected = expected.map_or("another algorithm", |algorithm| algorithm.jose_name());
        let detail = format!(
            "The \"alg\" of the signature is {}, and its key is for {expected}; sign with the algorithm of the key.",
            Quoted(alg.as_bytes())
        );
        Err(Refusal::new(Reject::SignatureMismatch, detail).into())
    }

    /// The SHA-256 of the signed bytes. The header belongs to them, and no other text of it has the same signature.
    pub(super) fn digest(&self, request: &RequestView<'_>) -> Result<digest::Digest, Refusal> {
        let compact = self.split(request)?;
        let mut buffer = [0; MAX_HEADER_BYTES];
        let header = self.parse(compact.encoded, &mut buffer)?;
        let message = signed(compact.encoded, self.is_encoded(&header)?, request.body);
        Ok(digest::digest(&digest::SHA256, &message))
    }

    fn split<'request>(&self, request: &RequestView<'request>) -> Result<Compact<'request>, Refusal> {
        let value = field(request, &self.header)?;
        let mut parts = value.split(|&byte| byte == b'.');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(encoded), Some([]), Some(signature), None) => Ok(Compact { encoded, signature }),
            (_, Some(_), Some(_), None) => Err(self.malformed("its payload is not left out: the payload is the body")),
            _ => Err(self.malformed("it does not have the three parts of a JSON Web Signature")),
        }
    }

    fn parse<'buffer>(
        &self,
        encoded: &[u8],
        buffer: &'buffer mut [u8; MAX_HEADER_BYTES],
    ) -> Result<Header<'buffer>, Refusal> {
        let header = jws::decode(encoded, buffer)
            .ok_or_else(|| self.malformed("its header is not base64url, or is too long"))?;
        jws::object(header, "header", "alg, kid, b64 or crit").map_err(|what| self.malformed(&what))
    }

    /// Whether the signed payload is the body in base64url. `b64` counts only if `crit` names it (RFC 7797, section 6), and `crit` must
    /// name nothing else, since nothing else is understood (RFC 7515, section 4.1.11).
    fn is_encoded(&self, header: &Header<'_>) -> Result<bool, Refusal> {
        let is_critical = match &header.crit {
            None => false,
            Some(Member::Texts(names)) => match names.as_slice() {
                [name] if name == "b64" => true,
                _ => return Err(self.malformed("its \"crit\" is not [\"b64\"], and no other extension is supported")),
            },
            Some(_) => return Err(self.malformed("its \"crit\" is not a list of names")),
        };
        match (&header.b64, is_critical) {
            (Member::Absent, false) => Ok(true),
            (Member::Absent, true) => Err(self.malformed("its \"crit\" names \"b64\", which is missing")),
            (Member::Boolean(true), _) => Ok(true),
            (Member::Boolean(false), true) => Ok(false),
            (Member::Boolean(false), false) => {
                Err(self.malformed("its \"b64\" is false, and \"crit\" does not name it"))
            }
            _ => Err(self.malformed("its \"b64\" is not a Boolean")),
        }
    }

    fn malformed(&self, what: &str) -> Refusal {
        let detail = format!("The signature in the field {} cannot be read: {what}.", self.header);
        Refusal::new(Reject::SignatureMalformed, detail)
    }
}

/// The JWS Signing Input (RFC 7515, section 5.1; RFC 7797, section 3).
fn signed(header: &[u8], is_encoded: bool, body: &[u8]) -> Vec<u8> {
    let payload = if is_encoded { BASE64URL_NOPAD.encode_len(body.len()) } else { body.len() };
    let mut message = Vec::with_capacity(header.len() + 1 + payload);
    message.extend_from_slice(header);
    message.push(b'.');
    if is_encoded {
        let start = message.len();
        message.resize(start + payload, 0);
        BASE64URL_NOPAD.encode_mut(body, &mut message[start..]);
    } else {
        message.extend_from_slice(body);
    }
    message
}
