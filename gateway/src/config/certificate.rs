//! `[[certificate]]`: the server's chains and keys, from files or from an authority ([`acme`](super::acme)).
//!
//! Owns which chain and key are unusable (an error), and which of them senders refuse (a warning: a gateway with an expired
//! certificate still serves the senders that do not check). Serves nothing: `tls` does.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::sign::SigningKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use toml::Spanned;
use webpki::EndEntityCert;
use x509_parser::der_parser::asn1_rs::Oid;
use x509_parser::objects::{oid_registry, oid2sn};
use x509_parser::oid_registry as oid;
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509Certificate, X509Version};
use zeroize::Zeroizing;

use super::acme::{self, AcmeOrder, RawAcme};
use super::document;
use super::error::{AcmeProblem, FileForm, Problem};
use super::file::{self, MAXIMUM_FILE_BYTES};
use super::length;
use super::pem;
use super::report::Report;
use super::warning::WarningKind;
use crate::crypto;
use hookgate_client::roots::Roots;
use hookgate_core::identity::printable_name;

/// The most `[[certificate]]` tables of a file. Each certificate is parsed, and found by server name.
const MAXIMUM_CERTIFICATES: usize = 1024;
/// The days before an expiry with a warning. ACME clients renew 30 days ahead, so a later date means that none did.
const EXPIRY_NOTICE_DAYS: u64 = 30;
const SECONDS_A_DAY: i64 = 24 * 60 * 60;

/// The bytes of a chain above which senders may refuse it. rustls reads handshake messages of up to 65,535 bytes, and OpenSSL a chain
/// of up to 102,400 (SSL_CTX_set_max_cert_list(3)).
pub(super) const MANY_CHAIN_BYTES: usize = 65_000;

/// The extensions that every library for TLS understands when they are critical.
const READ_BY_ALL: [Oid<'static>; 5] = [
    oid::OID_X509_EXT_BASIC_CONSTRAINTS,
    oid::OID_X509_EXT_EXTENDED_KEY_USAGE,
    oid::OID_X509_EXT_KEY_USAGE,
    oid::OID_X509_EXT_NAME_CONSTRAINTS,
    oid::OID_X509_EXT_SUBJECT_ALT_NAME,
];

const WRITE_CHAIN_OR_ACME: &str = "chain = \"fullchain.pem\": the server certificate, then its issuers in order; or acme = { … } to let hookgate ask an authority";
const WRITE_CHAIN: &str = "chain = \"fullchain.pem\": the server certificate, then its issuers in order";
const WRITE_KEY: &str = "key = \"privkey.pem\": the private key of the first certificate of the chain";

/// A certificate of this server: of files, or one that hookgate asks for.
#[derive(Debug)]
pub enum Certificate {
    /// `chain` and `key`.
    Files(ServerCertificate),
    /// `acme`.
    Acme(AcmeCertificate),
}

impl Certificate {
    /// The names that it is for: those in the file, or those that are asked for.
    #[must_use]
    pub fn names(&self) -> &[String] {
        match self {
            Self::Files(certificate) => &certificate.names,
            Self::Acme(certificate) => &certificate.order.domains,
        }
    }

    /// The chain and the key of files.
    #[must_use]
    pub fn of_files(&self) -> Option<&ServerCertificate> {
        match self {
            Self::Files(certificate) => Some(certificate),
            Self::Acme(_) => None,
        }
    }

    /// What is asked for.
    #[must_use]
    pub fn of_acme(&self) -> Option<&AcmeCertificate> {
        match self {
            Self::Files(_) => None,
            Self::Acme(certificate) => Some(certificate),
        }
    }
}

/// A certificate that hookgate asks for.
#[derive(Debug)]
pub struct AcmeCertificate {
    /// What to ask for.
    pub order: Arc<AcmeOrder>,
    /// The certificate that there is; `None` until there is one. The parser leaves it empty.
    pub issued: Option<Arc<ServerCertificate>>,
}

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

impl ServerCertificate {
    /// The name of the root that a sender would have to trust, as RFC 4514 writes it, if that is none of Mozilla's: the authority is private.
    #[must_use]
    pub fn private_root(&self) -> Option<String> {
        let parsed: Vec<X509Certificate<'_>> =
            self.chain.iter().filter_map(|der| Some(X509Certificate::from_der(der).ok()?.1)).collect();
        let mozilla = Roots::mozilla();
        if parsed.iter().any(|certificate| mozilla.has_name(certificate.issuer().as_raw())) {
            return None;
        }
        printable_name(parsed.last()?.issuer().as_raw())
    }
}

/// Where the chain of a server ends, if that is no public root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainEnd {
    /// The name of the authority, in DER.
    pub name: Vec<u8>,
    /// The same as RFC 4514 writes it.
    pub printed: String,
    /// Whether its certificate is in the chain.
    pub is_sent: bool,
    /// Where the last certificate says that the one of its issuer is published.
    pub url: Option<String>,
}

impl ServerCertificate {
    /// The end of the chain above the issuer of the end entity, if that is no public root. `None` of a self-signed end entity, and of one whose
    /// issuer is absent: the section warns of these.
    #[must_use]
    pub fn private_end(&self) -> Option<ChainEnd> {
        let parsed: Vec<X509Certificate<'_>> =
            self.chain.iter().filter_map(|der| Some(X509Certificate::from_der(der).ok()?.1)).collect();
        let (mozilla, mut top) = (Roots::mozilla(), parsed.first()?);
        // Each step takes another certificate, since a chain is no longer than `parsed`.
        for step in 0..parsed.len() {
            if mozilla.has_name(top.issuer().as_raw()) {
                return None;
            }
            let is_root = top.issuer() == top.subject();
            let above = parsed.iter().find(|other| other.subject() == top.issuer());
            match above.filter(|_| !is_root) {
                Some(issuer) => top = issuer,
                None if step == 0 => return None,
                None => {
                    return Some(ChainEnd {
                        name: top.issuer().as_raw().to_vec(),
                        printed: printable_name(top.issuer().as_raw()).unwrap_or_default(),
                        is_sent: is_root,
                        url: issuer_url(top).filter(|_| !is_root),
                    });
                }
            }
        }
        None
    }
}

/// `[[certificate]]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCertificate {
    chain: Option<Spanned<String>>,
    key: Option<Spanned<String>>,
    #[serde(default, deserialize_with = "document::table")]
    acme: Option<Spanned<RawAcme>>,
}

impl RawCertificate {
    /// `acme`, if it is there.
    pub(super) fn acme(&self) -> Option<&Spanned<RawAcme>> {
        self.acme.as_ref()
    }
}

/// A chain and its key as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPair {
    chain: Option<Spanned<String>>,
    key: Option<Spanned<String>>,
}

/// Parses the certificates. Reports what is wrong, and leaves out the certificates with errors.
pub(super) fn certificates(raw: &[Spanned<RawCertificate>], report: &mut Report<'_>) -> Vec<Certificate> {
    let mut taken = Vec::new();
    let raw = length::first(raw, MAXIMUM_CERTIFICATES, report);
    raw.iter().filter_map(|raw| certificate(raw, &mut taken, report)).collect()
}

fn certificate(
    raw: &Spanned<RawCertificate>,
    taken: &mut Vec<(String, usize)>,
    report: &mut Report<'_>,
) -> Option<Certificate> {
    let RawCertificate { chain, key, acme } = raw.get_ref();
    let Some(written) = acme else {
        let write = if key.is_some() { WRITE_CHAIN } else { WRITE_CHAIN_OR_ACME };
        return files(raw, (chain.as_ref(), key.as_ref()), write, report).map(Certificate::Files);
    };
    if chain.is_some() || key.is_some() {
        report.error(written, AcmeProblem::WithFiles.into());
    }
    let order = acme::acme(written, taken, report)?;
    let (names, directory) = (order.domains.join(", "), order.directory.name());
    report.note_about(written, WarningKind::AsksAuthority { names, directory });
    Some(Certificate::Acme(AcmeCertificate { order: Arc::new(order), issued: None }))
}

/// A chain and its key, as `{ chain = …, key = … }`. Reports what is wrong.
pub(super) fn pair(
    raw: &Spanned<RawPair>,
    report: &mut Report<'_>,
) -> Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let RawPair { chain, key } = raw.get_ref();
    files(raw, (chain.as_ref(), key.as_ref()), WRITE_CHAIN, report).map(|parsed| (parsed.chain, parsed.key))
}

/// The certificate of the files that the table `raw` names. If it names no chain, the report says what to `write`.
fn files<T>(
    raw: &Spanned<T>,
    (chain, key): (Option<&Spanned<String>>, Option<&Spanned<String>>),
    write: &'static str,
    report: &mut Report<'_>,
) -> Option<ServerCertificate> {
    if chain.is_none() {
        report.missing(raw, "chain", write);
    }
    if key.is_none() {
        report.missing(raw, "key", WRITE_KEY);
    }
    let loaded_chain = chain.and_then(|at| load(at, report, |path, _, _| load_chain(path)));
    let loaded_key = key.and_then(|at| load(at, report, load_key));
    let (chain_at, key_at) = (chain?, key?);
    let (certificates, LoadedKey { key, signing_key }) = (loaded_chain?, loaded_key?);

    let chain_path = report.resolve(chain_at.get_ref());
    let parsed: Result<Vec<_>, _> = (certificates.iter().enumerate())
        .map(|(index, certificate)| file::parse(certificate, index, &chain_path))
        .collect();
    let parsed = parsed.map_err(|problem| report.error(chain_at, problem)).ok()?;
    if let Some(misplaced) = mismatch(&parsed, &*signing_key) {
        let key = report.resolve(key_at.get_ref());
        report.error(key_at, Problem::KeyMismatch { key, chain: chain_path, position: misplaced });
        return None;
    }
    warn_of_form(&certificates, &parsed, chain_at, report);
    let names = inspect(&parsed, chain_at, report)?;
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
    // HAProxy's form of a chain has the key in the same file.
    let ignored = [&pem::PRIVATE_KEYS[..], &pem::PARAMETERS].concat();
    file::certificates(&file::read_named(path, MAXIMUM_FILE_BYTES)?, path, &ignored)
}

/// A private key, and the same key in the form that is compared with certificates.
struct LoadedKey {
    key: PrivateKeyDer<'static>,
    signing_key: Arc<dyn SigningKey>,
}

fn load_key(path: &Path, at: &Spanned<String>, report: &mut Report<'_>) -> Result<LoadedKey, Problem> {
    let text = Zeroizing::new(file::read_named(path, MAXIMUM_FILE_BYTES)?);
    let path_buf = || path.to_owned();
    let ignored = [&pem::CERTIFICATES[..], &pem::PARAMETERS].concat();
    let sections = pem::sections(&text, path, &pem::PRIVATE_KEYS, &ignored)?;
    let section = match &sections[..] {
        [] => return Err(Problem::NoKey { path: path_buf(), form: FileForm::of(&text) }),
        [section] if section.is_encrypted() => return Err(Problem::EncryptedKey { path: path_buf() }),
        [section] => section,
        [_, second, ..] => return Err(Problem::SecondKey { path: path_buf(), place: second.place }),
    };
    let der = section.decode(path)?.to_vec();
    let key = match section.label {
        "RSA PRIVATE KEY" => PrivateKeyDer::Pkcs1(der.into()),
        "EC PRIVATE KEY" => PrivateKeyDer::Sec1(der.into()),
        _ => PrivateKeyDer::Pkcs8(der.into()),
    };
    let signing_key = crypto::signing_key(&key).map_err(|_| Problem::UnusableKey { path: path_buf() })?;
    if let Some(access) = file::open_to_others(path) {
        report.warn(at, WarningKind::OpenToOthers { path: path_buf(), access });
    }
    Ok(LoadedKey { key, signing_key })
}

/// `None` if the key belongs to the first certificate; else the number, from 1, of the certificate that it belongs to.
///
/// Compares public keys, and does not ask rustls, which can read fewer certificates than senders can.
pub(super) fn mismatch(chain: &[X509Certificate<'_>], key: &dyn SigningKey) -> Option<Option<usize>> {
    // Every key that `crypto::signing_key` loads knows its public key.
    let public_key = key.public_key()?;
    match chain.iter().position(|certificate| certificate.public_key().raw == public_key.as_ref()) {
        Some(0) => None,
        Some(index) => Some(Some(index + 1)),
        None => Some(None),
    }
}

/// Warns of certificates that some senders cannot read, although this server can present them.
fn warn_of_form(
    chain: &[CertificateDer<'_>],
    parsed: &[X509Certificate<'_>],
    at: &Spanned<String>,
    report: &mut Report<'_>,
) {
    let bytes: usize = chain.iter().map(|certificate| certificate.len()).sum();
    if bytes > MANY_CHAIN_BYTES {
        report.warn(at, WarningKind::LargeChain { bytes });
    }
    for (position, (certificate, parsed)) in (1..).zip(chain.iter().zip(parsed)) {
        // What webpki reads, the libraries of senders read too: it supports the fewest forms.
        if certificate.len() <= MANY_CHAIN_BYTES && EndEntityCert::try_from(certificate).is_err() {
            report.warn(at, WarningKind::UnusualCertificate { position, cause: cause(parsed) });
        }
    }
}

/// Why a certificate is unusual, as a clause whose subject is the certificate.
fn cause(certificate: &X509Certificate<'_>) -> String {
    let extensions = certificate.extensions();
    let repeated = extensions
        .iter()
        .enumerate()
        .find(|(index, extension)| extensions.iter().take(*index).any(|other| other.oid == extension.oid));
    let critical = extensions.iter().find(|extension| extension.critical && !READ_BY_ALL.contains(&extension.oid));
    if certificate.version() != X509Version::V3 {
        format!("is of version {}, which has no extensions, and so no names", certificate.version().0 + 1)
    } else if let Some((_, extension)) = repeated {
        format!("has the extension {} twice", named(&extension.oid))
    } else if let Some(extension) = critical {
        format!("has the critical extension {}, which not every sender knows", named(&extension.oid))
    } else {
        "has a form that RFC 5280 does not allow".to_owned()
    }
}

/// An object identifier in dots, with its name if it has one.
fn named(oid: &Oid<'_>) -> String {
    match oid2sn(oid, oid_registry()) {
        Ok(name) => format!("{oid} ({name})"),
        Err(_) => oid.to_string(),
    }
}

/// The DNS names of the first certificate. Warns about the chain.
fn inspect(parsed: &[X509Certificate<'_>], at: &Spanned<String>, report: &mut Report<'_>) -> Option<Vec<String>> {
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
    if lacks_issuer(parsed) {
        let (issuer, url) = (printable_name(end_entity.issuer().as_raw()).unwrap_or_default(), issuer_url(end_entity));
        let path = report.resolve(at.get_ref());
        report.warn(at, WarningKind::MissingIntermediate { path, issuer, url });
    } else if let Some(index) = out_of_order {
        report.warn(at, WarningKind::ChainOutOfOrder { position: index + 2 });
    }
    warn_of_expiry(parsed, at, report);
    Some(names)
}

/// Whether the issuer of the end entity is neither in the file nor a root that senders know. Further up, a root may be left out, and which
/// certificate is a root of the senders is not known.
pub(super) fn lacks_issuer(chain: &[X509Certificate<'_>]) -> bool {
    let Some((end_entity, others)) = chain.split_first() else { return false };
    let issuer = end_entity.issuer();
    let is_known = || issuer == end_entity.subject() || others.iter().any(|other| other.subject() == issuer);
    !is_known() && !Roots::mozilla().has_name(issuer.as_raw())
}

/// The first URL of a certificate's issuer (RFC 5280, section 4.2.2.1), if it is one.
fn issuer_url(certificate: &X509Certificate<'_>) -> Option<String> {
    certificate.extensions().iter().find_map(|extension| {
        let ParsedExtension::AuthorityInfoAccess(access) = extension.parsed_extension() else { return None };
        let mut issuers =
            access.accessdescs.iter().filter(|one| one.access_method == oid::OID_PKIX_ACCESS_DESCRIPTOR_CA_ISSUERS);
        issuers.find_map(|one| match one.access_location {
            GeneralName::URI(url) if url.starts_with("http") => Some(url.to_owned()),
            _ => None,
        })
    })
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

pub(super) fn dns_names(certificate: &X509Certificate<'_>) -> Vec<String> {
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
