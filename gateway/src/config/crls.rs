//! `crls` and `crl_urls`: the revocation lists of a profile, from files, from URLs, and from the URLs that certificates name.
//!
//! Owns these keys, and how lists are read out of a document. Must not fetch, nor look a certificate up: `control::published` and
//! `hookgate_core::identity` do.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Deserializer, de};
use toml::Spanned;

use super::bound::Bound;
use super::document::WordOr;
use super::error::{Problem, RevocationProblem};
use super::feed::{self, Feed, FetchLimits, TIMEOUT};
use super::file::{self, MAXIMUM_REVOCATION_LIST_BYTES};
use super::pem;
use super::report::Report;
use super::warning::WarningKind;
use hookgate_core::identity::revocation::{AwaitedLists, RevocationList};

/// The most files of `crls` of a profile.
const MAXIMUM_FILES: usize = 64;
/// The most URLs of a profile. Its chains have a handful of issuers, and some of these divide their list.
const MAXIMUM_URLS: usize = 16;
/// From a list without entries to the largest in public use, as for files.
const BYTES: Bound = Bound::new(256, 64 * 1024 * 1024, " bytes");
/// The lists of large public authorities have up to some megabytes.
const DEFAULT_BYTES: usize = 8 * 1024 * 1024;
/// Shortest interval between fetches: no authority issues lists more often than every few minutes.
const MIN_FRESH: Duration = Duration::from_secs(300);
/// Redirects that are followed.
const REDIRECTS: usize = 3;

/// The word of `crls`, and the value of `from` in its table.
const FROM_CERTIFICATES: &str = "from-certificates";
const CERTIFICATES: &str = "certificates";

const WRITE_URL: &str = "url = \"http://crl.example.com/ca.crl\": where the list is";
const WRITE_URLS: &str = "URLs of revocation lists, such as [\"http://crl.example.com/ca.crl\"], or remove the key";
const WRITE_FROM: &str = "from = \"certificates\", or crls = [\"ca.crl\"] for files";

/// `crls` as written.
#[derive(Clone, Debug)]
pub(super) enum RawLists {
    Files(Vec<Spanned<String>>),
    Word(String),
    Certificates(RawFromCertificates),
}

/// The table of `crls`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFromCertificates {
    from: Option<Spanned<String>>,
    allow_private: Option<bool>,
    timeout_ms: Option<Spanned<i64>>,
    max_bytes: Option<Spanned<i64>>,
}

/// An entry of `crl_urls` as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawListUrl {
    url: Option<Spanned<String>>,
    ca_file: Option<Spanned<String>>,
    allow_private: Option<bool>,
    timeout_ms: Option<Spanned<i64>>,
    max_bytes: Option<Spanned<i64>>,
}

/// `crl_urls` as written.
pub(super) type RawListUrls = Spanned<Vec<Spanned<WordOr<RawListUrl>>>>;

impl<'de> Deserialize<'de> for RawLists {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FilesOrWord;

        impl<'de> de::Visitor<'de> for FilesOrWord {
            type Value = RawLists;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "an array of files or \"{FROM_CERTIFICATES}\"")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Self::Value, E> {
                Ok(RawLists::Word(word.to_owned()))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(seq)).map(RawLists::Files)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                let table = RawFromCertificates::deserialize(de::value::MapAccessDeserializer::new(map));
                table.map(RawLists::Certificates)
            }
        }

        deserializer.deserialize_any(FilesOrWord)
    }
}

/// `crls`, parsed.
#[derive(Clone, Debug)]
pub(super) enum Lists {
    /// These lists.
    Files(Vec<RevocationList>),
    /// Those that the certificates name, fetched within these bounds.
    FromCertificates(FetchLimits),
}

/// The revocation lists of a profile that are fetched.
#[derive(Clone, Debug, Default)]
pub struct FetchedLists {
    /// `crl_urls`
    pub urls: Vec<Arc<Feed>>,
    /// `crls = "from-certificates"`: the bounds within which lists are fetched from the URLs that certificates name.
    pub from_certificates: Option<FetchLimits>,
    /// The certificates below the trust anchors in the files of `trust_anchors`: authorities that sign lists, and name some.
    pub intermediates: Vec<CertificateDer<'static>>,
}

impl FetchedLists {
    /// Whether any list is fetched.
    #[must_use]
    pub fn any(&self) -> bool {
        !self.urls.is_empty() || self.from_certificates.is_some()
    }

    /// What may still come before anything was fetched.
    #[must_use]
    pub fn awaited(&self) -> AwaitedLists {
        let from_urls = !self.urls.is_empty();
        AwaitedLists { from_urls, incomplete: from_urls, from_certificates: self.from_certificates.is_some() }
    }
}

/// Parses `crls`. Reports what is wrong.
pub(super) fn lists(raw: &Spanned<RawLists>, report: &mut Report<'_>) -> Option<Lists> {
    let table = match raw.get_ref() {
        RawLists::Files(files) => return Some(Lists::Files(revocation_lists(raw, files, report))),
        RawLists::Word(word) if word == FROM_CERTIFICATES => &RawFromCertificates::default(),
        RawLists::Word(word) => {
            report.error(raw, RevocationProblem::Word { text: word.clone() }.into());
            return None;
        }
        RawLists::Certificates(table) => {
            match &table.from {
                Some(from) if from.get_ref() == CERTIFICATES => {}
                Some(from) => report.error(from, RevocationProblem::From { text: from.get_ref().clone() }.into()),
                None => report.missing(raw, "from", WRITE_FROM),
            }
            table
        }
    };
    let RawFromCertificates { allow_private, timeout_ms, max_bytes, .. } = table;
    Some(Lists::FromCertificates(limits(*allow_private, timeout_ms.as_ref(), max_bytes.as_ref(), report)))
}

fn limits(
    allow_private: Option<bool>,
    timeout_ms: Option<&Spanned<i64>>,
    max_bytes: Option<&Spanned<i64>>,
    report: &mut Report<'_>,
) -> FetchLimits {
    let default = FetchLimits::default();
    FetchLimits {
        timeout: TIMEOUT.milliseconds(timeout_ms, default.timeout, report),
        max_bytes: BYTES.count(max_bytes, DEFAULT_BYTES, report),
        min_fresh: MIN_FRESH,
        allow_private: allow_private.unwrap_or(false),
        redirects: REDIRECTS,
        ..default
    }
}

/// Parses `crl_urls`. Reports what is wrong, and leaves it out.
pub(super) fn urls(raw: &RawListUrls, report: &mut Report<'_>) -> Vec<Arc<Feed>> {
    let count = raw.get_ref().len();
    if count == 0 {
        report.empty(raw, Problem::Empty { write: WRITE_URLS });
    }
    if count > MAXIMUM_URLS {
        report.error(raw, Problem::TooMany { count, maximum: MAXIMUM_URLS });
        return Vec::new();
    }
    raw.get_ref().iter().filter_map(|entry| url(entry, report)).collect()
}

fn url(raw: &Spanned<WordOr<RawListUrl>>, report: &mut Report<'_>) -> Option<Arc<Feed>> {
    let nothing = RawListUrl::default();
    let (url, table) = match raw.get_ref() {
        WordOr::Word(text) => (feed::url_of_signed(text, raw, report), &nothing),
        WordOr::Table(table) => {
            if table.url.is_none() {
                report.missing(raw, "url", WRITE_URL);
            }
            (table.url.as_ref().and_then(|url| feed::url_of_signed(url.get_ref(), url, report)), table)
        }
    };
    let RawListUrl { ca_file, allow_private, timeout_ms, max_bytes, .. } = table;
    let limits = limits(*allow_private, timeout_ms.as_ref(), max_bytes.as_ref(), report);
    let roots = feed::roots(ca_file.as_ref(), report);
    Some(Arc::new(Feed { url: url?, limits, roots: roots? }))
}

fn revocation_lists<T>(at: &Spanned<T>, files: &[Spanned<String>], report: &mut Report<'_>) -> Vec<RevocationList> {
    let count = files.len();
    if count > MAXIMUM_FILES {
        report.error(at, Problem::TooMany { count, maximum: MAXIMUM_FILES });
        return Vec::new();
    }
    let mut lists = Vec::new();
    for text in files {
        let path = report.resolve(text.get_ref());
        match load(&path) {
            Ok(loaded) => {
                report.list_files.add(&loaded, &path);
                let now = report.now();
                for list in loaded.iter().filter(|list| list.next_update() < now) {
                    report.warn(text, WarningKind::RevocationListExpired { issuer: list.issuer() });
                }
                lists.extend(loaded);
            }
            Err(problem) => report.error(text, problem),
        }
    }
    lists
}

/// A list in DER is a SEQUENCE of more than 127 bytes: ITU-T X.690, sections 8.1.2 and 8.1.3.5. No text begins like that.
fn is_der(bytes: &[u8]) -> bool {
    matches!(bytes, [0x30, 0x80..=0xff, ..])
}

/// The revocation lists of a file: one as DER, or several as PEM.
fn load(path: &Path) -> Result<Vec<RevocationList>, Problem> {
    let bytes = file::read_named(path, MAXIMUM_REVOCATION_LIST_BYTES)?;
    let parse = |der: &[u8]| {
        RevocationList::from_der(der).map_err(|source| Problem::RevocationList { path: path.to_owned(), source })
    };
    if is_der(&bytes) {
        return Ok(vec![parse(&bytes)?]);
    }
    let sections = pem::sections(&bytes, path, &[pem::REVOCATION_LIST], &[])?;
    if sections.is_empty() {
        return Err(Problem::NoRevocationList { path: path.to_owned() });
    }
    sections.iter().map(|section| parse(&section.decode(path)?)).collect()
}

/// The one revocation list of a document that was fetched, as DER (RFC 5280, section 4.2.1.13) or PEM.
///
/// # Errors
///
/// What is wrong, as one sentence.
pub fn parse_fetched(document: &[u8]) -> Result<RevocationList, String> {
    let parse = |der: &[u8]| RevocationList::from_der(der).map_err(|error| error.to_string());
    if is_der(document) {
        return parse(document);
    }
    // The path of the messages.
    let path = Path::new("the list");
    let sections =
        pem::sections(document, path, &[pem::REVOCATION_LIST], &[]).map_err(|problem| problem.to_string())?;
    match sections.as_slice() {
        [section] => parse(&section.decode(path).map_err(|problem| problem.to_string())?),
        [] if document.trim_ascii_start().starts_with(b"<") => {
            Err("it is a page of HTML or XML, not a revocation list".to_owned())
        }
        [] => Err("it is not a revocation list, neither in DER nor in PEM form".to_owned()),
        several => Err(format!("it holds {} revocation lists, and a URL is for one", several.len())),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_document_that_is_fetched_holds_one_list() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "Issuing CA");
        let authority = rcgen::CertifiedIssuer::self_signed(params, key).unwrap();
        let list = rcgen::CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2026, 11, 1),
            next_update: rcgen::date_time_ymd(2026, 12, 1),
            crl_number: 7_u64.into(),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&authority).unwrap();
        let (der, pem) = (list.der().to_vec(), list.pem().unwrap());
        for document in [der.as_slice(), pem.as_bytes()] {
            assert_eq!(parse_fetched(document).unwrap().number(), Some("7"));
        }
        let certificate = authority.pem();
        for (document, words) in [
            (b"".as_slice(), "neither in DER nor in PEM"),
            (b"<!doctype html><title>Sign in</title>", "a page of HTML"),
            (b"\n <html>", "a page of HTML"),
            (&der[..der.len() - 1], "not a DER-encoded"),
            (&[der.as_slice(), b"x"].concat(), "bytes follow"),
            (&pem.as_bytes()[..pem.len() - 10], "the list is damaged"),
            (certificate.as_bytes(), "CERTIFICATE"),
            (authority.der(), "not a DER-encoded"),
            (pem.repeat(2).as_bytes(), "holds 2 revocation lists"),
        ] {
            let error = parse_fetched(document).unwrap_err();
            assert!(error.contains(words), "{words}: {error}");
        }
    }
}
