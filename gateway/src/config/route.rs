//! `[[route]]`: host, path and methods, the providers, the handler, and bounds of its own ([`bounds`]).
//!
//! Owns the syntax of each, and that no two routes take the same request. Finds no route for a request: `hookgate_core::route`
//! does.

mod bounds;
mod handler;
mod public;

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::ops::Range;
use std::sync::Arc;

use hyper::Method;
use serde::Deserialize;
use toml::Spanned;

use self::bounds::Counted;
use self::handler::{Named, RawHandler, WRITE_HANDLER};
use super::client_certificate;
use super::document::{self, WordOr};
use super::durable::{self, Durable, RawDelivery, RawDurable, Written};
use super::error::{CertificateProblem, Problem, RouteProblem};
use super::key_source::KeySources;
use super::length;
use super::proof::{self, RawClause, RawReplay};
use super::provider::ProviderNames;
use super::report::Report;
use hookgate_core::auth::ProofPolicy;
use hookgate_core::identity::ProviderId;
use hookgate_core::limits::Limits;
use hookgate_core::route::{
    ClientCert, HostPattern, PathFault, PathPattern, Route, StripPrefix, StripPrefixError, take_head_with_get,
};

/// The most routes of a file. Each name becomes a metric label.
const MAXIMUM_ROUTES: usize = 4096;
/// The most bytes of a path. A longer path in a request is an attack or a mistake.
const MAXIMUM_PATH_BYTES: usize = 1024;
/// The most methods of a route. HTTP has about forty registered methods, and webhooks use one.
const MAXIMUM_METHODS: usize = 16;
/// The most bytes of a name. It becomes a metric label.
const MAXIMUM_NAME_BYTES: usize = 128;

const WRITE_PATH: &str = "path = \"/pagerduty\", or \"/pagerduty/*\" for every path below it";
const WRITE_PUBLIC_PATH: &str = "path = \"/healthz\"";
const WRITE_PROVIDERS: &str =
    "providers = [\"pagerduty\"] (the names of the [[provider]] sections whose requests this route takes)";
const WRITE_METHODS: &str = "methods = [\"POST\"], or remove the key (the default is POST)";

/// `[[route]]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRoute {
    name: Option<Spanned<String>>,
    host: Option<Spanned<String>>,
    pub(super) path: Option<Spanned<String>>,
    methods: Option<Spanned<Vec<Spanned<String>>>>,
    providers: Option<Spanned<Vec<Spanned<String>>>>,
    handler: Option<Spanned<RawHandler>>,
    pub(super) respond: Option<Spanned<i64>>,
    client_cert: Option<Spanned<bool>>,
    client_cert_chain: Option<Spanned<bool>>,
    pub(super) proof: Option<Spanned<WordOr<RawClause>>>,
    replay: Option<Spanned<WordOr<RawReplay>>>,
    delivery: Option<Spanned<RawDelivery>>,
    #[serde(default, deserialize_with = "document::table")]
    durable: Option<Spanned<RawDurable>>,
    pub(super) handler_timeout_ms: Option<Spanned<i64>>,
    pub(super) strip_prefix: Option<Spanned<String>>,
    max_body_bytes: Option<Spanned<i64>>,
    max_in_flight: Option<Spanned<i64>>,
}

impl RawRoute {
    /// What it says of its delivery.
    pub(super) fn written_delivery(&self) -> Written<'_> {
        Written { delivery: self.delivery.as_ref(), durable: self.durable.as_ref() }
    }

    /// Where `handler` is written.
    pub(super) fn handler_at(&self) -> Option<Range<usize>> {
        self.handler.as_ref().map(Spanned::span)
    }

    /// Where `host` is written.
    pub(super) fn host_at(&self) -> Option<Range<usize>> {
        self.host.as_ref().map(Spanned::span)
    }
}

/// The routes, and by their index what belongs to each.
pub(super) struct ParsedRoutes {
    pub(super) routes: Vec<Route>,
    /// The policy of a route of its own.
    pub(super) proofs: Vec<Option<Arc<ProofPolicy>>>,
    /// How its deliveries are stored, if they are.
    pub(super) durable: Vec<Option<Arc<Durable>>>,
}

/// Parses the routes, and the proofs that each demands instead of its providers. Reports what is wrong, and leaves out the
/// routes with errors.
pub(super) fn routes(
    raw: &[Spanned<RawRoute>],
    names: &ProviderNames,
    limits: &Limits,
    sources: &mut KeySources<'_>,
    report: &mut Report<'_>,
) -> ParsedRoutes {
    let mut earlier = EarlierRoutes::default();
    let (mut counted, mut named) = (Counted::default(), Named::default());
    let mut parsed = ParsedRoutes { routes: Vec::new(), proofs: Vec::new(), durable: Vec::new() };
    for raw in length::first(raw, MAXIMUM_ROUTES, report) {
        let RawRoute { proof, replay, .. } = raw.get_ref();
        let route = parse(raw, names, limits, &mut named, report);
        let name = route.as_ref().map_or("", |route| &route.name);
        let proof = proof::of_route(proof.as_ref(), replay.as_ref(), name, sources, report);
        if let Some(route) = route {
            check_certificates(raw, &route, proof.as_ref().and_then(Option::as_deref), names, report);
            earlier.add(raw, &route, report);
            counted.add(raw.get_ref(), &route);
            let stored = match route.handlers() {
                Some(_) => durable::durable(raw.get_ref().written_delivery(), &route, report),
                None => None,
            };
            parsed.durable.push(stored);
            parsed.routes.push(route);
            parsed.proofs.extend(proof);
        }
    }
    counted.check_names(&parsed.routes, report);
    take_head_with_get(&mut parsed.routes);
    parsed
}

/// Reports providers without certificates that nothing tells apart, and a proof of the route that does not tell who sent a request.
fn check_certificates(
    raw: &Spanned<RawRoute>,
    route: &Route,
    policy: Option<&ProofPolicy>,
    names: &ProviderNames,
    report: &mut Report<'_>,
) {
    let RawRoute { providers, proof, .. } = raw.get_ref();
    let without = names.without_certificate(&route.providers);
    if let ([(first, _), (second, _), ..], Some(at)) = (without.as_slice(), providers) {
        let (first, second) = ((*first).to_owned(), (*second).to_owned());
        report.error(at, CertificateProblem::TwoWithoutCertificate { first, second }.into());
    }
    if let (Some(policy), Some(at)) = (policy, proof) {
        for (name, certificate) in without {
            client_certificate::check_policy(certificate, policy, name, &at.span(), report);
        }
    }
}

fn parse(
    raw: &Spanned<RawRoute>,
    names: &ProviderNames,
    limits: &Limits,
    named: &mut Named,
    report: &mut Report<'_>,
) -> Option<Route> {
    let fields = raw.get_ref();
    if let Some(respond) = &fields.respond {
        return public::parse(raw, respond, report);
    }
    let host = fields.host.as_ref().map(|host| parsed(host, parse_host, report));
    let path = required(raw, fields.path.as_ref(), "path", WRITE_PATH, report);
    let path = path.and_then(|path| parsed(path, parse_path, report));
    let handler = required(raw, fields.handler.as_ref(), "handler", WRITE_HANDLER, report);
    let handlers = handler.and_then(|raw| handler::handlers(raw, limits, named, report));
    let methods = parse_methods(fields.methods.as_ref(), report);
    let providers = required(raw, fields.providers.as_ref(), "providers", WRITE_PROVIDERS, report);
    let providers = providers.and_then(|providers| parse_providers(providers, names, report));
    let name = fields.name.as_ref().map(|name| parsed(name, parse_name, report));
    let limits = bounds::bounds(fields, limits, report);

    let (path, host) = (path?, host.unwrap_or(Some(HostPattern::Every))?);
    let strip_prefix =
        fields.strip_prefix.as_ref().and_then(|raw| parsed(raw, |text| strip_prefix(text, &path), report));
    let name = match name {
        Some(name) => name?,
        None => Arc::from(format!("{host}{}", path_text(&path))),
    };
    let client_cert = client_cert(fields, report);
    let route = Route::new(name, path, providers?, handlers?);
    Some(Route { host, methods: methods?, client_cert, strip_prefix, limits, ..route })
}

/// What is forwarded of the client's certificates. Reports a chain without its first certificate (RFC 9440, section 2.3).
fn client_cert(fields: &RawRoute, report: &mut Report<'_>) -> ClientCert {
    let chain = fields.client_cert_chain.as_ref().filter(|raw| *raw.get_ref());
    match (fields.client_cert.as_ref().is_none_or(|raw| *raw.get_ref()), chain) {
        (true, None) => ClientCert::EndEntity,
        (true, Some(_)) => ClientCert::Chain,
        (false, None) => ClientCert::Withheld,
        (false, Some(at)) => {
            report.error(at, RouteProblem::ChainWithoutCertificate.into());
            ClientCert::Withheld
        }
    }
}

/// The value of a required key. Reports its absence.
fn required<'r, T>(
    table: &Spanned<RawRoute>,
    value: Option<&'r Spanned<T>>,
    key: &'static str,
    write: &'static str,
    report: &mut Report<'_>,
) -> Option<&'r Spanned<T>> {
    if value.is_none() {
        report.missing(table, key, write);
    }
    value
}

/// Parses a value by `parse`. Reports its error.
fn parsed<T>(raw: &Spanned<String>, parse: impl Fn(&str) -> Result<T, Problem>, report: &mut Report<'_>) -> Option<T> {
    parse(raw.get_ref()).map_err(|problem| report.error(raw, problem)).ok()
}

fn parse_name(text: &str) -> Result<Arc<str>, Problem> {
    let printable = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if text.is_empty() || text.len() > MAXIMUM_NAME_BYTES || !printable {
        return Err(Problem::RouteName { maximum: MAXIMUM_NAME_BYTES });
    }
    Ok(Arc::from(text))
}

/// Parses a host name (RFC 1123), an IPv4 address, or an IPv6 address in brackets, as the Host field has them; or the wildcard of a domain.
fn parse_host(text: &str) -> Result<HostPattern, Problem> {
    let lower = text.to_ascii_lowercase();
    let label = |label: &str| {
        let characters = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        (1..=63).contains(&label.len()) && characters
    };
    let bracketed = lower.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let domain = lower.strip_prefix("*.");
    let is_number = |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit());
    let write = if let Some(inside) = bracketed {
        inside.parse::<Ipv6Addr>().is_err().then_some("write an IPv6 address between the brackets")
    } else if !lower.is_ascii() {
        Some("write its ASCII form (xn--…)")
    } else if lower.contains("://") {
        Some("write it without a scheme")
    } else if lower.contains(':') {
        Some("write it without a port")
    } else if domain.unwrap_or(&lower).contains('*') {
        Some(
            "\"*\" is allowed only as the whole first label, such as \"*.example.com\"; remove host to match every host",
        )
    } else if domain.is_some_and(|domain| domain.rsplit('.').next().is_some_and(is_number)) {
        Some("a wildcard is for names; write an address as it is")
    } else if lower.ends_with('.') {
        Some("write it without the trailing dot")
    } else if lower.len() > 253 || !domain.unwrap_or(&lower).split('.').all(label) {
        Some("write a host name such as \"hooks.example.com\"")
    } else {
        None
    };
    match write {
        Some(write) => Err(Problem::Host { text: text.to_owned(), write }),
        None => Ok(HostPattern::new(&lower)),
    }
}

fn parse_path(text: &str) -> Result<PathPattern, Problem> {
    let (prefix, stem) = match text.strip_suffix("/*") {
        Some(stem) => (true, stem),
        None => (false, text),
    };
    if !text.starts_with('/') {
        let reason = Cow::Owned(format!("it does not begin with \"/\"; write \"/{text}\""));
        return Err(Problem::Path { text: text.to_owned(), reason });
    }
    let reason = if text.len() > MAXIMUM_PATH_BYTES {
        Some("it is longer than 1024 bytes")
    } else if stem.contains('*') {
        Some("\"*\" is allowed only after the last \"/\"; write \"/pagerduty/*\" for every path below")
    } else if stem.contains(['?', '#']) {
        Some("routes do not match the query; write the path only")
    } else if !stem.bytes().all(|byte| byte.is_ascii_graphic()) {
        Some("write printable ASCII characters, and percent-encode all others")
    } else {
        None
    };
    let fail = |reason| Err(Problem::Path { text: text.to_owned(), reason: Cow::Borrowed(reason) });
    if let Some(reason) = reason {
        return fail(reason);
    }
    let path = match prefix {
        true => PathPattern::Prefix(Arc::from(format!("{stem}/"))),
        false => PathPattern::Exact(Arc::from(text)),
    };
    match path.check() {
        Ok(()) => Ok(path),
        Err(PathFault::DotSegment) => fail("it has a \".\" or \"..\" segment, plain or encoded; write it without"),
        Err(PathFault::Escape) => {
            fail("it has a \"%\" without two hexadecimal digits; write \"%25\" for the character")
        }
        Err(PathFault::Control) => fail("it has an encoded control character; write it without"),
        Err(PathFault::Encoding) => fail("its escapes are not UTF-8; write the escapes of UTF-8"),
        Err(PathFault::Parameter) => {
            fail("handlers disagree where \";\" ends beside an encoded \"/\"; write it without \";\"")
        }
        Err(PathFault::OtherRoute) => {
            fail("an encoded \"?\" or \"#\" before \"/*\" would begin the query; write it without")
        }
    }
}

/// Parses what is taken away from the begin of paths of `path`.
fn strip_prefix(text: &str, path: &PathPattern) -> Result<StripPrefix, Problem> {
    let prefix =
        StripPrefix::new(text).map_err(|source| RouteProblem::StripPrefix { text: text.to_owned(), source })?;
    if prefix.is_above(path) {
        return Ok(prefix);
    }
    let shown = path_text(path);
    let write = shown.trim_end_matches("/*").to_owned();
    let problem = match write.as_str() {
        "" | "/" => RouteProblem::StripPrefix { text: text.to_owned(), source: StripPrefixError::Nothing },
        _ => RouteProblem::StripPrefixElsewhere { prefix: text.to_owned(), path: shown, write },
    };
    Err(problem.into())
}

fn path_text(path: &PathPattern) -> String {
    match path {
        PathPattern::Exact(path) => path.to_string(),
        PathPattern::Prefix(prefix) => format!("{prefix}*"),
    }
}

fn parse_methods(raw: Option<&Spanned<Vec<Spanned<String>>>>, report: &mut Report<'_>) -> Option<Vec<Method>> {
    let Some(raw) = raw else { return Some(vec![Method::POST]) };
    if !length::is_within(raw, MAXIMUM_METHODS, WRITE_METHODS, report) {
        return None;
    }
    let mut methods: Vec<Method> = Vec::with_capacity(raw.get_ref().len());
    for text in raw.get_ref() {
        let method = parsed(text, parse_method, report)?;
        if methods.contains(&method) {
            report.error(text, Problem::Duplicate { what: format!("the method {method}"), line: report.line(raw) });
            return None;
        }
        methods.push(method);
    }
    Some(methods)
}

fn parse_method(text: &str) -> Result<Method, Problem> {
    let fail = |write| Err(Problem::Method { text: text.to_owned(), write });
    match Method::from_bytes(text.as_bytes()) {
        Err(_) => fail("write a method such as \"POST\""),
        Ok(Method::CONNECT) => fail("a CONNECT request asks for a tunnel and has no path; remove it"),
        // Methods are case-sensitive (RFC 9110, section 9.1), so this would never match.
        Ok(_) if text.bytes().any(|byte| byte.is_ascii_lowercase()) => {
            fail("methods are in upper case; write \"POST\"")
        }
        Ok(method) => Ok(method),
    }
}

fn parse_providers(
    raw: &Spanned<Vec<Spanned<String>>>,
    names: &ProviderNames,
    report: &mut Report<'_>,
) -> Option<Vec<ProviderId>> {
    if raw.get_ref().is_empty() {
        report.empty(raw, Problem::Empty { write: WRITE_PROVIDERS });
        return None;
    }
    let found: Vec<Option<ProviderId>> = raw.get_ref().iter().map(|name| names.find(name, report)).collect();
    let mut providers = found.into_iter().collect::<Option<Vec<_>>>()?;
    // A provider that is named twice is not an error: the order and the number have no meaning.
    providers.sort_unstable();
    providers.dedup();
    Some(providers)
}

/// The names and requests that the routes so far take, with their lines.
#[derive(Default)]
struct EarlierRoutes {
    names: HashMap<Arc<str>, usize>,
    /// Methods by host and path in one text: no host holds a slash, and every path begins with one.
    requests: HashMap<String, Vec<(Method, usize)>>,
}

impl EarlierRoutes {
    /// Adds `route`. Reports an earlier route with the same name, or for the same requests.
    fn add(&mut self, raw: &Spanned<RawRoute>, route: &Route, report: &mut Report<'_>) {
        let line = report.line(raw);
        if let Some(name) = raw.get_ref().name.as_ref()
            && let Some(earlier) = self.names.insert(Arc::clone(&route.name), line)
        {
            report.error(name, Problem::Duplicate { what: format!("the name \"{}\"", route.name), line: earlier });
        }
        // Two prefixes that a handler can read alike are one; an exact path is compared as sent.
        let path = match &route.path {
            PathPattern::Exact(_) => path_text(&route.path),
            PathPattern::Prefix(_) => path_text(&route.path.reading()),
        };
        let place = format!("{}{path}", route.host);
        let methods = self.requests.entry(place).or_default();
        let taken = methods.iter().find(|(method, _)| route.methods.contains(method));
        if let Some((method, earlier)) = taken {
            report.error(raw, Problem::Overlap { line: *earlier, method: method.to_string() });
        }
        methods.extend(route.methods.iter().map(|method| (method.clone(), line)));
    }
}
