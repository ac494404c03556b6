//! `token`: the expected issuer, audience and subject of a bearer token.
//!
//! Owns the keys of its two forms. Must not judge tokens: `auth::token` does.

use serde::Deserialize;
use toml::Spanned;

use super::addition::{Addition, Usual};
use super::signature::report_no_effect;
use crate::config::bound::Bound;
use crate::config::error::{Problem, ProofProblem};
use crate::config::key_source::KeySources;
use crate::config::length;
use crate::config::report::Report;
use crate::config::warning::WarningKind;
use hookgate_core::auth::TokenRule;
use hookgate_core::auth::token::{TokenExpectations, TokenRuleError};

/// "Usually no more than a few minutes" (RFC 7519, section 4.1.4).
const LEEWAY: Bound = Bound::new(0, 300, " s");
/// A minute. Clocks synchronised by NTP differ by less, and tokens are valid for an hour.
pub(in crate::config) const DEFAULT_LEEWAY_SECONDS: u64 = 60;
/// Most values of one list.
const MAXIMUM_VALUES: usize = 64;

/// If this key has an error, the form is unknown, so the keys that a form needs are not reported as missing.
const FORM: &[&str] = &["form"];

const WRITE_PROJECT_NUMBER: &str =
    "project_number = \"…\": the number (not the id) of the agent's Google Cloud project";
const WRITE_AUDIENCES: &str =
    "audiences = [\"https://hooks.example.com/agent\"] (the URL of the webhook, as the sender has it)";
const WRITE_ISSUERS: &str = "issuers = [\"https://issuer.example\"] (the \"iss\" of the tokens)";
const WRITE_KEY_SOURCE: &str =
    "key_source = \"google\" or the name of a [[key_source]] (the source of the keys that verify the token)";
const WRITE_VALUES: &str = "one or more values, or remove the key";

/// `token`, as written in the file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawToken {
    form: Option<RawForm>,
    project_number: Option<Spanned<String>>,
    audiences: Option<Spanned<Vec<Spanned<String>>>>,
    issuers: Option<Spanned<Vec<Spanned<String>>>>,
    emails: Option<Spanned<Vec<Spanned<String>>>>,
    subjects: Option<Spanned<Vec<Spanned<String>>>>,
    key_source: Option<Spanned<String>>,
    leeway_s: Option<Spanned<i64>>,
    unsafe_any_subject: Option<Spanned<bool>>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawForm {
    Dialogflow,
    Oidc,
}

impl RawToken {
    /// These fields; a field that is absent is taken from `preset`.
    pub(super) fn over(self, preset: &Self) -> Self {
        let preset = preset.clone();
        Self {
            form: self.form.or(preset.form),
            project_number: self.project_number.or(preset.project_number),
            audiences: self.audiences.or(preset.audiences),
            issuers: self.issuers.or(preset.issuers),
            emails: self.emails.or(preset.emails),
            subjects: self.subjects.or(preset.subjects),
            key_source: self.key_source.or(preset.key_source),
            leeway_s: self.leeway_s.or(preset.leeway_s),
            unsafe_any_subject: self.unsafe_any_subject.or(preset.unsafe_any_subject),
        }
    }

    /// The line that completes it, for a message.
    pub(super) fn completion(&self) -> &'static str {
        match self.form {
            Some(RawForm::Dialogflow) => {
                "token = { project_number = \"…\", audiences = [\"https://hooks.example.com/agent\"] }"
            }
            Some(RawForm::Oidc) | None => {
                "token = { audiences = [\"https://hooks.example.com/hook\"], emails = [\"…\"] }"
            }
        }
    }

    /// What the operator adds, for `hookgate init`.
    pub(super) fn additions(&self) -> Vec<Addition> {
        let audience = Addition::usually("token.audiences", "the audience of the tokens", Usual::WebhookUrl);
        match self.form {
            Some(RawForm::Dialogflow) => {
                let what = "the number (not the id) of the agent's Google Cloud project";
                vec![Addition::text("token.project_number", what), audience]
            }
            Some(RawForm::Oidc) | None => {
                let mut additions = Vec::new();
                if self.issuers.is_none() {
                    additions.push(Addition::text("token.issuers", "the issuer of the tokens, their \"iss\""));
                }
                if self.key_source.is_none() {
                    additions.push(Addition::text("key_source.url", "the URL of the keys that verify the tokens"));
                }
                additions.push(audience);
                if self.emails.is_none() && self.subjects.is_none() {
                    additions.push(Addition::text("token.emails", "the email address of the sender in its tokens"));
                }
                additions
            }
        }
    }

    /// The issuer, in a few words, for `hookgate providers`.
    pub(super) fn describe(&self) -> String {
        match (self.form, &self.issuers) {
            (Some(RawForm::Dialogflow), _) => {
                "issued by Google to the Dialogflow service agent of your project".to_owned()
            }
            (_, Some(issuers)) => {
                let issuers: Vec<&str> = issuers.get_ref().iter().map(|issuer| issuer.get_ref().as_str()).collect();
                format!("issued by {}", issuers.join(" or "))
            }
            (_, None) => "issued by an issuer that you name".to_owned(),
        }
    }
}

/// Parses a token; reports errors. `subject_bound` means that the session's name is the expected subject.
pub(super) fn parse(
    raw: &Spanned<RawToken>,
    subject_bound: bool,
    sources: &mut KeySources<'_>,
    report: &mut Report<'_>,
) -> Option<TokenRule> {
    let fields = raw.get_ref();
    let audiences = required(raw, &fields.audiences, "audiences", WRITE_AUDIENCES, report);
    let leeway = LEEWAY.check(fields.leeway_s.as_ref(), report).unwrap_or(DEFAULT_LEEWAY_SECONDS);
    let key_source = fields.key_source.as_ref().map(|name| sources.find(name, report));
    let (expectations, source) = match fields.form {
        Some(RawForm::Dialogflow) => {
            let lists = [&fields.issuers, &fields.emails, &fields.subjects];
            let lists = lists.into_iter().flatten().map(Spanned::span);
            let flag = fields.unsafe_any_subject.as_ref().map(Spanned::span);
            report_no_effect(lists.chain(flag), "with form = \"dialogflow\"", report);
            let expectations = dialogflow(raw, audiences, report);
            (expectations, key_source.unwrap_or_else(|| Some(sources.google())))
        }
        Some(RawForm::Oidc) | None => {
            let project_number = fields.project_number.as_ref().map(Spanned::span);
            report_no_effect(project_number, "without form = \"dialogflow\"", report);
            if key_source.is_none() {
                report.missing_one_of(raw, "key_source", FORM, Problem::Missing { write: WRITE_KEY_SOURCE });
            }
            (oidc(raw, audiences, subject_bound, report), key_source.flatten())
        }
    };
    let expectations = TokenExpectations { leeway_seconds: leeway, ..expectations? };
    TokenRule::new(source?, &expectations).map_err(|error| explain(raw, error, report)).ok()
}

fn dialogflow(
    raw: &Spanned<RawToken>,
    audiences: Option<Vec<String>>,
    report: &mut Report<'_>,
) -> Option<TokenExpectations> {
    let Some(project_number) = &raw.get_ref().project_number else {
        report.missing(raw, "project_number", WRITE_PROJECT_NUMBER);
        return None;
    };
    // Checked even if the audiences have an error, so that both errors are reported at once.
    let expectations = TokenExpectations::dialogflow(project_number.get_ref(), audiences.clone().unwrap_or_default());
    let expectations =
        expectations.map_err(|error| report.error(project_number, ProofProblem::from(error).into())).ok();
    audiences.and(expectations)
}

fn oidc(
    raw: &Spanned<RawToken>,
    audiences: Option<Vec<String>>,
    subject_bound: bool,
    report: &mut Report<'_>,
) -> Option<TokenExpectations> {
    let fields = raw.get_ref();
    let issuers = required(raw, &fields.issuers, "issuers", WRITE_ISSUERS, report);
    let emails = optional(&fields.emails, report);
    let subjects = optional(&fields.subjects, report);
    let any_subject = fields.unsafe_any_subject.as_ref().is_some_and(|flag| *flag.get_ref());
    if let Some(flag) = fields.unsafe_any_subject.as_ref().filter(|_| any_subject) {
        match fields.emails.is_none() && fields.subjects.is_none() {
            true if subject_bound => {
                report_no_effect([flag.span()], "with session_pointer, which is the place of the subject", report)
            }
            true => report.warn(flag, WarningKind::AnySubject),
            false => report_no_effect([flag.span()], "with emails or subjects", report),
        }
    }
    Some(TokenExpectations {
        issuers: issuers?,
        audiences: audiences?,
        emails: emails?,
        subjects: subjects?,
        unsafe_any_subject: any_subject || subject_bound,
        leeway_seconds: DEFAULT_LEEWAY_SECONDS,
    })
}

fn required(
    table: &Spanned<RawToken>,
    raw: &Option<Spanned<Vec<Spanned<String>>>>,
    key: &'static str,
    write: &'static str,
    report: &mut Report<'_>,
) -> Option<Vec<String>> {
    match raw {
        Some(raw) => values(raw, write, report),
        None => {
            let others = if key == "issuers" { FORM } else { &[] };
            report.missing_one_of(table, key, others, Problem::Missing { write });
            None
        }
    }
}

fn optional(raw: &Option<Spanned<Vec<Spanned<String>>>>, report: &mut Report<'_>) -> Option<Vec<String>> {
    match raw {
        Some(raw) => values(raw, WRITE_VALUES, report),
        None => Some(Vec::new()),
    }
}

fn values(raw: &Spanned<Vec<Spanned<String>>>, write: &'static str, report: &mut Report<'_>) -> Option<Vec<String>> {
    length::is_within(raw, MAXIMUM_VALUES, write, report)
        .then(|| raw.get_ref().iter().map(|value| value.get_ref().clone()).collect())
}

/// Reports an error of the rule at the key that it is about.
fn explain(raw: &Spanned<RawToken>, error: TokenRuleError, report: &mut Report<'_>) {
    let fields = raw.get_ref();
    let list = match &error {
        TokenRuleError::NotAscii { key, .. } | TokenRuleError::Empty { key, .. } => match *key {
            "issuers" => &fields.issuers,
            "audiences" => &fields.audiences,
            "emails" => &fields.emails,
            "subjects" => &fields.subjects,
            _ => &None,
        },
        _ => &None,
    };
    let span = list.as_ref().map_or(raw.span(), Spanned::span);
    report.error_at(&span, ProofProblem::from(error).into());
}
