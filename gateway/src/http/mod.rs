//! HTTP over an established TLS connection: hyper, its limits, and the answers that hookgate gives itself.
//!
//! Owns the life of a connection after the handshake ([`connection`]), what one request goes through (`request`), and
//! problem documents ([`problem`]). Must not touch a socket but through `tls::stream`, and trusts no request: whether one may
//! go on is for `identity` and `auth` to say.

mod answer;
mod body;
pub mod connection;
mod exchange;
pub mod problem;
mod request;
