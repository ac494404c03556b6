//! hookgate's library: the stages of a request, in the order in which a packet meets them.
//!
//! `filter → accept → tls → identity → http → auth → route → upstream`; ARCHITECTURE.md says what each may touch.

pub mod accept;
pub mod admission;
pub mod cli;
pub mod config;
pub mod context;
pub mod control;
pub mod crypto;
pub mod http;
pub mod keys;
pub mod metrics;
pub mod snapshot;
pub mod tls;
pub mod upstream;
pub mod worker;
