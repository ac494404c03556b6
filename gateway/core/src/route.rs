//! The choice of a route by host, path and method.
//!
//! Owns the precedence: a route with the host before one of a wildcard, and that before one for every host; then an exact path before a
//! prefix, then a longer prefix before a shorter one. Owns too which server names there are, and whom each of them serves ([`sites`]).
//! Does no I/O. Must not know the peer: `auth` decides whether the chosen route admits it.
//!
//! Paths are compared as sent. A handler may read a path differently ([`reading`]), and then the policy of the chosen route must still be
//! that of the resource which the handler serves. So below a prefix, a path is refused if its reading belongs to another route, or if it
//! has none. An exact path is what the operator wrote, and is not read.

mod handlers;
mod host;
pub mod reading;
mod strip_prefix;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};

use crate::identity::ProviderId;
use crate::limits::Limits;

pub use handlers::{Handler, HandlerAddress, HandlerEntry, Handlers, MAXIMUM_HANDLERS};
pub use host::{HostMap, HostPattern, domain_of};
pub use reading::PathFault;
pub use strip_prefix::{StripPrefix, StripPrefixError};

/// The index of a route in the configuration, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteId(pub usize);

/// `[[route]]`: which requests go to which handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `name`, the metric label. Default: host and path.
    pub name: Arc<str>,
    /// The hosts.
    pub host: HostPattern,
    /// The paths.
    pub path: PathPattern,
    /// The methods; never empty. Default: `POST`. With `GET` also `HEAD`, see [`take_head_with_get`].
    pub methods: Vec<Method>,
    /// The admitted providers, in ascending order; empty only of a route that hookgate answers itself.
    pub providers: Vec<ProviderId>,
    /// Who answers the requests.
    pub answered_by: AnsweredBy,
    /// What the handler gets of the client's certificates.
    pub client_cert: ClientCert,
    /// The begin of its paths that the handler does not get.
    pub strip_prefix: Option<StripPrefix>,
    /// What its requests may take.
    pub limits: RouteLimits,
}

/// `client_cert` and `client_cert_chain`: which certificates of the client are forwarded (RFC 9440). The chain is never without the end entity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCert {
    /// None.
    Withheld,
    /// `Client-Cert`.
    #[default]
    EndEntity,
    /// `Client-Cert`, and the other certificates as `Client-Cert-Chain`.
    Chain,
}

/// What the requests of a route may take: its own bounds, or those of `[limits]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteLimits {
    /// `handler_timeout_ms`, as [`Limits::handler_timeout`].
    pub handler_timeout: Duration,
    /// `max_body_bytes`, as [`Limits::max_body_bytes`]. At most [`Limits::max_buffered_bytes`].
    pub max_body_bytes: usize,
    /// `max_in_flight`: requests of the route that are with its handler, over all workers; `None` for as many as the handler takes.
    pub max_in_flight: Option<usize>,
}

/// Who answers the requests of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnsweredBy {
    /// One of `handler`, after every check.
    Handlers(Handlers),
    /// `respond`: hookgate, with this status and nothing else, to every client. Nothing leaves the process, and nothing is demanded.
    Gateway(StatusCode),
}

impl RouteLimits {
    /// The bounds of a route that has none of its own.
    pub fn of(limits: &Limits) -> Self {
        Self { handler_timeout: limits.handler_timeout, max_body_bytes: limits.max_body_bytes, max_in_flight: None }
    }
}

impl Route {
    /// A route for `POST` on every host, with the default bounds.
    pub fn new(name: impl Into<Arc<str>>, path: PathPattern, providers: Vec<ProviderId>, handlers: Handlers) -> Self {
        Self {
            name: name.into(),
            host: HostPattern::Every,
            path,
            methods: vec![Method::POST],
            providers,
            answered_by: AnsweredBy::Handlers(handlers),
            client_cert: ClientCert::default(),
            strip_prefix: None,
            limits: RouteLimits::of(&Limits::default()),
        }
    }

    /// A route of this one path that answers everyone with `status`, on every host.
    pub fn public(name: impl Into<Arc<str>>, path: Arc<str>, status: StatusCode) -> Self {
        Self {
            name: name.into(),
            host: HostPattern::Every,
            path: PathPattern::Exact(path),
            methods: vec![Method::GET, Method::HEAD],
            providers: Vec::new(),
            answered_by: AnsweredBy::Gateway(status),
            client_cert: ClientCert::default(),
            strip_prefix: None,
            limits: RouteLimits::of(&Limits::default()),
        }
    }

    /// Its handlers; `None` if hookgate answers.
    pub fn handlers(&self) -> Option<&Handlers> {
        match &self.answered_by {
            AnsweredBy::Handlers(handlers) => Some(handlers),
            AnsweredBy::Gateway(_) => None,
        }
    }

    /// The paths that its handler gets.
    pub fn path_at_handler(&self) -> PathPattern {
        self.strip_prefix.as_ref().map_or_else(|| self.path.clone(), |prefix| prefix.strip_pattern(&self.path))
    }

    /// The status with which hookgate answers everyone; `None` if a handler answers.
    pub fn public_status(&self) -> Option<StatusCode> {
        match self.answered_by {
            AnsweredBy::Handlers(_) => None,
            AnsweredBy::Gateway(status) => Some(status),
        }
    }
}

/// The request paths of a route. Compared byte by byte with the path as sent, without the query.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathPattern {
    /// `"/pagerduty"`: this path only.
    Exact(Arc<str>),
    /// `"/pagerduty/*"`: every path that begins with `/pagerduty/`. The value is the prefix with its last slash.
    Prefix(Arc<str>),
}

/// Why there is no route for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Miss {
    /// No route has this host and path.
    NoRoute,
    /// Routes have this host and path, with these other methods.
    MethodNotAllowed(Vec<Method>),
    /// A handler could take the path for that of another resource.
    Path(PathFault),
}

/// Every handler of `routes`, each once, in the order of the routes.
pub fn handlers_of(routes: &[Route]) -> impl Iterator<Item = &Handler> {
    let mut seen = HashSet::new();
    routes.iter().filter_map(Route::handlers).flat_map(Handlers::iter).filter(move |handler| seen.insert(*handler))
}

/// All routes, ordered for look-up.
#[derive(Debug)]
pub struct RouteTable {
    routes: Arc<[Route]>,
    /// By their paths.
    sent: Index,
    /// By the readings of their paths; `None` if each path is its own reading.
    read: Option<Index>,
}

/// Routes by host, those that are more specific first.
#[derive(Debug)]
struct Index {
    by_host: HostMap<Vec<Entry>>,
    every_host: Vec<Entry>,
}

/// A route, and the pattern that a path is compared with.
#[derive(Debug)]
struct Entry {
    id: RouteId,
    path: PathPattern,
}

impl Index {
    fn new(routes: &[Route], path: impl Fn(&PathPattern) -> PathPattern) -> Self {
        let mut index = Self { by_host: HostMap::default(), every_host: Vec::new() };
        for (id, route) in routes.iter().enumerate() {
            let list = index.by_host.entry(&route.host).unwrap_or(&mut index.every_host);
            list.push(Entry { id: RouteId(id), path: path(&route.path) });
        }
        // Exact before prefix, longer before shorter. The sort is stable, so equal ones keep the order of the file.
        let order = |entry: &Entry| match &entry.path {
            PathPattern::Exact(_) => 0,
            PathPattern::Prefix(prefix) => usize::MAX - prefix.len(),
        };
        index.by_host.values_mut().for_each(|list| list.sort_by_key(order));
        index.every_host.sort_by_key(order);
        index
    }

    fn find(&self, routes: &[Route], host: &str, path: &str, method: &Method) -> Result<RouteId, Miss> {
        let mut allowed: Vec<Method> = Vec::new();
        let [exact, wildcard] = self.by_host.of(host);
        for list in [exact, wildcard, Some(&self.every_host)].into_iter().flatten() {
            for entry in list.iter().filter(|entry| entry.path.matches(path)) {
                let route = &routes[entry.id.0];
                if route.methods.contains(method) {
                    return Ok(entry.id);
                }
                for method in &route.methods {
                    if !allowed.contains(method) {
                        allowed.push(method.clone());
                    }
                }
            }
        }
        Err(if allowed.is_empty() { Miss::NoRoute } else { Miss::MethodNotAllowed(allowed) })
    }
}

impl RouteTable {
    /// Orders `routes` for look-up.
    pub fn new(routes: Arc<[Route]>) -> Self {
        let sent = Index::new(&routes, PathPattern::clone);
        let is_read = routes.iter().any(|route| route.path.reading() != route.path);
        let read = is_read.then(|| Index::new(&routes, PathPattern::reading));
        Self { routes, sent, read }
    }

    /// Every route, in the order of the configuration.
    pub fn routes(&self) -> &Arc<[Route]> {
        &self.routes
    }

    /// The route with this id.
    pub fn route(&self, id: RouteId) -> &Route {
        &self.routes[id.0]
    }

    /// Finds the route for a lower-case `host` without port, a `path` without query, and a `method`.
    ///
    /// # Errors
    ///
    /// [`Miss`]. `MethodNotAllowed` has the methods of every route with this host and path.
    pub fn find(&self, host: &str, path: &str, method: &Method) -> Result<RouteId, Miss> {
        let sent = self.sent.find(&self.routes, host, path, method);
        if let Ok(RouteId(id)) = sent
            && matches!(self.routes[id].path, PathPattern::Exact(_))
        {
            return sent;
        }
        let reading = reading::of(path).map_err(Miss::Path)?;
        let read = match (&self.read, &reading) {
            (None, Cow::Borrowed(_)) => return sent,
            (read, reading) => read.as_ref().unwrap_or(&self.sent).find(&self.routes, host, reading, method),
        };
        if sent.is_ok() && sent != read {
            return Err(Miss::Path(PathFault::OtherRoute));
        }
        sent
    }
}

/// Has each route that takes `GET` take `HEAD` too: a server that supports the one supports the other (RFC 9110, section 9.1), and a handler answers it as
/// `GET`, without a body. Unless another route of the same hosts and paths takes `HEAD`.
pub fn take_head_with_get(routes: &mut [Route]) {
    let place = |route: &Route| (route.host.clone(), route.path.reading());
    let taken: HashSet<_> = routes.iter().filter(|route| route.methods.contains(&Method::HEAD)).map(place).collect();
    for route in routes.iter_mut().filter(|route| !taken.contains(&place(route))) {
        if let Some(at) = route.methods.iter().position(|method| *method == Method::GET) {
            route.methods.insert(at + 1, Method::HEAD);
        }
    }
}

/// What is served under some server names: those that `host` matches and no more specific pattern of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteRoutes {
    /// The names; every host stands for those that no route has.
    pub host: HostPattern,
    /// The providers of the routes that a request for such a name can belong to.
    pub providers: BTreeSet<ProviderId>,
    /// Whether one of these routes answers everyone.
    pub answers_everyone: bool,
}

impl SiteRoutes {
    /// Of the names of `host`, for which there are the routes that `serves` selects.
    fn new(routes: &[Route], host: HostPattern, serves: impl Fn(&Route) -> bool) -> Self {
        let served = || routes.iter().filter(|route| serves(route));
        let providers = served().flat_map(|route| route.providers.iter().copied()).collect();
        Self { host, providers, answers_everyone: served().any(|route| route.public_status().is_some()) }
    }

    /// Of clients that send no server name, and can ask for every host.
    pub fn without_name(routes: &[Route]) -> Self {
        Self::new(routes, HostPattern::Every, |_| true)
    }
}

/// Every site of these routes. A name belongs to the one of its most specific pattern ([`HostMap::of`]). A request for it can belong to the routes of
/// this pattern and of those that cover it, and to no other.
pub fn sites(routes: &[Route]) -> Vec<SiteRoutes> {
    let hosts: BTreeSet<&HostPattern> = routes.iter().map(|route| &route.host).chain([&HostPattern::Every]).collect();
    let site = |host: &HostPattern| SiteRoutes::new(routes, host.clone(), |route| route.host.covers(host));
    hosts.into_iter().map(site).collect()
}

impl PathPattern {
    /// Whether the pattern matches `path` (as sent, without the query).
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *path,
            Self::Prefix(prefix) => path.starts_with(&**prefix),
        }
    }

    /// Whether a path can match both patterns.
    pub fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(path), pattern) | (pattern, Self::Exact(path)) => pattern.matches(path),
            (Self::Prefix(one), Self::Prefix(two)) => one.starts_with(&**two) || two.starts_with(&**one),
        }
    }

    /// Why no request with such a path would be admitted.
    ///
    /// # Errors
    ///
    /// The [`PathFault`] of the path, or `OtherRoute` for a prefix whose reading is not a prefix, since it hides a `?` or `#`.
    pub fn check(&self) -> Result<(), PathFault> {
        let (Self::Exact(path) | Self::Prefix(path)) = self;
        let reading = reading::of(path)?;
        match self {
            Self::Prefix(_) if !reading.ends_with('/') => Err(PathFault::OtherRoute),
            Self::Exact(_) | Self::Prefix(_) => Ok(()),
        }
    }

    /// The pattern of the paths that a handler can take for those of this pattern. A path with a fault stays as it is.
    pub fn reading(&self) -> Self {
        let read = |path: &Arc<str>| reading::of(path).map_or_else(|_| Arc::clone(path), Arc::from);
        match self {
            Self::Exact(path) => Self::Exact(read(path)),
            Self::Prefix(path) => Self::Prefix(read(path)),
        }
    }
}

#[cfg(test)]
mod tests;
