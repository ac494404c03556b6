//! File descriptors: how many this process may have (RLIMIT_NOFILE), and how many of them peers may take.
//!
//! Owns the raise of the limit at the start, the reserve for everything but peers, and the bound on connections that follows. With the
//! reserve, idle strangers cannot keep hookgate from connecting to its handlers, reading files in a reload, fetching keys, or answering
//! on the metrics endpoint and the admin side. Must not open or close anything: [`crate::accept`] holds the bound.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{acme, endpoint};
use crate::config::{Certificate, Config, KeyOrigin, RangeUrl};
use hookgate_core::limits::Limits;
use hookgate_core::route::handlers_of;

/// Descriptors of a worker beside its sockets: ring, epoll instance, event counter, and what its runtime duplicates. Two were counted
/// with io_uring_direct, four with epoll and five with io_uring.
const PER_WORKER: usize = 6;

/// Connections of a worker that no longer count and are not closed yet: the one that was evicted for a new one, and those whose last
/// operation is being cancelled. At most 6 were counted, under a flood at the limit.
const CLOSING_PER_WORKER: usize = 8;

/// Descriptors for files, directories and messages to the service manager: a reload opens one after the other, and the filter's maps
/// stay open. At most 3 were counted at once.
const FILES: usize = 8;

/// Descriptors of a fetch of token keys or of a list of ranges: the connection, and those of the resolver of the C library (a socket for each of IPv4 and IPv6,
/// a file).
const PER_FETCH: usize = 4;

/// The open descriptors at the start if /proc cannot be read: standard streams, the runtime of the control thread, the log.
const ASSUMED_OPEN: usize = 24;

/// Connections to handlers that are kept without a request may take this part of what is left, if descriptors are scarce: a quarter.
/// They save a connect (some 50 µs) per request, but connections of peers are what hookgate is for.
const IDLE_PART: usize = 4;

/// Raises the soft limits on open files, and on the memory of rings, to their hard limits. A service manager or shell sets the soft limit on files to
/// 1024 for programs that use select(2), and the hard limits to what it wants to allow.
pub(super) fn raise_limits() {
    for (resource, name) in [(Resource::Nofile, "RLIMIT_NOFILE"), (Resource::Memlock, "RLIMIT_MEMLOCK")] {
        let limit = getrlimit(resource);
        if limit.current == limit.maximum {
            continue;
        }
        if let Err(error) = setrlimit(resource, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
            tracing::warn!(%error, limit = name, "a soft limit cannot be raised to its hard limit");
        }
    }
}

/// The descriptors of this process that peers and handlers cannot take, and what there is to share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Descriptors {
    workers: usize,
    /// Open when the process began to serve, or opened for its whole life soon after.
    fixed: usize,
}

impl Descriptors {
    /// Counts what is open. Call it before the listeners and the workers exist, which are `workers`, with one listener each of every one
    /// of `addresses` addresses.
    pub(super) fn count(workers: usize, addresses: usize) -> Self {
        // One of them reads the directory.
        let open = fs::read_dir("/proc/self/fd").map_or(ASSUMED_OPEN, Iterator::count);
        // An accept in flight has its descriptor before a connection has a place.
        let per_worker = PER_WORKER + CLOSING_PER_WORKER + 2 * addresses;
        Self { workers, fixed: open + workers * per_worker }
    }

    /// Lowers `config.limits` to what the descriptors allow, with a warning.
    pub(super) fn bound(self, config: &mut Config) {
        // No limit: as many as there are numbers.
        let limit = getrlimit(Resource::Nofile)
            .current
            .map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let handlers = handlers_of(&config.routes).count();
        let is_fetched = |origin: &KeyOrigin| matches!(origin, KeyOrigin::Url { .. });
        let keys = config.proofs.key_sources.iter().filter(|source| is_fetched(&source.origin)).count();
        // A list that several providers name counts for each.
        let lists = config.range_urls.iter().flatten().flat_map(RangeUrl::sources).count();
        // Their attempts run a few at a time.
        let authorities = config.certificates.iter().filter_map(Certificate::of_acme).count().min(acme::ATTEMPTS);
        let listeners = [config.metrics.is_some(), config.admin.is_some()];
        let endpoints = listeners.iter().filter(|is_configured| **is_configured).count().max(1) * endpoint::CONNECTIONS;
        let demand = Demand {
            workers: self.workers,
            reserve: self.fixed + FILES + endpoints + PER_FETCH * (keys + lists + authorities),
            handlers,
        };
        let configured = config.limits;
        let needed = demand.needed(&configured);
        config.limits = demand.within(limit, &configured);
        if needed > limit {
            tracing::warn!(
                limit,
                needed,
                max_connections = configured.max_connections,
                connections = config.limits.max_connections,
                handler_idle_connections = config.limits.handler_idle_connections,
                "the limit on open files (RLIMIT_NOFILE) is too low for [limits]: fewer connections are used, so that no system call \
                 fails with \"Too many open files\"; set LimitNOFILE= to `needed` in the unit (systemctl edit hookgate), or lower \
                 max_connections"
            );
        }
    }
}

/// What takes descriptors.
#[derive(Clone, Copy, Debug)]
struct Demand {
    workers: usize,
    /// Everything but connections of peers and to handlers.
    reserve: usize,
    /// Different handlers.
    handlers: usize,
}

impl Demand {
    /// Most connections of peers: each worker has an equal part, rounded up.
    fn peers(self, limits: &Limits) -> usize {
        self.of_all_workers(limits.max_connections.div_ceil(self.workers))
    }

    /// Most connections to handlers that have a request. A peer has one request at a time.
    fn busy(self, limits: &Limits, peers: usize) -> usize {
        let in_flight = self.of_all_workers(limits.handler_max_in_flight.div_ceil(self.workers));
        self.handlers.saturating_mul(in_flight).min(peers)
    }

    /// Most connections to handlers that have none.
    fn idle(self, limits: &Limits) -> usize {
        self.handlers.saturating_mul(self.of_all_workers(limits.handler_idle_connections))
    }

    fn of_all_workers(self, each: usize) -> usize {
        each.saturating_mul(self.workers)
    }

    /// The limit on descriptors that these limits need.
    fn needed(self, limits: &Limits) -> usize {
        let peers = self.peers(limits);
        [peers, self.busy(limits, peers), self.idle(limits)].into_iter().fold(self.reserve, usize::saturating_add)
    }

    /// `limits` with as many connections, and as many idle ones to handlers, as `limit` descriptors allow. Every worker may have one
    /// connection in any case.
    fn within(self, limit: usize, limits: &Limits) -> Limits {
        if self.needed(limits) <= limit {
            return *limits;
        }
        let left = limit.saturating_sub(self.reserve);
        let idle_each = left / IDLE_PART / self.of_all_workers(self.handlers).max(1);
        let mut limits = Limits { handler_idle_connections: limits.handler_idle_connections.min(idle_each), ..*limits };
        let left = left - self.idle(&limits).min(left);
        // Either every handler can be full, or every peer has a request in flight: the first takes less than half, or the second half.
        let peers = left.saturating_sub(self.busy(&limits, usize::MAX)).max(left / 2);
        // A multiple of the workers, because their parts are rounded up.
        let each = (peers / self.workers).max(1);
        limits.max_connections = limits.max_connections.min(self.of_all_workers(each));
        limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEMAND: Demand = Demand { workers: 2, reserve: 100, handlers: 3 };

    #[test]
    fn enough_descriptors_change_nothing() {
        let limits = Limits::default();
        // Connections, 3 handlers with 256 requests and 2 times 32 idle connections, and the reserve.
        let needed = 10_000 + 3 * (256 + 64) + 100;
        assert_eq!(DEMAND.needed(&limits), needed);
        for limit in [needed, needed + 1, 65_536, usize::MAX] {
            assert_eq!(DEMAND.within(limit, &limits), limits, "{limit}");
        }
    }

    #[test]
    fn scarce_descriptors_bound_the_connections() {
        let check = |limit: usize, connections: usize, idle: usize| {
            let limits = DEMAND.within(limit, &Limits::default());
            assert_eq!((limits.max_connections, limits.handler_idle_connections), (connections, idle), "{limit}");
        };
        check(11_059, 9998, 32);
        check(4096, 4096 - 100 - 3 * (256 + 64), 32);
        check(1024, (1024 - 100 - 3 * 64) / 2, 32);
        // A quarter of what is left for 6 times this many idle connections, and half of the rest for peers.
        check(256, (156 - 36) / 2, 6);
        check(110, 4, 0);
        check(100, 2, 0);
        check(0, 2, 0);
    }

    #[test]
    fn whatever_is_configured_fits_into_the_limit() {
        let values = [0, 1, 2, 3, 7, 32, 255, 256, 4096, 65_536, 1_000_000];
        for limit in [110, 128, 256, 1000, 1024, 4096, 65_536] {
            for (workers, handlers) in [(1, 0), (1, 1), (2, 3), (4, 1)] {
                let demand = Demand { workers, handlers, reserve: 100 };
                for max_connections in values.into_iter().filter(|connections| *connections > 0) {
                    for handler_max_in_flight in values.into_iter().filter(|requests| *requests > 0) {
                        for handler_idle_connections in values {
                            let limits = Limits {
                                max_connections,
                                handler_max_in_flight,
                                handler_idle_connections,
                                ..Limits::default()
                            };
                            let bound = demand.within(limit, &limits);
                            assert!(demand.needed(&bound) <= limit, "{limit} {demand:?} {limits:?}");
                            assert!(bound.max_connections >= 1 && bound.max_connections <= max_connections);
                            assert!(bound.handler_idle_connections <= handler_idle_connections);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_soft_limits_are_raised_to_the_hard_limits() {
        raise_limits();
        for resource in [Resource::Nofile, Resource::Memlock] {
            let limit = getrlimit(resource);
            assert_eq!(limit.current, limit.maximum, "{resource:?}");
        }
    }
}
