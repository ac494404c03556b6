//! What a provider demands of its senders.
//!
//! Owns the comparison of two versions of a provider, but for the demands of its profiles (`profile`) and of its proof, which its routes can
//! replace.

use std::collections::BTreeSet;

use toml::de::{DeTable, DeValue};

use super::preset::PresetStrength;
use super::profile::{self, AnchorId, ProfileStrength};
use super::ranges::RangeStrength;
use crate::config::profile::SINGLE_PROFILE;
use hookgate_core::auth::PolicyStrength;
use hookgate_core::identity::{ClientCertificate, OnFailure, Profile, Provider, RefusalAnswer};
use hookgate_core::ranges::SourceCheck;

/// Most earlier versions of the profiles of a provider that are remembered. A version is remembered only if later ones lack something of it, so
/// a file that grows needs one for each part that it has lost.
const MAXIMUM_EARLIER: usize = 16;

/// Most certificates below a trust anchor that are remembered. The lists of 16 profiles may have as many.
const MAXIMUM_SUBORDINATES: usize = 4096;

/// What a provider demands.
#[derive(Clone, Debug)]
pub(super) struct ProviderStrength {
    profiles: Vec<ProfileStrength>,
    /// Those of earlier configurations, the latest first; at most [`MAXIMUM_EARLIER`].
    earlier: Vec<Vec<ProfileStrength>>,
    /// The names of its tables of profiles.
    tables: BTreeSet<String>,
    /// The preset that it is from, or was when it had one.
    preset: Option<PresetStrength>,
    told: Told,
    /// Whether its own keys make its only profile, which the file does not name.
    is_unnamed: bool,
    /// Its own keys that replace those of its profiles, from tables or from a preset.
    replaced: BTreeSet<&'static str>,
    /// The names in `profiles`, if that key chooses from a preset.
    chosen: Option<BTreeSet<String>>,
    /// Certificates that its files have below a trust anchor: intermediates, which are no anchors.
    subordinates: BTreeSet<AnchorId>,
    client_certificate: ClientCertificate,
    check: SourceCheck,
    ranges: RangeStrength,
    policy: PolicyStrength,
    /// The policy that was in use last, if every route replaces the present one.
    last_used: Option<PolicyStrength>,
}

/// What a peer is told whose certificate is refused, from less to more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Alert,
    Reason,
    Detail,
}

/// What the strength of a provider is made of, beside the provider.
pub(super) struct Parts<'p> {
    pub(super) check: SourceCheck,
    pub(super) ranges: RangeStrength,
    pub(super) policy: PolicyStrength,
    pub(super) subordinates: BTreeSet<AnchorId>,
    pub(super) preset: Option<PresetStrength>,
    /// The provider's table.
    pub(super) table: Option<&'p DeTable<'p>>,
}

impl ProviderStrength {
    pub(super) fn new(provider: &Provider, parts: Parts<'_>) -> Self {
        let Parts { check, ranges, policy, subordinates, preset, table } = parts;
        let chosen = table.and_then(|table| texts(table, "profiles"));
        let profiles: Vec<_> = provider.profiles.iter().map(ProfileStrength::new).collect();
        let has = |key: &str| table.is_some_and(|table| table.contains_key(key));
        // A preset without profiles has one of this name, which the provider's own keys fill.
        let is_filled = matches!(profiles.as_slice(), [only] if *only.name == *SINGLE_PROFILE);
        let is_unnamed = !has("profile") && (!has("preset") || is_filled);
        let replaces = |key: &&'static str| !is_unnamed && has(key);
        let replaced = ["trust_anchors", "identity"].into_iter().filter(replaces).collect();
        let client_certificate = provider.client_certificate;
        Self {
            profiles,
            earlier: Vec::new(),
            tables: table.map(names_of_tables).unwrap_or_default(),
            preset,
            told: Told::of(provider),
            is_unnamed,
            replaced,
            chosen,
            subordinates,
            client_certificate,
            check,
            ranges,
            policy,
            last_used: None,
        }
    }

    /// Notes the revocation lists that are in force.
    pub(super) fn note_lists(&mut self, profiles: &[Profile]) {
        for (strength, profile) in self.profiles.iter_mut().zip(profiles) {
            strength.note_lists(profile);
        }
    }

    /// Remembers what `old` demanded, which this version replaces, of what it lacks. `is_in_use` says whether a route has its policy.
    pub(super) fn remember(&mut self, old: Self, is_in_use: bool) {
        self.policy.remember(&old.policy);
        if !is_in_use {
            self.last_used = Some(old.last_used.unwrap_or(old.policy));
        }
        self.ranges.remember(old.ranges);
        let room = MAXIMUM_SUBORDINATES.saturating_sub(self.subordinates.len());
        self.subordinates.extend(old.subordinates.into_iter().take(room));
        // Without preset and tables, the file cannot say what these keys would choose or replace.
        if self.is_unnamed {
            self.replaced.extend(old.replaced);
            self.chosen = self.chosen.take().or(old.chosen);
        }
        self.preset = self.preset.take().or(old.preset);
        let earlier: Vec<Vec<ProfileStrength>> = [old.profiles].into_iter().chain(old.earlier).collect();
        for profile in &mut self.profiles {
            if let Some(known) = earlier.iter().flatten().find(|known| known.name == profile.name) {
                profile.remember(known);
            }
        }
        for version in earlier {
            let newer: Vec<&[ProfileStrength]> = self.versions();
            if newer.len() <= MAXIMUM_EARLIER && !profile::covers(&newer, &version) {
                self.earlier.push(version);
            }
        }
    }

    /// Its profiles, then those of earlier versions.
    fn versions(&self) -> Vec<&[ProfileStrength]> {
        [self.profiles.as_slice()].into_iter().chain(self.earlier.iter().map(Vec::as_slice)).collect()
    }

    /// What it demands, or demanded when a route used it.
    pub(super) fn demanded_policy(&self) -> &PolicyStrength {
        self.last_used.as_ref().unwrap_or(&self.policy)
    }

    /// What `new` lacks of this one, without its proof.
    pub(super) fn losses(&self, new: &Self, report: &mut dyn FnMut(String)) {
        let demands = |strength: &Self| strength.client_certificate == ClientCertificate::Required;
        if demands(self) && !demands(new) {
            report("client_certificate required → none".to_owned());
        }
        if demands(self) && demands(new) && new.told > self.told {
            report(format!("a refused peer is told {} → {}", self.told.label(), new.told.label()));
        }
        let older = self.falls_back(new);
        let is_of_preset = |profile: &ProfileStrength| older.is_some() && !new.tables.contains(&*profile.name);
        let is_unnamed = |profile: &ProfileStrength| new.is_unnamed || is_of_preset(profile);
        profile::losses(&self.versions(), &new.profiles, &is_unnamed, report);
        if let Some(change) = &older {
            for profile in new.profiles.iter().filter(|it| is_of_preset(it)) {
                let anchors = profile.anchors_beside(&self.profiles);
                let rules = profile.rules_beside(&self.profiles);
                let named = |key: &str| new.replaced.contains(key);
                let anchors = anchors.into_iter().filter(|_| !named("trust_anchors"));
                for shown in anchors.chain(rules.into_iter().filter(|_| !named("identity"))) {
                    report(format!("profile {}: {change}, and admits {shown} again", profile.name));
                }
            }
        }
        if self.chosen.is_some() && new.chosen.is_none() && !new.is_unnamed {
            for profile in new.profiles.iter().filter(|it| !self.profiles.iter().any(|old| old.name == it.name)) {
                report(format!("profiles no longer leaves {} out", profile.name));
            }
        }
        self.restored(new, report);
        let known = |id: &AnchorId| self.profiles.iter().any(|profile| profile.anchors.contains_key(id));
        for (id, label) in new.profiles.iter().flat_map(|profile| &profile.anchors) {
            if self.subordinates.contains(id) && !known(id) {
                report(format!(
                    "the intermediate {label} becomes a trust anchor, because its issuer is no longer listed"
                ));
            }
        }
        if rank(new.check) < rank(self.check) {
            report(format!("source_ranges_check {} → {}", check_text(self.check), check_text(new.check)));
        }
        if self.check != SourceCheck::Off {
            self.ranges.losses(&new.ranges, report);
        }
    }

    /// How an older preset, or one of an earlier directory, takes the place of the one that was in use. The file names nothing of it.
    fn falls_back(&self, new: &Self) -> Option<String> {
        let (old, new) = (self.preset.as_ref()?, new.preset.as_ref()?);
        new.falls_back_from(old).then(|| format!("the preset of {new} takes the place of that of {old}"))
    }

    /// Identity rules of this provider that `new` has and `old` had not, two versions of another provider, and `now`, the next version of this
    /// one, has no longer: without the header of a provider, its keys fall to the one before it.
    pub(super) fn identities_taken_over(
        &self,
        now: Option<&Self>,
        (old, new): (&Self, &Self),
        report: &mut dyn FnMut(String),
    ) {
        for rule in new.profiles.iter().flat_map(|profile| profile.rules_of(&self.profiles)) {
            let has = |profiles: &[ProfileStrength]| profiles.iter().any(|profile| profile.has_rule(rule));
            if !old.versions().into_iter().any(has) && !now.is_some_and(|now| has(&now.profiles)) {
                report(rule.shown.clone());
            }
        }
    }

    /// What the lists of ranges of this provider, which is called `name` and now is `next`, demand that `new` has and `old` had not, two
    /// versions of another provider.
    pub(super) fn losses_of_lists_taken_over(
        &self,
        name: &str,
        next: Option<&Self>,
        (old, new): (&Self, &Self),
        report: &mut dyn FnMut(String),
    ) {
        if old.check != SourceCheck::Off {
            let next = next.map(|next| &next.ranges);
            self.ranges.losses_of_taken_over(name, next, (&old.ranges, &new.ranges), report);
        }
    }

    /// Reports what the profiles of `new` admit because a key is gone that replaced theirs. The file that has lost the key names it nowhere,
    /// if it is the preset that does.
    fn restored(&self, new: &Self, report: &mut dyn FnMut(String)) {
        if new.is_unnamed {
            return;
        }
        for key in self.replaced.difference(&new.replaced) {
            for profile in &new.profiles {
                let admitted = match *key {
                    "trust_anchors" => profile.anchors_beside(&self.profiles),
                    _ => profile.rules_beside(&self.profiles),
                };
                for shown in admitted {
                    report(format!("profile {}: {key} no longer leaves {shown} out", profile.name));
                }
            }
        }
    }
}

impl Told {
    fn of(provider: &Provider) -> Self {
        match (provider.on_failure, provider.refusal) {
            (OnFailure::Abort, _) => Self::Alert,
            (OnFailure::Respond, RefusalAnswer::Terse) => Self::Reason,
            (OnFailure::Respond, RefusalAnswer::Deny | RefusalAnswer::Retry) => Self::Detail,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Alert => "an alert alone",
            Self::Reason => "the reason alone",
            Self::Detail => "what is wrong",
        }
    }
}

fn rank(check: SourceCheck) -> u8 {
    match check {
        SourceCheck::Off => 0,
        SourceCheck::Count => 1,
        SourceCheck::Refuse => 2,
    }
}

fn check_text(check: SourceCheck) -> &'static str {
    match check {
        SourceCheck::Off => "off",
        SourceCheck::Count => "count",
        SourceCheck::Refuse => "refuse",
    }
}

/// The texts of an array.
fn texts(table: &DeTable<'_>, key: &str) -> Option<BTreeSet<String>> {
    let DeValue::Array(elements) = table.get(key)?.get_ref() else { return None };
    Some(elements.iter().filter_map(|element| element.get_ref().as_str()).map(str::to_owned).collect())
}

/// The names of the `[[provider.profile]]` tables of a provider.
fn names_of_tables(table: &DeTable<'_>) -> BTreeSet<String> {
    let Some(DeValue::Array(tables)) = table.get("profile").map(toml::Spanned::get_ref) else { return BTreeSet::new() };
    let name = |value: &DeValue<'_>| match value {
        DeValue::Table(table) => table.get("name")?.get_ref().as_str().map(str::to_owned),
        _ => None,
    };
    tables.iter().filter_map(|value| name(value.get_ref())).collect()
}
