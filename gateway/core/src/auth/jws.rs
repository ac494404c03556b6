//! JSON Web Signatures in compact serialization (RFC 7515, section 7.1), verified with `ring`.
//!
//! Owns the form of a token and the verification of its signature. Must not judge claims: `token` does.
//!
//! Why not a JWT crate: of the maintained ones, `jsonwebtoken` reads the clock inside its validation, ignores `crit` (a MUST of
//! RFC 7515, section 4.1.11), calls its cryptography through a process-wide provider that panics if none is installed, and has no
//! `ring` backend. The others bring a second cryptography library. `ring` verifies, `data-encoding` decodes and `serde_json`
//! parses, so this file only splits a token at two dots.

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny};

use super::json_member::{Member, WrongType};
use super::public_key::{MAX_SIGNATURE_BYTES, SignatureAlgorithm};
use super::request_view::Quoted;
use super::token_keys::KeySet;
use crate::reject::{Refusal, Reject};

/// Longest token, in bytes. A token of Google has about 1,000. A request head of 16 KiB holds at most two tokens of this length.
pub(super) const MAX_TOKEN_BYTES: usize = 8192;

/// Longest protected header, in bytes when decoded. `alg`, `kid` and `typ` need about 100.
pub(super) const MAX_HEADER_BYTES: usize = 1024;

/// Longest payload, in bytes when decoded.
pub(super) const MAX_PAYLOAD_BYTES: usize = MAX_TOKEN_BYTES / 4 * 3;

/// The protected header. Other members are ignored (RFC 7515, section 4.2). A second copy of one of these is an error.
#[derive(Deserialize)]
struct Header<'document> {
    #[serde(borrow, default)]
    alg: Member<'document>,
    #[serde(borrow, default)]
    kid: Member<'document>,
    #[serde(borrow, default)]
    typ: Member<'document>,
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

fn present<'document, D: Deserializer<'document>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// Verifies that a key of `keys` signed `token`, and returns its payload, decoded into `buffer`. The buffer is the caller's, so
/// that a token needs no allocation.
///
/// # Errors
///
/// `token_malformed`, `token_is_access_token`, `token_unknown_key` or `token_bad_signature`.
pub(super) fn verify<'buffer>(
    token: &[u8],
    keys: &KeySet,
    buffer: &'buffer mut [u8; MAX_PAYLOAD_BYTES],
) -> Result<&'buffer [u8], Refusal> {
    let compact = split(token)?;
    let mut header_buffer = [0; MAX_HEADER_BYTES];
    let header = decode(compact.header, &mut header_buffer)
        .ok_or_else(|| malformed("its header is not base64url, or is too long"))?;
    let header: Header<'_> = object(header, "header", "alg, kid, typ or crit").map_err(|what| malformed(&what))?;
    check_type(&header)?;

    let mut signature_buffer = [0; MAX_SIGNATURE_BYTES];
    let signature = decode(compact.signature, &mut signature_buffer)
        .ok_or_else(|| malformed("its signature is not base64url, or is too long"))?;
    check_signature(&header, compact.signed, signature, keys)?;
    decode(compact.payload, buffer).ok_or_else(|| malformed("its payload is not base64url"))
}

/// `header.payload.signature`, not decoded, and the signed bytes: `header.payload`.
struct Compact<'token> {
    header: &'token [u8],
    payload: &'token [u8],
    signature: &'token [u8],
    signed: &'token [u8],
}

fn split(token: &[u8]) -> Result<Compact<'_>, Refusal> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(malformed(&format!("it has {} bytes, and the limit is {MAX_TOKEN_BYTES}", token.len())));
    }
    // The prefix of Google's OAuth access tokens. They are opaque, so they do not prove who sent them.
    if token.starts_with(b"ya29.") {
        let detail = "The token is a Google access token (ya29.…). Configure the webhook to send an ID token.";
        return Err(Refusal::new(Reject::TokenIsAccessToken, detail));
    }
    let mut parts = token.split(|&byte| byte == b'.');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(header), Some(payload), Some(signature), None) => {
            let signed = &token[..header.len() + 1 + payload.len()];
            Ok(Compact { header, payload, signature, signed })
        }
        (_, _, Some(_), Some(_)) => {
            Err(malformed("it has more than three parts, and encrypted tokens are not accepted"))
        }
        _ => Err(malformed("it has fewer than the three parts of a signed JSON Web Token")),
    }
}

pub(super) fn decode<'buffer>(part: &[u8], buffer: &'buffer mut [u8]) -> Option<&'buffer [u8]> {
    let length = BASE64URL_NOPAD.decode_len(part.len()).ok()?;
    let decoded = buffer.get_mut(..length)?;
    BASE64URL_NOPAD.decode_mut(part, decoded).ok()?;
    Some(decoded)
}

fn check_type(header: &Header<'_>) -> Result<(), Refusal> {
    if header.crit {
        return Err(malformed("its header has \"crit\", and no extension is supported"));
    }
    // RFC 8725, section 3.11: a token of another explicit type is not an ID token. RFC 9068: the type of an access token is at+jwt.
    let Some(typ) = header.typ.text("typ").map_err(wrong_type)? else { return Ok(()) };
    // RFC 7515, section 4.1.9: a type without a slash is short for one that begins with "application/".
    const PREFIX: &str = "application/";
    let short = match typ.split_at_checked(PREFIX.len()) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case(PREFIX) => rest,
        _ => typ,
    };
    match short {
        short if short.eq_ignore_ascii_case("JWT") => Ok(()),
        short if short.eq_ignore_ascii_case("at+jwt") => {
            let detail =
                "The token is an OAuth access token (\"typ\" is at+jwt). Configure the webhook to send an ID token.";
            Err(Refusal::new(Reject::TokenIsAccessToken, detail))
        }
        _ => Err(malformed(&format!("its \"typ\" is {}, not JWT", Quoted(typ.as_bytes())))),
    }
}

/// Finds the key only by `kid`. `alg` must then be the algorithm of that key, so a token never chooses how it is verified.
fn check_signature(header: &Header<'_>, signed: &[u8], signature: &[u8], keys: &KeySet) -> Result<(), Refusal> {
    let kid = header.kid.text("kid").map_err(wrong_type)?;
    let alg = header.alg.text("alg").map_err(wrong_type)?.ok_or_else(|| malformed("its header has no \"alg\""))?;
    let mut expected = None;
    for key in keys.candidates(kid) {
        expected = Some(key.algorithm());
        if is_named(key.algorithm(), alg) && key.verifies(signed, signature) {
            return Ok(());
        }
    }
    let Some(expected) = expected else {
        let detail = match kid {
            Some(kid) => format!("No key of the issuer has the token's \"kid\" {}.", Quoted(kid.as_bytes())),
            None => format!("The token has no \"kid\", and the issuer has {} keys.", keys.usable_keys()),
        };
        return Err(Refusal::new(Reject::TokenUnknownKey, detail));
    };
    let detail = if is_named(expected, alg) {
        "The token's signature does not verify with the issuer's key: another key signed it, or the token was altered."
            .to_owned()
    } else {
        format!("The token's \"alg\" is {}, and its key is for {}.", Quoted(alg.as_bytes()), expected.jose_name())
    };
    Err(Refusal::new(Reject::TokenBadSignature, detail))
}

/// Whether `alg` of a header is a name of this algorithm.
pub(super) fn is_named(algorithm: SignatureAlgorithm, alg: &str) -> bool {
    SignatureAlgorithm::of_jose_name(alg).is_some_and(|named| named.is_like(algorithm))
}

/// Reads a JSON object. `part` is the part of a token that is read, and `members` are those that may not occur twice.
///
/// # Errors
///
/// What is wrong with the object, as a clause. Quotes nothing of it.
pub(super) fn object<'document, T: Deserialize<'document>>(
    document: &'document [u8],
    part: &str,
    members: &str,
) -> Result<T, String> {
    // serde reads a structure out of an array, too, by the places of its elements.
    if document.trim_ascii_start().first() != Some(&b'{') {
        return Err(format!("its {part} is not a JSON object"));
    }
    serde_json::from_slice(document).map_err(|error| match error.is_data() {
        true => format!("its {part} has one of {members} twice"),
        false => format!("its {part} is not well-formed JSON (line {}, column {})", error.line(), error.column()),
    })
}

fn wrong_type(error: WrongType) -> Refusal {
    malformed(&format!("its {error}"))
}

pub(super) fn malformed(what: &str) -> Refusal {
    Refusal::new(Reject::TokenMalformed, format!("The token cannot be read: {what}."))
}
