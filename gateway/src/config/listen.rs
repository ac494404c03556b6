//! `[listen]` and `[metrics]`: the addresses to bind, and the proxies before them.
//!
//! Owns their bounds and defaults. Binds nothing: `control` does.

use std::net::SocketAddr;

use hookgate_io::Backend;
use ipnet::IpNet;
use serde::Deserialize;
use toml::Spanned;

use super::bound::Bound;
use super::document;
use super::error::Problem;
use super::length;
use super::ranges::{self, RawRanges};
use super::report::Report;
use super::warning::WarningKind;

/// The most addresses. Each needs a socket per worker.
const MAXIMUM_ADDRESSES: usize = 64;

/// The most ranges of proxies. A balancer of a cloud has a few subnets, and a CDN some dozens of ranges.
const MAXIMUM_PROXIES: usize = 1024;

/// The default length of the accept queue: the kernel's own maximum since Linux 5.4 (`net.core.somaxconn`).
pub const DEFAULT_BACKLOG: u32 = 4096;

const WORKERS: Bound = Bound::new(0, 1024, "");
const BACKLOG: Bound = Bound::new(1, 65_535, "");

const WRITE_ADDRESSES: &str = "addresses = [\"0.0.0.0:443\", \"[::]:443\"]";
const WRITE_FROM: &str = "from = [\"10.0.1.0/24\"]: the addresses of the proxies, or remove proxy_protocol";

/// `[listen]`: the addresses that accept connections, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// IPv4 and IPv6 addresses, without duplicates; at least one. An IPv6 address does not accept IPv4 connections.
    pub addresses: Vec<SocketAddr>,
    /// The number of worker threads, at most 1,024; 0 means one per core that this process may run on.
    pub workers: usize,
    /// The I/O backend; `None` ("auto" in the file) takes the best that the host allows. A named backend is mandatory.
    pub io: Option<Backend>,
    /// The length of each listener's accept queue. The kernel limits it to `net.core.somaxconn`.
    pub backlog: u32,
}

/// `[metrics]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// The address that Prometheus scrapes, by plain HTTP.
    pub listen: SocketAddr,
}

/// `[listen]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawListen {
    addresses: Option<Spanned<Vec<Spanned<String>>>>,
    workers: Option<Spanned<i64>>,
    io: Option<RawIoBackend>,
    backlog: Option<Spanned<i64>>,
    #[serde(default, deserialize_with = "document::table")]
    proxy_protocol: Option<Spanned<RawProxyProtocol>>,
    http2: Option<bool>,
}

/// `proxy_protocol` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProxyProtocol {
    from: RawRanges,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawIoBackend {
    Auto,
    IoUring,
    IoUringDirect,
    Epoll,
}

/// `[metrics]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMetrics {
    listen: Option<Spanned<String>>,
}

/// Parses `[listen]`; `None` if it is missing, or has no addresses. Reports what is wrong.
pub(super) fn listen(raw: Option<Spanned<RawListen>>, report: &mut Report<'_>) -> Option<Listen> {
    let Some(raw) = raw else {
        report.missing_section("listen", "a [listen] section with addresses = [\"0.0.0.0:443\", \"[::]:443\"]");
        return None;
    };
    let workers = WORKERS.check(raw.get_ref().workers.as_ref(), report).unwrap_or(0);
    let backlog = BACKLOG.check(raw.get_ref().backlog.as_ref(), report).unwrap_or(u64::from(DEFAULT_BACKLOG));
    let io = match raw.get_ref().io {
        None | Some(RawIoBackend::Auto) => None,
        Some(RawIoBackend::IoUring) => Some(Backend::TokioUring),
        Some(RawIoBackend::IoUringDirect) => Some(Backend::Reactor),
        Some(RawIoBackend::Epoll) => Some(Backend::Epoll),
    };
    let Some(addresses) = raw.get_ref().addresses.as_ref() else {
        report.missing(&raw, "addresses", WRITE_ADDRESSES);
        return None;
    };
    let addresses = parse_addresses(addresses, report);
    // Both bounds fit into the types.
    let (workers, backlog) = (usize::try_from(workers).ok()?, u32::try_from(backlog).ok()?);
    Some(Listen { addresses, workers, io, backlog })
}

/// The ranges of `proxy_protocol`; empty without it. Reports what is wrong, and leaves it out.
pub(super) fn proxies(raw: Option<&Spanned<RawListen>>, report: &mut Report<'_>) -> Vec<IpNet> {
    let Some(raw) = raw.and_then(|raw| raw.get_ref().proxy_protocol.as_ref()) else { return Vec::new() };
    let Some(from) = raw.get_ref().from.as_ref() else {
        report.missing(raw, "from", WRITE_FROM);
        return Vec::new();
    };
    if !length::is_within(from, MAXIMUM_PROXIES, WRITE_FROM, report) {
        return Vec::new();
    }
    let ranges = ranges::prefixes(Some(from), None, report);
    for range in IpNet::aggregate(&ranges).into_iter().filter(|range| range.prefix_len() == 0) {
        report.warn(from, WarningKind::AnyProxy { range });
    }
    ranges
}

/// Whether HTTP/2 is offered. Nobody who was refused before is admitted by it, so a reload that turns it on does not demand less.
pub(super) fn http2(raw: Option<&Spanned<RawListen>>) -> bool {
    raw.and_then(|raw| raw.get_ref().http2).unwrap_or(false)
}

fn parse_addresses(raw: &Spanned<Vec<Spanned<String>>>, report: &mut Report<'_>) -> Vec<SocketAddr> {
    length::is_within(raw, MAXIMUM_ADDRESSES, WRITE_ADDRESSES, report);
    let mut addresses: Vec<(SocketAddr, usize)> = Vec::new();
    for text in raw.get_ref() {
        let Some(address) = parse_address(text, report) else { continue };
        match addresses.iter().find(|(earlier, _)| *earlier == address) {
            Some((_, line)) => {
                report.error(text, Problem::Duplicate { what: format!("the address {address}"), line: *line });
            }
            None => addresses.push((address, report.line(text))),
        }
    }
    addresses.into_iter().map(|(address, _)| address).collect()
}

/// Parses `[metrics]`. Its address must not be in `[listen]`.
pub(super) fn metrics(
    raw: Option<Spanned<RawMetrics>>,
    listen: Option<&Listen>,
    report: &mut Report<'_>,
) -> Option<Metrics> {
    let raw = raw?;
    let Some(text) = raw.get_ref().listen.as_ref() else {
        report.missing(&raw, "listen", "listen = \"127.0.0.1:9464\"");
        return None;
    };
    let address = parse_address(text, report)?;
    if address.port() != 0 && listen.is_some_and(|listen| listen.addresses.contains(&address)) {
        report.error(text, Problem::Taken { address });
        return None;
    }
    Some(Metrics { listen: address })
}

/// The address and port of a text. Reports what is wrong.
pub(super) fn parse_address(text: &Spanned<String>, report: &mut Report<'_>) -> Option<SocketAddr> {
    let Ok(address) = text.get_ref().parse::<SocketAddr>() else {
        report.error(text, Problem::Address { text: text.get_ref().clone() });
        return None;
    };
    // A socket that takes IPv6 alone cannot be bound to it.
    let canonical = SocketAddr::new(address.ip().to_canonical(), address.port());
    if canonical != address {
        report.error(text, Problem::MappedAddress { meant: canonical });
        return None;
    }
    Some(address)
}
