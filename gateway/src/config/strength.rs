//! How much a configuration demands of senders, so that a reload never demands less by accident, as after a copy that stopped half-way.
//!
//! Owns what *weaker* means, the comparison of two configurations, and the permission that lets one weaker configuration in. Pure: must
//! not read a file or a clock. Holds no secret.
//!
//! A configuration is weaker than the one in force if a demand on a provider or route that both have is no longer made, or if requests
//! fall to a route that asks less. What names something new is not weaker: a provider, profile, trust anchor, identity rule, route, secret
//! or range that is added admits what it names. What is removed as a whole admits less.
//!
//! A file that is written slowly can lose a part in one reload, and get it back without its last lines in the next. So what a reload takes
//! away is remembered with its demands, bounded, also if it is a part of something that stays: identity rules and trust anchors, revocation
//! lists, ranges that were left out, proofs of routes and providers, the preset that was in use.

mod loss;
mod preset;
mod profile;
mod provider;
mod ranges;
mod route;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use data_encoding::HEXLOWER;
use ipnet::IpNet;
use ring::digest;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub use self::loss::{About, Loss};
use self::preset::PresetStrength;
use self::provider::{Parts, ProviderStrength};
use self::ranges::RangeStrength;
use self::route::{RouteStrength, Routes};
use super::durable::Durable;
use super::error::Problem;
use super::filter::FilterSection;
use super::key_source::{KeyOrigin, KeySource};
use super::log::LogSection;
use super::preset::Preset;
use super::proof::Proofs;
use super::ranges::ProviderRanges;
use super::report::Report;
use super::tls::TlsSection;
use hookgate_core::auth::strength::{Aspect, Aspects};
use hookgate_core::auth::{KeySourceId, PolicyStrength};
use hookgate_core::identity::Provider;
use hookgate_core::ranges::{Ranges, Sources};
use hookgate_core::route::Route;
use hookgate_filter::{Mode, Rate};

/// Most removed providers, and most removed routes, whose demands are remembered. As many routes as a file may have.
const MAXIMUM_REMOVED: usize = 4096;

/// Bytes of a digest that a permission shows. It is no secret: it tells one change from another.
const PERMISSION_BYTES: usize = 8;

/// What a configuration demands.
#[derive(Clone, Debug, Default)]
pub struct Strength {
    /// `accept_weaker`
    permission: Option<String>,
    providers: BTreeMap<Arc<str>, ProviderStrength>,
    routes: Vec<RouteStrength>,
    proxies: ProxyStrength,
    filter: FilterStrength,
    log: LogStrength,
    tls: TlsStrength,
    removed: Removed,
}

/// What earlier configurations demanded, and this one does not have.
#[derive(Clone, Debug, Default)]
struct Removed {
    providers: BTreeMap<Arc<str>, ProviderStrength>,
    routes: Vec<RouteStrength>,
}

/// Which sources have no other address than their own.
#[derive(Clone, Debug, Default)]
struct ProxyStrength {
    /// The others.
    from: Ranges,
}

/// What the filter demands, if it is on.
#[derive(Clone, Debug, Default)]
struct FilterStrength {
    enforces: bool,
    /// The names of the rates that it has.
    rates: BTreeSet<&'static str>,
    /// The keys that say which sources it drops in any case.
    deny: BTreeSet<&'static str>,
}

/// What the log keeps to itself.
#[derive(Clone, Copy, Debug, Default)]
struct LogStrength {
    /// `path = false`: a path can have a secret in it.
    hides_paths: bool,
}

/// With what handshakes are not made.
#[derive(Clone, Debug, Default)]
struct TlsStrength {
    /// The versions in which a handshake can succeed, and whether a key exchange that a quantum computer opens later can, in the words of the
    /// losses.
    accepted: BTreeSet<String>,
}

/// Whether a configuration may replace the one in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// It demands no less.
    NotWeaker,
    /// It demands less, as it says on purpose.
    Permitted {
        /// What it no longer demands, a line each.
        losses: Vec<Loss>,
    },
    /// It demands less, and does not say so.
    Refused {
        /// What it no longer demands, a line each.
        losses: Vec<Loss>,
        /// The value of `accept_weaker` that permits exactly this change.
        permission: String,
        /// What the file permits instead.
        written: WrittenPermission,
    },
}

/// `accept_weaker` of a configuration that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrittenPermission {
    /// It is not written.
    Nothing,
    /// It is that of this change, but the configuration in force has it too.
    Used,
    /// It is that of another change.
    OfAnother,
}

/// What a document was parsed into. Elements of arrays of tables are in the order of the file.
pub(super) struct Parsed<'c> {
    pub(super) root: &'c DeTable<'c>,
    /// `accept_weaker`
    pub(super) permission: Option<&'c str>,
    /// The ranges of `proxy_protocol`.
    pub(super) proxies: &'c [IpNet],
    pub(super) providers: &'c [Provider],
    pub(super) sources: &'c [Sources],
    /// In the order of `providers`, as `sources`.
    pub(super) ranges: &'c [ProviderRanges],
    pub(super) routes: &'c [Route],
    /// By the index of the route.
    pub(super) durable: &'c [Option<Arc<Durable>>],
    pub(super) proofs: &'c Proofs,
    pub(super) filter: &'c FilterSection,
    pub(super) log: &'c LogSection,
    pub(super) tls: &'c TlsSection,
    /// In the order of `providers`.
    pub(super) presets: &'c [Option<&'c Preset>],
    /// By the index of the provider: the ids of certificates that its lists of trust anchors have below an anchor.
    pub(super) subordinates: &'c [(usize, [u8; 32])],
}

impl Strength {
    /// The strength of a configuration without errors.
    pub(super) fn new(parsed: &Parsed<'_>) -> Self {
        let Parsed { root, permission, providers, sources, ranges, routes, proofs, subordinates, .. } = *parsed;
        let keys = |id: KeySourceId| proofs.key_sources.get(usize::from(id.0)).map(key_aspects).unwrap_or_default();
        let strengths = providers.iter().enumerate().filter_map(|(index, provider)| {
            let (source, policy) = (sources.get(index)?, proofs.providers.get(index)?.strength(&keys));
            let subordinates = subordinates.iter().filter(|(of, _)| *of == index).map(|(_, id)| *id).collect();
            let table = element(root, "provider", index);
            let ranges = RangeStrength::new(table, &ranges.get(index)?.files, &source.ranges);
            let preset = parsed.presets.get(index).copied().flatten().map(PresetStrength::new);
            let parts = Parts { check: source.check, ranges, policy, subordinates, preset, table };
            Some((Arc::clone(&provider.name), ProviderStrength::new(provider, parts)))
        });
        let routes = routes.iter().enumerate().map(|(index, route)| {
            let own = proofs.routes.get(index).and_then(Option::as_ref).map(|policy| policy.strength(&keys));
            let admitted = route.providers.iter().filter_map(|id| providers.get(usize::from(id.0)));
            let admitted = admitted.map(|provider| Arc::clone(&provider.name)).collect();
            let methods_are_written = element(root, "route", index).is_some_and(|table| table.contains_key("methods"));
            let durable = parsed.durable.get(index).and_then(Option::as_ref);
            RouteStrength::new(route, durable, methods_are_written, admitted, own)
        });
        Self {
            permission: permission.map(str::to_owned),
            providers: strengths.collect(),
            routes: routes.collect(),
            proxies: ProxyStrength { from: Ranges::new(parsed.proxies) },
            filter: FilterStrength::new(parsed.filter, root),
            log: LogStrength { hides_paths: !parsed.log.access.path },
            tls: TlsStrength::new(parsed.tls),
            removed: Removed::default(),
        }
    }

    /// Notes which revocation lists are in force, beside those that files had: `providers` are those of this configuration, with the lists that
    /// were fetched.
    pub fn note_lists(&mut self, providers: &[Provider]) {
        for provider in providers {
            if let Some(strength) = self.providers.get_mut(&provider.name) {
                strength.note_lists(&provider.profiles);
            }
        }
    }

    /// Compares `next`, which would replace this configuration, with it.
    pub fn compare(&self, next: &Self) -> Comparison {
        let losses: Vec<Loss> = self.losses(next).into_iter().collect();
        if losses.is_empty() {
            return Comparison::NotWeaker;
        }
        let permission = permission(&losses);
        // The line counts once: if it stays in the file, it does not permit the same accident later.
        let has_it = |strength: &Self| strength.permission.as_ref() == Some(&permission);
        let written = match &next.permission {
            Some(_) if has_it(next) && !has_it(self) => return Comparison::Permitted { losses },
            Some(_) if has_it(next) => WrittenPermission::Used,
            Some(_) => WrittenPermission::OfAnother,
            None => WrittenPermission::Nothing,
        };
        Comparison::Refused { losses, permission, written }
    }

    /// Whether the file has a permission.
    pub fn has_permission(&self) -> bool {
        self.permission.is_some()
    }

    /// This configuration after it has replaced `old`: it remembers what `old` demanded of what is gone.
    #[must_use]
    pub fn after(mut self, old: Self) -> Self {
        let mut removed = old.removed;
        removed.providers.extend(old.providers);
        let in_use: BTreeSet<Arc<str>> = self.providers.keys().filter(|name| self.uses_policy(name)).cloned().collect();
        for (name, provider) in &mut self.providers {
            if let Some(old) = removed.providers.remove(name) {
                provider.remember(old, in_use.contains(name));
            }
        }
        while removed.providers.len() > MAXIMUM_REMOVED {
            removed.providers.pop_last();
        }
        removed.routes.extend(old.routes);
        let latest: BTreeMap<_, _> = removed.routes.iter().map(|route| (route.place(), route)).collect();
        for route in &mut self.routes {
            if let Some(old) = latest.get(&route.place()) {
                route.remember(old);
            }
        }
        // The latest demands of a route count.
        let mut places: BTreeSet<_> = self.routes.iter().map(RouteStrength::place).collect();
        removed.routes.reverse();
        removed.routes.retain(|gone| places.insert(gone.place()));
        removed.routes.truncate(MAXIMUM_REMOVED);
        removed.routes.reverse();
        self.removed = removed;
        self
    }

    fn losses(&self, next: &Self) -> BTreeSet<Loss> {
        let mut losses = self.filter.losses(&next.filter);
        losses.extend(self.proxies.losses(&next.proxies));
        for (name, new) in &next.providers {
            let Some(old) = self.provider(name) else { continue };
            let mut report = |loss: String| {
                losses.insert(Loss::of_provider(name, &loss));
            };
            old.losses(new, &mut report);
            // Without its header, the lists and identities of a provider stand below the provider before it.
            for (of, other) in self.providers.iter().chain(&self.removed.providers).filter(|(of, _)| *of != name) {
                let now = next.providers.get(of);
                other.losses_of_lists_taken_over(of, now, (old, new), &mut report);
                other.identities_taken_over(now, (old, new), &mut |identity| {
                    report(format!("identity {identity} was one of provider {of}"));
                });
            }
            if next.uses_policy(name) {
                let lost = old.demanded_policy().lost_in(new.demanded_policy());
                losses.extend(lost.iter().map(|loss| Loss::of_provider(name, loss)));
            }
        }
        if self.log.hides_paths && !next.log.hides_paths {
            losses.insert(Loss::of_log(&"path is no longer false"));
        }
        let accepted = next.tls.accepted.difference(&self.tls.accepted);
        losses.extend(accepted.map(|accepted| Loss::of_tls(&format!("{accepted} is accepted again"))));
        let in_force = Routes { routes: &self.routes, policy: &|name| self.policy(name) };
        let removed = Routes { routes: &self.removed.routes, policy: &|name| self.policy(name) };
        let new = Routes { routes: &next.routes, policy: &|name| next.policy(name) };
        let mut report = |loss| {
            losses.insert(loss);
        };
        route::losses(&in_force, &new, &self.removed.routes, &|_| true, &mut report);
        if !self.removed.routes.is_empty() {
            let places: BTreeSet<_> = self.routes.iter().map(RouteStrength::place).collect();
            route::losses(&removed, &new, &self.routes, &|route| !places.contains(&route.place()), &mut report);
        }
        losses
    }

    /// The provider of this name, in force or removed.
    fn provider(&self, name: &str) -> Option<&ProviderStrength> {
        self.providers.get(name).or_else(|| self.removed.providers.get(name))
    }

    fn policy(&self, name: &str) -> Option<&PolicyStrength> {
        self.provider(name).map(ProviderStrength::demanded_policy)
    }

    /// Whether the policy of a provider counts: not if each of its routes has its own.
    fn uses_policy(&self, provider: &str) -> bool {
        let mut routes = self.routes.iter().filter(|route| route.admits(provider)).peekable();
        routes.peek().is_none() || routes.any(|route| !route.has_policy())
    }
}

impl ProxyStrength {
    /// Without a proxy, the kernel vouches for an address; a source that is added names any. One that is taken out has its own again.
    fn losses(&self, next: &Self) -> impl Iterator<Item = Loss> {
        let added = next.from.minus(&self.from).into_iter();
        added.map(|range| Loss::of_listen(&format!("proxy_protocol: {range} may name any address as its peer's")))
    }
}

impl FilterStrength {
    fn new(section: &FilterSection, root: &DeTable<'_>) -> Self {
        let policy = &section.policy;
        let (address, network) = (policy.syn_limits.ipv4_address, policy.syn_limits.ipv4_network);
        let rates = [
            ("syn_ipv4_address", address),
            ("syn_ipv4_network", network),
            ("syn_ipv6_network", policy.syn_limits.ipv6_network),
        ];
        let limited = rates.into_iter().filter(|(_, rate)| policy.mode != Mode::Off && *rate != Rate::UNLIMITED);
        let has = |key: &&str| matches!(root.get("filter").map(Spanned::get_ref), Some(DeValue::Table(table)) if table.contains_key(*key));
        let deny = ["deny", "deny_files"].into_iter().filter(has).collect();
        Self { enforces: policy.mode == Mode::Enforce, rates: limited.map(|(name, _)| name).collect(), deny }
    }

    fn losses(&self, next: &Self) -> BTreeSet<Loss> {
        let mut losses = BTreeSet::new();
        if self.enforces && !next.enforces {
            losses.insert(Loss::of_filter(&"mode is no longer \"enforce\""));
        } else {
            let lost = self.rates.difference(&next.rates);
            losses.extend(lost.map(|rate| Loss::of_filter(&format!("{rate} is no longer limited"))));
            if self.enforces {
                let denied = self.deny.difference(&next.deny);
                losses.extend(denied.map(|key| Loss::of_filter(&format!("{key} no longer denies sources"))));
            }
        }
        losses
    }
}

impl TlsStrength {
    fn new(section: &TlsSection) -> Self {
        let versions = section.versions().into_iter().map(|version| format!("TLS {}", version.number()));
        let classical = section.has_classical_group().then(|| "key exchange without ML-KEM".to_owned());
        Self { accepted: versions.chain(classical).collect() }
    }
}

/// What the keys of a source demand of their origin. A file of this host is trusted as it is.
fn key_aspects(source: &KeySource) -> Aspects {
    let (has_roots, max_stale) = match &source.origin {
        KeyOrigin::Url(feed) => (feed.roots.is_some(), feed.limits.max_stale.as_secs()),
        KeyOrigin::File(_) => (true, 0),
    };
    let mut aspects = Aspects::from([
        ("key_source".to_owned(), Aspect::Exactly(source.name.to_string())),
        ("max_stale_s".to_owned(), Aspect::AtMost(max_stale)),
    ]);
    if has_roots {
        aspects.insert("ca_file".to_owned(), Aspect::Demanded);
    }
    aspects
}

/// The table of an array of tables.
fn element<'t>(root: &'t DeTable<'t>, section: &str, index: usize) -> Option<&'t DeTable<'t>> {
    let DeValue::Array(elements) = root.get(section)?.get_ref() else { return None };
    match elements.get(index)?.get_ref() {
        DeValue::Table(table) => Some(table),
        _ => None,
    }
}

/// Reports a value of `accept_weaker` that cannot be one: it is the hexadecimal of [`PERMISSION_BYTES`].
pub(super) fn check_permission(written: Option<&Spanned<String>>, report: &mut Report<'_>) {
    let is_one = |text: &str| HEXLOWER.decode(text.as_bytes()).is_ok_and(|bytes| bytes.len() == PERMISSION_BYTES);
    if let Some(written) = written.filter(|written| !is_one(written.get_ref())) {
        report.error(written, Problem::NoPermission);
    }
}

/// What `accept_weaker` must say: a digest of the losses, which name the old and the new values.
fn permission(losses: &[Loss]) -> String {
    let sentences: Vec<&str> = losses.iter().map(Loss::text).collect();
    let digest = digest::digest(&digest::SHA256, sentences.join("\n").as_bytes());
    HEXLOWER.encode(digest.as_ref().get(..PERMISSION_BYTES).unwrap_or_default())
}
