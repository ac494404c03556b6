//! The metrics of `[limits]`, as they are in force.
//!
//! Owns which key has which unit. Must not change a limit.

use std::time::Duration;

use metrics::gauge;

use super::table::{LIMIT, LIMIT_BYTES, LIMIT_SECONDS};
use hookgate_core::limits::Limits;

/// Publishes every limit. The descriptors of the host may have lowered some.
pub fn publish(limits: &Limits) {
    #[expect(clippy::cast_precision_loss, reason = "a limit stays far below 2^53")]
    let number = |number: usize| number as f64;
    counts(limits).into_iter().for_each(|(name, count)| gauge!(LIMIT, "limit" => name).set(number(count)));
    sizes(limits).into_iter().for_each(|(name, bytes)| gauge!(LIMIT_BYTES, "limit" => name).set(number(bytes)));
    durations(limits)
        .into_iter()
        .for_each(|(name, duration)| gauge!(LIMIT_SECONDS, "limit" => name).set(duration.as_secs_f64()));
}

fn counts(limits: &Limits) -> [(&'static str, usize); 9] {
    [
        ("max_connections", limits.max_connections),
        ("max_headers", limits.max_headers),
        ("max_failed_handshakes_per_source_per_s", limits.max_failed_handshakes_per_source_per_s),
        ("max_presented_certificates", limits.max_presented_certificates),
        ("chain_cache_entries", limits.chain_cache_entries),
        ("replay_entries", limits.replay_entries),
        ("handler_max_in_flight", limits.handler_max_in_flight),
        ("handler_max_waiting", limits.handler_max_waiting),
        ("handler_idle_connections", limits.handler_idle_connections),
    ]
}

fn sizes(limits: &Limits) -> [(&'static str, usize); 7] {
    [
        ("max_head", limits.max_head_bytes),
        ("max_body", limits.max_body_bytes),
        ("max_buffered", limits.max_buffered_bytes),
        ("max_answer_buffer", limits.max_answer_buffer_bytes),
        ("max_buffered_answer", limits.max_buffered_answer_bytes),
        ("max_unadmitted", limits.max_unadmitted_bytes),
        ("max_presented", limits.max_presented_bytes),
    ]
}

fn durations(limits: &Limits) -> [(&'static str, Duration); 9] {
    [
        ("handshake_timeout", limits.handshake_timeout),
        ("request_head_timeout", limits.request_head_timeout),
        ("request_timeout", limits.request_timeout),
        ("handler_timeout", limits.handler_timeout),
        ("response_timeout", limits.response_timeout),
        ("idle_timeout", limits.idle_timeout),
        ("drain_timeout", limits.drain_timeout),
        ("chain_cache_ttl", limits.chain_cache_ttl),
        ("handler_idle_timeout", limits.handler_idle_timeout),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// docs/configuration.md has a row for each key: a test of `config` holds it to the code.
    #[test]
    fn every_key_of_limits_is_published() {
        let page = include_str!("../../../docs/configuration.md");
        let (_, section) = page.split_once("\n## `[limits]`").expect("the page has the section");
        let section = section.split("\n## ").next().unwrap_or_default();
        let keys = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        let bare = |key: &str| {
            let units = ["_ms", "_s", "_bytes"].into_iter().filter(|_| !key.ends_with("_per_s"));
            units.filter_map(|unit| key.strip_suffix(unit)).next().unwrap_or(key).to_owned()
        };
        let mut documented: Vec<String> = keys.map(bare).collect();
        let limits = Limits::default();
        let names = counts(&limits).map(|(name, _)| name).into_iter();
        let names = names.chain(sizes(&limits).map(|(name, _)| name)).chain(durations(&limits).map(|(name, _)| name));
        let mut published: Vec<String> = names.map(str::to_owned).collect();
        documented.sort();
        published.sort();
        assert_eq!(published, documented);
    }
}
