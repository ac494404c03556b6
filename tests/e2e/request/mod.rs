//! The `http` and `route` stages: malformed requests, requests without a route, and what a handler learns about the others.

mod connection;
mod fields;
mod limits;
mod malformed;
mod public;
mod route_bounds;
mod routing;
mod strip_prefix;
pub(crate) mod wildcard;
