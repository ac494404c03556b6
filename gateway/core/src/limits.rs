//! The bounds of the data plane, and their defaults.
//!
//! Plain data: `config` reads them and keeps them within their own bounds, the rooms of the daemon hold to them.

use std::time::Duration;

/// `[limits]`: every bound of the data plane. Keys carry the unit; defaults stand in [`Limits::default`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `max_connections`: over all workers.
    pub max_connections: usize,
    /// `handshake_timeout_ms`: from accept to the end of the handshake.
    pub handshake_timeout: Duration,
    /// `request_head_timeout_ms`: from the first byte of a request to the end of its head; also from the end of the handshake
    /// to the first byte of the first request.
    pub request_head_timeout: Duration,
    /// `request_timeout_ms`: from the first byte of a request to the last of its body.
    pub request_timeout: Duration,
    /// `handler_timeout_ms`: from a complete request to the head of the handler's answer, waiting included; then between two
    /// pieces of its body.
    pub handler_timeout: Duration,
    /// `response_timeout_ms`: how long a peer may take nothing of an answer.
    pub response_timeout: Duration,
    /// `idle_timeout_ms`: between two requests on a connection.
    pub idle_timeout: Duration,
    /// `drain_timeout_ms`: how long requests in flight may take after SIGTERM.
    pub drain_timeout: Duration,
    /// `max_head_bytes`: request line and fields.
    pub max_head_bytes: usize,
    /// `max_headers`: fields in a request head.
    pub max_headers: usize,
    /// `max_body_bytes`: of one request.
    pub max_body_bytes: usize,
    /// `max_buffered_bytes`: of all request bodies at once, over all workers.
    pub max_buffered_bytes: usize,
    /// `max_presented_certificates`: in a client's chain.
    pub max_presented_certificates: usize,
    /// `max_presented_bytes`: of DER in a client's chain.
    pub max_presented_bytes: usize,
    /// `chain_cache_entries`: verified chains remembered; 0 remembers none.
    pub chain_cache_entries: usize,
    /// `chain_cache_ttl_s`: how long at the most.
    pub chain_cache_ttl: Duration,
    /// `replay_entries`: deliveries remembered, over all providers and routes; about 56 bytes each.
    pub replay_entries: usize,
    /// `handler_max_in_flight`: requests with one handler at once, over all workers.
    pub handler_max_in_flight: usize,
    /// `handler_max_waiting`: requests that wait for one handler, over all workers; more are refused.
    pub handler_max_waiting: usize,
    /// `handler_idle_connections`: kept open to one handler by each worker.
    pub handler_idle_connections: usize,
    /// `handler_idle_timeout_ms`: how long an unused connection to a handler is kept.
    pub handler_idle_timeout: Duration,
}

impl Default for Limits {
    /// The documented defaults. Time-outs follow what webhook senders do: PagerDuty gives a receiver 5 s and Dialogflow at
    /// most 30 s, so a longer wait serves nobody; sizes leave room above the largest bodies that they document (64 KiB).
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            handshake_timeout: Duration::from_secs(10),
            request_head_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            handler_timeout: Duration::from_secs(30),
            response_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(30),
            max_head_bytes: 16 * 1024,
            max_headers: 100,
            max_body_bytes: 1024 * 1024,
            max_buffered_bytes: 256 * 1024 * 1024,
            max_presented_certificates: 8,
            max_presented_bytes: 32 * 1024,
            chain_cache_entries: 4096,
            chain_cache_ttl: Duration::from_secs(3600),
            replay_entries: 100_000,
            handler_max_in_flight: 256,
            handler_max_waiting: 1024,
            handler_idle_connections: 32,
            handler_idle_timeout: Duration::from_secs(30),
        }
    }
}
