//! `signature`: the form of the body signature, and its parts.
//!
//! Owns the keys of each form. Must not judge signatures: `auth::body_signature` does.

use std::ops::Range;

use hyper::header::HeaderName;
use serde::Deserialize;
use toml::Spanned;

use super::secret::{self, RawSecret};
use crate::config::bound::Bound;
use crate::config::document;
use crate::config::error::ProofProblem;
use crate::config::report::Report;
use hookgate_core::auth::body_signature::{Encoding, HmacHash, SignatureRuleError, TimestampPlace};
use hookgate_core::auth::{BodySignature, HmacForm, Secret};

/// At most a day. With a longer tolerance, a timestamp does not protect against replay.
const TOLERANCE: Bound = Bound::new(1, 86_400, " s");
/// Five minutes, which Slack, Stripe and Standard Webhooks document.
pub(in crate::config) const DEFAULT_TOLERANCE_SECONDS: u64 = 300;

/// The line that completes a preset's proof, for a message.
pub(super) const COMPLETION: &str = "signature = { secrets = [{ file = \"webhook.secret\" }] }";

const WRITE_FORM: &str =
    "form = \"pagerduty\", \"standard-webhooks\", or \"hmac\" with the keys that describe another form";
const WRITE_HEADER: &str = "header = \"x-hub-signature-256\": the header field with the signature";

/// `signature`, as written in the file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawSignature {
    form: Option<RawForm>,
    #[serde(default, deserialize_with = "document::tables")]
    secrets: Option<Spanned<Vec<Spanned<RawSecret>>>>,
    tolerance_s: Option<Spanned<i64>>,
    header: Option<Spanned<String>>,
    separator: Option<Spanned<String>>,
    prefix: Option<Spanned<String>>,
    encoding: Option<Spanned<RawEncoding>>,
    hash: Option<Spanned<RawHash>>,
    message: Option<Spanned<String>>,
    timestamp_header: Option<Spanned<String>>,
    timestamp_prefix: Option<Spanned<String>>,
    id_header: Option<Spanned<String>>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawForm {
    Pagerduty,
    StandardWebhooks,
    Hmac,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawEncoding {
    Hex,
    Base64,
    Base64url,
}

impl From<RawEncoding> for Encoding {
    fn from(raw: RawEncoding) -> Self {
        match raw {
            RawEncoding::Hex => Self::Hex,
            RawEncoding::Base64 => Self::Base64,
            RawEncoding::Base64url => Self::Base64Url,
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawHash {
    Sha256,
    Sha384,
    Sha512,
}

impl RawSignature {
    /// These fields; a field that is absent is taken from `preset`.
    pub(super) fn over(self, preset: &Self) -> Self {
        let preset = preset.clone();
        Self {
            form: self.form.or(preset.form),
            secrets: self.secrets.or(preset.secrets),
            tolerance_s: self.tolerance_s.or(preset.tolerance_s),
            header: self.header.or(preset.header),
            separator: self.separator.or(preset.separator),
            prefix: self.prefix.or(preset.prefix),
            encoding: self.encoding.or(preset.encoding),
            hash: self.hash.or(preset.hash),
            message: self.message.or(preset.message),
            timestamp_header: self.timestamp_header.or(preset.timestamp_header),
            timestamp_prefix: self.timestamp_prefix.or(preset.timestamp_prefix),
            id_header: self.id_header.or(preset.id_header),
        }
    }

    /// The form, in a few words, for `hookgate providers`.
    pub(super) fn describe(&self) -> String {
        match (self.form, &self.header) {
            (Some(RawForm::Pagerduty), _) => "PagerDuty's, in X-PagerDuty-Signature".to_owned(),
            (Some(RawForm::StandardWebhooks), _) => "that of Standard Webhooks, in webhook-signature".to_owned(),
            (Some(RawForm::Hmac), Some(header)) => format!("HMAC in {}", header.get_ref()),
            (Some(RawForm::Hmac), None) | (None, _) => "HMAC".to_owned(),
        }
    }

    /// The keys of the general form that are present.
    fn parts(&self) -> impl Iterator<Item = Range<usize>> {
        let texts = [
            &self.header,
            &self.separator,
            &self.prefix,
            &self.message,
            &self.timestamp_header,
            &self.timestamp_prefix,
            &self.id_header,
        ];
        let texts = texts.into_iter().flatten().map(Spanned::span).collect::<Vec<_>>();
        let words = [self.encoding.as_ref().map(Spanned::span), self.hash.as_ref().map(Spanned::span)];
        texts.into_iter().chain(words.into_iter().flatten())
    }
}

/// Parses a signature; reports errors.
pub(super) fn parse(raw: &Spanned<RawSignature>, report: &mut Report<'_>) -> Option<BodySignature> {
    let fields = raw.get_ref();
    let secrets = match &fields.secrets {
        Some(raw) => secret::secrets(raw, report),
        None => {
            secret::missing(raw, report);
            None
        }
    };
    let Some(form) = fields.form else {
        report.missing(raw, "form", WRITE_FORM);
        return None;
    };
    let tolerance = TOLERANCE.check(fields.tolerance_s.as_ref(), report).unwrap_or(DEFAULT_TOLERANCE_SECONDS);
    let result = match form {
        RawForm::Pagerduty => {
            let parts = fields.parts().chain(fields.tolerance_s.as_ref().map(Spanned::span));
            report_no_effect(parts, "with form = \"pagerduty\"", report);
            BodySignature::pagerduty(&secrets?)
        }
        RawForm::StandardWebhooks => {
            report_no_effect(fields.parts(), "with form = \"standard-webhooks\"", report);
            BodySignature::standard_webhooks(&secrets?, tolerance)
        }
        RawForm::Hmac => hmac(raw, secrets.as_deref(), tolerance, report)?,
    };
    result.map_err(|error| explain(raw, error, report)).ok()
}

fn hmac(
    raw: &Spanned<RawSignature>,
    secrets: Option<&[Secret]>,
    tolerance_seconds: u64,
    report: &mut Report<'_>,
) -> Option<Result<BodySignature, SignatureRuleError>> {
    let fields = raw.get_ref();
    if fields.header.is_none() {
        report.missing(raw, "header", WRITE_HEADER);
    }
    let header = fields.header.as_ref().and_then(|text| header_name(text, report));
    let id_header = fields.id_header.as_ref().map(|text| header_name(text, report));
    let timestamp = timestamp(fields, report);
    if let (Some(at), None) = (&fields.tolerance_s, &timestamp) {
        report_no_effect([at.span()], "without timestamp_header or timestamp_prefix", report);
    }
    let separator = fields.separator.as_ref().map(|text| {
        let mut characters = text.get_ref().chars();
        match (characters.next(), characters.next()) {
            (Some(separator), None) if separator.is_ascii() => Some(separator),
            _ => {
                report.error(text, ProofProblem::Separator.into());
                None
            }
        }
    });
    let text = |text: &Option<Spanned<String>>, default: &str| match text {
        Some(text) => text.get_ref().clone(),
        None => default.to_owned(),
    };
    let form = HmacForm {
        header: header?,
        separator: separator.map_or(Some(None), |separator| separator.map(Some))?,
        prefix: text(&fields.prefix, ""),
        encoding: fields.encoding.as_ref().map(|raw| (*raw.get_ref()).into()).unwrap_or_default(),
        hash: match fields.hash.as_ref().map(Spanned::get_ref) {
            None | Some(RawHash::Sha256) => HmacHash::Sha256,
            Some(RawHash::Sha384) => HmacHash::Sha384,
            Some(RawHash::Sha512) => HmacHash::Sha512,
        },
        message: text(&fields.message, "{body}"),
        timestamp: timestamp.map_or(Some(None), |timestamp| timestamp.map(Some))?,
        tolerance_seconds,
        id_header: id_header.map_or(Some(None), |name| name.map(Some))?,
    };
    Some(BodySignature::hmac(&form, secrets?))
}

/// The place of the timestamp; reports errors. `None` if no key gives one, `Some(None)` if a key has an error.
fn timestamp(fields: &RawSignature, report: &mut Report<'_>) -> Option<Option<TimestampPlace>> {
    match (&fields.timestamp_header, &fields.timestamp_prefix) {
        (None, None) => None,
        (Some(text), None) => Some(header_name(text, report).map(TimestampPlace::Header)),
        (None, Some(prefix)) => Some(Some(TimestampPlace::Value(prefix.get_ref().clone()))),
        (Some(_), Some(prefix)) => {
            report_no_effect([prefix.span()], "with timestamp_header", report);
            Some(None)
        }
    }
}

/// A header field name; reports any other text.
pub(super) fn header_name(text: &Spanned<String>, report: &mut Report<'_>) -> Option<String> {
    let name = text.get_ref().clone();
    if HeaderName::try_from(&name).is_ok() {
        return Some(name);
    }
    report.error(text, ProofProblem::from(SignatureRuleError::HeaderName { name }).into());
    None
}

/// Reports keys that have no effect. `circumstance` names the other key, after "with" or "without".
pub(super) fn report_no_effect(
    keys: impl IntoIterator<Item = Range<usize>>,
    circumstance: &'static str,
    report: &mut Report<'_>,
) {
    for span in keys {
        report.error_at(&span, ProofProblem::NoEffect { circumstance }.into());
    }
}

/// Reports an error of the rule at the key that it is about.
fn explain(raw: &Spanned<RawSignature>, error: SignatureRuleError, report: &mut Report<'_>) {
    let fields = raw.get_ref();
    let message = fields.message.as_ref().map_or(raw.span(), Spanned::span);
    let (span, problem) = match error {
        SignatureRuleError::Secret { index, error } => {
            let secret = fields.secrets.as_ref().and_then(|secrets| secrets.get_ref().get(index));
            (secret.map_or(raw.span(), Spanned::span), ProofProblem::SecretForm(error))
        }
        SignatureRuleError::Unplaced { piece: "id" } => {
            (message, ProofProblem::Unplaced { piece: "{id}", keys: "id_header" })
        }
        SignatureRuleError::Unplaced { .. } => {
            let keys = "timestamp_header or timestamp_prefix";
            (message, ProofProblem::Unplaced { piece: "{timestamp}", keys })
        }
        SignatureRuleError::Template(error) => (message, SignatureRuleError::Template(error).into()),
        error => (raw.span(), error.into()),
    };
    report.error_at(&span, problem.into());
}
