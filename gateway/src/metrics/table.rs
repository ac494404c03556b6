//! The table of every metric: name, type, labels, meaning and an example query; and that of every label, with its values and their number.
//!
//! The help texts of a scrape are made of it, and so are the tables of docs/metrics.md. To add a metric, add a row; a label that is new gets
//! a row in [`LABELS`]. Must not count.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, from 0 at the start of the process.
    Counter,
    /// It can fall.
    Gauge,
    /// Durations, counted in [`super::DURATION_BUCKETS`].
    Histogram,
}

impl Kind {
    /// Its name in the text format of Prometheus.
    pub fn label(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// The section of docs/metrics.md.
    pub section: &'static str,
    /// The name.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// The names of its labels, each of which is in [`LABELS`].
    pub labels: &'static [&'static str],
    /// What it says, as Markdown; the help text without the marks.
    pub meaning: &'static str,
    /// A query that uses it.
    pub query: &'static str,
}

impl Metric {
    /// The unit, which the name ends with.
    pub fn unit(&self) -> Option<Unit> {
        let bare = self.name.strip_suffix("_total").unwrap_or(self.name);
        match bare {
            _ if bare.ends_with("_seconds") => Some(Unit::Seconds),
            _ if bare.ends_with("_bytes") => Some(Unit::Bytes),
            _ => None,
        }
    }

    /// The help text of a scrape.
    pub fn help(&self) -> String {
        self.meaning.replace('`', "")
    }

    fn describe(&self) {
        let (name, help) = (self.name, self.help());
        match (self.kind, self.unit()) {
            (Kind::Counter, Some(unit)) => describe_counter!(name, unit, help),
            (Kind::Counter, None) => describe_counter!(name, help),
            (Kind::Gauge, Some(unit)) => describe_gauge!(name, unit, help),
            (Kind::Gauge, None) => describe_gauge!(name, help),
            (Kind::Histogram, unit) => describe_histogram!(name, unit.unwrap_or(Unit::Count), help),
        }
    }
}

/// Registers the help texts with the installed recorder.
pub fn describe() {
    METRICS.iter().for_each(Metric::describe);
}

/// What a label may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// Its values.
    pub values: &'static str,
    /// The number of its values, as a factor of the number of series.
    pub most: &'static str,
}

/// Every label. No value comes from a peer.
pub const LABELS: &[Label] = &[
    Label { name: "anchor", values: "trust anchors of the profile, by common name and key", most: "anchors" },
    Label { name: "backend", values: "`io_uring_direct`, `io_uring`, `epoll`", most: "1" },
    Label { name: "blame", values: "`peer`, `handler`, `gateway`: who has to act. Each reason has one", most: "1" },
    Label { name: "cache", values: "`hit`, `miss`", most: "2" },
    Label { name: "cause", values: "`stranger`, `sender`, `handler`, `gateway`", most: "4" },
    Label { name: "certificate", values: "first names of certificates with `acme`", most: "certificates" },
    Label { name: "crypto", values: "`aws-lc`, `ring`", most: "1" },
    Label { name: "error", values: "names of errno", most: "errnos" },
    Label { name: "family", values: "`ipv4`, `ipv6`", most: "2" },
    Label { name: "group", values: "`X25519MLKEM768`, `X25519`, `P-256`, `P-384` or empty", most: "5" },
    Label { name: "handler", values: "paths of the sockets of handlers, or their URLs", most: "handlers" },
    Label { name: "interface", values: "interfaces of `[filter]`", most: "interfaces" },
    Label { name: "issuer", values: "subjects of the issuers of revocation lists", most: "lists" },
    Label { name: "kind", values: "`server`, `trust_anchor`", most: "1" },
    Label { name: "limit", values: "keys of `[limits]`, without their unit", most: "limits" },
    Label { name: "mode", values: "`native`, `generic`", most: "1" },
    Label { name: "name", values: "first DNS names of certificates, labels of trust anchors", most: "certificates" },
    Label { name: "profile", values: "configured names of profiles", most: "profiles" },
    Label { name: "provider", values: "configured names of providers; empty if unknown", most: "providers" },
    Label { name: "reason", values: "reasons of refusals; of packets, the filter's", most: "reasons" },
    Label { name: "result", values: "the results that the row names, or a reason", most: "results" },
    Label { name: "resumed", values: "`true`, `false`", most: "2" },
    Label { name: "route", values: "configured names of routes; empty if none was found", most: "routes" },
    Label { name: "rule", values: "`client-auth`, `ignore`", most: "2" },
    Label { name: "set", values: "providers with ranges, `(allow)`, `(deny)`, `(proxies)`", most: "sets" },
    Label { name: "source", values: "configured lists and keys that are fetched", most: "sources" },
    Label { name: "state", values: "`waiting`, `dead`", most: "2" },
    Label { name: "status", values: "statuses of answers, 499 included", most: "statuses" },
    Label { name: "verdict", values: "`pass`, `drop`, and in monitor mode `would_drop`", most: "verdicts" },
    Label { name: "version", values: "the version of hookgate; of handshakes, `1.2`, `1.3` or empty", most: "3" },
    Label { name: "worker", values: "numbers of workers, from 0", most: "workers" },
];

/// Makes a constant of each name, and the table, from the same rows.
macro_rules! metrics {
    ($($section:literal { $($constant:ident = $kind:ident $name:literal [$($label:literal),*] $meaning:literal, $query:literal;)+ })+) => {
        $($(#[doc = $meaning] pub(super) const $constant: &str = $name;)+)+

        /// Every metric, in the order of docs/metrics.md.
        pub const METRICS: &[Metric] = &[$($(Metric {
            section: $section,
            name: $name,
            kind: Kind::$kind,
            labels: &[$($label),*],
            meaning: $meaning,
            query: $query,
        },)+)+];
    };
}

metrics! {
    "Connections and handshakes" {
        CONNECTIONS = Counter "hookgate_connections_total" []
            "TCP connections accepted.",
            "rate(hookgate_connections_total[5m])";
        CONNECTIONS_ACTIVE = Gauge "hookgate_connections_active" []
            "TCP connections open now.",
            "hookgate_connections_active / hookgate_connections_limit";
        CONNECTIONS_LIMIT = Gauge "hookgate_connections_limit" []
            "TCP connections that may be open: `max_connections`, or fewer if the limit on open files is too low.",
            "hookgate_connections_limit < hookgate_limit{limit=\"max_connections\"}";
        WORKER_CONNECTIONS = Gauge "hookgate_worker_connections" ["worker"]
            "TCP connections open now, by worker; updated every 250 ms.",
            "max(hookgate_worker_connections) - min(hookgate_worker_connections)";
        HANDED_OVER = Counter "hookgate_connections_handed_over_total" []
            "Connections that one worker accepted and handed over to another.",
            "rate(hookgate_connections_handed_over_total[5m])";
        ACCEPT_ERRORS = Counter "hookgate_accept_errors_total" ["error"]
            "Failed accepts, by errno name. Absent until the first.",
            "sum by (error) (increase(hookgate_accept_errors_total[1h]))";
        HANDSHAKES = Counter "hookgate_handshakes_total" ["version", "group", "result", "resumed"]
            "TLS handshakes. `result` is `ok` or a reason. `group` is that of the key exchange; empty if there was none, as in a resumed session of TLS 1.2.",
            "sum by (result) (rate(hookgate_handshakes_total{result!=\"ok\"}[5m]))";
        HANDSHAKE_DURATION = Histogram "hookgate_handshake_duration_seconds" []
            "Time from the accept to the end of a completed handshake.",
            "histogram_quantile(0.99, sum by (le) (rate(hookgate_handshake_duration_seconds_bucket[5m])))";
    }
    "Identity of peers" {
        VERIFICATIONS = Counter "hookgate_verifications_total" ["provider", "result", "reason", "cache"]
            "Client certificate chains judged. `result` is `ok` or `refused`, `cache` is `hit` or `miss`.",
            "sum by (provider, reason) (rate(hookgate_verifications_total{result=\"refused\"}[5m]))";
        CLIENT_CHAINS = Counter "hookgate_client_chains_total" ["provider", "profile", "anchor"]
            "Client certificate chains admitted: one for each connection, and one more if an open connection is judged again.",
            "increase(hookgate_client_chains_total{profile=\"google-trust-services\"}[1d]) > 0";
        LENIENT = Counter "hookgate_lenient_admissions_total" ["provider", "rule"]
            "Client certificates admitted that a stricter `extended_key_usage` would refuse, by the rule that admits them: `client-auth` (the extension is absent) or `ignore` (it lacks clientAuth).",
            "increase(hookgate_lenient_admissions_total[1d]) > 0";
        SUSPECTED = Gauge "hookgate_rotation_suspected" ["provider"]
            "Refused client certificate chains that claim a provider and for which there is evidence; see `hookgate trust pending`. Absent until the first.",
            "hookgate_rotation_suspected > 0";
        CACHE_ENTRIES = Gauge "hookgate_chain_cache_entries" []
            "Chains in the cache of verified chains.",
            "hookgate_chain_cache_entries / hookgate_limit{limit=\"chain_cache_entries\"}";
        CACHE_EVICTIONS = Counter "hookgate_chain_cache_evictions_total" []
            "Chains evicted from the cache of verified chains to make room.",
            "rate(hookgate_chain_cache_evictions_total[5m])";
        SOURCE_MISSES = Counter "hookgate_source_not_in_ranges_total" ["provider"]
            "Requests from an address outside of their provider's ranges. Absent until the first.",
            "sum by (provider) (increase(hookgate_source_not_in_ranges_total[1h]))";
    }
    "Requests and refusals" {
        REQUESTS = Counter "hookgate_requests_total" ["route", "provider", "status"]
            "Requests answered, refusals included. `status` is 499 if the peer left before the answer. `route` is empty if no route was found; `provider` is the one that the request is admitted as, before its own proof is judged. It is empty if the route admits the sender as none, whatever its certificate claims.",
            "sum by (route) (rate(hookgate_requests_total[5m]))";
        REQUEST_DURATION = Histogram "hookgate_request_duration_seconds" ["route"]
            "Time from the head of a request to the head of its answer.",
            "histogram_quantile(0.99, sum by (le, route) (rate(hookgate_request_duration_seconds_bucket[5m])))";
        REQUEST_BYTES = Counter "hookgate_request_body_bytes_total" ["route", "provider"]
            "Bytes of request bodies that were read.",
            "sum by (provider) (rate(hookgate_request_body_bytes_total[5m]))";
        RESPONSE_BYTES = Counter "hookgate_response_body_bytes_total" ["route", "provider"]
            "Bytes of the bodies of answers, problem documents included.",
            "sum by (provider) (rate(hookgate_response_body_bytes_total[5m]))";
        REJECTIONS = Counter "hookgate_rejections_total" ["reason", "blame", "provider", "route"]
            "Refusals of connections and requests. `provider` is the one that the request is admitted as, or that the certificate proves or claims; of `identity_mismatch`, the one whose trust anchor the chain has. `provider` and `route` are empty if they were not known. A duplicate that gets its configured answer is no refusal.",
            "sum by (reason, provider) (increase(hookgate_rejections_total{blame=\"peer\"}[1h]))";
        DUPLICATES = Counter "hookgate_duplicate_deliveries_total" ["route", "provider"]
            "Deliveries that the handler had accepted before, and that got the configured answer. Absent until the first.",
            "sum by (provider) (increase(hookgate_duplicate_deliveries_total[1h]))";
        DELIVERIES = Gauge "hookgate_replay_deliveries" []
            "Delivery ids in memory; an id whose window has ended counts until it is removed.",
            "hookgate_replay_deliveries / hookgate_limit{limit=\"replay_entries\"}";
        DELIVERIES_KEPT = Counter "hookgate_deliveries_kept_total" []
            "Delivery ids that were written to the state directory. Absent until the first.",
            "rate(hookgate_deliveries_kept_total[5m])";
        DELIVERIES_NOT_KEPT = Counter "hookgate_deliveries_not_kept_total" []
            "Deliveries that a handler took and the state directory did not; see `on_state_failure`. Absent until the first.",
            "increase(hookgate_deliveries_not_kept_total[1h])";
        DELIVERIES_FAILING = Gauge "hookgate_deliveries_failing" []
            "1 if the last write of deliveries failed, otherwise 0. Absent until the first.",
            "hookgate_deliveries_failing == 1";
    }
    "Fleet" {
        FLEET_CONNECTED = Gauge "hookgate_fleet_connected" []
            "1 with a connection to a NATS server of `[fleet]`, otherwise 0. Absent without `[fleet]`.",
            "hookgate_fleet_connected == 0";
        FLEET_CLAIMS = Counter "hookgate_fleet_claims_total" ["result"]
            "Deliveries for which the memory of the fleet was asked. `result` is `made`, `taken` (a copy was taken before), `in_flight` (another host has a copy) or `failed` (no answer). Absent until the first.",
            "sum by (result) (rate(hookgate_fleet_claims_total[5m]))";
        FLEET_CLAIM_DURATION = Histogram "hookgate_fleet_claim_duration_seconds" []
            "Time until the memory of the fleet has answered. Absent until the first.",
            "histogram_quantile(0.99, sum by (le) (rate(hookgate_fleet_claim_duration_seconds_bucket[5m])))";
        FLEET_NOT_STORED = Counter "hookgate_fleet_not_stored_total" []
            "Deliveries that a handler took and the memory of the fleet did not; see `on_state_failure`. Absent until the first.",
            "increase(hookgate_fleet_not_stored_total[1h])";
        FLEET_SPOOL_DELIVERIES = Gauge "hookgate_fleet_spool_deliveries" ["route", "state"]
            "Deliveries of a durable route that the servers of `[fleet]` store, of all hosts. `state` is `waiting` or `dead`. Looked at every 5 seconds. Absent until the first look.",
            "max by (route, state) (hookgate_fleet_spool_deliveries)";
        FLEET_SPOOL_OLDEST = Gauge "hookgate_fleet_spool_oldest_age_seconds" ["route"]
            "How long the oldest delivery that waits at the servers of `[fleet]` has waited; 0 if none waits. Absent until the first look.",
            "max by (route) (hookgate_fleet_spool_oldest_age_seconds) > 600";
        FLEET_SPOOL_FILLED = Gauge "hookgate_fleet_spool_filled_ratio" ["route"]
            "The larger part that is used of `max_entries` of the route and of the bytes of the stream (`max_bytes` of `[fleet]`), from 0 to 1. At 1 senders get 503 `spool_full`. Absent until the first look.",
            "max by (route) (hookgate_fleet_spool_filled_ratio) > 0.8";
        FLEET_SPOOL_PAUSED = Gauge "hookgate_fleet_spool_paused" ["route"]
            "1 if an operator has paused the route at all hosts (`hookgate deliveries pause`), otherwise 0. Absent until the first look.",
            "max by (route) (hookgate_fleet_spool_paused) == 1";
        FLEET_SPOOL_USABLE = Gauge "hookgate_fleet_spool_usable" []
            "1 if the servers of `[fleet]` stored the last delivery or answered the last look, otherwise 0: no connection, too few servers, or a stream that does not do; the log says which. Absent without a durable route.",
            "hookgate_fleet_spool_usable == 0";
        FLEET_SPOOL_WRITE = Histogram "hookgate_fleet_spool_write_duration_seconds" []
            "Time until the servers of `[fleet]` have stored a delivery. Absent until the first.",
            "histogram_quantile(0.99, sum by (le) (rate(hookgate_fleet_spool_write_duration_seconds_bucket[5m])))";
        FLEET_SPOOL_FALLBACK = Counter "hookgate_fleet_spool_fallback_total" ["route"]
            "Deliveries that went to the disk of this host because the servers of `[fleet]` did not store them (`fallback = \"disk\"`). Absent until the first.",
            "increase(hookgate_fleet_spool_fallback_total[1h])";
    }
    "Durable delivery" {
        SPOOL_ACCEPTED = Counter "hookgate_spool_accepted_total" ["route", "provider"]
            "Deliveries of durable routes that were stored. Absent until the first.",
            "sum by (route) (rate(hookgate_spool_accepted_total[5m]))";
        SPOOL_DELIVERIES = Gauge "hookgate_spool_deliveries" ["route", "state"]
            "Stored deliveries: `waiting` for the handler, or `dead` letters. Absent until the first.",
            "sum by (route) (hookgate_spool_deliveries{state=\"dead\"}) > 0";
        SPOOL_BYTES = Gauge "hookgate_spool_bytes" ["route"]
            "Bytes of fields and bodies of stored deliveries, dead letters included. Absent until the first.",
            "hookgate_spool_bytes";
        SPOOL_FILLED = Gauge "hookgate_spool_filled_ratio" ["route"]
            "The larger part of `max_entries` and `max_bytes` that is used, from 0 to 1. At 1 senders get 503 `spool_full`. Absent until the first delivery since the start.",
            "hookgate_spool_filled_ratio > 0.8";
        SPOOL_OLDEST = Gauge "hookgate_spool_oldest_age_seconds" ["route"]
            "How long the oldest waiting delivery has waited; 0 if none waits. Absent until the first.",
            "hookgate_spool_oldest_age_seconds > 600";
        SPOOL_ATTEMPTS = Counter "hookgate_spool_attempts_total" ["route", "result"]
            "Attempts to hand a stored delivery over. `result` is `taken`, `again`, or `dead` if no other follows. Absent until the first.",
            "sum by (route, result) (rate(hookgate_spool_attempts_total[5m]))";
        SPOOL_WRITE = Histogram "hookgate_spool_write_duration_seconds" []
            "Time of a transaction that stores deliveries, with the sync of the disk. Absent until the first.",
            "histogram_quantile(0.99, sum by (le) (rate(hookgate_spool_write_duration_seconds_bucket[5m])))";
        SPOOL_PAUSED = Gauge "hookgate_spool_paused" ["route"]
            "1 if an operator has paused the route (`hookgate deliveries pause`), otherwise 0. Absent until the first delivery.",
            "hookgate_spool_paused == 1";
    }
    "Handlers" {
        HANDLER_UP = Gauge "hookgate_handler_up" ["handler"]
            "1 if the last request to the handler got an answer, 0 if the handler could not be reached, was too slow or answered nonsense. Absent until the first request.",
            "hookgate_handler_up == 0";
        HANDLER_DURATION = Histogram "hookgate_handler_duration_seconds" ["handler", "route"]
            "Time from the hand-over of a request to the head of the handler's answer, including the wait for a free place among `handler_max_in_flight`.",
            "histogram_quantile(0.99, sum by (le, route) (rate(hookgate_handler_duration_seconds_bucket[5m])))";
        HANDLER_IN_FLIGHT = Gauge "hookgate_handler_requests_in_flight" ["handler"]
            "Requests with a handler now.",
            "hookgate_handler_requests_in_flight";
        HANDLER_WAITING = Gauge "hookgate_handler_requests_waiting" ["handler"]
            "Requests that wait for a place at a handler now (`handler_max_in_flight`). One that waits for several handlers of a list counts at one of them.",
            "hookgate_handler_requests_waiting > 0";
        ROUTE_IN_FLIGHT = Gauge "hookgate_route_requests_in_flight" ["route"]
            "Requests of a route with `max_in_flight` that have a place among them now. Absent until the first request of such a route.",
            "hookgate_route_requests_in_flight";
        ROUTE_WAITING = Gauge "hookgate_route_requests_waiting" ["route"]
            "Requests of a route with `max_in_flight` that wait for a place among them now. Absent until the first request of such a route.",
            "hookgate_route_requests_waiting > 0";
        HANDLER_CONNECTIONS = Counter "hookgate_handler_connections_total" ["handler"]
            "Connections made to a handler.",
            "rate(hookgate_handler_connections_total[5m])";
        HANDLER_FAILURES = Counter "hookgate_handler_failures_total" ["handler", "reason"]
            "Requests that a handler did not answer, or not in HTTP. If another handler of a list answered, the sender heard nothing of it. Absent until the first.",
            "increase(hookgate_handler_failures_total[1h])";
        HANDLER_CHOSEN = Counter "hookgate_handler_chosen_total" ["handler"]
            "Requests that went to this handler of a list. Absent for a handler that is alone in each route.",
            "rate(hookgate_handler_chosen_total[5m])";
        HANDLER_PASSED = Counter "hookgate_handler_passed_total" ["handler"]
            "Requests of which this handler got nothing, so that another one of the list got them. Absent for a handler that is alone in each route.",
            "increase(hookgate_handler_passed_total[1h])";
        HANDLER_EJECTED = Gauge "hookgate_handler_ejected" ["handler"]
            "1 while a handler of a list is ejected: it failed, and gets one request at a time that tries it. Absent for a handler that is alone in each route.",
            "hookgate_handler_ejected == 1";
        HANDLER_RETRIES = Counter "hookgate_handler_retries_total" ["handler"]
            "Requests sent again because the handler had closed an idle connection.",
            "increase(hookgate_handler_retries_total[1h])";
    }
    "Configuration" {
        RELOADS = Counter "hookgate_config_reloads_total" ["result"]
            "Loads of the configuration, the first one included. `result` is `ok`, `error`, or `weaker` if it would demand less.",
            "increase(hookgate_config_reloads_total{result!=\"ok\"}[1h])";
        LAST_RELOAD_SUCCESSFUL = Gauge "hookgate_config_last_reload_successful" []
            "1 if the last load of the configuration is in use, 0 if it was refused and the one before stays.",
            "hookgate_config_last_reload_successful == 0";
        LAST_RELOAD = Gauge "hookgate_config_last_reload_timestamp_seconds" []
            "When the configuration was loaded last, whether it is in use or not, in seconds since 1970.",
            "time() - hookgate_config_last_reload_timestamp_seconds";
        GENERATION = Gauge "hookgate_config_generation" []
            "Generation of the configuration in use, from 1: loads, and revocation lists that revoke more.",
            "changes(hookgate_config_generation[1d])";
        TICKET_POLICY = Gauge "hookgate_ticket_policy" []
            "Which trust policy the session tickets of this host are for, as the first 32 bits of its digest: hosts with different numbers do not open each other's. 0 without `[tickets]`.",
            "count(count_values(\"policy\", hookgate_ticket_policy))";
        LIMIT = Gauge "hookgate_limit" ["limit"]
            "A number of `[limits]` that is in force.",
            "hookgate_limit{limit=\"handler_max_in_flight\"}";
        LIMIT_BYTES = Gauge "hookgate_limit_bytes" ["limit"]
            "A size of `[limits]` that is in force, by the key without `_bytes`.",
            "hookgate_limit_bytes{limit=\"max_body\"}";
        LIMIT_SECONDS = Gauge "hookgate_limit_seconds" ["limit"]
            "A duration of `[limits]` that is in force, by the key without `_ms` or `_s`.",
            "hookgate_limit_seconds{limit=\"handler_timeout\"}";
    }
    "Dates of certificates and lists" {
        CERTIFICATE = Gauge "hookgate_certificate_not_after_timestamp_seconds" ["kind", "name", "provider"]
            "When a certificate of the configuration ends, in seconds since 1970. `kind` is `server` (the gateway's own, by its first DNS name; of several with one name, the first to end) or `trust_anchor` (by common name and the first bytes of the SHA-256 of its public key).",
            "hookgate_certificate_not_after_timestamp_seconds{kind=\"server\"} - time() < 14 * 86400";
        REVOCATION_LIST = Gauge "hookgate_revocation_list_next_update_timestamp_seconds" ["provider", "issuer"]
            "When a revocation list ends (nextUpdate), in seconds since 1970. Absent without lists.",
            "hookgate_revocation_list_next_update_timestamp_seconds - time() < 3600";
        CLIENT_CERTIFICATE = Gauge "hookgate_client_certificate_not_after_timestamp_seconds" ["provider"]
            "When the client certificate that was seen last ends, in seconds since 1970. Absent until the first.",
            "hookgate_client_certificate_not_after_timestamp_seconds - time() < 14 * 86400";
    }
    "Certificates of authorities" {
        ACME_ATTEMPTS = Counter "hookgate_acme_attempts_total" ["certificate", "result"]
            "Attempts to get a certificate (`acme`). `result` is `ok`, or the step that failed: `directory`, `account`, `order`, `challenge`, `finalize`, `certificate` (it is not what senders accept) or `state` (the state directory took no file). Absent until the first.",
            "sum by (certificate, result) (increase(hookgate_acme_attempts_total{result!=\"ok\"}[1d]))";
        ACME_FAILURES = Gauge "hookgate_acme_failures" ["certificate"]
            "Attempts to get a certificate that failed in a row. Absent until the first attempt.",
            "hookgate_acme_failures >= 3";
        ACME_NEXT = Gauge "hookgate_acme_next_attempt_timestamp_seconds" ["certificate"]
            "When a certificate is asked for next, in seconds since 1970. Absent without `acme`.",
            "hookgate_acme_next_attempt_timestamp_seconds - time()";
        ACME_CHALLENGES = Counter "hookgate_acme_challenges_total" []
            "Handshakes by which an authority verified a name.",
            "increase(hookgate_acme_challenges_total[1h])";
    }
    "What is fetched" {
        FETCHES = Counter "hookgate_fetches_total" ["source", "result"]
            "Fetches of published lists and keys. `source` is the URL without its query, or the name of a key source. `result` is `ok`, `unchanged`, `not_modified`, or why it failed: `timed_out`, `connect`, `tls`, `http`, `redirect`, `not_public`, `status`, `content_encoding`, `too_large`, `document` (it is not what is expected there), `older`, `wrong_signer`, or `refused` (it takes too much away, the filter has no room, or it is from the future). Absent if nothing is fetched.",
            "sum by (source, result) (increase(hookgate_fetches_total{result!~\"ok|unchanged|not_modified\"}[1d]))";
        FETCHED = Gauge "hookgate_fetched_timestamp_seconds" ["source"]
            "When what is in use was fetched or confirmed last, in seconds since 1970. Absent if nothing was fetched.",
            "time() - hookgate_fetched_timestamp_seconds";
        KEYS_USABLE = Gauge "hookgate_keys_usable_until_timestamp_seconds" ["source"]
            "Until when the keys of a source stay in use if every further fetch fails, in seconds since 1970. Absent without such keys.",
            "hookgate_keys_usable_until_timestamp_seconds - time() < 6 * 3600";
        STATE_WRITES = Counter "hookgate_state_writes_total" ["result"]
            "Writes to the state directory. `result` is `ok`, `disk_full`, `read_only`, `not_permitted` or `failed`. Absent until the first.",
            "increase(hookgate_state_writes_total{result!=\"ok\"}[1h])";
    }
    "The filter" {
        FILTER_UNAVAILABLE = Gauge "hookgate_filter_unavailable" []
            "1 if the filter was asked for and does not run, or not on an interface that was recreated, so that every packet gets in.",
            "hookgate_filter_unavailable == 1";
        FILTER_ATTACHED = Gauge "hookgate_filter_attached_info" ["interface", "mode"]
            "1 for each interface that runs the filter, 0 for one that did. Absent without `[filter]`.",
            "hookgate_filter_attached_info == 0";
        FILTER_PACKETS = Counter "hookgate_filter_packets_total" ["family", "verdict", "reason"]
            "Packets that the filter judged. `verdict` is `pass`, `drop`, or `would_drop` in mode `monitor`; `reason` is `not_filtered`, `later_fragment`, `truncated`, `allowed`, `denied`, `no_range`, `syn_rate` or `header_chain`. Absent without `[filter]`.",
            "sum by (verdict, reason) (rate(hookgate_filter_packets_total[5m]))";
        FILTER_SET_PACKETS = Counter "hookgate_filter_set_packets_total" ["set"]
            "Packets that a range of the set decided about. If several sets have the same range, the first in the file counts the packet. Absent without `[filter]`.",
            "sum by (set) (rate(hookgate_filter_set_packets_total[5m]))";
        FILTER_RANGES = Gauge "hookgate_filter_ranges" ["set", "family"]
            "Ranges in force, by set (a provider, `(allow)`, `(deny)` or `(proxies)`) and family. Absent without `[filter]`.",
            "hookgate_filter_ranges == 0";
        FILTER_MEMORY = Gauge "hookgate_filter_map_bytes" []
            "Kernel memory of the filter's maps. Absent without `[filter]`.",
            "hookgate_filter_map_bytes";
    }
    "The process" {
        BUILD_INFO = Gauge "hookgate_build_info" ["version", "crypto"]
            "Always 1. `crypto` is the library of handshakes: `ring` or `aws-lc`.",
            "count by (version) (hookgate_build_info)";
        IO_BACKEND = Gauge "hookgate_io_backend_info" ["backend"]
            "Always 1. `backend` is `io_uring_direct`, `io_uring` or `epoll`.",
            "count by (backend) (hookgate_io_backend_info)";
        IO_FALLBACK = Gauge "hookgate_io_fallback" []
            "1 if io_uring is unavailable and `listen.io = \"auto\"` fell back to `epoll`.",
            "hookgate_io_fallback == 1";
        WORKER_STALLED = Gauge "hookgate_worker_stalled" ["worker"]
            "1 while a worker shows no life for half of `WatchdogSec=`, or 5 seconds without it.",
            "hookgate_worker_stalled == 1";
        LOG_LOST = Counter "hookgate_log_events_lost_total" []
            "Log events lost because they came faster than they could be written, or could not be written.",
            "increase(hookgate_log_events_lost_total[1h])";
        LOG_SUPPRESSED = Counter "hookgate_log_events_suppressed_total" ["cause"]
            "Log events suppressed because more came in a second than are logged, by cause.",
            "sum by (cause) (increase(hookgate_log_events_suppressed_total[1h]))";
        PROCESS_CPU = Counter "process_cpu_seconds_total" []
            "CPU time of all threads of the process, in the kernel and outside of it.",
            "rate(process_cpu_seconds_total{job=\"hookgate\"}[5m])";
        PROCESS_RESIDENT = Gauge "process_resident_memory_bytes" []
            "Resident memory of the process.",
            "process_resident_memory_bytes{job=\"hookgate\"}";
        PROCESS_VIRTUAL = Gauge "process_virtual_memory_bytes" []
            "Address space of the process.",
            "process_virtual_memory_bytes{job=\"hookgate\"}";
        PROCESS_OPEN_FDS = Gauge "process_open_fds" []
            "File descriptors that are open now.",
            "process_open_fds{job=\"hookgate\"} / process_max_fds{job=\"hookgate\"}";
        PROCESS_MAX_FDS = Gauge "process_max_fds" []
            "File descriptors that may be open (RLIMIT_NOFILE).",
            "process_max_fds{job=\"hookgate\"}";
        PROCESS_START = Gauge "process_start_time_seconds" []
            "When the process started, in seconds since 1970.",
            "time() - process_start_time_seconds{job=\"hookgate\"}";
    }
}

#[cfg(test)]
mod tests;
