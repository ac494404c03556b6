//! The bounds of a route of its own: `handler_timeout_ms`, `max_body_bytes`, `max_in_flight`.
//!
//! Owns that each fits to `[limits]`, which has the defaults, and bounds the memory and the handlers of all routes together. The smallest and
//! largest value of each is that of the key in `[limits]`. Must not enforce a bound.

use std::collections::HashMap;
use std::sync::Arc;

use toml::Spanned;

use super::RawRoute;
use crate::config::error::{DurableProblem, Problem, RouteProblem};
use crate::config::limits::{BODY_BYTES, IN_FLIGHT, TIMEOUT};
use crate::config::report::Report;
use hookgate_core::limits::Limits;
use hookgate_core::route::{Route, RouteLimits};

/// Parses the bounds. Reports what is wrong, and replaces it by what `limits` says.
pub(super) fn bounds(raw: &RawRoute, limits: &Limits, report: &mut Report<'_>) -> RouteLimits {
    let RawRoute { handler_timeout_ms, max_body_bytes, max_in_flight, .. } = raw;
    let default = RouteLimits::of(limits);
    let most = IN_FLIGHT.check(max_in_flight.as_ref(), report);
    let bounds = RouteLimits {
        handler_timeout: TIMEOUT.milliseconds(handler_timeout_ms.as_ref(), default.handler_timeout, report),
        max_body_bytes: BODY_BYTES.count(max_body_bytes.as_ref(), default.max_body_bytes, report),
        max_in_flight: most.map(|most| usize::try_from(most).unwrap_or(usize::MAX)),
    };
    let all = ("max_buffered_bytes of [limits]", limits.max_buffered_bytes);
    check_within(max_body_bytes.as_ref(), ("max_body_bytes", bounds.max_body_bytes), all, report);
    let all = ("handler_max_in_flight of [limits]", limits.handler_max_in_flight);
    check_within(max_in_flight.as_ref(), ("max_in_flight", bounds.max_in_flight.unwrap_or_default()), all, report);
    if let (Some(at), true) = (max_in_flight, raw.written_delivery().is_durable()) {
        report.error(at, DurableProblem::MaxInFlight.into());
    }
    bounds
}

/// Reports a bound of a route that is larger than the one of all.
fn check_within(
    at: Option<&Spanned<i64>>,
    (other_key, other): (&'static str, usize),
    (key, value): (&'static str, usize),
    report: &mut Report<'_>,
) {
    if let Some(at) = at.filter(|_| other > value) {
        report.error(at, Problem::LessThan { key, value: value as u64, other_key, other: other as u64 });
    }
}

/// The routes with `max_in_flight`, and where each says so.
#[derive(Default)]
pub(super) struct Counted<'r>(Vec<(&'r Spanned<i64>, Arc<str>)>);

impl<'r> Counted<'r> {
    pub(super) fn add(&mut self, raw: &'r RawRoute, route: &Route) {
        self.0.extend(raw.max_in_flight.as_ref().map(|at| (at, Arc::clone(&route.name))));
    }

    /// Reports those that share their name with another one of `routes`: their requests are counted by it.
    pub(super) fn check_names(self, routes: &[Route], report: &mut Report<'_>) {
        let mut uses: HashMap<&str, usize> = HashMap::new();
        for route in routes {
            *uses.entry(&route.name).or_default() += 1;
        }
        for (at, name) in self.0 {
            if uses.get(&*name).is_some_and(|uses| *uses > 1) {
                report.error(at, RouteProblem::SharedName { name: name.to_string() }.into());
            }
        }
    }
}
