//! Profiles: the keys that `[[provider]]`, `[[provider.profile]]` and the profiles of a preset have in common.
//!
//! Owns what each of these keys means. Must not know how the keys of a provider replace those of its profiles: `provider` does.

use std::collections::HashMap;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use serde::Deserialize;
use time::{Date, Month};
use toml::Spanned;
use toml::value::Datetime;

use super::anchor::{self, Anchor};
use super::bound::Bound;
use super::crls::{self, Lists, RawListUrls, RawLists};
use super::document;
use super::error::Problem;
use super::feed::Feed;
use super::file;
use super::length;
use super::name;
use super::report::Report;
use hookgate_core::identity::revocation::RevocationScope;
use hookgate_core::identity::rule::{Condition, IdentityRule, RuleError};
use hookgate_core::identity::{ExtendedKeyUsage, RefusalAnswer};

/// The most entries of `identity`. Each verification of a chain may try all of them.
const MAXIMUM_IDENTITIES: usize = 256;
/// From 1, an anchor that issues end entities itself, to nine intermediates. Public hierarchies have up to three.
const VERIFY_DEPTH: Bound = Bound::new(1, 10, "");

/// The name of the profile of a provider, or of a preset, without profile tables.
pub(crate) const SINGLE_PROFILE: &str = "default";

/// The most profiles of a provider. A rotation has two, and each verification of a chain may try all of them.
const MAXIMUM_PROFILES: usize = 16;
/// The default depth: end entity, one intermediate, root, as in public hierarchies.
pub const DEFAULT_VERIFY_DEPTH: u8 = 2;

pub(super) const WRITE_IDENTITY: &str = "identity = [{ subject_cn = \"webhooks.example.com\" }] (which certificates under the trust anchors are this provider's)";

/// An entry of `identity` as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawIdentity {
    pub(super) subject: Option<Spanned<String>>,
    pub(super) subject_cn: Option<Spanned<String>>,
    pub(super) san_dns: Option<Spanned<String>>,
    pub(super) san_uri: Option<Spanned<String>>,
    pub(super) spki_sha256: Option<Spanned<String>>,
    pub(super) certificate_sha256: Option<Spanned<String>>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawExtendedKeyUsage {
    ClientAuth,
    ClientAuthExplicit,
    Ignore,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawRevocationScope {
    Chain,
    EndEntity,
}

/// `refusal`, in a `[[provider]]` or in a preset.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawRefusal {
    Deny,
    Retry,
    Terse,
}

impl RawRefusal {
    /// As it is written.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Retry => "retry",
            Self::Terse => "terse",
        }
    }
}

impl From<RawRefusal> for RefusalAnswer {
    fn from(raw: RawRefusal) -> Self {
        match raw {
            RawRefusal::Deny => Self::Deny,
            RawRefusal::Retry => Self::Retry,
            RawRefusal::Terse => Self::Terse,
        }
    }
}

/// `[[provider.profile]]`, or `[[profile]]` of a preset, as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawProfile {
    pub(super) name: Option<Spanned<String>>,
    pub(super) until: Option<Spanned<Datetime>>,
    pub(super) trust_anchors: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) verify_depth: Option<Spanned<i64>>,
    #[serde(default, deserialize_with = "document::tables")]
    pub(super) identity: Option<Spanned<Vec<Spanned<RawIdentity>>>>,
    pub(super) extended_key_usage: Option<RawExtendedKeyUsage>,
    pub(super) crls: Option<Spanned<RawLists>>,
    pub(super) crl_urls: Option<RawListUrls>,
    pub(super) crl_scope: Option<RawRevocationScope>,
}

/// The same keys, parsed. `None` is a missing key, or one with a reported error.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    pub(super) trust_anchors: Option<Vec<Anchor>>,
    /// The certificates below these anchors in their files.
    pub(super) intermediates: Vec<CertificateDer<'static>>,
    pub(super) verify_depth: Option<u8>,
    pub(super) identity: Option<Vec<IdentityRule>>,
    pub(super) extended_key_usage: Option<ExtendedKeyUsage>,
    pub(super) crls: Option<Lists>,
    pub(super) crl_urls: Option<Vec<Arc<Feed>>>,
    pub(super) crl_scope: Option<RevocationScope>,
}

/// A profile before a provider's own keys replace some of its fields.
#[derive(Clone, Debug)]
pub(super) struct DraftProfile {
    pub(super) name: Arc<str>,
    /// The last day of the profile, as its provider documents it.
    pub(super) until: Option<Date>,
    pub(super) fields: Fields,
}

/// Parses the common keys. Reports what is wrong.
pub(super) fn fields(raw: &RawProfile, report: &mut Report<'_>) -> Fields {
    let loaded = raw.trust_anchors.as_ref().map(|raw| anchor::anchors(raw, report));
    let (anchors, intermediates) = loaded.map(|(anchors, below)| (Some(anchors), below)).unwrap_or_default();
    let identity = raw.identity.as_ref().map(|raw| identities(raw, report));
    Fields {
        trust_anchors: anchors.filter(|anchors| !anchors.is_empty()),
        intermediates,
        // The bound fits into the type.
        verify_depth: VERIFY_DEPTH.check(raw.verify_depth.as_ref(), report).and_then(|depth| u8::try_from(depth).ok()),
        identity: identity.filter(|rules| !rules.is_empty()),
        extended_key_usage: raw.extended_key_usage.map(|usage| match usage {
            RawExtendedKeyUsage::ClientAuth => ExtendedKeyUsage::ClientAuth,
            RawExtendedKeyUsage::ClientAuthExplicit => ExtendedKeyUsage::ClientAuthExplicit,
            RawExtendedKeyUsage::Ignore => ExtendedKeyUsage::Ignore,
        }),
        crls: raw.crls.as_ref().and_then(|raw| crls::lists(raw, report)),
        crl_urls: raw.crl_urls.as_ref().map(|raw| crls::urls(raw, report)),
        crl_scope: raw.crl_scope.map(|scope| match scope {
            RawRevocationScope::Chain => RevocationScope::Chain,
            RawRevocationScope::EndEntity => RevocationScope::EndEntity,
        }),
    }
}

/// Parses profile tables, whose names must differ from each other and from those `beside` them. Reports what is wrong.
pub(super) fn drafts(
    tables: &Spanned<Vec<Spanned<RawProfile>>>,
    beside: &[DraftProfile],
    report: &mut Report<'_>,
) -> Option<Vec<DraftProfile>> {
    let count = tables.get_ref().len() + beside.len();
    if count > MAXIMUM_PROFILES {
        report.error(tables, Problem::TooMany { count, maximum: MAXIMUM_PROFILES });
        return None;
    }
    let mut lines: HashMap<Arc<str>, usize> = HashMap::new();
    let mut drafts = Vec::new();
    for table in tables.get_ref() {
        let draft = draft(table, report);
        if let (Some(draft), Some(at)) = (&draft, table.get_ref().name.as_ref()) {
            if beside.iter().any(|other| other.name == draft.name) {
                report.error(at, Problem::ProfileOfPreset { profile: draft.name.to_string() });
            } else if let Some(line) = lines.insert(Arc::clone(&draft.name), report.line(at)) {
                report.error(at, Problem::Duplicate { what: format!("the profile \"{}\"", draft.name), line });
            }
        }
        drafts.push(draft);
    }
    drafts.into_iter().collect()
}

/// Parses a profile table, whose name is required.
fn draft(raw: &Spanned<RawProfile>, report: &mut Report<'_>) -> Option<DraftProfile> {
    let name = match raw.get_ref().name.as_ref() {
        Some(text) => name::parse(text, report),
        None => {
            report.missing(raw, "name", "name = \"primary\": the name of this profile in logs and metrics");
            None
        }
    };
    let until = raw.get_ref().until.as_ref().and_then(|written| {
        let day = local_date(written.get_ref());
        if day.is_none() {
            report.error(written, Problem::Day);
        }
        day
    });
    let fields = fields(raw.get_ref(), report);
    Some(DraftProfile { name: name?, until, fields })
}

/// The day of a local date of TOML; `None` if there is no such day, or if it is before 1970.
pub(super) fn local_date(written: &Datetime) -> Option<Date> {
    let Datetime { date: Some(written), time: None, offset: None } = written else { return None };
    let month = Month::try_from(written.month).ok()?;
    let day = Date::from_calendar_date(written.year.into(), month, written.day).ok()?;
    file::end_of_day(day).map(|_| day)
}

fn identities(raw: &Spanned<Vec<Spanned<RawIdentity>>>, report: &mut Report<'_>) -> Vec<IdentityRule> {
    length::is_within(raw, MAXIMUM_IDENTITIES, WRITE_IDENTITY, report);
    raw.get_ref().iter().filter_map(|entry| identity(entry, report)).collect()
}

/// Parses a rule. `None` if a condition has an error: a rule with fewer conditions would match more certificates.
fn identity(raw: &Spanned<RawIdentity>, report: &mut Report<'_>) -> Option<IdentityRule> {
    let entry = raw.get_ref();
    let results = [
        condition(entry.subject.as_ref(), Condition::subject, report),
        condition(entry.subject_cn.as_ref(), Condition::subject_cn, report),
        condition(entry.san_dns.as_ref(), Condition::san_dns, report),
        condition(entry.san_uri.as_ref(), Condition::san_uri, report),
        condition(entry.spki_sha256.as_ref(), Condition::spki_sha256, report),
        condition(entry.certificate_sha256.as_ref(), Condition::certificate_sha256, report),
    ];
    let results: Vec<Option<Condition>> = results.into_iter().flatten().collect();
    if results.is_empty() {
        report.empty(raw, Problem::EmptyIdentity);
        return None;
    }
    let conditions = results.into_iter().collect::<Option<Vec<_>>>()?;
    IdentityRule::new(conditions).map_err(|error| report.error(raw, Problem::Rule(error))).ok()
}

/// Parses a condition; `None` without the key, `Some(None)` if it has an error.
fn condition(
    text: Option<&Spanned<String>>,
    parse: impl Fn(&str) -> Result<Condition, RuleError>,
    report: &mut Report<'_>,
) -> Option<Option<Condition>> {
    let text = text?;
    Some(parse(text.get_ref()).map_err(|error| report.error(text, Problem::Rule(error))).ok())
}
