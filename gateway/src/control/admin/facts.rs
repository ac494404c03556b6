//! What the status page and `/status.json` tell: plain data about one moment.
//!
//! Owns the form of `/status.json`. The control loop fills it ([`super::collect`]). Must not judge, and must not hold a secret.

use serde::Serialize;

use super::history::Minute;

/// The version of the form of `/status.json`. It changes if a field is removed or gets another meaning.
pub(in crate::control) const SCHEMA: u32 = 1;

/// The whole state.
#[derive(Clone, Debug, Serialize)]
pub(in crate::control) struct Facts {
    /// [`SCHEMA`].
    pub(in crate::control) schema: u32,
    /// When these were the facts, in seconds since 1970. So are all times.
    pub(in crate::control) now: u64,
    pub(in crate::control) process: ProcessFacts,
    pub(in crate::control) configuration: ConfigurationFacts,
    pub(in crate::control) workers: Vec<WorkerFacts>,
    /// Connections that may be open.
    pub(in crate::control) connections_limit: usize,
    /// In the order of the configuration.
    pub(in crate::control) providers: Vec<ProviderFacts>,
    /// In the order of the configuration.
    pub(in crate::control) routes: Vec<RouteFacts>,
    /// In the order of their first route.
    pub(in crate::control) handlers: Vec<HandlerFacts>,
    /// By the name of the route; a durable route of the configuration, and any that has had something stored since the start. With a fleet, those
    /// of its servers follow those of the disk.
    pub(in crate::control) spool: Vec<SpoolFacts>,
    /// `None` without `[fleet]`.
    pub(in crate::control) fleet: Option<FleetFacts>,
    /// Certificates that hookgate asks for, in the order of the configuration.
    pub(in crate::control) acme: Vec<AcmeFacts>,
    /// What ends, the first to end first.
    pub(in crate::control) dates: Vec<DateFacts>,
    /// Refused chains that may be genuine.
    pub(in crate::control) suspects: Vec<SuspectFacts>,
    /// The newest first.
    pub(in crate::control) refusals: Vec<RefusalFacts>,
    pub(in crate::control) filter: FilterFacts,
    /// The last hour, the oldest first.
    pub(in crate::control) history: Vec<Minute>,
}

/// The process.
#[derive(Clone, Debug, Serialize)]
pub(in crate::control) struct ProcessFacts {
    pub(in crate::control) version: &'static str,
    pub(in crate::control) crypto: &'static str,
    pub(in crate::control) backend: &'static str,
    pub(in crate::control) started: u64,
    /// `serving` or `draining`.
    pub(in crate::control) phase: &'static str,
}

/// The configuration in use, and what became of the last load.
#[derive(Clone, Debug, Serialize)]
pub(in crate::control) struct ConfigurationFacts {
    pub(in crate::control) file: String,
    pub(in crate::control) generation: u64,
    pub(in crate::control) loaded: u64,
    /// `ok`, `error` or `weaker`.
    pub(in crate::control) result: &'static str,
    /// Why the last load is not in use; the first few lines of the log.
    pub(in crate::control) reasons: Vec<String>,
}

/// A worker.
#[derive(Clone, Debug, Serialize)]
pub(in crate::control) struct WorkerFacts {
    pub(in crate::control) connections: usize,
    /// It shows no life.
    pub(in crate::control) stalled: bool,
}

/// A provider.
#[derive(Clone, Debug, Serialize)]
pub(in crate::control) struct ProviderFacts {
    pub(in crate::control) name: String,
    /// Whether its senders need a certificate.
    pub(in crate::control) client_certificate: bool,
    pub(in crate::control) profiles: Vec<String>,
    /// The names of the routes that admit it.
    pub(in crate::control) routes: Vec<String>,
}

/// A route.
#[derive(Clone, Debug, Serialize)]
pub(in crate::control) struct RouteFacts {
    pub(in crate::control) name: String,
    /// `None` for every host.
    pub(in crate::control) host: Option<String>,
    pub(in crate::control) path: String,
    pub(in crate::control) methods: Vec<String>,
    pub(in crate::control) providers: Vec<String>,
    /// The handler, or those of a list in one text, or `respond` and the status with which hookgate answers everyone.
    pub(in crate::control) handler: String,
}

/// Whether a handler answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::control) enum HandlerHealth {
    /// It answered its last request.
    Up,
    /// It did not answer its last request, or there is no socket.
    Down,
    /// There is a socket, and no request yet.
    Unused,
    /// It failed, and the others of its list get its requests.
    Ejected,
}

/// A handler.
#[derive(Clone, Debug, Serialize)]
pub(in crate::control) struct HandlerFacts {
    /// The path of its socket, or its URL.
    pub(in crate::control) socket: String,
    pub(in crate::control) health: HandlerHealth,
    /// Why it is down.
    pub(in crate::control) reason: Option<String>,
    /// If it is ejected: in how many seconds a request tries it.
    pub(in crate::control) next_try: Option<u64>,
    /// When its last request ended.
    pub(in crate::control) last: Option<u64>,
    /// When it answered last.
    pub(in crate::control) answered: Option<u64>,
    pub(in crate::control) in_flight: usize,
    pub(in crate::control) waiting: usize,
}

/// The NATS servers of a fleet.
#[derive(Clone, Debug, Serialize)]
pub(in crate::control) struct FleetFacts {
    pub(in crate::control) is_connected: bool,
    /// Why deliveries cannot be stored there.
    pub(in crate::control) problem: Option<String>,
}

/// Where deliveries are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::control) enum StoredAt {
    /// On the disk of this host.
    Disk,
    /// On the servers of the fleet, for all hosts.
    Fleet,
}

/// What is stored of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::control) struct SpoolFacts {
    pub(in crate::control) route: String,
    pub(in crate::control) stored_at: StoredAt,
    pub(in crate::control) waiting: u64,
    pub(in crate::control) dead: u64,
    /// `None` at the fleet, whose servers do not count them by route.
    pub(in crate::control) bytes: Option<u64>,
    /// How many seconds the oldest delivery that waits has waited.
    pub(in crate::control) oldest_age: u64,
    pub(in crate::control) is_paused: bool,
    /// The larger part of `max_entries` and `max_bytes` that is used, in percent; `None` if the configuration has no durable route of this name.
    pub(in crate::control) filled_percent: Option<u64>,
}

/// A certificate that hookgate asks an authority for.
#[derive(Clone, Debug, Serialize)]
pub(in crate::control) struct AcmeFacts {
    pub(in crate::control) names: Vec<String>,
    /// The URL of the directory of the authority.
    pub(in crate::control) directory: String,
    pub(in crate::control) is_in_use: bool,
    /// Those of the names for which handshakes are refused, because there is no certificate for them.
    pub(in crate::control) awaited: Vec<String>,
    /// When the certificate in use ends.
    pub(in crate::control) until: Option<u64>,
    /// Whether there is an attempt now.
    pub(in crate::control) is_running: bool,
    /// When the last attempt ended.
    pub(in crate::control) last: Option<u64>,
    /// `ok`, or the step at which it failed.
    pub(in crate::control) result: Option<&'static str>,
    /// Why. What the authority wrote is part of it.
    pub(in crate::control) error: Option<String>,
    /// How many attempts failed in a row.
    pub(in crate::control) failures: u32,
    /// When the next one is.
    pub(in crate::control) next_attempt: Option<u64>,
}

/// Something that ends.
#[derive(Clone, Debug, Serialize)]
pub(in crate::control) struct DateFacts {
    pub(in crate::control) kind: &'static str,
    pub(in crate::control) name: String,
    pub(in crate::control) provider: Option<String>,
    pub(in crate::control) until: u64,
    /// Whole days, 0 if the end has passed.
    pub(in crate::control) days_left: u64,
    pub(in crate::control) is_over: bool,
    /// What to do, if it is time.
    pub(in crate::control) warning: Option<String>,
}

/// A refused chain that may be genuine.
#[derive(Clone, Debug, Serialize)]
pub(in crate::control) struct SuspectFacts {
    pub(in crate::control) provider: String,
    pub(in crate::control) profile: String,
    pub(in crate::control) reason: String,
    pub(in crate::control) evidence: String,
    pub(in crate::control) first_seen: u64,
    pub(in crate::control) last_seen: u64,
    /// SHA-256 of the end entity.
    pub(in crate::control) fingerprint: String,
}

/// A refusal. Everything but reason, blame, status, providers and route may come from a stranger.
#[derive(Clone, Debug, Default, Serialize)]
pub(in crate::control) struct RefusalFacts {
    pub(in crate::control) at: u64,
    /// `request`, `handshake` or `connection`.
    pub(in crate::control) what: String,
    pub(in crate::control) reason: String,
    /// Who has to act.
    pub(in crate::control) blame: String,
    /// Of the answer, if there was one.
    pub(in crate::control) status: Option<u16>,
    pub(in crate::control) explanation: String,
    /// Those that the certificate proves or claims, or that the route admits without one.
    pub(in crate::control) providers: Vec<String>,
    pub(in crate::control) route: Option<String>,
    pub(in crate::control) method: Option<String>,
    pub(in crate::control) path: Option<String>,
    pub(in crate::control) peer: String,
    pub(in crate::control) server_name: Option<String>,
    pub(in crate::control) request_id: Option<String>,
    pub(in crate::control) subject: Option<String>,
    pub(in crate::control) issuer: Option<String>,
    pub(in crate::control) fingerprint: Option<String>,
}

/// The filter.
#[derive(Clone, Debug, Default, Serialize)]
pub(in crate::control) struct FilterFacts {
    /// `off`, `monitor`, `enforce`, or `unavailable` if it was asked for and does not run.
    pub(in crate::control) mode: &'static str,
    pub(in crate::control) interfaces: Vec<InterfaceFacts>,
    pub(in crate::control) packets: Vec<PacketFacts>,
    pub(in crate::control) sets: Vec<SetFacts>,
}

/// An interface that runs the filter.
#[derive(Clone, Debug, Serialize)]
pub(in crate::control) struct InterfaceFacts {
    pub(in crate::control) name: String,
    /// `native` or `generic`.
    pub(in crate::control) attached: &'static str,
}

/// A counter of the filter.
#[derive(Clone, Debug, Serialize)]
pub(in crate::control) struct PacketFacts {
    pub(in crate::control) family: &'static str,
    pub(in crate::control) verdict: &'static str,
    pub(in crate::control) reason: &'static str,
    pub(in crate::control) packets: u64,
}

/// A set of ranges.
#[derive(Clone, Debug, Serialize)]
pub(in crate::control) struct SetFacts {
    pub(in crate::control) name: String,
    pub(in crate::control) ranges_ipv4: usize,
    pub(in crate::control) ranges_ipv6: usize,
    pub(in crate::control) packets: u64,
}
