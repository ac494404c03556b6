//! hookgate's library: the stages of a request, in the order in which a packet meets them.
//!
//! `filter → accept → tls → identity → http → auth → route → upstream`; ARCHITECTURE.md says what each may touch.

pub mod config;
pub mod filter;
pub mod identity;
pub mod reject;
