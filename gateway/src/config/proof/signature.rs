//! `signature`: the form of the body signature, and its parts.
//!
//! Owns the keys of each form but for public keys, which `keys` reads. Must not judge signatures: `auth::body_signature` does.

use std::ops::Range;

use hyper::header::HeaderName;
use serde::Deserialize;
use toml::Spanned;

use super::addition::{Addition, FileKind, Usual};
use super::keys::{self, RawKey};
use super::secret::{self, RawSecret};
use crate::config::bound::Bound;
use crate::config::document;
use crate::config::error::{Problem, ProofProblem};
use crate::config::key_source::KeySources;
use crate::config::report::Report;
use hookgate_client::sender::{KeyAlgorithm, Proof as SenderProof};
use hookgate_core::auth::body_signature::{Encoding, HmacHash, SignatureRuleError, StandardFields, TimestampPlace};
use hookgate_core::auth::{BodySignature, Secret, SignatureAlgorithm, SignatureForm, SignatureKeys};

/// At most a day. With a longer tolerance, a timestamp does not protect against replay.
const TOLERANCE: Bound = Bound::new(1, 86_400, " s");
/// Five minutes, which Slack, Stripe and Standard Webhooks document.
pub(in crate::config) const DEFAULT_TOLERANCE_SECONDS: u64 = 300;

/// The piece of a message that stands for the URL of the webhook.
const URL: &str = "{url}";

const WRITE_FORM: &str = "form = \"pagerduty\", \"standard-webhooks\" or \"detached-jws\", or \"hmac\" or \"public-key\" with the keys that describe another form";
const WRITE_HEADER: &str = "header = \"x-hub-signature-256\": the header field with the signature";

const WRITE_ALGORITHM: &str =
    "algorithm = \"ed25519\", or the one that the sender documents: the algorithm of the signatures";

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
    url: Option<Spanned<String>>,
    algorithm: Option<Spanned<RawAlgorithm>>,
    #[serde(default, deserialize_with = "document::tables")]
    keys: Option<Spanned<Vec<Spanned<RawKey>>>>,
    key_source: Option<Spanned<String>>,
    key_id_header: Option<Spanned<String>>,
    refusal_status: Option<Spanned<i64>>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawForm {
    Pagerduty,
    StandardWebhooks,
    Hmac,
    PublicKey,
    DetachedJws,
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum RawAlgorithm {
    #[serde(rename = "rsa-pkcs1-sha256")]
    RsaPkcs1Sha256,
    #[serde(rename = "rsa-pkcs1-sha384")]
    RsaPkcs1Sha384,
    #[serde(rename = "rsa-pkcs1-sha512")]
    RsaPkcs1Sha512,
    #[serde(rename = "rsa-pss-sha256")]
    RsaPssSha256,
    #[serde(rename = "rsa-pss-sha384")]
    RsaPssSha384,
    #[serde(rename = "rsa-pss-sha512")]
    RsaPssSha512,
    #[serde(rename = "ecdsa-p256-sha256")]
    EcdsaP256Sha256,
    #[serde(rename = "ecdsa-p256-sha256-fixed")]
    EcdsaP256Sha256Fixed,
    #[serde(rename = "ed25519")]
    Ed25519,
}

impl From<RawAlgorithm> for SignatureAlgorithm {
    fn from(raw: RawAlgorithm) -> Self {
        match raw {
            RawAlgorithm::RsaPkcs1Sha256 => Self::RsaPkcs1Sha256,
            RawAlgorithm::RsaPkcs1Sha384 => Self::RsaPkcs1Sha384,
            RawAlgorithm::RsaPkcs1Sha512 => Self::RsaPkcs1Sha512,
            RawAlgorithm::RsaPssSha256 => Self::RsaPssSha256,
            RawAlgorithm::RsaPssSha384 => Self::RsaPssSha384,
            RawAlgorithm::RsaPssSha512 => Self::RsaPssSha512,
            RawAlgorithm::EcdsaP256Sha256 => Self::EcdsaP256Sha256,
            RawAlgorithm::EcdsaP256Sha256Fixed => Self::EcdsaP256Sha256Fixed,
            RawAlgorithm::Ed25519 => Self::Ed25519,
        }
    }
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
    /// How the sender signs. A rule that is checked when a provider completes it is not checked here.
    pub(super) fn sender_proof(&self) -> SenderProof {
        let hash = match self.hash.as_ref().map(Spanned::get_ref) {
            None | Some(RawHash::Sha256) => HmacHash::Sha256,
            Some(RawHash::Sha384) => HmacHash::Sha384,
            Some(RawHash::Sha512) => HmacHash::Sha512,
        };
        let key = match self.algorithm.as_ref().map(Spanned::get_ref) {
            Some(RawAlgorithm::Ed25519) => Some(KeyAlgorithm::Ed25519),
            Some(RawAlgorithm::EcdsaP256Sha256) => Some(KeyAlgorithm::EcdsaP256),
            Some(RawAlgorithm::RsaPkcs1Sha256) => Some(KeyAlgorithm::RsaPkcs1Sha256),
            Some(RawAlgorithm::RsaPkcs1Sha512) => Some(KeyAlgorithm::RsaPkcs1Sha512),
            _ => None,
        };
        match (self.form, self.sender_form()) {
            (Some(RawForm::Pagerduty), _) => SenderProof::Hmac(SignatureForm::pagerduty(), HmacHash::Sha256),
            (Some(RawForm::StandardWebhooks), _) => SenderProof::StandardWebhooks(self.sender_names()),
            (Some(RawForm::DetachedJws), _) => SenderProof::Unsupported("it signs as a detached JSON Web Signature"),
            (_, None) => SenderProof::Unsupported("the preset leaves the header field of the signature open"),
            (Some(RawForm::Hmac), Some(form)) => SenderProof::Hmac(form, hash),
            (_, Some(form)) => match key {
                Some(key) => SenderProof::PublicKey(form, key),
                None => SenderProof::Unsupported(
                    "it signs by an algorithm that this program lacks, or that the preset leaves open",
                ),
            },
        }
    }

    /// The names of the fields of Standard Webhooks.
    fn sender_names(&self) -> StandardFields {
        let name = |written: &Option<Spanned<String>>, default| {
            written.as_ref().map_or(default, |text| text.get_ref().clone())
        };
        let StandardFields { signature, id, timestamp } = StandardFields::default();
        StandardFields {
            signature: name(&self.header, signature),
            id: name(&self.id_header, id),
            timestamp: name(&self.timestamp_header, timestamp),
        }
    }

    /// The general form as written; `None` without a header field.
    fn sender_form(&self) -> Option<SignatureForm> {
        let text = |text: &Option<Spanned<String>>| text.as_ref().map(|text| text.get_ref().clone());
        let header = text(&self.timestamp_header).map(TimestampPlace::Header);
        Some(SignatureForm {
            header: text(&self.header)?,
            separator: text(&self.separator).and_then(|text| text.chars().next()),
            prefix: text(&self.prefix).unwrap_or_default(),
            encoding: self.encoding.as_ref().map(|raw| (*raw.get_ref()).into()).unwrap_or_default(),
            message: text(&self.message).unwrap_or_else(|| "{body}".to_owned()),
            timestamp: header.or_else(|| text(&self.timestamp_prefix).map(TimestampPlace::Value)),
            tolerance_seconds: DEFAULT_TOLERANCE_SECONDS,
            id_header: text(&self.id_header),
            url: None,
        })
    }

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
            url: self.url.or(preset.url),
            algorithm: self.algorithm.or(preset.algorithm),
            // Keys of the operator's own replace the source of the preset, and the other way round.
            keys: self.keys.clone().or(preset.keys.filter(|_| self.key_source.is_none())),
            key_source: self.key_source.or(preset.key_source.filter(|_| self.keys.is_none())),
            key_id_header: self.key_id_header.or(preset.key_id_header),
            refusal_status: self.refusal_status.or(preset.refusal_status),
        }
    }

    /// The line that completes a preset's proof, for a message. `key_file` is the file with the public key of the sender.
    pub(super) fn completion(&self, key_file: &str) -> String {
        let keys = format!("signature = {{ keys = [{{ file = \"{key_file}\" }}] }}");
        let url = match (&self.message, &self.url) {
            (Some(message), None) if message.get_ref().contains(URL) => "url = \"https://hooks.example.com/hook\", ",
            _ => "",
        };
        match self.form {
            Some(RawForm::PublicKey) => keys,
            Some(RawForm::DetachedJws) => format!("signature = {{ key_source = \"…\" }} or {keys}"),
            _ => format!("signature = {{ {url}secrets = [{{ file = \"webhook.secret\" }}] }}"),
        }
    }

    /// What the operator adds, for `hookgate init`. `key_file` is the file with the public key of the sender, and the page that shows it.
    pub(super) fn additions(&self, key_file: Option<&(String, String)>) -> Vec<Addition> {
        let mut additions = match self.form {
            Some(RawForm::PublicKey) => {
                let what = "a file with the public key of the sender";
                let what = key_file.map_or(what.to_owned(), |(_, page)| format!("{what}, which stands on {page}"));
                vec![Addition::file(
                    "signature.keys",
                    what,
                    FileKind::PublicKey(key_file.map(|(file, _)| file.clone())),
                )]
            }
            Some(RawForm::DetachedJws) => {
                vec![Addition::text("key_source.url", "the URL of the keys (a JWK set) that verify the signatures")]
            }
            _ => vec![Addition::secret("signature.secrets", "a file with the secret that the sender signs with")],
        };
        if self.url.is_none() && self.message.as_ref().is_some_and(|message| message.get_ref().contains(URL)) {
            let what = "the URL of the webhook as the sender has it, which it signs";
            additions.push(Addition::usually("signature.url", what, Usual::WebhookUrl));
        }
        additions
    }

    /// The form, in a few words, for `hookgate providers`.
    pub(super) fn describe(&self) -> String {
        match (self.form, &self.header) {
            (Some(RawForm::Pagerduty), _) => "PagerDuty's, in X-PagerDuty-Signature".to_owned(),
            (Some(RawForm::StandardWebhooks), header) => {
                let header = header.as_ref().map_or("webhook-signature", |header| header.get_ref());
                format!("that of Standard Webhooks, in {header}")
            }
            (Some(RawForm::Hmac), Some(header)) => format!("HMAC in {}", header.get_ref()),
            (Some(RawForm::PublicKey), Some(header)) => format!("by a public key, in {}", header.get_ref()),
            (Some(RawForm::DetachedJws), Some(header)) => format!("a detached JWS, in {}", header.get_ref()),
            (Some(RawForm::PublicKey | RawForm::DetachedJws), None) => "by a public key".to_owned(),
            (Some(RawForm::Hmac), None) | (None, _) => "HMAC".to_owned(),
        }
    }

    /// The keys of the general form that are present, but for `header`.
    fn parts(&self) -> impl Iterator<Item = Range<usize>> {
        let texts = [
            &self.separator,
            &self.prefix,
            &self.message,
            &self.timestamp_header,
            &self.timestamp_prefix,
            &self.id_header,
            &self.url,
        ];
        let texts = texts.into_iter().flatten().map(Spanned::span).collect::<Vec<_>>();
        texts.into_iter().chain(self.encoding.as_ref().map(Spanned::span))
    }

    /// The keys about secrets that are present.
    fn secret_parts(&self) -> impl Iterator<Item = Range<usize>> {
        self.secrets.as_ref().map(Spanned::span).into_iter().chain(self.hash.as_ref().map(Spanned::span))
    }

    /// The keys about public keys that are present.
    fn key_parts(&self) -> impl Iterator<Item = Range<usize>> {
        let texts = [&self.key_source, &self.key_id_header].into_iter().flatten().map(Spanned::span);
        let lists = self.keys.as_ref().map(Spanned::span).into_iter().chain(self.algorithm.as_ref().map(Spanned::span));
        lists.chain(texts)
    }

    /// The keys that PagerDuty's form fixes.
    fn fixed_by_pagerduty(&self) -> impl Iterator<Item = Range<usize>> {
        let fields = [&self.header, &self.timestamp_header, &self.id_header].into_iter().flatten().map(Spanned::span);
        fields.chain(self.tolerance_s.as_ref().map(Spanned::span)).chain(self.fixed_by_standard())
    }

    /// The keys that the form of Standard Webhooks fixes: all but those with the names of its fields.
    fn fixed_by_standard(&self) -> impl Iterator<Item = Range<usize>> {
        let texts = [&self.separator, &self.prefix, &self.message, &self.timestamp_prefix, &self.url];
        let texts = texts.into_iter().flatten().map(Spanned::span);
        let encoding = self.encoding.as_ref().map(Spanned::span);
        texts.chain(encoding).chain(self.hash.as_ref().map(Spanned::span)).chain(self.key_parts())
    }

    /// Reports the keys that have no effect with this form.
    fn report_unused(&self, form: RawForm, report: &mut Report<'_>) {
        match form {
            RawForm::Pagerduty => {
                report_no_effect(self.fixed_by_pagerduty(), "with form = \"pagerduty\"", report);
            }
            RawForm::StandardWebhooks => {
                report_no_effect(self.fixed_by_standard(), "with form = \"standard-webhooks\"", report);
            }
            RawForm::Hmac => report_no_effect(self.key_parts(), "with form = \"hmac\"", report),
            RawForm::PublicKey => report_no_effect(self.secret_parts(), "with form = \"public-key\"", report),
            RawForm::DetachedJws => {
                let parts = self.secret_parts().chain(self.parts());
                let parts = parts.chain([&self.key_id_header].into_iter().flatten().map(Spanned::span));
                let parts = parts.chain(self.tolerance_s.as_ref().map(Spanned::span));
                report_no_effect(parts, "with form = \"detached-jws\"", report);
            }
        }
    }

    /// Whether a refusal has the status 401 instead of 403; reports another status.
    fn refuses_as_unauthorized(&self, report: &mut Report<'_>) -> Option<bool> {
        let Some(status) = &self.refusal_status else { return Some(false) };
        match status.get_ref() {
            401 => Some(true),
            403 => Some(false),
            _ => {
                report.error(status, ProofProblem::RefusalStatus.into());
                None
            }
        }
    }

    /// The names of the fields of Standard Webhooks; reports errors.
    fn standard_fields(&self, report: &mut Report<'_>) -> Option<StandardFields> {
        let mut name = |written: &Option<Spanned<String>>, default: String| match written {
            Some(text) => header_name(text, report),
            None => Some(default),
        };
        let StandardFields { signature, id, timestamp } = StandardFields::default();
        let (signature, id) = (name(&self.header, signature), name(&self.id_header, id));
        let timestamp = name(&self.timestamp_header, timestamp);
        Some(StandardFields { signature: signature?, id: id?, timestamp: timestamp? })
    }
}

/// Parses a signature; reports errors.
pub(super) fn parse(
    raw: &Spanned<RawSignature>,
    sources: &mut KeySources<'_>,
    report: &mut Report<'_>,
) -> Option<BodySignature> {
    let fields = raw.get_ref();
    let by_key = matches!(fields.form, Some(RawForm::PublicKey | RawForm::DetachedJws));
    let secrets = match &fields.secrets {
        _ if by_key => None,
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
    fields.report_unused(form, report);
    let result = match form {
        RawForm::Pagerduty => BodySignature::pagerduty(&secrets?),
        RawForm::StandardWebhooks => {
            let names = fields.standard_fields(report);
            BodySignature::standard_webhooks(&names?, &secrets?, tolerance)
        }
        RawForm::Hmac => {
            let hash = match fields.hash.as_ref().map(Spanned::get_ref) {
                None | Some(RawHash::Sha256) => HmacHash::Sha256,
                Some(RawHash::Sha384) => HmacHash::Sha384,
                Some(RawHash::Sha512) => HmacHash::Sha512,
            };
            let form = general(raw, tolerance, report);
            BodySignature::hmac(&form?, hash, &secrets?)
        }
        RawForm::PublicKey => public_key(raw, tolerance, sources, report)?,
        RawForm::DetachedJws => {
            let header = required_header(raw, report);
            let keys = keys_of(fields, raw, sources, report);
            BodySignature::detached_jws(&header?, keys?)
        }
    };
    let refuses_as_unauthorized = fields.refuses_as_unauthorized(report);
    let rule = result.map_err(|error| explain(raw, error, report)).ok()?;
    Some(if refuses_as_unauthorized? { rule.refusing_as_unauthorized() } else { rule })
}

/// Reports what is wrong with the part of a preset, to which the operator adds.
pub(super) fn check_preset(raw: &Spanned<RawSignature>, report: &mut Report<'_>) {
    let fields = raw.get_ref();
    let Some(form) = fields.form else { return };
    fields.report_unused(form, report);
    fields.refuses_as_unauthorized(report);
    let tolerance = TOLERANCE.check(fields.tolerance_s.as_ref(), report).unwrap_or(DEFAULT_TOLERANCE_SECONDS);
    if !matches!(form, RawForm::Hmac | RawForm::PublicKey) || fields.header.is_none() {
        let names = [&fields.header, &fields.id_header, &fields.timestamp_header];
        names.into_iter().flatten().for_each(|text| drop(header_name(text, report)));
    } else if let (Some(form), Ok(secret)) = (general(raw, tolerance, report), Secret::new(b"any".to_vec())) {
        let url = form.url.or_else(|| form.message.contains(URL).then(|| "https://any/".to_owned()));
        let rule = BodySignature::hmac(&SignatureForm { url, ..form }, HmacHash::Sha256, &[secret]);
        rule.map_or_else(|error| explain(raw, error, report), drop);
    }
    fields.key_id_header.iter().for_each(|text| drop(header_name(text, report)));
}

fn public_key(
    raw: &Spanned<RawSignature>,
    tolerance: u64,
    sources: &mut KeySources<'_>,
    report: &mut Report<'_>,
) -> Option<Result<BodySignature, SignatureRuleError>> {
    let fields = raw.get_ref();
    if fields.algorithm.is_none() {
        report.missing_one_of(raw, "algorithm", &[], Problem::Missing { write: WRITE_ALGORITHM });
    }
    let form = general(raw, tolerance, report);
    let keys = keys_of(fields, raw, sources, report);
    let key_id_header = fields.key_id_header.as_ref().map(|text| header_name(text, report));
    let key_id_header = key_id_header.map_or(Some(None), |name| name.map(Some));
    fields.algorithm.as_ref()?;
    Some(BodySignature::public_key(&form?, keys?, key_id_header?.as_deref()))
}

fn keys_of(
    fields: &RawSignature,
    table: &Spanned<RawSignature>,
    sources: &mut KeySources<'_>,
    report: &mut Report<'_>,
) -> Option<SignatureKeys> {
    let algorithm = fields.algorithm.as_ref().map(|raw| (*raw.get_ref()).into());
    keys::parse(table, fields.keys.as_ref(), fields.key_source.as_ref(), algorithm, sources, report)
}

/// `header`; reports its absence and errors.
fn required_header(raw: &Spanned<RawSignature>, report: &mut Report<'_>) -> Option<String> {
    match &raw.get_ref().header {
        Some(text) => header_name(text, report),
        None => {
            report.missing(raw, "header", WRITE_HEADER);
            None
        }
    }
}

/// The keys of the general form; reports errors.
fn general(raw: &Spanned<RawSignature>, tolerance_seconds: u64, report: &mut Report<'_>) -> Option<SignatureForm> {
    let fields = raw.get_ref();
    let header = required_header(raw, report);
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
    Some(SignatureForm {
        header: header?,
        separator: separator.map_or(Some(None), |separator| separator.map(Some))?,
        prefix: text(&fields.prefix, ""),
        encoding: fields.encoding.as_ref().map(|raw| (*raw.get_ref()).into()).unwrap_or_default(),
        message: text(&fields.message, "{body}"),
        timestamp: timestamp.map_or(Some(None), |timestamp| timestamp.map(Some))?,
        tolerance_seconds,
        id_header: id_header.map_or(Some(None), |name| name.map(Some))?,
        url: fields.url.as_ref().map(|url| url.get_ref().clone()),
    })
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
        SignatureRuleError::Unplaced { piece: "url" } => {
            (message, ProofProblem::Unplaced { piece: "{url}", keys: "url" })
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
