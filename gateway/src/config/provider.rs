//! `[[provider]]`: a sender, from a preset, from profile tables, or from its own keys.
//!
//! Owns how a provider's own keys replace those of its profiles. Every profile has trust anchors and identity rules: without
//! anchors it would match no certificate, and without rules every certificate of a public authority. Must not know what a single
//! key of a profile means: `profile` does.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use serde::Deserialize;
use time::Date;
use toml::Spanned;

use super::anchor::WRITE_TRUST_ANCHORS;
use super::client_certificate::{self, RawClientCertificate};
use super::crls::{FetchedLists, Lists, RawListUrls, RawLists};
use super::document::{self, WordOr};
use super::error::Problem;
use super::file;
use super::key_source::KeySources;
use super::length;
use super::name;
use super::preset::{Download, Found, Preset, Presets};
use super::profile::{
    self, DEFAULT_VERIFY_DEPTH, DraftProfile, Fields, RawExtendedKeyUsage, RawIdentity, RawProfile, RawRefusal,
    RawRevocationScope, SINGLE_PROFILE, WRITE_IDENTITY,
};
use super::proof::{
    self, Completion, ProviderProofs, RawBasic, RawClause, RawFieldSecret, RawReplay, RawSessionParameter,
    RawSignature, RawToken,
};
use super::range_url::{self, KnownSources, RangeUrl, RawRangeUrls};
use super::ranges::{self, ProviderRanges, RawRangeFiles, RawRanges, RawSourceCheck, RawSources};
use super::report::Report;
use super::warning::WarningKind;
use hookgate_core::auth::ProofPolicy;
use hookgate_core::identity::revocation::RevocationLists;
use hookgate_core::identity::{ClientCertificate, OnFailure, Profile, Provider, ProviderId, RefusalAnswer};

/// The most providers of a file. Each name becomes a metric label.
const MAXIMUM_PROVIDERS: usize = 1024;

const WRITE_NAME: &str = "name = \"pagerduty\": the name of this provider in routes, logs and metrics";
const WRITE_PROFILES: &str = "the profiles to keep, or remove the key to keep all";

/// `[[provider]]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawProvider {
    pub(super) name: Option<Spanned<String>>,
    pub(super) preset: Option<Spanned<String>>,
    client_certificate: Option<Spanned<RawClientCertificate>>,
    unsafe_static_secret_suffices: Option<Spanned<bool>>,
    profiles: Option<Spanned<Vec<Spanned<String>>>>,
    #[serde(default, deserialize_with = "document::tables")]
    pub(super) profile: Option<Spanned<Vec<Spanned<RawProfile>>>>,
    trust_anchors: Option<Spanned<Vec<Spanned<String>>>>,
    verify_depth: Option<Spanned<i64>>,
    #[serde(default, deserialize_with = "document::tables")]
    pub(super) identity: Option<Spanned<Vec<Spanned<RawIdentity>>>>,
    extended_key_usage: Option<Spanned<RawExtendedKeyUsage>>,
    pub(super) crls: Option<Spanned<RawLists>>,
    crl_urls: Option<RawListUrls>,
    crl_scope: Option<Spanned<RawRevocationScope>>,
    on_failure: Option<Spanned<RawOnFailure>>,
    refusal: Option<RawRefusal>,
    source_ranges: RawRanges,
    source_range_files: RawRangeFiles,
    source_range_urls: RawRangeUrls,
    source_ranges_check: Option<Spanned<RawSourceCheck>>,
    pub(super) proof: Option<Spanned<WordOr<RawClause>>>,
    replay: Option<Spanned<WordOr<RawReplay>>>,
    #[serde(default, deserialize_with = "document::table")]
    token: Option<Spanned<RawToken>>,
    #[serde(default, deserialize_with = "document::table")]
    session_parameter: Option<Spanned<RawSessionParameter>>,
    #[serde(default, deserialize_with = "document::table")]
    signature: Option<Spanned<RawSignature>>,
    #[serde(default, deserialize_with = "document::table")]
    secret: Option<Spanned<RawFieldSecret>>,
    #[serde(default, deserialize_with = "document::table")]
    basic: Option<Spanned<RawBasic>>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawOnFailure {
    Respond,
    Abort,
}

/// The names of the providers, and whether each demands a certificate, for the routes.
pub(super) struct ProviderNames {
    names: HashMap<String, ProviderId>,
    /// By [`ProviderId`].
    certificates: Vec<ClientCertificate>,
    complete: bool,
}

impl ProviderNames {
    /// `complete` means that every provider of the file has a valid name. If not, an unknown name is not reported: it may be the
    /// name that is missing.
    fn new(names: HashMap<String, ProviderId>, certificates: Vec<ClientCertificate>, complete: bool) -> Self {
        Self { names, certificates, complete }
    }

    /// Of `ids`, the providers that demand no certificate, with their names.
    pub(super) fn without_certificate(&self, ids: &[ProviderId]) -> Vec<(&str, ClientCertificate)> {
        let named = |id: &ProviderId| {
            let certificate = *self.certificates.get(usize::from(id.0))?;
            let (name, _) = self.names.iter().find(|(_, known)| *known == id)?;
            (certificate != ClientCertificate::Required).then_some((name.as_str(), certificate))
        };
        ids.iter().filter_map(named).collect()
    }

    /// The provider with this name. Reports an unknown name.
    pub(super) fn find(&self, name: &Spanned<String>, report: &mut Report<'_>) -> Option<ProviderId> {
        let found = self.names.get(name.get_ref()).copied();
        if found.is_none() && self.complete {
            let mut known: Vec<&str> = self.names.keys().map(String::as_str).collect();
            known.sort_unstable();
            let introduction = match known.as_slice() {
                [] => "write a [[provider]] section with that name",
                _ => "this file defines",
            };
            report.error(name, Problem::unknown("provider", name.get_ref(), introduction, known));
        }
        found
    }
}

/// The providers of a file, as far as they have no errors.
pub(super) struct ParsedProviders {
    pub(super) providers: Vec<Provider>,
    /// By provider: what its requests must prove.
    pub(super) proofs: Vec<Arc<ProofPolicy>>,
    /// By provider and profile.
    pub(super) fetched_lists: Vec<Vec<FetchedLists>>,
    /// Of all providers, also of those with errors: a route may name them.
    pub(super) names: ProviderNames,
}

/// Parses the providers, and the proofs that each demands. Reports what is wrong, and leaves out the providers with errors, so the
/// result is complete only without errors.
pub(super) fn providers(
    raw: &[Spanned<RawProvider>],
    presets: &Presets,
    sources: &mut KeySources<'_>,
    report: &mut Report<'_>,
) -> ParsedProviders {
    let mut names: HashMap<String, (ProviderId, usize)> = HashMap::new();
    let mut complete = true;
    let (mut providers, mut proofs, mut fetched_lists) = (Vec::new(), Vec::new(), Vec::new());
    let mut certificates = Vec::new();
    for (raw, id) in length::first(raw, MAXIMUM_PROVIDERS, report).iter().zip(0..) {
        let name = provider_name(raw, report);
        match &name {
            Some((text, at)) => match names.get(text.as_ref()) {
                Some((_, line)) => {
                    let problem = Problem::Duplicate { what: format!("the provider \"{text}\""), line: *line };
                    report.error(at, problem);
                }
                None => {
                    names.insert(text.to_string(), (ProviderId(id), report.line(at)));
                }
            },
            None => complete = false,
        }
        let preset = preset(raw, presets, report);
        let RawProvider { client_certificate, unsafe_static_secret_suffices, proof, on_failure, .. } = raw.get_ref();
        let of_preset = preset.and_then(Preset::client_certificate).map(|value| Spanned::new(raw.span(), value));
        let client_certificate = client_certificate.as_ref().or(of_preset.as_ref());
        let certificate = client_certificate::parse(client_certificate, unsafe_static_secret_suffices.as_ref(), report);
        certificates.push(certificate);
        let profiles = match certificate {
            ClientCertificate::Required => parse_profiles(raw, preset, report),
            ClientCertificate::None { .. } => no_profiles(raw, preset, report),
        };
        let shown = name.as_ref().map_or("", |(name, _)| name);
        let at = proof.as_ref().map_or_else(|| raw.span(), Spanned::span);
        let proof = parse_proofs(raw, preset, (shown, certificate), sources, report);
        if let Some(policy) = &proof {
            client_certificate::check_policy(certificate, policy, shown, &at, report);
        }
        if let (Some((name, _)), Some(profiles), Some(proof)) = (name, profiles, proof) {
            let (profiles, fetched) = profiles.into_iter().unzip();
            let on_failure = match on_failure.as_ref().map(|choice| *choice.get_ref()) {
                None | Some(RawOnFailure::Respond) => OnFailure::Respond,
                Some(RawOnFailure::Abort) => OnFailure::Abort,
            };
            let refusal = refusal_answer(raw.get_ref(), preset);
            providers.push(Provider { name, profiles, on_failure, refusal, client_certificate: certificate });
            proofs.push(proof);
            fetched_lists.push(fetched);
        }
    }
    let names = names.into_iter().map(|(name, (id, _))| (name, id)).collect();
    ParsedProviders { providers, proofs, fetched_lists, names: ProviderNames::new(names, certificates, complete) }
}

/// Its own, or that of its preset. `on_failure = "abort"` of the operator counts more than the preset: an aborted handshake has no answer.
fn refusal_answer(raw: &RawProvider, preset: Option<&Preset>) -> RefusalAnswer {
    let of_preset = || {
        let responds = !matches!(raw.on_failure.as_ref().map(Spanned::get_ref), Some(RawOnFailure::Abort));
        preset.filter(|_| responds)?.refusal()
    };
    raw.refusal.or_else(of_preset).map_or_else(RefusalAnswer::default, RefusalAnswer::from)
}

/// Parses the ranges of each provider.
pub(super) fn source_ranges(raw: &[Spanned<RawProvider>], report: &mut Report<'_>) -> Vec<ProviderRanges> {
    let mut of_provider = |provider: &Spanned<RawProvider>| {
        let RawProvider { source_ranges, source_range_files, source_ranges_check, .. } = provider.get_ref();
        let check = source_ranges_check.as_ref();
        let has_urls = provider.get_ref().source_range_urls.is_some();
        let raw = RawSources { ranges: source_ranges, files: source_range_files, has_urls, check };
        ranges::of_provider(&raw, report)
    };
    raw.iter().map(&mut of_provider).collect()
}

/// Parses the lists of ranges of each provider that are fetched. A list that several name is the same source.
pub(super) fn range_urls(raw: &[Spanned<RawProvider>], report: &mut Report<'_>) -> Vec<Vec<RangeUrl>> {
    let mut known = KnownSources::default();
    raw.iter().map(|raw| range_url::range_urls(&raw.get_ref().source_range_urls, &mut known, report)).collect()
}

fn provider_name<'r>(
    raw: &'r Spanned<RawProvider>,
    report: &mut Report<'_>,
) -> Option<(Arc<str>, &'r Spanned<String>)> {
    let Some(text) = raw.get_ref().name.as_ref() else {
        report.missing(raw, "name", WRITE_NAME);
        return None;
    };
    name::parse(text, report).map(|name| (name, text))
}

/// The preset that the provider names. Reports one that is unknown or has errors, and notes its content for the inventory.
fn preset<'p>(raw: &Spanned<RawProvider>, presets: &'p Presets, report: &mut Report<'_>) -> Option<&'p Preset> {
    let name = raw.get_ref().preset.as_ref()?;
    match presets.find(name.get_ref()) {
        Found::Preset(preset) => {
            preset.use_for(name, report);
            Some(preset)
        }
        Found::Unusable(unusable) => {
            unusable.report(report);
            None
        }
        Found::Unknown => {
            report.error(name, Problem::unknown("preset", name.get_ref(), "there are", presets.names()));
            None
        }
    }
}

fn parse_profiles(
    raw: &Spanned<RawProvider>,
    preset: Option<&Preset>,
    report: &mut Report<'_>,
) -> Option<Vec<(Profile, FetchedLists)>> {
    let overrides = profile::fields(&own_fields(raw.get_ref()), report);
    let drafts = draft_profiles(raw, preset, report)?;
    warn_of_drafts(raw, &drafts, &overrides, report);
    warn_of_replaced_keys(raw.get_ref(), report);
    let downloads = preset.map(Preset::downloads).unwrap_or_default();
    if let Some(at) = &raw.get_ref().trust_anchors {
        Download::compare(downloads, at, overrides.trust_anchors.iter().flatten(), report);
    }
    let profiles: Vec<_> = drafts.into_iter().map(|draft| finish(raw, &overrides, draft, downloads, report)).collect();
    profiles.into_iter().collect()
}

/// The profiles of a provider that demands no certificate: none, also if its preset has some. Reports the keys that nothing uses.
fn no_profiles(
    raw: &Spanned<RawProvider>,
    preset: Option<&Preset>,
    report: &mut Report<'_>,
) -> Option<Vec<(Profile, FetchedLists)>> {
    let fields = raw.get_ref();
    let spans = [
        fields.profiles.as_ref().map(Spanned::span),
        fields.profile.as_ref().map(Spanned::span),
        fields.trust_anchors.as_ref().map(Spanned::span),
        fields.verify_depth.as_ref().map(Spanned::span),
        fields.identity.as_ref().map(Spanned::span),
        fields.extended_key_usage.as_ref().map(Spanned::span),
        fields.crls.as_ref().map(Spanned::span),
        fields.crl_urls.as_ref().map(Spanned::span),
        fields.crl_scope.as_ref().map(Spanned::span),
        fields.on_failure.as_ref().map(Spanned::span),
    ];
    client_certificate::refuse_keys(spans.into_iter(), report);
    // An unknown preset is already reported.
    (fields.preset.is_none() || preset.is_some()).then(Vec::new)
}

fn parse_proofs(
    raw: &Spanned<RawProvider>,
    preset: Option<&Preset>,
    (name, certificate): (&str, ClientCertificate),
    sources: &mut KeySources<'_>,
    report: &mut Report<'_>,
) -> Option<Arc<ProofPolicy>> {
    let fields = raw.get_ref();
    let parts = Completion {
        token: fields.token.as_ref(),
        session_parameter: fields.session_parameter.as_ref(),
        signature: fields.signature.as_ref(),
        secret: fields.secret.as_ref(),
        basic: fields.basic.as_ref(),
    };
    let proofs = ProviderProofs {
        proof: fields.proof.as_ref(),
        replay: fields.replay.as_ref(),
        // An unknown preset is already reported. The keys that complete its proof are not wrong.
        own: if fields.preset.is_some() && preset.is_none() { Completion::default() } else { parts },
        preset: preset.map(|preset| (preset.name(), preset.proofs())),
        has_certificate: certificate == ClientCertificate::Required,
    };
    proof::of_provider(raw, &proofs, name, sources, report)
}

/// The common keys in the provider's own table, as a profile.
fn own_fields(raw: &RawProvider) -> RawProfile {
    RawProfile {
        name: None,
        until: None,
        trust_anchors: raw.trust_anchors.clone(),
        verify_depth: raw.verify_depth.clone(),
        identity: raw.identity.clone(),
        extended_key_usage: raw.extended_key_usage.as_ref().map(|usage| *usage.get_ref()),
        crls: raw.crls.clone(),
        crl_urls: raw.crl_urls.clone(),
        crl_scope: raw.crl_scope.as_ref().map(|scope| *scope.get_ref()),
    }
}

/// The profiles of the preset, and those of the profile tables beside them; an empty one if there are neither.
fn draft_profiles(
    raw: &Spanned<RawProvider>,
    preset: Option<&Preset>,
    report: &mut Report<'_>,
) -> Option<Vec<DraftProfile>> {
    let fields = raw.get_ref();
    if let (None, Some(at)) = (&fields.preset, &fields.profiles) {
        report.error(at, Problem::ProfilesWithoutPreset);
        return None;
    }
    let Some(tables) = &fields.profile else {
        return match &fields.preset {
            Some(_) => preset_profiles(preset?, fields.profiles.as_ref(), report),
            None => {
                Some(vec![DraftProfile { name: Arc::from(SINGLE_PROFILE), until: None, fields: Fields::default() }])
            }
        };
    };
    let mut drafts = match preset {
        // Its one profile is what the operator's own keys make of it, and here the tables say that.
        Some(preset) if !preset.has_profiles() && fields.profiles.is_none() => Vec::new(),
        Some(preset) => preset_profiles(preset, fields.profiles.as_ref(), report)?,
        None if fields.preset.is_some() => return None,
        None => Vec::new(),
    };
    drafts.extend(profile::drafts(tables, &drafts, report)?);
    Some(drafts)
}

fn preset_profiles(
    preset: &Preset,
    chosen: Option<&Spanned<Vec<Spanned<String>>>>,
    report: &mut Report<'_>,
) -> Option<Vec<DraftProfile>> {
    let Some(chosen) = chosen else { return Some(preset.drafts().to_vec()) };
    if chosen.get_ref().is_empty() {
        report.empty(chosen, Problem::Empty { write: WRITE_PROFILES });
        return None;
    }
    let names = || preset.drafts().iter().map(|draft| draft.name.as_ref());
    for name in chosen.get_ref().iter().filter(|name| !names().any(|known| known == name.get_ref())) {
        report.error(name, Problem::unknown("profile", name.get_ref(), "this preset has", names()));
    }
    let is_chosen = |draft: &&DraftProfile| chosen.get_ref().iter().any(|name| name.get_ref() == draft.name.as_ref());
    Some(preset.drafts().iter().filter(is_chosen).cloned().collect())
}

/// Makes a profile of a draft, in which the provider's own keys replace those of the draft.
fn finish(
    raw: &Spanned<RawProvider>,
    overrides: &Fields,
    draft: DraftProfile,
    downloads: &[Download],
    report: &mut Report<'_>,
) -> Option<(Profile, FetchedLists)> {
    let fields = draft.fields;
    let intermediates = match overrides.trust_anchors {
        Some(_) => overrides.intermediates.clone(),
        None => fields.intermediates,
    };
    let anchors = overrides.trust_anchors.clone().or(fields.trust_anchors);
    let identity = overrides.identity.clone().or(fields.identity);
    let own = raw.get_ref();
    let is_it =
        |table: &&Spanned<RawProfile>| table.get_ref().name.as_ref().is_some_and(|name| *name.get_ref() == *draft.name);
    let table = own.profile.iter().flat_map(|tables| tables.get_ref()).find(is_it);
    if anchors.is_none() {
        match (table.filter(|_| own.trust_anchors.is_none()), downloads.first()) {
            (Some(table), _) => report.missing(table, "trust_anchors", WRITE_TRUST_ANCHORS),
            (None, Some(download)) => report.missing_one_of(raw, "trust_anchors", &[], download.missing()),
            (None, None) => report.missing(raw, "trust_anchors", WRITE_TRUST_ANCHORS),
        }
    }
    if identity.is_none() {
        match table.filter(|_| own.identity.is_none()) {
            Some(table) => report.missing(table, "identity", WRITE_IDENTITY),
            None => report.missing(raw, "identity", WRITE_IDENTITY),
        }
    }
    let (files, from_certificates) = match overrides.crls.clone().or(fields.crls) {
        None => (Vec::new(), None),
        Some(Lists::Files(files)) => (files, None),
        Some(Lists::FromCertificates(limits)) => (Vec::new(), Some(limits)),
    };
    let urls = overrides.crl_urls.clone().or(fields.crl_urls).unwrap_or_default();
    let fetched = FetchedLists { urls, from_certificates, intermediates };
    let scope = overrides.crl_scope.or(fields.crl_scope).unwrap_or_default();
    let is_checked = fetched.any() || !files.is_empty();
    let profile = Profile {
        name: draft.name,
        trust_anchors_not_after: anchors.iter().flatten().map(|anchor| anchor.not_after_seconds).collect(),
        trust_anchor_uses: anchors.iter().flatten().map(|anchor| anchor.anchor_use.clone()).collect(),
        overlap_ends: draft.until.and_then(file::end_of_day),
        trust_anchors: anchors?.into_iter().map(|anchor| anchor.trust_anchor).collect(),
        verify_depth: overrides.verify_depth.or(fields.verify_depth).unwrap_or(DEFAULT_VERIFY_DEPTH),
        identity: identity?,
        extended_key_usage: overrides.extended_key_usage.or(fields.extended_key_usage).unwrap_or_default(),
        // Lists that are fetched are added when they come. Without one, no chain passes.
        revocation: is_checked.then(|| RevocationLists::new(files, scope).awaiting(fetched.awaited())),
    };
    Some((profile, fetched))
}

/// Warns of profiles and anchors that have ended, and of a `verify_depth` that refuses the chains of a profile.
fn warn_of_drafts(raw: &Spanned<RawProvider>, drafts: &[DraftProfile], overrides: &Fields, report: &mut Report<'_>) {
    let today = file::day_of(report.now().as_secs());
    for draft in drafts {
        let profile = draft.name.to_string();
        if let Some(until) = draft.until.filter(|until| *until < today) {
            report.warn(raw, WarningKind::ProfileOutdated { profile: profile.clone(), until });
        }
        if overrides.trust_anchors.is_none() {
            let anchors = draft.fields.trust_anchors.iter().flatten();
            let tables = raw.get_ref().profile.iter().flat_map(|tables| tables.get_ref());
            let table =
                tables.filter(|table| table.get_ref().name.as_ref().is_some_and(|name| *name.get_ref() == profile));
            let at = table.filter_map(|table| table.get_ref().trust_anchors.as_ref()).map(Spanned::span).next();
            warn_of_anchors(&at.unwrap_or_else(|| raw.span()), &profile, anchors, today, report);
        }
        if let (Some(depth), Some(needed)) = (overrides.verify_depth, draft.fields.verify_depth)
            && let Some(at) = raw.get_ref().verify_depth.as_ref()
            && depth < needed
        {
            report.warn(at, WarningKind::ShallowDepth { depth, needed, profile });
        }
    }
    // These anchors are written once for all profiles.
    let at = raw.get_ref().trust_anchors.as_ref().map_or_else(|| raw.span(), Spanned::span);
    warn_of_anchors(&at, "(all)", overrides.trust_anchors.iter().flatten(), today, report);
}

/// Warns of the keys of profile tables that those of the provider replace: whoever wrote them there expects them to count.
fn warn_of_replaced_keys(raw: &RawProvider, report: &mut Report<'_>) {
    for table in raw.profile.iter().flat_map(|tables| tables.get_ref()) {
        let profile = table.get_ref();
        let keys = [
            ("trust_anchors", profile.trust_anchors.is_some() && raw.trust_anchors.is_some()),
            ("identity", profile.identity.is_some() && raw.identity.is_some()),
            ("verify_depth", profile.verify_depth.is_some() && raw.verify_depth.is_some()),
            ("extended_key_usage", profile.extended_key_usage.is_some() && raw.extended_key_usage.is_some()),
            ("crls", profile.crls.is_some() && raw.crls.is_some()),
            ("crl_scope", profile.crl_scope.is_some() && raw.crl_scope.is_some()),
        ];
        for (key, _) in keys.into_iter().filter(|(_, is_replaced)| *is_replaced) {
            report.warn(table, WarningKind::ReplacedKey { key });
        }
    }
}

fn warn_of_anchors<'a>(
    at: &Range<usize>,
    profile: &str,
    anchors: impl Iterator<Item = &'a super::anchor::Anchor>,
    today: Date,
    report: &mut Report<'_>,
) {
    for anchor in anchors {
        let (profile, subject) = (profile.to_owned(), anchor.subject.clone());
        if let Some(flaw) = anchor.anchor_use.flaw() {
            let flaw = flaw.clone();
            report
                .warn_at(at, WarningKind::AnchorUnusable { profile: profile.clone(), subject: subject.clone(), flaw });
        }
        if anchor.not_after < today {
            report.warn_at(at, WarningKind::AnchorExpired { profile, subject, not_after: anchor.not_after });
        }
    }
}
