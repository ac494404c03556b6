//! End-to-end tests: the real binary, between real clients and real handlers.
//!
//! One file per subject, one behaviour per test. `HOOKGATE_TEST_IO` selects the I/O backend.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

mod acceptor;
mod access;
mod acme;
mod admin;
mod alert;
mod client;
mod command;
mod durable;
mod environment;
mod explain;
mod fetched_lists;
mod filter;
mod fleet;
mod fleet_spool;
mod handler;
mod hostile;
mod http2;
mod journal_stub;
mod key_exchange;
mod lifecycle;
mod log;
mod memory;
mod metrics;
mod new_authority;
mod problem;
mod prometheus;
mod proof;
mod proxy_protocol;
mod published;
mod publisher;
mod refusal;
mod request;
mod revocation;
mod rotation;
mod session;
mod spread;
mod strangers;
mod test_gateway;
mod tickets;
mod tls;
mod tls_client;
mod watch;
