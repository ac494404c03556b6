//! The policy as a whole, asked about certificates that `fixture` makes for the purpose.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod caching;
mod fixture;
mod paths;
mod refusals;
mod revocation;
mod robustness;
mod rules;
mod sightings;
