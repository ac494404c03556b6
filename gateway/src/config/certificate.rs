//! `[[certificate]]`: the server's chains and keys.
//!
//! Owns which chain and key are unusable (an error), and which of them senders refuse (a warning: a gateway with an expired
//! certificate still serves the senders that do not check). Serves nothing: `tls` does.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use toml::Spanned;
use x509_parser::prelude::{GeneralName, X509Certificate};

use super::error::Problem;
use super::file::{self, MAXIMUM_FILE_BYTES};
use super::length;
use super::report::Report;
use super::warning::WarningKind;
use crate::crypto;

/// The most `[[certificate]]` tables of a file. Each certificate is parsed, and found by server name.
const MAXIMUM_CERTIFICATES: usize = 1024;
/// The days before an expiry with a warning. ACME clients renew 30 days ahead, so a later date means that none did.
const EXPIRY_NOTICE_DAYS: u64 = 30;
const SECONDS_A_DAY: i64 = 24 * 60 * 60;

const WRITE_CHAIN: &str = "chain = \"fullchain.pem\": the server certificate, then its issuers in order";
const WRITE_KEY: &str = "key = \"privkey.pem\": the private key of the first certificate of the chain";

/// A certificate of this server, with its key.
#[derive(Debug)]
pub struct ServerCertificate {
    /// End entity first, then its issuers in order.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the end entity. The parser has checked that they belong together.
    pub key: PrivateKeyDer<'static>,
    /// The DNS names of the subjectAltName extension, lower case, `*.` kept.
    pub names: Vec<String>,
    /// The file of the chain, for messages.
    pub chain_path: PathBuf,
}

/// `[[certificate]]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCertificate {
    chain: Option<Spanned<String>>,
    key: Option<Spanned<String>>,
}

/// Parses the certificates. Reports what is wrong, and leaves out the certificates with errors.
pub(super) fn certificates(raw: &[Spanned<RawCertificate>], report: &mut Report<'_>) -> Vec<ServerCertificate> {
    length::first(raw, MAXIMUM_CERTIFICATES, report).iter().filter_map(|raw| parse(raw, report)).collect()
}

fn parse(raw: &Spanned<RawCertificate>, report: &mut Report<'_>) -> Option<ServerCertificate> {
    let RawCertificate { chain, key } = raw.get_ref();
    if chain.is_none() {
        report.missing(raw, "chain", WRITE_CHAIN);
    }
    if key.is_none() {
        report.missing(raw, "key", WRITE_KEY);
    }
    let loaded_chain = chain.as_ref().and_then(|at| load(at, report, |path, _, _| load_chain(path)));
    let loaded_key = key.as_ref().and_then(|at| load(at, report, load_key));
    let (chain_at, key_at) = (chain.as_ref()?, key.as_ref()?);
    let (certificates, LoadedKey { key, signing_key }) = (loaded_chain?, loaded_key?);

    let chain_path = report.resolve(chain_at.get_ref());
    if let Some(misplaced) = mismatch(&certificates, signing_key) {
        let key = report.resolve(key_at.get_ref());
        report.error(key_at, Problem::KeyMismatch { key, chain: chain_path, position: misplaced });
        return None;
    }
    let names = inspect(&certificates, &chain_path, chain_at, report)?;
    Some(ServerCertificate { chain: certificates, key, names, chain_path })
}

/// Loads the file that `at` names by `load`. Reports its error.
fn load<T>(
    at: &Spanned<String>,
    report: &mut Report<'_>,
    load: impl Fn(&Path, &Spanned<String>, &mut Report<'_>) -> Result<T, Problem>,
) -> Option<T> {
    let path = report.resolve(at.get_ref());
    load(&path, at, report).map_err(|problem| report.error(at, problem)).ok()
}

fn load_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Problem> {
    file::certificates(&file::read_named(path, MAXIMUM_FILE_BYTES)?, path)
}

/// A private key, and the same key in the form that is compared with certificates.
struct LoadedKey {
    key: PrivateKeyDer<'static>,
    signing_key: Arc<dyn SigningKey>,
}

fn load_key(path: &Path, at: &Spanned<String>, report: &mut Report<'_>) -> Result<LoadedKey, Problem> {
    let text = file::read_named(path, MAXIMUM_FILE_BYTES)?;
    let path_buf = path.to_owned();
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound if is_encrypted(&text) => Problem::EncryptedKey { path: path_buf.clone() },
        pem::Error::NoItemsFound => Problem::NoKey { path: path_buf.clone() },
        error => Problem::Pem { path: path_buf.clone(), reason: file::damage(&error) },
    })?;
    let signing_key = crypto::signing_key(&key).map_err(|_| match is_encrypted(&text) {
        true => Problem::EncryptedKey { path: path_buf.clone() },
        false => Problem::UnusableKey { path: path_buf.clone() },
    })?;
    if file::readable_by_others(path) {
        report.warn(at, WarningKind::ReadableByOthers { path: path_buf });
    }
    Ok(LoadedKey { key, signing_key })
}

/// Whether a PEM file has an encrypted key. OpenSSL marks one by the label of PKCS#8, or by a header of the traditional format.
fn is_encrypted(pem: &[u8]) -> bool {
    let text = String::from_utf8_lossy(pem);
    text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") || text.contains("Proc-Type: 4,ENCRYPTED")
}

/// `None` if the key belongs to the first certificate; else the number, from 1, of the certificate that it belongs to.
fn mismatch(chain: &[CertificateDer<'static>], key: Arc<dyn SigningKey>) -> Option<Option<usize>> {
    let fits = |certificate: &CertificateDer<'static>| {
        CertifiedKey::new(vec![certificate.clone()], Arc::clone(&key)).keys_match().is_ok()
    };
    match chain.iter().position(fits) {
        Some(0) => None,
        Some(index) => Some(Some(index + 1)),
        None => Some(None),
    }
}

/// The DNS names of the first certificate. Warns about the chain.
fn inspect(
    chain: &[CertificateDer<'static>],
    path: &Path,
    at: &Spanned<String>,
    report: &mut Report<'_>,
) -> Option<Vec<String>> {
    let parsed: Result<Vec<_>, _> =
        chain.iter().enumerate().map(|(index, certificate)| file::parse(certificate, index, path)).collect();
    let parsed = parsed.map_err(|problem| report.error(at, problem)).ok()?;
    let end_entity = parsed.first()?;
    let names = dns_names(end_entity);
    if names.is_empty() {
        report.warn(at, WarningKind::NoNames);
    }
    if end_entity.issuer() == end_entity.subject() {
        report.warn(at, WarningKind::SelfSigned);
    }
    let out_of_order = parsed.windows(2).position(|pair| match pair {
        [certificate, issuer] => certificate.issuer() != issuer.subject(),
        _ => false,
    });
    if let Some(index) = out_of_order {
        report.warn(at, WarningKind::ChainOutOfOrder { position: index + 2 });
    }
    warn_of_expiry(&parsed, at, report);
    Some(names)
}

fn warn_of_expiry(chain: &[X509Certificate<'_>], at: &Spanned<String>, report: &mut Report<'_>) {
    // The last X.509 date, in the year 9999, fits into i64.
    let now = i64::try_from(report.now().as_secs()).unwrap_or(i64::MAX);
    if let Some(end_entity) = chain.first()
        && now < end_entity.validity().not_before.timestamp()
    {
        report.warn(at, WarningKind::NotYetValid { not_before: file::day(end_entity.validity().not_before) });
    }
    for (index, certificate) in chain.iter().enumerate() {
        let (position, time) = (index + 1, certificate.validity().not_after);
        let (not_after, left) = (file::day(time), time.timestamp().saturating_sub(now));
        match u64::try_from(left.div_euclid(SECONDS_A_DAY)) {
            Err(_) => report.warn(at, WarningKind::Expired { position, not_after }),
            Ok(days) if days < EXPIRY_NOTICE_DAYS => {
                report.warn(at, WarningKind::ExpiresSoon { position, not_after, days });
            }
            Ok(_) => {}
        }
    }
}

fn dns_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let names = extension.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    names.collect()
}

/// Whether the DNS name of a certificate matches a host: it is equal, or has `*` for the first label (RFC 9525, section 6.3).
pub(super) fn covers(name: &str, host: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(domain) => host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == domain),
        None => name == host,
    }
}
