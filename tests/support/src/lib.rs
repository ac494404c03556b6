//! What the tests, `cargo xtask demo` and the benchmarks share: a throwaway PKI shaped like the providers', real clients (curl,
//! OpenSSL), a real handler on a Unix socket, and the daemon itself as a child process.
//!
//! Blocking code that needs no system library, so that `xtask` builds without one. Must not depend on the `hookgate` crate: it
//! knows the daemon as an operator does, by its file, its log and its metrics.

pub mod client;
pub mod configuration;
pub mod documents;
pub mod gateway;
pub mod handler;
pub mod http;
pub mod metrics;
pub mod mount;
pub mod namespace;
pub mod operator;
pub mod pagerduty;
pub mod pki;
pub mod process;
pub mod root;
pub mod service_manager;
pub mod token;
pub mod wait;
