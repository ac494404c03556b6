//! The last stage: an authenticated request over a Unix socket to its handler, and the handler's answer back.
//!
//! Owns the keep-alive pools of a worker, the bounds on what is with a handler, the header rules ([`headers`]) and the retry
//! rule. Takes nothing but an [`AuthenticatedRequest`]. Must not know certificates or policy beyond what the request carries.

mod body;
pub mod headers;
mod pool;
mod stream;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::{Method, Request, Response, StatusCode};

pub use body::{HandlerBody, HandlerBodyError};
use pool::{Connection, Lease, Pool};

use headers::Forwarded;
use hookgate_core::auth::AuthenticatedRequest;
use hookgate_core::limits::Limits;
use hookgate_core::reject::{Refusal, Reject};
use hookgate_core::route::Handler;
use hookgate_core::route::RouteTable;
use hookgate_io::Backend;
use hookgate_io::sweep::Sweep;

/// The bounds that one worker keeps towards each handler: its share of the configured ones.
#[derive(Clone, Copy, Debug)]
pub struct HandlerLimits {
    in_flight: usize,
    waiting: usize,
    idle_connections: usize,
    idle_timeout: Duration,
    timeout: Duration,
}

impl HandlerLimits {
    /// The share of one of `workers` in `limits`, rounded up so that every worker can do something.
    pub fn share(limits: &Limits, workers: usize) -> Self {
        Self {
            in_flight: limits.handler_max_in_flight.div_ceil(workers),
            waiting: limits.handler_max_waiting.div_ceil(workers),
            idle_connections: limits.handler_idle_connections,
            idle_timeout: limits.handler_idle_timeout,
            timeout: limits.handler_timeout,
        }
    }
}

/// The handlers of one worker.
pub struct Upstream {
    backend: Backend,
    sweep: Rc<Sweep>,
    pools: RefCell<HashMap<Handler, Rc<Pool>>>,
    /// The pool that was asked for last, found again without hashing a path.
    recent: RefCell<Option<Rc<Pool>>>,
}

impl Upstream {
    /// No connections yet.
    pub fn new(backend: Backend, sweep: Rc<Sweep>) -> Self {
        Self { backend, sweep, pools: RefCell::default(), recent: RefCell::default() }
    }

    /// Closes the idle connections to handlers that `routes` no longer name.
    pub fn retain(&self, routes: &RouteTable) {
        let named = |handler: &Handler| routes.routes().iter().any(|route| route.handler == *handler);
        self.recent.take();
        self.pools.borrow_mut().retain(|handler, _| named(handler));
    }

    /// Closes every idle connection.
    pub fn close(&self) {
        self.recent.take();
        self.pools.borrow_mut().clear();
    }

    fn pool(&self, handler: &Handler) -> Rc<Pool> {
        if let Some(pool) = self.recent.borrow().as_ref().filter(|pool| pool.handler() == handler) {
            return Rc::clone(pool);
        }
        let known = self.pools.borrow().get(handler).map(Rc::clone);
        let pool = known.unwrap_or_else(|| {
            let pool = Rc::new(Pool::new(handler.clone(), self.backend, Rc::clone(&self.sweep)));
            self.pools.borrow_mut().insert(handler.clone(), Rc::clone(&pool));
            pool
        });
        self.recent.replace(Some(Rc::clone(&pool)));
        pool
    }

    /// Hands `request` over to `handler` and returns the head of its answer; the body streams.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] blamed on the handler: unavailable, overloaded, late, or malformed.
    pub async fn forward(
        &self,
        request: AuthenticatedRequest,
        forwarded: &Forwarded<'_>,
        handler: &Handler,
        limits: HandlerLimits,
    ) -> Result<Response<HandlerBody>, Refusal> {
        let pool = self.pool(handler);
        // Two clocks: an exact one for the metric, and a coarse one that costs nothing for the bound.
        let (started, began) = (Instant::now(), self.sweep.coarse());
        let permit = pool.enter(limits).await?;
        let mut may_reuse = true;
        loop {
            let left = limits.timeout.saturating_sub(self.sweep.coarse().saturating_sub(began));
            let reused = if may_reuse { pool.checkout().await } else { None };
            let is_reused = reused.is_some();
            let connection = match reused {
                Some(connection) => connection,
                None => pool.connect(left).await?,
            };
            connection.begin(left);
            match Attempt::of(connection, headers::outgoing(&request, forwarded)).await {
                Ok((connection, response)) => {
                    pool.meters.answered(started.elapsed());
                    return answer(response, Lease::new(connection, Rc::clone(&pool), permit, limits));
                }
                // A reused connection may turn out closed.
                Err(failure) if is_reused && failure.is_safe_to_repeat(&request.head().method) => {
                    pool.meters.retried();
                    may_reuse = false;
                }
                Err(failure) => return Err(failure.refusal(handler, limits)),
            }
        }
    }
}

type Outgoing = Request<Full<Bytes>>;

/// One try of a request on one connection.
struct Attempt;

impl Attempt {
    async fn of(
        mut connection: Connection,
        request: Outgoing,
    ) -> Result<(Connection, Response<Incoming>), AttemptFailure> {
        let sent_before = connection.sent();
        match connection.sender.try_send_request(request).await {
            Ok(response) => Ok((connection, response)),
            Err(error) => Err(AttemptFailure::new(error, &connection, sent_before)),
        }
    }
}

struct AttemptFailure {
    error: hyper::Error,
    nothing_sent: bool,
    nothing_received: bool,
    late: bool,
}

impl AttemptFailure {
    fn new(mut error: TrySendError<Outgoing>, connection: &Connection, sent_before: u64) -> Self {
        let nothing_sent = error.take_message().is_some() || connection.sent() == sent_before;
        let error = error.into_error();
        // Bytes that do not parse are an answer, of a kind; anything else that failed before a head had none.
        Self { nothing_received: !error.is_parse(), nothing_sent, late: connection.is_late(), error }
    }

    /// RFC 9110, section 9.2.2: a request whose connection was closed before any answer may be repeated if nothing of it was
    /// sent, or if its method is idempotent. A late handler is not asked twice.
    fn is_safe_to_repeat(&self, method: &Method) -> bool {
        !self.late && self.nothing_received && (self.nothing_sent || method.is_idempotent())
    }

    fn refusal(&self, handler: &Handler, limits: HandlerLimits) -> Refusal {
        let socket = handler.socket.display();
        if self.late {
            return late(handler, limits);
        }
        if self.error.is_parse() {
            let detail =
                format!("The handler at {socket} answered with something that is not HTTP/1.1: {}.", self.error);
            return Refusal::new(Reject::HandlerMalformed, detail);
        }
        let detail = format!("The handler at {socket} closed the connection before answering: {}.", self.error);
        Refusal::new(Reject::HandlerUnavailable, detail)
    }
}

fn late(handler: &Handler, limits: HandlerLimits) -> Refusal {
    let (socket, limit) = (handler.socket.display(), limits.timeout.as_millis());
    Refusal::new(
        Reject::HandlerTimeout,
        format!("The handler at {socket} did not answer within {limit} ms (handler_timeout_ms)."),
    )
}

fn answer(response: Response<Incoming>, lease: Lease) -> Result<Response<HandlerBody>, Refusal> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let detail = "The handler answered 101 Switching Protocols, which nobody asked for.";
        return Err(Refusal::new(Reject::HandlerMalformed, detail));
    }
    let (mut head, body) = response.into_parts();
    headers::strip_connection_fields(&mut head.headers);
    Ok(Response::from_parts(head, HandlerBody::new(body, lease)))
}

/// Counts up while it lives.
struct Occupied(Rc<Cell<usize>>);

impl Occupied {
    fn new(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
