//! `[tickets]`: secrets from which several hosts derive the keys of session tickets.
//!
//! Owns how many there are, and how long. Must not print one, nor derive a key: `crypto` does.

use serde::Deserialize;
use toml::Spanned;

use super::document;
use super::error::{Problem, ProofProblem, TicketProblem};
use super::length;
use super::proof::{RawSecret, read_secret};
use super::report::Report;
use crate::crypto::TicketSecrets;
use hookgate_core::auth::Secret;
use hookgate_core::auth::secret::SecretError;

/// Most secrets. A rotation needs two. Each has 14 keys in memory.
const MAXIMUM_SECRETS: usize = 4;

/// Fewest bytes of a secret: those of the keys that are derived from it, if they are random. As hexadecimal digits they are 128 bits.
const MINIMUM_BYTES: usize = 32;

const WRITE_SECRETS: &str = "secrets = [{ file = \"tickets.secret\" }], a file from openssl rand -hex 32 that every host has; or remove [tickets]";

/// `[tickets]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTickets {
    #[serde(deserialize_with = "document::tables")]
    secrets: Option<Spanned<Vec<Spanned<RawSecret>>>>,
}

/// `[tickets]`. `None` without the section, or if it has an error.
pub(super) fn tickets(raw: Option<&Spanned<RawTickets>>, report: &mut Report<'_>) -> Option<TicketSecrets> {
    let raw = raw?;
    let Some(written) = &raw.get_ref().secrets else {
        report.missing(raw, "secrets", WRITE_SECRETS);
        return None;
    };
    if !length::is_within(written, MAXIMUM_SECRETS, WRITE_SECRETS, report) {
        return None;
    }
    let mut secrets: Vec<(Secret, usize)> = Vec::new();
    for raw in written.get_ref() {
        let Some(secret) = read_secret(raw, unfit, report) else { continue };
        let line = report.line(raw);
        match secrets.iter().find(|(known, _)| known.is_same_as(&secret)) {
            Some((_, line)) => {
                report.error(raw, Problem::Duplicate { what: "this secret".to_owned(), line: *line });
            }
            None if secret.length() < MINIMUM_BYTES => {
                report.error(raw, too_short(secret.length()));
            }
            None => secrets.push((secret, line)),
        }
    }
    let secrets: Vec<Secret> = secrets.into_iter().map(|(secret, _)| secret).collect();
    Some(TicketSecrets::new(&secrets))
}

fn unfit(origin: String, error: SecretError) -> Problem {
    match error {
        SecretError::Empty => too_short(0),
        error => ProofProblem::Secret { origin, error }.into(),
    }
}

fn too_short(length: usize) -> Problem {
    TicketProblem::Short { length, minimum: MINIMUM_BYTES }.into()
}
