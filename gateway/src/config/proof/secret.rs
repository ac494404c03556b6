//! `secrets`: from a file, from a credential of the service manager, or as a value in the configuration itself.
//!
//! Owns the reading of secrets, also of those that are no proof. Must not print one. Must not check the encoding of a secret: `signature`
//! does.

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use crate::config::entry::Entry;
use crate::config::error::{Problem, ProofProblem};
use crate::config::file;
use crate::config::length;
use crate::config::report::Report;
use crate::config::warning::WarningKind;
use hookgate_core::auth::Secret;
use hookgate_core::auth::secret::SecretError;

/// Most secrets of one proof. Each costs a hash over the body, and a rotation needs two.
const MAXIMUM_SECRETS: usize = 8;
/// Most bytes that are read for a secret. More than a secret may have, so that the error says that it is too long.
const MAXIMUM_SECRET_BYTES: usize = 8192;

const WRITE_SECRETS: &str =
    "secrets = [{ file = \"webhook.secret\" }] (the secrets that you share with the sender; two during a rotation)";

/// One secret, as written in the configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawSecret {
    file: Option<Spanned<String>>,
    credential: Option<Spanned<String>>,
    unsafe_value: Option<Spanned<RawValue>>,
}

/// A secret in the configuration itself.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
struct RawValue(String);

impl fmt::Debug for RawValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("REDACTED")
    }
}

/// Reads the secrets that `raw` names; reports errors. `None` if one has an error.
pub(super) fn secrets(raw: &Spanned<Vec<Spanned<RawSecret>>>, report: &mut Report<'_>) -> Option<Vec<Secret>> {
    if !length::is_within(raw, MAXIMUM_SECRETS, WRITE_SECRETS, report) {
        return None;
    }
    let secrets: Vec<Option<Secret>> = raw.get_ref().iter().map(|raw| read_secret(raw, unfit, report)).collect();
    secrets.into_iter().collect()
}

/// Reports that a table has no secrets.
pub(super) fn missing<T>(table: &Spanned<T>, report: &mut Report<'_>) {
    report.missing(table, "secrets", WRITE_SECRETS);
}

fn unfit(origin: String, error: SecretError) -> Problem {
    ProofProblem::Secret { origin, error }.into()
}

/// Reads a secret; reports errors, and by `unfit` that it is empty or too long, with the place it comes from.
pub(in crate::config) fn read_secret(
    raw: &Spanned<RawSecret>,
    unfit: fn(String, SecretError) -> Problem,
    report: &mut Report<'_>,
) -> Option<Secret> {
    let RawSecret { file, credential, unsafe_value } = raw.get_ref();
    let (secret, item) = match (file, credential, unsafe_value) {
        (Some(at), None, None) => {
            let path = report.resolve(at.get_ref());
            let secret = from_file(&path, unfit).map_err(|problem| report.error(at, problem)).ok();
            if let Some(access) = file::open_to_others(&path) {
                report.warn(at, WarningKind::OpenToOthers { path, access });
            }
            (secret, format!("secret {}", at.get_ref()))
        }
        (None, Some(at), None) => {
            let secret = from_credential(at, unfit, report).map_err(|problem| report.error(at, problem)).ok();
            (secret, format!("secret {} (credential)", at.get_ref()))
        }
        (None, None, Some(at)) => {
            report.warn(at, WarningKind::SecretInConfiguration);
            let secret = Secret::new(at.get_ref().0.clone().into_bytes());
            let problem = |error| unfit("unsafe_value".to_owned(), error);
            (secret.map_err(|error| report.error(at, problem(error))).ok(), "secret in unsafe_value".to_owned())
        }
        _ => {
            report.empty(raw, ProofProblem::SecretOrigin.into());
            return None;
        }
    };
    let secret = secret?;
    if let Some(oddity) = secret.oddity() {
        report.warn(raw, WarningKind::OddSecret(oddity));
    }
    report.add_entry(raw, item, Entry::hidden(|state| secret.tag(state)));
    Some(secret)
}

fn from_file(path: &Path, unfit: fn(String, SecretError) -> Problem) -> Result<Secret, Problem> {
    let content = file::read_secret(path, MAXIMUM_SECRET_BYTES)
        .map_err(|source| Problem::File { path: path.to_owned(), source })?;
    Secret::from_file_content(content).map_err(|error| unfit(path.display().to_string(), error))
}

/// Only the service manager and hookgate can read the directory of credentials, so the mode of a credential is not checked.
fn from_credential(
    name: &Spanned<String>,
    unfit: fn(String, SecretError) -> Problem,
    report: &Report<'_>,
) -> Result<Secret, Problem> {
    let name = name.get_ref();
    if name.is_empty() || name.contains(['/', '\0']) || name == "." || name == ".." {
        return Err(ProofProblem::CredentialName.into());
    }
    match report.credential(name) {
        Some(path) => from_file(&path, unfit),
        None => Err(ProofProblem::NoCredentials { name: name.clone() }.into()),
    }
}
