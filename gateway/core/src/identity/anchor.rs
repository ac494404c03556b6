//! What the certificate of a trust anchor says against its use.
//!
//! RFC 5280, section 6.1.1, takes a name and a key from a trust anchor, and so does webpki. But an operator configures a certificate, and
//! some certificates say that their key must not verify others. Owns that reading, once when the certificate is loaded. Must not judge
//! dates, key identifiers and path length: a root that is past its end, or careless in its form, still is what the operator chose.

use std::fmt;

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::x509::X509Version;

use super::name::Name;
use super::presented::parse;

/// What the certificate of a trust anchor allows its key to verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnchorUse {
    flaw: Option<AnchorFlaw>,
    signs_lists: bool,
}

/// Why a trust anchor verifies no certificate but its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnchorFlaw {
    /// It has version 3 and no cA in basicConstraints (RFC 5280, section 6.1.4 (k)).
    NotAnAuthority,
    /// Its key usage extension lacks keyCertSign (section 6.1.4 (n)).
    NotForCertificates,
    /// Its subject is empty (section 4.1.2.6), so that no issuer can be told from another.
    Nameless,
    /// It has a critical extension that hookgate does not process (section 4.2); the dotted object identifier.
    CriticalExtension(String),
    /// An extension is present twice, or basicConstraints or the key usage extension is malformed.
    Unreadable,
}

/// The last bytes of extensions 2.5.29.x that an anchor may have as critical: keyUsage, subjectAltName, basicConstraints, nameConstraints,
/// cRLDistributionPoints, the four about policies, which say nothing of an anchor (section 6.1.1), and extKeyUsage.
const PROCESSED: [u8; 10] = [15, 17, 19, 30, 31, 32, 33, 36, 37, 54];

impl AnchorUse {
    /// Reads it from the certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        let unreadable = Self { flaw: Some(AnchorFlaw::Unreadable), signs_lists: false };
        parse(certificate).and_then(|certificate| Self::read(&certificate)).unwrap_or(unreadable)
    }

    /// What a certificate without extensions allows: everything.
    pub fn unrestricted() -> Self {
        Self { flaw: None, signs_lists: true }
    }

    /// Why no certificate is verified with the key of the anchor, unless it has the same key.
    pub fn flaw(&self) -> Option<&AnchorFlaw> {
        self.flaw.as_ref()
    }

    /// Whether it may sign revocation lists: its key usage extension, if it has one, includes cRLSign (RFC 5280, section 6.3.3 (f)).
    pub fn signs_lists(&self) -> bool {
        self.signs_lists
    }

    fn read(certificate: &X509Certificate<'_>) -> Option<Self> {
        let usage = certificate.key_usage().ok()?.map(|extension| extension.value);
        let constraints = certificate.basic_constraints().ok()?.map(|extension| extension.value);
        let critical = certificate.extensions().iter().find(|extension| {
            let id = extension.oid.as_bytes();
            extension.critical && !PROCESSED.iter().any(|last| id == [0x55, 0x1d, *last])
        });
        let flaw = if let Some(extension) = critical {
            Some(AnchorFlaw::CriticalExtension(extension.oid.to_id_string()))
        } else if Name::from_der(certificate.subject().as_raw())?.is_empty() {
            Some(AnchorFlaw::Nameless)
        } else if certificate.version() == X509Version::V3 && !constraints.is_some_and(|found| found.ca) {
            Some(AnchorFlaw::NotAnAuthority)
        } else if usage.is_some_and(|usage| !usage.key_cert_sign()) {
            Some(AnchorFlaw::NotForCertificates)
        } else {
            None
        };
        Some(Self { flaw, signs_lists: usage.is_none_or(|usage| usage.crl_sign()) })
    }
}

impl fmt::Display for AnchorFlaw {
    /// A clause whose subject is the certificate of the anchor.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnAuthority => formatter.write_str("is not a CA certificate (basicConstraints with CA:TRUE)"),
            Self::NotForCertificates => formatter.write_str("has a key usage extension without keyCertSign"),
            Self::Nameless => formatter.write_str("has an empty subject"),
            Self::CriticalExtension(id) => {
                write!(formatter, "has a critical extension that hookgate does not support ({id})")
            }
            Self::Unreadable => formatter.write_str("has a malformed or duplicate extension"),
        }
    }
}
