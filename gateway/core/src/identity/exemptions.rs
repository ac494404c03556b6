//! Rules that webpki enforces more widely than RFC 5280.
//!
//! - A self-issued authority (its subject is its issuer's name, for example while an authority changes its key) does not count for
//!   pathLenConstraint (section 6.1.4 (l)), and constraints do not bind its names (section 6.1.3 (b)).
//! - A certificate with cA may stand at the end of a path. hookgate takes one that is its own trust anchor: a client that is self-signed
//!   has cA unless its maker avoided it. Any other could certify the names of the clients beside it, so that `requirements` refuses it.
//!
//! Owns the decision that a chain needs one of them, and what webpki must not see for that. `spelling` leaves it out of the certificates
//! that webpki gets, and `requirements` checks every path length itself. What has another form than expected stays, and webpki judges it.

use super::elements::{extensions, split, wrap};
use super::presented::Presented;

/// DER contents of the object identifiers of subjectAltName, 2.5.29.17, and basicConstraints, 2.5.29.19.
const ALTERNATIVE_NAMES: [u8; 3] = [0x55, 0x1d, 0x11];
const BASIC_CONSTRAINTS: [u8; 3] = [0x55, 0x1d, 0x13];

/// cA, as DER encodes it.
const AUTHORITY: [u8; 3] = [0x01, 0x01, 0xff];
const INTEGER: u8 = 0x02;

/// Where a certificate stands in the chain.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    EndEntity,
    /// Its subject is its issuer's name.
    SelfIssuedEndEntity,
    Authority,
    SelfIssuedAuthority,
}

/// Whether a certificate of this chain is exempt from a rule that concerns it. Most chains have none.
pub(super) fn are_needed(certificates: &[Presented<'_>]) -> bool {
    let Some((end_entity, issuers)) = certificates.split_first() else { return false };
    let has_length = |issuer: &Presented<'_>| basic_constraints(issuer).is_some_and(|(_, length)| length.is_some());
    let is_self_issued = |certificate: &Presented<'_>| certificate.subject() == certificate.issuer();
    let mut self_issued = issuers.iter().filter(|issuer| is_self_issued(issuer)).peekable();
    (is_self_issued(end_entity) && is_authority(end_entity))
        || (self_issued.peek().is_some()
            && (self_issued.any(|issuer| value(issuer, ALTERNATIVE_NAMES).is_some()) || issuers.iter().any(has_length)))
}

/// Whether the certificate has cA.
pub(super) fn is_authority(certificate: &Presented<'_>) -> bool {
    basic_constraints(certificate).is_some()
}

/// These extensions (contents) without what webpki must not see. `None` if they are not well-formed.
pub(super) fn without_exempt(mut extensions: &[u8], role: Role) -> Option<Vec<u8>> {
    let mut output = Vec::new();
    while !extensions.is_empty() {
        let (tag, extension, rest) = split(extensions)?;
        let whole = &extensions[..extensions.len() - rest.len()];
        extensions = rest;
        let (_, id, fields) = split(extension)?;
        let (before, octets, value) = value_in(fields)?;
        match (role, authority_in(value)) {
            (Role::SelfIssuedAuthority, _) if id == ALTERNATIVE_NAMES => {}
            (Role::SelfIssuedEndEntity, Some(_)) if id == BASIC_CONSTRAINTS => {}
            (Role::Authority | Role::SelfIssuedAuthority, Some((sequence, Some(_)))) if id == BASIC_CONSTRAINTS => {
                let id = &extension[..extension.len() - fields.len()];
                let value = wrap(octets, &[&wrap(sequence, &[&AUTHORITY])]);
                output.extend(wrap(tag, &[id, before, &value]));
            }
            _ => output.extend_from_slice(whole),
        }
    }
    Some(output)
}

/// The fields of an extension after its identifier: what precedes the value (`critical`), and tag and contents of the value.
fn value_in(fields: &[u8]) -> Option<(&[u8], u8, &[u8])> {
    let (tag, value, after) = split(fields)?;
    if after.is_empty() {
        return Some((&[], tag, value));
    }
    let (tag, value, _) = split(after)?;
    Some((&fields[..fields.len() - after.len()], tag, value))
}

/// Tag and path length of basicConstraints with cA, if the length is one that webpki takes: less than 128.
fn authority_in(value: &[u8]) -> Option<(u8, Option<u8>)> {
    let (tag, contents, []) = split(value)? else { return None };
    match contents.strip_prefix(&AUTHORITY)? {
        [] => Some((tag, None)),
        length => match split(length)? {
            (INTEGER, [length @ 0..=0x7f], []) => Some((tag, Some(*length))),
            _ => None,
        },
    }
}

fn basic_constraints(certificate: &Presented<'_>) -> Option<(u8, Option<u8>)> {
    value(certificate, BASIC_CONSTRAINTS).and_then(authority_in)
}

/// The value of this extension, if the certificate has it.
fn value<'a>(certificate: &Presented<'a>, wanted: [u8; 3]) -> Option<&'a [u8]> {
    let mut extensions = extensions(certificate.der())?;
    while let Some((_, extension, rest)) = split(extensions) {
        let (_, id, fields) = split(extension)?;
        if id == wanted {
            return value_in(fields).map(|(_, _, value)| value);
        }
        extensions = rest;
    }
    None
}
