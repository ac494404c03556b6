//! `[filter]`: the pre-filter in the kernel.
//!
//! Owns its defaults and bounds, and what the filter takes from other sections: the addresses of `[listen]` are filtered, and
//! the ranges of each provider are a set with its name. Must not touch the kernel.

use std::path::PathBuf;

use ipnet::IpNet;
use serde::Deserialize;
use toml::Spanned;

use super::bound::Bound;
use super::document;
use super::error::Problem;
use super::length;
use super::listen::Listen;
use super::provider::RawProvider;
use super::range_url::RangeUrl;
use super::ranges::{self, ProviderRanges, RawRangeFiles, RawRanges};
use super::report::Report;
use hookgate_filter::{Action, Attach, Destination, Limits, Mode, Policy, RangeSet, Rate, SynLimits};

/// The directory of pinned filters, on the bpffs that systemd mounts.
pub const PIN_DIRECTORY: &str = "/sys/fs/bpf/hookgate";

/// The names of the sets of `allow` and `deny`. No provider can have such a name.
const ALLOW_SET: &str = "(allow)";
const DENY_SET: &str = "(deny)";
/// The name of the set of `proxy_protocol`: the packets of a peer behind a proxy are the proxy's.
const PROXY_SET: &str = "(proxies)";

/// The most interfaces. The program is attached to each.
const MAXIMUM_INTERFACES: usize = 64;
/// `IFNAMSIZ` is 16, with the terminating zero.
const MAXIMUM_INTERFACE_BYTES: usize = 15;

const PERCENT: Bound = Bound::new(0, 100, " %");
/// 10 million ranges of both families take some gigabytes, which is more than any list of senders needs.
const RANGES: Bound = Bound::new(1, 10_000_000, "");
/// 10 million buckets take a gigabyte.
const BUCKETS: Bound = Bound::new(1, 10_000_000, "");
/// A 10 Gbit/s link carries fewer SYNs per second.
const PER_SECOND: Bound = Bound::new(1, 15_000_000, "");

const WRITE_INTERFACES: &str =
    "interfaces = [\"eth0\"] (the interfaces on which requests arrive; `ip link` lists them)";
const WRITE_RATE: &str = "per_second = 100: the SYNs per second of one source";
const WRITE_SOURCES: &str = "source_ranges = [\"192.0.2.0/24\"] or source_range_files or source_range_urls: without ranges, filter.mode = \"enforce\" drops every packet of \
     this provider; source_ranges = [\"0.0.0.0/0\", \"::/0\"] lets packets from every address in";

/// `[filter]`, parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct FilterSection {
    /// What the filter does. Without the section, the mode is off.
    pub policy: Policy,
    /// `required`: whether start-up fails without the filter.
    pub required: bool,
    /// `force_shrink`: whether a reload may remove more of a set than `largest_shrink_percent`.
    pub force_shrink: bool,
}

impl Default for FilterSection {
    fn default() -> Self {
        Self { policy: Policy::default(), required: true, force_shrink: false }
    }
}

/// `[filter]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFilter {
    mode: Option<RawMode>,
    interfaces: Option<Spanned<Vec<Spanned<String>>>>,
    attach: Option<RawAttach>,
    required: Option<bool>,
    pin: Option<bool>,
    allow: RawRanges,
    allow_files: RawRangeFiles,
    deny: RawRanges,
    deny_files: RawRangeFiles,
    largest_shrink_percent: Option<Spanned<i64>>,
    force_shrink: Option<bool>,
    max_ranges_ipv4: Option<Spanned<i64>>,
    max_ranges_ipv6: Option<Spanned<i64>>,
    max_syn_buckets: Option<Spanned<i64>>,
    #[serde(default, deserialize_with = "document::table")]
    syn_ipv4_address: Option<Spanned<RawRate>>,
    #[serde(default, deserialize_with = "document::table")]
    syn_ipv4_network: Option<Spanned<RawRate>>,
    #[serde(default, deserialize_with = "document::table")]
    syn_ipv6_network: Option<Spanned<RawRate>>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawMode {
    Off,
    Monitor,
    Enforce,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawAttach {
    Auto,
    Native,
    Generic,
}

/// A rate as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRate {
    per_second: Option<Spanned<i64>>,
    burst: Option<Spanned<i64>>,
}

/// What the filter needs of other sections.
pub(super) struct Context<'c> {
    pub(super) listen: Option<&'c Listen>,
    /// The ranges of `proxy_protocol`.
    pub(super) proxies: &'c [IpNet],
    pub(super) providers: &'c [Spanned<RawProvider>],
    /// In the order of `providers`.
    pub(super) ranges: &'c [ProviderRanges],
    /// In the same order: the lists that are fetched.
    pub(super) range_urls: &'c [Vec<RangeUrl>],
}

/// Parses `[filter]`. Reports what is wrong, and replaces it by its default.
pub(super) fn filter(
    raw: Option<&Spanned<RawFilter>>,
    context: &Context<'_>,
    report: &mut Report<'_>,
) -> FilterSection {
    let Some(raw) = raw else { return FilterSection::default() };
    let fields = raw.get_ref();
    let mode = match fields.mode {
        None | Some(RawMode::Off) => Mode::Off,
        Some(RawMode::Monitor) => Mode::Monitor,
        Some(RawMode::Enforce) => Mode::Enforce,
    };
    let attach = match fields.attach {
        None | Some(RawAttach::Auto) => Attach::Auto,
        Some(RawAttach::Native) => Attach::Native,
        Some(RawAttach::Generic) => Attach::Generic,
    };
    let policy = Policy {
        mode,
        interfaces: interfaces(raw, mode, report),
        attach,
        pin: fields.pin.unwrap_or(false).then(|| PathBuf::from(PIN_DIRECTORY)),
        destinations: destinations(raw, mode, context.listen, report),
        sets: sets(fields, mode, context, report),
        syn_limits: SynLimits {
            ipv4_address: rate(fields.syn_ipv4_address.as_ref(), report),
            ipv4_network: rate(fields.syn_ipv4_network.as_ref(), report),
            ipv6_network: rate(fields.syn_ipv6_network.as_ref(), report),
        },
        limits: limits(fields, report),
        largest_shrink: PERCENT.check(fields.largest_shrink_percent.as_ref(), report).map_or_else(
            || Policy::default().largest_shrink,
            |percent| f64::from(u8::try_from(percent).unwrap_or(100)) / 100.0,
        ),
        ..Policy::default()
    };
    FilterSection {
        policy,
        required: fields.required.unwrap_or(true),
        force_shrink: fields.force_shrink.unwrap_or(false),
    }
}

fn interfaces(raw: &Spanned<RawFilter>, mode: Mode, report: &mut Report<'_>) -> Vec<String> {
    let Some(listed) = raw.get_ref().interfaces.as_ref() else {
        if mode != Mode::Off {
            report.missing(raw, "interfaces", WRITE_INTERFACES);
        }
        return Vec::new();
    };
    length::is_within(listed, MAXIMUM_INTERFACES, WRITE_INTERFACES, report);
    let mut interfaces: Vec<(String, usize)> = Vec::new();
    for name in listed.get_ref() {
        let text = name.get_ref();
        // dev_valid_name in net/core/dev.c.
        let is_name = (1..=MAXIMUM_INTERFACE_BYTES).contains(&text.len())
            && ![".", ".."].contains(&text.as_str())
            && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':');
        match interfaces.iter().find(|(earlier, _)| earlier == text) {
            _ if !is_name => report.error(name, Problem::Interface { text: text.clone() }),
            Some((_, line)) => {
                report.error(name, Problem::Duplicate { what: format!("the interface {text}"), line: *line });
            }
            None => interfaces.push((text.clone(), report.line(name))),
        }
    }
    interfaces.into_iter().map(|(name, _)| name).collect()
}

/// The addresses of `[listen]`. For `0.0.0.0` and `[::]`, the port is filtered at every address.
fn destinations(
    raw: &Spanned<RawFilter>,
    mode: Mode,
    listen: Option<&Listen>,
    report: &mut Report<'_>,
) -> Vec<Destination> {
    let addresses = listen.map(|listen| listen.addresses.as_slice()).unwrap_or_default();
    if mode != Mode::Off && addresses.iter().any(|address| address.port() == 0) {
        report.error(raw, Problem::FilterWithoutPort);
    }
    let destination = |address: &std::net::SocketAddr| {
        let ip = address.ip().to_canonical();
        Destination { address: (!ip.is_unspecified()).then_some(ip), port: address.port() }
    };
    let mut destinations: Vec<_> = addresses.iter().map(destination).collect();
    destinations.sort_unstable();
    destinations.dedup();
    destinations
}

/// The sets: deny, allow, the proxies, then the providers in the order of the file. A provider without ranges has no set: its packets pass if
/// they come from a proxy.
fn sets(fields: &RawFilter, mode: Mode, context: &Context<'_>, report: &mut Report<'_>) -> Vec<RangeSet> {
    let denied = ranges::prefixes(fields.deny.as_ref(), fields.deny_files.as_ref(), report);
    let allowed = ranges::prefixes(fields.allow.as_ref(), fields.allow_files.as_ref(), report);
    let mut sets = vec![
        RangeSet { name: DENY_SET.to_owned(), action: Action::Deny, prefixes: denied },
        RangeSet { name: ALLOW_SET.to_owned(), action: Action::Allow, prefixes: allowed },
        RangeSet { name: PROXY_SET.to_owned(), action: Action::Allow, prefixes: context.proxies.to_vec() },
    ];
    for ((raw, ranges), urls) in context.providers.iter().zip(context.ranges).zip(context.range_urls) {
        if ranges.prefixes.is_empty() && urls.is_empty() && mode == Mode::Enforce && context.proxies.is_empty() {
            report.missing_one_of(
                raw,
                "source_ranges",
                &["source_range_files", "source_range_urls"],
                Problem::Missing { write: WRITE_SOURCES },
            );
        }
        if let Some(name) = raw.get_ref().name.as_ref() {
            let prefixes = ranges.prefixes.clone();
            sets.push(RangeSet { name: name.get_ref().clone(), action: Action::Allow, prefixes });
        }
    }
    sets.retain(|set| !set.prefixes.is_empty());
    sets
}

fn rate(raw: Option<&Spanned<RawRate>>, report: &mut Report<'_>) -> Rate {
    let Some(raw) = raw else { return Rate::UNLIMITED };
    let Some(per_second) = raw.get_ref().per_second.as_ref() else {
        report.missing(raw, "per_second", WRITE_RATE);
        return Rate::UNLIMITED;
    };
    let Some(per_second) = PER_SECOND.check(Some(per_second), report) else { return Rate::UNLIMITED };
    let burst = PER_SECOND.check(raw.get_ref().burst.as_ref(), report).unwrap_or(per_second);
    let number = |value| u32::try_from(value).unwrap_or(u32::MAX);
    Rate::per_second(number(per_second), number(burst))
}

fn limits(fields: &RawFilter, report: &mut Report<'_>) -> Limits {
    let default = Limits::default();
    let mut number = |bound: Bound, raw: &Option<Spanned<i64>>, default: u32| {
        bound.check(raw.as_ref(), report).map_or(default, |value| u32::try_from(value).unwrap_or(u32::MAX))
    };
    Limits {
        ranges_ipv4: number(RANGES, &fields.max_ranges_ipv4, default.ranges_ipv4),
        ranges_ipv6: number(RANGES, &fields.max_ranges_ipv6, default.ranges_ipv6),
        syn_buckets: number(BUCKETS, &fields.max_syn_buckets, default.syn_buckets),
        ..default
    }
}
