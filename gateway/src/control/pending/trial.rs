//! Whether the lines that are advised suffice to admit a chain.
//!
//! A chain is judged by its evidence and its names, so it may lack more than its authority: it may have ended, or not be signed by the
//! anchor that it presents. Owns the trial of a profile that nothing uses. Must not admit: its policy serves no site.

use std::sync::Arc;
use std::time::Duration;

use hookgate_core::identity::{
    ChainCache, ChainLimits, ConfiguredAnchor, Identity, Profile, Provider, ProviderId, Scope,
};
use hookgate_core::reject::Refusal;
use rustls_pki_types::UnixTime;

use super::advice::Change;
use crate::config::Config;
use crate::suspects::Pending;

/// Why the chain is refused, at `now`, by its profile with `change`. `None` if it is admitted, or if its provider has no profile.
pub(in crate::control) fn refusal(config: &Config, chain: &Pending, change: &Change, now: UnixTime) -> Option<Refusal> {
    let provider = config.providers.iter().find(|provider| provider.name == chain.provider)?;
    let of_name = provider.profiles.iter().find(|profile| profile.name == chain.profile);
    let profile = changed(of_name.or(provider.profiles.first())?.clone(), change);
    let provider = Provider { profiles: vec![profile], ..provider.clone() };
    let limits = ChainLimits {
        max_certificates: config.limits.max_presented_certificates,
        max_bytes: config.limits.max_presented_bytes,
    };
    let identity = Identity::new(1, vec![provider].into(), Arc::new(ChainCache::new(0, Duration::ZERO)), limits);
    let scope = Scope { id: 0, providers: vec![ProviderId(0)] };
    Some(identity.refusal_of_presented(&scope, &chain.certificates, now)?.refusal.refusal)
}

fn changed(mut profile: Profile, change: &Change) -> Profile {
    if let Some(certificate) = &change.anchor
        && let Ok(anchor) = ConfiguredAnchor::of(certificate, u64::MAX)
    {
        profile.trust_anchors.push(anchor);
    }
    if let Some(depth) = change.verify_depth {
        profile.verify_depth = profile.verify_depth.max(depth);
    }
    if let Some(usage) = change.extended_key_usage.filter(|usage| profile.extended_key_usage.is_stricter_than(*usage)) {
        profile.extended_key_usage = usage;
    }
    profile
}
