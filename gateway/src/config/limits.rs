//! `[limits]`: the bounds of the data plane.
//!
//! Owns the smallest and largest value of each, also of those that a route can have of its own. What a limit means, and its default, are in `hookgate_core::limits`.

use serde::Deserialize;
use toml::Spanned;

use super::bound::Bound;
use super::error::Problem;
use super::report::Report;
use hookgate_core::limits::Limits;

/// At most an hour. A webhook that takes longer has failed.
pub(super) const TIMEOUT: Bound = Bound::new(1, 3_600_000, " ms");
/// A large host can hold a million sockets.
const CONNECTIONS: Bound = Bound::new(1, 1_000_000, "");
/// hyper refuses a read buffer below 8 KiB (`http1::Builder::max_buf_size`).
const HEAD_BYTES: Bound = Bound::new(8 * 1024, 1024 * 1024, " bytes");
/// hyper allocates room for all of them at once (`http1::Builder::max_headers`).
const HEADERS: Bound = Bound::new(1, 1024, "");
/// A whole body is held in memory.
pub(super) const BODY_BYTES: Bound = Bound::new(1, 1024 * 1024 * 1024, " bytes");
/// More memory than a host has.
const BUFFERED_BYTES: Bound = Bound::new(1, 1024 * 1024 * 1024 * 1024, " bytes");
/// 0 takes nothing ahead. More memory for one answer than for one body has no use.
const ANSWER_BYTES: Bound = Bound::new(0, 1024 * 1024 * 1024, " bytes");
/// Less than a megabyte is less than the few handshakes that each worker may have in any case; more than a terabyte, than a host has.
const UNADMITTED_BYTES: Bound = Bound::new(1024 * 1024, 1024 * 1024 * 1024 * 1024, " bytes");
/// More than a host can make.
const FAILED_HANDSHAKES: Bound = Bound::new(0, 1_000_000, "");
/// The deepest path has 11 certificates (`verify_depth` 10). The rest is for senders that send extra certificates.
const PRESENTED_CERTIFICATES: Bound = Bound::new(1, 64, "");
/// rustls accepts handshake messages of at most 65,535 bytes.
const PRESENTED_BYTES: Bound = Bound::new(1024, 65_535, " bytes");
/// An entry takes about 5 KiB.
const CACHE_ENTRIES: Bound = Bound::new(0, 1_000_000, "");
/// At most a week.
const CACHE_TTL: Bound = Bound::new(1, 7 * 24 * 3600, " s");
/// Each request needs two sockets, of hookgate and of the handler.
pub(super) const IN_FLIGHT: Bound = Bound::new(1, 65_536, "");
/// The largest `max_connections`: no more requests can wait.
const WAITING: Bound = Bound::new(0, 1_000_000, "");
/// An entry takes about 56 bytes (`auth::replay`), so the maximum is about 560 MB.
const REPLAY_ENTRIES: Bound = Bound::new(1, 10_000_000, "");
/// The largest `handler_max_in_flight`.
const IDLE_CONNECTIONS: Bound = Bound::new(0, 65_536, "");

/// `[limits]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimits {
    max_connections: Option<Spanned<i64>>,
    handshake_timeout_ms: Option<Spanned<i64>>,
    request_head_timeout_ms: Option<Spanned<i64>>,
    request_timeout_ms: Option<Spanned<i64>>,
    pub(super) handler_timeout_ms: Option<Spanned<i64>>,
    response_timeout_ms: Option<Spanned<i64>>,
    idle_timeout_ms: Option<Spanned<i64>>,
    drain_timeout_ms: Option<Spanned<i64>>,
    max_head_bytes: Option<Spanned<i64>>,
    max_headers: Option<Spanned<i64>>,
    max_body_bytes: Option<Spanned<i64>>,
    max_buffered_bytes: Option<Spanned<i64>>,
    max_answer_buffer_bytes: Option<Spanned<i64>>,
    max_buffered_answer_bytes: Option<Spanned<i64>>,
    max_unadmitted_bytes: Option<Spanned<i64>>,
    max_failed_handshakes_per_source_per_s: Option<Spanned<i64>>,
    max_presented_certificates: Option<Spanned<i64>>,
    max_presented_bytes: Option<Spanned<i64>>,
    chain_cache_entries: Option<Spanned<i64>>,
    chain_cache_ttl_s: Option<Spanned<i64>>,
    replay_entries: Option<Spanned<i64>>,
    handler_max_in_flight: Option<Spanned<i64>>,
    handler_max_waiting: Option<Spanned<i64>>,
    handler_idle_connections: Option<Spanned<i64>>,
    handler_idle_timeout_ms: Option<Spanned<i64>>,
}

/// Parses `[limits]`. A missing key has its default. Reports what is wrong, and replaces it by its default.
pub(super) fn limits(raw: Option<&RawLimits>, report: &mut Report<'_>) -> Limits {
    let default = Limits::default();
    let Some(raw) = raw else { return default };
    let milliseconds = |value: &Option<Spanned<i64>>, default, report: &mut Report<'_>| {
        TIMEOUT.milliseconds(value.as_ref(), default, report)
    };
    let count = |bound: Bound, value: &Option<Spanned<i64>>, default, report: &mut Report<'_>| {
        bound.count(value.as_ref(), default, report)
    };
    let limits = Limits {
        max_connections: count(CONNECTIONS, &raw.max_connections, default.max_connections, report),
        handshake_timeout: milliseconds(&raw.handshake_timeout_ms, default.handshake_timeout, report),
        request_head_timeout: milliseconds(&raw.request_head_timeout_ms, default.request_head_timeout, report),
        request_timeout: milliseconds(&raw.request_timeout_ms, default.request_timeout, report),
        handler_timeout: milliseconds(&raw.handler_timeout_ms, default.handler_timeout, report),
        response_timeout: milliseconds(&raw.response_timeout_ms, default.response_timeout, report),
        idle_timeout: milliseconds(&raw.idle_timeout_ms, default.idle_timeout, report),
        drain_timeout: milliseconds(&raw.drain_timeout_ms, default.drain_timeout, report),
        max_head_bytes: count(HEAD_BYTES, &raw.max_head_bytes, default.max_head_bytes, report),
        max_headers: count(HEADERS, &raw.max_headers, default.max_headers, report),
        max_body_bytes: count(BODY_BYTES, &raw.max_body_bytes, default.max_body_bytes, report),
        max_buffered_bytes: count(BUFFERED_BYTES, &raw.max_buffered_bytes, default.max_buffered_bytes, report),
        max_answer_buffer_bytes: count(
            ANSWER_BYTES,
            &raw.max_answer_buffer_bytes,
            default.max_answer_buffer_bytes,
            report,
        ),
        max_buffered_answer_bytes: count(
            BUFFERED_BYTES,
            &raw.max_buffered_answer_bytes,
            default.max_buffered_answer_bytes,
            report,
        ),
        max_unadmitted_bytes: count(UNADMITTED_BYTES, &raw.max_unadmitted_bytes, default.max_unadmitted_bytes, report),
        max_failed_handshakes_per_source_per_s: count(
            FAILED_HANDSHAKES,
            &raw.max_failed_handshakes_per_source_per_s,
            default.max_failed_handshakes_per_source_per_s,
            report,
        ),
        max_presented_certificates: count(
            PRESENTED_CERTIFICATES,
            &raw.max_presented_certificates,
            default.max_presented_certificates,
            report,
        ),
        max_presented_bytes: count(PRESENTED_BYTES, &raw.max_presented_bytes, default.max_presented_bytes, report),
        chain_cache_entries: count(CACHE_ENTRIES, &raw.chain_cache_entries, default.chain_cache_entries, report),
        chain_cache_ttl: CACHE_TTL.seconds(raw.chain_cache_ttl_s.as_ref(), default.chain_cache_ttl, report),
        replay_entries: count(REPLAY_ENTRIES, &raw.replay_entries, default.replay_entries, report),
        handler_max_in_flight: count(IN_FLIGHT, &raw.handler_max_in_flight, default.handler_max_in_flight, report),
        handler_max_waiting: count(WAITING, &raw.handler_max_waiting, default.handler_max_waiting, report),
        handler_idle_connections: count(
            IDLE_CONNECTIONS,
            &raw.handler_idle_connections,
            default.handler_idle_connections,
            report,
        ),
        handler_idle_timeout: milliseconds(&raw.handler_idle_timeout_ms, default.handler_idle_timeout, report),
    };
    check_bodies(raw, &limits, report);
    limits
}

/// Checks that a body of the largest size can be buffered.
fn check_bodies(raw: &RawLimits, limits: &Limits, report: &mut Report<'_>) {
    if limits.max_buffered_bytes >= limits.max_body_bytes {
        return;
    }
    if let Some(at) = raw.max_buffered_bytes.as_ref().or(raw.max_body_bytes.as_ref()) {
        let problem = Problem::LessThan {
            key: "max_buffered_bytes",
            value: limits.max_buffered_bytes as u64,
            other_key: "max_body_bytes",
            other: limits.max_body_bytes as u64,
        };
        report.error(at, problem);
    }
}
