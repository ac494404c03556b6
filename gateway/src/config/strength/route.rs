//! What the routes demand of requests.
//!
//! Owns the comparison of two route tables: which route a request had, which one it gets, and whether the second asks less. Must not serve
//! a request: `hookgate_core::route` finds its route.
//!
//! Every place that a pattern of either table names is looked up in both: the most specific pattern decides, so these places stand for all
//! requests.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use hyper::Method;

use super::loss::Loss;
use crate::config::durable::{Durable, OrderBy};
use hookgate_core::auth::PolicyStrength;
use hookgate_core::route::{Handlers, HostPattern, PathPattern, Route, domain_of};

/// Ends a path that only prefixes match: no path of a route has a control character.
const BELOW: &str = "\u{7f}";

/// What a route demands.
#[derive(Clone, Debug)]
pub(super) struct RouteStrength {
    name: Arc<str>,
    host: HostPattern,
    path: PathPattern,
    methods: Vec<Method>,
    /// Whether `methods` is in the file; otherwise they are the default.
    methods_are_written: bool,
    /// `None` if hookgate answers everyone: such a route demands nothing.
    handlers: Option<Handlers>,
    /// How its deliveries are stored before they are answered, if they are.
    durable: Option<Arc<Durable>>,
    /// The names of the providers.
    admitted: BTreeSet<Arc<str>>,
    /// Its own policy; `None` if those of the providers count.
    policy: Option<PolicyStrength>,
    /// Its own policy of an earlier version, if it has none now.
    earlier: Option<PolicyStrength>,
}

/// A route table, and the policies of its providers.
pub(super) struct Routes<'s> {
    pub(super) routes: &'s [RouteStrength],
    pub(super) policy: &'s dyn Fn(&str) -> Option<&'s PolicyStrength>,
}

impl RouteStrength {
    pub(super) fn new(
        route: &Route,
        durable: Option<&Arc<Durable>>,
        methods_are_written: bool,
        admitted: BTreeSet<Arc<str>>,
        policy: Option<PolicyStrength>,
    ) -> Self {
        Self {
            name: Arc::clone(&route.name),
            host: route.host.clone(),
            path: route.path.clone(),
            methods: route.methods.clone(),
            methods_are_written,
            handlers: route.handlers().cloned(),
            durable: durable.cloned(),
            admitted,
            policy,
            earlier: None,
        }
    }

    pub(super) fn admits(&self, provider: &str) -> bool {
        self.admitted.contains(provider)
    }

    pub(super) fn has_policy(&self) -> bool {
        self.policy.is_some()
    }

    /// Host, path and methods: two routes of one configuration differ in it.
    pub(super) fn place(&self) -> (HostPattern, String, Vec<String>) {
        let methods = self.methods.iter().map(ToString::to_string).collect();
        (self.host.clone(), format!("{:?}", self.path), methods)
    }

    /// Remembers the alternative proofs of `old`, which this version replaces.
    pub(super) fn remember(&mut self, old: &Self) {
        let of_old = old.policy.as_ref().or(old.earlier.as_ref());
        match (&mut self.policy, of_old) {
            (Some(policy), Some(old)) => policy.remember(old),
            (None, old) => self.earlier = old.cloned(),
            (Some(_), None) => {}
        }
    }

    /// What `policy`, which a provider of this route demands, is with the alternatives that the route had.
    fn with_earlier<'p>(&self, policy: &'p PolicyStrength) -> Cow<'p, PolicyStrength> {
        match &self.earlier {
            Some(earlier) => {
                let mut policy = policy.clone();
                policy.remember(earlier);
                Cow::Owned(policy)
            }
            None => Cow::Borrowed(policy),
        }
    }

    /// Whether its path is exact, and its path or prefix.
    fn pattern(&self) -> (bool, &str) {
        match &self.path {
            PathPattern::Exact(path) => (true, path),
            PathPattern::Prefix(prefix) => (false, prefix),
        }
    }

    /// A path that this route takes, and no route with a longer pattern.
    fn witness(&self) -> String {
        match &self.path {
            PathPattern::Exact(path) => path.to_string(),
            PathPattern::Prefix(prefix) => format!("{prefix}{BELOW}"),
        }
    }

    /// Whether a request of both can get to the same handler, or hookgate answers both. A list may have changed.
    fn shares_a_handler(&self, other: &Self) -> bool {
        match (&self.handlers, &other.handlers) {
            (Some(one), Some(other)) => one.meets(other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }

    fn shares_a_method(&self, other: &Self) -> bool {
        self.methods.iter().any(|method| other.methods.contains(method))
    }
}

impl<'s> Routes<'s> {
    /// What `route` demands of `provider`.
    fn policy(&self, route: &'s RouteStrength, provider: &str) -> Option<&'s PolicyStrength> {
        route.policy.as_ref().or_else(|| (self.policy)(provider))
    }
}

/// The earlier version of each new route, by the address of the new one.
type Versions<'o> = HashMap<*const RouteStrength, &'o RouteStrength>;

/// Finds them: a route of the same name and a common method, or for the same requests; then one of the same name; then the one that the new
/// route would be without its host. Names that the file does not give can be equal, so each old route is taken once.
fn versions<'r>(old: &'r [RouteStrength], new: &'r [RouteStrength]) -> Versions<'r> {
    let by_name = index(old, |route| &*route.name);
    let by_path = index(old, RouteStrength::pattern);
    let of_name = |route: &'r RouteStrength| by_name.get(&*route.name).map_or(&[][..], Vec::as_slice);
    let of_path = |route: &'r RouteStrength| by_path.get(&route.pattern()).map_or(&[][..], Vec::as_slice);
    let mut found = Versions::new();
    let mut taken: HashSet<*const RouteStrength> = HashSet::new();
    for pass in 0..4 {
        for route in new {
            if found.contains_key(&std::ptr::from_ref(route)) {
                continue;
            }
            let candidates = if pass % 2 == 0 { of_name(route) } else { of_path(route) };
            let fits = |before: &RouteStrength| match pass {
                0 => before.shares_a_method(route),
                1 => before.host == route.host && before.shares_a_method(route),
                2 => true,
                _ => route.host == HostPattern::Every && before.shares_a_handler(route),
            };
            let mut free = candidates.iter().filter(|before| !taken.contains(&std::ptr::from_ref(**before)));
            if let Some(before) = free.find(|before| fits(before)) {
                taken.insert(std::ptr::from_ref(*before));
                found.insert(std::ptr::from_ref(route), before);
            }
        }
    }
    found
}

fn index<'r, K: Eq + Hash>(
    routes: &'r [RouteStrength],
    key: impl Fn(&'r RouteStrength) -> K,
) -> HashMap<K, Vec<&'r RouteStrength>> {
    let mut index: HashMap<K, Vec<_>> = HashMap::new();
    for route in routes {
        index.entry(key(route)).or_default().push(route);
    }
    index
}

/// Hosts, of which one stands for all that the same patterns match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Host<'s> {
    /// This one.
    Exact(&'s str),
    /// One of a wildcard that no route names itself. The value is the domain.
    Below(&'s str),
    /// One that no pattern but that of every host matches.
    Other,
}

impl<'s> Host<'s> {
    fn of(pattern: &'s HostPattern) -> Self {
        match pattern {
            HostPattern::Exact(host) => Self::Exact(host),
            HostPattern::Wildcard(text) => Self::Below(text.trim_start_matches("*.")),
            HostPattern::Every => Self::Other,
        }
    }

    /// The patterns that match it, the most specific first.
    fn patterns(self) -> impl Iterator<Item = Self> {
        let wildcard = match self {
            Self::Exact(host) => domain_of(host).map(Self::Below),
            Self::Below(_) | Self::Other => None,
        };
        let every = (self != Self::Other).then_some(Self::Other);
        [self].into_iter().chain(wildcard).chain(every)
    }
}

/// Routes by place.
struct Table<'s>(HashMap<(Host<'s>, bool, &'s str), Vec<&'s RouteStrength>>);

impl<'s> Table<'s> {
    fn new(routes: &'s [RouteStrength]) -> Self {
        Self(index(routes, |route| {
            let (is_exact, path) = route.pattern();
            (Host::of(&route.host), is_exact, path)
        }))
    }

    /// As [`hookgate_core::route::RouteTable::find`].
    fn find(&self, host: Host<'_>, path: &str, method: &Method) -> Option<&'s RouteStrength> {
        host.patterns().flat_map(|host| places(path).map(move |(is_exact, path)| (host, is_exact, path))).find_map(
            |place| {
                let routes = self.0.get(&place)?;
                routes.iter().find(|route| route.methods.contains(method)).copied()
            },
        )
    }
}

/// The patterns that match a path, the most specific first: the exact one, then prefixes.
fn places(path: &str) -> impl Iterator<Item = (bool, &str)> {
    let prefixes = path.rmatch_indices('/').map(|(at, _)| (false, &path[..=at]));
    [(true, path)].into_iter().chain(prefixes)
}

/// What stands for all requests: a host, a path and a method each.
fn cells<'s>(old: &'s [RouteStrength], new: &'s [RouteStrength]) -> BTreeSet<(Host<'s>, String, &'s str)> {
    let mut hosts: HashMap<(bool, &str), BTreeSet<Host<'s>>> = HashMap::new();
    for route in old.iter().chain(new) {
        hosts.entry(route.pattern()).or_default().insert(Host::of(&route.host));
    }
    let mut cells = BTreeSet::new();
    for route in old.iter().chain(new) {
        let path = route.witness();
        // A route of a more specific host comes before one of this host, however short its prefix is.
        let own = Host::of(&route.host);
        let others = places(&path).filter_map(|place| hosts.get(&place)).flatten().copied();
        let narrower = others.filter(|host| host.patterns().any(|pattern| pattern == own));
        for host in narrower.chain([own]).collect::<BTreeSet<_>>() {
            cells.extend(route.methods.iter().map(|method| (host, path.clone(), method.as_str())));
        }
    }
    cells
}

/// What the routes of `new` that `counts` selects lack of `old`. Those of `others` are known, too.
pub(super) fn losses(
    old: &Routes<'_>,
    new: &Routes<'_>,
    others: &[RouteStrength],
    counts: &dyn Fn(&RouteStrength) -> bool,
    report: &mut dyn FnMut(Loss),
) {
    let known = versions(others, new.routes);
    let versions = versions(old.routes, new.routes);
    for route in new.routes.iter().filter(|route| counts(route)) {
        if let Some(before) = versions.get(&std::ptr::from_ref(route)) {
            lost_bounds(before, route, report);
        }
    }
    for (before, after) in pairs(old.routes, new.routes).into_iter().filter(|(_, after)| counts(after)) {
        let version = versions.get(&std::ptr::from_ref(after));
        let is_same = version.is_some_and(|version| std::ptr::eq(*version, before));
        compare(old, new, before, after, is_same, report);
        // A new route says whom it admits. Another one gets requests that were not its own.
        if before.handlers.is_some()
            && !is_same
            && (version.is_some() || known.contains_key(&std::ptr::from_ref(after)))
        {
            for provider in after.admitted.difference(&before.admitted) {
                let (before, after) = (&before.name, &after.name);
                let text =
                    format!("requests of provider {provider} for route \"{before}\" now belong to route \"{after}\"");
                report(Loss::of_route(after, text));
            }
        }
    }
}

/// Reports a host that a route has lost, what it no longer promises of deliveries, and methods that it takes by default alone.
fn lost_bounds(before: &RouteStrength, after: &RouteStrength, report: &mut dyn FnMut(Loss)) {
    if let (Some(host), HostPattern::Every) = (before.host.as_str(), &after.host) {
        let text = format!("route \"{}\": host {host} is no longer demanded", after.name);
        report(Loss::of_route(&after.name, text));
    }
    let lost = match (&before.durable, &after.durable) {
        (Some(_), None) => Some("deliveries are no longer stored before they are answered (delivery = \"durable\")"),
        (Some(before), Some(after)) if before.order_by != OrderBy::Nothing && before.order_by != after.order_by => {
            Some("deliveries are no longer handed over in the order of durable.order_by")
        }
        _ => None,
    };
    if let Some(lost) = lost {
        report(Loss::of_route(&after.name, format!("route \"{}\": {lost}", after.name)));
    }
    let added = after.methods.iter().find(|method| !before.methods.contains(method));
    if let Some(method) = added.filter(|_| !after.methods_are_written && after.handlers.is_some()) {
        let text = format!("route \"{}\": methods no longer excludes {method}", after.name);
        report(Loss::of_route(&after.name, text));
    }
}

/// The routes that the same requests had, and get.
fn pairs<'o, 'n>(old: &'o [RouteStrength], new: &'n [RouteStrength]) -> Vec<(&'o RouteStrength, &'n RouteStrength)> {
    let (before, after) = (Table::new(old), Table::new(new));
    let mut seen = BTreeSet::new();
    let mut pairs = Vec::new();
    for (host, path, method) in cells(old, new) {
        // The methods are those of routes.
        let Ok(method) = Method::from_bytes(method.as_bytes()) else { continue };
        let (Some(before), Some(after)) = (before.find(host, &path, &method), after.find(host, &path, &method)) else {
            continue;
        };
        if seen.insert((std::ptr::from_ref(before), std::ptr::from_ref(after))) {
            pairs.push((before, after));
        }
    }
    pairs
}

/// Reports what `after` does not demand and `before` did, of the providers of both. Policies of providers are compared with the providers.
fn compare<'o, 'n>(
    old: &Routes<'o>,
    new: &Routes<'n>,
    before: &'o RouteStrength,
    after: &'n RouteStrength,
    is_same: bool,
    report: &mut dyn FnMut(Loss),
) {
    if before.policy.is_none() && after.policy.is_none() {
        return;
    }
    for provider in after.admitted.intersection(&before.admitted) {
        let (Some(demanded), Some(left)) = (old.policy(before, provider), new.policy(after, provider)) else {
            continue;
        };
        let for_all = before.policy.is_some() && after.policy.is_some();
        let provider = if for_all { String::new() } else { format!(", provider {provider}") };
        let instead = if is_same { String::new() } else { format!(" instead of route \"{}\"", before.name) };
        for loss in before.with_earlier(demanded).lost_in(left) {
            let text = format!("route \"{}\"{provider}{instead}: {loss}", after.name);
            report(Loss::of_route(&after.name, text));
        }
    }
}
