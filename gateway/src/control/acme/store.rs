//! Accounts, certificates and back-offs in the state directory.
//!
//! Owns the form and the names of their files: JSON, mode 0600, keys included. A file that cannot be read is as good as none. Must not
//! ask an authority.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use data_encoding::{BASE64, HEXLOWER};
use instant_acme::AccountCredentials;
use ring::digest;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::config::{AcmeOrder, FeedUrl, ServerCertificate};
use crate::state::{StateDirectory, StateError};

const ACCOUNTS: &str = "acme-account-";
const CERTIFICATES: &str = "acme-certificate-";
const FAILURES: &str = "acme-failures-";

/// The most bytes of such a file. A chain has some kilobytes, and comes in an answer of at most 256 KiB.
const MAXIMUM_BYTES: usize = 512 * 1024;
/// Bytes of the digest that names a file.
const NAME_BYTES: usize = 16;

/// Text that is wiped from memory.
struct Hidden(Zeroizing<String>);

impl Serialize for Hidden {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Zeroizing::new).map(Self)
    }
}

/// An account, as its file has it.
#[derive(Deserialize, Serialize)]
pub(super) struct AccountRecord {
    directory: String,
    /// Of the external account that it belongs to.
    key_id: Option<String>,
    pub(super) contact: Vec<String>,
    pub(super) credentials: AccountCredentials,
}

impl AccountRecord {
    pub(super) fn new(order: &AcmeOrder, credentials: AccountCredentials) -> Self {
        let key_id = order.external_account.as_ref().map(|account| account.key_id.clone());
        Self { directory: order.directory.url.to_string(), key_id, contact: order.contact.clone(), credentials }
    }

    /// Writes it, in place of the one before.
    pub(super) fn write(&self, state: &StateDirectory, order: &AcmeOrder) -> Result<(), StateError> {
        state.write(&account_name(order), &bytes(self))
    }

    /// The account for an order, if there is one that can be used.
    pub(super) fn read(state: &StateDirectory, order: &AcmeOrder) -> Option<Self> {
        read_by(state, &account_name(order), |bytes| {
            let AccountUrl { credentials: CredentialsUrl { id } } = parse(bytes)?;
            match FeedUrl::parse(&id) {
                Ok(_) => parse(bytes),
                Err(_) => Err("the URL of the account cannot be used, so another is made".to_owned()),
            }
        })
    }
}

/// The URL in the file of an account, which [`AccountCredentials`] does not tell.
#[derive(Deserialize)]
struct AccountUrl {
    credentials: CredentialsUrl,
}

#[derive(Deserialize)]
struct CredentialsUrl {
    id: String,
}

/// A certificate, as its file has it.
#[derive(Deserialize, Serialize)]
pub(super) struct CertificateRecord {
    directory: String,
    profile: Option<String>,
    /// When it came, in seconds since 1970. Files of before have no such time.
    #[serde(default)]
    obtained: u64,
    /// Each in base64.
    chain: Vec<String>,
    /// PKCS#8, in base64.
    key: Hidden,
}

impl fmt::Debug for CertificateRecord {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CertificateRecord").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl CertificateRecord {
    pub(super) fn new(order: &AcmeOrder, kept: &Kept) -> Self {
        let certificate = &kept.certificate;
        Self {
            directory: order.directory.url.to_string(),
            profile: order.profile.clone(),
            obtained: kept.obtained,
            chain: certificate.chain.iter().map(|der| BASE64.encode(der)).collect(),
            key: Hidden(Zeroizing::new(BASE64.encode(certificate.key.secret_der()))),
        }
    }

    /// Writes it, in place of the one before.
    pub(super) fn write(&self, state: &StateDirectory, order: &AcmeOrder) -> Result<(), StateError> {
        state.write(&certificate_name(order), &bytes(self))
    }

    /// What it is for the order: the certificate for those of its names that it has, and whether there is no need to ask for another.
    fn for_order(&self, order: &AcmeOrder, path: PathBuf) -> Option<Kept> {
        let decode = |text: &String| BASE64.decode(text.as_bytes()).ok().map(CertificateDer::from);
        let chain: Vec<CertificateDer<'static>> = self.chain.iter().map(decode).collect::<Option<_>>()?;
        let key = PrivatePkcs8KeyDer::from(BASE64.decode(self.key.0.as_bytes()).ok()?);
        let certificate = order.certificate(chain, PrivateKeyDer::Pkcs8(key), &path).ok()?;
        let fits = self.directory == order.directory.url.to_string()
            && self.profile == order.profile
            && certificate.names.len() == order.domains.len();
        Some(Kept { certificate: Arc::new(certificate), fits, obtained: self.obtained })
    }
}

/// The attempts for a certificate that failed in a row, as their file has them. Times are in seconds since 1970.
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct FailureRecord {
    pub(super) failures: u32,
    /// When the last one began or ended.
    pub(super) at: u64,
    /// When the next one is due.
    pub(super) next: u64,
}

impl FailureRecord {
    /// Writes it, in place of the one before.
    pub(super) fn write(&self, state: &StateDirectory, order: &AcmeOrder) -> Result<(), StateError> {
        state.write(&failures_name(order), &bytes(self))
    }

    /// That of an order, if there is one.
    pub(super) fn read(state: &StateDirectory, order: &AcmeOrder) -> Option<Self> {
        read(state, &failures_name(order))
    }

    /// Removes it.
    pub(super) fn remove(state: &StateDirectory, order: &AcmeOrder) -> Result<(), StateError> {
        state.remove(&failures_name(order))
    }
}

/// A certificate that there is for an order.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) certificate: Arc<ServerCertificate>,
    /// Whether it has all the names, and is of this directory and profile. If not, it serves until there is one that is.
    pub(super) fits: bool,
    /// When it came, in seconds since 1970; 0 if that is not known.
    pub(super) obtained: u64,
}

impl Kept {
    /// One that came at `obtained`, and was judged.
    pub(super) fn issued(certificate: ServerCertificate, obtained: u64) -> Self {
        Self { certificate: Arc::new(certificate), fits: true, obtained }
    }

    /// The better of two comes last: the one with more names, then that which fits, then that which ends later.
    fn rank(&self) -> (usize, bool, u64) {
        let until = self.certificate.validity().map_or(0, |(_, until)| until);
        (self.certificate.names.len(), self.fits, until)
    }
}

/// Every certificate in the state directory.
#[derive(Debug, Default)]
pub(super) struct Certificates(Vec<CertificateRecord>);

impl Certificates {
    pub(super) fn read(state: &StateDirectory) -> Self {
        let names = state.list(CERTIFICATES).unwrap_or_else(|error| {
            tracing::warn!(%error, "the certificates of the state directory cannot be listed");
            Vec::new()
        });
        Self(names.iter().filter_map(|name| read(state, name)).collect())
    }

    pub(super) fn add(&mut self, record: CertificateRecord) {
        self.0.push(record);
    }

    /// The best for an order.
    pub(super) fn best(&self, state: &StateDirectory, order: &AcmeOrder) -> Option<Kept> {
        let path = certificate_path(state, order);
        self.0.iter().filter_map(|record| record.for_order(order, path.clone())).max_by_key(Kept::rank)
    }
}

/// Removes what is of none of these orders: failures, and the files of certificates that ended before `now`, in seconds since 1970.
pub(super) fn clean_up(state: &StateDirectory, orders: &[Arc<AcmeOrder>], now: u64) {
    for name in &others(state, CERTIFICATES, orders) {
        let ended = read(state, name).is_none_or(|record: CertificateRecord| {
            let first = record.chain.first().and_then(|text| BASE64.decode(text.as_bytes()).ok());
            let end = first.and_then(|der| not_after(&der));
            end.is_none_or(|end| end < now)
        });
        if ended && let Err(error) = state.remove(name) {
            tracing::warn!(%error, "a certificate that has ended cannot be removed");
        }
    }
    for name in &others(state, FAILURES, orders) {
        if let Err(error) = state.remove(name) {
            tracing::warn!(%error, "the failures of a certificate that is gone cannot be removed");
        }
    }
}

/// The files with this prefix that are of none of these orders.
fn others(state: &StateDirectory, prefix: &str, orders: &[Arc<AcmeOrder>]) -> Vec<String> {
    let in_use: BTreeSet<String> = orders.iter().map(|order| name_of(prefix, order)).collect();
    let mut names = state.list(prefix).unwrap_or_default();
    names.retain(|name| !in_use.contains(name));
    names
}

fn not_after(der: &[u8]) -> Option<u64> {
    use x509_parser::prelude::{FromDer as _, X509Certificate};
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    u64::try_from(parsed.validity().not_after.timestamp()).ok()
}

/// Where the certificate of an order is kept.
pub(super) fn certificate_path(state: &StateDirectory, order: &AcmeOrder) -> PathBuf {
    state.path().join(certificate_name(order))
}

fn account_name(order: &AcmeOrder) -> String {
    let url = order.directory.url.to_string();
    let key_id = order.external_account.as_ref().map(|account| account.key_id.as_str());
    name(ACCOUNTS, [Some(url.as_str()), key_id].into_iter())
}

/// Another set of names is another certificate, whatever their order.
fn certificate_name(order: &AcmeOrder) -> String {
    name_of(CERTIFICATES, order)
}

fn failures_name(order: &AcmeOrder) -> String {
    name_of(FAILURES, order)
}

fn name_of(prefix: &str, order: &AcmeOrder) -> String {
    let url = order.directory.url.to_string();
    let domains: BTreeSet<&str> = order.domains.iter().map(String::as_str).collect();
    let parts = [Some(url.as_str()), order.profile.as_deref()].into_iter();
    name(prefix, parts.chain(domains.into_iter().map(Some)))
}

fn name<'p>(prefix: &str, parts: impl Iterator<Item = Option<&'p str>>) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        // What is absent is not what is empty, and no two parts run together.
        context.update(&part.map_or(u64::MAX, |part| part.len() as u64).to_le_bytes());
        context.update(part.map(str::as_bytes).unwrap_or_default());
    }
    let digits = HEXLOWER.encode(context.finish().as_ref());
    format!("{prefix}{}", digits.get(..2 * NAME_BYTES).unwrap_or_default())
}

/// The file of this name. Logs why it cannot be used, unless there is none.
fn read<T: for<'de> Deserialize<'de>>(state: &StateDirectory, name: &str) -> Option<T> {
    read_by(state, name, parse)
}

/// The same, by `parse`.
fn read_by<T>(state: &StateDirectory, name: &str, parse: impl FnOnce(&[u8]) -> Result<T, String>) -> Option<T> {
    let read = state.read(name, MAXIMUM_BYTES).map(|bytes| bytes.map(Zeroizing::new));
    let parsed = match read {
        Ok(bytes) => parse(&bytes?),
        Err(error) => Err(error.to_string()),
    };
    let path = state.path().join(name);
    let warn = |reason: String| tracing::warn!(file = %path.display(), reason, "a file of acme cannot be used");
    parsed.map_err(warn).ok()
}

fn parse<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

/// In memory that is wiped and never moved.
fn bytes<T: Serialize>(record: &T) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAXIMUM_BYTES));
    // A record has strings and numbers alone.
    let _ = serde_json::to_writer(&mut *bytes, record);
    bytes
}

#[cfg(test)]
mod tests;
