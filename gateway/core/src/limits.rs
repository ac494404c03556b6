//! The bounds of the data plane, and their defaults.
//!
//! Owns the values and nothing else: `config` reads them and checks their ranges, the stages of the daemon enforce them. Must not
//! enforce anything.

use std::time::Duration;

/// The most bytes of a ClientHello, as it is on the wire. With a hybrid key share and a session ticket ([`TICKET_BYTES`]) it takes up to
/// 15 KiB; the rest is for other extensions, and for record headers.
pub const CLIENT_HELLO_BYTES: usize = 18 * 1024;

/// The most bytes of a session that becomes a ticket. It contains the client's chain; a client with a longer chain (usual are 2 to 6
/// KiB) resumes no session, because its ClientHello would be too long.
pub const TICKET_BYTES: usize = 12 * 1024;

/// What the rest of a client's handshake may have beside its chain, in bytes on the wire: the signature (512 bytes with RSA-4096), a
/// key exchange, extensions of certificates, record headers, and the part of a first request that arrives with it (at most
/// 4 KiB, a receive buffer).
pub const CLIENT_FLIGHT_SLACK: usize = 16 * 1024;

/// `[limits]`: every bound of the data plane. Keys carry the unit; [`Limits::default`] has the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `max_connections`: open connections, over all workers.
    pub max_connections: usize,
    /// `handshake_timeout_ms`: from accept to the end of the handshake.
    pub handshake_timeout: Duration,
    /// `request_head_timeout_ms`: from the first byte of a request to the end of its head; also from the end of the handshake
    /// to the first byte of the first request.
    pub request_head_timeout: Duration,
    /// `request_timeout_ms`: from the first byte of a request to the last of its body.
    pub request_timeout: Duration,
    /// `handler_timeout_ms`: from a complete request to the head of the handler's response, queueing included; then between two
    /// parts of its body.
    pub handler_timeout: Duration,
    /// `response_timeout_ms`: how long a peer may read nothing of a response, or less than a least rate.
    pub response_timeout: Duration,
    /// `idle_timeout_ms`: between two requests on a connection.
    pub idle_timeout: Duration,
    /// `drain_timeout_ms`: how long requests in flight may take after SIGTERM.
    pub drain_timeout: Duration,
    /// `max_head_bytes`: request line and header fields of one request.
    pub max_head_bytes: usize,
    /// `max_headers`: header fields of one request.
    pub max_headers: usize,
    /// `max_body_bytes`: body of one request.
    pub max_body_bytes: usize,
    /// `max_buffered_bytes`: memory for request bodies, over all workers.
    pub max_buffered_bytes: usize,
    /// `max_answer_buffer_bytes`: what is taken of one answer ahead of a slow peer.
    pub max_answer_buffer_bytes: usize,
    /// `max_buffered_answer_bytes`: what is taken of all answers ahead of slow peers, over all workers.
    pub max_buffered_answer_bytes: usize,
    /// `max_unadmitted_bytes`: memory for connections that are not admitted, from their accept on, over all workers.
    pub max_unadmitted_bytes: usize,
    /// `max_failed_handshakes_per_source_per_s`: failed handshakes of one address, before its handshakes wait for all others; 0 turns the
    /// order by source off.
    pub max_failed_handshakes_per_source_per_s: usize,
    /// `max_presented_certificates`: certificates in a client's chain.
    pub max_presented_certificates: usize,
    /// `max_presented_bytes`: DER of all certificates in a client's chain.
    pub max_presented_bytes: usize,
    /// `chain_cache_entries`: verified chains in the cache; 0 turns the cache off.
    pub chain_cache_entries: usize,
    /// `chain_cache_ttl_s`: how long a chain stays in the cache at most.
    pub chain_cache_ttl: Duration,
    /// `replay_entries`: remembered deliveries, over all providers and routes; about 56 bytes each.
    pub replay_entries: usize,
    /// `handler_max_in_flight`: concurrent requests to one handler, over all workers.
    pub handler_max_in_flight: usize,
    /// `handler_max_waiting`: requests queued for one handler, over all workers; further ones are refused. One queued for several counts at one.
    pub handler_max_waiting: usize,
    /// `handler_idle_connections`: idle connections to one handler that each worker keeps open.
    pub handler_idle_connections: usize,
    /// `handler_idle_timeout_ms`: how long an idle connection to a handler stays open. The default is less than common servers keep one
    /// (gunicorn's threads 2 s, uvicorn and Node 5 s): a request on a connection that the handler is closing may be lost.
    pub handler_idle_timeout: Duration,
}

impl Default for Limits {
    /// The documented defaults. Senders set the time-outs: PagerDuty waits 5 s for a receiver and Dialogflow at most 30 s, so a
    /// longer wait has no use. The sizes leave room above the largest bodies that these senders document (64 KiB).
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
            max_answer_buffer_bytes: 4 * 1024 * 1024,
            max_buffered_answer_bytes: 256 * 1024 * 1024,
            // A quarter of a small host. 64 MiB are 2,300 handshakes: those of 11,000 arrivals a second that take 200 ms each.
            max_unadmitted_bytes: 64 * 1024 * 1024,
            // A sender behind a shared address, or with a wrong certificate, retries more seldom. A core makes hundreds a second.
            max_failed_handshakes_per_source_per_s: 10,
            max_presented_certificates: 8,
            max_presented_bytes: 32 * 1024,
            chain_cache_entries: 4096,
            chain_cache_ttl: Duration::from_secs(3600),
            replay_entries: 100_000,
            handler_max_in_flight: 256,
            handler_max_waiting: 1024,
            handler_idle_connections: 32,
            handler_idle_timeout: Duration::from_millis(1500),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// gunicorn's threads close an unused connection after 2 s, the least of the usual servers.
    #[test]
    fn an_unused_connection_to_a_handler_ends_before_common_servers_close_it() {
        assert!(Limits::default().handler_idle_timeout < Duration::from_secs(2));
    }
}
