//! Trust anchors: from the name of a file or of a built-in root to the anchors of a profile.
//!
//! Owns the built-in roots and the rule about bundles. Must not verify: an anchor is trusted because it is configured.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hookgate_core::identity::{AnchorUse, ConfiguredAnchor, comparable_name, printable_name};
use hookgate_core::signatures::CERTIFICATE_SIGNATURES;
use ring::digest;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use time::Date;
use toml::Spanned;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::error::Problem;
use super::file::{self, MAXIMUM_FILE_BYTES};
use super::report::Report;

/// The prefix of a built-in trust anchor. The name of its file without `.pem` follows.
const BUILTIN: &str = "builtin:";

/// The directory of the roots of the presets, beside them. A preset that is compiled in gets the built-in root of that name.
pub(super) const PRESET_ROOTS: &str = "./roots/";

/// The most anchors of a profile. The whole root list of Mozilla has about 150.
const MAXIMUM_ANCHORS: usize = 256;

pub(super) const WRITE_TRUST_ANCHORS: &str =
    "trust_anchors = [\"ca.pem\"] (the root certificates of the provider's chains)";

/// The built-in roots, by name.
pub(super) const ROOTS: [(&str, &str); 15] = [
    ("DigiCert_Assured_ID_Root_CA", include_str!("../../presets/roots/DigiCert_Assured_ID_Root_CA.pem")),
    ("DigiCert_Assured_ID_Root_G2", include_str!("../../presets/roots/DigiCert_Assured_ID_Root_G2.pem")),
    ("DigiCert_Assured_ID_Root_G3", include_str!("../../presets/roots/DigiCert_Assured_ID_Root_G3.pem")),
    ("DigiCert_Global_Root_CA", include_str!("../../presets/roots/DigiCert_Global_Root_CA.pem")),
    ("DigiCert_Global_Root_G2", include_str!("../../presets/roots/DigiCert_Global_Root_G2.pem")),
    ("DigiCert_Global_Root_G3", include_str!("../../presets/roots/DigiCert_Global_Root_G3.pem")),
    ("DigiCert_TLS_ECC_P384_Root_G5", include_str!("../../presets/roots/DigiCert_TLS_ECC_P384_Root_G5.pem")),
    ("DigiCert_TLS_RSA4096_Root_G5", include_str!("../../presets/roots/DigiCert_TLS_RSA4096_Root_G5.pem")),
    ("DigiCert_Trusted_Root_G4", include_str!("../../presets/roots/DigiCert_Trusted_Root_G4.pem")),
    ("GTS_Root_R1", include_str!("../../presets/roots/GTS_Root_R1.pem")),
    ("GTS_Root_R2", include_str!("../../presets/roots/GTS_Root_R2.pem")),
    ("GTS_Root_R3", include_str!("../../presets/roots/GTS_Root_R3.pem")),
    ("GTS_Root_R4", include_str!("../../presets/roots/GTS_Root_R4.pem")),
    ("Percolate-Webhook-CA-Chain", include_str!("../../presets/roots/Percolate-Webhook-CA-Chain.pem")),
    (
        "SSL.com_Root_Certification_Authority_RSA",
        include_str!("../../presets/roots/SSL.com_Root_Certification_Authority_RSA.pem"),
    ),
];

/// A certificate that is configured as a trust anchor.
#[derive(Clone, Debug)]
pub(super) struct Anchor {
    /// What webpki needs.
    pub(super) trust_anchor: TrustAnchor<'static>,
    /// What its certificate allows its key to verify.
    pub(super) anchor_use: AnchorUse,
    /// Its subject, to show.
    pub(super) subject: String,
    /// Its last day.
    pub(super) not_after: Date,
    /// Its notAfter, in seconds since 1970.
    pub(super) not_after_seconds: u64,
    /// What names its file, as written.
    pub(super) file: Arc<str>,
    /// The fingerprints of all certificates of its file.
    pub(super) companions: Arc<[[u8; 32]]>,
    /// The certificate.
    certificate: CertificateDer<'static>,
    /// The SHA-256 digest of its DER.
    pub(super) fingerprint: [u8; 32],
    /// Its issuer's name, comparable; `None` if the certificate is self-issued.
    issuer: Option<Vec<u8>>,
    /// Its subject, comparable.
    name: Vec<u8>,
}

impl Anchor {
    /// Its subject in a form in which equal names are equal bytes.
    pub(super) fn comparable_name(&self) -> &[u8] {
        &self.name
    }

    /// The SHA-256 of what verification takes from it: subject, key and name constraints.
    pub(super) fn id(&self) -> [u8; 32] {
        anchor_id(&self.trust_anchor)
    }

    /// What a profile takes of it.
    pub(super) fn into_configured(self) -> ConfiguredAnchor {
        let Self { trust_anchor, anchor_use, not_after_seconds: not_after, .. } = self;
        ConfiguredAnchor { trust_anchor, not_after, anchor_use }
    }
}

/// The SHA-256 of what verification takes from a trust anchor: subject, key and name constraints.
pub(super) fn anchor_id(anchor: &TrustAnchor<'_>) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    let constraints = anchor.name_constraints.as_ref().map(|constraints| constraints.as_ref()).unwrap_or_default();
    for part in [anchor.subject.as_ref(), anchor.subject_public_key_info.as_ref(), constraints] {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    let mut id = [0; 32];
    id.copy_from_slice(context.finish().as_ref());
    id
}

/// Loads the anchors that `raw` names, and the certificates below them. Reports what is wrong, and leaves it out.
///
/// A certificate whose issuer is among the others is not an anchor. So a bundle of root and intermediate, as nginx takes it, has
/// one anchor, the root: the intermediate is not trusted after its expiry, and counts for `verify_depth`. An intermediate
/// without its issuer is an anchor. So is one beside a root that has the name of its issuer and another key: an authority made anew.
pub(super) fn anchors(
    raw: &Spanned<Vec<Spanned<String>>>,
    report: &mut Report<'_>,
) -> (Vec<Anchor>, Vec<CertificateDer<'static>>) {
    if raw.get_ref().is_empty() {
        report.empty(raw, Problem::Empty { write: WRITE_TRUST_ANCHORS });
    }
    let mut all: Vec<Anchor> = Vec::new();
    for text in raw.get_ref() {
        match load(text.get_ref(), report) {
            Ok(loaded) => {
                let file: Arc<str> = text.get_ref().as_str().into();
                let companions: Arc<[_]> = loaded.iter().map(|anchor| anchor.fingerprint).collect();
                let of_file =
                    |anchor| Anchor { file: Arc::clone(&file), companions: Arc::clone(&companions), ..anchor };
                all.extend(loaded.into_iter().map(of_file));
            }
            Err(problem) => report.error(text, problem),
        }
    }
    if all.len() > MAXIMUM_ANCHORS {
        report.error(raw, Problem::TooMany { count: all.len(), maximum: MAXIMUM_ANCHORS });
    }
    let has_issuer = |anchor: &Anchor| {
        let of_name = |other: &&Anchor| anchor.issuer.as_ref() == Some(&other.name);
        all.iter().filter(of_name).any(|issuer| may_be_signed_by(anchor, issuer))
    };
    let subordinates: HashSet<[u8; 32]> =
        all.iter().filter(|anchor| has_issuer(anchor)).map(|anchor| anchor.fingerprint).collect();
    let mut below = Vec::new();
    for subordinate in all.iter().filter(|anchor| subordinates.contains(&anchor.fingerprint)) {
        report.add_subordinate(raw, subordinate.id());
        below.push(subordinate.certificate.clone());
    }
    all.retain(|anchor| !subordinates.contains(&anchor.fingerprint));
    let mut seen = HashSet::new();
    all.retain(|anchor| seen.insert(anchor.fingerprint));
    (all, below)
}

/// Whether the key of `issuer` signed the certificate, or nobody can tell: a certificate of another version than 3, or an unusual signature.
fn may_be_signed_by(anchor: &Anchor, issuer: &Anchor) -> bool {
    let (Ok((_, parsed)), Ok(issuer)) =
        (X509Certificate::from_der(&anchor.certificate), webpki::EndEntityCert::try_from(&issuer.certificate))
    else {
        return true;
    };
    let (signed, signature) = (parsed.tbs_certificate.as_ref(), parsed.signature_value.data.as_ref());
    let outcomes =
        CERTIFICATE_SIGNATURES.iter().map(|algorithm| issuer.verify_signature(*algorithm, signed, signature));
    let mut is_tried = false;
    for outcome in outcomes {
        match outcome {
            Ok(()) => return true,
            Err(webpki::Error::InvalidSignatureForPublicKey) => is_tried = true,
            Err(_) => {}
        }
    }
    !is_tried
}

fn load(text: &str, report: &Report<'_>) -> Result<Vec<Anchor>, Problem> {
    match text.strip_prefix(BUILTIN) {
        Some(name) => parse(builtin(name)?.as_bytes(), &PathBuf::from(text)),
        None if report.is_compiled_in() => {
            let name = text.strip_prefix(PRESET_ROOTS).and_then(|name| name.strip_suffix(".pem"));
            parse(builtin(name.unwrap_or(text))?.as_bytes(), &PathBuf::from(text))
        }
        None => {
            let path = report.resolve(text);
            parse(&file::read_named(&path, MAXIMUM_FILE_BYTES)?, &path)
        }
    }
}

fn builtin(name: &str) -> Result<&'static str, Problem> {
    let found = ROOTS.iter().find(|(known, _)| *known == name);
    let names = ROOTS.iter().map(|(name, _)| *name);
    found.map(|(_, pem)| *pem).ok_or_else(|| Problem::unknown("built-in trust anchor", name, "there are", names))
}

/// The certificates of a PEM file as anchors, in their order.
pub(super) fn parse(pem: &[u8], path: &Path) -> Result<Vec<Anchor>, Problem> {
    let certificates = file::certificates(pem, path, &[])?;
    let anchors = certificates.iter().enumerate().map(|(index, certificate)| {
        let parsed = file::parse(certificate, index, path)?;
        let trust_anchor = file::trust_anchor(certificate, index, path)?;
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest::digest(&digest::SHA256, certificate).as_ref());
        let subject = parsed.subject();
        let (name, issuer) = (comparable_name(subject.as_raw()), comparable_name(parsed.issuer().as_raw()));
        Ok(Anchor {
            trust_anchor: trust_anchor.to_owned(),
            anchor_use: AnchorUse::of(certificate),
            subject: printable_name(subject.as_raw()).unwrap_or_default(),
            not_after: file::day(parsed.validity().not_after),
            file: path.display().to_string().into(),
            companions: [fingerprint].into(),
            not_after_seconds: u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0),
            certificate: certificate.clone(),
            fingerprint,
            issuer: (issuer != name).then_some(issuer),
            name,
        })
    });
    anchors.collect()
}
