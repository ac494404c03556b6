//! PEM (RFC 7468): the sections of a file, each with its label and place.
//!
//! Owns that nothing of a file is lost in silence: every section is either handed out or an error that names it. Text between
//! sections is ignored, as RFC 7468, section 2, demands. Must not judge what is in a section: the files of each key do.

use std::path::Path;

use data_encoding::BASE64;
use zeroize::Zeroizing;

use super::error::{Place, Problem};

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

/// The labels of a certificate: RFC 7468, section 5, and its older name, which OpenSSL reads too.
pub(super) const CERTIFICATES: [&str; 2] = ["CERTIFICATE", "X509 CERTIFICATE"];
/// The label of a revocation list (RFC 7468, section 6).
pub(super) const REVOCATION_LIST: &str = "X509 CRL";
/// The labels of a private key: PKCS#8, encrypted or not (RFC 7468, sections 10 and 11), and the traditional forms.
pub(super) const PRIVATE_KEYS: [&str; 4] =
    ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"];
/// The labels of parameters. OpenSSL writes the first before a key, and HAProxy reads the second from the file of a chain. hookgate
/// needs neither.
pub(super) const PARAMETERS: [&str; 2] = ["EC PARAMETERS", "DH PARAMETERS"];

/// A section of a PEM file.
#[derive(Debug)]
pub(super) struct Section<'file> {
    /// The text between `-----BEGIN ` and `-----`.
    pub(super) label: &'file str,
    pub(super) place: Place,
    body: &'file [u8],
}

impl Section<'_> {
    /// Whether the section is encrypted: PKCS#8 says so in its label, and the traditional form in a header (RFC 1421, section 4.6.1.1).
    pub(super) fn is_encrypted(&self) -> bool {
        const HEADER: &[u8] = b"Proc-Type: 4,ENCRYPTED";
        self.label == "ENCRYPTED PRIVATE KEY" || self.body.windows(HEADER.len()).any(|text| text == HEADER)
    }

    /// The bytes that the section encodes, in memory that is wiped: it may be a key.
    ///
    /// # Errors
    ///
    /// [`Problem::Pem`] if the section is not Base64.
    pub(super) fn decode(&self, path: &Path) -> Result<Zeroizing<Vec<u8>>, Problem> {
        let digits: Zeroizing<Vec<u8>> =
            Zeroizing::new(self.body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect());
        let decoded = BASE64.decode(&digits).ok().filter(|decoded| !decoded.is_empty());
        decoded.map(Zeroizing::new).ok_or_else(|| damaged(path, self.place, "is not Base64"))
    }
}

/// The sections of a file, in their order, possibly none. All labels must be among `used` and `ignored`; the sections of `ignored`
/// labels are left out.
///
/// # Errors
///
/// [`Problem::Pem`] if a section is not complete, or a line looks like the begin or end of one and is not; [`Problem::UnusedSection`]
/// for a section with another label.
pub(super) fn sections<'file>(
    file: &'file [u8],
    path: &Path,
    used: &[&str],
    ignored: &[&str],
) -> Result<Vec<Section<'file>>, Problem> {
    let mut sections = Vec::new();
    let (mut at, mut number) = (0, 0);
    while let Some(begin) = find(file, BEGIN, at) {
        number += 1;
        let place = Place { number, line: line(file, begin) };
        stray_marker(file, at, begin, path)?;
        let (label, body) = label(file, begin + BEGIN.len())
            .ok_or_else(|| damaged(path, place, "has a -----BEGIN line that is not complete"))?;
        let end = find(file, DASHES, body).filter(|&end| file[end..].starts_with(END));
        let end = end.ok_or_else(|| damaged(path, place, "has no -----END line"))?;
        let (end_label, after) = self::label(file, end + END.len())
            .ok_or_else(|| damaged(path, place, "has an -----END line that is not complete"))?;
        if end_label != label {
            return Err(damaged(path, place, "has an -----END line with another label than its -----BEGIN line"));
        }
        at = after;
        if used.contains(&label) {
            sections.push(Section { label, place, body: &file[body..end] });
        } else if !ignored.contains(&label) {
            let used = used.first().copied().unwrap_or_default().to_owned();
            return Err(Problem::UnusedSection { path: path.to_owned(), place, label: label.to_owned(), used });
        }
    }
    stray_marker(file, at, file.len(), path)?;
    Ok(sections)
}

/// Whether a file has the begin of a section.
pub(super) fn has_sections(file: &[u8]) -> bool {
    find(file, BEGIN, 0).is_some()
}

/// The label that begins at `at`, and the place after its dashes; `None` without dashes on the same line.
fn label(file: &[u8], at: usize) -> Option<(&str, usize)> {
    let end = find(file, DASHES, at)?;
    let label = std::str::from_utf8(&file[at..end]).ok()?;
    // RFC 7468, section 3: printable characters.
    let printable = label.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    (printable && !label.is_empty()).then_some((label, end + DASHES.len()))
}

/// Refuses text outside of sections that looks like the begin or end of one: dashes, then `BEGIN` or `END`.
fn stray_marker(file: &[u8], from: usize, to: usize, path: &Path) -> Result<(), Problem> {
    const MARKERS: [&[u8]; 4] = [b"--BEGIN ", b"-- BEGIN ", b"--END ", b"-- END "];
    let text = &file[from..to];
    match MARKERS.iter().filter_map(|marker| find(text, marker, 0)).min() {
        None => Ok(()),
        Some(at) => Err(Problem::StrayMarker { path: path.to_owned(), line: line(file, from + at) }),
    }
}

fn find(file: &[u8], text: &[u8], from: usize) -> Option<usize> {
    memchr::memmem::find(&file[from..], text).map(|at| from + at)
}

/// The line of the byte at `at`, from 1.
fn line(file: &[u8], at: usize) -> usize {
    file[..at].iter().filter(|&&byte| byte == b'\n').count() + 1
}

fn damaged(path: &Path, place: Place, reason: &'static str) -> Problem {
    Problem::Pem { path: path.to_owned(), place, reason }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const ONE: &str = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----";
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nBAUG\n-----END PRIVATE KEY-----";

    /// What each used section encodes, in hexadecimal, or the error.
    fn read(file: &str) -> Result<Vec<String>, String> {
        let path = Path::new("file");
        let sections = sections(file.as_bytes(), path, &CERTIFICATES, &["PRIVATE KEY"]).map_err(|e| e.to_string())?;
        let decode = |section: &Section<'_>| section.decode(path).map(|bytes| data_encoding::HEXLOWER.encode(&bytes));
        sections.iter().map(decode).collect::<Result<_, _>>().map_err(|error| error.to_string())
    }

    #[test]
    fn every_section_is_read() {
        let old = ONE.replace("CERTIFICATE", "X509 CERTIFICATE");
        for file in [
            format!("{ONE}\n{ONE}\n"),
            format!("{ONE}{ONE}"),
            format!("{ONE}\r\n{old}").replace('\n', "\r\n"),
            format!("{ONE}\n{ONE}").replace('\n', "\r"),
            format!("subject=CN = a - b\n  {ONE}  \n# the root\n\t{ONE}\n"),
            format!("{ONE}\n{KEY}\n{ONE}"),
            format!("{ONE}\n\n-----BEGIN CERTIFICATE-----AQ ID-----END CERTIFICATE-----"),
            format!("{ONE}\n-----BEGIN CERTIFICATE-----\n\n A\nQI\n\n D \n-----END CERTIFICATE-----\n"),
        ] {
            assert_eq!(read(&file).unwrap(), ["010203", "010203"], "{file}");
        }
        assert_eq!(read("").unwrap(), Vec::<String>::new());
        assert_eq!(read("a text - with dashes\nBEGIN HERE\n").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn nothing_is_lost_in_silence() {
        for (file, expected) in [
            (ONE.replace("\n-----END CERTIFICATE-----", ""), "section 1 (line 1) has no -----END line"),
            (format!("{}\n{ONE}", &ONE[..40]), "section 1 (line 1) has no -----END line"),
            (format!("{ONE}\n{}", ONE.replace("END CERT", "END cert")), "section 2 (line 4) has an -----END line with"),
            (ONE.replace("END CERTIFICATE-----", "END CERTIFICATE---"), "has an -----END line that is not complete"),
            (
                ONE.replace("CERTIFICATE-----\nAQID", "CERTIFICATE---\nAQID"),
                "has a -----BEGIN line that is not complete",
            ),
            (ONE.replace("AQID", "AQI!"), "section 1 (line 1) is not Base64"),
            (ONE.replace("AQID", "AQI"), "section 1 (line 1) is not Base64"),
            (ONE.replace("AQID", ""), "section 1 (line 1) is not Base64"),
            (format!("{ONE}\n----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----"), "line 4 looks like"),
            (format!("{ONE}\n----- BEGIN CERTIFICATE-----\nAQID\n"), "line 4 looks like"),
            (format!("{ONE}\nAQID\n-----END CERTIFICATE-----"), "line 5 looks like"),
            (format!("AQID\n-----END CERTIFICATE-----\n{ONE}"), "line 2 looks like"),
            (
                ONE.replace("CERTIFICATE", "TRUSTED CERTIFICATE"),
                "section 1 (line 1) is a TRUSTED CERTIFICATE, which is not used here",
            ),
            (format!("{ONE}\n{}", ONE.replace("CERTIFICATE", "PKCS7")), "section 2 (line 4) is a PKCS7"),
        ] {
            let error = read(&file).unwrap_err();
            assert!(error.contains(expected), "{file}\n{error}");
        }
    }
}
