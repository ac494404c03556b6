//! `secret` and `basic`: credentials that are the same in every request.
//!
//! Owns their keys. Must not judge requests: `auth::static_credential` does.

use serde::Deserialize;
use toml::Spanned;

use super::secret::{self, RawSecret};
use super::signature::header_name;
use crate::config::document;
use crate::config::error::{Problem, ProofProblem};
use crate::config::length;
use crate::config::report::Report;
use hookgate_client::sender::Proof as SenderProof;
use hookgate_core::auth::static_credential::CredentialRuleError;
use hookgate_core::auth::{BasicCredentials, FieldSecret, Secret};

/// Most users of one proof. Each sender needs one.
const MAXIMUM_USERS: usize = 16;

/// The lines that complete a preset's proof, for a message.
pub(super) const SECRET_COMPLETION: &str = "secret = { secrets = [{ file = \"webhook.secret\" }] }";
pub(super) const BASIC_COMPLETION: &str =
    "basic = { users = [{ name = \"sender\", secrets = [{ file = \"webhook.secret\" }] }] }";

const WRITE_HEADER: &str = "header = \"x-gitlab-token\": the header field with the secret";
const WRITE_USERS: &str = "users = [{ name = \"sender\", secrets = [{ file = \"webhook.secret\" }] }]";
const WRITE_NAME: &str = "name = \"sender\": the user name that the sender sends";

/// `secret`, as written in the file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawFieldSecret {
    header: Option<Spanned<String>>,
    prefix: Option<Spanned<String>>,
    #[serde(default, deserialize_with = "document::tables")]
    secrets: Option<Spanned<Vec<Spanned<RawSecret>>>>,
}

/// `basic`, as written in the file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawBasic {
    #[serde(default, deserialize_with = "document::tables")]
    users: Option<Spanned<Vec<Spanned<RawUser>>>>,
}

/// One of `users`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawUser {
    name: Option<Spanned<String>>,
    #[serde(default, deserialize_with = "document::tables")]
    secrets: Option<Spanned<Vec<Spanned<RawSecret>>>>,
}

impl RawFieldSecret {
    /// These fields; a field that is absent is taken from `preset`.
    pub(super) fn over(self, preset: &Self) -> Self {
        let preset = preset.clone();
        Self {
            header: self.header.or(preset.header),
            prefix: self.prefix.or(preset.prefix),
            secrets: self.secrets.or(preset.secrets),
        }
    }

    /// How the sender shows it.
    pub(super) fn sender_proof(&self) -> SenderProof {
        SenderProof::FieldSecret {
            header: self.header.as_ref().map(|header| header.get_ref().clone()),
            prefix: self.prefix.as_ref().map(|prefix| prefix.get_ref().clone()).unwrap_or_default(),
        }
    }

    /// The field, for `hookgate providers`.
    pub(super) fn describe(&self) -> &str {
        self.header.as_ref().map_or("a header field that you name", |header| header.get_ref())
    }
}

/// Parses a secret in a field; reports errors.
pub(super) fn secret(raw: &Spanned<RawFieldSecret>, report: &mut Report<'_>) -> Option<FieldSecret> {
    let fields = raw.get_ref();
    if fields.header.is_none() {
        report.missing(raw, "header", WRITE_HEADER);
    }
    let header = fields.header.as_ref().and_then(|text| header_name(text, report));
    let secrets = secrets(raw, fields.secrets.as_ref(), report);
    let prefix = fields.prefix.as_ref().map_or("", |prefix| prefix.get_ref());
    let rule = FieldSecret::new(&header?, prefix, &secrets?);
    rule.map_err(|error| report.error(raw, ProofProblem::from(error).into())).ok()
}

/// Reports what is wrong with the part of a preset, to which the operator adds.
pub(super) fn check_preset(raw: &Spanned<RawFieldSecret>, report: &mut Report<'_>) {
    raw.get_ref().header.iter().for_each(|text| drop(header_name(text, report)));
}

/// Parses the users of basic authentication; reports errors.
pub(super) fn basic(raw: &Spanned<RawBasic>, report: &mut Report<'_>) -> Option<BasicCredentials> {
    let Some(users) = &raw.get_ref().users else {
        report.missing(raw, "users", WRITE_USERS);
        return None;
    };
    if !length::is_within(users, MAXIMUM_USERS, WRITE_USERS, report) {
        return None;
    }
    let parsed: Vec<Option<(String, Vec<Secret>)>> =
        users.get_ref().iter().map(|user| parse_user(user, report)).collect();
    let parsed: Vec<(String, Vec<Secret>)> = parsed.into_iter().collect::<Option<_>>()?;
    let rule = BasicCredentials::new(&parsed);
    rule.map_err(|error| {
        let at = match &error {
            CredentialRuleError::UserName { name } | CredentialRuleError::RepeatedUser { name } => {
                let named =
                    |user: &&Spanned<RawUser>| user.get_ref().name.as_ref().is_some_and(|text| text.get_ref() == name);
                users.get_ref().iter().rfind(named).map_or(raw.span(), Spanned::span)
            }
            _ => raw.span(),
        };
        report.error_at(&at, ProofProblem::from(error).into());
    })
    .ok()
}

fn parse_user(raw: &Spanned<RawUser>, report: &mut Report<'_>) -> Option<(String, Vec<Secret>)> {
    let fields = raw.get_ref();
    let name = match &fields.name {
        Some(name) if name.get_ref().is_empty() => {
            report.error(name, Problem::Empty { write: WRITE_NAME });
            None
        }
        Some(name) => Some(name.get_ref().clone()),
        None => {
            report.missing(raw, "name", WRITE_NAME);
            None
        }
    };
    let secrets = secrets(raw, fields.secrets.as_ref(), report);
    Some((name?, secrets?))
}

/// The secrets of a table; reports their absence and errors.
fn secrets<T>(
    table: &Spanned<T>,
    raw: Option<&Spanned<Vec<Spanned<RawSecret>>>>,
    report: &mut Report<'_>,
) -> Option<Vec<Secret>> {
    match raw {
        Some(raw) => secret::secrets(raw, report),
        None => {
            secret::missing(table, report);
            None
        }
    }
}
