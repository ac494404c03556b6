//! The roots that a sender trusts: Mozilla's list, and those that the user names.
//!
//! Owns where they come from. Must not verify: `chain` does.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use hookgate_core::identity::{comparable_name, printable_name};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, TrustAnchor};

/// The most bytes of a file with certificates or a key. Mozilla's whole list has about 250 KiB of PEM.
pub(crate) const MAXIMUM_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Trusted roots.
#[derive(Clone, Debug)]
pub struct Roots {
    anchors: Vec<TrustAnchor<'static>>,
    /// The certificates that the user named; their anchors are the last ones.
    own: Vec<CertificateDer<'static>>,
}

/// Why a file with certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{path} cannot be read: {why}")]
    Read {
        /// The file.
        path: String,
        /// Why. It is in the message, so it is no `source`.
        why: io::Error,
    },
    /// It has no certificate.
    #[error("{path} holds no certificate; write the path of a PEM file with BEGIN CERTIFICATE")]
    NoCertificate {
        /// The file.
        path: String,
    },
    /// A certificate is malformed.
    #[error("{path}: {what}")]
    Malformed {
        /// The file.
        path: String,
        /// What is wrong.
        what: String,
    },
}

/// Reads a file of at most [`MAXIMUM_FILE_BYTES`].
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let failed = |why| FileError::Read { path: path.display().to_string(), why };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAXIMUM_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAXIMUM_FILE_BYTES {
        return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 4 MiB")));
    }
    Ok(bytes)
}

/// The certificates of a PEM file, in its order; at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let bytes = read(path)?;
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let path = path.display().to_string();
    let parsed = parsed.map_err(|error| FileError::Malformed { path: path.clone(), what: error.to_string() })?;
    if parsed.is_empty() { Err(FileError::NoCertificate { path }) } else { Ok(parsed) }
}

impl Roots {
    /// Mozilla's list, as of the version of the crate webpki-roots.
    #[must_use]
    pub fn mozilla() -> Self {
        Self { anchors: webpki_roots::TLS_SERVER_ROOTS.to_vec(), own: Vec::new() }
    }

    /// The same, and every certificate of the PEM file at `path`.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or has no certificate, or one that is malformed.
    pub fn with_file(mut self, path: &Path) -> Result<Self, FileError> {
        for certificate in certificates(path)? {
            let anchor = webpki::anchor_from_trusted_cert(&certificate).map_err(|error| FileError::Malformed {
                path: path.display().to_string(),
                what: format!("a certificate cannot be used as a root: {error}"),
            })?;
            self.anchors.push(anchor.to_owned());
            self.own.push(certificate);
        }
        Ok(self)
    }

    /// Every root, for verification.
    #[must_use]
    pub fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }

    /// Whether the user named this very certificate.
    pub(crate) fn names(&self, certificate: &CertificateDer<'_>) -> bool {
        self.own.contains(certificate)
    }

    /// Whether a root has this name (a DER `Name`).
    pub fn has_name(&self, name: &[u8]) -> bool {
        let wanted = comparable_name(name);
        // webpki keeps the contents of a name, without its outermost tag and length.
        self.anchors.iter().any(|anchor| comparable_name(&whole(anchor.subject.as_ref())) == wanted)
    }

    /// Whether the user named this root, and Mozilla's list does not have it.
    pub(crate) fn is_own(&self, anchor: &TrustAnchor<'_>) -> bool {
        let (public, _) = self.anchors.split_at(self.anchors.len() - self.own.len());
        !public.iter().any(|public| public.subject_public_key_info == anchor.subject_public_key_info)
    }
}

/// The whole DER `Name` around its contents.
fn whole(contents: &[u8]) -> Vec<u8> {
    let length = contents.len();
    let mut der = vec![0x30];
    match length {
        0..=0x7f => der.push(u8::try_from(length).unwrap_or_default()),
        // X.690, section 8.1.3.5.
        _ => {
            let bytes = length.to_be_bytes();
            let used = &bytes[bytes.iter().position(|byte| *byte != 0).unwrap_or(0)..];
            der.push(0x80 | u8::try_from(used.len()).unwrap_or_default());
            der.extend(used);
        }
    }
    der.extend(contents);
    der
}

/// The name of a root, to print.
pub(crate) fn anchor_name(anchor: &TrustAnchor<'_>) -> String {
    shown_name(anchor.subject.as_ref())
}

/// The most characters of a printed name.
const MAXIMUM_NAME_CHARACTERS: usize = 200;

/// A DER `Name`, or its contents, to print: bounded, and in printable ASCII.
pub(crate) fn shown_name(der: &[u8]) -> String {
    let mut text = printable_name(der).unwrap_or_else(|| "a malformed name".to_owned());
    if text.is_empty() {
        return "an empty name".to_owned();
    }
    if text.len() > MAXIMUM_NAME_CHARACTERS {
        text.truncate(MAXIMUM_NAME_CHARACTERS);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mozilla_has_the_roots_that_presets_name_and_lacks_those_it_dropped() {
        let roots = Roots::mozilla();
        assert!(roots.anchors().len() > 100, "{}", roots.anchors().len());
        let names: Vec<String> = roots.anchors().iter().map(anchor_name).collect();
        assert!(names.iter().any(|name| name.contains("CN=DigiCert Global Root G2")), "{names:?}");
        assert!(roots.anchors().iter().all(|anchor| roots.has_name(&whole(anchor.subject.as_ref()))));
        assert!(!roots.has_name(&whole(&[])));
    }

    #[test]
    fn long_names_keep_their_length() {
        for length in [0, 0x7f, 0x80, 0xff, 0x100, 0x1_0000] {
            let der = whole(&vec![0; length]);
            assert!(der.len() > length && der[0] == 0x30 && der.ends_with(&vec![0; length]), "{length}");
        }
        assert_eq!(whole(&[1; 0x80])[..3], [0x30, 0x81, 0x80]);
        assert_eq!(whole(&[1; 0x100])[..4], [0x30, 0x82, 1, 0]);
    }
}
