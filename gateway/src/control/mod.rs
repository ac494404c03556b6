//! The control plane: what happens beside the way of a request.
//!
//! Owns the subcommands, start-up and its order ([`run`]), reload, signals, the metrics endpoint, the service manager with its
//! sockets and its watchdog, and the keys of token issuers ([`jwks`]). Runs on the main thread; the data plane never waits for it, but where a token names an
//! unknown key.
#![expect(clippy::disallowed_methods, reason = "the control thread runs tokio's runtime, with its timers")]

pub mod check;
mod confine;
mod filter;
pub mod filter_status;
pub mod jwks;
mod keys;
mod log;
pub mod providers;
mod reload;
mod rotation;
pub mod run;
mod service;
mod sockets;
mod status;
mod watch;
mod watchdog;
