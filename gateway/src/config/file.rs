//! Files that the configuration names: bounded reads, and PEM and X.509 as every section needs them.
//!
//! Owns the bounds on what is read. Interprets nothing beyond names and dates.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};
use zeroize::Zeroizing;

use super::error::Problem;

/// Most bytes of a configuration, certificate or key file. Mozilla's whole root list is about 250 KiB of PEM.
pub(super) const MAXIMUM_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Most bytes of a revocation list: the largest in public use are some ten megabytes.
pub(super) const MAXIMUM_REVOCATION_LIST_BYTES: u64 = 64 * 1024 * 1024;

/// Reads a whole file of at most `maximum` bytes.
///
/// # Errors
/// Whatever the system says, and [`io::ErrorKind::FileTooLarge`] for a larger file.
pub(super) fn read(path: &Path, maximum: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that fits from one that does not, whatever its metadata says.
    File::open(path)?.take(maximum + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > maximum {
        let message = format!("larger than {maximum} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

/// Reads a file that holds a secret, into memory that is wiped when dropped.
///
/// # Errors
/// As [`read`].
pub(super) fn read_secret(path: &Path, maximum: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    // Room for all of it from the start: memory that a growing vector leaves behind is not wiped.
    let mut bytes = Zeroizing::new(Vec::with_capacity(maximum + 1));
    File::open(path)?.take(maximum as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > maximum {
        let message = format!("larger than {maximum} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

/// Whether every user of this host can read the file. The group is the operator's business: 0640 is how a service account
/// gets at a file of root's.
pub(super) fn readable_by_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

/// Reads a file that the configuration names.
///
/// # Errors
/// [`Problem::File`].
pub(super) fn read_named(path: &Path, maximum: u64) -> Result<Vec<u8>, Problem> {
    read(path, maximum).map_err(|source| Problem::File { path: path.to_owned(), source })
}

/// The certificates of a PEM file, in its order; never none.
///
/// # Errors
/// [`Problem::Pem`], [`Problem::NoCertificate`], [`Problem::Certificate`].
pub(super) fn certificates(pem: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let sections: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = sections.map_err(|error| Problem::Pem { path: path.to_owned(), reason: error.to_string() })?;
    if certificates.is_empty() {
        return Err(Problem::NoCertificate { path: path.to_owned() });
    }
    for (index, certificate) in certificates.iter().enumerate() {
        parse(certificate, index, path)?;
    }
    Ok(certificates)
}

/// Parses the certificate at `index` of a file.
///
/// # Errors
/// [`Problem::Certificate`].
pub(super) fn parse<'c>(
    certificate: &'c CertificateDer<'_>,
    index: usize,
    path: &Path,
) -> Result<X509Certificate<'c>, Problem> {
    let fail = |reason: String| Problem::Certificate { path: PathBuf::from(path), number: index + 1, reason };
    match X509Certificate::from_der(certificate) {
        Ok(([], parsed)) => Ok(parsed),
        Ok(_) => Err(fail("bytes after its end".to_owned())),
        Err(error) => Err(fail(error.to_string())),
    }
}

/// The day of an X.509 time as YYYY-MM-DD, in UTC.
pub(super) fn day(time: ASN1Time) -> String {
    let date = time.to_datetime().date();
    format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day())
}

/// The day of `now` as YYYY-MM-DD, in UTC. ISO days compare as text.
pub(super) fn today(now: UnixTime) -> Option<String> {
    let seconds = i64::try_from(now.as_secs()).ok()?;
    ASN1Time::from_timestamp(seconds).ok().map(day)
}
