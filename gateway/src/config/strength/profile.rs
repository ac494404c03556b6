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

/// Most issuers whose lists are remembered, of one profile. Its files may have as many lists.
const MAXIMUM_LISTS: usize = 4096;

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
pub(super) struct RuleStrength {
    pub(super) shown: String,
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
    /// By issuer: thisUpdate of the newest list, in seconds since 1970. Also of issuers that had a list in an earlier version.
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

/// What the profiles `new` of a provider lack of its `versions`, the one in force first, then what earlier ones had. A provider has at most
/// 16 profiles. A profile of a new name says what it admits, unless `is_unnamed` says that the file does not name it.
///
/// The latest version that knows something decides about it. What none of them knows is new, and names what it admits.
pub(super) fn losses(
    versions: &[&[ProfileStrength]],
    new: &[ProfileStrength],
    is_unnamed: &dyn Fn(&ProfileStrength) -> bool,
    report: &mut dyn FnMut(String),
) {
    for profile in new {
        let mut report = |loss: String| report(format!("profile {}: {loss}", profile.name));
        let of_name = |version: &[ProfileStrength]| version.iter().position(|known| known.name == profile.name);
        let known = versions.iter().enumerate().find_map(|(at, version)| Some((at, &version[of_name(version)?])));
        let unnamed = is_unnamed(profile);
        match known {
            Some((0, known)) if known == profile => continue,
            Some((_, known)) => known.settings.losses(&profile.settings).into_iter().for_each(&mut report),
            None if !unnamed => continue,
            None => {}
        }
        // A profile that comes back is what it was, whatever others were in force meanwhile.
        let mut versions = versions.to_vec();
        if let Some((at, _)) = known.filter(|_| !unnamed) {
            versions[..=at].rotate_right(1);
        }
        profile.grants(&versions, &mut report);
    }
}

/// Whether a version that has the profiles of `newer` has all that `older` demands of profiles.
pub(super) fn covers(newer: &[&[ProfileStrength]], older: &[ProfileStrength]) -> bool {
    older.iter().all(|profile| newer.iter().copied().flatten().any(|known| known.covers(profile)))
}

/// Where a version has something: the version, and the profile in it.
type Place = (usize, usize);

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

    /// Whether this profile admits all that `older` does, under its name and no weaker demands.
    fn covers(&self, older: &Self) -> bool {
        let has_lists = match (&self.settings.revocation, &older.settings.revocation) {
            (Some(own), Some(older)) => older.lists.keys().all(|issuer| own.lists.contains_key(issuer)),
            _ => true,
        };
        self.name == older.name
            && has_lists
            && older.settings.losses(&self.settings).is_empty()
            && older.anchors.keys().all(|id| self.anchors.contains_key(id))
            && older.rules.iter().all(|rule| self.rules.contains(rule))
    }

    /// Remembers the revocation lists of `old`, an earlier version, whose issuers have none now.
    pub(super) fn remember(&mut self, old: &Self) {
        if let (Some(revocation), Some(old)) = (&mut self.settings.revocation, &old.settings.revocation) {
            for (issuer, update) in &old.lists {
                if revocation.lists.len() < MAXIMUM_LISTS {
                    revocation.lists.entry(issuer.clone()).or_insert(*update);
                }
            }
        }
    }

    /// Its identity rules that one of `others` has, too.
    pub(super) fn rules_of<'s>(&'s self, others: &'s [Self]) -> impl Iterator<Item = &'s RuleStrength> {
        self.rules.iter().filter(|rule| others.iter().any(|other| other.has_rule(rule)))
    }

    pub(super) fn has_rule(&self, rule: &RuleStrength) -> bool {
        self.rules.iter().any(|own| own.conditions == rule.conditions)
    }

    /// Reports each pair of a known anchor and a known rule that no profile of `versions` admits under the same demands, and each rule that
    /// has lost a condition. A new anchor and a new rule name what they admit.
    fn grants(&self, versions: &[&[Self]], report: &mut dyn FnMut(String)) {
        let settings: Vec<Vec<Vec<String>>> = versions
            .iter()
            .map(|version| version.iter().map(|it| it.settings.losses(&self.settings)).collect())
            .collect();
        let places = |has: &dyn Fn(&Self) -> bool| -> Vec<Place> {
            let of_version = |(at, version): (usize, &&[Self])| -> Vec<Place> {
                version.iter().enumerate().filter(|(_, known)| has(known)).map(|(of, _)| (at, of)).collect()
            };
            versions.iter().enumerate().flat_map(of_version).collect()
        };
        // Anchors by the profiles that have them, so that each group is compared once.
        let mut groups: BTreeMap<Vec<Place>, &String> = BTreeMap::new();
        for (id, label) in &self.anchors {
            let with = places(&|known| known.anchors.contains_key(id));
            if !with.is_empty() {
                groups.entry(with).or_insert(label);
            }
        }
        for rule in &self.rules {
            let known_in = places(&|known| known.rules.iter().any(|it| it.conditions.is_subset(&rule.conditions)));
            let latest = known_in.first().map_or(versions.len(), |(version, _)| *version);
            // A version that has it only with more conditions, and is later than one that has it without.
            let mut later = versions[..latest].iter().copied().flatten().flat_map(|known| &known.rules);
            if let Some(stricter) = later.find(|it| it.conditions.is_superset(&rule.conditions)) {
                report(format!("identity {} → {}", stricter.shown, rule.shown));
                continue;
            }
            if known_in.is_empty() {
                continue;
            }
            for (with, label) in &groups {
                match admitted(with, &known_in) {
                    Some(both) => {
                        let settings: Vec<_> = both.iter().map(|(version, of)| &settings[*version][*of]).collect();
                        if !settings.iter().any(|losses| losses.is_empty()) {
                            settings.into_iter().take(1).flatten().for_each(|loss| report(loss.clone()));
                        }
                    }
                    None => report(format!("trust anchor {label} is now combined with identity {}", rule.shown)),
                }
            }
        }
    }
}

/// The profiles that have both an anchor and a rule, of the latest version that knows both; `None` if it does not combine them, or no
/// version does.
fn admitted(with: &[Place], known_in: &[Place]) -> Option<Vec<Place>> {
    let versions: BTreeSet<usize> = with.iter().map(|(version, _)| *version).collect();
    let of = |places: &[Place], version| places.iter().filter(|it| it.0 == version).copied().collect::<Vec<_>>();
    for version in versions {
        let (with, known_in) = (of(with, version), of(known_in, version));
        if !known_in.is_empty() {
            let both: Vec<_> = with.into_iter().filter(|place| known_in.contains(place)).collect();
            return (!both.is_empty()).then_some(both);
        }
    }
    None
}
