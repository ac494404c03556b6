//! The last stage: forwards an authenticated request to its handler, or to one of several, and the handler's answer back.
//!
//! Owns the keep-alive pools of a worker, the places and the standing of each handler over all workers, the field rules ([`headers`]), the choice
//! among several handlers (`choice`), the retry rule (`attempt`) and the rule which answers can be forwarded (`answer`). Takes nothing but an [`Outgoing`]. Must not know certificates or policy beyond what the request carries.

mod answer;
mod attempt;
mod body;
mod choice;
mod connect;
mod contact;
pub mod headers;
mod health;
mod held;
mod line;
mod outgoing;
mod place;
mod pool;
mod route_places;
mod several;
mod stream;
mod sync;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::{Method, Response};

pub use body::{HandlerBody, HandlerBodyError};
pub use contact::LastContact;
pub use outgoing::Outgoing;
pub use place::{Ejected, HandlerState, Places};
pub use pool::HandlerLimits;

use attempt::{Unanswered, attempt};
use pool::{Lease, Permit, Pool};
use route_places::{RoutePermit, RoutePlaces};
use several::Group;

use crate::metrics;
use hookgate_core::reject::{Blame, Refusal, Reject};
use hookgate_core::route::{Handler, HandlerEntry, Handlers, Route, RouteTable, handlers_of};
use hookgate_io::Backend;
use hookgate_io::sweep::Sweep;

/// An answer came.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// When its head was there.
    pub at: Instant,
    /// Of which handler: the index in the list of the route.
    pub entry: usize,
}

/// The handlers of one worker.
pub struct Upstream {
    backend: Backend,
    sweep: Rc<Sweep>,
    pools: RefCell<HashMap<Handler, Rc<Pool>>>,
    /// The pool of the last request, found again without hashing a path.
    recent: RefCell<Option<Rc<Pool>>>,
    /// Of each list of several handlers that has had a request.
    groups: RefCell<Vec<Rc<Group>>>,
    /// Bytes of answers that were taken ahead of their peers.
    held: Rc<Cell<usize>>,
    places: Arc<Places>,
    /// By the name of the route: those with a bound of their own that have had a request.
    routes: RefCell<HashMap<Arc<str>, Rc<RoutePlaces>>>,
}

impl Upstream {
    /// Without connections. All workers share `places`.
    pub fn new(backend: Backend, sweep: Rc<Sweep>, places: Arc<Places>) -> Self {
        let (pools, routes) = (RefCell::default(), RefCell::default());
        let (recent, groups, held) = (RefCell::default(), RefCell::default(), Rc::default());
        Self { places, backend, sweep, pools, recent, groups, held, routes }
    }

    /// Closes the idle connections to handlers that `routes` no longer name, and forgets the bounds of routes that have none any more.
    pub fn retain(&self, routes: &RouteTable) {
        let named: HashSet<&Handler> = handlers_of(routes.routes()).collect();
        self.recent.take();
        self.pools.borrow_mut().retain(|handler, _| named.contains(handler));
        // After the pools, whose gates have the standing of handlers that stay.
        self.groups.take();
        let bounded = routes.routes().iter().filter(|route| route.limits.max_in_flight.is_some());
        let bounded: HashSet<&str> = bounded.map(|route| &*route.name).collect();
        self.routes.borrow_mut().retain(|name, _| bounded.contains(&**name));
    }

    /// Closes every idle connection.
    pub fn close(&self) {
        self.recent.take();
        self.groups.take();
        self.pools.borrow_mut().clear();
    }

    fn pool(&self, handler: &Handler) -> Rc<Pool> {
        if let Some(pool) = self.recent.borrow().as_ref().filter(|pool| pool.handler() == handler) {
            return Rc::clone(pool);
        }
        let known = self.pools.borrow().get(handler).map(Rc::clone);
        let pool = known.unwrap_or_else(|| {
            let (sweep, gate, held) = (Rc::clone(&self.sweep), self.places.gate(handler), Rc::clone(&self.held));
            let pool = Rc::new(Pool::new(handler.clone(), self.backend, sweep, gate, held));
            self.pools.borrow_mut().insert(handler.clone(), Rc::clone(&pool));
            pool
        });
        self.recent.replace(Some(Rc::clone(&pool)));
        pool
    }

    /// Waits for a place among the requests of `route`, if it has a bound of its own.
    async fn enter_route(
        &self,
        (route, handlers): (&Route, &Handlers),
        limits: HandlerLimits,
    ) -> Result<Option<RoutePermit>, Refusal> {
        let Some(most) = limits.of_route else { return Ok(None) };
        let known = self.routes.borrow().get(&*route.name).map(Rc::clone);
        let places = known.unwrap_or_else(|| {
            let places = Rc::new(RoutePlaces::new(&route.name, self.places.gate_of_route(&route.name)));
            self.routes.borrow_mut().insert(Arc::clone(&route.name), Rc::clone(&places));
            places
        });
        places.enter(most, (route, handlers), limits).await.map(Some)
    }

    /// How long the handler of a request that asked for its place at `began` has left.
    fn left(&self, limits: HandlerLimits, began: Duration) -> Duration {
        limits.timeout.saturating_sub(self.sweep.coarse().saturating_sub(began))
    }

    /// Forwards `request` to a handler of `route` and returns the head of its answer; the body streams. `answered` gets the time when the
    /// head came, and from which.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] with the handler to blame: unavailable, overloaded (as a whole, or by this route), late, malformed, or ambiguous.
    pub async fn forward(
        &self,
        request: &Outgoing<'_>,
        route: &Route,
        limits: HandlerLimits,
        answered: &mut Option<Answered>,
    ) -> Result<Response<HandlerBody>, Refusal> {
        // Nothing is authenticated for a route without one.
        let handlers = route.handlers().ok_or_else(no_handler)?;
        // The coarse clock costs nothing, and is exact enough for the bound.
        let began = self.sweep.coarse();
        // First: a request that waits for its route holds no place that another route could use.
        let of_route = self.enter_route((route, handlers), limits).await?;
        match handlers.only() {
            Some(only) => self.forward_to(request, only, of_route, (limits, began), answered).await,
            None => self.forward_to_one_of(request, handlers, of_route, (limits, began), answered).await,
        }
    }

    /// To the one handler of a route, whatever became of the last request.
    async fn forward_to(
        &self,
        request: &Outgoing<'_>,
        entry: &HandlerEntry,
        mut of_route: Option<RoutePermit>,
        (limits, began): (HandlerLimits, Duration),
        answered: &mut Option<Answered>,
    ) -> Result<Response<HandlerBody>, Refusal> {
        let (pool, limits) = (self.pool(&entry.handler), limits.at(entry));
        let permit = pool.enter(limits, self.left(limits, began), &mut of_route).await?;
        let outcome = self.ask(request, &pool, permit, (limits, began), true, answered).await;
        if outcome.is_ok() && pool.gate.health.answered().is_some() {
            // It was in a list before a reload, or is in that of another route.
            self.places.standing_changed();
            metrics::MemberMeters::new(pool.handler().label()).ejected(false);
        }
        outcome.map_err(|unanswered| unanswered.refusal)
    }

    /// Asks the handler of `pool`, and notes the outcome.
    async fn ask(
        &self,
        request: &Outgoing<'_>,
        pool: &Rc<Pool>,
        permit: Permit,
        times: (HandlerLimits, Duration),
        waits: bool,
        answered: &mut Option<Answered>,
    ) -> Result<Response<HandlerBody>, Unanswered> {
        let outcome = self.exchange(request, pool, permit, times, waits, answered).await;
        match &outcome {
            Ok(_) => pool.gate.contact.answered(self.sweep.unix_time().as_secs()),
            Err(Unanswered { refusal, .. }) if refusal.reject.row().blame == Blame::Handler => {
                metrics::handler_failed(pool.handler().label(), refusal.reject);
                pool.gate.contact.failed(refusal.reject, self.sweep.unix_time().as_secs());
            }
            Err(_) => {}
        }
        outcome
    }

    /// Asks the handler of `pool`, a second time if it closed a connection that was used before. `began` is when the request asked for its place;
    /// it `waits` for a full accept queue if no other handler can have it.
    async fn exchange(
        &self,
        request: &Outgoing<'_>,
        pool: &Rc<Pool>,
        permit: Permit,
        (limits, began): (HandlerLimits, Duration),
        waits: bool,
        answered: &mut Option<Answered>,
    ) -> Result<Response<HandlerBody>, Unanswered> {
        let handler = pool.handler();
        let mut may_reuse = true;
        loop {
            let left = self.left(limits, began);
            let reused = if may_reuse { pool.checkout().await } else { None };
            let (connection, is_reused) = match reused {
                Some(connection) => (connection, true),
                None => match pool.connect(left, may_reuse, waits).await {
                    Ok(connected) => connected,
                    Err(refusal) => return Err(Unanswered::unconnected(refusal, permit)),
                },
            };
            connection.begin(left);
            match attempt(connection, request.request()).await {
                Ok((connection, response)) => {
                    *answered = Some(Answered { at: Instant::now(), entry: 0 });
                    let lease = Lease::new(connection, Rc::clone(pool), permit, limits);
                    return received(response, request.method(), handler, lease).await.map_err(Unanswered::answered);
                }
                // A reused connection may turn out closed.
                Err(failure) if is_reused && failure.is_safe_to_repeat(request.method()) => {
                    pool.meters.retried();
                    may_reuse = false;
                }
                Err(failure) => return Err(failure.unanswered(handler, limits, permit)),
            }
        }
    }
}

fn no_handler() -> Refusal {
    Refusal::new(Reject::Internal, "A request came to a route without a handler.")
}

/// The answer for the peer, or the refusal of one whose length is uncertain, or that ends before its first byte. The connection then ends
/// with the lease.
async fn received(
    response: Response<Incoming>,
    method: &Method,
    handler: &Handler,
    lease: Lease,
) -> Result<Response<HandlerBody>, Refusal> {
    let (mut head, body) = response.into_parts();
    let framing = answer::judge(&head, method)
        .map_err(|fault| Refusal::new(fault.reject(), format!("The answer of the handler at {handler} {fault}.")))?;
    answer::own(&mut head);
    let mut body = HandlerBody::new(body, framing, lease);
    body.begin().await.map_err(|error| {
        Refusal::new(error.reject(), format!("The handler at {handler} sent a head and no body: {error}."))
    })?;
    Ok(Response::from_parts(head, body))
}
