//! HTTP/2: the same answers as over HTTP/1, and a bound for each of its own attacks.

mod attacks;
mod ending;
pub(crate) mod frames;
mod requests;
mod routes;
mod slow;
mod unwanted;

use crate::test_gateway::TestGateway;

/// The daemon with HTTP/2, and these lines in `[limits]`.
fn start(limits: &str) -> TestGateway {
    TestGateway::with_toml(|environment| with_http2(&environment.toml(limits, ""))).unwrap()
}

/// A configuration with HTTP/2.
pub(crate) fn with_http2(toml: &str) -> String {
    toml.replacen("[listen]\n", "[listen]\nhttp2 = true\n", 1)
}
