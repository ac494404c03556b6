//! TLS: what is served under a server name, and the encrypted stream.
//!
//! Owns our certificates by server name ([`certificates`]), the TLS configuration of a site ([`server`]) and of an authority's challenge
//! ([`challenge`]), the client verifier
//! ([`verifier`]), the stream over a socket ([`stream`]), the end of a connection before TLS ([`turn_away`]), and the words for a failed handshake
//! ([`fault`]). Must not decide who the peer is: `identity` does, and `admission` asks.

pub mod certificates;
pub mod challenge;
mod fault;
mod intake;
pub mod server;
mod sessions;
pub mod stream;
pub mod turn_away;
pub mod verifier;
