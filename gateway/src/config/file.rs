//! Files that the configuration names: bounded reads, versions, PEM and X.509, dates.
//!
//! Owns the bounds of these reads, and how two versions of a file are told apart. Must not judge what a file says: the sections
//! do.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use time::{Date, OffsetDateTime};
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate, X509Error};
use zeroize::Zeroizing;

use super::error::{FileForm, Problem};
use super::pem;
use hookgate_core::identity::printable_name;
use hookgate_core::identity::revocation::RevocationList;

/// The most bytes of a configuration, certificate or key file. The whole root list of Mozilla has about 250 KiB of PEM.
pub(super) const MAXIMUM_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// The most bytes of a revocation list. The largest in public use have some ten megabytes.
pub(super) const MAXIMUM_REVOCATION_LIST_BYTES: u64 = 64 * 1024 * 1024;

/// The version of a file. A write in place changes the times, a rename onto the path changes the inode, and a symbolic link that
/// is changed leads to another inode or device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileVersion {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds since 1970, and nanoseconds; the same for `changed`.
    modified: (i64, i64),
    /// The time of the inode, which no program can set back.
    changed: (i64, i64),
}

impl FileVersion {
    /// The version of the file at `path`, behind symbolic links; `None` if it cannot be read by stat(2).
    pub fn at(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// Files by path, each with its version before it was read. A file that changes later has another version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileVersions(BTreeMap<PathBuf, Option<FileVersion>>);

impl FileVersions {
    /// Adds the file at `path` with its current version, unless it was added before.
    pub fn note(&mut self, path: &Path) {
        if !self.0.contains_key(path) {
            self.0.insert(path.to_owned(), FileVersion::at(path));
        }
    }

    /// The files, in the order of their paths.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }

    /// The same files with their current versions.
    #[must_use]
    pub fn look(&self) -> Self {
        Self(self.0.keys().map(|path| (path.clone(), FileVersion::at(path))).collect())
    }

    /// Adds the files of `other` that are not among these.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        for (path, version) in other.0 {
            self.0.entry(path).or_insert(version);
        }
        self
    }

    /// The files that are also among `others`.
    #[must_use]
    pub fn only(mut self, others: &Self) -> Self {
        self.0.retain(|path, _| others.0.contains_key(path));
        self
    }

    /// The files of `later` that have another version here or none, in the order of the paths, each with whether it exists.
    pub fn changes<'v>(&'v self, later: &'v Self) -> impl Iterator<Item = (&'v Path, bool)> {
        let changed = later.0.iter().filter(|(path, version)| self.0.get(*path) != Some(version));
        changed.map(|(path, version)| (path.as_path(), version.is_some()))
    }
}

#[cfg(test)]
impl FromIterator<(PathBuf, Option<FileVersion>)> for FileVersions {
    fn from_iter<I: IntoIterator<Item = (PathBuf, Option<FileVersion>)>>(files: I) -> Self {
        Self(files.into_iter().collect())
    }
}

#[cfg(test)]
impl FileVersion {
    /// A version, different for each number.
    pub(crate) fn some(number: u64) -> Self {
        Self { device: 1, inode: number, bytes: 1, modified: (0, 0), changed: (0, 0) }
    }
}

/// Reads a whole file of at most `maximum` bytes.
///
/// # Errors
/// The error of the system, and [`io::ErrorKind::FileTooLarge`] for a larger file.
pub(super) fn read(path: &Path, maximum: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    read_into(&mut bytes, path, maximum)?;
    Ok(bytes)
}

/// Reads a file with a secret, into memory that is wiped when it is dropped.
///
/// # Errors
/// As [`read`].
pub(super) fn read_secret(path: &Path, maximum: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    // Allocates once: a vector that grows does not wipe the memory that it leaves.
    let mut bytes = Zeroizing::new(Vec::with_capacity(maximum + 1));
    read_into(&mut bytes, path, maximum as u64)?;
    Ok(bytes)
}

/// Adds at most one byte more than `maximum`: that tells a file that fits from one that does not, whatever its metadata says.
fn read_into(bytes: &mut Vec<u8>, path: &Path, maximum: u64) -> io::Result<()> {
    open(path)?.take(maximum + 1).read_to_end(bytes)?;
    if bytes.len() as u64 > maximum {
        let message = format!("larger than {maximum} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(())
}

/// Opens a regular file. Anything else is refused: a FIFO and a device can block the reader for good, and a device can do something when it
/// is opened.
fn open(path: &Path) -> io::Result<File> {
    expect_regular(&fs::metadata(path)?)?;
    // The file can have been replaced since: without O_NONBLOCK, open(2) of a FIFO waits for a writer.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    expect_regular(&file.metadata()?)?;
    Ok(file)
}

fn expect_regular(metadata: &Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    let found = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    let write = if kind.is_dir() { "of a file in it" } else { "of a regular file" };
    Err(io::Error::other(format!("it is {found}, and only regular files are read; write the path {write}")))
}

/// What every user of this host can do with a file that is secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenToOthers {
    /// Read it.
    Read,
    /// Write it, and so decide which secret counts.
    Write,
}

/// What every user of this host can do with the file, if anything. Access by the group is fine: a service reads a file of root through mode
/// 0640.
pub(super) fn open_to_others(path: &Path) -> Option<OpenToOthers> {
    let mode = fs::metadata(path).ok()?.permissions().mode();
    if mode & 0o002 != 0 { Some(OpenToOthers::Write) } else { (mode & 0o004 != 0).then_some(OpenToOthers::Read) }
}

/// Reads a file that the configuration names.
///
/// # Errors
/// [`Problem::File`]; [`Problem::ByteOrderMark`], because no parser takes such a file and most say something else about it. DER never
/// begins with one.
pub(super) fn read_named(path: &Path, maximum: u64) -> Result<Vec<u8>, Problem> {
    let bytes = read(path, maximum).map_err(|source| Problem::File { path: path.to_owned(), source })?;
    let encoding = match bytes.as_slice() {
        [0xef, 0xbb, 0xbf, ..] => "UTF-8 with a mark",
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "UTF-16",
        _ => return Ok(bytes),
    };
    Err(Problem::ByteOrderMark { path: path.to_owned(), encoding })
}

/// The certificates of a PEM file, in their order; at least one. Sections with a label among `ignored` are left out.
///
/// # Errors
/// Those of [`pem::sections`], [`Problem::NoCertificate`], [`Problem::Certificate`].
pub(super) fn certificates(
    bytes: &[u8],
    path: &Path,
    ignored: &[&str],
) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let sections = pem::sections(bytes, path, &pem::CERTIFICATES, ignored)?;
    if sections.is_empty() {
        return Err(Problem::NoCertificate { path: path.to_owned(), form: FileForm::of(bytes) });
    }
    let certificates = sections.iter().enumerate().map(|(index, section)| {
        let certificate = CertificateDer::from(section.decode(path)?.to_vec());
        parse(&certificate, index, path)?;
        Ok(certificate)
    });
    certificates.collect()
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
        Ok(_) => Err(fail("other bytes follow its end".to_owned())),
        Err(error) => Err(fail(match X509Error::from(error) {
            X509Error::Generic | X509Error::Der(_) | X509Error::NomError(_) => "it is damaged, or not X.509".to_owned(),
            error => error.to_string(),
        })),
    }
}

/// The files of `crls`, by the lists that they have.
#[derive(Clone, Debug, Default)]
pub struct ListFiles(Vec<(RevocationList, PathBuf)>);

impl ListFiles {
    /// The first file that has this list.
    #[must_use]
    pub fn file_of(&self, list: &RevocationList) -> Option<&Path> {
        let found = self.0.iter().find(|(known, _)| known.der() == list.der());
        found.map(|(_, path)| path.as_path())
    }

    pub(super) fn add(&mut self, lists: &[RevocationList], path: &Path) {
        self.0.extend(lists.iter().map(|list| (list.clone(), path.to_owned())));
    }
}

/// The certificate at `index` of a file as a trust anchor.
///
/// # Errors
/// [`Problem::Certificate`].
pub(super) fn trust_anchor<'c>(
    certificate: &'c CertificateDer<'_>,
    index: usize,
    path: &Path,
) -> Result<TrustAnchor<'c>, Problem> {
    webpki::anchor_from_trusted_cert(certificate).map_err(|_| Problem::Certificate {
        path: path.to_owned(),
        number: index + 1,
        reason: "webpki does not support it as a trust anchor".to_owned(),
    })
}

/// The subject of a certificate as RFC 4514 writes it, in printable ASCII; empty if it cannot be parsed.
pub(super) fn subject(certificate: &CertificateDer<'_>) -> String {
    let parsed = X509Certificate::from_der(certificate).ok();
    parsed.and_then(|(_, parsed)| printable_name(parsed.subject().as_raw())).unwrap_or_default()
}

/// The day of an X.509 time, in UTC. Its text is YYYY-MM-DD.
pub(super) fn day(time: ASN1Time) -> Date {
    time.to_datetime().date()
}

/// The day in UTC, `seconds` after the start of 1970, and 9999-12-31 for all later times. Its text is YYYY-MM-DD.
pub fn day_of(seconds: u64) -> Date {
    let time = i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    time.map_or(Date::MAX, OffsetDateTime::date)
}

/// The first second after `day`, in UTC; `None` for a day before 1970.
pub(super) fn end_of_day(day: Date) -> Option<UnixTime> {
    const SECONDS_A_DAY: u64 = 24 * 60 * 60;
    let midnight = u64::try_from(day.midnight().assume_utc().unix_timestamp()).ok()?;
    Some(UnixTime::since_unix_epoch(Duration::from_secs(midnight + SECONDS_A_DAY)))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use time::Month;

    use super::*;

    #[test]
    fn only_regular_files_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("file"), "text").unwrap();
        std::os::unix::fs::symlink(path("file"), path("link")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, path("fifo"), rustix::fs::Mode::RUSR).unwrap();
        std::os::unix::fs::symlink(path("fifo"), path("link to a fifo")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        assert_eq!(read(&path("file"), 4).unwrap(), b"text");
        assert_eq!(read(&path("link"), 4).unwrap(), b"text");
        for (path, found) in [
            (path("fifo"), "a FIFO"),
            (path("link to a fifo"), "a FIFO"),
            (path("socket"), "a socket"),
            (directory.path().to_owned(), "a directory"),
            (PathBuf::from("/dev/zero"), "a device"),
        ] {
            let error = read(&path, 4).unwrap_err();
            let write = if found == "a directory" { "of a file in it" } else { "of a regular file" };
            let expected = format!("it is {found}, and only regular files are read; write the path {write}");
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn days_begin_and_end_in_utc() {
        for (seconds, day) in [
            (0, "1970-01-01"),
            (86_399, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (253_402_300_799, "9999-12-31"),
            (253_402_300_800, "9999-12-31"),
            (u64::MAX, "9999-12-31"),
        ] {
            assert_eq!(day_of(seconds).to_string(), day);
        }
        for (year, month, day, end) in [
            (1969, Month::December, 31, None),
            (1970, Month::January, 1, Some(86_400)),
            (2000, Month::February, 29, Some(951_868_800)),
            (9999, Month::December, 31, Some(253_402_300_800)),
        ] {
            let day = Date::from_calendar_date(year, month, day).unwrap();
            assert_eq!(end_of_day(day).map(|time| time.as_secs()), end, "{day}");
        }
    }
}
