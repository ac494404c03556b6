//! Trust anchors and public keys that a preset cannot contain: which file to download, and from which page.
//!
//! Owns the key `download` of presets. Must not download: the operator does.

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::Deserialize;
use toml::Spanned;

use crate::config::anchor::Anchor;
use crate::config::error::{PresetProblem, Problem, ProofProblem};
use crate::config::proof::{Addition, FileKind};
use crate::config::report::Report;
use crate::config::warning::WarningKind;

/// The most files to download, and the most fingerprints of one. A rotation has two.
const MAXIMUM: usize = 16;

/// `[[download]]` as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDownload {
    #[serde(default)]
    kind: RawKind,
    file: Option<Spanned<String>>,
    page: Option<Spanned<String>>,
    #[serde(default)]
    sha256: Vec<Spanned<String>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawKind {
    #[default]
    TrustAnchor,
    PublicKey,
}

/// What a preset leaves for download.
#[derive(Debug, Default)]
pub(super) struct Downloads {
    pub(super) trust_anchors: Vec<Download>,
    /// The first of the public keys, by which the operator completes the proof: its file, and the page that shows it.
    pub(super) key_file: Option<(String, String)>,
}

/// A file with trust anchors that its provider publishes.
#[derive(Clone, Debug)]
pub(in crate::config) struct Download {
    /// The name of the file.
    pub(super) file: String,
    /// The page that links to it.
    pub(super) page: String,
    /// The SHA-256 digests of its certificates; empty if the preset does not know them.
    pub(super) fingerprints: Vec<[u8; 32]>,
}

impl Download {
    /// The question for this file.
    pub(super) fn addition(&self) -> Addition {
        let what = format!("the PEM file with the trust anchors, to be downloaded from {}", self.page);
        Addition::file("trust_anchors", what, FileKind::TrustAnchors(Some(self.file.clone())))
    }

    /// The problem of a provider without this file.
    pub(in crate::config) fn missing(&self) -> Problem {
        PresetProblem::Download { file: self.file.clone(), page: self.page.clone() }.into()
    }

    /// Warns at `at` of each anchor that none of `downloads` has, if one of them has fingerprints.
    pub(in crate::config) fn compare<'a, T>(
        downloads: &[Self],
        at: &Spanned<T>,
        anchors: impl Iterator<Item = &'a Anchor>,
        report: &mut Report<'_>,
    ) {
        let Some(known) = downloads.iter().find(|download| !download.fingerprints.is_empty()) else { return };
        let is_known = |anchor: &&Anchor| downloads.iter().any(|it| it.fingerprints.contains(&anchor.fingerprint));
        for anchor in anchors.filter(|anchor| !is_known(anchor)) {
            let fingerprint = HEXLOWER.encode(&anchor.fingerprint);
            let (subject, page) = (anchor.subject.clone(), known.page.clone());
            report.warn(at, WarningKind::UnknownAnchor { subject, fingerprint, page });
        }
    }
}

/// Parses the files to download. Reports what is wrong, and leaves it out.
pub(super) fn downloads(raw: Option<&Spanned<Vec<Spanned<RawDownload>>>>, report: &mut Report<'_>) -> Downloads {
    let mut downloads = Downloads::default();
    let Some(raw) = raw else { return downloads };
    if raw.get_ref().len() > MAXIMUM {
        report.error(raw, Problem::TooMany { count: raw.get_ref().len(), maximum: MAXIMUM });
    }
    for table in raw.get_ref().iter().take(MAXIMUM) {
        let Some(download) = download(table, report) else { continue };
        match table.get_ref().kind {
            RawKind::TrustAnchor => downloads.trust_anchors.push(download),
            RawKind::PublicKey => {
                // Nothing compares them.
                for text in &table.get_ref().sha256 {
                    report.error(text, ProofProblem::NoEffect { circumstance: "with kind = \"public-key\"" }.into());
                }
                downloads.key_file = downloads.key_file.or(Some((download.file, download.page)));
            }
        }
    }
    downloads
}

fn download(table: &Spanned<RawDownload>, report: &mut Report<'_>) -> Option<Download> {
    let RawDownload { file, page, sha256, .. } = table.get_ref();
    if file.is_none() {
        report.missing(table, "file", "file = \"ca.pem\": the name of the file that the provider publishes");
    }
    let page = match page {
        Some(page) => super::page(page, report),
        None => {
            report.missing(table, "page", "page = \"https://…\": the page that links to the file");
            None
        }
    };
    if sha256.len() > MAXIMUM {
        report.error(table, Problem::TooMany { count: sha256.len(), maximum: MAXIMUM });
        return None;
    }
    let fingerprints: Vec<Option<[u8; 32]>> = sha256.iter().map(|text| fingerprint(text, report)).collect();
    let fingerprints = fingerprints.into_iter().collect::<Option<Vec<_>>>()?;
    Some(Download { file: file.as_ref()?.get_ref().clone(), page: page?, fingerprints })
}

fn fingerprint(text: &Spanned<String>, report: &mut Report<'_>) -> Option<[u8; 32]> {
    let digits = text.get_ref().replace(':', "");
    let decoded = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    if decoded.is_none() {
        report.error(text, PresetProblem::Fingerprint.into());
    }
    decoded
}
