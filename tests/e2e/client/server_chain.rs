//! Chains of receivers, right and wrong.
//!
//! Owns a throwaway authority for servers. Must not judge.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Result;
use hookgate_testkit::pki::DAY;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use super::HOST;

type Authority = CertifiedIssuer<'static, KeyPair>;

/// What a receiver presents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presented {
    /// End entity and intermediate.
    Whole,
    /// The end entity alone.
    EndEntity,
    /// End entity, root, intermediate.
    OutOfOrder,
    /// End entity, intermediate, root.
    WithRoot,
    /// End entity, intermediate, and a certificate of another authority.
    WithStranger,
}

/// What is wrong with the end entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaf {
    Good,
    Expired,
    NotYetValid,
    ExpiresSoon,
    OtherName,
    NoName,
    ForClients,
    SelfSigned,
}

/// The files of a receiver.
#[derive(Clone, Debug)]
pub(super) struct ServerChain {
    pub(super) chain: PathBuf,
    pub(super) key: PathBuf,
    pub(super) root: PathBuf,
}

fn authority(name: &str, above: Option<&Authority>) -> Result<Authority> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate()?;
    Ok(match above {
        None => CertifiedIssuer::self_signed(params, key)?,
        Some(above) => CertifiedIssuer::signed_by(params, key, above)?,
    })
}

impl ServerChain {
    /// Makes a chain in `directory`.
    pub(super) fn new(directory: &Path, leaf: Leaf, presented: Presented) -> Result<Self> {
        let root = authority("receiver root", None)?;
        let intermediate = authority("receiver intermediate", Some(&root))?;
        let stranger = authority("somebody else's intermediate", Some(&root))?;
        let now = SystemTime::now();
        let names = match leaf {
            Leaf::OtherName => vec!["other.example.com".to_owned()],
            Leaf::NoName => Vec::new(),
            _ => vec![HOST.to_owned()],
        };
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, HOST);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match leaf {
            Leaf::ForClients => vec![ExtendedKeyUsagePurpose::ClientAuth],
            _ => vec![ExtendedKeyUsagePurpose::ServerAuth],
        };
        let (from, until) = match leaf {
            Leaf::Expired => (now - 90 * DAY, now - DAY),
            Leaf::NotYetValid => (now + DAY, now + 90 * DAY),
            Leaf::ExpiresSoon => (now - 60 * DAY, now + 5 * DAY),
            _ => (now - DAY, now + 90 * DAY),
        };
        (params.not_before, params.not_after) = (from.into(), until.into());
        let key = KeyPair::generate()?;
        let certificate = match leaf {
            Leaf::SelfSigned => params.self_signed(&key)?,
            _ => params.signed_by(&key, &intermediate)?,
        };
        let above = match (leaf, presented) {
            (Leaf::SelfSigned, _) | (_, Presented::EndEntity) => String::new(),
            (_, Presented::Whole) => intermediate.pem(),
            (_, Presented::OutOfOrder) => root.pem() + &intermediate.pem(),
            (_, Presented::WithRoot) => intermediate.pem() + &root.pem(),
            (_, Presented::WithStranger) => intermediate.pem() + &stranger.pem(),
        };
        let file = |name: &str, text: String| -> Result<PathBuf> {
            let path = directory.join(name);
            fs::write(&path, text)?;
            Ok(path)
        };
        Ok(Self {
            chain: file("receiver.pem", certificate.pem() + &above)?,
            key: file("receiver.key", key.serialize_pem())?,
            root: file("receiver-root.pem", root.pem())?,
        })
    }
}
