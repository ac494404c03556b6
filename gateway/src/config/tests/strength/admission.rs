//! What a configuration admits, found by trying: requests with all kinds of proofs, and chains with all kinds of properties.
//!
//! Owns an answer that does not depend on `config::strength`, so that the two can be compared.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use hookgate_core::auth::testing::{ISSUER, NOW, at};
use hookgate_core::auth::{KeySet, KeySets, KeySourceId, ProofPolicy, PublishedKeys, ReplayGuard};
use hookgate_core::identity::{
    ClientCertificate, ExtendedKeyUsage, OnFailure, Profile, Provider, RefusalAnswer, RevocationScope,
};
use hookgate_core::ranges::SourceCheck;
use hookgate_core::route::{PathPattern, RouteTable};
use hookgate_filter::{Mode, Rate};
use hyper::Method;

use super::variants::{Variant, variants};
use crate::config::{Config, Feed, KeyOrigin, RangeFormat, RangeUrl};

/// What a configuration admits, a line each.
pub(super) struct Admission(BTreeSet<String>);

impl Admission {
    /// What `config` admits. The chains and places of `also` are tried as well.
    pub(super) fn of(config: &Config, also: &Config) -> Self {
        let mut admitted = Self(BTreeSet::new());
        admitted.requests(config, also);
        for provider in &config.providers {
            let twin = also.providers.iter().find(|other| other.name == provider.name);
            admitted.chains(provider, twin);
            admitted.revoked(provider, twin);
        }
        admitted.told(config);
        admitted.packets(config);
        admitted
    }

    pub(super) fn lines(self) -> BTreeSet<String> {
        self.0
    }

    fn add(&mut self, line: String) {
        self.0.insert(line);
    }

    fn requests(&mut self, config: &Config, also: &Config) {
        let table = RouteTable::new(config.routes.clone().into());
        let all = || config.routes.iter().chain(&also.routes);
        let path = |pattern: &PathPattern| match pattern {
            PathPattern::Exact(path) => path.to_string(),
            PathPattern::Prefix(prefix) => format!("{prefix}x"),
        };
        let paths: BTreeSet<String> = all().map(|route| path(&route.path)).collect();
        let methods: BTreeSet<&str> = all().flat_map(|route| &route.methods).map(Method::as_str).collect();
        for host in ["a.example", "other.example", "other.test"] {
            for path in &paths {
                for method in &methods {
                    let Ok(id) = table.find(host, path, &Method::try_from(*method).unwrap()) else { continue };
                    for provider in &table.route(id).providers {
                        let index = usize::from(provider.0);
                        let policy = config.proofs.routes[id.0].as_ref().unwrap_or(&config.proofs.providers[index]);
                        // What a peer without a certificate may send, one with a certificate of the provider may send too.
                        let peers: &[_] = match config.providers[index].client_certificate {
                            ClientCertificate::Required => &["certificate"],
                            ClientCertificate::None { .. } => &["certificate", "none"],
                        };
                        let keys = keys(policy);
                        for peer in peers {
                            let place = format!("{method} {host}{path} of {} by {peer}", config.providers[index].name);
                            variants().iter().for_each(|variant| self.request(&place, policy, &keys, variant));
                            self.keys(&place, config, policy);
                        }
                    }
                }
            }
        }
    }

    fn request(&mut self, place: &str, policy: &ProofPolicy, keys: &KeySets, variant: &Variant) {
        let guard = Arc::new(ReplayGuard::new(64));
        for copy in ["", "a copy of "] {
            let Ok(mut proven) = policy.check(&variant.request.view(), keys, &guard) else { continue };
            if let Some(reservation) = proven.take_reservation() {
                reservation.commit(at(NOW));
            }
            self.add(format!("{copy}{place} with {}", variant.shows));
        }
    }

    fn keys(&mut self, place: &str, config: &Config, policy: &ProofPolicy) {
        for id in policy.key_sources() {
            if let KeyOrigin::Url(Feed { limits, roots, .. }) = &config.proofs.key_sources[usize::from(id.0)].origin {
                if roots.is_none() {
                    self.add(format!("{place} with keys from any authority"));
                }
                if limits.max_stale.as_secs() > 60 {
                    self.add(format!("{place} with old keys"));
                }
            }
        }
    }

    fn chains(&mut self, provider: &Provider, twin: Option<&Provider>) {
        let all = || [Some(provider), twin].into_iter().flatten().flat_map(|provider| &provider.profiles);
        let anchors: BTreeSet<Vec<u8>> =
            all().flat_map(|profile| profile.trust_anchors.iter()).map(|anchor| anchor.subject.to_vec()).collect();
        let conditions = all().flat_map(|profile| &profile.identity).flat_map(|rule| rule.conditions());
        let conditions: Vec<String> =
            conditions.map(|it| format!("{it:?}")).collect::<BTreeSet<_>>().into_iter().collect();
        // Who needs no certificate may have any.
        let is_free = matches!(provider.client_certificate, ClientCertificate::None { .. });
        for anchor in &anchors {
            for bits in 0..(1_usize << conditions.len()) {
                let has = conditions.iter().enumerate().filter(|(bit, _)| bits & (1 << bit) != 0).map(|(_, it)| it);
                let has: BTreeSet<&String> = has.collect();
                for depth in 1..=3 {
                    for usage in ["other", "absent", "client"] {
                        for status in ["unknown", "end entity good", "good"] {
                            let chain = Chain { anchor, has: &has, depth, usage, status };
                            if is_free || provider.profiles.iter().any(|profile| chain.satisfies(profile)) {
                                self.add(format!("{}: {chain:?}", provider.name));
                            }
                        }
                    }
                }
            }
        }
    }

    /// Certificates that a list of a certain day is the first to revoke.
    fn revoked(&mut self, provider: &Provider, twin: Option<&Provider>) {
        let lists = |provider: &Provider| -> Vec<(String, u64)> {
            let lists = provider.profiles.iter().filter_map(|profile| profile.revocation.as_ref());
            lists.flat_map(|it| it.lists()).map(|list| (list.issuer(), list.this_update().as_secs())).collect()
        };
        for (issuer, day) in [Some(provider), twin].into_iter().flatten().flat_map(lists) {
            let admits = |profile: &Profile| {
                let Some(revocation) = &profile.revocation else { return true };
                let lists = revocation.lists().iter().filter(|list| list.issuer() == issuer);
                let newest = lists.map(|list| list.this_update().as_secs());
                newest.max().is_some_and(|newest| newest < day)
            };
            if provider.profiles.iter().any(admits) {
                self.add(format!("{}: a certificate of {issuer} that is revoked since {day}", provider.name));
            }
        }
    }

    /// What is told that was a secret.
    fn told(&mut self, config: &Config) {
        if config.log.access.path {
            self.add("paths to the log".to_owned());
        }
        for provider in &config.providers {
            let responds = provider.on_failure == OnFailure::Respond;
            if provider.client_certificate == ClientCertificate::Required && responds {
                if provider.refusal != RefusalAnswer::Terse {
                    self.add(format!("{}: what is wrong to a refused peer", provider.name));
                }
                self.add(format!("{}: the reason to a refused peer", provider.name));
            }
        }
    }

    fn packets(&mut self, config: &Config) {
        for (provider, sources) in config.providers.iter().zip(&config.sources) {
            for address in ["10.0.0.1", "192.0.2.5", "192.0.2.205", "198.51.100.1", "203.0.113.1"] {
                let address: IpAddr = address.parse().unwrap();
                if sources.check != SourceCheck::Refuse || sources.ranges.contains(address) {
                    self.add(format!("{} from {address}", provider.name));
                }
            }
        }
        for (provider, lists) in config.providers.iter().zip(&config.range_urls) {
            for RangeUrl { list, minus } in lists {
                let name = &provider.name;
                if minus.is_none() {
                    self.add(format!("{name} from the exceptions of {}", list.feed.name()));
                }
                if !matches!(list.format, RangeFormat::Pointers(_)) {
                    self.add(format!("{name} from all of {}", list.feed.name()));
                }
                if list.feed.roots.is_none() {
                    self.add(format!("{name} by a list of any server that is called {}", list.feed.name()));
                }
            }
        }
        let policy = &config.filter.policy;
        if policy.mode != Mode::Enforce {
            self.add("packets from everywhere".to_owned());
        }
        let rates = [policy.syn_limits.ipv4_address, policy.syn_limits.ipv6_network];
        for (family, rate) in ["IPv4", "IPv6"].into_iter().zip(rates) {
            if policy.mode == Mode::Off || rate == Rate::UNLIMITED {
                self.add(format!("floods by {family}"));
            }
        }
    }
}

/// The keys of [`ISSUER`], as if every source published them.
fn keys(policy: &ProofPolicy) -> KeySets {
    static SET: LazyLock<Arc<KeySet>> = LazyLock::new(|| Arc::new(KeySet::parse(ISSUER.jwks().as_bytes()).unwrap()));
    let publish = |keys: KeySets, id: KeySourceId| {
        keys.with(id, PublishedKeys { set: Arc::clone(&SET), usable_until: at(u64::MAX) })
    };
    policy.key_sources().fold(KeySets::empty(8), publish)
}

/// What is in `new` and not in `old`.
pub(super) fn newly_admitted(old: &Config, new: &Config) -> Vec<String> {
    let (before, after) = (Admission::of(old, new), Admission::of(new, old));
    after.0.difference(&before.0).cloned().collect()
}

#[derive(Debug)]
struct Chain<'c> {
    anchor: &'c [u8],
    has: &'c BTreeSet<&'c String>,
    depth: u8,
    usage: &'static str,
    status: &'static str,
}

impl Chain<'_> {
    fn satisfies(&self, profile: &Profile) -> bool {
        let usage = match profile.extended_key_usage {
            ExtendedKeyUsage::Ignore => true,
            ExtendedKeyUsage::ClientAuth => self.usage != "other",
            ExtendedKeyUsage::ClientAuthExplicit => self.usage == "client",
        };
        let status = match profile.revocation.as_ref().map(|lists| lists.scope()) {
            None => true,
            Some(RevocationScope::EndEntity) => self.status != "unknown",
            Some(RevocationScope::Chain) => self.status == "good",
        };
        let mut rules = profile.identity.iter();
        profile.trust_anchors.iter().any(|anchor| *anchor.subject == *self.anchor)
            && self.depth <= profile.verify_depth
            && usage
            && status
            && rules.any(|rule| rule.conditions().iter().all(|it| self.has.contains(&format!("{it:?}"))))
    }
}
