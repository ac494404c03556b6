//! Certificate revocation lists (RFC 5280, section 5), loaded once and looked up by serial number.
//!
//! Owns their parsing, the memory of the key that signed each, and the comparison of two versions. webpki decides whether a list is
//! well-formed and supported; its own look-up takes the first list of a name, whichever key signed it, so `status` has another. Must not
//! fetch or read anything: `control` and `config` of the daemon do.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls_pki_types::{SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer, TrustAnchor, UnixTime};
use webpki::{BorrowedCertRevocationList, RawPublicKeyEntity, spki_for_anchor};
use x509_parser::extensions::{DistributionPointName, GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::x509::X509Version;

use super::elements::{split, wrap};
use super::name::{Name, canonical};
use super::presented::{self, unix_seconds};
use super::signature_memory::SignatureMemory;
use super::trust_digest::{Digested, Transcript};
use crate::signatures::CERTIFICATE_SIGNATURES;

const SEQUENCE: u8 = 0x30;

/// `crl_scope`: which certificates of a path are looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RevocationScope {
    /// The end entity and every intermediate. Each needs a list of its issuer.
    #[default]
    Chain,
    /// The end entity only.
    EndEntity,
}

/// Which lists of a profile may still come, because they are fetched. They decide how a certificate without a list is refused, and
/// whether the refusal says which lists are missing. They admit nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AwaitedLists {
    /// `crl_urls`: lists are fetched from URLs of the configuration.
    pub from_urls: bool,
    /// One of these lists was never fetched.
    pub incomplete: bool,
    /// `crls = "from-certificates"`: lists are fetched from the distribution points that certificates name.
    pub from_certificates: bool,
}

impl AwaitedLists {
    /// Whether any list is fetched.
    pub fn any(self) -> bool {
        self.from_urls || self.from_certificates
    }
}

/// A revocation list that a path needs and does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingList {
    /// Who signs it: the issuer of a certificate on the path.
    pub signer: ListSigner,
    /// The http and https URLs at which that certificate says that the list is; at most four, of at most 1024 bytes.
    pub points: Vec<Box<str>>,
}

/// The revocation lists of one profile. If there is no list, the status of every certificate is unknown and no chain passes.
#[derive(Clone, Debug)]
pub struct RevocationLists {
    /// The newest first, since the first one that covers a certificate is used.
    lists: Arc<[RevocationList]>,
    scope: RevocationScope,
    awaited: AwaitedLists,
    /// Keys that were found not to have signed one of these lists, whose addresses it holds.
    failed: Arc<SignatureMemory>,
}

impl RevocationLists {
    /// These lists, applied to `scope`.
    pub fn new(mut lists: Vec<RevocationList>, scope: RevocationScope) -> Self {
        lists.sort_by_key(|list| std::cmp::Reverse(list.this_update()));
        let failed = Arc::new(SignatureMemory::of_failed_lists());
        Self { lists: lists.into(), scope, awaited: AwaitedLists::default(), failed }
    }

    /// The same lists, beside which others may come.
    #[must_use]
    pub fn awaiting(self, awaited: AwaitedLists) -> Self {
        Self { awaited, ..self }
    }

    /// Which lists may still come.
    pub fn awaited(&self) -> AwaitedLists {
        self.awaited
    }

    /// Whether these lists may revoke a certificate that `before` did not: then no verdict by `before` may be used any more. `false` only if
    /// each new list has no entry, or is the first one that says anything about its certificates, or takes the place of one list of the
    /// same key that has all its entries.
    pub fn may_revoke_more_than(&self, before: &Self) -> bool {
        let is_new = |list: &&RevocationList| !before.lists.iter().any(|known| Arc::ptr_eq(&known.0, &list.0));
        self.lists.iter().filter(is_new).any(|list| {
            let mut rivals = before.lists.iter().filter(|known| known.overlaps(list));
            match (rivals.next(), rivals.next()) {
                // Without a list, no certificate of its issuer has passed.
                _ if list.0.serials.is_empty() => false,
                (None, _) => false,
                (Some(only), None) => only.authority_key() != list.authority_key() || !only.has_entries_of(list),
                _ => true,
            }
        })
    }

    /// The lists, the newest first.
    pub fn lists(&self) -> &[RevocationList] {
        &self.lists
    }

    /// Which certificates are looked up.
    pub fn scope(&self) -> RevocationScope {
        self.scope
    }

    /// The signature checks of these lists that failed.
    pub(super) fn failed(&self) -> &SignatureMemory {
        &self.failed
    }
}

impl Digested for RevocationLists {
    /// The lists in the order of their digests: theirs is that of thisUpdate, and among lists of one time that in which they were fetched.
    fn add_to(&self, transcript: &mut Transcript) {
        // What may still come admits no certificate, and what has failed is a memory.
        let Self { lists, scope, awaited: _, failed: _ } = self;
        transcript.number(match scope {
            RevocationScope::Chain => 0,
            RevocationScope::EndEntity => 1,
        });
        let mut digests: Vec<&[u8; 32]> = lists.iter().map(RevocationList::digest).collect();
        digests.sort_unstable();
        transcript.number(digests.len() as u64);
        digests.iter().for_each(|digest| transcript.bytes(*digest));
    }
}

/// A key that may sign revocation lists, with the name of its holder: that of a trust anchor, or of an authority that one has certified.
#[derive(Clone, PartialEq, Eq)]
pub struct ListSigner {
    /// As [`canonical`] makes it.
    name: Vec<u8>,
    /// DER of the SubjectPublicKeyInfo.
    key: Vec<u8>,
}

impl ListSigner {
    /// The name and key of a trust anchor.
    pub fn of_anchor(anchor: &TrustAnchor<'_>) -> Self {
        let name = canonical(&wrap(SEQUENCE, &[&anchor.subject]));
        Self { name, key: spki_for_anchor(anchor).to_vec() }
    }

    /// Name and key of the subject of a certificate; `None` if it cannot be parsed.
    pub fn of_certificate(certificate: &[u8]) -> Option<Self> {
        let certificate = presented::parse(certificate)?;
        Some(Self { name: canonical(certificate.subject().as_raw()), key: certificate.public_key().raw.to_vec() })
    }

    /// The name (DER) and the key of an issuer.
    pub(super) fn of_issuer(name: &[u8], key: &SubjectPublicKeyInfoDer<'_>) -> Self {
        Self { name: canonical(name), key: key.to_vec() }
    }

    /// Whether it has the name of the issuer of `list`.
    pub fn is_issuer_of(&self, list: &RevocationList) -> bool {
        self.name == list.0.canonical_issuer
    }

    /// RFC 4514 text of its name, in printable ASCII.
    pub fn name(&self) -> String {
        Name::from_der(&self.name).map(|name| name.to_string()).unwrap_or_default()
    }

    /// The issuer of `list`, with this key (DER of a SubjectPublicKeyInfo).
    pub fn of_key(list: &RevocationList, key: Vec<u8>) -> Self {
        Self { name: list.0.canonical_issuer.clone(), key }
    }
}

impl std::fmt::Debug for ListSigner {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "ListSigner({:?}, key of {} bytes)", self.name(), self.key.len())
    }
}

/// Whose signature a list has, as far as some signers are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provenance {
    /// One of them signed it.
    Signed,
    /// Some have the name of its issuer, and none of them signed it.
    Foreign,
    /// None has the name of its issuer, so nothing is known. A path that uses the list verifies it.
    Unknown,
}

/// One revocation list. Clones share it.
#[derive(Clone, Debug)]
pub struct RevocationList(Arc<Parsed>);

/// What is kept of a list.
struct Parsed {
    der: Vec<u8>,
    /// Where the TBSCertList lies.
    to_be_signed: Range<usize>,
    /// Where the contents of signatureAlgorithm lie.
    algorithm: Range<usize>,
    /// Where the signature lies, without the count of unused bits.
    signature: Range<usize>,
    /// Where the serial numbers lie, in the order of their bytes: a look-up costs the logarithm of the list's length.
    serials: Vec<Range<u32>>,
    /// The issuer's name, comparable.
    canonical_issuer: Vec<u8>,
    /// RFC 4514 text of the issuer.
    issuer: String,
    authority_key: Option<Vec<u8>>,
    partition: Option<Partition>,
    this_update: UnixTime,
    next_update: UnixTime,
    number: Option<Number>,
    /// DER of the SubjectPublicKeyInfo that was found to have signed it. A list has one signature, so there is one such key.
    signer: OnceLock<Box<[u8]>>,
    /// SHA-256 of `der`, once it was asked for: a list may have megabytes, and stays while others are replaced.
    digest: OnceLock<[u8; 32]>,
    /// When a path last needed it, in seconds since 1970; 0 for never.
    used: AtomicU64,
}

/// A cRLNumber, an INTEGER that is not negative.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Number {
    decimal: Box<str>,
    /// Big-endian, without leading zeros: longer is larger.
    bytes: Box<[u8]>,
}

impl Number {
    fn is_less_than(&self, other: &Self) -> bool {
        (self.bytes.len(), &self.bytes) < (other.bytes.len(), &other.bytes)
    }
}

impl std::fmt::Debug for Parsed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut output = formatter.debug_struct("RevocationList");
        output
            .field("issuer", &self.issuer)
            .field("number", &self.number.as_ref().map(|number| &number.decimal))
            .field("next_update", &self.next_update);
        output.field("entries", &self.serials.len()).finish_non_exhaustive()
    }
}

/// What the issuing distribution point of a list (RFC 5280, section 5.2.5) limits it to.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) end_entities_only: bool,
    pub(super) authorities_only: bool,
    /// The URIs of its full name.
    pub(super) addresses: Vec<Box<str>>,
}

impl RevocationList {
    /// Parses the DER of one list.
    ///
    /// # Errors
    ///
    /// If it is not a complete, direct version 2 list with a nextUpdate. The signature is verified at the first use, since the
    /// issuer's key is known only from a path.
    pub fn from_der(der: &[u8]) -> Result<Self, RevocationListError> {
        let der = der.to_vec();
        let parsed = match CertificateRevocationList::from_der(&der) {
            Ok(([], parsed)) => parsed,
            Ok(_) => return Err(RevocationListError::TrailingData),
            Err(_) => return Err(RevocationListError::Malformed),
        };
        match parsed.version() {
            Some(X509Version::V2) => {}
            None | Some(X509Version::V1) => return Err(RevocationListError::Version),
            Some(_) => return Err(RevocationListError::Unsupported { what: UNKNOWN_VERSION }),
        }
        refuse_attribute_certificates(&parsed)?;
        let next_update = parsed.next_update().ok_or(RevocationListError::NextUpdateMissing)?;
        let serials = serials(&der)?;
        refuse_repeated_extensions(&parsed)?;
        let to_be_signed = range(&der, parsed.tbs_cert_list.as_ref());
        let (algorithm, signature) = signature(&der, to_be_signed.end).ok_or(RevocationListError::Malformed)?;
        let authority_key = parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(identifier) => Some(identifier.key_identifier.as_ref()?.0.to_vec()),
            _ => None,
        });
        let issuer = parsed.issuer().as_raw();
        let time = |time| UnixTime::since_unix_epoch(Duration::from_secs(unix_seconds(time)));
        Ok(Self(Arc::new(Parsed {
            to_be_signed,
            algorithm,
            signature,
            serials,
            canonical_issuer: canonical(issuer),
            issuer: Name::from_der(issuer).map(|name| name.to_string()).unwrap_or_default(),
            authority_key,
            partition: partition(&parsed)?,
            this_update: time(parsed.last_update()),
            next_update: time(next_update),
            number: parsed.crl_number().map(|number| {
                let bytes = if number.bits() == 0 { Vec::new() } else { number.to_bytes_be() };
                Number { decimal: number.to_string().into(), bytes: bytes.into() }
            }),
            signer: OnceLock::new(),
            digest: OnceLock::new(),
            used: AtomicU64::new(0),
            der,
        })))
    }

    /// thisUpdate: when it was issued.
    pub fn this_update(&self) -> UnixTime {
        self.0.this_update
    }

    /// nextUpdate: from then on it has expired.
    pub fn next_update(&self) -> UnixTime {
        self.0.next_update
    }

    /// Its cRLNumber (RFC 5280, section 5.2.3) in decimal, if it has one.
    pub fn number(&self) -> Option<&str> {
        self.0.number.as_ref().map(|number| &*number.decimal)
    }

    /// Its DER.
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// SHA-256 of its DER.
    fn digest(&self) -> &[u8; 32] {
        self.0.digest.get_or_init(|| presented::sha256(&self.0.der))
    }

    /// How many certificates it revokes.
    pub fn entries(&self) -> usize {
        self.0.serials.len()
    }

    /// DER of the SubjectPublicKeyInfo of the key that was found to have signed it; `None` if no key was found yet.
    pub fn signer(&self) -> Option<&[u8]> {
        self.0.signer.get().map(|key| &**key)
    }

    /// When a path last needed it, in seconds since 1970; 0 for never.
    pub fn last_used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Notes that a path needs it at `now`, in seconds since 1970.
    pub fn note_used(&self, now: u64) {
        self.0.used.fetch_max(now, Ordering::Relaxed);
    }

    /// Whether both are of the same issuer, by its name.
    pub fn has_issuer_of(&self, other: &Self) -> bool {
        self.0.canonical_issuer == other.0.canonical_issuer
    }

    /// Whether it was issued before `other`, a list of the same issuer: by thisUpdate, and by the number (RFC 5280, section 5.2.3) if one key
    /// signed both.
    pub fn is_older_than(&self, other: &Self) -> bool {
        let by_number = match (&self.0.number, &other.0.number) {
            (Some(own), Some(others)) if self.authority_key() == other.authority_key() => own.is_less_than(others),
            _ => false,
        };
        self.this_update() < other.this_update() || by_number
    }

    /// Whether one of these signed it. Verifies its signature, which costs some milliseconds if it has many entries, unless its signer was
    /// found before.
    pub fn provenance(&self, signers: &[ListSigner]) -> Provenance {
        let mut provenance = Provenance::Unknown;
        for signer in signers.iter().filter(|signer| signer.is_issuer_of(self)) {
            if self.is_signed_by(&SubjectPublicKeyInfoDer::from(signer.key.as_slice()), CERTIFICATE_SIGNATURES) {
                return Provenance::Signed;
            }
            provenance = Provenance::Foreign;
        }
        provenance
    }

    /// Whether hookgate accepts the algorithm of its signature. No path can use a list with another one.
    pub fn has_accepted_algorithm(&self) -> bool {
        let named = &self.0.der[self.0.algorithm.clone()];
        CERTIFICATE_SIGNATURES.iter().any(|known| known.signature_alg_id().as_ref() == named)
    }

    /// Whether both are by one issuer about the same certificates: all of them, or those of one distribution point.
    pub fn is_about_those_of(&self, other: &Self) -> bool {
        let is_same_part = match (self.partition(), other.partition()) {
            (None, None) => true,
            (Some(own), Some(others)) => {
                (own.end_entities_only, own.authorities_only) == (others.end_entities_only, others.authorities_only)
                    && own.addresses == others.addresses
            }
            _ => false,
        };
        is_same_part && self.has_issuer_of(other)
    }

    /// Whether it is by the issuer of `other`, and about every certificate that `other` is about.
    pub fn covers_those_of(&self, other: &Self) -> bool {
        let has_scope = match (self.partition(), other.partition()) {
            (None, _) => true,
            (Some(own), Some(others)) => {
                (own.end_entities_only, own.authorities_only) == (others.end_entities_only, others.authorities_only)
                    && others.addresses.iter().all(|address| own.addresses.contains(address))
            }
            (Some(_), None) => false,
        };
        has_scope && self.has_issuer_of(other)
    }

    /// Whether a certificate can be covered by both: they are of one issuer, and neither is limited to other distribution points.
    fn overlaps(&self, other: &Self) -> bool {
        let shares_address = match (self.partition(), other.partition()) {
            (Some(own), Some(others)) => own.addresses.iter().any(|address| others.addresses.contains(address)),
            _ => true,
        };
        self.has_issuer_of(other) && shares_address
    }

    /// Whether it contains every entry of `other`.
    fn has_entries_of(&self, other: &Self) -> bool {
        // Both are sorted.
        let mut own = self.0.serials.iter().map(|place| part(&self.0.der, place));
        other.0.serials.iter().all(|place| {
            let serial = part(&other.0.der, place);
            own.by_ref().find(|own| *own >= serial) == Some(serial)
        })
    }

    /// RFC 4514 text of its issuer, in printable ASCII.
    pub fn issuer(&self) -> String {
        self.0.issuer.clone()
    }

    /// Its issuer's name, as [`canonical`] makes it.
    pub(super) fn canonical_issuer(&self) -> &[u8] {
        &self.0.canonical_issuer
    }

    /// The identifier of the key that signed it, if it has one.
    pub(super) fn authority_key(&self) -> Option<&[u8]> {
        self.0.authority_key.as_deref()
    }

    /// What it is limited to, if it is.
    pub(super) fn partition(&self) -> Option<&Partition> {
        self.0.partition.as_ref()
    }

    /// Whether it contains this serial number (contents of an INTEGER).
    pub(super) fn revokes(&self, serial: &[u8]) -> bool {
        let Parsed { der, serials, .. } = &*self.0;
        let serial = shortest(serial);
        serials.binary_search_by(|place| part(der, place).cmp(serial)).is_ok()
    }

    /// Whether this key signed it, by one of `algorithms`. The signature is verified until a key is found for which it is good.
    pub(super) fn is_signed_by(
        &self,
        key: &SubjectPublicKeyInfoDer<'_>,
        algorithms: &[&dyn SignatureVerificationAlgorithm],
    ) -> bool {
        let Parsed { der, to_be_signed, algorithm, signature, signer, .. } = &*self.0;
        if signer.get().is_some_and(|known| **known == *key.as_ref()) {
            return true;
        }
        let Ok(entity) = RawPublicKeyEntity::try_from(key) else { return false };
        let mut named = algorithms.iter().filter(|known| known.signature_alg_id().as_ref() == &der[algorithm.clone()]);
        let (signed, bits) = (&der[to_be_signed.clone()], &der[signature.clone()]);
        let good = named.any(|known| entity.verify_signature(*known, signed, bits).is_ok());
        if good {
            // Another thread may have found the same.
            let _ = signer.set(key.as_ref().into());
        }
        good
    }
}

/// Where `part` lies in `whole`, of which it is a slice.
fn range(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr().saturating_sub(whole.as_ptr().addr());
    start..start + part.len()
}

fn part<'a>(der: &'a [u8], place: &Range<u32>) -> &'a [u8] {
    // `usize` has 32 bits or more on every supported target.
    der.get(place.start as usize..place.end as usize).unwrap_or_default()
}

/// The entries of a list, after webpki has found that it supports the list and every entry.
fn serials(der: &[u8]) -> Result<Vec<Range<u32>>, RevocationListError> {
    let refuse = |error: webpki::Error| match error {
        webpki::Error::UnsupportedDeltaCrl => RevocationListError::Delta,
        webpki::Error::UnsupportedIndirectCrl => RevocationListError::Indirect,
        webpki::Error::UnsupportedCrlVersion => RevocationListError::Version,
        error => RevocationListError::Unsupported { what: unsupported(&error) },
    };
    let list = BorrowedCertRevocationList::from_der(der).map_err(refuse)?;
    let mut serials = Vec::new();
    for entry in &list {
        let place = range(der, shortest(entry.map_err(refuse)?.serial_number));
        match (u32::try_from(place.start), u32::try_from(place.end)) {
            (Ok(start), Ok(end)) => serials.push(start..end),
            _ => return Err(RevocationListError::Malformed),
        }
    }
    serials.sort_unstable_by(|left, right| part(der, left).cmp(part(der, right)));
    serials.shrink_to_fit();
    Ok(serials)
}

/// The contents of an INTEGER without the bytes that say nothing (ITU-T X.690, section 8.3.2): certificate and list may differ in them, and
/// still mean the same number.
fn shortest(mut integer: &[u8]) -> &[u8] {
    while let [0, 0..=0x7f, ..] | [0xff, 0x80..=0xff, ..] = integer {
        integer = &integer[1..];
    }
    integer
}

/// Where the contents of signatureAlgorithm and of signatureValue lie, which follow the TBSCertList.
fn signature(der: &[u8], end: usize) -> Option<(Range<usize>, Range<usize>)> {
    let (_, algorithm, rest) = split(der.get(end..)?)?;
    let (_, bits, _) = split(rest)?;
    Some((range(der, algorithm), range(der, bits.get(1..)?)))
}

const UNKNOWN_VERSION: &str =
    "it is of a version that RFC 5280 does not define; ask its issuer for a list of version 2";

/// RFC 5280, section 4.2: of two extensions of one kind, nothing says which counts. webpki takes the last one, and x509-parser the first.
fn refuse_repeated_extensions(list: &CertificateRevocationList<'_>) -> Result<(), RevocationListError> {
    let mut extensions = list.extensions();
    while let Some((extension, rest)) = extensions.split_first() {
        if rest.iter().any(|other| other.oid == extension.oid) {
            return Err(RevocationListError::Unsupported { what: unsupported(&webpki::Error::ExtensionValueInvalid) });
        }
        extensions = rest;
    }
    Ok(())
}

/// id-ce-issuingDistributionPoint, 2.5.29.28.
const ISSUING_DISTRIBUTION_POINT: [u8; 3] = [0x55, 0x1d, 0x1c];

/// A list of attribute certificates says nothing about the certificates of a path. webpki refuses it too, without saying why.
fn refuse_attribute_certificates(list: &CertificateRevocationList<'_>) -> Result<(), RevocationListError> {
    let is_of_attributes = list.extensions().iter().any(|extension| match extension.parsed_extension() {
        ParsedExtension::IssuingDistributionPoint(point) => point.only_contains_attribute_certs,
        _ => false,
    });
    let what = "it is a partitioned list, of attribute certificates alone (onlyContainsAttributeCerts); configure the list of the \
                issuer's other certificates instead";
    if is_of_attributes { Err(RevocationListError::Unsupported { what }) } else { Ok(()) }
}

/// The issuing distribution point, which webpki has found to have a full name.
fn partition(list: &CertificateRevocationList<'_>) -> Result<Option<Partition>, RevocationListError> {
    let mut extensions = list.extensions().iter();
    let Some(extension) = extensions.find(|extension| extension.oid.as_bytes() == ISSUING_DISTRIBUTION_POINT) else {
        return Ok(None);
    };
    let ParsedExtension::IssuingDistributionPoint(point) = extension.parsed_extension() else {
        return Err(RevocationListError::Malformed);
    };
    let Some(DistributionPointName::FullName(names)) = &point.distribution_point else {
        return Err(RevocationListError::Malformed);
    };
    let address = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some((*uri).into()),
        _ => None,
    };
    Ok(Some(Partition {
        end_entities_only: point.only_contains_user_certs,
        authorities_only: point.only_contains_ca_certs,
        addresses: names.iter().filter_map(address).collect(),
    }))
}

/// Why a file cannot be used as a revocation list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevocationListError {
    /// Not DER, or not a CertificateList.
    #[error("it is not a DER-encoded certificate revocation list")]
    Malformed,
    /// Bytes after its end.
    #[error("bytes follow the end of the certificate revocation list")]
    TrailingData,
    /// No nextUpdate.
    #[error(
        "it has no nextUpdate, which RFC 5280 requires, so it would never expire; ask its issuer for a list with one"
    )]
    NextUpdateMissing,
    /// A delta CRL.
    #[error("it is a delta CRL; configure the complete list instead")]
    Delta,
    /// An indirect CRL.
    #[error("it is an indirect CRL, with entries of other issuers; configure the list of each issuer instead")]
    Indirect,
    /// A version 1 CRL.
    #[error("it is of version 1, and RFC 5280 requires version 2; with `openssl ca -gencrl`, write crl_extensions")]
    Version,
    /// Another property that hookgate does not support.
    #[error("{what}")]
    Unsupported {
        /// The property, and what to do.
        what: &'static str,
    },
}

/// Why webpki refuses a list that x509-parser can read.
fn unsupported(error: &webpki::Error) -> &'static str {
    use webpki::Error as E;
    match error {
        E::UnsupportedCriticalExtension => {
            "it has a critical extension that hookgate does not support; ask its issuer for a list without it"
        }
        E::UnsupportedRevocationReasonsPartitioning => {
            "it is a partitioned list, of revocations for some reasons only (onlySomeReasons); configure a list for all reasons \
             instead"
        }
        E::UnsupportedCrlIssuingDistributionPoint => {
            "it is a partitioned list whose issuing distribution point has no full name, so nothing says which certificates it \
             covers; configure a list without that extension, or with a full name in it"
        }
        E::UnsupportedRevocationReason => {
            "an entry has a reason that RFC 5280 does not define; ask its issuer to correct it"
        }
        E::InvalidCrlNumber => {
            "its cRLNumber is negative or longer than 20 bytes, which RFC 5280 forbids; ask its issuer to correct it"
        }
        E::InvalidSerialNumber => "an entry has a malformed serial number; ask its issuer to correct it",
        E::BadDerTime => "a date in it is malformed; ask its issuer to correct it",
        E::SignatureAlgorithmMismatch => {
            "it names one algorithm in signatureAlgorithm and another in tbsCertList; ask its issuer to correct it"
        }
        E::ExtensionValueInvalid | E::MalformedExtensions => {
            "an extension is malformed, missing or present twice; ask its issuer for a list that conforms to RFC 5280"
        }
        _ => {
            "it is not a certificate revocation list as RFC 5280, section 5, defines one; ask its issuer to correct it"
        }
    }
}

#[cfg(test)]
mod tests {
    use webpki::Error as E;

    use super::unsupported;

    #[test]
    fn every_error_about_a_list_has_words_of_its_own() {
        for (error, words) in [
            (E::UnsupportedCriticalExtension, "a critical extension"),
            (E::UnsupportedRevocationReasonsPartitioning, "for some reasons only"),
            (E::UnsupportedCrlIssuingDistributionPoint, "has no full name"),
            (E::UnsupportedRevocationReason, "a reason that RFC 5280 does not define"),
            (E::InvalidCrlNumber, "its cRLNumber"),
            (E::InvalidSerialNumber, "a malformed serial number"),
            (E::BadDerTime, "a date in it is malformed"),
            (E::SignatureAlgorithmMismatch, "one algorithm in signatureAlgorithm"),
            (E::ExtensionValueInvalid, "an extension is malformed, missing or present twice"),
            (E::MalformedExtensions, "an extension is malformed, missing or present twice"),
            (E::BadDer, "not a certificate revocation list as RFC 5280"),
        ] {
            assert!(unsupported(&error).contains(words), "{error:?}: {}", unsupported(&error));
        }
    }
}
