//! What a path must satisfy that webpki does not check, or not as RFC 5280 does: the use of the trust anchor, key usage, path length, names
//! under constraints, depth, revocation.
//!
//! Owns these requirements. The signatures, dates and extended key usage of the path are good. Must not build a path, match identities or
//! word refusals: it returns which requirement failed.

use rustls_pki_types::{SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::VerifiedPath;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::KeyUsage;

use super::constraints::{self, Constraints};
use super::elements::subject_public_key_info;
use super::exemptions;
use super::path::{PathFailure, Subject};
use super::provider::Profile;
use super::status::{self, Anchor};

/// What is known of a path that satisfies them.
#[derive(Clone, Copy)]
pub(super) struct Accepted {
    /// Of the trust anchor, counted as [`Profile::verify_depth`] counts.
    pub(super) depth: usize,
    /// Until when the revocation lists are current that were used.
    pub(super) lists_until: Option<UnixTime>,
}

/// A certificate on a path.
struct Member<'a> {
    /// In the chain.
    place: usize,
    certificate: &'a X509Certificate<'a>,
    /// It is an authority whose subject is its issuer's name.
    is_self_issued: bool,
}

/// Checks the path of a profile.
pub(super) fn require(
    profile: &Profile,
    subject: &Subject<'_>,
    path: &VerifiedPath<'_>,
    algorithms: &[&dyn SignatureVerificationAlgorithm],
) -> Result<Accepted, PathFailure> {
    let members = members(subject, path)?;
    let authorities = |members: &[Member<'_>]| members.iter().skip(1).filter(|member| !member.is_self_issued).count();
    let depth = authorities(&members) + 1;
    if depth > usize::from(profile.verify_depth) {
        return Err(PathFailure::TooDeep(depth));
    }
    if let Some(member) = members.iter().find(|member| has_long_serial(member.certificate)) {
        return Err(PathFailure::LongSerial(member.place));
    }
    for (index, issuer) in members.iter().enumerate().skip(1) {
        require_authority(issuer, authorities(&members[..index]))?;
        if let Some(constraints) = Constraints::of(issuer.certificate) {
            require_permitted(&constraints, &members[..index])?;
        }
    }
    let place = trust_anchor_of(profile, path).ok_or(PathFailure::Unreadable)?;
    let anchor_use = profile.trust_anchors.anchor_use(place).ok_or(PathFailure::Unreadable)?;
    let is_own = members.len() == 1 && is_of(subject, &profile.trust_anchors[place]);
    if let Some(flaw) = anchor_use.flaw().filter(|_| !is_own) {
        return Err(PathFailure::UnusableAnchor { place, flaw: flaw.clone() });
    }
    require_of_end_entity(subject, is_own)?;
    let constraints = profile.trust_anchors[place].name_constraints.as_ref();
    if let Some(constraints) = constraints.and_then(|constraints| Constraints::read(constraints)) {
        require_permitted(&constraints, &members)?;
    }
    let Some(lists) = &profile.revocation else { return Ok(Accepted { depth, lists_until: None }) };
    let anchor = Anchor { signs_lists: anchor_use.signs_lists() };
    let until = status::check(lists, path, anchor, subject.chain, algorithms, subject.now);
    Ok(Accepted { depth, lists_until: Some(until.map_err(PathFailure::Status)?) })
}

/// The certificates of the path, from the end entity up.
fn members<'a>(subject: &'a Subject<'_>, path: &VerifiedPath<'_>) -> Result<Vec<Member<'a>>, PathFailure> {
    let mut members = vec![Member { place: 0, certificate: subject.end_entity.x509(), is_self_issued: false }];
    for intermediate in path.intermediate_certificates() {
        let place = subject.chain.place_of(&intermediate.der()).ok_or(PathFailure::Unreadable)?;
        let presented = &subject.chain.certificates()[place];
        members.push(Member {
            place,
            certificate: presented.x509().ok_or(PathFailure::Unreadable)?,
            // Names that are equal are the same bytes here: otherwise, `spelling` has respelled the chain.
            is_self_issued: presented.subject() == presented.issuer(),
        });
    }
    Ok(members)
}

/// Whether the serial number has more than 20 bytes (RFC 5280, section 4.1.2.2). A zero before 20 bytes is passed over: it keeps a number
/// positive whose first bit is set, and authorities that draw 20 bytes by chance forget it.
fn has_long_serial(certificate: &X509Certificate<'_>) -> bool {
    const BYTES_MAX: usize = 20;
    let serial = certificate.raw_serial();
    serial.strip_prefix(&[0]).unwrap_or(serial).len() > BYTES_MAX
}

/// Checks an issuer on the path that has so many authorities below it that are not self-issued.
fn require_authority(issuer: &Member<'_>, below: usize) -> Result<(), PathFailure> {
    let &Member { place, certificate, .. } = issuer;
    let usage = certificate.key_usage().map_err(|_| PathFailure::Unreadable)?;
    if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
        return Err(PathFailure::NotForCertificates(place));
    }
    let basic = certificate.basic_constraints().map_err(|_| PathFailure::Unreadable)?;
    let length = basic.and_then(|basic| basic.value.path_len_constraint);
    if length.is_some_and(|length| usize::try_from(length).is_ok_and(|length| below > length)) {
        return Err(PathFailure::TooLong(place));
    }
    if certificate.subject().iter_rdn().next().is_none() {
        return Err(PathFailure::Nameless(place));
    }
    if constraints::are_void(certificate) {
        return Err(PathFailure::VoidConstraints(place));
    }
    Ok(())
}

/// Checks these certificates against the name constraints of an issuer above them. A self-issued authority is exempt (RFC 5280, section
/// 6.1.3 (b)).
fn require_permitted(constraints: &Constraints<'_>, below: &[Member<'_>]) -> Result<(), PathFailure> {
    let refused = below.iter().find(|member| !member.is_self_issued && !constraints.permit(member.certificate));
    refused.map_or(Ok(()), |member| Err(PathFailure::NameNotPermitted(member.place)))
}

/// Whether the end entity has the key of this anchor.
fn is_of(subject: &Subject<'_>, anchor: &TrustAnchor<'_>) -> bool {
    let key = subject_public_key_info(subject.chain.certificates()[0].der());
    key == Some(anchor.subject_public_key_info.as_ref())
}

/// The place of the path's trust anchor in the profile. The path has it under a name that may be respelled.
pub(super) fn trust_anchor_of(profile: &Profile, path: &VerifiedPath<'_>) -> Option<usize> {
    let key = |anchor: &TrustAnchor<'_>| std::ptr::from_ref(anchor.subject_public_key_info.as_ref());
    profile.trust_anchors.iter().position(|anchor| std::ptr::eq(key(anchor), key(path.anchor())))
}

/// Checks what only the end entity must satisfy. If it `is_own`, it is its own trust anchor, which the operator chose.
fn require_of_end_entity(subject: &Subject<'_>, is_own: bool) -> Result<(), PathFailure> {
    let end_entity = subject.end_entity;
    let usage = end_entity.key_usage();
    if usage.is_some_and(|usage| !usage.digital_signature()) {
        return Err(PathFailure::NotForSignatures);
    }
    match (exemptions::is_authority(&subject.chain.certificates()[0]), is_own) {
        (true, false) => Err(PathFailure::AuthorityAtEnd),
        (false, _) if constraints::are_present(end_entity.x509()) => Err(PathFailure::ConstrainsNothing),
        (false, false) if usage.is_some_and(KeyUsage::key_cert_sign) => Err(PathFailure::SignsWithoutAuthority),
        _ => Ok(()),
    }
}
