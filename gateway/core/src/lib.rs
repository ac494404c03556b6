//! The decisions of hookgate: who the peer is, and what it may do.
//!
//! # From a chain to an authenticated request
//!
//! Each step takes the proof of the step before it. A proof has private fields and only one step makes it, so that the
//! compiler rejects code that skips a step.
//!
//! 1. **Chain.** A finished TLS handshake proves that the peer holds the private key of its certificate:
//!    [`identity::PeerChain`].
//! 2. **Identity.** [`identity::Identity::verify`] builds the path to a trust anchor and compares the end entity with the
//!    identity rules of every [`identity::Provider`] in the [`identity::Scope`] of the server name. The result is a
//!    [`identity::VerifiedChain`], or a [`reject::Refusal`] that names the certificate at fault.
//! 3. **Route.** [`route::RouteTable::find`] selects the [`route::Route`] by host, path and method.
//! 4. **Authentication.** [`auth::AuthorizedPeer::admit`] checks that the route admits a provider that the chain proves, and
//!    selects the proofs that this route or provider demands of a request. [`ranges::Sources`] says whether the source
//!    address is one of that provider. When the request is complete, [`auth::Candidate::authenticate`] checks the proofs: token,
//!    session parameter, body signature, replay. The result is an [`auth::AuthenticatedRequest`], the only thing that the
//!    daemon hands to a handler.
//!
//! If step 2 refuses a chain that claims a provider, [`suspicion`] says whether the request speaks for the claim, so that the sender is
//! asked to try again instead of being turned away.
//!
//! Every step can refuse. [`reject::Reject`] is the closed list of reasons, each with its HTTP status, TLS alert and title.
//!
//! # What this crate must not do
//!
//! It does no I/O, reads no clock (`now` is an argument) and contains no `unsafe` code. It knows nothing of tokio, sockets and
//! files.
#![forbid(unsafe_code)]

pub mod auth;
pub mod identity;
pub mod limits;
pub mod ranges;
pub mod reject;
pub mod route;
pub mod signatures;
pub mod suspicion;
mod sync;

/// Whether this build contains what only tests may use, such as a [`identity::PeerChain`] without a handshake. A release build of the
/// daemon that contains it does not compile.
pub const IS_FOR_TESTS: bool = cfg!(feature = "testing");
