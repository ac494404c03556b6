//! Which route a request was meant for, if none takes it.
//!
//! Owns the comparison. An operator who mistypes one word of a route has the other words right, so equal path and method count before an equal
//! host: of two routes on one host, the one with the wrong host is still found by its path.

use std::cmp::Reverse;

use hookgate_core::reject::Reject;
use hookgate_core::route::{HostPattern, PathPattern, Route};
use hyper::Method;

/// The most bytes of a host or path that are compared: a host has at most 253 (RFC 1035, section 2.3.4).
const COMPARED: usize = 256;

/// A request without a route, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missed<'r> {
    pub(super) host: Option<&'r str>,
    /// Empty if it is not known.
    pub(super) path: &'r str,
    pub(super) method: Option<&'r Method>,
}

/// The index of the route that is most like the request, and which of its keys differs. `None` without routes.
pub(super) fn nearest(
    routes: &[Route],
    request: Missed<'_>,
    reject: Reject,
) -> Option<(usize, &'static [&'static str])> {
    let is_of_host =
        |route: &Route| request.host.map_or(route.host == HostPattern::Every, |host| route.host.matches(host));
    let pattern = |route: &Route| match &route.path {
        PathPattern::Exact(path) | PathPattern::Prefix(path) => path.clone(),
    };
    let rank = |(index, route): &(usize, &Route)| {
        let (host, path) = (is_of_host(route), route.path.matches(request.path));
        // The method is wrong only at a route that has host and path.
        let is_found = reject == Reject::MethodNotAllowed && host && path;
        // A route with every path of its host says nothing about this request.
        let has_path = path && pattern(route).len() > 1;
        let has_method = request.method.is_none_or(|method| route.methods.contains(method));
        let apart = if host { 0 } else { distance(route.host.as_str().unwrap_or(""), request.host.unwrap_or("")) };
        let likeness = likeness(&pattern(route), request.path);
        (is_found, has_path && has_method, has_path, host, Reverse(apart), path, likeness, Reverse(*index))
    };
    let (index, route) = routes.iter().enumerate().max_by_key(rank)?;
    let keys: &[&str] = match reject {
        Reject::MethodNotAllowed => &["methods"],
        Reject::UnknownServerName => &["host"],
        _ if !is_of_host(route) => &["host"],
        _ => &["path", "host"],
    };
    Some((index, keys))
}

/// How much two texts have in common: the length of their common beginning and end.
fn likeness(one: &str, other: &str) -> usize {
    let both = || one.bytes().zip(other.bytes());
    let begin = both().take_while(|(one, other)| one == other).count();
    let end = one.bytes().rev().zip(other.bytes().rev()).take_while(|(one, other)| one == other).count();
    begin + end.min(one.len().min(other.len()) - begin)
}

/// The least number of bytes to add, remove or replace that makes one text of the other (Levenshtein), of their first [`COMPARED`] bytes.
fn distance(one: &str, other: &str) -> usize {
    let compared = |text: &str| text.bytes().take(COMPARED).collect::<Vec<u8>>();
    strsim::generic_levenshtein(&compared(one), &compared(other))
}

#[cfg(test)]
mod tests {
    use hookgate_core::identity::ProviderId;
    use hookgate_core::route::{Handler, Handlers};

    use super::*;

    fn route(host: &str, path: &str, method: Method) -> Route {
        let pattern = match path.strip_suffix('*') {
            Some(prefix) => PathPattern::Prefix(prefix.into()),
            None => PathPattern::Exact(path.into()),
        };
        let handler = Handlers::new(Handler::unix("/run/app.sock"), []);
        let route = Route::new(path, pattern, vec![ProviderId(0)], handler);
        Route { host: HostPattern::new(host), methods: vec![method], ..route }
    }

    #[test]
    fn the_route_that_differs_by_one_word_is_the_nearest() {
        let post = |host, path| route(host, path, Method::POST);
        let check = |routes: &[Route], host, path, reject, expected: (usize, &str)| {
            let request = Missed { host: Some(host), path, method: Some(&Method::POST) };
            let found = nearest(routes, request, reject).map(|(index, keys)| (index, keys[0]));
            assert_eq!(found, Some(expected), "{host}{path}");
        };
        let host = "hooks.example.com";
        // A wrong host in either route.
        let routes = [post(host, "/pagerduty"), post("hook.example.com", "/github")];
        check(&routes, host, "/github", Reject::NoRoute, (1, "host"));
        check(&routes, host, "/githb", Reject::NoRoute, (0, "path"));
        let routes = [post("hook.example.com", "/pagerduty"), post(host, "/github")];
        check(&routes, host, "/pagerduty", Reject::NoRoute, (0, "host"));
        // Of equal paths, the host decides; of equal hosts, the path.
        let routes =
            [post("other.example", "/x"), post("hook.example.com", "/x"), post(host, "/y"), post(host, "/yy/z")];
        check(&routes, host, "/x", Reject::NoRoute, (1, "host"));
        check(&routes, "otter.example", "/x", Reject::UnknownServerName, (0, "host"));
        check(&routes, "hocks.example.com", "", Reject::UnknownServerName, (2, "host"));
        check(&routes, host, "/yy/", Reject::NoRoute, (3, "path"));
        // The method counts as the path does, but is wrong only where both are right.
        let routes = [route("a.example", "/x", Method::GET), post("b.example", "/x")];
        check(&routes, "c.example", "/x", Reject::UnknownServerName, (1, "host"));
        check(&routes, "a.example", "/x", Reject::MethodNotAllowed, (0, "methods"));
        // Every path of another host.
        let routes = [post("a.example", "/*"), post(host, "/github")];
        check(&routes, host, "/githb", Reject::NoRoute, (1, "path"));
        // A wildcard has every name below it.
        let routes = [post("*.example.com", "/pagerduty"), post("*.example.net", "/pagerduty")];
        check(&routes, "a.example.net", "/pagerdut", Reject::NoRoute, (1, "path"));
        check(&routes, "a.b.example.com", "/pagerduty", Reject::UnknownServerName, (0, "host"));
        let request = Missed { host: None, path: "/", method: None };
        assert_eq!(nearest(&[], request, Reject::NoRoute), None);
    }

    #[test]
    fn the_distance_counts_edits() {
        for (one, other, expected) in
            [("", "", 0), ("", "ab", 2), ("ab", "", 2), ("hook", "hooks", 1), ("kitten", "sitting", 3), ("ab", "ba", 2)]
        {
            assert_eq!(distance(one, other), expected, "{one} {other}");
        }
    }
}
