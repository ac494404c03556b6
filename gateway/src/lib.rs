//! hookgate's library: the stages of a request, in the order in which a packet meets them.
//!
//! `filter → accept → tls → identity → http → auth → route → upstream`; ARCHITECTURE.md says what each may touch.

pub mod accept;
pub mod auth;
pub mod cli;
pub mod config;
pub mod control;
pub mod crypto;
pub mod filter;
pub mod http;
pub mod identity;
pub mod metrics;
pub mod ranges;
pub mod reject;
pub mod route;
pub mod snapshot;
pub mod tls;
pub mod upstream;
pub mod worker;
