//! A throwaway public key infrastructure, shaped like those of the four providers.
//!
//! Owns the authorities and the server certificates; `leaf` owns the client certificates, good and wrong, and `revocation` the
//! revocation lists. All are PEM files in one directory, with descriptive names. Keys are P-256 unless RSA is requested. Must not be
//! trusted outside a test.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};

use crate::process;

mod leaf;
mod revocation;
#[cfg(test)]
mod tests;

pub use leaf::{ClientIdentity, ExtendedKeyUsage, LeafIssuer, LeafOptions, OddExtension, Presented, Validity, Variant};
pub use revocation::RevocationListOptions;

/// One day.
pub const DAY: Duration = Duration::from_secs(24 * 3600);

/// First serial number: eight bytes with the first bit clear, so that the number is positive in DER.
const FIRST_SERIAL: u64 = 0x1000_0000_0000_0001;

/// A sender with a certificate chain of its own. Dialogflow CX and ES share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sender {
    /// PagerDuty: `CN=webhooks.pagerduty.com`, below a root and an intermediate like DigiCert's.
    PagerDuty,
    /// Dialogflow as in its document: CN and SAN `*.dialogflow.com`, below authorities like Google Trust Services'.
    Dialogflow,
    /// Dialogflow's newer profile: `CN=Google LLC`, below authorities like SSL.com's.
    DialogflowNewer,
    /// Percolate: `/C=US/ST=New York/L=New York/O=Percolate Industries, Inc./CN=Percolate Industries, Inc.`
    Percolate,
}

impl Sender {
    /// Every sender.
    pub const ALL: [Self; 4] = [Self::PagerDuty, Self::Dialogflow, Self::DialogflowNewer, Self::Percolate];

    /// The name in file names: lower case, with hyphens.
    pub fn name(self) -> &'static str {
        match self {
            Self::PagerDuty => "pagerduty",
            Self::Dialogflow => "dialogflow",
            Self::DialogflowNewer => "dialogflow-newer",
            Self::Percolate => "percolate",
        }
    }

    /// The subject that the sender's document gives for its client certificate.
    pub fn subject(self) -> Subject {
        use SubjectAttribute::{CommonName, Country, Locality, Organization, State};
        match self {
            Self::PagerDuty => Subject::common_name("webhooks.pagerduty.com"),
            Self::Dialogflow => Subject::common_name("*.dialogflow.com"),
            Self::DialogflowNewer => Subject::new(&[
                (Country, "US"),
                (State, "California"),
                (Locality, "Mountain View"),
                (Organization, "Google LLC"),
                (CommonName, "Google LLC"),
            ]),
            Self::Percolate => Subject::new(&[
                (Country, "US"),
                (State, "New York"),
                (Locality, "New York"),
                (Organization, "Percolate Industries, Inc."),
                (CommonName, "Percolate Industries, Inc."),
            ]),
        }
    }

    /// The DNS names in the subjectAltName extension.
    pub fn dns_names(self) -> Vec<String> {
        match self {
            Self::PagerDuty => vec!["webhooks.pagerduty.com".into()],
            Self::Dialogflow => vec!["*.dialogflow.com".into()],
            Self::DialogflowNewer | Self::Percolate => Vec::new(),
        }
    }

    /// Subjects of root and intermediate: those in the documents, marked as throwaway.
    fn authority_subjects(self) -> (Subject, Subject) {
        use SubjectAttribute::{CommonName, Country, Organization, OrganizationalUnit};
        let digicert = |common_name: &str| {
            Subject::new(&[
                (Country, "US"),
                (Organization, "DigiCert Inc"),
                (OrganizationalUnit, "www.digicert.com"),
                (CommonName, common_name),
            ])
        };
        let other = |organization: &str, common_name: &str| {
            Subject::new(&[(Country, "US"), (Organization, organization), (CommonName, common_name)])
        };
        match self {
            Self::PagerDuty => (
                digicert("DigiCert Global Root CA (throwaway)"),
                other("DigiCert Inc", "DigiCert SHA2 Secure Server CA (throwaway)"),
            ),
            Self::Dialogflow => (
                other("Google Trust Services LLC", "GTS Root R1 (throwaway)"),
                other("Google Trust Services LLC", "GTS CA 1D4 (throwaway)"),
            ),
            Self::DialogflowNewer => (
                other("SSL Corporation", "SSL.com Root Certification Authority RSA (throwaway)"),
                other("SSL Corporation", "SSL.com Client Certificate Intermediate CA (throwaway)"),
            ),
            Self::Percolate => (
                digicert("DigiCert Assured ID Root CA (throwaway)"),
                digicert("DigiCert SHA2 Assured ID CA (throwaway)"),
            ),
        }
    }

    /// Extended key usage of the intermediate: id-kp-clientAuth in Percolate's bundle, none in the others.
    fn intermediate_usages(self) -> Vec<ExtendedKeyUsagePurpose> {
        match self {
            Self::Percolate => vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::EmailProtection],
            _ => Vec::new(),
        }
    }
}

/// The attribute types that the providers' subjects use (RFC 5280, appendix A.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubjectAttribute {
    /// `C`
    Country,
    /// `ST`
    State,
    /// `L`
    Locality,
    /// `O`
    Organization,
    /// `OU`
    OrganizationalUnit,
    /// `CN`
    CommonName,
}

/// A subject: attributes in order, each in its own relative distinguished name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject(Vec<(SubjectAttribute, String)>);

impl Subject {
    /// A subject with `attributes`, in this order.
    pub fn new(attributes: &[(SubjectAttribute, &str)]) -> Self {
        Self(attributes.iter().map(|(attribute, value)| (*attribute, (*value).to_owned())).collect())
    }

    /// A subject with one common name.
    pub fn common_name(name: &str) -> Self {
        Self::new(&[(SubjectAttribute::CommonName, name)])
    }

    /// The same subject with `change` applied to every common name.
    #[must_use]
    pub fn with_common_name(mut self, change: impl Fn(&str) -> String) -> Self {
        for (attribute, value) in &mut self.0 {
            if *attribute == SubjectAttribute::CommonName {
                *value = change(value);
            }
        }
        self
    }

    /// The same subject with another common name at its end.
    #[must_use]
    pub fn and_common_name(mut self, name: &str) -> Self {
        self.0.push((SubjectAttribute::CommonName, name.to_owned()));
        self
    }

    /// The subject for rcgen, which keeps one value per type: a second common name has its OID as type, with the same encoding.
    fn distinguished_name(&self) -> Result<DistinguishedName> {
        let mut name = DistinguishedName::new();
        for (attribute, value) in &self.0 {
            let (kind, second) = match attribute {
                SubjectAttribute::Country => (DnType::CountryName, [2, 5, 4, 6]),
                SubjectAttribute::State => (DnType::StateOrProvinceName, [2, 5, 4, 8]),
                SubjectAttribute::Locality => (DnType::LocalityName, [2, 5, 4, 7]),
                SubjectAttribute::Organization => (DnType::OrganizationName, [2, 5, 4, 10]),
                SubjectAttribute::OrganizationalUnit => (DnType::OrganizationalUnitName, [2, 5, 4, 11]),
                SubjectAttribute::CommonName => (DnType::CommonName, [2, 5, 4, 3]),
            };
            let kind = if name.get(&kind).is_none() { kind } else { DnType::CustomDnType(second.to_vec()) };
            ensure!(name.get(&kind).is_none(), "a subject can have an attribute type at most twice here");
            let value = match attribute {
                // RFC 5280, appendix A.1: X520countryName is a PrintableString.
                SubjectAttribute::Country => DnValue::PrintableString(value.as_str().try_into()?),
                _ => DnValue::Utf8String(value.clone()),
            };
            name.push(kind, value);
        }
        Ok(name)
    }
}

/// Which key a certificate gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA on P-256.
    #[default]
    P256,
    /// RSA of 2,048 bits, made by the `openssl` command: ring signs with RSA keys and makes none.
    Rsa2048,
}

impl KeyKind {
    pub(crate) fn generate(self) -> Result<KeyPair> {
        if self == Self::P256 {
            return Ok(KeyPair::generate()?);
        }
        let mut command = Command::new("openssl");
        command.args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
        let finished = process::run(command, &[], Duration::from_secs(30))?;
        ensure!(finished.success(), "openssl genpkey failed: {}", finished.stderr_text());
        Ok(KeyPair::from_pem(&finished.stdout_text())?)
    }
}

/// A certificate authority: certificate, key, and its certificate as a file.
#[derive(Debug)]
pub struct Authority {
    certified: CertifiedIssuer<'static, KeyPair>,
    path: PathBuf,
    serial: Serial,
}

/// What distinguishes one authority from another.
struct AuthorityOptions<'a> {
    subject: &'a Subject,
    /// The largest number of authorities below; `None` for no bound.
    path_length: Option<u8>,
    usages: Vec<ExtendedKeyUsagePurpose>,
}

impl Authority {
    fn new(files: &PkiFiles, file: &str, options: AuthorityOptions<'_>, issuer: Option<&Self>) -> Result<Self> {
        let now = SystemTime::now();
        let mut params = CertificateParams::default();
        params.distinguished_name = options.subject.distinguished_name()?;
        params.is_ca =
            IsCa::Ca(options.path_length.map_or(BasicConstraints::Unconstrained, BasicConstraints::Constrained));
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = options.usages;
        let serial = files.next_serial();
        params.serial_number = Some(serial.to_rcgen());
        params.use_authority_key_identifier_extension = true;
        params.not_before = (now - 3650 * DAY).into();
        params.not_after = (now + 3650 * DAY).into();
        let key = KeyPair::generate()?;
        let certified = match issuer {
            None => CertifiedIssuer::self_signed(params, key)?,
            Some(issuer) => CertifiedIssuer::signed_by(params, key, &issuer.certified)?,
        };
        let path = files.write(file, &certified.pem())?;
        Ok(Self { certified, path, serial })
    }

    /// The certificate as PEM.
    pub fn pem(&self) -> String {
        self.certified.pem()
    }

    /// The serial number of its certificate.
    pub fn serial(&self) -> Serial {
        self.serial
    }

    /// The certificate as a PEM file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The certificate as DER.
    pub fn der(&self) -> &[u8] {
        self.certified.der()
    }
}

/// A serial number: unique within one [`Pki`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Serial(u64);

impl Serial {
    /// In upper-case hexadecimal, as OpenSSL prints it.
    pub fn to_hex(self) -> String {
        format!("{:016X}", self.0)
    }

    fn to_rcgen(self) -> SerialNumber {
        SerialNumber::from(self.0)
    }
}

/// The directory and the counter of serial numbers of one PKI.
#[derive(Debug)]
struct PkiFiles {
    directory: PathBuf,
    next_serial: AtomicU64,
}

impl PkiFiles {
    fn next_serial(&self) -> Serial {
        Serial(self.next_serial.fetch_add(1, Ordering::Relaxed))
    }

    fn write(&self, file: &str, text: &str) -> Result<PathBuf> {
        ensure!(!file.contains('/'), "{file} must be a plain file name");
        let path = self.directory.join(file);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }
}

/// The authorities of one sender: root, intermediate, and wrong ones.
#[derive(Debug)]
pub struct SenderPki {
    files: Arc<PkiFiles>,
    sender: Sender,
    /// The trust anchor.
    pub root: Authority,
    /// Issues the client certificates, as in the sender's document.
    pub intermediate: Authority,
    /// Below the root and above `deep_issuing`: one authority more than in the document.
    deep_policy: Authority,
    deep_issuing: Authority,
    /// The name of `root` with another key; below it, an intermediate with the name of `intermediate`.
    pub impostor_root: Authority,
    /// Below it.
    pub impostor_intermediate: Authority,
    /// An authority of another name, which is not trusted.
    stranger: Authority,
}

impl SenderPki {
    fn new(files: &Arc<PkiFiles>, sender: Sender) -> Result<Self> {
        let (root_subject, intermediate_subject) = sender.authority_subjects();
        let name = sender.name();
        let make_root = |file: &str| {
            let options = AuthorityOptions { subject: &root_subject, path_length: None, usages: Vec::new() };
            Authority::new(files, &format!("{name}-{file}.pem"), options, None)
        };
        let make_issuing = |file: &str, issuer: &Authority| {
            let usages = sender.intermediate_usages();
            let options = AuthorityOptions { subject: &intermediate_subject, path_length: Some(0), usages };
            Authority::new(files, &format!("{name}-{file}.pem"), options, Some(issuer))
        };
        let root = make_root("root")?;
        let intermediate = make_issuing("intermediate", &root)?;
        let impostor_root = make_root("impostor-root")?;
        let impostor_intermediate = make_issuing("impostor-intermediate", &impostor_root)?;
        let deeper =
            |subject: &Subject, what: &str| subject.clone().with_common_name(|common| format!("{common} {what}"));
        let policy_subject = deeper(&intermediate_subject, "Policy");
        let issuing_subject = deeper(&intermediate_subject, "Issuing");
        let usages = sender.intermediate_usages();
        let options = AuthorityOptions { subject: &policy_subject, path_length: Some(1), usages: usages.clone() };
        let deep_policy = Authority::new(files, &format!("{name}-deep-policy.pem"), options, Some(&root))?;
        let options = AuthorityOptions { subject: &issuing_subject, path_length: Some(0), usages };
        let deep_issuing = Authority::new(files, &format!("{name}-deep-issuing.pem"), options, Some(&deep_policy))?;
        let subject = Subject::common_name("Stranger CA (throwaway)");
        let options = AuthorityOptions { subject: &subject, path_length: Some(0), usages: Vec::new() };
        let stranger = Authority::new(files, &format!("{name}-stranger.pem"), options, None)?;
        let files = Arc::clone(files);
        Ok(Self {
            files,
            sender,
            root,
            intermediate,
            deep_policy,
            deep_issuing,
            impostor_root,
            impostor_intermediate,
            stranger,
        })
    }

    /// The sender.
    pub fn sender(&self) -> Sender {
        self.sender
    }
}

/// A server certificate with its key, for the daemon under test.
#[derive(Clone, Debug)]
pub struct ServerIdentity {
    /// End entity and intermediate, in order.
    pub chain_path: PathBuf,
    /// The key, PKCS #8.
    pub key_path: PathBuf,
    /// The end-entity certificate as DER.
    pub der: Vec<u8>,
}

/// The whole PKI: that of every sender, and that of the server.
#[derive(Debug)]
pub struct Pki {
    files: Arc<PkiFiles>,
    senders: Vec<SenderPki>,
    server_root: Authority,
    server_intermediate: Authority,
}

impl Pki {
    /// Makes all authorities and writes their certificates to `directory`, which must exist, and must outlive this.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub fn new(directory: &Path) -> Result<Self> {
        let directory = directory.to_owned();
        let files = Arc::new(PkiFiles { directory, next_serial: AtomicU64::new(FIRST_SERIAL) });
        let senders = Sender::ALL.iter().map(|sender| SenderPki::new(&files, *sender)).collect::<Result<_>>()?;
        let subject = Subject::common_name("hookgate throwaway server root");
        let options = AuthorityOptions { subject: &subject, path_length: None, usages: Vec::new() };
        let server_root = Authority::new(&files, "server-root.pem", options, None)?;
        let subject = Subject::common_name("hookgate throwaway server intermediate");
        let options = AuthorityOptions { subject: &subject, path_length: Some(0), usages: Vec::new() };
        let server_intermediate = Authority::new(&files, "server-intermediate.pem", options, Some(&server_root))?;
        Ok(Self { files, senders, server_root, server_intermediate })
    }

    /// The directory of the files.
    pub fn directory(&self) -> &Path {
        &self.files.directory
    }

    /// The PKI of `sender`.
    pub fn sender(&self, sender: Sender) -> &SenderPki {
        self.senders.iter().find(|pki| pki.sender == sender).expect("new() makes a PKI for every sender")
    }

    /// The root that a client must trust to accept the certificates of [`Pki::server`].
    pub fn server_root(&self) -> &Authority {
        &self.server_root
    }

    /// Makes a server certificate for `names`, 127.0.0.1 and ::1. The file names begin with `file`.
    ///
    /// # Errors
    ///
    /// There is no name, a name is no DNS name, a file cannot be written, or the `openssl` command, which makes RSA keys, is missing.
    pub fn server(&self, file: &str, names: &[&str], key: KeyKind) -> Result<ServerIdentity> {
        let Some(first) = names.first() else { bail!("a server certificate needs a name") };
        let now = SystemTime::now();
        let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
        params.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        params.subject_alt_names.push(SanType::IpAddress(IpAddr::V6(Ipv6Addr::LOCALHOST)));
        params.distinguished_name = Subject::common_name(first).distinguished_name()?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.serial_number = Some(self.files.next_serial().to_rcgen());
        params.use_authority_key_identifier_extension = true;
        params.not_before = (now - DAY).into();
        params.not_after = (now + 365 * DAY).into();
        let key = key.generate()?;
        let certificate = params.signed_by(&key, &self.server_intermediate.certified)?;
        let chain = certificate.pem() + &self.server_intermediate.pem();
        Ok(ServerIdentity {
            chain_path: self.files.write(&format!("{file}.pem"), &chain)?,
            key_path: self.files.write(&format!("{file}.key"), &key.serialize_pem())?,
            der: certificate.der().to_vec(),
        })
    }
}
