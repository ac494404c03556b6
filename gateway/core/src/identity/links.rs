//! Which presented certificates may have issued which, by their names, and the order in which to try them, by their key identifiers.
//!
//! Owns what is known of a chain before a signature is checked. The links are found once for a chain, so that each profile costs only the
//! comparison of a few names. Must not rule out a certificate by its key identifier: RFC 5280 does not, and an authority may change the
//! identifier without changing the key. A key identifier is a hint: it says which certificate to try first, and which check to put off
//! until no other path is left.

use std::cell::OnceCell;

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use rustls_pki_types::{CertificateDer, TrustAnchor};

use super::constraints::without_processed;
use super::elements::{authority_key_identifier, split, subject_key_identifier};
use super::presented::{Presented, PresentedChain};
use super::spelling::Spelling;

/// Most distinct issuer names in a chain: the highest `max_presented_certificates`. A certificate with a further name is on no path.
const NAMES_MAX: usize = 64;

/// Names of issuers, each a bit at its place in [`Links::names`].
type Names = u64;

/// The links of one chain.
pub(super) struct Links<'a> {
    chain: &'a PresentedChain<'a>,
    /// What each certificate costs at each step: about its DER elements.
    elements: &'a [usize],
    /// The contents of the distinct issuer names.
    names: Vec<&'a [u8]>,
    /// For each certificate, the issuer names above it, its own issuer's included. Empty if the certificate is malformed, or a copy of
    /// an earlier one: it is on no path.
    above: Vec<Names>,
    /// Two certificates have the same subject, so that the order in which they are tried counts.
    ambiguous: bool,
    identifiers: OnceCell<Vec<Identifiers<'a>>>,
    spelling: Spelling<'a>,
}

/// The key identifiers of one certificate.
pub(super) struct Identifiers<'a> {
    subject: Option<&'a [u8]>,
    authority: Option<&'a [u8]>,
}

/// The key identifiers of a chain, as hints for the checks of its signatures.
#[derive(Clone, Copy)]
pub(super) struct Hints<'a> {
    identifiers: &'a [Identifiers<'a>],
}

impl Hints<'_> {
    /// Whether the certificate at this place names another key than this one as its issuer's. The key is that of the certificate at
    /// place `holder`, or of a trust anchor.
    pub(super) fn name_another(&self, place: usize, holder: Option<usize>, public_key: &[u8]) -> bool {
        let Some(named) = self.identifiers.get(place).and_then(|found| found.authority) else { return false };
        let own = holder.and_then(|holder| self.identifiers.get(holder)).and_then(|found| found.subject);
        own != Some(named) && !derived_identifiers(public_key).iter().any(|found| *found == named)
    }
}

/// The certificates and trust anchors from which webpki builds the path of one profile, in the order in which to try them.
pub(super) struct Candidates<'a> {
    pub(super) issuers: Vec<CertificateDer<'a>>,
    /// `None` stands for those of the profile, in its order.
    pub(super) anchors: Option<Vec<TrustAnchor<'a>>>,
    /// DER elements of the certificates, for [`super::checks::Checks::step`].
    pub(super) elements: usize,
    /// Two of the certificates and anchors have one name, so that a check may fail on a path that is not the right one.
    pub(super) contested: bool,
}

impl<'a> Links<'a> {
    pub(super) fn new(chain: &'a PresentedChain<'a>, elements: &'a [usize], spelling: Spelling<'a>) -> Self {
        let certificates = chain.certificates();
        let mut names: Vec<&[u8]> = Vec::with_capacity(certificates.len());
        let is_copy =
            |place: usize| certificates[..place].iter().any(|earlier| earlier.der() == certificates[place].der());
        let issuers: Vec<Option<usize>> = (0..certificates.len())
            .map(|place| {
                let certificate = &certificates[place];
                if certificate.webpki().is_err() || is_copy(place) {
                    return None;
                }
                let known = names.iter().position(|name| *name == certificate.issuer());
                if known.is_none() && names.len() < NAMES_MAX {
                    names.push(certificate.issuer());
                    return Some(names.len() - 1);
                }
                known
            })
            .collect();
        // From the name of a subject to that of its issuer.
        let steps: Vec<(usize, usize)> = (1..certificates.len())
            .filter_map(|place| {
                let subject = names.iter().position(|name| *name == certificates[place].subject())?;
                Some((subject, issuers[place]?))
            })
            .collect();
        let mut above_name: Vec<Names> = (0..names.len()).map(|place| 1 << place).collect();
        // Each round adds a name or ends the loop.
        loop {
            let mut grown = false;
            for (subject, issuer) in &steps {
                let joined = above_name[*subject] | above_name[*issuer];
                grown |= joined != above_name[*subject];
                above_name[*subject] = joined;
            }
            if !grown {
                break;
            }
        }
        let above = issuers.iter().map(|issuer| issuer.map_or(0, |place| above_name[place])).collect();
        let has_namesake = |place: usize| {
            certificates[1..place].iter().any(|earlier| earlier.subject() == certificates[place].subject())
        };
        let ambiguous = (1..certificates.len()).any(|place| issuers[place].is_some() && has_namesake(place));
        Self { chain, elements, names, above, ambiguous, identifiers: OnceCell::new(), spelling }
    }

    /// The presented certificates, except the end entity, whose issuer names lead to one of `anchors`; `None` if those of the end entity
    /// do not. A certificate that is left out can be on no path, but webpki would try it at every step.
    pub(super) fn toward<'b>(&self, anchors: &'b [TrustAnchor<'static>]) -> Option<Candidates<'b>>
    where
        'a: 'b,
    {
        let (mut reached, mut namesakes): (Names, bool) = (0, false);
        for anchor in anchors {
            if let Some(place) = self.place_of(self.spelling.of(anchor)) {
                namesakes |= reached & (1 << place) != 0;
                reached |= 1 << place;
            }
        }
        if self.above.first()? & reached == 0 {
            return None;
        }
        let mut kept: Vec<usize> = (1..self.above.len()).filter(|place| self.above[*place] & reached != 0).collect();
        let certificates = self.chain.certificates();
        let in_order = !self.ambiguous && !namesakes && !self.is_respelled();
        let is_reached = |anchor: &TrustAnchor<'_>| {
            self.place_of(self.spelling.of(anchor)).is_some_and(|place| reached & (1 << place) != 0)
        };
        let ordered = match in_order {
            true => None,
            // The others cannot be at the end of a path, and a host has hundreds of public roots.
            false => self.order(&mut kept, &mut anchors.iter().filter(|anchor| is_reached(anchor)), namesakes),
        };
        let is_anchor = |name: &[u8]| self.place_of(name).is_some_and(|place| reached & (1 << place) != 0);
        let contested =
            self.ambiguous || namesakes || kept.iter().any(|place| is_anchor(certificates[*place].subject()));
        let elements = kept.iter().map(|place| self.elements[*place]).sum();
        let issuers =
            kept.into_iter().map(|place| CertificateDer::from(certificates[place].path_der().as_ref())).collect();
        Some(Candidates { issuers, anchors: ordered, elements, contested })
    }

    /// The key identifiers of the chain. `None` if no certificate names the key of its issuer.
    pub(super) fn hints(&self) -> Option<Hints<'_>> {
        let identifiers = self.identifiers();
        identifiers.iter().any(|found| found.authority.is_some()).then_some(Hints { identifiers })
    }

    /// Whether a certificate has the name of one of `anchors` as its issuer's, and does not say that the key of one of that name signed it.
    pub(super) fn may_name_another_key(&self, anchors: &[TrustAnchor<'static>]) -> bool {
        let identified = self.chain.certificates().iter().zip(self.identifiers());
        identified.into_iter().any(|(certificate, found)| {
            let names = |anchor: &&TrustAnchor<'static>| certificate.claims_issuer(self.spelling.of(anchor));
            let mut namesakes = anchors.iter().filter(names).peekable();
            let is_named = |anchor: &TrustAnchor<'_>| {
                let known = public_key(&anchor.subject_public_key_info).map(derived_identifiers);
                known.iter().flatten().any(|known| found.authority == Some(known.as_slice()))
            };
            namesakes.peek().is_some() && !namesakes.any(is_named)
        })
    }

    fn place_of(&self, name: &[u8]) -> Option<usize> {
        self.names.iter().position(|known| *known == name)
    }

    fn identifiers(&self) -> &[Identifiers<'a>] {
        self.identifiers.get_or_init(|| {
            let certificates = self.chain.certificates().iter().map(Presented::der);
            let of = |der: &'a CertificateDer<'a>| Identifiers {
                subject: subject_key_identifier(der),
                authority: authority_key_identifier(der),
            };
            certificates.map(of).collect()
        })
    }

    /// Moves the certificates to the front whose key identifier another one names as its issuer's. With `namesakes`, the anchors too.
    /// Returns the anchors if webpki must get others than those of the profile: in another order, or respelled.
    fn order<'b>(
        &self,
        kept: &mut [usize],
        anchors: &mut dyn Iterator<Item = &'b TrustAnchor<'static>>,
        namesakes: bool,
    ) -> Option<Vec<TrustAnchor<'b>>>
    where
        'a: 'b,
    {
        let identifiers = self.identifiers();
        let wanted: Vec<&[u8]> =
            std::iter::once(&0).chain(&*kept).filter_map(|place| identifiers[*place].authority).collect();
        if !wanted.is_empty() {
            // `false` comes first, and equals keep their order.
            kept.sort_by_key(|place| !identifiers[*place].subject.is_some_and(|found| wanted.contains(&found)));
        }
        let by_key = namesakes && !wanted.is_empty();
        (by_key || self.is_respelled()).then(|| {
            let respelled = |anchor| borrowed(anchor, self.spelling.of(anchor));
            let mut anchors: Vec<TrustAnchor<'b>> = anchors.map(respelled).collect();
            if by_key {
                anchors.sort_by_cached_key(|anchor| {
                    let identifiers = public_key(&anchor.subject_public_key_info).map(derived_identifiers);
                    !identifiers.iter().flatten().any(|found| wanted.contains(&found.as_slice()))
                });
            }
            anchors
        })
    }

    fn is_respelled(&self) -> bool {
        matches!(self.spelling, Spelling::Canonical(_))
    }
}

/// The public key in the contents of a SubjectPublicKeyInfo: those of its bit string.
pub(super) fn public_key(spki: &[u8]) -> Option<&[u8]> {
    let (_, _algorithm, rest) = split(spki)?;
    let (_, bits, _) = split(rest)?;
    bits.get(1..)
}

/// The key identifiers that an authority derives from its public key: SHA-1 (RFC 5280, section 4.2.1.2, method 1) and the first 160
/// bits of SHA-256 (RFC 7093, section 2, method 1). A trust anchor does not keep the identifier of its certificate.
pub(super) fn derived_identifiers(public_key: &[u8]) -> [[u8; 20]; 2] {
    [&SHA1_FOR_LEGACY_USE_ONLY, &SHA256].map(|algorithm| {
        let mut identifier = [0; 20];
        // Both digests have 20 bytes or more.
        identifier.iter_mut().zip(digest(algorithm, public_key).as_ref()).for_each(|(to, from)| *to = *from);
        identifier
    })
}

/// The anchor under this name, without the name constraints that `constraints` processes.
fn borrowed<'a>(anchor: &'a TrustAnchor<'static>, subject: &'a [u8]) -> TrustAnchor<'a> {
    TrustAnchor {
        subject: subject.into(),
        subject_public_key_info: anchor.subject_public_key_info.as_ref().into(),
        name_constraints: anchor.name_constraints.as_ref().and_then(|constraints| {
            match without_processed(constraints) {
                None => Some(constraints.as_ref().into()),
                Some(left) => (!left.is_empty()).then(|| left.into()),
            }
        }),
    }
}
