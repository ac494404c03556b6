//! The control plane: what happens beside the way of a request.
//!
//! Runs on ordinary tokio; the data plane never waits for it longer than for a pointer, but where a token names an unknown key.

pub mod jwks;
