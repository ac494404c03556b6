//! The daemon of hookgate: it receives webhooks over mutual TLS, verifies who sent them, and hands them to local handlers, over
//! Unix sockets or loopback ports.
//!
//! # The path of a request
//!
//! 1. **filter** ([`hookgate_filter`]). An XDP program in the kernel drops packets from addresses outside of the configured ranges.
//!    [`control`] attaches it and keeps its ranges current.
//! 2. **accept** ([`accept`]). A worker ([`worker`]) accepts the connection and gives it a slot within `max_connections`, or hands it
//!    over to a worker with fewer connections. From here on, one thread does everything, over the sockets and timers of
//!    [`hookgate_io`].
//! 3. **proxy** ([`proxy`]). If the connection comes from a proxy that is configured, its header says where the peer is.
//! 4. **tls** ([`tls`]). The server name in the ClientHello selects a [`Site`](snapshot::Site) of the current
//!    [`Snapshot`](snapshot::Snapshot): certificate, TLS configuration, and the providers whose certificates are in question. The
//!    handshake proves that the peer has the key of its certificate:
//!    [`PeerChain`](hookgate_core::identity::PeerChain).
//! 5. **admission** ([`admission`]). [`Identity`](hookgate_core::identity::Identity) verifies the chain, or finds it in the cache of
//!    verified chains: [`VerifiedChain`](hookgate_core::identity::VerifiedChain) has the providers that it proves, and until when. A
//!    refused peer gets a TLS alert, or a connection on which every request is answered with the reason (`on_failure`).
//! 6. **http** ([`http`]). hyper reads the head of a request, within the limits on size and time.
//! 7. **route** ([`hookgate_core::route`]). Host, path and method select the route. The route has to admit a provider that the chain
//!    proves ([`AuthorizedPeer`](hookgate_core::auth::AuthorizedPeer)), and the peer's address has to be in the ranges of that
//!    provider ([`hookgate_core::ranges`]). Then [`http`] reads the whole body.
//! 8. **auth** ([`hookgate_core::auth`]). The request itself carries the proofs that the provider or route demands: bearer token,
//!    session parameter, signature over the body, an id that was not seen before. The keys of token issuers come from
//!    [`key_store`]. Only this step constructs an
//!    [`AuthenticatedRequest`](hookgate_core::auth::AuthenticatedRequest).
//! 9. **upstream** ([`upstream`]). The request goes to the handler, over a Unix socket or a loopback port, and its answer streams back to the peer.
//!
//! Every step from `accept` on can refuse with a [`Reject`](hookgate_core::reject::Reject), which has one reason, one status, one alert and one
//! counter in [`metrics`]. No step can be left out, because each takes the proof of the one before: `upstream` accepts nothing but an
//! `AuthenticatedRequest`.
//!
//! # Beside the path
//!
//! [`config`] reads the file, [`snapshot`] makes of it what workers use, [`control`] starts the process, reloads, and talks to the
//! service manager. [`context`] is what the rooms of one worker share, [`state`] keeps files over a restart, [`cause`] says who brings
//! about a log event, [`suspects`] holds refused chains that may be genuine, [`missing_lists`] what chains lacked, and [`recent`] the last refusals. [`client`] is the
//! sender's side, which shares only the presets with the rest. ARCHITECTURE.md has the code map and the invariants.

pub mod accept;
pub mod access;
pub mod admission;
pub mod cause;
pub mod cli;
pub mod client;
pub mod config;
pub mod context;
pub mod control;
pub mod crypto;
pub mod deliveries;
pub mod dispatch;
pub mod fleet;
pub mod http;
pub mod init;
pub mod key_store;
pub mod metrics;
pub mod missing_lists;
pub mod proxy;
pub mod recent;
pub mod snapshot;
pub mod state;
pub mod strangers;
pub mod suspects;
pub mod tls;
pub mod upstream;
pub mod worker;
