//! The handles of every metric that workers and the control thread count on; [`table`] has the names, labels and meanings.
//!
//! Names follow Prometheus' conventions, with the prefix `hookgate_`. A worker looks a handle up once and keeps it, so counting is one
//! atomic addition. Label values come from closed sets (reasons, configured names, statuses). Must not use a value that a peer chose
//! as a label.

pub mod acme;
pub mod fetches;
pub mod fleet;
pub mod kept;
pub mod limits;
pub mod process;
pub mod requests;
pub mod retirement;
pub mod rotation;
pub mod spool;
pub mod state;
pub mod table;

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use self::requests::RequestMeters;
pub use self::table::describe;
use self::table::{
    ACCEPT_ERRORS, ACME_CHALLENGES, BUILD_INFO, CACHE_ENTRIES, CACHE_EVICTIONS, CONNECTIONS, CONNECTIONS_ACTIVE,
    CONNECTIONS_LIMIT, DELIVERIES, FILTER_ATTACHED, FILTER_MEMORY, FILTER_PACKETS, FILTER_RANGES, FILTER_SET_PACKETS,
    FILTER_UNAVAILABLE, GENERATION, HANDED_OVER, HANDLER_CHOSEN, HANDLER_CONNECTIONS, HANDLER_EJECTED,
    HANDLER_FAILURES, HANDLER_IN_FLIGHT, HANDLER_PASSED, HANDLER_RETRIES, HANDLER_UP, HANDLER_WAITING,
    HANDSHAKE_DURATION, HANDSHAKES, IO_BACKEND, IO_FALLBACK, LAST_RELOAD, LAST_RELOAD_SUCCESSFUL, LENIENT, LOG_LOST,
    LOG_SUPPRESSED, RELOADS, ROUTE_IN_FLIGHT, ROUTE_WAITING, SOURCE_MISSES, TICKET_POLICY, VERIFICATIONS,
    WORKER_CONNECTIONS, WORKER_STALLED,
};
use crate::crypto;
use hookgate_core::identity::{CacheOutcome, ProfileMatch, ProviderId, Verification};
use hookgate_core::reject::Reject;
use hookgate_filter::{AttachMode, Family, Status};

/// Upper bounds of the duration histograms, in seconds: from less than a resumed handshake to the longest default time-out.
pub const DURATION_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0];

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

impl Load {
    /// The value of the label `result`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Weaker => "weaker",
        }
    }
}

/// Counts a load of the configuration at `now` (seconds since 1970), and publishes the generation in use.
pub fn reloaded(result: Load, generation: u64, now: u64) {
    counter!(RELOADS, "result" => result.label()).increment(1);
    gauge!(LAST_RELOAD_SUCCESSFUL).set(if result == Load::Ok { 1.0 } else { 0.0 });
    #[expect(clippy::cast_precision_loss, reason = "a time in seconds stays far below 2^53")]
    gauge!(LAST_RELOAD).set(now as f64);
    self::generation(generation);
}

/// Publishes whether the last request to a handler got an answer.
pub fn handler_up(handler: &str, up: bool) {
    gauge!(HANDLER_UP, "handler" => handler.to_owned()).set(if up { 1.0 } else { 0.0 });
}

/// Publishes the generation in use.
pub fn generation(generation: u64) {
    #[expect(clippy::cast_precision_loss, reason = "a generation stays far below 2^53")]
    gauge!(GENERATION).set(generation as f64);
}

/// Publishes which trust policy tickets are for; 0 if no other host opens them.
pub fn ticket_policy(policy: u32) {
    gauge!(TICKET_POLICY).set(policy);
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

/// Version, group, result, and whether a session was resumed.
type HandshakeKey = (&'static str, &'static str, &'static str, bool);

/// The handles of one worker. Handles with labels are looked up at first use and kept.
pub struct Meters {
    connections: Counter,
    challenges: Counter,
    handed_over: Counter,
    /// TCP connections open now.
    pub connections_active: Gauge,
    handshake_duration: Histogram,
    /// Requests and refusals.
    pub requests: RequestMeters,
    handshakes: RefCell<HashMap<HandshakeKey, Counter>>,
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
            challenges: counter!(ACME_CHALLENGES),
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

    /// Counts a completed handshake. `group` is that of its key exchange; empty if it had none.
    pub fn handshake_completed(&self, version: &'static str, group: &'static str, resumed: bool, duration: Duration) {
        self.handshake_duration.record(duration);
        self.handshake((version, group, "ok", resumed));
    }

    /// Counts a handshake by which an authority verified a name, beside [`Meters::handshake_completed`].
    pub fn challenge_answered(&self) {
        self.challenges.increment(1);
    }

    /// Counts a handshake that ended with `reject`.
    pub fn handshake_failed(&self, reject: Reject) {
        self.handshake(("", "", reject.row().reason, false));
    }

    fn handshake(&self, key: HandshakeKey) {
        let (version, group, result, resumed) = key;
        let resumed = if resumed { "true" } else { "false" };
        let make =
            || counter!(HANDSHAKES, "version" => version, "group" => group, "result" => result, "resumed" => resumed);
        self.handshakes.borrow_mut().entry(key).or_insert_with(make).increment(1);
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

/// Counts a request that a handler did not answer. Makes its handle: a failure costs more than that.
pub fn handler_failed(handler: &str, reject: Reject) {
    counter!(HANDLER_FAILURES, "handler" => handler.to_owned(), "reason" => reject.row().reason).increment(1);
}

/// The handles of one worker for one handler of a list.
pub struct MemberMeters {
    chosen: Counter,
    passed: Counter,
    ejected: Gauge,
}

impl MemberMeters {
    /// Looks up the handles with the label `handler`.
    pub fn new(handler: &str) -> Self {
        let label = || handler.to_owned();
        Self {
            chosen: counter!(HANDLER_CHOSEN, "handler" => label()),
            passed: counter!(HANDLER_PASSED, "handler" => label()),
            ejected: gauge!(HANDLER_EJECTED, "handler" => label()),
        }
    }

    /// Counts a request that goes to it.
    pub fn chosen(&self) {
        self.chosen.increment(1);
    }

    /// Counts a request that goes on to another one.
    pub fn passed(&self) {
        self.passed.increment(1);
    }

    /// Whether it is ejected.
    pub fn ejected(&self, ejected: bool) {
        self.ejected.set(if ejected { 1.0 } else { 0.0 });
    }
}

/// The handles of one worker for one handler.
pub struct HandlerMeters {
    connections: Counter,
    retries: Counter,
    in_flight: Gauge,
    /// Requests that wait for a place.
    pub waiting: Gauge,
}

impl HandlerMeters {
    /// Looks up the handles with the label `handler`.
    pub fn new(handler: &str) -> Self {
        let label = || handler.to_owned();
        Self {
            connections: counter!(HANDLER_CONNECTIONS, "handler" => label()),
            retries: counter!(HANDLER_RETRIES, "handler" => label()),
            in_flight: gauge!(HANDLER_IN_FLIGHT, "handler" => label()),
            waiting: gauge!(HANDLER_WAITING, "handler" => label()),
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

/// Handles for the requests of one route with a bound of its own.
pub struct RouteMeters {
    in_flight: Gauge,
    /// Requests that wait for a place.
    pub waiting: Gauge,
}

impl RouteMeters {
    /// Looks up the handles with the label `route`.
    pub fn new(route: &str) -> Self {
        let label = || route.to_owned();
        Self {
            in_flight: gauge!(ROUTE_IN_FLIGHT, "route" => label()),
            waiting: gauge!(ROUTE_WAITING, "route" => label()),
        }
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
