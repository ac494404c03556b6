//! Names of authorities that are equal (RFC 5280, section 7.1) but not the same bytes.
//!
//! webpki compares the bytes. If a chain spells one name in two ways, or not as a trust anchor spells it, webpki gets *respelled*
//! certificates, in which every name has one form ([`canonical_contents`]), and anchors with such names. Nothing else differs.
//! A respelled certificate is only read: `checks` verifies the signature on the certificate as presented. In the same way, webpki gets
//! certificates and anchors without the name constraints that `constraints` processes, and without what `exemptions` says.
//!
//! Owns the decision that a chain needs this, and the respelled certificates. Must not be consulted for identity rules, nor for what is
//! shown: both take the certificates as presented. Most chains need nothing of it, and cost one comparable name.

use std::borrow::Cow;
use std::collections::HashMap;

use rustls_pki_types::{CertificateDer, TrustAnchor};

use super::constraints::{self, Constraints, extensions_without_processed};
use super::elements::{EXTENSIONS, extensions, split, wrap};
use super::exemptions::{self, Role, without_exempt};
use super::name::canonical_contents;
use super::presented::{Presented, PresentedChain};
use super::provider::Provider;
use super::suspect::PublicRoots;

/// How the trust anchors of a policy are spelled.
#[derive(Debug, Default)]
pub(super) struct AnchorNames {
    /// By the contents of the name.
    spellings: HashMap<Vec<u8>, AnchorName>,
    /// From each comparable name to one of its spellings.
    canonical: HashMap<Vec<u8>, Vec<u8>>,
    /// The length of the longest spelling.
    longest: usize,
}

/// One spelling.
#[derive(Debug)]
struct AnchorName {
    canonical: Vec<u8>,
    /// It is the only spelling of its name, and no anchor with it has name constraints that `constraints` processes.
    is_plain: bool,
}

impl AnchorNames {
    pub(super) fn new(providers: &[Provider], public_roots: &PublicRoots) -> Self {
        let mut names = Self::default();
        let profiles = providers.iter().flat_map(|provider| &provider.profiles).chain(public_roots.profile());
        for anchor in profiles.flat_map(|profile| &profile.trust_anchors) {
            let is_plain = anchor.name_constraints.as_ref().is_none_or(|found| Constraints::read(found).is_none());
            let known = names.spellings.entry(anchor.subject.to_vec());
            let known = known.or_insert_with_key(|name| AnchorName { canonical: canonical_contents(name), is_plain });
            known.is_plain &= is_plain;
            names.canonical.entry(known.canonical.clone()).or_insert_with(|| anchor.subject.to_vec());
        }
        // If one spelling is not the first, neither is plain.
        let several: Vec<Vec<u8>> = names
            .spellings
            .iter()
            .filter(|(spelling, name)| names.canonical.get(&name.canonical) != Some(*spelling))
            .map(|(_, name)| name.canonical.clone())
            .collect();
        for name in names.spellings.values_mut() {
            name.is_plain &= !several.contains(&name.canonical);
        }
        names.longest = names.spellings.keys().map(Vec::len).max().unwrap_or(0);
        names
    }

    /// The certificates of a chain respelled, in its order; `None` if webpki can take them as they are.
    pub(super) fn respell(&self, chain: &PresentedChain<'_>) -> Option<Vec<CertificateDer<'static>>> {
        let certificates = chain.certificates();
        let mut forms = Forms::new(self);
        let needs = self.has_special_anchor(certificates)
            || has_constraints(certificates)
            || exemptions::are_needed(certificates)
            || forms.differ(certificates);
        if !needs {
            return None;
        }
        let mut output = Vec::with_capacity(certificates.len());
        for (place, certificate) in certificates.iter().enumerate() {
            output.push(respelled(certificate.der(), place == 0, &mut forms).unwrap_or_default().into());
        }
        Some(output)
    }

    /// Whether an issuer has the name of an anchor that webpki cannot take as it is.
    fn has_special_anchor(&self, certificates: &[Presented<'_>]) -> bool {
        let mut anchors = certificates.iter().filter_map(|certificate| self.anchor(certificate.issuer()));
        anchors.any(|anchor| !anchor.is_plain)
    }

    /// The anchor with exactly this name. A name that is longer than every anchor's is not looked up, since that costs by its length.
    fn anchor(&self, name: &[u8]) -> Option<&AnchorName> {
        if name.len() > self.longest { None } else { self.spellings.get(name) }
    }
}

/// The comparable forms of the names of one chain, each made once.
struct Forms<'a> {
    of_anchors: &'a AnchorNames,
    /// Each distinct name and its form. A chain has few, so they are searched in order.
    known: Vec<(&'a [u8], Cow<'a, [u8]>)>,
}

impl<'a> Forms<'a> {
    fn new(of_anchors: &'a AnchorNames) -> Self {
        Self { of_anchors, known: Vec::new() }
    }

    /// The place of this name in `known`, and whether it is new there.
    fn place(&mut self, name: &'a [u8]) -> (usize, bool) {
        if let Some(place) = self.known.iter().position(|(known, _)| *known == name) {
            return (place, false);
        }
        let form = match self.of_anchors.anchor(name) {
            Some(anchor) => Cow::Borrowed(anchor.canonical.as_slice()),
            None => Cow::Owned(canonical_contents(name)),
        };
        self.known.push((name, form));
        (self.known.len() - 1, true)
    }

    /// The comparable form of this name.
    fn of(&mut self, name: &'a [u8]) -> &[u8] {
        let (place, _) = self.place(name);
        &self.known[place].1
    }

    /// Whether two names of the chain, or one of the chain and one of an anchor, are equal but not the same bytes.
    fn differ(&mut self, certificates: &'a [Presented<'_>]) -> bool {
        // The subject of the end entity is no issuer's name.
        let subjects = certificates.iter().skip(1).map(Presented::subject);
        let names = certificates.iter().map(Presented::issuer).chain(subjects);
        names.filter(|name| !name.is_empty()).any(|name| {
            let (place, true) = self.place(name) else { return false };
            let (earlier, form) = (&self.known[..place], &self.known[place].1);
            let of_anchor = self.of_anchors.canonical.get(form.as_ref());
            of_anchor.is_some_and(|of_anchor| of_anchor != name) || earlier.iter().any(|(_, known)| known == form)
        })
    }
}

/// Whether an authority has name constraints that `constraints` processes.
fn has_constraints(certificates: &[Presented<'_>]) -> bool {
    certificates.iter().skip(1).any(|authority| extensions(authority.der()).is_some_and(constraints::are_in))
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
            Self::Canonical(names) => {
                names.spellings.get(anchor.subject.as_ref()).map_or(&anchor.subject, |name| &name.canonical)
            }
        }
    }
}

/// The certificate with comparable names, without the name constraints that `constraints` processes, and without what `exemptions` leaves
/// out.
fn respelled<'a>(certificate: &'a [u8], is_end_entity: bool, forms: &mut Forms<'a>) -> Option<Vec<u8>> {
    /// version, serialNumber and signature precede the issuer.
    const BEFORE_ISSUER: usize = 3;
    let (outer, contents, _) = split(certificate)?;
    let (inner, mut fields, after) = split(contents)?;
    let mut parts: Vec<Vec<u8>> = Vec::new();
    let mut take = |is_name: bool| {
        let (tag, value, rest) = split(fields)?;
        parts.push(if is_name { wrap(tag, &[forms.of(value)]) } else { wrap(tag, &[value]) });
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
    // subjectPublicKeyInfo, and in most certificates extensions.
    let (_, _, rest) = split(fields)?;
    let (key, rest) = fields.split_at(fields.len() - rest.len());
    let rest = match split(rest) {
        Some((EXTENSIONS, tagged, [])) => {
            let (sequence, contents, _) = split(tagged)?;
            let role = match (is_end_entity, parts.last() == parts.get(BEFORE_ISSUER)) {
                (true, false) => Role::EndEntity,
                (true, true) => Role::SelfIssuedEndEntity,
                (false, false) => Role::Authority,
                (false, true) => Role::SelfIssuedAuthority,
            };
            let kept = without_exempt(&extensions_without_processed(contents)?, role)?;
            wrap(EXTENSIONS, &[&wrap(sequence, &[&kept])])
        }
        _ => rest.to_vec(),
    };
    let to_be_signed = wrap(inner, &[&parts.concat(), key, &rest]);
    Some(wrap(outer, &[&to_be_signed, after]))
}

/// The signed part of a certificate: its TBSCertificate, tag and length included.
pub(super) fn to_be_signed(certificate: &[u8]) -> Option<&[u8]> {
    let (_, contents, _) = split(certificate)?;
    let (_, _, after) = split(contents)?;
    contents.get(..contents.len() - after.len())
}
