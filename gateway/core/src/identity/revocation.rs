//! Certificate revocation lists (RFC 5280, section 5), loaded once and looked up by serial number.
//!
//! Owns their parsing. webpki decides whether a list is well-formed and supported; its own look-up takes the first list of a name,
//! whichever key signed it, so `status` has another. Must not fetch anything: the configuration names files, and `config` reads them.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::{SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer, UnixTime};
use webpki::{BorrowedCertRevocationList, RawPublicKeyEntity};
use x509_parser::extensions::{DistributionPointName, GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::x509::X509Version;

use super::elements::split;
use super::name::{Name, canonical};
use super::presented::unix_seconds;
use super::signature_memory::ListMemory;

/// `crl_scope`: which certificates of a path are looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RevocationScope {
    /// The end entity and every intermediate. Each needs a list of its issuer.
    #[default]
    Chain,
    /// The end entity only.
    EndEntity,
}

/// The revocation lists of one profile. If there is no list, the status of every certificate is unknown and no chain passes.
#[derive(Clone, Debug)]
pub struct RevocationLists {
    /// The newest first, since the first one that covers a certificate is used.
    lists: Arc<[RevocationList]>,
    scope: RevocationScope,
    /// Of these lists alone, whose addresses it holds.
    signatures: Arc<ListMemory>,
}

impl RevocationLists {
    /// These lists, applied to `scope`.
    pub fn new(mut lists: Vec<RevocationList>, scope: RevocationScope) -> Self {
        lists.sort_by_key(|list| std::cmp::Reverse(list.this_update()));
        Self { lists: lists.into(), scope, signatures: Arc::new(ListMemory::new()) }
    }

    /// The lists, the newest first.
    pub fn lists(&self) -> &[RevocationList] {
        &self.lists
    }

    /// Which certificates are looked up.
    pub fn scope(&self) -> RevocationScope {
        self.scope
    }

    /// The signatures of these lists that were checked.
    pub(super) fn signatures(&self) -> &ListMemory {
        &self.signatures
    }
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
    number: Option<Box<str>>,
}

impl std::fmt::Debug for Parsed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut output = formatter.debug_struct("RevocationList");
        output.field("issuer", &self.issuer).field("number", &self.number).field("next_update", &self.next_update);
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
        if parsed.version() != Some(X509Version::V2) {
            return Err(RevocationListError::Version);
        }
        let next_update = parsed.next_update().ok_or(RevocationListError::NextUpdateMissing)?;
        let serials = serials(&der)?;
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
            number: parsed.crl_number().map(|number| number.to_string().into()),
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
        self.0.number.as_deref()
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

    /// Whether it contains this serial number (DER contents).
    pub(super) fn revokes(&self, serial: &[u8]) -> bool {
        let Parsed { der, serials, .. } = &*self.0;
        serials.binary_search_by(|place| part(der, place).cmp(serial)).is_ok()
    }

    /// Whether this key signed it, by one of `algorithms`.
    pub(super) fn is_signed_by(
        &self,
        key: &SubjectPublicKeyInfoDer<'_>,
        algorithms: &[&dyn SignatureVerificationAlgorithm],
    ) -> bool {
        let Parsed { der, to_be_signed, algorithm, signature, .. } = &*self.0;
        let Ok(key) = RawPublicKeyEntity::try_from(key) else { return false };
        let mut named = algorithms.iter().filter(|known| known.signature_alg_id().as_ref() == &der[algorithm.clone()]);
        named.any(|known| key.verify_signature(*known, &der[to_be_signed.clone()], &der[signature.clone()]).is_ok())
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
        let place = range(der, entry.map_err(refuse)?.serial_number);
        match (u32::try_from(place.start), u32::try_from(place.end)) {
            (Ok(start), Ok(end)) => serials.push(start..end),
            _ => return Err(RevocationListError::Malformed),
        }
    }
    serials.sort_unstable_by(|left, right| part(der, left).cmp(part(der, right)));
    serials.shrink_to_fit();
    Ok(serials)
}

/// Where the contents of signatureAlgorithm and of signatureValue lie, which follow the TBSCertList.
fn signature(der: &[u8], end: usize) -> Option<(Range<usize>, Range<usize>)> {
    let (_, algorithm, rest) = split(der.get(end..)?)?;
    let (_, bits, _) = split(rest)?;
    Some((range(der, algorithm), range(der, bits.get(1..)?)))
}

/// The issuing distribution point, which webpki has found to have a full name.
fn partition(list: &CertificateRevocationList<'_>) -> Result<Option<Partition>, RevocationListError> {
    /// id-ce-issuingDistributionPoint, 2.5.29.28.
    const ISSUING_DISTRIBUTION_POINT: [u8; 3] = [0x55, 0x1d, 0x1c];
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
            "it lists revocations for some reasons only (onlySomeReasons); configure a list for all reasons instead"
        }
        E::UnsupportedCrlIssuingDistributionPoint => {
            "its issuing distribution point has no full name; configure a list without that extension, or with a full name in it"
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
