//! Target `configuration`: the text of a configuration file.

use std::sync::Arc;

use hookgate::config::Config;
use hookgate::key_store::KeyStore;
use hookgate::snapshot::{Lasting, Snapshot};
use hookgate_core::auth::ReplayGuard;
use hookgate_core::identity::{ChainCache, PublicRoots, Sightings};

use crate::memory::{check_errors, parse};

/// Parts of paths whose files must not be read here: devices that never end, and processes.
const FORBIDDEN: [&str; 4] = ["/dev", "/proc", "/sys", "\\u"];

/// Parses the text. Either it can be served, and admits no peer without a rule, or its errors are lines for a person.
pub fn judge(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if FORBIDDEN.iter().any(|forbidden| text.contains(forbidden)) {
        return;
    }
    match parse(text, b"") {
        Ok((config, warnings)) => {
            for warning in warnings {
                assert!(!warning.to_string().contains(|letter: char| letter.is_control() && letter != '\n'));
            }
            serve(config);
        }
        Err(errors) => check_errors(&errors),
    }
}

fn serve(config: Config) {
    for profile in config.providers.iter().flat_map(|provider| &provider.profiles) {
        assert!(!profile.trust_anchors.is_empty() && !profile.identity.is_empty(), "an empty policy");
    }
    for route in &config.routes {
        assert!(!route.providers.is_empty() && !route.methods.is_empty(), "a route that admits nobody");
    }
    let lasting = Lasting {
        cache: Arc::new(ChainCache::new(0, config.limits.chain_cache_ttl)),
        keys: Arc::new(KeyStore::new(config.proofs.key_sources.len())),
        replay: Arc::new(ReplayGuard::new(1)),
        deliveries: None,
        fleet: None,
        sightings: Arc::new(Sightings::default()),
        suspects: Arc::default(),
        list_notes: Arc::default(),
        recent: Arc::default(),
        public_roots: Arc::new(PublicRoots::none()),
        challenges: Vec::new(),
    };
    if let Err(error) = Snapshot::build(config, 1, lasting) {
        panic!("a configuration without errors cannot be served: {error}");
    }
}
