//! `keys` and `key_source` of a signature: the sender's public keys, from files or from a source.
//!
//! Owns the forms of a key file. Must not judge signatures: `auth::body_signature` does.

use std::path::Path;

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use serde::Deserialize;
use toml::Spanned;

use super::signature::report_no_effect;
use crate::config::entry::Entry;
use crate::config::error::{Problem, ProofProblem};
use crate::config::file::{self, MAXIMUM_FILE_BYTES};
use crate::config::key_source::KeySources;
use crate::config::length;
use crate::config::pem;
use crate::config::report::Report;
use crate::config::warning::WarningKind;
use hookgate_core::auth::{KeySet, SignatureAlgorithm, SignatureKeys};

/// Most files of one proof. Each key costs a verification, and a rotation needs two.
const MAXIMUM_KEYS: usize = 8;

/// The label of a SubjectPublicKeyInfo (RFC 7468, section 13).
const PUBLIC_KEY: &str = "PUBLIC KEY";

/// What stands before the 32 bytes of an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410, section 10.1).
const ED25519_HEAD: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";

const WRITE_KEYS: &str = "keys = [{ file = \"sender.pem\" }], or key_source = \"…\" with the name of a [[key_source]] (the public keys of the sender)";
const WRITE_FILE: &str = "file = \"sender.pem\": the public key of the sender";

/// One key, as written in the configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawKey {
    file: Option<Spanned<String>>,
}

/// The keys that a signature names; reports errors.
pub(super) fn parse<T>(
    table: &Spanned<T>,
    files: Option<&Spanned<Vec<Spanned<RawKey>>>>,
    source: Option<&Spanned<String>>,
    algorithm: Option<SignatureAlgorithm>,
    sources: &mut KeySources<'_>,
    report: &mut Report<'_>,
) -> Option<SignatureKeys> {
    match (files, source) {
        (Some(files), None) => of_files(files, algorithm, report),
        (None, Some(name)) => sources.find(name, report).map(|source| SignatureKeys::of_source(source, algorithm)),
        (Some(_), Some(name)) => {
            report_no_effect([name.span()], "with keys", report);
            None
        }
        (None, None) => {
            report.missing_one_of(table, "keys", &["key_source"], Problem::Missing { write: WRITE_KEYS });
            None
        }
    }
}

fn of_files(
    files: &Spanned<Vec<Spanned<RawKey>>>,
    algorithm: Option<SignatureAlgorithm>,
    report: &mut Report<'_>,
) -> Option<SignatureKeys> {
    if !length::is_within(files, MAXIMUM_KEYS, WRITE_KEYS, report) {
        return None;
    }
    let sets: Vec<Option<KeySet>> = files.get_ref().iter().map(|raw| of_file(raw, algorithm, report)).collect();
    let sets: Vec<KeySet> = sets.into_iter().collect::<Option<_>>()?;
    Some(SignatureKeys::of_files(KeySet::union(sets), algorithm))
}

/// The keys of one file. Each file must have one for the algorithm, so that no file is without effect.
fn of_file(raw: &Spanned<RawKey>, algorithm: Option<SignatureAlgorithm>, report: &mut Report<'_>) -> Option<KeySet> {
    let Some(text) = &raw.get_ref().file else {
        report.missing(raw, "file", WRITE_FILE);
        return None;
    };
    let path = report.resolve(text.get_ref());
    let read = file::read_named(&path, MAXIMUM_FILE_BYTES).and_then(|content| {
        let set = key_set(&content, &path)?;
        Ok((set, Entry::new("public key".to_owned(), &content)))
    });
    let (set, entry) = read.map_err(|problem| report.error(text, problem)).ok()?;
    report.add_entry(text, format!("key {}", text.get_ref()), entry);
    for reason in set.skipped() {
        report.warn(text, WarningKind::KeySkipped { path: path.clone(), reason: reason.to_string() });
    }
    match algorithm {
        Some(algorithm) if !set.has_key_for(algorithm) => {
            let problem = ProofProblem::KeyOfOtherType { path, algorithm: algorithm.name() };
            report.error(text, problem.into());
            None
        }
        _ => Some(set),
    }
}

/// The keys of a file in one of the forms in which senders show them.
fn key_set(content: &[u8], path: &Path) -> Result<KeySet, Problem> {
    let set = if pem::has_sections(content) {
        let labels = [&[PUBLIC_KEY][..], &pem::CERTIFICATES].concat();
        let sections = pem::sections(content, path, &labels, &[])?;
        // Of a chain, the second certificate is not the sender's.
        let [section] = sections.as_slice() else {
            return Err(ProofProblem::SeveralKeys { path: path.to_owned(), count: sections.len() }.into());
        };
        let der = section.decode(path)?;
        if section.label == PUBLIC_KEY { KeySet::of_public_key(&der) } else { KeySet::of_certificate(&der) }
    } else if content.trim_ascii_start().starts_with(b"{") {
        KeySet::parse(content)
    } else {
        let digits = content.trim_ascii();
        let raw = HEXLOWER_PERMISSIVE.decode(digits).ok().filter(|key| key.len() == 32);
        let spki = raw.map(|key| [ED25519_HEAD, &key].concat());
        let spki = spki.or_else(|| BASE64.decode(digits).ok());
        KeySet::of_public_key(&spki.unwrap_or_default())
    };
    set.map_err(|error| ProofProblem::KeySet { path: path.to_owned(), error }.into())
}
