//! Who the peer is: from presented certificates to the providers that they prove.
//!
//! Owns path verification (webpki), the identity rules (x509-parser), revocation, the diagnosis of failures, and the
//! verified-chain cache. Does no I/O, reads no clock (`now` is passed in) and knows nothing of sockets, HTTP or files.

pub mod policy;
pub mod revocation;
pub mod rule;

pub use policy::{ChainLimits, ExtendedKeyUsage, OnFailure, Profile, Provider, ProviderId, Scope};
