//! The file of a refused chain in the state directory: JSON, certificates in base64.
//!
//! Owns its form and its name. Must not touch a disk. A file may be damaged or foreign, so everything in it is checked.

use std::fmt::Write as _;

use data_encoding::{BASE64, HEXLOWER};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use crate::suspects::{Pending, sha256};

/// The beginning of the names.
pub(in crate::control) const PREFIX: &str = "pending-";

/// The longest file: `max_presented_bytes` is at most 65,535, base64 takes a third more, and the root is a few KiB.
pub(in crate::control) const MAXIMUM_BYTES: usize = 256 * 1024;

/// The most certificates of a chain: the bound of `max_presented_certificates`.
const MAXIMUM_CERTIFICATES: usize = 64;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    provider: String,
    profile: String,
    reason: String,
    evidence: String,
    first_seen: u64,
    certificates: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    public_root: Option<String>,
}

/// The name of its file: the same for the same chain and provider.
pub(in crate::control) fn name(chain: &Pending) -> String {
    let digest = sha256(&[chain.provider.as_bytes(), &[0], &chain.fingerprint].concat());
    format!("{PREFIX}{}.json", HEXLOWER.encode(&digest[..8]))
}

pub(in crate::control) fn encode(chain: &Pending) -> Vec<u8> {
    let record = Record {
        provider: chain.provider.to_string(),
        profile: chain.profile.to_string(),
        reason: chain.reason.to_string(),
        evidence: chain.evidence.to_string(),
        first_seen: chain.first_seen,
        certificates: chain.certificates.iter().map(|certificate| BASE64.encode(certificate)).collect(),
        public_root: chain.public_root.as_ref().map(|root| BASE64.encode(root)),
    };
    // Strings and numbers always serialize.
    serde_json::to_vec_pretty(&record).unwrap_or_default()
}

/// The chain in a file, as if it was seen last at `now`. `None` if the file is no record.
pub(in crate::control) fn parse(bytes: &[u8], now: u64) -> Option<Pending> {
    let record: Record = serde_json::from_slice(bytes).ok()?;
    let decode = |text: &String| Some(CertificateDer::from(BASE64.decode(text.as_bytes()).ok()?));
    let certificates: Vec<CertificateDer<'static>> = record.certificates.iter().map(decode).collect::<Option<_>>()?;
    let fingerprint = sha256(certificates.first()?);
    let public_root = record.public_root.as_ref().map(|text| decode(text).ok_or(())).transpose().ok()?;
    let is_word = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    let texts = [&record.provider, &record.profile, &record.reason, &record.evidence];
    if certificates.len() > MAXIMUM_CERTIFICATES || !texts.into_iter().all(|text| is_word(text)) {
        return None;
    }
    Some(Pending {
        provider: record.provider.into(),
        profile: record.profile.into(),
        reason: record.reason.into(),
        evidence: record.evidence.into(),
        first_seen: record.first_seen,
        last_seen: now,
        fingerprint,
        certificates,
        public_root,
    })
}

/// A certificate as PEM (RFC 7468, section 2): lines of 64 characters.
pub(in crate::control) fn pem(certificate: &[u8]) -> String {
    let text = BASE64.encode(certificate);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in text.as_bytes().chunks(64) {
        // base64 is ASCII, and writing to a String cannot fail.
        let _ = writeln!(pem, "{}", String::from_utf8_lossy(line));
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

    use super::*;

    fn chain() -> Pending {
        let certificate = CertificateDer::from(vec![0x30, 1, 2, 3]);
        Pending {
            provider: "pagerduty".into(),
            profile: "default".into(),
            reason: "unknown_issuer".into(),
            evidence: "proof".into(),
            first_seen: 5,
            last_seen: 9,
            fingerprint: sha256(&certificate),
            certificates: vec![certificate],
            public_root: Some(CertificateDer::from(vec![0x30, 7])),
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        assert_eq!(parse(&encode(&chain()), 9), Some(chain()));
        let other = Pending { provider: "other".into(), ..chain() };
        assert_ne!(name(&other), name(&chain()));
        let alone = Pending { public_root: None, ..chain() };
        assert_eq!(parse(&encode(&alone), 9), Some(alone));
    }

    #[test]
    fn what_is_no_record_is_left_alone() {
        let good = String::from_utf8(encode(&chain())).unwrap();
        for (from, to) in [
            ("\"MAECAw==\"", ""),
            ("MAECAw==", "MAECA"),
            ("pagerduty", "pager\\u001bduty"),
            ("\"provider\"", "\"sender\""),
            ("MAc=", "?"),
            ("{", "["),
        ] {
            assert!(good.contains(from), "{from}");
            assert_eq!(parse(good.replacen(from, to, 1).as_bytes(), 9), None, "{from} → {to}");
        }
    }

    #[test]
    fn pem_has_lines_of_64_characters() {
        let text = pem(&[0; 60]);
        let lengths: Vec<usize> = text.lines().map(str::len).collect();
        assert_eq!(lengths, [27, 64, 16, 25]);
    }
}
