//! `handler`: one address or several, each with what the route says of it.
//!
//! Owns the syntax of addresses, which of them a handler may have, and that a handler has the same bound wherever it is named. Must not look at
//! this host: `control/check` does.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;
use toml::Spanned;

use crate::config::document::{OneOrMany, WordOr};
use crate::config::error::{HandlerProblem, Problem};
use crate::config::length;
use crate::config::limits::IN_FLIGHT;
use crate::config::report::Report;
use hookgate_core::limits::Limits;
use hookgate_core::route::{Handler, HandlerAddress, HandlerEntry, Handlers, MAXIMUM_HANDLERS};

/// `sun_path` holds 108 bytes with the terminating zero (unix(7)).
const MAXIMUM_SOCKET_BYTES: usize = 107;

const EXAMPLE_HANDLER: &str = "unix:/run/app/hook.sock";
pub(super) const WRITE_HANDLER: &str = "handler = \"unix:/run/app/hook.sock\"";
const WRITE_ADDRESS: &str = "address = \"unix:/run/app/hook.sock\"";

/// A handler as a table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawEntry {
    address: Option<Spanned<String>>,
    backup: Option<Spanned<bool>>,
    max_in_flight: Option<Spanned<i64>>,
}

/// `handler` as written: a text, a table, or an array of both.
pub(in crate::config) type RawHandler = OneOrMany<WordOr<RawEntry>>;

/// What routes say of each handler: it has one bound, whichever route names it.
#[derive(Default)]
pub(super) struct Named(HashMap<Handler, (Option<usize>, usize)>);

/// Parses the handlers of a route. Reports what is wrong.
pub(super) fn handlers(
    raw: &Spanned<RawHandler>,
    limits: &Limits,
    named: &mut Named,
    report: &mut Report<'_>,
) -> Option<Handlers> {
    let parsed: Vec<Option<HandlerEntry>> = match raw.get_ref() {
        OneOrMany::One(one) => vec![entry(raw, one, limits, named, report)],
        OneOrMany::Many(many) => {
            let array = Spanned::new(raw.span(), many.iter().collect());
            if !length::is_within::<&Spanned<_>>(&array, MAXIMUM_HANDLERS, WRITE_HANDLER, report) {
                return None;
            }
            many.iter().map(|one| entry(one, one.get_ref(), limits, named, report)).collect()
        }
    };
    let entries = parsed.into_iter().collect::<Option<Vec<_>>>()?;
    for (index, entry) in entries.iter().enumerate() {
        if entries[..index].iter().any(|earlier| earlier.handler == entry.handler) {
            report.error(raw, HandlerProblem::Twice { handler: entry.handler.to_string() }.into());
            return None;
        }
    }
    if entries.iter().all(|entry| entry.backup) {
        report.error(raw, HandlerProblem::OnlyBackups.into());
        return None;
    }
    let mut entries = entries.into_iter();
    Some(Handlers::new(entries.next()?, entries))
}

fn entry<T>(
    at: &Spanned<T>,
    raw: &WordOr<RawEntry>,
    limits: &Limits,
    named: &mut Named,
    report: &mut Report<'_>,
) -> Option<HandlerEntry> {
    let (text, span, backup, most) = match raw {
        WordOr::Word(text) => (text, at.span(), false, None),
        WordOr::Table(RawEntry { address, backup, max_in_flight }) => {
            let Some(address) = address else {
                report.missing(at, "address", WRITE_ADDRESS);
                return None;
            };
            let backup = backup.as_ref().is_some_and(|raw| *raw.get_ref());
            (address.get_ref(), address.span(), backup, max_in_flight.as_ref())
        }
    };
    let handler = parse_address(text).map(Handler::new).map_err(|problem| report.error_at(&span, problem)).ok()?;
    let max_in_flight = bound(most, limits, report);
    let line = report.line(at);
    let (known, earlier) = *named.0.entry(handler.clone()).or_insert((max_in_flight, line));
    if known != max_in_flight {
        report.error(at, HandlerProblem::OtherBound { handler: handler.to_string(), line: earlier }.into());
        return None;
    }
    Some(HandlerEntry { handler, backup, max_in_flight })
}

/// The bound of a handler of its own. `[limits]` bounds the descriptors of all, so it is no larger.
fn bound(raw: Option<&Spanned<i64>>, limits: &Limits, report: &mut Report<'_>) -> Option<usize> {
    let most = usize::try_from(IN_FLIGHT.check(raw, report)?).unwrap_or(usize::MAX);
    if let Some(at) = raw.filter(|_| most > limits.handler_max_in_flight) {
        let (value, other) = (limits.handler_max_in_flight as u64, most as u64);
        let key = "handler_max_in_flight of [limits]";
        report.error(at, Problem::LessThan { key, value, other_key: "max_in_flight", other });
    }
    Some(most)
}

/// Parses the address of a handler.
fn parse_address(text: &str) -> Result<HandlerAddress, Problem> {
    match text.strip_prefix("unix:") {
        Some(path) => parse_socket(text, path),
        None if text.contains("://") => parse_url(text),
        None => Err(without_scheme(text)),
    }
}

/// The problem of an address that lacks the scheme: a path, a socket as Caddy writes it, or a port.
fn without_scheme(text: &str) -> Problem {
    let reason = "it begins with neither \"http://\" nor \"unix:\"";
    if let Some(path) = text.strip_prefix("unix/") {
        return wrong(text, path, reason);
    }
    let Some((host, port)) = text.rsplit_once(':').filter(|(host, port)| is_port(port) && !host.contains('/')) else {
        return wrong(text, text, reason);
    };
    let host = if matches!(host, "" | "localhost" | "*") { "127.0.0.1" } else { host };
    let url = format!("http://{host}:{port}");
    match parse_url(&url) {
        Err(Problem::Handler { reason, write, .. }) => Problem::Handler { text: text.to_owned(), reason, write },
        _ => Problem::Handler { text: text.to_owned(), reason, write: url },
    }
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|port| port > 0)
}

/// The problem of `text`, with what to write: the socket at `path`, if that can be one, or else an example.
fn wrong(text: &str, path: &str, reason: &'static str) -> Problem {
    let is_path = path.starts_with('/') && !path.ends_with('/') && path.len() <= MAXIMUM_SOCKET_BYTES;
    let write = if is_path { format!("unix:{path}") } else { EXAMPLE_HANDLER.to_owned() };
    Problem::Handler { text: text.to_owned(), reason, write }
}

fn parse_socket(text: &str, path: &str) -> Result<HandlerAddress, Problem> {
    if !path.starts_with('/') {
        return Err(wrong(text, text, "the path of the socket is not absolute"));
    }
    if path.len() > MAXIMUM_SOCKET_BYTES {
        return Err(wrong(text, text, "the path of the socket is longer than 107 bytes, the limit of Linux"));
    }
    if path.ends_with('/') || path.contains('\0') {
        return Err(wrong(text, text, "the path of the socket ends with \"/\" or holds a zero byte"));
    }
    Ok(HandlerAddress::Unix(path.into()))
}

/// Parses `http://127.0.0.1:8080`. Only a loopback address: what is verified leaves this host in clear text otherwise, and who answers there is
/// anyone's guess.
fn parse_url(text: &str) -> Result<HandlerAddress, Problem> {
    let fail = |reason, write: String| Err(Problem::Handler { text: text.to_owned(), reason, write });
    let Some(authority) = text.strip_prefix("http://") else {
        let reason = "a handler is on this host and speaks HTTP without TLS, so the scheme is \"http\"";
        return fail(reason, "http://127.0.0.1:8080".to_owned());
    };
    if let Some(socket) = authority.strip_prefix("unix:") {
        // A path ends at the next colon in nginx, and a URI follows.
        let path = socket.split(':').next().unwrap_or_default();
        return Err(wrong(text, path, "a Unix socket is written without \"http://\""));
    }
    let (authority, rest) = authority.find('/').map_or((authority, ""), |at| authority.split_at(at));
    let port = authority.rsplit_once(':').map_or("", |(_, port)| port);
    let port = if is_port(port) { port } else { "8080" };
    if !rest.is_empty() {
        return fail("it has a path, and handlers get the path of the request", format!("http://{authority}"));
    }
    let loopback = format!("http://127.0.0.1:{port}");
    let Ok(address) = authority.parse::<SocketAddr>() else {
        let has_address = authority.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
        return match has_address {
            true => fail("it has no port", format!("http://{authority}:8080")),
            false => fail("it is no IP address with a port, and a name can lead to another host", loopback),
        };
    };
    if address.port() == 0 {
        return fail("the port 0 is none", loopback);
    }
    if !address.ip().is_loopback() {
        let reason = "the address is not a loopback address, and to a handler requests go in clear text, with fields that it believes; a \
                      handler on another host needs a proxy with TLS on this one, or its own hookgate";
        return fail(reason, loopback);
    }
    Ok(HandlerAddress::Tcp(address))
}
