//! Throwaway certificates in the shape of a sender's: an authority in a folder that a test configuration trusts, and client certificates,
//! right and wrong ones, that it issues.
//!
//! Owns the files and the certificates. Must not connect. Nothing here is trusted by anyone who does not trust the folder's root.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};
use x509_parser::asn1_rs::Oid;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::roots::{self, FileError};
use crate::sender::CertificateShape;

/// How long an authority is valid, in days. It is for tests; ten years keep a folder that a test configuration names usable.
const AUTHORITY_DAYS: i64 = 3650;
/// How long a client certificate is valid, in days. Each run makes a new one.
const CLIENT_DAYS: i64 = 30;
/// How far the first day lies back, so that a receiver with a slow clock accepts it.
const BEFORE: Duration = Duration::DAY;
/// DER contents of the object identifiers of countryName and commonName (RFC 5280, appendix A.1).
const COUNTRY: &[u8] = &[0x55, 0x04, 0x06];
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

const ROOT: &str = "root.pem";
const ROOT_KEY: &str = "root.key";
const INTERMEDIATE: &str = "intermediate.pem";
const INTERMEDIATE_KEY: &str = "intermediate.key";
const CLIENT: &str = "client.pem";
const CLIENT_KEY: &str = "client.key";

/// What is wrong with a client certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing.
    #[default]
    None,
    /// Valid until two days ago.
    Expired,
    /// Valid from tomorrow.
    NotYetValid,
    /// Issued by an authority of another name.
    ForeignIssuer,
    /// Issued by an authority with the right names and another key.
    Impostor,
    /// Signed by itself.
    SelfSigned,
    /// For another name.
    WrongName,
    /// For a name that contains the right one, which a search for a part of the name accepts.
    NameAsPart,
    /// For TLS servers only.
    ServerAuth,
    /// Without its intermediate.
    MissingIntermediate,
    /// With one intermediate too many.
    TooDeep,
}

/// A chain to present, and its key.
#[derive(Debug)]
pub struct Identity {
    /// The certificates, the end entity first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the end entity.
    pub key: PrivateKeyDer<'static>,
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file or the folder cannot be written or read.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be read as PEM.
    #[error(transparent)]
    Pem(#[from] FileError),
    /// The folder has one of the files and not the others.
    #[error(
        "{folder} has {present} and no {missing}, so it is no folder of an earlier run; name another folder by --pki, or remove the file"
    )]
    Mixed {
        /// The folder.
        folder: String,
        /// The file that is there.
        present: String,
        /// The file that is not.
        missing: String,
    },
    /// The authority in the folder has expired.
    #[error("the authority in {folder} has expired; remove the folder, and let the receiver trust the new one")]
    Expired {
        /// The folder.
        folder: String,
    },
    /// The certificate cannot be made.
    #[error("a certificate cannot be made: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// An authority in a folder.
#[derive(Debug)]
pub struct Pki {
    folder: PathBuf,
    shape: CertificateShape,
    root: Authority,
    /// `None` if the root issues end entities itself.
    intermediate: Option<Authority>,
    /// Whether this run made it.
    is_new: bool,
}

#[derive(Debug)]
struct Authority {
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    /// The authority in `folder`, which is made if it does not exist, in the shape `shape`. Keys are readable by the owner alone.
    ///
    /// # Errors
    ///
    /// A file cannot be read or written, or the folder has some of the files and not the others.
    pub fn open(folder: &Path, shape: &CertificateShape) -> Result<Self, PkiError> {
        let (root, is_new) = match load(folder, ROOT, ROOT_KEY)? {
            Some(root) => (root, false),
            None => {
                let failed = |source| PkiError::File { path: folder.display().to_string(), source };
                DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
                (create(folder, ROOT, ROOT_KEY, authority_params("root"), None)?, true)
            }
        };
        let intermediate = match shape.depth {
            0 | 1 => None,
            _ => Some(match load(folder, INTERMEDIATE, INTERMEDIATE_KEY)? {
                Some(intermediate) => intermediate,
                None => create(folder, INTERMEDIATE, INTERMEDIATE_KEY, authority_params("intermediate"), Some(&root))?,
            }),
        };
        Ok(Self { folder: folder.to_owned(), shape: shape.clone(), root, intermediate, is_new })
    }

    /// The file of the root in `folder`, which the receiver must trust.
    #[must_use]
    pub fn root_in(folder: &Path) -> PathBuf {
        folder.join(ROOT)
    }

    /// Whether this run made the authority.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Writes the chain and the key of `identity` into the folder, for other clients. Returns their paths.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub fn write(&self, identity: &Identity) -> Result<(PathBuf, PathBuf), PkiError> {
        let pem: String = identity.chain.iter().map(|certificate| pem("CERTIFICATE", certificate)).collect();
        let (chain, key) = (self.folder.join(CLIENT), self.folder.join(CLIENT_KEY));
        write(&chain, &pem, 0o644)?;
        write(&key, &zeroize::Zeroizing::new(pem_of_key(&identity.key)), 0o600)?;
        Ok((chain, key))
    }

    /// A new client certificate with `flaw`.
    ///
    /// # Errors
    ///
    /// A name of the shape cannot be encoded.
    pub fn client(&self, flaw: Flaw) -> Result<Identity, PkiError> {
        let key = KeyPair::generate()?;
        let params = client_params(&self.shape, flaw)?;
        let (certificate, above) = match flaw {
            Flaw::SelfSigned => (params.self_signed(&key)?, Vec::new()),
            Flaw::ForeignIssuer => issued(&params, &key, &[made(authority_params("foreign"), None)?])?,
            Flaw::Impostor => {
                let root = made(authority_params("root"), None)?;
                match self.intermediate {
                    None => issued(&params, &key, &[root])?,
                    Some(_) => issued(&params, &key, &[made(authority_params("intermediate"), Some(&root))?])?,
                }
            }
            Flaw::TooDeep => {
                let mut chain = vec![made(authority_params("intermediate 1"), Some(&self.root))?];
                for number in 2..=self.shape.depth.max(1) {
                    let params = authority_params(&format!("intermediate {number}"));
                    chain.insert(0, made(params, chain.first())?);
                }
                issued(&params, &key, &chain)?
            }
            _ => match &self.intermediate {
                None => (params.signed_by(&key, &self.root.issuer)?, Vec::new()),
                Some(intermediate) => (params.signed_by(&key, &intermediate.issuer)?, vec![intermediate.der.clone()]),
            },
        };
        let above = if flaw == Flaw::MissingIntermediate { Vec::new() } else { above };
        let chain = std::iter::once(certificate.der().clone()).chain(above).collect();
        Ok(Identity { chain, key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())) })
    }
}

/// A client certificate in the shape `shape`, of an authority that nobody trusts, for a look at a receiver.
///
/// # Errors
///
/// A name of the shape cannot be encoded.
pub fn foreign(shape: &CertificateShape) -> Result<Identity, PkiError> {
    let key = KeyPair::generate()?;
    let params = client_params(shape, Flaw::None)?;
    let (certificate, above) = issued(&params, &key, &[made(authority_params("foreign"), None)?])?;
    let chain = std::iter::once(certificate.der().clone()).chain(above).collect();
    Ok(Identity { chain, key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())) })
}

/// The certificate that the first of `authorities` issues, and the authorities to present with it.
fn issued(
    params: &CertificateParams,
    key: &KeyPair,
    authorities: &[Authority],
) -> Result<(Certificate, Vec<CertificateDer<'static>>), PkiError> {
    let certificate = params.signed_by(key, &authorities[0].issuer)?;
    Ok((certificate, authorities.iter().map(|authority| authority.der.clone()).collect()))
}

fn authority_params(what: &str) -> CertificateParams {
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "hookgate throwaway authority");
    params.distinguished_name.push(DnType::CommonName, format!("hookgate throwaway {what}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params.not_before = now - BEFORE;
    params.not_after = now + Duration::days(AUTHORITY_DAYS);
    params
}

fn client_params(shape: &CertificateShape, flaw: Flaw) -> Result<CertificateParams, PkiError> {
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = match flaw {
        Flaw::Expired => (now - Duration::days(CLIENT_DAYS), now - Duration::days(2)),
        Flaw::NotYetValid => (now + Duration::DAY, now + Duration::days(CLIENT_DAYS)),
        _ => (now - BEFORE, now + Duration::days(CLIENT_DAYS)),
    };
    let renamed = |name: &str| match flaw {
        Flaw::WrongName => "somebody-else.example".to_owned(),
        Flaw::NameAsPart => format!("{name}.attacker.example"),
        _ => name.to_owned(),
    };
    params.distinguished_name = DistinguishedName::new();
    for (kind, value) in &shape.subject {
        let value = if kind == COMMON_NAME { renamed(value) } else { value.clone() };
        params.distinguished_name.push(kind_of(kind), value_of(kind, value)?);
    }
    if shape.subject.is_empty() {
        params.distinguished_name.push(DnType::CommonName, renamed("hookgate throwaway sender"));
    }
    for name in &shape.dns_names {
        params.subject_alt_names.push(SanType::DnsName(renamed(name).try_into()?));
    }
    for uri in &shape.uris {
        let uri = if flaw == Flaw::WrongName { "urn:somebody-else" } else { uri.as_str() };
        params.subject_alt_names.push(SanType::URI(uri.try_into()?));
    }
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match flaw {
        Flaw::ServerAuth => vec![ExtendedKeyUsagePurpose::ServerAuth],
        _ => vec![ExtendedKeyUsagePurpose::ClientAuth],
    };
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// The attribute type with these DER contents of its object identifier.
fn kind_of(contents: &[u8]) -> DnType {
    match contents {
        COUNTRY => DnType::CountryName,
        COMMON_NAME => DnType::CommonName,
        other => DnType::CustomDnType(Oid::new(other.into()).iter().map(Iterator::collect).unwrap_or_default()),
    }
}

fn value_of(kind: &[u8], value: String) -> Result<DnValue, PkiError> {
    match kind {
        // RFC 5280, appendix A.1: X520countryName is a PrintableString.
        COUNTRY => Ok(DnValue::PrintableString(value.as_str().try_into()?)),
        _ => Ok(DnValue::Utf8String(value)),
    }
}

/// A new authority, below `above` or self-signed.
fn made(params: CertificateParams, above: Option<&Authority>) -> Result<Authority, PkiError> {
    let key = KeyPair::generate()?;
    let certificate = match above {
        None => params.self_signed(&key)?,
        Some(above) => params.signed_by(&key, &above.issuer)?,
    };
    Ok(Authority { der: certificate.der().clone(), issuer: Issuer::new(params, key) })
}

fn create(
    folder: &Path,
    file: &str,
    key_file: &str,
    params: CertificateParams,
    above: Option<&Authority>,
) -> Result<Authority, PkiError> {
    let authority = made(params, above)?;
    write(&folder.join(key_file), &zeroize::Zeroizing::new(authority.issuer.key().serialize_pem()), 0o600)?;
    write(&folder.join(file), &pem("CERTIFICATE", &authority.der), 0o644)?;
    Ok(authority)
}

/// Reads an authority; `None` if neither file exists.
fn load(folder: &Path, file: &str, key_file: &str) -> Result<Option<Authority>, PkiError> {
    let (path, key_path) = (folder.join(file), folder.join(key_file));
    match (path.exists(), key_path.exists()) {
        (false, false) => return Ok(None),
        (true, true) => {}
        (has_certificate, _) => {
            let (present, missing) = if has_certificate { (file, key_file) } else { (key_file, file) };
            let (present, missing) = (present.to_owned(), missing.to_owned());
            return Err(PkiError::Mixed { folder: folder.display().to_string(), present, missing });
        }
    }
    let der = roots::certificates(&path)?.swap_remove(0);
    let is_over = X509Certificate::from_der(&der).is_ok_and(|(_, certificate)| !certificate.validity().is_valid());
    if is_over {
        return Err(PkiError::Expired { folder: folder.display().to_string() });
    }
    let key = zeroize::Zeroizing::new(String::from_utf8_lossy(&roots::read(&key_path)?).into_owned());
    let issuer = Issuer::from_ca_cert_der(&der, KeyPair::from_pem(&key)?)?;
    Ok(Some(Authority { der, issuer }))
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    let failed = |source| PkiError::File { path: path.display().to_string(), source };
    // A file that was there keeps its mode, so it is removed first: a key must not get into a file that others read.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

/// PEM (RFC 7468) with lines of 64 characters.
fn pem(label: &str, der: &[u8]) -> String {
    let encoded = data_encoding::BASE64.encode(der);
    let lines: Vec<&str> = encoded.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn pem_of_key(key: &PrivateKeyDer<'_>) -> String {
    let label = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    pem(label, key.secret_der())
}

#[cfg(test)]
mod tests;
