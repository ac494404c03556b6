//! Certificate revocation lists (RFC 5280, section 5), loaded once and looked up by serial number.
//!
//! Owns their parsing and their application: an expired list refuses the chain, and so does a certificate that no list covers. Must
//! not fetch anything: the configuration names files, and `config` reads them.
//!
//! A list is found by the name of its issuer, and its signature is verified with the key that issued the certificate. Of two lists
//! with the same issuer name, the newer is used; two authorities with the same name and different keys are not distinguished.

use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::UnixTime;
use webpki::{
    CertRevocationList, ExpirationPolicy, OwnedCertRevocationList, RevocationCheckDepth, RevocationOptions,
    RevocationOptionsBuilder, UnknownStatusPolicy,
};
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use super::name::Name;
use super::presented::unix_seconds;
use super::signature_memory::SignatureMemory;

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
    /// The newest first, since webpki uses the first one that covers a certificate.
    lists: Arc<[RevocationList]>,
    scope: RevocationScope,
    /// Of these lists alone, whose addresses it holds.
    signatures: Arc<SignatureMemory>,
}

impl RevocationLists {
    /// These lists, applied to `scope`.
    pub fn new(mut lists: Vec<RevocationList>, scope: RevocationScope) -> Self {
        lists.sort_by_key(|list| std::cmp::Reverse(list.this_update));
        Self { lists: lists.into(), scope, signatures: Arc::new(SignatureMemory::of_lists()) }
    }

    /// The lists, the newest first.
    pub fn lists(&self) -> &[RevocationList] {
        &self.lists
    }

    /// Which certificates are looked up.
    pub fn scope(&self) -> RevocationScope {
        self.scope
    }

    /// The signatures of these lists that were found good.
    pub(super) fn signatures(&self) -> &SignatureMemory {
        &self.signatures
    }

    /// The references that webpki takes as one slice. A few words a list, made only when a path is built.
    pub(super) fn references(&self) -> Vec<&CertRevocationList<'static>> {
        self.lists.iter().map(|list| &*list.webpki).collect()
    }

    /// How webpki applies `references`; `None` if there are none.
    pub(super) fn options<'a>(
        &self,
        references: &'a [&'a CertRevocationList<'static>],
    ) -> Option<RevocationOptions<'a>> {
        let depth = match self.scope {
            RevocationScope::Chain => RevocationCheckDepth::Chain,
            RevocationScope::EndEntity => RevocationCheckDepth::EndEntity,
        };
        let builder = RevocationOptionsBuilder::new(references).ok()?;
        let builder = builder.with_depth(depth).with_status_policy(UnknownStatusPolicy::Deny);
        Some(builder.with_expiration_policy(ExpirationPolicy::Enforce).build())
    }

    /// The earliest nextUpdate of the lists that a verification at `now` may have used: those of these issuers (contents of their
    /// names). A list that had expired by then was not used, since the verification would have failed.
    pub(super) fn valid_until<'a>(&self, issuers: impl Iterator<Item = &'a [u8]>, now: UnixTime) -> Option<UnixTime> {
        let updates = issuers.flat_map(|issuer| self.of_issuer(issuer)).map(|list| list.next_update);
        updates.filter(|next_update| *next_update > now).min()
    }

    /// The lists of an issuer (contents of its name).
    pub(super) fn of_issuer<'a>(&'a self, issuer: &'a [u8]) -> impl Iterator<Item = &'a RevocationList> {
        self.lists.iter().filter(move |list| list.webpki.issuer() == issuer)
    }
}

/// One revocation list. Clones share it.
#[derive(Clone, Debug)]
pub struct RevocationList {
    /// Keeps the serial numbers in a map: a look-up costs the logarithm of the list's length.
    webpki: Arc<CertRevocationList<'static>>,
    this_update: UnixTime,
    next_update: UnixTime,
    number: Option<Arc<str>>,
}

impl RevocationList {
    /// Parses the DER of one list.
    ///
    /// # Errors
    ///
    /// If it is not a complete, direct version 2 list with a nextUpdate. The signature is verified at the first use, since the
    /// issuer's key is known only from a path.
    pub fn from_der(der: &[u8]) -> Result<Self, RevocationListError> {
        let parsed = match CertificateRevocationList::from_der(der) {
            Ok(([], parsed)) => parsed,
            Ok(_) => return Err(RevocationListError::TrailingData),
            Err(_) => return Err(RevocationListError::Malformed),
        };
        let next_update = parsed.next_update().ok_or(RevocationListError::NextUpdateMissing)?;
        let this_update = parsed.last_update();
        let number = parsed.crl_number().map(|number| number.to_string().into());
        let time = |time| UnixTime::since_unix_epoch(Duration::from_secs(unix_seconds(time)));
        let owned = OwnedCertRevocationList::from_der(der).map_err(|error| match error {
            webpki::Error::UnsupportedDeltaCrl => RevocationListError::Delta,
            webpki::Error::UnsupportedIndirectCrl => RevocationListError::Indirect,
            webpki::Error::UnsupportedCrlVersion => RevocationListError::Version,
            error => RevocationListError::Unsupported { what: unsupported(&error) },
        })?;
        Ok(Self {
            webpki: Arc::new(owned.into()),
            this_update: time(this_update),
            next_update: time(next_update),
            number,
        })
    }

    /// thisUpdate: when it was issued.
    pub fn this_update(&self) -> UnixTime {
        self.this_update
    }

    /// nextUpdate: from then on it has expired.
    pub fn next_update(&self) -> UnixTime {
        self.next_update
    }

    /// Its cRLNumber (RFC 5280, section 5.2.3) in decimal, if it has one.
    pub fn number(&self) -> Option<&str> {
        self.number.as_deref()
    }

    /// RFC 4514 text of its issuer, in printable ASCII.
    pub fn issuer(&self) -> String {
        Name::from_contents(self.webpki.issuer()).map(|name| name.to_string()).unwrap_or_default()
    }

    /// Whether it contains this serial number (DER contents).
    pub(super) fn revokes(&self, serial: &[u8]) -> bool {
        matches!(self.webpki.find_serial(serial), Ok(Some(_)))
    }
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
    #[error("it is not a version 2 CRL, as RFC 5280 requires")]
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
