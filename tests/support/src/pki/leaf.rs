//! Client certificates: the one in a sender's document, and wrong ones of every kind.

use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::Result;
use rcgen::{
    CertificateParams, CrlDistributionPoint, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType,
};

use super::{Authority, DAY, KeyKind, Sender, SenderPki, Serial, Subject};

/// When a client certificate is valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Validity {
    /// From yesterday, for a year.
    #[default]
    Current,
    /// Until two days ago.
    Expired,
    /// From tomorrow.
    NotYetValid,
    /// From, until.
    Between(SystemTime, SystemTime),
}

impl Validity {
    fn bounds(self) -> (SystemTime, SystemTime) {
        let now = SystemTime::now();
        match self {
            Self::Current => (now - DAY, now + 365 * DAY),
            // Longer ago than a renewal is late.
            Self::Expired => (now - 365 * DAY, now - 2 * DAY),
            Self::NotYetValid => (now + DAY, now + 365 * DAY),
            Self::Between(from, until) => (from, until),
        }
    }
}

/// The extendedKeyUsage extension of a client certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExtendedKeyUsage {
    /// clientAuth and serverAuth, as public authorities long issued them.
    #[default]
    ClientAndServerAuth,
    /// clientAuth alone.
    ClientAuth,
    /// serverAuth alone, as public authorities issue them now.
    ServerAuth,
    /// Without the extension.
    Absent,
}

impl ExtendedKeyUsage {
    fn purposes(self) -> Vec<ExtendedKeyUsagePurpose> {
        use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
        match self {
            Self::ClientAndServerAuth => vec![ServerAuth, ClientAuth],
            Self::ClientAuth => vec![ClientAuth],
            Self::ServerAuth => vec![ServerAuth],
            Self::Absent => Vec::new(),
        }
    }
}

/// Who signs a client certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeafIssuer {
    /// The sender's intermediate: the anchor is at depth 2, by the count of nginx.
    #[default]
    Intermediate,
    /// The root: the anchor is at depth 1.
    Root,
    /// The lower of two intermediates: the anchor is at depth 3.
    SecondIntermediate,
    /// An intermediate with the right names below a root with the right names, but with other keys.
    Impostor,
    /// An authority of another name, which is not trusted.
    Stranger,
    /// The certificate itself.
    Itself,
}

/// Which certificates a client presents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presented {
    /// End entity and intermediates, in order.
    #[default]
    WithoutRoot,
    /// The same, and the root.
    WithRoot,
    /// The end entity alone: the intermediate is missing.
    EndEntityOnly,
}

/// An extension that makes any certificate unacceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OddExtension {
    /// An unknown one, marked critical.
    UnknownCritical,
    /// The same one twice, which RFC 5280, section 4.2, forbids, and OpenSSL accepts.
    Twice,
}

impl OddExtension {
    fn encoded(self) -> Vec<CustomExtension> {
        // RFC 5612 reserves the enterprise number 32473 for documentation. The value is an empty OCTET STRING.
        let extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 32473, 1], vec![4, 0]);
        match self {
            Self::Twice => vec![extension.clone(), extension],
            Self::UnknownCritical => {
                let mut extension = extension;
                extension.set_criticality(true);
                vec![extension]
            }
        }
    }
}

/// What distinguishes a client certificate. The default is the certificate of the sender's document.
#[derive(Clone, Debug, Default)]
pub struct LeafOptions {
    /// `None`: the sender's.
    pub subject: Option<Subject>,
    /// subjectAltName, DNS names; `None`: the sender's.
    pub dns_names: Option<Vec<String>>,
    /// subjectAltName, URIs.
    pub uris: Vec<String>,
    /// cRLDistributionPoints: where the list of its issuer is.
    pub list_urls: Vec<String>,
    /// When it is valid.
    pub validity: Validity,
    /// Its purposes.
    pub extended_key_usage: ExtendedKeyUsage,
    /// Who signs it.
    pub issuer: LeafIssuer,
    /// What the client sends along.
    pub presented: Presented,
    /// Its key.
    pub key: KeyKind,
    /// An extension that makes it unacceptable.
    pub odd_extension: Option<OddExtension>,
    /// Its key usage extension has keyAgreement alone, with which the key must not sign a handshake.
    pub key_agreement_only: bool,
}

/// A client certificate with its key, as files for curl (`--cert chain --key`) and for OpenSSL's `s_client` (`-cert`,
/// `-cert_chain`, `-key`).
#[derive(Clone, Debug)]
pub struct ClientIdentity {
    /// All presented certificates, end entity first.
    pub chain_path: PathBuf,
    /// The end entity alone.
    pub certificate_path: PathBuf,
    /// The rest of the chain; `None` if there is none, because `s_client` refuses an empty file.
    pub issuers_path: Option<PathBuf>,
    /// The key, PKCS #8.
    pub key_path: PathBuf,
    /// The presented certificates as DER, end entity first.
    pub chain: Vec<Vec<u8>>,
    /// The end entity's serial number.
    pub serial: Serial,
}

impl ClientIdentity {
    /// The end-entity certificate as DER.
    pub fn der(&self) -> &[u8] {
        &self.chain[0]
    }
}

/// Predefined client certificates: the right one, and the usual wrong ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variant {
    /// As in the document.
    Good,
    /// Valid until two days ago.
    Expired,
    /// Valid from tomorrow.
    NotYetValid,
    /// From an authority with the right names and other keys.
    Impostor,
    /// From an authority that is not trusted.
    Stranger,
    /// Without the intermediate.
    MissingIntermediate,
    /// With another subject, below the same intermediate.
    WrongSubject,
    /// `webhooks.pagerduty.com.evil.example`: an unanchored match would accept it.
    RightSubjectAsPrefix,
    /// `evilwebhooks.pagerduty.com`: the same at the other end.
    RightSubjectAsSuffix,
    /// The right common name, and a second one.
    TwoCommonNames,
    /// For serverAuth only.
    ServerAuthOnly,
    /// Without extendedKeyUsage.
    NoExtendedKeyUsage,
    /// With one intermediate more than in the document.
    TooDeep,
    /// As in the document. The test revokes it with [`SenderPki::revocation_lists`].
    Revoked,
    /// Signed by itself.
    SelfSigned,
}

impl Variant {
    /// Every variant, the good one first.
    pub const ALL: [Self; 15] = [
        Self::Good,
        Self::Expired,
        Self::NotYetValid,
        Self::Impostor,
        Self::Stranger,
        Self::MissingIntermediate,
        Self::WrongSubject,
        Self::RightSubjectAsPrefix,
        Self::RightSubjectAsSuffix,
        Self::TwoCommonNames,
        Self::ServerAuthOnly,
        Self::NoExtendedKeyUsage,
        Self::TooDeep,
        Self::Revoked,
        Self::SelfSigned,
    ];

    /// The name in file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Expired => "expired",
            Self::NotYetValid => "not-yet-valid",
            Self::Impostor => "impostor",
            Self::Stranger => "stranger",
            Self::MissingIntermediate => "missing-intermediate",
            Self::WrongSubject => "wrong-subject",
            Self::RightSubjectAsPrefix => "right-subject-as-prefix",
            Self::RightSubjectAsSuffix => "right-subject-as-suffix",
            Self::TwoCommonNames => "two-common-names",
            Self::ServerAuthOnly => "server-auth-only",
            Self::NoExtendedKeyUsage => "no-extended-key-usage",
            Self::TooDeep => "too-deep",
            Self::Revoked => "revoked",
            Self::SelfSigned => "self-signed",
        }
    }

    /// The options that make this variant of the certificate of `sender`.
    pub fn options(self, sender: Sender) -> LeafOptions {
        let base = LeafOptions::default();
        match self {
            Self::Good | Self::Revoked => base,
            Self::Expired => LeafOptions { validity: Validity::Expired, ..base },
            Self::NotYetValid => LeafOptions { validity: Validity::NotYetValid, ..base },
            Self::Impostor => LeafOptions { issuer: LeafIssuer::Impostor, ..base },
            Self::Stranger => LeafOptions { issuer: LeafIssuer::Stranger, ..base },
            Self::MissingIntermediate => LeafOptions { presented: Presented::EndEntityOnly, ..base },
            Self::WrongSubject => renamed(sender, |_| "somebody.example".to_owned()),
            Self::RightSubjectAsPrefix => renamed(sender, |name| format!("{name}.evil.example")),
            Self::RightSubjectAsSuffix => renamed(sender, |name| match name.strip_prefix("*.") {
                Some(rest) => format!("*.evil{rest}"),
                None => format!("evil{name}"),
            }),
            Self::TwoCommonNames => {
                LeafOptions { subject: Some(sender.subject().and_common_name("somebody.example")), ..base }
            }
            Self::ServerAuthOnly => LeafOptions { extended_key_usage: ExtendedKeyUsage::ServerAuth, ..base },
            Self::NoExtendedKeyUsage => LeafOptions { extended_key_usage: ExtendedKeyUsage::Absent, ..base },
            Self::TooDeep => LeafOptions { issuer: LeafIssuer::SecondIntermediate, ..base },
            Self::SelfSigned => LeafOptions { issuer: LeafIssuer::Itself, ..base },
        }
    }
}

/// Options with `change` applied to the common name and to the DNS names.
fn renamed(sender: Sender, change: impl Fn(&str) -> String) -> LeafOptions {
    LeafOptions {
        dns_names: Some(sender.dns_names().iter().map(|name| change(name)).collect()),
        subject: Some(sender.subject().with_common_name(change)),
        ..LeafOptions::default()
    }
}

impl SenderPki {
    /// Makes a predefined client certificate. Each call makes a new one, and overwrites the files of the last.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub fn variant(&self, variant: Variant) -> Result<ClientIdentity> {
        self.leaf(variant.name(), &variant.options(self.sender))
    }

    /// Makes a client certificate with these options. The file names begin with the sender's name and `file`.
    ///
    /// # Errors
    ///
    /// A name cannot be encoded, a file cannot be written, or the `openssl` command, which makes RSA keys, is missing.
    pub fn leaf(&self, file: &str, options: &LeafOptions) -> Result<ClientIdentity> {
        let serial = self.files.next_serial();
        let key = options.key.generate()?;
        let params = self.leaf_params(serial, options)?;
        let (issuer, issuers) = self.issuers(options.issuer);
        let certificate = match issuer {
            None => params.self_signed(&key)?,
            Some(issuer) => params.signed_by(&key, &issuer.certified)?,
        };
        let mut chain = vec![certificate.der().to_vec()];
        let mut issuer_pem = String::new();
        let root = match options.issuer {
            LeafIssuer::Impostor => &self.impostor_root,
            _ => &self.root,
        };
        let with_root = options.presented == Presented::WithRoot;
        let presented = match options.presented {
            Presented::EndEntityOnly => &[],
            Presented::WithoutRoot | Presented::WithRoot => issuers.as_slice(),
        };
        for authority in presented.iter().chain(with_root.then_some(&root)) {
            chain.push(authority.der().to_vec());
            issuer_pem += &authority.pem();
        }
        let name = format!("{}-{file}", self.sender.name());
        let write = |suffix: &str, text: &str| self.files.write(&format!("{name}{suffix}"), text);
        let issuers_path = match issuer_pem.is_empty() {
            true => None,
            false => Some(write("-issuers.pem", &issuer_pem)?),
        };
        Ok(ClientIdentity {
            chain_path: write(".pem", &(certificate.pem() + &issuer_pem))?,
            certificate_path: write("-certificate.pem", &certificate.pem())?,
            issuers_path,
            key_path: write(".key", &key.serialize_pem())?,
            chain,
            serial,
        })
    }

    fn leaf_params(&self, serial: Serial, options: &LeafOptions) -> Result<CertificateParams> {
        let (not_before, not_after) = options.validity.bounds();
        let mut params = CertificateParams::default();
        params.not_before = not_before.into();
        params.not_after = not_after.into();
        params.serial_number = Some(serial.to_rcgen());
        params.distinguished_name =
            options.subject.clone().unwrap_or_else(|| self.sender.subject()).distinguished_name()?;
        for name in options.dns_names.clone().unwrap_or_else(|| self.sender.dns_names()) {
            params.subject_alt_names.push(SanType::DnsName(name.try_into()?));
        }
        params.custom_extensions = options.odd_extension.map(OddExtension::encoded).unwrap_or_default();
        for uri in &options.uris {
            params.subject_alt_names.push(SanType::URI(uri.as_str().try_into()?));
        }
        if !options.list_urls.is_empty() {
            params.crl_distribution_points = vec![CrlDistributionPoint { uris: options.list_urls.clone() }];
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![match options.key_agreement_only {
            true => KeyUsagePurpose::KeyAgreement,
            false => KeyUsagePurpose::DigitalSignature,
        }];
        params.extended_key_usages = options.extended_key_usage.purposes();
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }

    /// The signer, and the intermediates from there up.
    fn issuers(&self, issuer: LeafIssuer) -> (Option<&Authority>, Vec<&Authority>) {
        match issuer {
            LeafIssuer::Intermediate => (Some(&self.intermediate), vec![&self.intermediate]),
            LeafIssuer::Root => (Some(&self.root), Vec::new()),
            LeafIssuer::SecondIntermediate => (Some(&self.deep_issuing), vec![&self.deep_issuing, &self.deep_policy]),
            LeafIssuer::Impostor => (Some(&self.impostor_intermediate), vec![&self.impostor_intermediate]),
            LeafIssuer::Stranger => (Some(&self.stranger), vec![&self.stranger]),
            LeafIssuer::Itself => (None, Vec::new()),
        }
    }
}
