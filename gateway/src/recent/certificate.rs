//! What is shown of an end entity: fingerprint, names, validity. Printable and bounded, because a stranger chooses them.

use std::fmt::Write as _;

use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::note::beginning;
use hookgate_core::identity::printable_name;

/// Most bytes of a name. The subjects of the providers' certificates are shorter.
const NAME_BYTES: usize = 256;

/// Most bytes of a certificate whose names are read: public authorities issue certificates of 1 to 3 KiB. The name of a longer one may have
/// thousands of attributes.
const CERTIFICATE_BYTES: usize = 16 * 1024;

/// What is shown of an end entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndEntity {
    /// SHA-256 of its DER.
    pub fingerprint: [u8; 32],
    /// RFC 4514 text, printable ASCII; empty if it cannot be read.
    pub subject: Box<str>,
    /// RFC 4514 text, printable ASCII; empty if it cannot be read.
    pub issuer: Box<str>,
    /// In seconds since 1970, if it can be read.
    pub not_after: Option<u64>,
}

impl EndEntity {
    pub(super) fn of(certificate: &[u8]) -> Self {
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest(&SHA256, certificate).as_ref());
        let unread = Self { fingerprint, subject: Box::from(""), issuer: Box::from(""), not_after: None };
        let short = Some(certificate).filter(|certificate| certificate.len() <= CERTIFICATE_BYTES);
        let Some(Ok((_, parsed))) = short.map(X509Certificate::from_der) else { return unread };
        let name = |der: &[u8]| beginning(&printable_name(der).unwrap_or_default(), NAME_BYTES);
        Self {
            subject: name(parsed.subject().as_raw()),
            issuer: name(parsed.issuer().as_raw()),
            not_after: u64::try_from(parsed.validity().not_after.timestamp()).ok(),
            ..unread
        }
    }

    /// The fingerprint, 64 hexadecimal digits.
    pub(super) fn hexadecimal(&self) -> String {
        HEXLOWER.encode(&self.fingerprint)
    }
}

/// A fingerprint as the pages of authorities show it: `9A:…`.
pub fn fingerprint_text(fingerprint: &[u8]) -> String {
    let mut text = String::with_capacity(fingerprint.len() * 3);
    for (index, byte) in fingerprint.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{}{byte:02X}", if index == 0 { "" } else { ":" });
    }
    text
}
