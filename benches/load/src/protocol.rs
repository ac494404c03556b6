//! What `cargo xtask bench` and `hookgate-load` say to each other: one JSON value a line, a request down, a reply up.
//!
//! Compiled into both, so that neither can misread the other. Must name no other module.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What the client asks of `hookgate-load client`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Run one load and report.
    Run(Load),
    /// Open connections, send one request on each, and keep them open until the next command.
    Hold(Hold),
    /// Close what `Hold` opened.
    Release,
}

/// The answer to one [`Command`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// `Run` is through.
    Measured(Box<Measured>),
    /// `Hold` is through; the connections are open.
    Holding(usize),
    /// `Release` is through; so many of the connections had stayed open until then.
    Released(usize),
    /// Something was not as it should be, so there is no measurement.
    Failed(String),
}

/// Which certificates and keys exist, for `hookgate-load client --identities`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Identities {
    /// The server's certificate chain, PEM; the first is what every server must present.
    pub(crate) server: PathBuf,
    /// Name for SNI and `Host`.
    pub(crate) server_name: String,
    /// The client that comes back.
    pub(crate) returning: Identity,
    /// Clients that come in turn, so that none comes back before all others came.
    pub(crate) distinct: Vec<Identity>,
}

/// One client certificate with its key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// PEM, end entity first.
    pub(crate) chain: PathBuf,
    /// PEM, PKCS #8.
    pub(crate) key: PathBuf,
}

/// What runs over the TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Transport {
    /// TLS 1.3 alone, TLS_AES_128_GCM_SHA256 alone, X25519 alone.
    Tls13,
    /// TLS 1.2 alone, ECDHE-ECDSA-AES128-GCM-SHA256 alone, X25519 alone.
    Tls12,
    /// No TLS: for the null proxy.
    Plain,
}

/// Who connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Sender {
    /// One client certificate, a full handshake each time.
    Returning,
    /// Every connection with another certificate, a full handshake each time.
    Distinct,
    /// One client certificate; every handshake in the measurement resumes a session.
    Resuming,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Unit {
    /// Connect, handshake, orderly close by the client; over [`Transport::Plain`] without the handshake.
    Connection,
    /// Connect, handshake, one request, its answer, orderly close by the client.
    Webhook,
    /// One request on a connection that stays.
    Request,
}

/// One load.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Load {
    /// Port of the server.
    pub(crate) port: u16,
    /// What runs over the connection.
    pub(crate) transport: Transport,
    /// Who connects.
    pub(crate) sender: Sender,
    /// What is counted.
    pub(crate) unit: Unit,
    /// Bytes of each request body.
    pub(crate) body_bytes: usize,
    /// Connections at once.
    pub(crate) connections: usize,
    /// Units a second, arriving as a Poisson process, latency counted from when each was due; `None`: as fast as answers come.
    pub(crate) rate: Option<f64>,
    /// Milliseconds of load before counting begins.
    pub(crate) warm_up_ms: u64,
    /// Milliseconds of counting.
    pub(crate) window_ms: u64,
    /// Processes whose CPU time is charged to the units.
    pub(crate) watch: Vec<u32>,
}

/// Idle connections.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hold {
    /// Port of the server.
    pub(crate) port: u16,
    /// How many.
    pub(crate) connections: usize,
}

/// What a [`Load`] came to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// Units completed in the window.
    pub(crate) units: u64,
    /// Length of the window as it turned out.
    pub(crate) window_ns: u64,
    /// CPU time of the watched processes in the window, all threads.
    pub(crate) server_cpu_ns: u64,
    /// CPU time of the load generator in the window.
    pub(crate) client_cpu_ns: u64,
    /// From when a unit began (open loop: was due) to its last byte of answer.
    pub(crate) latency: Latency,
    /// Most units that were due but had no free connection, at one moment; open loop only.
    pub(crate) backlog: usize,
    /// How many handshakes were of which kind: "TLS13_AES_128_GCM_SHA256 X25519 Full ECDSA_NISTP256_SHA256".
    pub(crate) handshakes: BTreeMap<String, u64>,
    /// How many answers had which status.
    pub(crate) statuses: BTreeMap<u16, u64>,
}

/// Percentiles, nanoseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Latency {
    /// 50 %
    pub(crate) p50: u64,
    /// 90 %
    pub(crate) p90: u64,
    /// 99 %
    pub(crate) p99: u64,
    /// 99.9 %
    pub(crate) p999: u64,
    /// The slowest.
    pub(crate) maximum: u64,
}

/// What `hookgate-load floor` prints: nanoseconds of one operation with ring, medians.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Floor {
    /// X25519: a fresh key pair.
    pub(crate) x25519_generate: f64,
    /// X25519: agreement.
    pub(crate) x25519_agree: f64,
    /// ECDSA on P-256: signature.
    pub(crate) p256_sign: f64,
    /// ECDSA on P-256: verification.
    pub(crate) p256_verify: f64,
    /// AES-128-GCM: sealing 1 KiB.
    pub(crate) aes128_gcm_seal_1k: f64,
}
