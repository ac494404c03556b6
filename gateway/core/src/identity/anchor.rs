//! What the certificate of a trust anchor says against its use.
//!
//! RFC 5280, section 6.1.1, takes a name and a key from a trust anchor, and so does webpki. But an operator configures a certificate, and
//! some certificates say that their key must not verify others. Owns that reading, once when the certificate is loaded, and
//! the anchors of a profile as a list. Must not judge dates, key identifiers and path length: a root that is past its end, or
//! careless in its form, still is what the operator chose.

use std::fmt;
use std::ops::Deref;

use rustls_pki_types::{CertificateDer, TrustAnchor};
use x509_parser::certificate::X509Certificate;
use x509_parser::x509::X509Version;

use super::name::Name;
use super::presented::parse;
use super::trust_digest::{Digested, Transcript};

/// A trust anchor of a profile, with what its certificate says.
#[derive(Clone, Debug)]
pub struct ConfiguredAnchor {
    /// Name, key and name constraints.
    pub trust_anchor: TrustAnchor<'static>,
    /// Its notAfter, in seconds since 1970. For warnings only: no path depends on it.
    pub not_after: u64,
    /// What its certificate allows its key to verify.
    pub anchor_use: AnchorUse,
}

impl ConfiguredAnchor {
    /// The anchor of this certificate, whose notAfter is `not_after`.
    ///
    /// # Errors
    ///
    /// If webpki cannot read the certificate.
    pub fn of(certificate: &CertificateDer<'_>, not_after: u64) -> Result<Self, webpki::Error> {
        let trust_anchor = webpki::anchor_from_trusted_cert(certificate)?.to_owned();
        Ok(Self { trust_anchor, not_after, anchor_use: AnchorUse::of(certificate) })
    }
}

/// The trust anchors of a profile, in the order of the configuration.
///
/// webpki takes a slice of [`TrustAnchor`], so what their certificates say stands beside it. Both grow together, and nothing else changes
/// them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustAnchors {
    anchors: Vec<TrustAnchor<'static>>,
    certificates: Vec<(u64, AnchorUse)>,
}

impl TrustAnchors {
    /// These anchors, of which nothing is known that restricts them: without an end, and for every use.
    pub fn unrestricted(anchors: impl IntoIterator<Item = TrustAnchor<'static>>) -> Self {
        let anchor_use = AnchorUse::unrestricted;
        let anchors = anchors.into_iter();
        anchors
            .map(|trust_anchor| ConfiguredAnchor { trust_anchor, not_after: u64::MAX, anchor_use: anchor_use() })
            .collect()
    }

    /// Adds one at the end.
    pub fn push(&mut self, anchor: ConfiguredAnchor) {
        let ConfiguredAnchor { trust_anchor, not_after, anchor_use } = anchor;
        self.anchors.push(trust_anchor);
        self.certificates.push((not_after, anchor_use));
    }

    /// What the certificate of the anchor at this place allows.
    pub fn anchor_use(&self, place: usize) -> Option<&AnchorUse> {
        self.certificates.get(place).map(|(_, anchor_use)| anchor_use)
    }

    /// Each anchor, with its notAfter in seconds since 1970.
    pub fn with_ends(&self) -> impl Iterator<Item = (&TrustAnchor<'static>, u64)> {
        self.anchors.iter().zip(self.certificates.iter().map(|(not_after, _)| *not_after))
    }
}

impl Digested for TrustAnchors {
    fn add_to(&self, transcript: &mut Transcript) {
        let Self { anchors, certificates } = self;
        transcript.number(anchors.len() as u64);
        // No path depends on the notAfter of an anchor.
        for (anchor, (_, anchor_use)) in anchors.iter().zip(certificates) {
            let TrustAnchor { subject, subject_public_key_info, name_constraints } = anchor;
            transcript.bytes(subject);
            transcript.bytes(subject_public_key_info);
            transcript.add(&name_constraints.is_some());
            transcript.bytes(name_constraints.as_deref().unwrap_or_default());
            transcript.add(anchor_use);
        }
    }
}

impl Deref for TrustAnchors {
    type Target = [TrustAnchor<'static>];

    fn deref(&self) -> &Self::Target {
        &self.anchors
    }
}

impl FromIterator<ConfiguredAnchor> for TrustAnchors {
    fn from_iter<I: IntoIterator<Item = ConfiguredAnchor>>(anchors: I) -> Self {
        let mut all = Self::default();
        anchors.into_iter().for_each(|anchor| all.push(anchor));
        all
    }
}

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

impl Digested for AnchorUse {
    fn add_to(&self, transcript: &mut Transcript) {
        let Self { flaw, signs_lists } = self;
        transcript.add(flaw);
        transcript.add(signs_lists);
    }
}

impl Digested for AnchorFlaw {
    fn add_to(&self, transcript: &mut Transcript) {
        match self {
            Self::NotAnAuthority => transcript.number(0),
            Self::NotForCertificates => transcript.number(1),
            Self::Nameless => transcript.number(2),
            Self::CriticalExtension(id) => {
                transcript.number(3);
                transcript.add(id.as_str());
            }
            Self::Unreadable => transcript.number(4),
        }
    }
}
