//! The certificates that a peer presented, each parsed at most once by each of the two parsers.
//!
//! Owns parsing: webpki for path verification, x509-parser for identity rules and diagnosis. Must not decide: a malformed end entity
//! is an error, another malformed certificate is kept and can be on no path.

use std::cell::OnceCell;

use ring::digest::{SHA256, digest};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::EndEntityCert;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::KeyUsage;
use x509_parser::prelude::FromDer as _;
use x509_parser::time::ASN1Time;

use super::alternative_names::AlternativeNames;
use super::effort::{Reading, note};
use super::name::Name;

/// One presented certificate.
pub(super) struct Presented<'a> {
    der: &'a CertificateDer<'a>,
    /// webpki parses every certificate as this type, intermediates included.
    webpki: Result<EndEntityCert<'a>, webpki::Error>,
    /// The respelled certificate, if `spelling` made one.
    respelled: Option<(&'a CertificateDer<'a>, EndEntityCert<'a>)>,
    x509: OnceCell<Option<X509Certificate<'a>>>,
}

impl<'a> Presented<'a> {
    pub(super) fn new(der: &'a CertificateDer<'a>) -> Self {
        note(Reading::Parsed, 1);
        Self { der, webpki: EndEntityCert::try_from(der), respelled: None, x509: OnceCell::new() }
    }

    /// The certificate from which webpki builds paths: the one presented, or the respelled one.
    pub(super) fn path_der(&self) -> &'a CertificateDer<'a> {
        self.respelled.as_ref().map_or(self.der, |(der, _)| der)
    }

    /// The same, parsed.
    pub(super) fn path_webpki(&self) -> Result<&EndEntityCert<'a>, &webpki::Error> {
        match (&self.webpki, &self.respelled) {
            (Ok(_), Some((_, parsed))) => Ok(parsed),
            (webpki, _) => webpki.as_ref(),
        }
    }

    pub(super) fn der(&self) -> &'a CertificateDer<'a> {
        self.der
    }

    /// The certificate as presented, as webpki parses it, or its error.
    pub(super) fn webpki(&self) -> Result<&EndEntityCert<'a>, &webpki::Error> {
        self.webpki.as_ref()
    }

    /// The certificate as x509-parser parses it; see [`parse`].
    pub(super) fn x509(&self) -> Option<&X509Certificate<'a>> {
        self.x509.get_or_init(|| parse(self.der)).as_ref()
    }

    /// Contents of the subject, without the outermost tag and length, to compare: as presented, or respelled. Empty if the certificate is
    /// malformed.
    pub(super) fn subject(&self) -> &[u8] {
        self.path_webpki().map(|certificate| certificate.subject()).unwrap_or_default()
    }

    /// Contents of the issuer, in the same form.
    pub(super) fn issuer(&self) -> &[u8] {
        self.path_webpki().map(|certificate| certificate.issuer()).unwrap_or_default()
    }

    /// Whether the issuer name of this certificate is `subject`.
    pub(super) fn claims_issuer(&self, subject: &[u8]) -> bool {
        self.path_webpki().is_ok_and(|certificate| certificate.issuer() == subject)
    }
}

/// Parses strictly: no byte may follow the certificate, and no extension may be present twice (RFC 5280, section 4.2).
/// x509-parser by itself allows both.
pub(super) fn parse(der: &[u8]) -> Option<X509Certificate<'_>> {
    note(Reading::Understood, 1);
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) if certificate.extensions_map().is_ok() => Some(certificate),
        _ => None,
    }
}

/// Seconds since 1970; 0 for an earlier time.
pub(super) fn unix_seconds(time: ASN1Time) -> u64 {
    u64::try_from(time.timestamp()).unwrap_or(0)
}

/// The first second at which the certificate is no longer valid: notAfter is the last valid one (RFC 5280, section 4.1.2.5).
pub(super) fn valid_until(certificate: &X509Certificate<'_>) -> UnixTime {
    let not_after = unix_seconds(certificate.validity().not_after);
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(not_after.saturating_add(1)))
}

/// The whole presented chain, end entity first. Certificates in it may be malformed.
pub(super) struct PresentedChain<'a> {
    certificates: Vec<Presented<'a>>,
}

impl<'a> PresentedChain<'a> {
    pub(super) fn new(chain: &'a [CertificateDer<'a>]) -> Self {
        Self { certificates: chain.iter().map(Presented::new).collect() }
    }

    /// The same chain, with its certificates respelled, in its order. One that cannot be parsed stays as it is.
    pub(super) fn with_respelled(mut self, respelled: &'a [CertificateDer<'a>]) -> Self {
        for (certificate, der) in self.certificates.iter_mut().zip(respelled) {
            note(Reading::Parsed, 1);
            certificate.respelled = EndEntityCert::try_from(der).ok().map(|parsed| (der, parsed));
        }
        self
    }

    pub(super) fn certificates(&self) -> &[Presented<'a>] {
        &self.certificates
    }

    /// The place of the certificate whose [`Presented::path_der`] lies at `der`.
    pub(super) fn place_of(&self, der: &[u8]) -> Option<usize> {
        self.certificates.iter().position(|certificate| std::ptr::eq(certificate.path_der().as_ref(), der))
    }

    /// The end entity, or the error of parsing it.
    pub(super) fn end_entity(&self) -> Result<EndEntity<'_>, webpki::Error> {
        let presented = self.certificates.first().ok_or(webpki::Error::BadDer)?;
        EndEntity::new(presented)
    }
}

/// The end-entity certificate, well-formed, with the values that identity rules compare.
pub(super) struct EndEntity<'a> {
    webpki: &'a EndEntityCert<'a>,
    path: &'a EndEntityCert<'a>,
    x509: &'a X509Certificate<'a>,
    subject: Name<'a>,
    common_name: OnceCell<Option<String>>,
    alternative_names: AlternativeNames<'a>,
    spki_sha256: OnceCell<[u8; 32]>,
    certificate_sha256: OnceCell<[u8; 32]>,
}

impl<'a> EndEntity<'a> {
    fn new(presented: &'a Presented<'_>) -> Result<Self, webpki::Error> {
        let webpki = presented.webpki().map_err(Clone::clone)?;
        // If webpki parses a certificate and x509-parser does not, an extension is the likely cause.
        let x509 = presented.x509().ok_or(webpki::Error::MalformedExtensions)?;
        let subject = Name::from_contents(webpki.subject()).ok_or(webpki::Error::BadDer)?;
        let alternative_names = match x509.subject_alternative_name() {
            Ok(Some(extension)) => extension.value.general_names.as_slice(),
            Ok(None) => &[],
            Err(_) => return Err(webpki::Error::ExtensionValueInvalid),
        };
        x509.extended_key_usage().map_err(|_| webpki::Error::ExtensionValueInvalid)?;
        x509.key_usage().map_err(|_| webpki::Error::ExtensionValueInvalid)?;
        Ok(Self {
            webpki,
            path: presented.path_webpki().map_err(Clone::clone)?,
            x509,
            subject,
            common_name: OnceCell::new(),
            alternative_names: AlternativeNames::new(alternative_names),
            spki_sha256: OnceCell::new(),
            certificate_sha256: OnceCell::new(),
        })
    }

    /// From which webpki builds paths; see [`Presented::path_der`].
    pub(super) fn path_webpki(&self) -> &'a EndEntityCert<'a> {
        self.path
    }

    pub(super) fn x509(&self) -> &'a X509Certificate<'a> {
        self.x509
    }

    pub(super) fn subject(&self) -> &Name<'a> {
        &self.subject
    }

    /// The key usage extension, if it is present.
    pub(super) fn key_usage(&self) -> Option<&KeyUsage> {
        self.x509.key_usage().ok().flatten().map(|usage| usage.value)
    }

    /// The text of the only common name in the subject; see [`Name::only_common_name`].
    pub(super) fn common_name(&self) -> Option<&String> {
        self.common_name.get_or_init(|| self.subject.only_common_name()).as_ref()
    }

    /// The entries of the subject alternative name extension; none if it is absent.
    pub(super) fn alternative_names(&self) -> &AlternativeNames<'a> {
        &self.alternative_names
    }

    pub(super) fn spki_sha256(&self) -> &[u8; 32] {
        self.spki_sha256.get_or_init(|| sha256(&self.webpki.subject_public_key_info()))
    }

    pub(super) fn certificate_sha256(&self) -> &[u8; 32] {
        self.certificate_sha256.get_or_init(|| sha256(&self.webpki.der()))
    }
}

pub(super) fn sha256(input: &[u8]) -> [u8; 32] {
    let mut output = [0; 32];
    output.copy_from_slice(digest(&SHA256, input).as_ref());
    output
}
