//! The revocation status of the certificates on one path (RFC 5280, section 6.3.3).
//!
//! Owns the choice of the list that covers a certificate: by the name of its issuer, by the list's scope, and by the key that issued the
//! certificate, which must have signed the list. Of a profile whose lists are fetched, it also says which lists are missing. Must not decide
//! what `crl_scope` covers, nor word a refusal.
//!
//! **Two keys of one authority.** An authority that changes its key keeps its name, and publishes a list for each key. A list may name
//! the key that signed it (authorityKeyIdentifier). Those that name another key than the issuer's come last: they are tried only if no
//! other is signed by the issuer, since a key identifier is a hint. Among equals, the newest comes first.

use rustls_pki_types::{SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer, UnixTime};
use webpki::{VerifiedPath, spki_for_anchor};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{DistributionPointName, GeneralName, ParsedExtension};

use super::elements::{split, subject_key_identifier};
use super::links::{derived_identifiers, public_key};
use super::name::canonical;
use super::presented::{self, PresentedChain};
use super::revocation::{
    AwaitedLists, ListSigner, MissingList, Partition, RevocationList, RevocationLists, RevocationScope,
};

/// Most distribution points of one certificate that are taken. Authorities name one, and some a second server.
const POINTS_MAX: usize = 4;
/// Longest URL of a distribution point that is taken. Those of public authorities have less than 100 bytes.
const POINT_BYTES: usize = 1024;

/// Why a certificate does not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StatusFailure {
    /// The place of the certificate in the chain.
    pub(super) place: usize,
    pub(super) why: Unusable,
    /// The lists that the path lacks, if some of the profile are fetched.
    pub(super) missing: Vec<MissingList>,
}

/// What is wrong with a certificate or its list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// No list is of its issuer and covers it.
    NoList,
    /// The same, although every URL of `crl_urls` has served a list.
    NotServed,
    /// No such list is signed by the key that issued the certificate.
    NotSignedByIssuer,
    /// As one of the two above, and the list is still to be fetched.
    Awaited,
    /// The list has expired.
    Expired {
        /// RFC 4514 text of the list's issuer.
        issuer: String,
        next_update: UnixTime,
    },
    /// The key usage extension of the issuer does not allow it to sign lists.
    IssuerMayNotSign,
    /// The list contains the certificate.
    Revoked,
    /// The certificate cannot be parsed.
    Unreadable,
}

/// What is known of the trust anchor of the path.
#[derive(Clone, Copy)]
pub(super) struct Anchor {
    /// Its key usage allows it to sign lists.
    pub(super) signs_lists: bool,
}

/// An issuer on the path.
struct Issuer<'a> {
    spki: SubjectPublicKeyInfoDer<'static>,
    /// `None` for a trust anchor.
    certificate: Option<(&'a [u8], &'a X509Certificate<'a>)>,
    signs_lists: bool,
}

/// Looks up the certificates of a path whose signatures are good. Returns the earliest nextUpdate of the lists that were used.
pub(super) fn check(
    lists: &RevocationLists,
    path: &VerifiedPath<'_>,
    anchor: Anchor,
    chain: &PresentedChain<'_>,
    algorithms: &[&dyn SignatureVerificationAlgorithm],
    now: UnixTime,
) -> Result<UnixTime, StatusFailure> {
    let fail = |place, why| StatusFailure { place, why, missing: Vec::new() };
    let places = path.intermediate_certificates().map(|certificate| chain.place_of(&certificate.der()));
    let places: Option<Vec<usize>> = std::iter::once(Some(0)).chain(places).collect();
    let places = places.ok_or_else(|| fail(0, Unusable::Unreadable))?;
    let covered = match lists.scope() {
        RevocationScope::Chain => places.len(),
        RevocationScope::EndEntity => 1,
    };
    let mut issuers = path.intermediate_certificates().map(|certificate| certificate.subject_public_key_info());
    let mut earliest: Option<UnixTime> = None;
    // The first certificate without a list. The others are looked up all the same, so that every missing list is known at once.
    let mut lacking: Option<StatusFailure> = None;
    for (depth, place) in places.iter().copied().enumerate().take(covered) {
        let parsed = |place: usize| {
            let certificate = &chain.certificates()[place];
            Some((certificate.der().as_ref(), certificate.x509()?))
        };
        let (_, certificate) = parsed(place).ok_or_else(|| fail(place, Unusable::Unreadable))?;
        let issuer = match issuers.next() {
            Some(spki) => {
                let above = places.get(depth + 1).copied().and_then(parsed);
                let above = above.ok_or_else(|| fail(place, Unusable::Unreadable))?;
                let usage = above.1.key_usage();
                let signs_lists = usage.is_ok_and(|usage| usage.is_none_or(|usage| usage.value.crl_sign()));
                Issuer { spki, certificate: Some(above), signs_lists }
            }
            None => {
                let spki = spki_for_anchor(path.anchor());
                Issuer { spki, certificate: None, signs_lists: anchor.signs_lists }
            }
        };
        match check_one(lists, certificate, depth == 0, &issuer, algorithms, now) {
            Ok(next_update) => earliest = Some(earliest.map_or(next_update, |until| until.min(next_update))),
            Err(why @ (Unusable::NoList | Unusable::NotSignedByIssuer)) if lists.awaited().any() => {
                let points: Vec<_> = addresses(certificate).filter_map(usable).take(POINTS_MAX).collect();
                let why = match why {
                    why if is_awaited(lists.awaited(), &why, &points) => Unusable::Awaited,
                    Unusable::NoList if lists.awaited().from_urls => Unusable::NotServed,
                    why => why,
                };
                let failure = lacking.get_or_insert_with(|| fail(place, why));
                let signer = ListSigner::of_issuer(certificate.issuer().as_raw(), &issuer.spki);
                failure.missing.push(MissingList { signer, points });
            }
            Err(why) => return Err(fail(place, why)),
        }
    }
    lacking.map_or(Ok(earliest.unwrap_or(now)), Err)
}

/// Whether a certificate without a list may have one later.
fn is_awaited(awaited: AwaitedLists, why: &Unusable, points: &[Box<str>]) -> bool {
    // A list of another key may be replaced: whose key the issuer's is, is known from now on.
    awaited.incomplete || *why == Unusable::NotSignedByIssuer || (awaited.from_certificates && !points.is_empty())
}

/// Looks up one certificate. Returns the nextUpdate of its list.
fn check_one(
    lists: &RevocationLists,
    certificate: &X509Certificate<'_>,
    is_end_entity: bool,
    issuer: &Issuer<'_>,
    algorithms: &[&dyn SignatureVerificationAlgorithm],
    now: UnixTime,
) -> Result<UnixTime, Unusable> {
    let name = canonical(certificate.issuer().as_raw());
    let covering = |list: &&RevocationList| {
        list.canonical_issuer() == name
            && list.partition().is_none_or(|partition| covers(partition, certificate, is_end_entity))
    };
    let mut candidates: Vec<&RevocationList> = lists.lists().iter().filter(covering).collect();
    if candidates.is_empty() {
        return Err(Unusable::NoList);
    }
    if candidates.len() > 1 {
        // `false` comes first, and equals keep their order.
        candidates.sort_by_cached_key(|list| issuer.is_not(list.authority_key()));
    }
    let list = candidates.into_iter().find(|list| list.is_signed_by(&issuer.spki, algorithms));
    let list = list.ok_or(Unusable::NotSignedByIssuer)?;
    list.note_used(now.as_secs());
    if now >= list.next_update() {
        return Err(Unusable::Expired { issuer: list.issuer(), next_update: list.next_update() });
    }
    if !issuer.signs_lists {
        return Err(Unusable::IssuerMayNotSign);
    }
    if list.revokes(certificate.raw_serial()) { Err(Unusable::Revoked) } else { Ok(list.next_update()) }
}

impl Issuer<'_> {
    /// Whether this key identifier, if there is one, is that of another key.
    fn is_not(&self, identifier: Option<&[u8]>) -> bool {
        let Some(identifier) = identifier else { return false };
        let own = self.certificate.and_then(|(der, _)| subject_key_identifier(der));
        let derived = || {
            let (_, spki, _) = split(&self.spki)?;
            Some(derived_identifiers(public_key(spki)?))
        };
        own != Some(identifier) && !derived().iter().flatten().any(|found| found == identifier)
    }
}

/// Whether a list with this issuing distribution point covers the certificate (RFC 5280, section 6.3.3 (b)). If the certificate names
/// distribution points, one of their addresses must be one of the list's.
fn covers(partition: &Partition, certificate: &X509Certificate<'_>, is_end_entity: bool) -> bool {
    if if is_end_entity { partition.authorities_only } else { partition.end_entities_only } {
        return false;
    }
    // 2.5.29.31. Points that cannot be parsed match no list.
    if !certificate.iter_extensions().any(|extension| extension.oid.as_bytes() == [0x55, 0x1d, 0x1f]) {
        return true;
    }
    addresses(certificate).any(|address| partition.addresses.iter().any(|known| **known == *address))
}

/// The URIs of the distribution points of a certificate (RFC 5280, section 4.2.1.13). A point with `reasons` or `cRLIssuer` is for lists
/// that hookgate does not support, so it is left out.
fn addresses<'a>(certificate: &'a X509Certificate<'a>) -> impl Iterator<Item = &'a str> {
    let points = certificate.iter_extensions().filter_map(|extension| match extension.parsed_extension() {
        ParsedExtension::CRLDistributionPoints(points) => Some(&points.points),
        _ => None,
    });
    let direct = points.flatten().filter(|point| point.reasons.is_none() && point.crl_issuer.is_none());
    let names = direct.filter_map(|point| match &point.distribution_point {
        Some(DistributionPointName::FullName(names)) => Some(names),
        _ => None,
    });
    names.flatten().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    })
}

/// A URI that a list can be fetched from.
fn usable(uri: &str) -> Option<Box<str>> {
    let scheme = uri.split_once("://")?.0;
    let is_http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    (is_http && uri.len() <= POINT_BYTES).then(|| uri.into())
}

/// The URLs at which a certificate says that the list about it is, as [`MissingList::points`].
pub fn distribution_points(certificate: &[u8]) -> Vec<Box<str>> {
    let Some(certificate) = presented::parse(certificate) else { return Vec::new() };
    addresses(&certificate).filter_map(usable).take(POINTS_MAX).collect()
}
