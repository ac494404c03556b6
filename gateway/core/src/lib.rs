//! The decisions of hookgate: who is the peer, and may it do what it asks for.
//!
//! Owns the trust policy and everything that is decided by it: the verification of certificate chains ([`identity`]), the proofs
//! that a request carries ([`auth`]), the choice of a route ([`route`]), source ranges ([`ranges`]), the bounds ([`limits`]) and
//! every reason to refuse ([`reject`]). Does no I/O, reads no clock (`now` is an argument) and holds no `unsafe` code. Knows
//! nothing of tokio, sockets or files.
#![forbid(unsafe_code)]

pub mod auth;
pub mod identity;
pub mod limits;
pub mod prefix;
pub mod ranges;
pub mod reject;
pub mod route;
pub mod signatures;

/// Whether this build has what only tests may use: see [`identity::PeerChain`]. The daemon refuses to be built for release with it.
pub const IS_FOR_TESTS: bool = cfg!(feature = "testing");
