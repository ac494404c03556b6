//! The control plane: what happens beside the way of a request.
//!
//! Owns the subcommands, start-up and its order ([`run`]), reload ([`reload`]), signals, the metrics endpoint and the service
//! manager ([`service`]). Runs on the main thread; the data plane never waits for it.

pub mod check;
pub mod providers;
mod reload;
pub mod run;
mod service;
