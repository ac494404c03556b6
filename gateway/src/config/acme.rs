//! `acme` of `[[certificate]]`: a certificate that hookgate asks an authority for (RFC 8555), and what to tell the authority.
//!
//! Owns which names, which directory, and as whose account. Asks no authority: `control::acme` does. What an authority issues is judged by
//! [`issued`](super::issued).

use std::hash::BuildHasher as _;
use std::path::Path;
use std::sync::Arc;

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD};
use rustls_pki_types::DnsName;
use serde::Deserialize;
use toml::Spanned;
use zeroize::Zeroizing;

use super::document;
use super::entry::Entry;
use super::error::{AcmeProblem, Problem};
use super::feed::{self, Feed, FetchLimits};
use super::feed_url::FeedUrl;
use super::file;
use super::length;
use super::report::Report;
use super::warning::WarningKind;

/// The most names of a certificate: those of Let's Encrypt's `classic` profile.
const MAXIMUM_DOMAINS: usize = 100;
/// The most addresses of an account.
const MAXIMUM_CONTACTS: usize = 8;
/// A profile's or a key's name in logs and files stays short.
const MAXIMUM_WORD_BYTES: usize = 64;
/// The longest id of a key for an external account; authorities use some dozens of bytes.
const MAXIMUM_KEY_ID_BYTES: usize = 512;
/// The most bytes of the file with that key. HMAC-SHA256 uses 64 bytes at most as they are.
const MAXIMUM_KEY_FILE_BYTES: usize = 4096;
/// The longest answer of an authority. A chain of four RSA certificates has some 8 KiB, and 100 authorizations 20 KiB.
const ANSWER_BYTES: usize = 256 * 1024;

const WRITE_DOMAINS: &str = "domains = [\"hooks.example.com\"]: the names for which the certificate is";
const WRITE_DIRECTORY: &str =
    "directory = \"letsencrypt\", \"letsencrypt-staging\", or the https URL of another directory";
const WRITE_AGREED: &str = "terms_of_service_agreed = true, when you have read and accept the terms of the authority";
const WRITE_KEY_ID: &str = "key_id = \"…\", as the authority gave it to you";
const WRITE_KEY_FILE: &str = "hmac_key_file = \"eab.key\", a file with the key as the authority gave it to you";

/// The directories that have a name: name, URL, and whether Mozilla's roots have its authority.
const DIRECTORIES: [(&str, &str, bool); 2] = [
    ("letsencrypt", "https://acme-v02.api.letsencrypt.org/directory", true),
    ("letsencrypt-staging", "https://acme-staging-v02.api.letsencrypt.org/directory", false),
];

/// What an authority is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeOrder {
    /// `domains`: lower case, each once, at least one.
    pub domains: Vec<String>,
    /// `directory`, with `ca_file` and `allow_private`: where the authority is.
    pub directory: Feed,
    /// Whether a chain must lead to one of Mozilla's roots.
    pub is_public: bool,
    /// `contact`: whom the authority may tell about the account.
    pub contact: Vec<String>,
    /// `profile`: a kind of certificate that the authority offers; its default without one.
    pub profile: Option<String>,
    /// `eab`: the account of a customer, for authorities that ask for one.
    pub external_account: Option<ExternalAccount>,
}

/// `eab`: external account binding (RFC 8555, section 7.3.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalAccount {
    /// `key_id`
    pub key_id: String,
    /// The key of `hmac_key_file`.
    pub key: HmacKey,
}

/// A key that is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct HmacKey(Arc<Zeroizing<Vec<u8>>>);

impl HmacKey {
    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for HmacKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("REDACTED")
    }
}

/// `acme` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAcme {
    domains: Option<Spanned<Vec<Spanned<String>>>>,
    directory: Option<Spanned<String>>,
    contact: Option<Spanned<Vec<Spanned<String>>>>,
    terms_of_service_agreed: Option<Spanned<bool>>,
    profile: Option<Spanned<String>>,
    #[serde(default, deserialize_with = "document::table")]
    eab: Option<Spanned<RawExternalAccount>>,
    ca_file: Option<Spanned<String>>,
    allow_private: Option<Spanned<bool>>,
}

/// `eab` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExternalAccount {
    key_id: Option<Spanned<String>>,
    hmac_key_file: Option<Spanned<String>>,
}

/// Parses `acme`. Reports what is wrong. `taken` are the names of the tables before it, each with its line.
pub(super) fn acme(
    raw: &Spanned<RawAcme>,
    taken: &mut Vec<(String, usize)>,
    report: &mut Report<'_>,
) -> Option<AcmeOrder> {
    let fields = raw.get_ref();
    let domains = domains(raw, taken, report);
    let contact = contacts(fields.contact.as_ref(), report);
    let directory = directory(raw, report);
    let external_account = fields.eab.as_ref().map(|eab| external_account(eab, report));
    let profile = fields.profile.as_ref().map(|at| profile(at, report));
    match &fields.terms_of_service_agreed {
        Some(agreed) if *agreed.get_ref() => {}
        Some(agreed) => report.error(agreed, AcmeProblem::NotAgreed.into()),
        None => report.missing(raw, "terms_of_service_agreed", WRITE_AGREED),
    }
    let (directory, is_public) = directory?;
    Some(AcmeOrder {
        domains: domains?,
        directory,
        is_public,
        contact: contact?,
        profile: profile.map_or(Some(None), |profile| profile.map(Some))?,
        external_account: external_account.map_or(Some(None), |account| account.map(Some))?,
    })
}

fn domains(raw: &Spanned<RawAcme>, taken: &mut Vec<(String, usize)>, report: &mut Report<'_>) -> Option<Vec<String>> {
    let Some(written) = &raw.get_ref().domains else {
        report.missing(raw, "domains", WRITE_DOMAINS);
        return None;
    };
    if !length::is_within(written, MAXIMUM_DOMAINS, WRITE_DOMAINS, report) {
        return None;
    }
    let mut domains = Vec::new();
    for at in written.get_ref() {
        let domain = at.get_ref().to_ascii_lowercase();
        match fault(&domain) {
            Some(problem) => report.error(at, problem.into()),
            None => match taken.iter().find(|(known, _)| *known == domain) {
                Some((_, line)) => {
                    report.error(at, Problem::Duplicate { what: format!("the domain \"{domain}\""), line: *line });
                }
                None => {
                    taken.push((domain.clone(), report.line(at)));
                    domains.push(domain);
                }
            },
        }
    }
    (domains.len() == written.get_ref().len()).then_some(domains)
}

/// What is wrong with a name, if anything.
fn fault(domain: &str) -> Option<AcmeProblem> {
    let text = || domain.to_owned();
    if domain.starts_with("*.") {
        return Some(AcmeProblem::Wildcard { text: text() });
    }
    if domain.parse::<std::net::IpAddr>().is_ok() {
        return Some(AcmeProblem::Address { text: text() });
    }
    let is_name = DnsName::try_from(domain).is_ok() && !domain.ends_with('.');
    (!is_name).then(|| AcmeProblem::Domain { text: text() })
}

/// The directory, and whether its authority is one of Mozilla's.
fn directory(raw: &Spanned<RawAcme>, report: &mut Report<'_>) -> Option<(Feed, bool)> {
    let fields = raw.get_ref();
    let roots = feed::roots(fields.ca_file.as_ref(), report);
    if let (Some(text), Some(Some(roots))) = (&fields.ca_file, &roots) {
        report.add_entry(text, "roots".to_owned(), Entry::new(format!("{} certificates", roots.len()), roots));
    }
    let Some(at) = &fields.directory else {
        report.missing(raw, "directory", WRITE_DIRECTORY);
        return None;
    };
    let text = at.get_ref().as_str();
    let (url, is_public) = match DIRECTORIES.iter().find(|(name, ..)| *name == text) {
        Some((_, url, is_public)) => (*url, *is_public),
        None if !text.contains("://") => {
            report.error(at, AcmeProblem::Directory { text: text.to_owned() }.into());
            return None;
        }
        None => (text, DIRECTORIES.iter().any(|(_, url, is_public)| *url == text && *is_public)),
    };
    let url = match FeedUrl::parse(url) {
        Ok(url) => url,
        Err(error) => {
            report.error(at, AcmeProblem::DirectoryUrl(error).into());
            return None;
        }
    };
    let allow_private = fields.allow_private.as_ref().is_some_and(|allow| *allow.get_ref());
    let limits = FetchLimits { max_bytes: ANSWER_BYTES, allow_private, ..FetchLimits::default() };
    Some((Feed { url, limits, roots: roots? }, is_public))
}

/// `mailto:` addresses (RFC 8555, section 7.3).
fn contacts(raw: Option<&Spanned<Vec<Spanned<String>>>>, report: &mut Report<'_>) -> Option<Vec<String>> {
    let Some(written) = raw else { return Some(Vec::new()) };
    const WRITE: &str = "contact = [\"mailto:you@example.com\"], or remove the key";
    if !length::is_within(written, MAXIMUM_CONTACTS, WRITE, report) {
        return None;
    }
    let mut contacts = Vec::new();
    for at in written.get_ref() {
        let text = at.get_ref();
        let address = text.strip_prefix("mailto:").and_then(|address| address.split_once('@'));
        let is_address = address.is_some_and(|(local, domain)| {
            // RFC 8555 forbids several addresses and header fields in one URL.
            !local.is_empty()
                && !domain.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_graphic() && !b",?@\"<>".contains(&byte) || byte == b'@')
                && !domain.contains('@')
        });
        match is_address {
            true => contacts.push(text.clone()),
            false => report.error(at, AcmeProblem::Contact { text: text.clone() }.into()),
        }
    }
    (contacts.len() == written.get_ref().len()).then_some(contacts)
}

fn profile(at: &Spanned<String>, report: &mut Report<'_>) -> Option<String> {
    let text = at.get_ref();
    let is_word = !text.is_empty()
        && text.len() <= MAXIMUM_WORD_BYTES
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if !is_word {
        report.error(at, AcmeProblem::Profile { text: text.clone(), maximum: MAXIMUM_WORD_BYTES }.into());
    }
    is_word.then(|| text.clone())
}

fn external_account(raw: &Spanned<RawExternalAccount>, report: &mut Report<'_>) -> Option<ExternalAccount> {
    let RawExternalAccount { key_id, hmac_key_file } = raw.get_ref();
    if key_id.is_none() {
        report.missing(raw, "key_id", WRITE_KEY_ID);
    }
    if hmac_key_file.is_none() {
        report.missing(raw, "hmac_key_file", WRITE_KEY_FILE);
    }
    let key = hmac_key_file.as_ref().and_then(|at| {
        let path = report.resolve(at.get_ref());
        let key = read_key(&path).map_err(|problem| report.error(at, problem)).ok();
        if let Some(key) = &key {
            report.add_entry(at, "key of eab".to_owned(), Entry::hidden(|state| state.hash_one(key.bytes())));
        }
        if let Some(access) = file::open_to_others(&path) {
            report.warn(at, WarningKind::OpenToOthers { path, access });
        }
        key
    });
    let at = key_id.as_ref()?;
    let is_id = !at.get_ref().is_empty() && at.get_ref().len() <= MAXIMUM_KEY_ID_BYTES;
    if !is_id {
        report.error(at, AcmeProblem::KeyId { maximum: MAXIMUM_KEY_ID_BYTES }.into());
    }
    let key_id = is_id.then(|| at.get_ref().clone())?;
    Some(ExternalAccount { key_id, key: key? })
}

/// The key as authorities give it: base64url, or base64, without or with padding.
fn read_key(path: &Path) -> Result<HmacKey, Problem> {
    let content = file::read_secret(path, MAXIMUM_KEY_FILE_BYTES)
        .map_err(|source| Problem::File { path: path.to_owned(), source })?;
    let text = content.trim_ascii();
    let text = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let decoded = BASE64URL_NOPAD.decode(text).or_else(|_| BASE64_NOPAD.decode(text));
    match decoded.map(Zeroizing::new) {
        Ok(key) if !key.is_empty() => Ok(HmacKey(Arc::new(key))),
        _ => Err(AcmeProblem::HmacKey { path: path.to_owned() }.into()),
    }
}
