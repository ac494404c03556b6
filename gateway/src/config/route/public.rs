//! `respond`: a route that hookgate answers itself, to every client, as for a health check.
//!
//! Owns what such a route may have: a host, one path, a name, and a status. Must not answer: `http` does.

use std::ops::Range;

use hyper::StatusCode;
use toml::Spanned;

use super::{RawRoute, WRITE_PUBLIC_PATH, parse_host, parse_name, parse_path, parsed, required};
use crate::config::bound::Bound;
use crate::config::error::RouteProblem;
use crate::config::report::Report;
use hookgate_core::route::{HostPattern, PathPattern, Route};

/// What a health check takes for good. The answer has no body.
const RESPOND: Bound = Bound::new(200, 204, "");

/// Parses the route. Reports what is wrong with it, and every key that such a route does not have.
pub(super) fn parse(raw: &Spanned<RawRoute>, respond: &Spanned<i64>, report: &mut Report<'_>) -> Option<Route> {
    let fields = raw.get_ref();
    let foreign = foreign(fields);
    for (key, at) in &foreign {
        report.error_at(at, RouteProblem::PublicWith { key }.into());
    }
    let status = RESPOND.check(Some(respond), report);
    let status = status.and_then(|status| StatusCode::from_u16(u16::try_from(status).ok()?).ok());
    let host = fields.host.as_ref().map(|host| parsed(host, parse_host, report));
    let path = required(raw, fields.path.as_ref(), "path", WRITE_PUBLIC_PATH, report);
    let path = path.and_then(|path| Some((path, parsed(path, parse_path, report)?)));
    let path = match path? {
        (_, PathPattern::Exact(path)) => path,
        (at, PathPattern::Prefix(prefix)) => {
            report.error(at, RouteProblem::PublicPrefix { write: prefix.trim_end_matches('/').to_owned() }.into());
            return None;
        }
    };
    let name = fields.name.as_ref().map(|name| parsed(name, parse_name, report));
    let host = host.unwrap_or(Some(HostPattern::Every))?;
    let name = name.unwrap_or_else(|| Some(format!("{host}{path}").into()))?;
    foreign.is_empty().then_some(())?;
    Some(Route { host, ..Route::public(name, path, status?) })
}

/// The keys that only a route with a handler has, and where they are.
fn foreign(fields: &RawRoute) -> Vec<(&'static str, Range<usize>)> {
    let at = |key, span: Option<Range<usize>>| span.map(|span| (key, span));
    let RawRoute {
        name: _,
        host: _,
        path: _,
        respond: _,
        methods,
        providers,
        handler,
        client_cert,
        client_cert_chain,
        proof,
        replay,
        delivery,
        durable,
        handler_timeout_ms,
        strip_prefix,
        max_body_bytes,
        max_in_flight,
    } = fields;
    let all = [
        at("methods", methods.as_ref().map(Spanned::span)),
        at("providers", providers.as_ref().map(Spanned::span)),
        at("handler", handler.as_ref().map(Spanned::span)),
        at("client_cert", client_cert.as_ref().map(Spanned::span)),
        at("client_cert_chain", client_cert_chain.as_ref().map(Spanned::span)),
        at("proof", proof.as_ref().map(Spanned::span)),
        at("replay", replay.as_ref().map(Spanned::span)),
        at("delivery", delivery.as_ref().map(Spanned::span)),
        at("durable", durable.as_ref().map(Spanned::span)),
        at("handler_timeout_ms", handler_timeout_ms.as_ref().map(Spanned::span)),
        at("strip_prefix", strip_prefix.as_ref().map(Spanned::span)),
        at("max_body_bytes", max_body_bytes.as_ref().map(Spanned::span)),
        at("max_in_flight", max_in_flight.as_ref().map(Spanned::span)),
    ];
    all.into_iter().flatten().collect()
}
