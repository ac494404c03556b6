//! How much a policy demands, in terms by which two policies can be compared: a reload must not drop a demand by accident.
//!
//! Owns what makes a proof or a replay rule weaker. Pure. Holds no secret and nothing computed from one but a length up to
//! [`SECRET_BYTES`]. Must not judge a request: `proof_policy` does.
//!
//! A policy is the list of the *ways* to satisfy it, each a list of proofs. It is no weaker than another if each of its ways includes a way
//! of the other: the same proofs, at the same places, with every [`Aspect`] at least as strong. A value of which one must match (a secret, an
//! audience, an issuer) is no aspect: to add one is to name who else may send. So is an alternative of a new place, if every way of before is
//! still there. A way that was removed is remembered: if its alternative comes back, it must come back with its demands.

use std::collections::BTreeMap;
use std::fmt;

use super::proof_policy::{Clause, Proof};
use super::token_keys::KeySourceId;

/// From this length on, a longer secret is no stronger: 128 bits cannot be guessed.
pub const SECRET_BYTES: usize = 16;

/// Aspects by name. One that is absent is not demanded.
pub type Aspects = BTreeMap<String, Aspect>;

/// A property of a demand that can be weaker or stronger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Aspect {
    /// Demanded. Weaker without it.
    Demanded,
    /// A bound. Weaker if it grows.
    AtMost(u64),
    /// A strength. Weaker if it shrinks.
    AtLeast(u64),
    /// A value. Weaker if it is another.
    Exactly(String),
}

impl Aspect {
    fn is_met_by(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::AtMost(old), Self::AtMost(new)) => new <= old,
            (Self::AtLeast(old), Self::AtLeast(new)) => new >= old,
            (old, new) => old == new,
        }
    }
}

impl fmt::Display for Aspect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Demanded => formatter.write_str("demanded"),
            Self::AtMost(number) | Self::AtLeast(number) => write!(formatter, "{number}"),
            Self::Exactly(value) => formatter.write_str(value),
        }
    }
}

/// What `new` lacks of `old`, as phrases: `tolerance_s 60 → 300`, `emails is no longer demanded`.
pub fn lost(old: &Aspects, new: &Aspects) -> Vec<String> {
    let loss = |(name, old): (&String, &Aspect)| match new.get(name) {
        Some(new) if old.is_met_by(new) => None,
        Some(new) => Some(format!("{name} {old} → {new}")),
        None => Some(format!("{name} is no longer demanded")),
    };
    old.iter().filter_map(loss).collect()
}

/// One proof of a way.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ProofStrength {
    /// Kind and place, such as `signature in x-signature`.
    name: String,
    aspects: Aspects,
}

/// What a policy demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyStrength {
    /// At most [`MAXIMUM_WAYS`].
    ways: Vec<Way>,
    /// Those of earlier policies that no way of this one replaces; at most [`MAXIMUM_WAYS`].
    removed: Vec<Way>,
    replay: Aspects,
}

/// Proofs that together satisfy a policy.
type Way = Vec<ProofStrength>;

/// The most combinations of 8 proofs: two alternatives of three, and one of two.
const MAXIMUM_WAYS: usize = 18;

impl PolicyStrength {
    /// The certificate alone.
    pub(super) fn certificate_alone(replay: Aspects) -> Self {
        Self { ways: vec![Vec::new()], removed: Vec::new(), replay }
    }

    /// All of `clauses`.
    pub(super) fn all(clauses: &[Clause], replay: Aspects, keys: &KeyAspects<'_>) -> Self {
        let ways = clauses.iter().fold(vec![Vec::new()], |ways, clause| product(&ways, &clause_ways(clause, keys)));
        Self { ways, removed: Vec::new(), replay }
    }

    /// Any of `clauses`.
    pub(super) fn any(clauses: &[Clause], replay: Aspects, keys: &KeyAspects<'_>) -> Self {
        let ways = clauses.iter().flat_map(|clause| clause_ways(clause, keys)).collect();
        Self { ways, removed: Vec::new(), replay }
    }

    /// What a request no longer has to show if `new` replaces this policy, as phrases; empty if `new` is no weaker.
    #[must_use]
    pub fn lost_in(&self, new: &Self) -> Vec<String> {
        let mut phrases: Vec<String> = Vec::new();
        let remains = |old: &Way| new.ways.iter().any(|way| lost_way(old, way).is_empty());
        let all_remain = self.ways.iter().all(remains);
        let is_known = |proof: &ProofStrength| self.ways.iter().flatten().any(|known| known.name == proof.name);
        for way in &new.ways {
            let losses = if all_remain && !way.iter().all(is_known) {
                let shares = |old: &&Way| old.iter().any(|known| way.iter().any(|proof| proof.name == known.name));
                nearest(self.removed.iter().filter(shares), way)
            } else {
                nearest(self.ways.iter(), way)
            };
            phrases.extend(losses);
        }
        let copies = lost(&self.replay, &new.replay);
        phrases.extend(copies.into_iter().map(|loss| format!("replay: {loss}")));
        phrases.sort();
        phrases.dedup();
        phrases
    }

    /// Remembers the ways of `old`, which this policy replaces, that are gone.
    pub fn remember(&mut self, old: &Self) {
        let names = |way: &Way| -> Vec<String> {
            let mut names: Vec<String> = way.iter().map(|proof| proof.name.clone()).collect();
            names.sort();
            names
        };
        let mut known: Vec<Vec<String>> = self.ways.iter().map(names).collect();
        for way in old.ways.iter().chain(&old.removed) {
            let of_way = names(way);
            if self.removed.len() < MAXIMUM_WAYS && !known.contains(&of_way) {
                known.push(of_way);
                self.removed.push(way.clone());
            }
        }
    }
}

/// What `way` lacks of the one of `old` that is nearest: by the proofs that are missing, then by the aspects.
fn nearest<'w>(old: impl Iterator<Item = &'w Way>, way: &Way) -> Vec<String> {
    let absent = |old: &Way| old.iter().filter(|it| !way.iter().any(|new| new.name == it.name)).count();
    let losses = old.map(|old| (absent(old), lost_way(old, way)));
    let nearest = losses.min_by_key(|(absent, losses)| (!losses.is_empty(), *absent, losses.len()));
    nearest.map(|(_, losses)| losses).unwrap_or_default()
}

/// What the keys of a source demand of their origin.
pub type KeyAspects<'a> = dyn Fn(KeySourceId) -> Aspects + 'a;

fn product(left: &[Vec<ProofStrength>], right: &[Vec<ProofStrength>]) -> Vec<Vec<ProofStrength>> {
    left.iter().flat_map(|left| right.iter().map(move |right| [left.as_slice(), right].concat())).collect()
}

fn clause_ways(clause: &Clause, keys: &KeyAspects<'_>) -> Vec<Vec<ProofStrength>> {
    match clause {
        Clause::One(proof) => vec![vec![strength(proof, keys)]],
        Clause::All(proofs) => vec![proofs.iter().map(|proof| strength(proof, keys)).collect()],
        Clause::Any(proofs) => proofs.iter().map(|proof| vec![strength(proof, keys)]).collect(),
    }
}

fn strength(proof: &Proof, keys: &KeyAspects<'_>) -> ProofStrength {
    let (name, aspects) = match proof {
        Proof::Token(rule) => ("token".to_owned(), rule.aspects(keys)),
        Proof::SessionParameter(parameter) => parameter.strength(keys),
        Proof::Signature(signature) => signature.strength(keys),
        Proof::Secret(secret) => secret.strength(),
        Proof::Basic(credentials) => credentials.strength(),
    };
    ProofStrength { name, aspects }
}

/// What the way `new` lacks of `old`. Each proof of `new` stands for one of `old`.
fn lost_way(old: &[ProofStrength], new: &[ProofStrength]) -> Vec<String> {
    if includes(old, new, &mut vec![false; new.len()]) {
        return Vec::new();
    }
    let mut taken = vec![false; new.len()];
    let mut take = |wanted: &ProofStrength, whole: bool| {
        let fits = |found: &ProofStrength| {
            found.name == wanted.name && (!whole || lost(&wanted.aspects, &found.aspects).is_empty())
        };
        let place = new.iter().enumerate().position(|(place, found)| !taken[place] && fits(found))?;
        taken[place] = true;
        Some(&new[place])
    };
    let rest: Vec<&ProofStrength> = old.iter().filter(|wanted| take(wanted, true).is_none()).collect();
    let loss = |wanted: &ProofStrength| match take(wanted, false) {
        Some(found) => {
            let losses = lost(&wanted.aspects, &found.aspects);
            losses.into_iter().map(|loss| format!("{}: {loss}", wanted.name)).collect()
        }
        None => vec![format!("{} is no longer demanded", wanted.name)],
    };
    rest.into_iter().flat_map(loss).collect()
}

/// Whether each proof of `old` has another one of `new` that is no weaker. At most 8 proofs, so the search is short.
fn includes(old: &[ProofStrength], new: &[ProofStrength], taken: &mut Vec<bool>) -> bool {
    let Some((first, rest)) = old.split_first() else { return true };
    for (place, found) in new.iter().enumerate() {
        let fits = !taken[place] && found.name == first.name && lost(&first.aspects, &found.aspects).is_empty();
        if fits {
            taken[place] = true;
            if includes(rest, new, taken) {
                return true;
            }
            taken[place] = false;
        }
    }
    false
}

#[cfg(test)]
mod tests;
