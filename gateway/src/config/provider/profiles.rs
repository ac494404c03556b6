//! The profiles of a provider: those of its preset and of its profile tables, in which its own keys replace theirs.
//!
//! Owns which profiles there are, and the warnings about them. Must not know what a single key of a profile means: `profile` does.

use std::ops::Range;

use std::sync::Arc;

use time::Date;
use toml::Spanned;

use super::RawProvider;
use crate::config::anchor::{Anchor, WRITE_TRUST_ANCHORS};
use crate::config::crls::{FetchedLists, Lists};
use crate::config::error::Problem;
use crate::config::file;
use crate::config::preset::{Download, Preset};
use crate::config::profile::{
    self, DEFAULT_VERIFY_DEPTH, DraftProfile, Fields, RawProfile, SINGLE_PROFILE, WRITE_IDENTITY,
};
use crate::config::report::Report;
use crate::config::warning::WarningKind;
use hookgate_core::identity::Profile;
use hookgate_core::identity::revocation::RevocationLists;

const WRITE_PROFILES: &str = "the profiles to keep, or remove the key to keep all";

/// The profiles of a provider that demands a certificate. Reports what is wrong.
pub(super) fn parse(
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
        // The tables take the place of all that it has.
        Some(_) if fields.profiles.as_ref().is_some_and(|chosen| chosen.get_ref().is_empty()) => Vec::new(),
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
        overlap_ends: draft.until.and_then(file::end_of_day),
        trust_anchors: anchors?.into_iter().map(Anchor::into_configured).collect(),
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
    anchors: impl Iterator<Item = &'a Anchor>,
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
