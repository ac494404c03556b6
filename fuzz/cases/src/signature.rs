//! Target `signature`: the form of a body signature, and two requests that are signed by it.
//!
//! Input: a byte that selects encoding and place, a template, and two requests, separated by 0x1e. A request is an id, a timestamp, a
//! path, a body and a signature field, separated by 0x1f.

use std::sync::Arc;

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use hookgate_core::auth::body_signature::{Encoding, HmacHash, SignatureForm, TimestampPlace};
use hookgate_core::auth::{BodySignature, Clause, KeySets, Proof, ProofPolicy, ReplayGuard, RequestView, Secret};
use http::Method;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use ring::hmac;

use crate::policy::NOW;

const SECRET: &[u8] = b"an open secret of 32 bytes, fine";
const SIGNATURE: HeaderName = HeaderName::from_static("x-signature");
const ID: HeaderName = HeaderName::from_static("x-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("x-timestamp");
const PREFIX: &str = "v1=";
const URL: &str = "https://hooks.example/a?b=1";

/// The pieces of a request that a message can contain.
#[derive(Clone, Copy, Debug)]
struct Request<'i> {
    id: &'i [u8],
    timestamp: &'i [u8],
    path: &'i [u8],
    body: &'i [u8],
    /// A signature field of the peer's own.
    forged: &'i [u8],
}

/// Signs both requests by an independent rendering of the template. A signature for one of them must not pass for the other, and a
/// field of the peer's own must pass only if it holds the right signature.
pub fn judge(input: &[u8]) {
    let Some((selector, rest)) = input.split_first() else { return };
    let mut parts = rest.splitn(3, |byte| *byte == 0x1e);
    let (Some(template), Some(one), Some(other)) = (parts.next(), parts.next(), parts.next()) else { return };
    let Ok(template) = std::str::from_utf8(template) else { return };
    let (one, other) = (request(one), request(other));
    let encoding = [Encoding::Hex, Encoding::Base64, Encoding::Base64Url][usize::from(*selector) % 3];
    let form = SignatureForm {
        header: SIGNATURE.as_str().to_owned(),
        separator: (*selector & 0x40 == 0).then_some(','),
        prefix: PREFIX.to_owned(),
        encoding,
        message: template.to_owned(),
        timestamp: (template.contains("{timestamp}") || template.contains("{timestamp:10}"))
            .then(|| TimestampPlace::Header(TIMESTAMP.as_str().to_owned())),
        tolerance_seconds: 300,
        id_header: template.contains("{id}").then(|| ID.as_str().to_owned()),
        url: template.contains("{url}").then(|| URL.to_owned()),
    };
    let secret = Secret::new(SECRET.to_vec()).expect("32 bytes are a secret");
    let Ok(rule) = BodySignature::hmac(&form, HmacHash::Sha256, &[secret]) else { return };
    let policy = ProofPolicy::all(vec![Clause::One(Proof::Signature(rule))]).expect("one clause makes a policy");
    let passes = |request: &Request<'_>, signature: &[u8]| check(&policy, request, signature);
    let (for_one, for_other) = (sign(template, &one, encoding), sign(template, &other, encoding));
    // A request alone can be one that hookgate refuses whatever its signature: that is how ids are kept apart from their ends.
    if passes(&one, &for_one) && passes(&other, &for_other) && (passes(&one, &for_other) || passes(&other, &for_one)) {
        assert!(are_alike(template, &one, &other), "{template:?}: one signature for {one:?} and {other:?}");
    }
    for (request, signature) in [(&one, &for_one), (&other, &for_other)] {
        if passes(request, request.forged) {
            assert!(contains(request.forged, signature, encoding), "a forged signature passed");
        }
    }
}

fn request(input: &[u8]) -> Request<'_> {
    let mut pieces = input.splitn(5, |byte| *byte == 0x1f);
    let mut next = || pieces.next().unwrap_or_default();
    Request { id: next(), timestamp: next(), path: next(), body: next(), forged: next() }
}

/// The message of a request, by replacing every piece of the template.
fn message(template: &str, request: &Request<'_>) -> Vec<u8> {
    let mut message = Vec::new();
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        let close = rest[open..].find('}').map_or(rest.len(), |close| open + close + 1);
        message.extend_from_slice(&rest.as_bytes()[..open]);
        message.extend_from_slice(match &rest[open..close] {
            "{id}" => request.id,
            "{timestamp}" | "{timestamp:10}" => request.timestamp,
            "{url}" => URL.as_bytes(),
            "{method}" => b"POST",
            "{path}" => request.path,
            _ => request.body,
        });
        rest = &rest[close..];
    }
    message.extend_from_slice(rest.as_bytes());
    message
}

fn sign(template: &str, request: &Request<'_>, encoding: Encoding) -> Vec<u8> {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), &message(template, request));
    let text = match encoding {
        Encoding::Hex => HEXLOWER.encode(tag.as_ref()),
        Encoding::Base64 => BASE64.encode(tag.as_ref()),
        Encoding::Base64Url => BASE64URL_NOPAD.encode(tag.as_ref()),
    };
    format!("{PREFIX}{text}").into_bytes()
}

/// Whether the field holds this signature. Hexadecimal digits have no case.
fn contains(field: &[u8], signature: &[u8], encoding: Encoding) -> bool {
    field.windows(signature.len()).any(|window| match encoding {
        Encoding::Hex => window.eq_ignore_ascii_case(signature),
        Encoding::Base64 | Encoding::Base64Url => window == signature,
    })
}

fn check(policy: &ProofPolicy, request: &Request<'_>, signature: &[u8]) -> bool {
    let Some(path) = std::str::from_utf8(request.path).ok().filter(|path| PathAndQuery::try_from(*path).is_ok()) else {
        return false;
    };
    // What hyper makes of a target begins with a slash.
    if !path.starts_with('/') {
        return false;
    }
    let mut headers = HeaderMap::new();
    for (name, value) in [(SIGNATURE, signature), (ID, request.id), (TIMESTAMP, request.timestamp)] {
        // hyper removes white space around a value (RFC 9110, section 5.5).
        let Ok(value) = HeaderValue::from_bytes(value) else { return false };
        if value.as_bytes().trim_ascii() != value.as_bytes() {
            return false;
        }
        headers.insert(name, value);
    }
    let view = RequestView { method: &Method::POST, path, headers: &headers, body: request.body, received_at: NOW };
    match policy.check(&view, &KeySets::empty(0), &Arc::new(ReplayGuard::new(1))) {
        Ok(_) => true,
        Err(unproven) => {
            assert_eq!(unproven.refusal.reject.row().status, 403, "{}", unproven.refusal);
            false
        }
    }
}

/// Whether the requests have the same pieces, of those that the template names.
fn are_alike(template: &str, one: &Request<'_>, other: &Request<'_>) -> bool {
    let is_same = |piece: &str, one: &[u8], other: &[u8]| !template.contains(piece) || one == other;
    is_same("{id}", one.id, other.id)
        && is_same("{timestamp}", one.timestamp, other.timestamp)
        && is_same("{timestamp:10}", one.timestamp, other.timestamp)
        && is_same("{path}", one.path, other.path)
        && is_same("{body}", one.body, other.body)
}
