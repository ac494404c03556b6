//! What the profiles of a provider demand of a chain.
//!
//! Owns the comparison of profiles, by what they admit: a chain that ends at a trust anchor and matches an identity rule. Must not verify
//! a chain.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::config::anchor::anchor_id;
use crate::config::file;
use hookgate_core::identity::{
    ExtendedKeyUsage, IdentityRule, Profile, RevocationLists, RevocationScope, trust_anchor_label,
};

/// See [`anchor_id`].
pub(super) type AnchorId = [u8; 32];

/// What a profile demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProfileStrength {
    pub(super) name: Arc<str>,
    /// With their names.
    pub(super) anchors: BTreeMap<AnchorId, String>,
    rules: Vec<RuleStrength>,
    settings: Settings,
}

/// The conditions of an identity rule, all of which must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RuleStrength {
    shown: String,
    conditions: BTreeSet<String>,
}

/// What a profile demands beside anchors and rules.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Settings {
    verify_depth: u8,
    extended_key_usage: ExtendedKeyUsage,
    revocation: Option<Revocation>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Revocation {
    scope: RevocationScope,
    /// By issuer: thisUpdate of the newest list, in seconds since 1970.
    lists: BTreeMap<String, u64>,
}

impl ProfileStrength {
    pub(super) fn new(profile: &Profile) -> Self {
        let anchor = |anchor| (anchor_id(anchor), trust_anchor_label(anchor));
        let revocation = profile.revocation.as_ref().map(|lists| {
            let mut revocation = Revocation { scope: lists.scope(), lists: BTreeMap::new() };
            revocation.note(lists);
            revocation
        });
        Self {
            name: Arc::clone(&profile.name),
            anchors: profile.trust_anchors.iter().map(anchor).collect(),
            rules: profile.identity.iter().map(RuleStrength::new).collect(),
            settings: Settings {
                verify_depth: profile.verify_depth,
                extended_key_usage: profile.extended_key_usage,
                revocation,
            },
        }
    }
}

impl ProfileStrength {
    /// Notes the lists that are in force, beside those that were before.
    pub(super) fn note_lists(&mut self, profile: &Profile) {
        if let (Some(revocation), Some(lists)) = (&mut self.settings.revocation, &profile.revocation) {
            revocation.note(lists);
        }
    }
}

impl RuleStrength {
    fn new(rule: &IdentityRule) -> Self {
        Self { shown: rule.to_string(), conditions: rule.conditions().iter().map(|it| format!("{it:?}")).collect() }
    }
}

impl Settings {
    /// What `new` lacks of these.
    fn losses(&self, new: &Self) -> Vec<String> {
        let mut losses = Vec::new();
        if new.verify_depth > self.verify_depth {
            losses.push(format!("verify_depth {} → {}", self.verify_depth, new.verify_depth));
        }
        if self.extended_key_usage.is_stricter_than(new.extended_key_usage) {
            let (old, new) = (self.extended_key_usage.label(), new.extended_key_usage.label());
            losses.push(format!("extended_key_usage {old} → {new}"));
        }
        match (&self.revocation, &new.revocation) {
            (Some(_), None) => losses.push("revocation is no longer checked (crls, crl_urls)".to_owned()),
            (Some(old), Some(new)) => old.losses(new, &mut losses),
            (None, _) => {}
        }
        losses
    }
}

impl Revocation {
    fn note(&mut self, lists: &RevocationLists) {
        for list in lists.lists() {
            let update = self.lists.entry(list.issuer()).or_default();
            *update = list.this_update().as_secs().max(*update);
        }
    }

    fn losses(&self, new: &Self, losses: &mut Vec<String>) {
        if self.scope == RevocationScope::Chain && new.scope == RevocationScope::EndEntity {
            losses.push("crl_scope chain → end-entity".to_owned());
        }
        // Without a list of its issuer, a certificate is refused. So without a list, less is admitted.
        for (issuer, old) in &self.lists {
            if let Some(update) = new.lists.get(issuer).filter(|update| *update < old) {
                let (old, new) = (file::day_of(*old), file::day_of(*update));
                losses.push(format!("the revocation list of {issuer} is older: of {old} → of {new}"));
            }
        }
    }
}

/// What the profiles `new` of a provider lack of `old`, and of the `removed` ones that come back. A provider has at most 16. A profile of a
/// new name says what it admits, unless `is_unnamed`: then the file does not name it.
pub(super) fn losses(
    old: &[ProfileStrength],
    removed: &[ProfileStrength],
    new: &[ProfileStrength],
    is_unnamed: bool,
    report: &mut dyn FnMut(String),
) {
    for profile in new {
        let of_name = |profiles: &'_ [ProfileStrength]| profiles.iter().position(|known| known.name == profile.name);
        let mut report = |loss: String| report(format!("profile {}: {loss}", profile.name));
        if let Some(known) = of_name(old).map(|at| &old[at]) {
            if known != profile {
                known.settings.losses(&profile.settings).into_iter().for_each(&mut report);
                profile.grants(old, &mut report);
            }
            continue;
        }
        if let Some(known) = of_name(removed).map(|at| &removed[at]) {
            known.settings.losses(&profile.settings).into_iter().for_each(&mut report);
            profile.grants(std::slice::from_ref(known), &mut report);
        }
        if is_unnamed {
            profile.grants(old, &mut report);
        }
    }
}

impl ProfileStrength {
    /// Its trust anchors that none of `others` has.
    pub(super) fn anchors_beside(&self, others: &[Self]) -> Vec<String> {
        let is_new = |id: &AnchorId| !others.iter().any(|other| other.anchors.contains_key(id));
        let new = self.anchors.iter().filter(|(id, _)| is_new(id));
        new.map(|(_, label)| label.clone()).collect()
    }

    /// Its identity rules that admit what no rule of `others` does.
    pub(super) fn rules_beside(&self, others: &[Self]) -> Vec<String> {
        let is_new = |rule: &&RuleStrength| {
            let mut known = others.iter().flat_map(|other| &other.rules);
            !known.any(|it| it.conditions.is_subset(&rule.conditions))
        };
        self.rules.iter().filter(|rule| is_new(rule)).map(|rule| rule.shown.clone()).collect()
    }

    /// Reports each pair of a known anchor and a known rule that no profile of `old` admits under the same demands, and each rule that has
    /// lost a condition. A new anchor and a new rule name what they admit.
    fn grants(&self, old: &[Self], report: &mut dyn FnMut(String)) {
        let settings: Vec<Vec<String>> = old.iter().map(|known| known.settings.losses(&self.settings)).collect();
        // Anchors by the profiles that have them, so that each group is compared once.
        let mut groups: BTreeMap<Vec<usize>, &String> = BTreeMap::new();
        for (id, label) in &self.anchors {
            let with: Vec<usize> =
                old.iter().enumerate().filter(|(_, known)| known.anchors.contains_key(id)).map(|(at, _)| at).collect();
            if !with.is_empty() {
                groups.entry(with).or_insert(label);
            }
        }
        for rule in &self.rules {
            let is_in = |known: &Self| known.rules.iter().any(|it| it.conditions.is_subset(&rule.conditions));
            let known_in: Vec<usize> =
                old.iter().enumerate().filter(|(_, known)| is_in(known)).map(|(at, _)| at).collect();
            if known_in.is_empty() {
                let rules = old.iter().flat_map(|known| &known.rules);
                if let Some(stricter) = rules.into_iter().find(|it| it.conditions.is_superset(&rule.conditions)) {
                    report(format!("identity {} → {}", stricter.shown, rule.shown));
                }
                continue;
            }
            for (with, label) in &groups {
                let both = || with.iter().filter(|at| known_in.contains(at));
                if both().any(|at| settings[*at].is_empty()) {
                    continue;
                }
                match both().next() {
                    Some(at) => settings[*at].iter().for_each(|loss| report(loss.clone())),
                    None => report(format!("trust anchor {label} is now combined with identity {}", rule.shown)),
                }
            }
        }
    }
}
