//! Every metric: its name, its labels, its help text, and the handles that workers count on.
//!
//! Names follow Prometheus' conventions, with the prefix `hookgate_`. A worker looks a handle up once and keeps it, so counting is one
//! atomic addition. Label values come from closed sets (reasons, configured names, statuses). Must not use a value that a peer chose
//! as a label.

pub mod fetches;
pub mod kept;
pub mod requests;
pub mod retirement;
pub mod rotation;
pub mod state;

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use self::requests::RequestMeters;
use crate::crypto;
use hookgate_core::identity::{CacheOutcome, ProfileMatch, ProviderId, Verification};
use hookgate_core::reject::Reject;
use hookgate_filter::{AttachMode, Family, Status};

/// Upper bounds of the duration histograms, in seconds: from less than a resumed handshake to the longest default time-out.
pub const DURATION_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0];

const CONNECTIONS: &str = "hookgate_connections_total";
const CONNECTIONS_ACTIVE: &str = "hookgate_connections_active";
const CONNECTIONS_LIMIT: &str = "hookgate_connections_limit";
const HANDED_OVER: &str = "hookgate_connections_handed_over_total";
const HANDSHAKES: &str = "hookgate_handshakes_total";
const HANDSHAKE_DURATION: &str = "hookgate_handshake_duration_seconds";
const VERIFICATIONS: &str = "hookgate_verifications_total";
const LENIENT: &str = "hookgate_lenient_admissions_total";
const CACHE_ENTRIES: &str = "hookgate_chain_cache_entries";
const CACHE_EVICTIONS: &str = "hookgate_chain_cache_evictions_total";
const HANDLER_CONNECTIONS: &str = "hookgate_handler_connections_total";
const HANDLER_RETRIES: &str = "hookgate_handler_retries_total";
const HANDLER_IN_FLIGHT: &str = "hookgate_handler_requests_in_flight";
const ACCEPT_ERRORS: &str = "hookgate_accept_errors_total";
const RELOADS: &str = "hookgate_config_reloads_total";
const GENERATION: &str = "hookgate_config_generation";
const DELIVERIES: &str = "hookgate_replay_deliveries";
const SOURCE_MISSES: &str = "hookgate_source_not_in_ranges_total";
const FILTER_PACKETS: &str = "hookgate_filter_packets_total";
const FILTER_SET_PACKETS: &str = "hookgate_filter_set_packets_total";
const FILTER_RANGES: &str = "hookgate_filter_ranges";
const FILTER_ATTACHED: &str = "hookgate_filter_attached_info";
const FILTER_MEMORY: &str = "hookgate_filter_map_bytes";
const FILTER_UNAVAILABLE: &str = "hookgate_filter_unavailable";
const LOG_LOST: &str = "hookgate_log_events_lost_total";
const LOG_SUPPRESSED: &str = "hookgate_log_events_suppressed_total";
const BUILD_INFO: &str = "hookgate_build_info";
const IO_BACKEND: &str = "hookgate_io_backend_info";
const IO_FALLBACK: &str = "hookgate_io_fallback";
const WORKER_CONNECTIONS: &str = "hookgate_worker_connections";
const WORKER_STALLED: &str = "hookgate_worker_stalled";

/// Registers the help texts with the installed recorder.
pub fn describe() {
    describe_connections();
    describe_requests();
    describe_upkeep();
    describe_filter();
    fetches::describe();
    rotation::describe();
    state::describe();
    kept::describe();
}

fn describe_connections() {
    describe_counter!(CONNECTIONS, "TCP connections accepted");
    describe_gauge!(CONNECTIONS_ACTIVE, "TCP connections open now");
    describe_gauge!(
        CONNECTIONS_LIMIT,
        "TCP connections that may be open: max_connections, or fewer if descriptors are scarce"
    );
    describe_counter!(HANDED_OVER, "Connections that one worker accepted and handed over to another");
    describe_counter!(ACCEPT_ERRORS, "Failed accepts, by errno name");
    describe_counter!(
        HANDSHAKES,
        "TLS handshakes, by protocol version, result (ok or a reason) and whether a session was resumed"
    );
    describe_histogram!(HANDSHAKE_DURATION, Unit::Seconds, "Time from the accept to the end of a completed handshake");
    describe_counter!(
        VERIFICATIONS,
        "Client certificate chains judged, by provider, result (ok or refused), reason, and cache (hit or miss)"
    );
    describe_counter!(
        LENIENT,
        "Client certificates admitted that a stricter extended_key_usage would refuse, by provider and by the rule that admits them"
    );
    describe_gauge!(CACHE_ENTRIES, "Chains in the cache of verified chains");
    describe_counter!(CACHE_EVICTIONS, "Chains evicted from the cache of verified chains to make room");
    describe_gauge!(WORKER_CONNECTIONS, "TCP connections open now, by worker");
}

fn describe_requests() {
    requests::describe();
    describe_counter!(SOURCE_MISSES, "Requests from an address outside of their provider's ranges, by provider");
    describe_gauge!(DELIVERIES, "Delivery ids in memory; an id whose window has ended counts until it is removed");
    describe_counter!(HANDLER_CONNECTIONS, "Connections made to a handler, by handler");
    describe_counter!(
        HANDLER_RETRIES,
        "Requests sent again because the handler had closed an idle connection, by handler"
    );
    describe_gauge!(HANDLER_IN_FLIGHT, "Requests in flight to a handler now, by handler");
}

fn describe_upkeep() {
    describe_gauge!(BUILD_INFO, "Always 1; the labels are the version and the library of handshakes");
    describe_gauge!(IO_BACKEND, "Always 1; the label is the I/O backend in use");
    describe_gauge!(IO_FALLBACK, "1 if io_uring is unavailable and listen.io = \"auto\" fell back to epoll");
    describe_gauge!(
        WORKER_STALLED,
        "1 while a worker shows no life for half of WatchdogSec=, or 5 seconds without it, by worker"
    );
    describe_counter!(RELOADS, "Loads of the configuration, the first one included, by result (ok, error or weaker)");
    describe_gauge!(
        GENERATION,
        "Generation of the configuration in use, from 1: loads, and revocation lists that revoke more"
    );
    describe_counter!(LOG_LOST, "Log events lost because they came faster than they could be written");
    describe_counter!(LOG_SUPPRESSED, "Log events suppressed because more came in a second than are logged, by cause");
}

fn describe_filter() {
    describe_counter!(FILTER_PACKETS, "Packets that the filter judged, by family, verdict and reason");
    describe_counter!(FILTER_SET_PACKETS, "Packets that a range of the set decided about, by set");
    describe_gauge!(FILTER_RANGES, "Ranges in force, by set (a provider, (allow) or (deny)) and family");
    describe_gauge!(FILTER_ATTACHED, "1 for each interface that runs the filter; the label mode is native or generic");
    describe_gauge!(FILTER_MEMORY, Unit::Bytes, "Kernel memory of the filter's maps");
    describe_gauge!(
        FILTER_UNAVAILABLE,
        "1 if the filter was asked for and does not run, or not on an interface that was recreated, so that every packet gets in"
    );
}

/// The result of a load of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// It is in use.
    Ok,
    /// It has errors, or could not be applied.
    Error,
    /// It demands less than the one in use, and does not say so on purpose.
    Weaker,
}

/// Counts a load of the configuration, and publishes the generation in use.
pub fn reloaded(result: Load, generation: u64) {
    let result = match result {
        Load::Ok => "ok",
        Load::Error => "error",
        Load::Weaker => "weaker",
    };
    counter!(RELOADS, "result" => result).increment(1);
    self::generation(generation);
}

/// Publishes the generation in use.
pub fn generation(generation: u64) {
    #[expect(clippy::cast_precision_loss, reason = "a generation stays far below 2^53")]
    gauge!(GENERATION).set(generation as f64);
}

/// Publishes how many log events were lost.
pub fn log_lost(events: u64) {
    counter!(LOG_LOST).absolute(events);
}

/// Publishes how many log events of this cause were suppressed.
pub fn log_suppressed(cause: &'static str, events: u64) {
    counter!(LOG_SUPPRESSED, "cause" => cause).absolute(events);
}

/// Publishes the version, the cryptographic library and the I/O backend.
pub fn running(backend: &'static str, fell_back: bool) {
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION"), "crypto" => crypto::LIBRARY).set(1.0);
    gauge!(IO_BACKEND, "backend" => backend).set(1.0);
    gauge!(IO_FALLBACK).set(if fell_back { 1.0 } else { 0.0 });
}

/// Publishes how many connections may be open.
pub fn connections_limit(connections: usize) {
    #[expect(clippy::cast_precision_loss, reason = "a number of connections stays far below 2^53")]
    gauge!(CONNECTIONS_LIMIT).set(connections as f64);
}

/// Publishes how many connections a worker has open.
pub fn worker_connections(worker: usize, connections: usize) {
    #[expect(clippy::cast_precision_loss, reason = "a number of connections stays far below 2^53")]
    gauge!(WORKER_CONNECTIONS, "worker" => worker.to_string()).set(connections as f64);
}

/// Publishes whether a worker has stalled.
pub fn worker_stalled(worker: usize, stalled: bool) {
    gauge!(WORKER_STALLED, "worker" => worker.to_string()).set(if stalled { 1.0 } else { 0.0 });
}

/// Publishes the size of the cache of verified chains, and how many chains were evicted since the start.
pub fn chain_cache(entries: usize, evictions: u64) {
    #[expect(clippy::cast_precision_loss, reason = "a number of entries stays far below 2^53")]
    gauge!(CACHE_ENTRIES).set(entries as f64);
    counter!(CACHE_EVICTIONS).absolute(evictions);
}

/// Publishes how many delivery ids are in memory.
pub fn deliveries(count: usize) {
    #[expect(clippy::cast_precision_loss, reason = "a number of entries stays far below 2^53")]
    gauge!(DELIVERIES).set(count as f64);
}

/// Counts a request from an address outside of the ranges of `provider`.
pub fn source_missed(provider: &str) {
    counter!(SOURCE_MISSES, "provider" => provider.to_owned()).increment(1);
}

/// Publishes whether the filter was asked for and does not run.
pub fn filter_unavailable(unavailable: bool) {
    gauge!(FILTER_UNAVAILABLE).set(if unavailable { 1.0 } else { 0.0 });
}

/// Publishes the filter's counters, ranges, interfaces and memory.
pub fn filter(status: &Status) {
    for count in &status.packets {
        let labels =
            [("family", count.family.label()), ("verdict", count.verdict.label()), ("reason", count.reason.label())];
        counter!(FILTER_PACKETS, &labels).absolute(count.packets);
    }
    for set in &status.sets {
        filter_ranges(&set.name, Family::Ipv4, set.ranges_ipv4);
        filter_ranges(&set.name, Family::Ipv6, set.ranges_ipv6);
    }
    for attached in &status.attached {
        let interface = attached.interface.clone();
        gauge!(FILTER_ATTACHED, "interface" => interface, "mode" => attached.mode.label()).set(1.0);
    }
    #[expect(clippy::cast_precision_loss, reason = "a number of bytes stays far below 2^53")]
    gauge!(FILTER_MEMORY).set(status.memory_bytes as f64);
}

/// Publishes that an interface does not run the filter any more.
pub fn filter_detached(interface: &str, mode: AttachMode) {
    gauge!(FILTER_ATTACHED, "interface" => interface.to_owned(), "mode" => mode.label()).set(0.0);
}

/// Counts packets that a range of `set` decided about.
pub fn filter_set_packets(set: &str, packets: u64) {
    counter!(FILTER_SET_PACKETS, "set" => set.to_owned()).increment(packets);
}

/// Publishes that the range set of this name was removed.
pub fn filter_set_gone(set: &str) {
    [Family::Ipv4, Family::Ipv6].into_iter().for_each(|family| filter_ranges(set, family, 0));
}

fn filter_ranges(set: &str, family: Family, ranges: usize) {
    #[expect(clippy::cast_precision_loss, reason = "a number of ranges stays far below 2^53")]
    gauge!(FILTER_RANGES, "set" => set.to_owned(), "family" => family.label()).set(ranges as f64);
}

/// A label value, allocated once and shared.
type Label = Arc<str>;

/// The handles of one worker. Handles with labels are looked up at first use and kept.
pub struct Meters {
    connections: Counter,
    handed_over: Counter,
    /// TCP connections open now.
    pub connections_active: Gauge,
    handshake_duration: Histogram,
    /// Requests and refusals.
    pub requests: RequestMeters,
    handshakes: RefCell<HashMap<(&'static str, &'static str, bool), Counter>>,
    verifications: RefCell<HashMap<(Label, &'static str, bool), Counter>>,
}

impl Default for Meters {
    fn default() -> Self {
        Self::new()
    }
}

impl Meters {
    /// Looks up the handles without labels, and those of [`RequestMeters::new`].
    pub fn new() -> Self {
        Self {
            connections: counter!(CONNECTIONS),
            handed_over: counter!(HANDED_OVER),
            connections_active: gauge!(CONNECTIONS_ACTIVE),
            handshake_duration: histogram!(HANDSHAKE_DURATION),
            requests: RequestMeters::new(),
            handshakes: RefCell::default(),
            verifications: RefCell::default(),
        }
    }

    /// Counts an accepted connection.
    pub fn accepted(&self) {
        self.connections.increment(1);
        self.connections_active.increment(1.0);
    }

    /// Counts a connection that was handed over to another worker.
    pub fn handed_over(&self) {
        self.handed_over.increment(1);
    }

    /// Counts the end of a connection.
    pub fn closed(&self) {
        self.connections_active.decrement(1.0);
    }

    /// Counts a failed accept; `error` is the errno name.
    pub fn accept_failed(&self, error: &'static str) {
        counter!(ACCEPT_ERRORS, "error" => error).increment(1);
    }

    /// Counts a completed handshake.
    pub fn handshake_completed(&self, version: &'static str, resumed: bool, duration: Duration) {
        self.handshake_duration.record(duration);
        self.handshake(version, "ok", resumed);
    }

    /// Counts a handshake that ended with `reject`.
    pub fn handshake_failed(&self, reject: Reject) {
        self.handshake("", reject.row().reason, false);
    }

    fn handshake(&self, version: &'static str, result: &'static str, resumed: bool) {
        let mut handles = self.handshakes.borrow_mut();
        let resumed_label = if resumed { "true" } else { "false" };
        let make = || counter!(HANDSHAKES, "version" => version, "result" => result, "resumed" => resumed_label);
        handles.entry((version, result, resumed)).or_insert_with(make).increment(1);
    }

    /// Counts the verdict on a chain; `name` returns the name of a provider, `rule` the `extended_key_usage` of a profile that matched.
    pub fn verified(
        &self,
        verification: &Verification,
        name: impl Fn(ProviderId) -> Label,
        rule: impl Fn(&ProfileMatch) -> &'static str,
    ) {
        let hit = matches!(verification.cache, CacheOutcome::Hit);
        let mut handles = self.verifications.borrow_mut();
        let mut count = |provider: Label, reason: &'static str| {
            let result = if reason.is_empty() { "ok" } else { "refused" };
            let make = |key: &(Label, &'static str, bool)| {
                let cache = if hit { "hit" } else { "miss" };
                let provider = key.0.to_string();
                counter!(VERIFICATIONS, "provider" => provider, "result" => result, "reason" => reason, "cache" => cache)
            };
            handles.entry((provider, reason, hit)).or_insert_with_key(make).increment(1);
        };
        match &verification.result {
            Ok(chain) => {
                for found in chain.matches() {
                    count(name(found.provider), "");
                    if found.eku_lenient {
                        let provider = name(found.provider).to_string();
                        counter!(LENIENT, "provider" => provider, "rule" => rule(found)).increment(1);
                    }
                }
            }
            Err(refusal) => {
                let provider = refusal.provider.map_or_else(|| Label::from(""), &name);
                count(provider, refusal.refusal.reject.row().reason);
            }
        }
    }
}

/// The handles of one worker for one handler.
pub struct HandlerMeters {
    connections: Counter,
    retries: Counter,
    in_flight: Gauge,
}

impl HandlerMeters {
    /// Looks up the handles with the label `handler`.
    pub fn new(handler: &str) -> Self {
        let label = || handler.to_owned();
        Self {
            connections: counter!(HANDLER_CONNECTIONS, "handler" => label()),
            retries: counter!(HANDLER_RETRIES, "handler" => label()),
            in_flight: gauge!(HANDLER_IN_FLIGHT, "handler" => label()),
        }
    }

    /// Counts a connection made.
    pub fn connected(&self) {
        self.connections.increment(1);
    }

    /// Counts a request sent again.
    pub fn retried(&self) {
        self.retries.increment(1);
    }

    /// Counts a request that begins to occupy the handler.
    pub fn entered(&self) {
        self.in_flight.increment(1.0);
    }

    /// Counts a request that no longer occupies the handler.
    pub fn left(&self) {
        self.in_flight.decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_counts_on_its_own_handle() {
        for (index, reject) in Reject::ALL.iter().enumerate() {
            assert_eq!(*reject as usize, index, "{reject:?}");
        }
    }

    #[test]
    fn buckets_ascend() {
        assert!(DURATION_BUCKETS.is_sorted_by(|left, right| left < right));
    }
}
