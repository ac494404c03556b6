//! The bound of one route on its requests at the handler, beside the places of the handler.
//!
//! Owns the wait for it, and its refusal. The count is over all workers, and that of the route's name: it outlives a reload. Must not know
//! connections.

use std::rc::Rc;
use std::sync::Arc;

use super::place::{Gate, NoPlace};
use super::pool::{HandlerLimits, late};
use crate::metrics::RouteMeters;
use hookgate_core::reject::{Refusal, Reject};
use hookgate_core::route::{Handlers, Route};

/// The places of a route, as one worker takes them.
pub(super) struct RoutePlaces {
    gate: Arc<Gate>,
    meters: RouteMeters,
}

/// The place of one request of a route.
pub(super) struct RoutePermit(Rc<RoutePlaces>);

impl Drop for RoutePermit {
    fn drop(&mut self) {
        self.0.meters.left();
        self.0.gate.leave();
    }
}

impl RoutePlaces {
    /// Of the route `name`, whose places are those of `gate`.
    pub(super) fn new(name: &str, gate: Arc<Gate>) -> Self {
        Self { gate, meters: RouteMeters::new(name) }
    }

    /// Takes one of `most` places, and waits for it for at most the time that the handler has.
    ///
    /// # Errors
    ///
    /// `route_overloaded` if as many wait as may; `handler_timeout` if none was free in time.
    pub(super) async fn enter(
        self: Rc<Self>,
        most: usize,
        (route, handlers): (&Route, &Handlers),
        limits: HandlerLimits,
    ) -> Result<RoutePermit, Refusal> {
        let entered = self.gate.enter(most, limits.waiting, limits.timeout, &self.meters.waiting).await;
        entered.map_err(|no_place| match no_place {
            NoPlace::Late => late(handlers, limits),
            NoPlace::Full => {
                let detail = format!(
                    "{most} requests of the route \"{}\" are with its handler and {} wait for a place; max_in_flight of the route and \
                     handler_max_waiting allow no more.",
                    route.name, limits.waiting,
                );
                Refusal::new(Reject::RouteOverloaded, detail)
            }
        })?;
        self.meters.entered();
        Ok(RoutePermit(self))
    }
}
