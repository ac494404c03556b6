//! What a configuration admits, found by trying: requests with all kinds of proofs, and chains with all kinds of properties.
//!
//! Owns an answer that does not depend on `config::strength`, so that the two can be compared.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use hookgate_core::auth::testing::{NOW, Request, at};
use hookgate_core::auth::{KeySets, ProofPolicy, ReplayGuard};
use hookgate_core::identity::{ExtendedKeyUsage, Profile, Provider, RevocationScope};
use hookgate_core::ranges::SourceCheck;
use hookgate_core::route::RouteTable;
use hookgate_filter::{Mode, Rate};
use hyper::Method;
use ring::hmac;

use crate::config::{Config, KeyOrigin, RangeFormat, RangeUrl};

/// What a configuration admits, a line each.
pub(super) struct Admission(BTreeSet<String>);

/// Fields of a request, and what they show.
struct Variant {
    shows: &'static str,
    fields: Vec<(&'static str, String)>,
}

const BODY: &str = "{}";

fn sign(secret: &str, message: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    data_encoding::HEXLOWER.encode(hmac::sign(&key, message.as_bytes()).as_ref())
}

fn variants() -> Vec<Variant> {
    let (sender, partner) = ("a secret of the sender", "a secret of the partner");
    let dated = |time: u64| vec![("x-a", sign(sender, &format!("{time}.{BODY}"))), ("x-time", time.to_string())];
    let plain = |name, secret| vec![(name, sign(secret, BODY))];
    let proofs = [
        ("nothing", Vec::new()),
        ("x-a", plain("x-a", sender)),
        ("x-b", plain("x-b", sender)),
        ("x-a and x-b", [plain("x-a", sender), plain("x-b", sender)].concat()),
        ("x-b of the partner", plain("x-b", partner)),
        ("x-a with the time", dated(NOW)),
        ("x-a with an old time", dated(NOW - 120)),
        ("x-a with an older time", dated(NOW - 1000)),
    ];
    let with_id = |(shows, mut fields): (&'static str, Vec<(&'static str, String)>)| {
        fields.push(("x-id", "1".to_owned()));
        Variant { shows, fields }
    };
    let without_id = |(_, fields)| Variant { shows: "no id", fields };
    proofs.iter().cloned().map(with_id).chain(proofs.iter().cloned().map(without_id)).collect()
}

impl Admission {
    /// What `config` admits. `also` is a configuration whose chains are tried as well.
    pub(super) fn of(config: &Config, also: &Config) -> Self {
        let mut admitted = Self(BTreeSet::new());
        admitted.requests(config);
        for provider in &config.providers {
            let twin = also.providers.iter().find(|other| other.name == provider.name);
            admitted.chains(provider, twin);
        }
        admitted.packets(config);
        admitted
    }

    fn add(&mut self, line: String) {
        self.0.insert(line);
    }

    fn requests(&mut self, config: &Config) {
        let table = RouteTable::new(config.routes.clone().into());
        let variants = variants();
        for host in ["a.example", "other.example"] {
            for path in ["/admin", "/partner/x", "/x"] {
                for method in [Method::GET, Method::PUT, Method::POST] {
                    let Ok(id) = table.find(host, path, &method) else { continue };
                    for provider in &table.route(id).providers {
                        let index = usize::from(provider.0);
                        let policy = config.proofs.routes[id.0].as_ref().unwrap_or(&config.proofs.providers[index]);
                        let place = format!("{method} {host}{path} of {}", config.providers[index].name);
                        variants.iter().for_each(|variant| self.request(&place, policy, variant));
                        self.keys(&place, config, policy);
                    }
                }
            }
        }
    }

    fn request(&mut self, place: &str, policy: &ProofPolicy, variant: &Variant) {
        let fields: Vec<_> = variant.fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let request = Request::new(&fields, BODY);
        let (keys, guard) = (KeySets::empty(8), Arc::new(ReplayGuard::new(64)));
        for copy in ["", "a copy of "] {
            let Ok(mut proven) = policy.check(&request.view(), &keys, &guard) else { continue };
            if let Some(reservation) = proven.take_reservation() {
                reservation.commit(at(NOW));
            }
            self.add(format!("{copy}{place} with {}", variant.shows));
        }
    }

    fn keys(&mut self, place: &str, config: &Config, policy: &ProofPolicy) {
        for id in policy.key_sources() {
            if let KeyOrigin::Url { limits, roots, .. } = &config.proofs.key_sources[usize::from(id.0)].origin {
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
            all().flat_map(|profile| &profile.trust_anchors).map(|anchor| anchor.subject.to_vec()).collect();
        let conditions = all().flat_map(|profile| &profile.identity).flat_map(|rule| rule.conditions());
        let conditions: Vec<String> =
            conditions.map(|it| format!("{it:?}")).collect::<BTreeSet<_>>().into_iter().collect();
        for anchor in &anchors {
            for bits in 0..(1_usize << conditions.len()) {
                let has = conditions.iter().enumerate().filter(|(bit, _)| bits & (1 << bit) != 0).map(|(_, it)| it);
                let has: BTreeSet<&String> = has.collect();
                for depth in 1..=3 {
                    for usage in ["other", "absent", "client"] {
                        for status in ["unknown", "end entity good", "good"] {
                            let chain = Chain { anchor, has: &has, depth, usage, status };
                            if provider.profiles.iter().any(|profile| chain.satisfies(profile)) {
                                self.add(format!("{}: {chain:?}", provider.name));
                            }
                        }
                    }
                }
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
                    self.add(format!("{name} from the exceptions of {}", list.name()));
                }
                if !matches!(list.format, RangeFormat::Pointers(_)) {
                    self.add(format!("{name} from all of {}", list.name()));
                }
                if list.roots.is_none() {
                    self.add(format!("{name} by a list of any server that is called {}", list.name()));
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
