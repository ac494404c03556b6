//! What a provider demands of its senders.
//!
//! Owns the comparison of two versions of a provider, but for the demands of its profiles (`profile`) and of its proof, which its routes can
//! replace.

use std::collections::BTreeSet;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::profile::{self, AnchorId, ProfileStrength};
use super::ranges::RangeStrength;
use crate::config::profile::SINGLE_PROFILE;
use hookgate_core::auth::PolicyStrength;
use hookgate_core::identity::{ClientCertificate, Profile, Provider};
use hookgate_core::ranges::SourceCheck;

/// Most removed profiles of a provider that are remembered: as many as it may have.
const MAXIMUM_REMOVED: usize = 16;

/// Most certificates below a trust anchor that are remembered. The lists of 16 profiles may have as many.
const MAXIMUM_SUBORDINATES: usize = 4096;

/// What a provider demands.
#[derive(Clone, Debug)]
pub(super) struct ProviderStrength {
    profiles: Vec<ProfileStrength>,
    /// Those of earlier configurations, by name; at most [`MAXIMUM_REMOVED`].
    removed: Vec<ProfileStrength>,
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
}

impl ProviderStrength {
    /// `table` is the provider's table.
    pub(super) fn new(
        provider: &Provider,
        check: SourceCheck,
        ranges: RangeStrength,
        policy: PolicyStrength,
        subordinates: BTreeSet<AnchorId>,
        table: Option<&DeTable<'_>>,
    ) -> Self {
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
            removed: Vec::new(),
            is_unnamed,
            replaced,
            chosen,
            subordinates,
            client_certificate,
            check,
            ranges,
            policy,
        }
    }

    /// Notes the revocation lists that are in force.
    pub(super) fn note_lists(&mut self, profiles: &[Profile]) {
        for (strength, profile) in self.profiles.iter_mut().zip(profiles) {
            strength.note_lists(profile);
        }
    }

    /// Remembers the profiles, alternative proofs and lists of ranges of `old`, which this version replaces.
    pub(super) fn remember(&mut self, old: Self) {
        self.policy.remember(&old.policy);
        self.ranges.remember(old.ranges);
        let room = MAXIMUM_SUBORDINATES.saturating_sub(self.subordinates.len());
        self.subordinates.extend(old.subordinates.into_iter().take(room));
        self.removed = old.profiles.into_iter().chain(old.removed).collect();
        let mut names: BTreeSet<_> = self.profiles.iter().map(|profile| Arc::clone(&profile.name)).collect();
        self.removed.retain(|profile| names.insert(Arc::clone(&profile.name)));
        self.removed.truncate(MAXIMUM_REMOVED);
    }

    pub(super) fn policy(&self) -> &PolicyStrength {
        &self.policy
    }

    /// What `new` lacks of this one, without its proof.
    pub(super) fn losses(&self, new: &Self, report: &mut dyn FnMut(String)) {
        let demands = |strength: &Self| strength.client_certificate == ClientCertificate::Required;
        if demands(self) && !demands(new) {
            report("client_certificate required → none".to_owned());
        }
        profile::losses(&self.profiles, &self.removed, &new.profiles, new.is_unnamed, report);
        if self.chosen.is_some() && new.chosen.is_none() {
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

    /// What the lists of ranges of this provider demand that `new` has and `old` had not, two versions of another provider.
    pub(super) fn losses_of_lists_taken_over(&self, old: &Self, new: &Self, report: &mut dyn FnMut(String)) {
        if old.check != SourceCheck::Off {
            self.ranges.losses_of_taken_over(&old.ranges, &new.ranges, report);
        }
    }

    /// Reports what the profiles of `new` admit because a key is gone that replaced theirs. The file that has lost the key names it nowhere,
    /// if it is the preset that does.
    fn restored(&self, new: &Self, report: &mut dyn FnMut(String)) {
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
