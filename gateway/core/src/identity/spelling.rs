//! Names of authorities that are equal (RFC 5280, section 7.1) but not the same bytes.
//!
//! webpki compares the bytes. If a chain spells one name in two ways, or not as a trust anchor spells it, webpki gets *respelled*
//! certificates, in which every name has one form ([`canonical_contents`]), and anchors with such names. Nothing else differs.
//! A respelled certificate is only read: `checks` verifies the signature on the certificate as presented.
//!
//! Owns the decision that a chain needs this, and the respelled certificates. Must not be consulted for identity rules, nor for what is
//! shown: both take the certificates as presented. Most chains need nothing of it, and cost one comparable name.

use std::collections::HashMap;

use rustls_pki_types::{CertificateDer, TrustAnchor};

use super::elements::{split, wrap};
use super::name::canonical_contents;
use super::presented::PresentedChain;
use super::provider::Provider;

/// How the trust anchors of a policy are spelled (contents of their names).
#[derive(Debug, Default)]
pub(super) struct AnchorNames {
    /// From each spelling to the comparable name.
    canonical: HashMap<Vec<u8>, Vec<u8>>,
    /// From each comparable name to its spelling; `None` if there are several.
    spellings: HashMap<Vec<u8>, Option<Vec<u8>>>,
}

impl AnchorNames {
    pub(super) fn new(providers: &[Provider]) -> Self {
        let mut names = Self::default();
        for anchor in
            providers.iter().flat_map(|provider| &provider.profiles).flat_map(|profile| &profile.trust_anchors)
        {
            let spelling = anchor.subject.to_vec();
            if names.canonical.contains_key(&spelling) {
                continue;
            }
            let canonical = canonical_contents(&spelling);
            let first = names.spellings.entry(canonical.clone()).or_insert_with(|| Some(spelling.clone()));
            if first.as_ref() != Some(&spelling) {
                *first = None;
            }
            names.canonical.insert(spelling, canonical);
        }
        names
    }

    /// The comparable name of this anchor, which is one of the policy.
    fn of(&self, anchor: &TrustAnchor<'_>) -> Option<&[u8]> {
        self.canonical.get(anchor.subject.as_ref()).map(Vec::as_slice)
    }

    /// The certificates of a chain respelled, in its order; `None` if all names that are equal are the same bytes.
    pub(super) fn respell(&self, chain: &PresentedChain<'_>) -> Option<Vec<CertificateDer<'static>>> {
        let certificates = chain.certificates();
        let mut spellings: Vec<&[u8]> = Vec::new();
        // The subject of the end entity is no issuer's name.
        let subjects = certificates.iter().skip(1).map(|certificate| certificate.subject());
        for name in certificates.iter().map(|certificate| certificate.issuer()).chain(subjects) {
            if !name.is_empty() && !spellings.contains(&name) {
                spellings.push(name);
            }
        }
        let mut known: HashMap<Vec<u8>, &[u8]> = HashMap::with_capacity(spellings.len());
        let differs = spellings.into_iter().any(|spelling| {
            let canonical = self.canonical.get(spelling).cloned().unwrap_or_else(|| canonical_contents(spelling));
            let of_anchor = self.spellings.get(&canonical);
            of_anchor.is_some_and(|of_anchor| of_anchor.as_deref() != Some(spelling))
                || known.insert(canonical, spelling).is_some()
        });
        let respelled = |der: &CertificateDer<'_>| respelled(der).unwrap_or_default();
        differs.then(|| certificates.iter().map(|certificate| respelled(certificate.der()).into()).collect())
    }
}

/// How the names of anchors are compared with those of a chain.
#[derive(Clone, Copy)]
pub(super) enum Spelling<'a> {
    /// By their bytes.
    AsWritten,
    /// By their comparable form, which the chain has.
    Canonical(&'a AnchorNames),
}

impl<'a> Spelling<'a> {
    /// The name of this anchor in the form of the chain.
    pub(super) fn of<'b>(self, anchor: &'b TrustAnchor<'_>) -> &'b [u8]
    where
        'a: 'b,
    {
        match self {
            Self::AsWritten => &anchor.subject,
            Self::Canonical(names) => names.of(anchor).unwrap_or(&anchor.subject),
        }
    }
}

/// The certificate with comparable names.
fn respelled(certificate: &[u8]) -> Option<Vec<u8>> {
    /// version, serialNumber and signature precede the issuer.
    const BEFORE_ISSUER: usize = 3;
    let (outer, contents, _) = split(certificate)?;
    let (inner, mut fields, after) = split(contents)?;
    let mut parts: Vec<Vec<u8>> = Vec::new();
    let mut take = |is_name: bool| {
        let (tag, value, rest) = split(fields)?;
        parts.push(if is_name { wrap(tag, &[&canonical_contents(value)]) } else { wrap(tag, &[value]) });
        fields = rest;
        Some(())
    };
    for _ in 0..BEFORE_ISSUER {
        take(false)?;
    }
    // issuer, validity, subject.
    for is_name in [true, false, true] {
        take(is_name)?;
    }
    let to_be_signed = wrap(inner, &[&parts.concat(), fields]);
    Some(wrap(outer, &[&to_be_signed, after]))
}

/// The signed part of a certificate: its TBSCertificate, tag and length included.
pub(super) fn to_be_signed(certificate: &[u8]) -> Option<&[u8]> {
    let (_, contents, _) = split(certificate)?;
    let (_, _, after) = split(contents)?;
    contents.get(..contents.len() - after.len())
}
