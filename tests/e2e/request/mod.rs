//! The `http` and `route` stages: what is no request, what is none of ours, and what a handler is told about the rest.

mod connection;
mod fields;
mod limits;
mod malformed;
mod routing;
