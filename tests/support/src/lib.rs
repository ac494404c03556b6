//! What the end-to-end tests, `cargo xtask demo` and the benchmarks share: a throwaway PKI shaped like the providers',
//! real clients (curl, OpenSSL), a real handler on a Unix socket, and the daemon itself as a child process.
//!
//! Blocking code on the standard library alone, so that `xtask` builds where no system library is installed. It must not
//! depend on the `hookgate` crate: what it knows of the daemon is what an operator knows, the file, the log and the metrics.

pub mod client;
pub mod configuration;
pub mod documents;
pub mod gateway;
pub mod handler;
pub mod http;
pub mod metrics;
pub mod namespace;
pub mod pki;
pub mod process;
pub mod root;
pub mod service_manager;
pub mod token;
