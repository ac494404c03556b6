//! The policy as a whole, with certificates that `fixture` makes.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod anchors;
mod caching;
mod constraints;
mod cost;
mod differences;
mod documentation;
mod effort;
mod exemptions;
mod fixture;
mod paths;
mod refusals;
mod revocation;
mod robustness;
mod routes;
mod rules;
mod sightings;
mod spelling;
mod suspects;
mod trust_digest;
