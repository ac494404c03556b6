//! The messages between `cargo xtask bench` and `hookgate-load`: one JSON value per line, a command in one direction, a reply in the
//! other.
//!
//! Owns their types. Compiled into both programs, so that they agree. Must name no other module.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A command for `hookgate-load client`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Run one load.
    Run(Load),
    /// Open connections, send one request on each, and keep them open until the next command.
    Hold(Hold),
    /// Close what `Hold` opened.
    Release,
}

/// The reply to one [`Command`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// `Run` has ended.
    Measured(Box<Measured>),
    /// `Hold` has ended: this many connections are open.
    Holding(usize),
    /// `Release` has ended: this many connections were still open.
    Released(usize),
    /// Something differed from the command, so there is no measurement.
    Failed(String),
}

/// The certificates and keys of a benchmark, for `hookgate-load client --identities`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Identities {
    /// The certificate chain of the server, PEM. Every server must present its first certificate.
    pub(crate) server: PathBuf,
    /// Name for SNI and `Host`.
    pub(crate) server_name: String,
    /// The client of [`Sender::Returning`] and [`Sender::Resuming`].
    pub(crate) returning: Identity,
    /// The clients of [`Sender::Distinct`], used in turn.
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

/// The protocol over the TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Transport {
    /// TLS 1.3, TLS_AES_128_GCM_SHA256 and X25519 only.
    Tls13,
    /// TLS 1.3, TLS_AES_128_GCM_SHA256 and X25519MLKEM768 only.
    Tls13Hybrid,
    /// TLS 1.2, ECDHE-ECDSA-AES128-GCM-SHA256 and X25519 only.
    Tls12,
    /// No TLS: for the null proxy.
    Plain,
}

/// The clients of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Sender {
    /// One client certificate, and a full handshake each time.
    Returning,
    /// Another certificate for every connection, and a full handshake each time.
    Distinct,
    /// One client certificate. Every handshake of the measurement resumes a session.
    Resuming,
}

/// The unit that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Unit {
    /// Connect, handshake (without [`Transport::Plain`]), orderly close by the client.
    Connection,
    /// Connect, handshake, one request, its response, orderly close by the client.
    Webhook,
    /// One request on a connection that stays open.
    Request,
}

/// One load.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Load {
    /// Port of the server.
    pub(crate) port: u16,
    /// The protocol over the connection.
    pub(crate) transport: Transport,
    /// The clients of a load.
    pub(crate) sender: Sender,
    /// The unit that is counted.
    pub(crate) unit: Unit,
    /// Bytes of each request body.
    pub(crate) body_bytes: usize,
    /// Concurrent connections.
    pub(crate) connections: usize,
    /// Units per second, which arrive as a Poisson process; latency counts from when a unit is due. `None`: a new unit follows each
    /// response.
    pub(crate) rate: Option<f64>,
    /// Milliseconds of load before the counted window.
    pub(crate) warm_up_ms: u64,
    /// Milliseconds of the counted window.
    pub(crate) window_ms: u64,
    /// The processes whose CPU time is charged to the units.
    pub(crate) watch: Vec<u32>,
    /// The server refuses the client: a status from 400 to 499, or any other end of a connection, completes a unit. Closed loop only.
    pub(crate) refused: bool,
    /// The address to connect from; `None` leaves it to the kernel.
    pub(crate) from: Option<Ipv4Addr>,
}

/// Idle connections.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hold {
    /// Port of the server.
    pub(crate) port: u16,
    /// The number of connections.
    pub(crate) connections: usize,
}

/// The result of a [`Load`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// Units completed in the window.
    pub(crate) units: u64,
    /// The actual length of the window.
    pub(crate) window_ns: u64,
    /// CPU time of all threads of the watched processes in the window.
    pub(crate) server_cpu_ns: u64,
    /// CPU time of the load generator in the window.
    pub(crate) client_cpu_ns: u64,
    /// From when a unit began (open loop: was due) to the last byte of its response.
    pub(crate) latency: Latency,
    /// The largest number of units that were due without a free connection; open loop only.
    pub(crate) backlog: usize,
    /// Handshakes by kind, such as "TLS13_AES_128_GCM_SHA256 X25519 Full".
    pub(crate) handshakes: BTreeMap<String, u64>,
    /// Responses by status.
    pub(crate) statuses: BTreeMap<u16, u64>,
}

/// Percentiles in nanoseconds.
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
    /// The maximum.
    pub(crate) maximum: u64,
}

/// The output of `hookgate-load floor`: medians of the nanoseconds of one operation with ring.
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
