//! `delivery` and `durable` of `[[route]]`: whether hookgate stores deliveries and answers for the handler, and how it hands them over.
//!
//! Owns the keys, their bounds, and what a durable route needs of the rest of the file. Must not store or hand over: `deliveries` and
//! `dispatch` do.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::HeaderName;
use serde::Deserialize;
use toml::Spanned;

use super::bound::Bound;
use super::error::DurableProblem;
use super::report::Report;
use super::state::{Deliveries, State};
use hookgate_core::auth::JsonPointer;
use hookgate_core::route::Route;

/// 202 says what happened; 200 and 204 suit senders that take nothing else. 203 is the remark of a proxy, but harmless.
const STATUS: Bound = Bound::new(200, 204, "");
/// At most 30 days: a fault that lasts longer needs an operator, and dead letters wait for one.
const RETRY_FOR: Bound = Bound::new(1, 30 * 24 * 3600, " s");
/// At most as many as `handler_max_in_flight` may be.
const IN_FLIGHT: Bound = Bound::new(1, 100_000, "");
const RATE: Bound = Bound::new(1, 100_000, " a second");
/// At most 1 TiB, as for other sizes of the file.
const BYTES: Bound = Bound::new(64 * 1024, 1 << 40, " bytes");
/// At most a million: the dispatcher keeps some 400 bytes of each in memory.
const ENTRIES: Bound = Bound::new(1, 1_000_000, "");

/// The word for no order.
const NO_ORDER: &str = "none";

/// `delivery`, as written in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawDelivery {
    /// The handler answers the sender.
    Direct,
    /// hookgate answers the sender, and the handler gets the delivery later.
    Durable,
}

/// `durable`, as written in the file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDurable {
    status: Option<Spanned<i64>>,
    retry_for_s: Option<Spanned<i64>>,
    order_by: Option<Spanned<String>>,
    max_in_flight: Option<Spanned<i64>>,
    rate_per_s: Option<Spanned<i64>>,
    max_bytes: Option<Spanned<i64>>,
    max_entries: Option<Spanned<i64>>,
}

/// `delivery` and `durable` of a route, as written in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written<'r> {
    pub(super) delivery: Option<&'r Spanned<RawDelivery>>,
    pub(super) durable: Option<&'r Spanned<RawDurable>>,
}

impl<'r> Written<'r> {
    /// Whether hookgate answers for the handler.
    pub(super) fn is_durable(self) -> bool {
        self.durable_delivery().is_some()
    }

    /// `max_bytes`, if it is durable.
    pub(super) fn max_bytes(self) -> Option<&'r Spanned<i64>> {
        self.durable_delivery().and(self.durable)?.get_ref().max_bytes.as_ref()
    }

    /// `delivery`, if it is durable.
    fn durable_delivery(self) -> Option<&'r Spanned<RawDelivery>> {
        self.delivery.filter(|raw| *raw.get_ref() == RawDelivery::Durable)
    }
}

/// What makes one delivery wait for another of the same route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OrderBy {
    /// Nothing.
    #[default]
    Nothing,
    /// The same string, number or boolean at this place of the body.
    Pointer(JsonPointer),
    /// The same value of this field.
    Field(HeaderName),
}

/// How the deliveries of a route are stored and handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Durable {
    /// `status`: the answer to the sender.
    pub status: StatusCode,
    /// `retry_for_s`: how long an attempt may follow another, from the request on.
    pub retry_for: Duration,
    /// `order_by`.
    pub order_by: OrderBy,
    /// `max_in_flight`: deliveries of the route that are with the handler at a time.
    pub max_in_flight: usize,
    /// `rate_per_s`: attempts that begin in a second; `None` for as many as come.
    pub rate_per_s: Option<u32>,
    /// `max_bytes`: fields and bodies that are stored, dead letters included.
    pub max_bytes: u64,
    /// `max_entries`: deliveries that are stored, dead letters included.
    pub max_entries: u64,
}

impl Durable {
    /// The larger part of `max_entries` and `max_bytes` that so many deliveries with so many bytes use, in percent; above 100 if a bound was
    /// lowered since.
    #[must_use]
    pub fn filled_percent(&self, entries: u64, bytes: u64) -> u64 {
        percent_used(entries, self.max_entries).max(percent_used(bytes, self.max_bytes))
    }
}

/// How much of a bound is used, in whole percent; above 100 if it was lowered since.
#[must_use]
pub fn percent_used(used: u64, most: u64) -> u64 {
    used.saturating_mul(100) / most.max(1)
}

impl Default for Durable {
    fn default() -> Self {
        Self {
            status: StatusCode::ACCEPTED,
            // Three days: a failure on a Friday evening is mended on Monday.
            retry_for: Duration::from_secs(72 * 3600),
            order_by: OrderBy::Nothing,
            max_in_flight: 16,
            rate_per_s: None,
            max_bytes: 256 * 1024 * 1024,
            max_entries: 100_000,
        }
    }
}

/// Parses the keys of the route; reports errors. `None` if the handler answers the sender.
pub(super) fn durable(raw: Written<'_>, route: &Route, report: &mut Report<'_>) -> Option<Arc<Durable>> {
    let Some(delivery) = raw.durable_delivery() else {
        if let Some(durable) = raw.durable {
            report.error(durable, DurableProblem::NotDurable.into());
        }
        return None;
    };
    if let Some(method) = route.methods.iter().find(|method| method.is_safe()) {
        report.error(delivery, DurableProblem::SafeMethod { method: method.to_string() }.into());
    }
    let default = Durable::default();
    let Some(table) = raw.durable.map(Spanned::get_ref) else { return Some(Arc::new(default)) };
    let status = STATUS.check(table.status.as_ref(), report);
    let status = status.and_then(|status| StatusCode::from_u16(u16::try_from(status).ok()?).ok());
    let rate = RATE.check(table.rate_per_s.as_ref(), report);
    Some(Arc::new(Durable {
        status: status.unwrap_or(default.status),
        retry_for: RETRY_FOR.seconds(table.retry_for_s.as_ref(), default.retry_for, report),
        order_by: order_by(table.order_by.as_ref(), report),
        max_in_flight: IN_FLIGHT.count(table.max_in_flight.as_ref(), default.max_in_flight, report),
        rate_per_s: rate.and_then(|rate| u32::try_from(rate).ok()),
        max_bytes: BYTES.check(table.max_bytes.as_ref(), report).unwrap_or(default.max_bytes),
        max_entries: ENTRIES.check(table.max_entries.as_ref(), report).unwrap_or(default.max_entries),
    }))
}

/// A text with a slash at its begin is a pointer, another one the name of a field.
fn order_by(raw: Option<&Spanned<String>>, report: &mut Report<'_>) -> OrderBy {
    let Some(raw) = raw.filter(|raw| raw.get_ref() != NO_ORDER) else { return OrderBy::Nothing };
    let text = raw.get_ref().as_str();
    let parsed = match text.starts_with('/') {
        true => JsonPointer::parse(text).map(OrderBy::Pointer).map_err(|error| error.to_string()),
        // Such a field name is allowed, but no known sender uses one: `$.data.id` and `.data.id` are pointers of other languages.
        false if text.starts_with(['$', '.']) => Err(format!("\"{text}\" is no JSON pointer: one begins with \"/\"")),
        false => HeaderName::try_from(text)
            .map(OrderBy::Field)
            .map_err(|_| format!("\"{text}\" is neither a JSON pointer nor the name of a field")),
    };
    parsed.unwrap_or_else(|reason| {
        report.error(raw, DurableProblem::OrderBy { reason }.into());
        OrderBy::Nothing
    })
}

/// Reports durable routes that have nothing to store their deliveries in, if `names_directory` is false or deliveries are in memory alone, and those that share their name with another route.
pub(super) fn check<'r>(
    raws: impl Iterator<Item = Written<'r>>,
    routes: &[Route],
    durables: &[Option<Arc<Durable>>],
    (state, names_directory): (&State, bool),
    report: &mut Report<'_>,
) {
    let all: Vec<_> = raws.filter_map(Written::durable_delivery).collect();
    for delivery in &all {
        match (names_directory, state.deliveries) {
            (false, _) => report.error(delivery, DurableProblem::NoDirectory.into()),
            (true, Deliveries::Memory) => report.error(delivery, DurableProblem::InMemory.into()),
            (true, Deliveries::Disk) => {}
        }
    }
    // By the order of the file; the lists differ only if there are errors already.
    let of_durable = routes.iter().zip(durables).filter(|(_, durable)| durable.is_some()).map(|(route, _)| route);
    for (route, delivery) in of_durable.zip(all) {
        if routes.iter().filter(|other| other.name == route.name).count() > 1 {
            report.error(delivery, DurableProblem::SharedName { name: route.name.to_string() }.into());
        }
    }
}
