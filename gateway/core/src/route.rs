//! The choice of a route by host, path and method.
//!
//! Owns the precedence: a route with the host before one for every host, then an exact path before a prefix, then a longer prefix
//! before a shorter one. Does no I/O. Must not know the peer: `auth` decides whether the chosen route admits it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use http::Method;

use crate::identity::ProviderId;

/// The index of a route in the configuration, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteId(pub usize);

/// `[[route]]`: which requests go to which handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `name`, the metric label. Default: host and path.
    pub name: Arc<str>,
    /// Host in lower case, without port; `None` matches every host.
    pub host: Option<Arc<str>>,
    /// The paths.
    pub path: PathPattern,
    /// The methods; never empty. Default: `POST`.
    pub methods: Vec<Method>,
    /// The admitted providers; never empty, in ascending order.
    pub providers: Vec<ProviderId>,
    /// The handler of the requests.
    pub handler: Handler,
    /// Whether `Client-Cert-Chain` (RFC 9440) is forwarded beside `Client-Cert`.
    pub client_cert_chain: bool,
}

/// The request paths of a route. Compared byte by byte with the path as sent, without the query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    /// `"/pagerduty"`: this path only.
    Exact(Arc<str>),
    /// `"/pagerduty/*"`: every path that begins with `/pagerduty/`. The value is the prefix with its last slash.
    Prefix(Arc<str>),
}

/// `handler`: a Unix stream socket that speaks HTTP/1.1. `unix:/absolute/path` in the file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Handler {
    /// Path of the socket, absolute, at most 107 bytes (`sun_path`, unix(7)).
    pub socket: PathBuf,
}

/// Why there is no route for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Miss {
    /// No route has this host and path.
    NoRoute,
    /// Routes have this host and path, with these other methods.
    MethodNotAllowed(Vec<Method>),
}

/// All routes, ordered for look-up.
#[derive(Debug)]
pub struct RouteTable {
    routes: Arc<[Route]>,
    by_host: HashMap<Arc<str>, Vec<RouteId>>,
    any_host: Vec<RouteId>,
}

impl RouteTable {
    /// Orders `routes` for look-up.
    pub fn new(routes: Arc<[Route]>) -> Self {
        let mut by_host: HashMap<Arc<str>, Vec<RouteId>> = HashMap::new();
        let mut any_host = Vec::new();
        for (index, route) in routes.iter().enumerate() {
            let list = match &route.host {
                Some(host) => by_host.entry(Arc::clone(host)).or_default(),
                None => &mut any_host,
            };
            list.push(RouteId(index));
        }
        // Exact before prefix, longer before shorter. The sort is stable, so equal ones keep the order of the file.
        let order = |id: &RouteId| match &routes[id.0].path {
            PathPattern::Exact(_) => 0,
            PathPattern::Prefix(prefix) => usize::MAX - prefix.len(),
        };
        by_host.values_mut().for_each(|list| list.sort_by_key(order));
        any_host.sort_by_key(order);
        Self { routes, by_host, any_host }
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
        let mut allowed: Vec<Method> = Vec::new();
        let own = self.by_host.get(host).map(Vec::as_slice).unwrap_or_default();
        for id in own.iter().chain(&self.any_host) {
            let route = &self.routes[id.0];
            if !route.path.matches(path) {
                continue;
            }
            if route.methods.contains(method) {
                return Ok(*id);
            }
            for method in &route.methods {
                if !allowed.contains(method) {
                    allowed.push(method.clone());
                }
            }
        }
        Err(if allowed.is_empty() { Miss::NoRoute } else { Miss::MethodNotAllowed(allowed) })
    }
}

impl PathPattern {
    /// Whether the pattern matches `path` (as sent, without the query).
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *path,
            Self::Prefix(prefix) => path.starts_with(&**prefix),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(routes: &[(Option<&str>, &str, &[Method])]) -> RouteTable {
        let route = |(host, path, methods): &(Option<&str>, &str, &[Method])| Route {
            name: Arc::from(*path),
            host: host.map(Arc::from),
            path: match path.strip_suffix('*') {
                Some(prefix) => PathPattern::Prefix(Arc::from(prefix)),
                None => PathPattern::Exact(Arc::from(*path)),
            },
            methods: methods.to_vec(),
            providers: Vec::new(),
            handler: Handler { socket: "/run/app.sock".into() },
            client_cert_chain: false,
        };
        RouteTable::new(routes.iter().map(route).collect())
    }

    #[test]
    fn the_most_specific_route_wins() {
        let post: &[Method] = &[Method::POST];
        let table = table(&[
            (None, "/*", post),
            (None, "/a", post),
            (Some("h"), "/*", post),
            (Some("h"), "/a/*", post),
            (Some("h"), "/a/b/*", post),
            (Some("h"), "/a/b/c", post),
        ]);
        let check = |host: &str, path: &str, expected: usize| {
            assert_eq!(table.find(host, path, &Method::POST), Ok(RouteId(expected)), "{host} {path}");
        };
        check("h", "/a/b/c", 5);
        check("h", "/a/b/d", 4);
        check("h", "/a/x", 3);
        check("h", "/a", 2);
        check("other", "/a", 1);
        check("other", "/a/b", 0);
    }

    #[test]
    fn a_miss_tells_a_wrong_path_from_a_wrong_method() {
        let table =
            table(&[(Some("h"), "/a", &[Method::POST, Method::PUT]), (None, "/a", &[Method::PUT, Method::PATCH])]);
        assert_eq!(table.find("h", "/b", &Method::POST), Err(Miss::NoRoute));
        assert_eq!(table.find("h", "/A", &Method::POST), Err(Miss::NoRoute), "paths are case-sensitive");
        assert_eq!(table.find("h", "/a/", &Method::POST), Err(Miss::NoRoute), "a trailing slash matters");
        let allowed = vec![Method::POST, Method::PUT, Method::PATCH];
        assert_eq!(table.find("h", "/a", &Method::GET), Err(Miss::MethodNotAllowed(allowed)));
        assert_eq!(table.find("h", "/a", &Method::PATCH), Ok(RouteId(1)), "a less specific route may have the method");
    }

    #[test]
    fn an_empty_table_has_no_route() {
        assert_eq!(table(&[]).find("h", "/", &Method::POST), Err(Miss::NoRoute));
    }
}
