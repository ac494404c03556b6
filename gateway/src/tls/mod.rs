//! TLS: what a server name is served with, and the encrypted stream.
//!
//! Owns our certificates by SNI ([`certificates`]), the server configuration of a site ([`server`]), the client verifier
//! ([`verifier`]) and the stream over the I/O seam ([`stream`]). Decides nothing about who the peer is: it asks `identity`.

pub mod certificates;
pub mod server;
pub mod stream;
pub mod verifier;
