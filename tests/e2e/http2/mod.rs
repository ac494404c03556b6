//! HTTP/2: the same answers as over HTTP/1, and a bound for each of its own attacks.

mod attacks;
mod ending;
pub(crate) mod frames;
mod requests;
mod routes;
mod slow;
mod unwanted;

use hookgate_testkit::wait::wait_until;

use crate::environment::SOON;
use crate::test_gateway::TestGateway;

/// The daemon with HTTP/2, and these lines in `[limits]`.
fn start(limits: &str) -> TestGateway {
    TestGateway::with_toml(|environment| with_http2(&environment.toml(limits, ""))).unwrap()
}

/// A configuration with HTTP/2.
pub(crate) fn with_http2(toml: &str) -> String {
    toml.replacen("[listen]\n", "[listen]\nhttp2 = true\n", 1)
}

/// Waits until so many requests are in this state at the handlers: `in_flight` or `waiting`.
fn wait_requests(gateway: &TestGateway, state: &str, count: f64) {
    let name = format!("hookgate_handler_requests_{state}");
    wait_until(&name, SOON, || gateway.daemon.metric(&name, &[]).unwrap() == count).unwrap();
}
