//! JSON Web Signatures in compact serialization (RFC 7515, section 7.1), verified with `ring`.
//!
//! Owns the form of a token and the verification of its signature. Must not judge claims: `token` does.
//!
//! Why not a JWT crate: of those that are kept, `jsonwebtoken` reads the clock inside its validation, ignores `crit`
//! (which RFC 7515, section 4.1.11, makes a MUST), reaches its cryptography through a process-wide provider that panics
//! where none is installed, and has no `ring` backend; the others bring a second cryptography library. What is left for
//! this file to do, once `ring` verifies, `data-encoding` decodes and `serde_json` parses, is to cut at two dots.

use std::borrow::Cow;

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny};

use super::keys::KeySet;
use super::request::Quoted;
use crate::reject::{Refusal, Reject};

/// Longest token, in bytes. Google's have about 1,000; a request head of 16 KiB would hold no more than two of these.
pub(super) const MAX_TOKEN_BYTES: usize = 8192;

/// Longest protected header, decoded: `alg`, `kid` and `typ` need about 100 bytes.
const MAX_HEADER_BYTES: usize = 1024;

/// Longest signature, decoded: RSA with 8192 bits.
const MAX_SIGNATURE_BYTES: usize = 1024;

/// Where a payload is decoded to; on the caller's stack, so that a token costs no allocation.
pub(super) type PayloadBuffer = [u8; MAX_TOKEN_BYTES / 4 * 3];

/// A string that borrows from the document where it has no escapes.
#[derive(Deserialize)]
pub(super) struct Text<'document>(#[serde(borrow)] pub(super) Cow<'document, str>);

/// The protected header. Every other member is ignored (RFC 7515, section 4.2), a second copy of one of these is an error.
#[derive(Deserialize)]
struct Header<'document> {
    #[serde(borrow)]
    alg: Text<'document>,
    #[serde(borrow)]
    kid: Option<Text<'document>>,
    #[serde(borrow)]
    typ: Option<Text<'document>>,
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

fn present<'document, D: Deserializer<'document>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// Verifies that `token` was signed by a key of `keys`, and returns its payload.
///
/// # Errors
///
/// `token_malformed`, `token_is_access_token`, `token_unknown_key` or `token_bad_signature`.
pub(super) fn verify<'buffer>(
    token: &[u8],
    keys: &KeySet,
    buffer: &'buffer mut PayloadBuffer,
) -> Result<&'buffer [u8], Refusal> {
    let compact = split(token)?;
    let mut header_buffer = [0; MAX_HEADER_BYTES];
    let header = decode(compact.header, &mut header_buffer).ok_or_else(|| malformed("its header is not base64url"))?;
    let header: Header<'_> = serde_json::from_slice(header).map_err(|error| {
        malformed(&format!("its header is not a JWS header, line {} column {}", error.line(), error.column()))
    })?;
    check_type(&header)?;

    let mut signature_buffer = [0; MAX_SIGNATURE_BYTES];
    let signature =
        decode(compact.signature, &mut signature_buffer).ok_or_else(|| malformed("its signature is not base64url"))?;
    check_signature(&header, compact.signed, signature, keys)?;
    decode(compact.payload, buffer).ok_or_else(|| malformed("its payload is not base64url"))
}

/// `header.payload.signature`, still encoded, and the first two as they were signed.
struct Compact<'token> {
    header: &'token [u8],
    payload: &'token [u8],
    signature: &'token [u8],
    signed: &'token [u8],
}

fn split(token: &[u8]) -> Result<Compact<'_>, Refusal> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(malformed(&format!("it has {} bytes, more than {MAX_TOKEN_BYTES}", token.len())));
    }
    // Google's OAuth access tokens begin so; they are opaque, and prove nothing about who sent them.
    if token.starts_with(b"ya29.") {
        let detail = "the token is a Google access token (ya29.…); configure the webhook to send an ID token";
        return Err(Refusal::new(Reject::TokenIsAccessToken, detail));
    }
    let mut parts = token.split(|&byte| byte == b'.');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(header), Some(payload), Some(signature), None) => {
            let signed = &token[..header.len() + 1 + payload.len()];
            Ok(Compact { header, payload, signature, signed })
        }
        (_, _, Some(_), Some(_)) => Err(malformed("it has more than three parts; encrypted tokens are not accepted")),
        _ => Err(malformed("it does not have the three parts of a signed JSON Web Token")),
    }
}

fn decode<'buffer>(part: &[u8], buffer: &'buffer mut [u8]) -> Option<&'buffer [u8]> {
    let length = BASE64URL_NOPAD.decode_len(part.len()).ok()?;
    let decoded = buffer.get_mut(..length)?;
    BASE64URL_NOPAD.decode_mut(part, decoded).ok()?;
    Some(decoded)
}

fn check_type(header: &Header<'_>) -> Result<(), Refusal> {
    if header.crit {
        return Err(malformed("its header demands extensions (\"crit\"), and none is understood"));
    }
    // RFC 8725, section 3.11: a token of another explicit type is not an ID token. RFC 9068 names that of access tokens.
    match header.typ.as_ref().map(|typ| &*typ.0) {
        None => Ok(()),
        Some(typ) if typ.eq_ignore_ascii_case("JWT") => Ok(()),
        Some(typ) if typ.eq_ignore_ascii_case("at+jwt") || typ.eq_ignore_ascii_case("application/at+jwt") => {
            Err(Refusal::new(Reject::TokenIsAccessToken, "the token is an OAuth access token (\"typ\" is at+jwt)"))
        }
        Some(other) => Err(malformed(&format!("its \"typ\" is {} and not JWT", Quoted(other.as_bytes())))),
    }
}

/// The key is found by `kid` alone; then `alg` must be the key's own. A token thus never chooses how it is verified.
fn check_signature(header: &Header<'_>, signed: &[u8], signature: &[u8], keys: &KeySet) -> Result<(), Refusal> {
    let kid = header.kid.as_ref().map(|kid| &*kid.0);
    let mut expected = None;
    for key in keys.candidates(kid) {
        expected = Some(key.algorithm());
        if key.algorithm().name() == header.alg.0 && key.verifies(signed, signature) {
            return Ok(());
        }
    }
    let Some(expected) = expected else {
        let detail = match kid {
            Some(kid) => format!("the issuer's keys do not include {}", Quoted(kid.as_bytes())),
            None => format!("the token names no key (\"kid\") and the issuer has {}", keys.usable_keys()),
        };
        return Err(Refusal::new(Reject::TokenUnknownKey, detail));
    };
    let detail = if expected.name() == header.alg.0 {
        "the signature was not made by the issuer's key, or the token was altered".to_owned()
    } else {
        format!("the token says {}, and its key is for {}", Quoted(header.alg.0.as_bytes()), expected.name())
    };
    Err(Refusal::new(Reject::TokenBadSignature, detail))
}

fn malformed(what: &str) -> Refusal {
    Refusal::new(Reject::TokenMalformed, format!("the token cannot be read: {what}"))
}
