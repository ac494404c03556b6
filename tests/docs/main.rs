//! The documentation is true: every configuration and every handler in it is run.
//!
//! The pages of docs/senders have tests of their own (`tests/e2e/proof/preset`).
#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed set-up fails the test")]

mod configurations;
mod handlers;
mod page;

/// The real binary.
const BINARY: &str = env!("CARGO_BIN_EXE_hookgate");
