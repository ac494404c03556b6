//! Which profiles demand the same of a path.
//!
//! The accounts of one sender are providers with equal profiles, of which only the proofs differ. A path that failed for one of them is not
//! built again for the others. Owns that comparison, made once when the policy is. Must not compare identities: no path depends on them.

use std::collections::HashMap;

use super::provider::{Profile, Provider, ProviderId};
use super::revocation::RevocationLists;

/// The number of the demands of each profile, by provider and profile: equal demands have equal numbers.
#[derive(Debug)]
pub(super) struct PathDemands(Vec<Vec<u32>>);

impl PathDemands {
    pub(super) fn new(providers: &[Provider]) -> Self {
        let mut known: HashMap<Vec<u8>, u32> = HashMap::new();
        let mut number = |profile: &Profile| {
            let next = u32::try_from(known.len()).unwrap_or(u32::MAX);
            *known.entry(demands(profile)).or_insert(next)
        };
        Self(providers.iter().map(|provider| provider.profiles.iter().map(&mut number).collect()).collect())
    }

    /// The number of a profile; `None` if it is not of this policy.
    pub(super) fn of(&self, provider: ProviderId, profile: u16) -> Option<u32> {
        self.0.get(usize::from(provider.0))?.get(usize::from(profile)).copied()
    }
}

/// Everything that a path of this profile depends on, as bytes: each part with its length.
fn demands(profile: &Profile) -> Vec<u8> {
    let mut bytes = vec![profile.verify_depth];
    let mut add = |part: &[u8]| {
        bytes.extend(part.len().to_le_bytes());
        bytes.extend(part);
    };
    add(profile.extended_key_usage.label().as_bytes());
    for (place, anchor) in profile.trust_anchors.iter().enumerate() {
        add(&anchor.subject);
        add(&anchor.subject_public_key_info);
        add(anchor.name_constraints.as_ref().map(|constraints| constraints.as_ref()).unwrap_or_default());
        add(format!("{:?} {:?}", anchor.name_constraints.is_some(), profile.trust_anchors.anchor_use(place)).as_bytes());
    }
    if let Some(lists) = &profile.revocation {
        add(revocation(lists).as_bytes());
    }
    bytes
}

/// Lists are long, so they are the same only if they are shared: two accounts that fetch one list share it.
fn revocation(lists: &RevocationLists) -> String {
    let shared: Vec<*const u8> = lists.lists().iter().map(|list| list.der().as_ptr()).collect();
    format!("{:?} {:?} {shared:?}", lists.scope(), lists.awaited())
}
