//! The connections of one worker to one handler, and the bounds on requests in flight there.
//!
//! Owns the idle connections, and the queue for a connection. Must not know what a request says.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use rustix::io::Errno;
use tokio::sync::{Notify, Semaphore};
use tokio::task::{JoinHandle, spawn_local};

use super::connect::{new_socket, try_connect};
use super::held::{Held, HeldLimits};
use super::place::{Gate, NoPlace};
use super::route_places::RoutePermit;
use super::stream::{ANSWER_MAX_BUFFER, HandlerStream, Traffic};
use crate::metrics::HandlerMeters;
use hookgate_core::limits::Limits;
use hookgate_core::reject::{Refusal, Reject};
use hookgate_core::route::{Handler, HandlerAddress, HandlerEntry, RouteLimits};
use hookgate_io::sweep::{Deadline, Sweep, Timer};
use hookgate_io::timer::timeout;
use hookgate_io::{Backend, Socket};

/// Pause before another connect to a handler whose accept queue is full. The kernel reports no room in that queue to a non-blocking
/// socket, so somebody has to try: of each worker the first request alone, while the others wait for their turn.
const CONNECT_PAUSE: Duration = Duration::from_millis(10);

/// How long a request waits for room in an accept queue if another handler can have it: enough for one that accepts at all.
const PATIENCE: Duration = Duration::from_millis(100);

/// The bounds for the requests of a route at its handler: places over all workers, connections and memory of one of them.
#[derive(Clone, Copy, Debug)]
pub struct HandlerLimits {
    /// Of the route; `None` if the places of the handler are its only bound.
    pub(super) of_route: Option<usize>,
    pub(super) in_flight: usize,
    /// The key with that bound.
    in_flight_key: &'static str,
    pub(super) waiting: usize,
    idle_connections: usize,
    idle_timeout: Duration,
    pub(super) timeout: Duration,
    held: HeldLimits,
}

impl HandlerLimits {
    /// The bounds of a route for one of `workers` in `limits`.
    pub fn share(limits: &Limits, route: &RouteLimits, workers: usize) -> Self {
        Self {
            of_route: route.max_in_flight,
            in_flight: limits.handler_max_in_flight,
            in_flight_key: "handler_max_in_flight",
            waiting: limits.handler_max_waiting,
            idle_connections: limits.handler_idle_connections,
            idle_timeout: limits.handler_idle_timeout,
            timeout: route.handler_timeout,
            held: HeldLimits {
                answer: limits.max_answer_buffer_bytes,
                total: limits.max_buffered_answer_bytes / workers,
            },
        }
    }

    /// As the route has it for one of its handlers.
    pub(super) fn at(self, entry: &HandlerEntry) -> Self {
        match entry.max_in_flight {
            None => self,
            Some(in_flight) => Self { in_flight, in_flight_key: "max_in_flight of the handler", ..self },
        }
    }
}

/// A connection to a handler.
pub(super) struct Connection {
    pub(super) sender: SendRequest<Full<Bytes>>,
    pub(super) traffic: Rc<Traffic>,
    deadline: Deadline,
    _driver: Driver,
}

/// The task that moves the bytes of a connection. It ends with its connection, although hyper would go on to send the rest of a request
/// that is answered already.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connection {
    /// The handler has `limit`, from now on, to answer.
    pub(super) fn begin(&self, limit: Duration) {
        self.deadline.set(Timer::closing(limit));
    }

    /// Whether the sweep closed the connection because the handler's time was up.
    pub(super) fn is_late(&self) -> bool {
        self.deadline.is_overdue()
    }
}

/// The place of one request in flight.
pub(super) struct Permit {
    pool: Rc<Pool>,
    /// That among the requests of its route, if the route has a bound of its own.
    of_route: Option<RoutePermit>,
}

impl Permit {
    /// Gives the place back, but for that of the route.
    pub(super) fn into_route(mut self) -> Option<RoutePermit> {
        self.of_route.take()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.pool.meters.left();
        self.pool.gate.leave();
    }
}

/// The pool of one handler.
pub(super) struct Pool {
    handler: Handler,
    backend: Backend,
    sweep: Rc<Sweep>,
    pub(super) meters: HandlerMeters,
    idle: RefCell<Vec<Connection>>,
    pub(super) gate: Arc<Gate>,
    /// Who tries to connect while the accept queue of the handler is full.
    connecting: Semaphore,
    /// Requests that wait for a connection: they have `connecting`, or wait for it.
    queued: Cell<usize>,
    /// A connection is idle again, while requests are queued.
    returned: Notify,
    /// Bytes that are held of all answers of this worker.
    held: Rc<Cell<usize>>,
}

impl Pool {
    pub(super) fn new(
        handler: Handler,
        backend: Backend,
        sweep: Rc<Sweep>,
        gate: Arc<Gate>,
        held: Rc<Cell<usize>>,
    ) -> Self {
        let meters = HandlerMeters::new(handler.label());
        Self {
            handler,
            backend,
            sweep,
            meters,
            idle: RefCell::default(),
            gate,
            connecting: Semaphore::new(1),
            queued: Cell::new(0),
            returned: Notify::new(),
            held,
        }
    }

    /// The handler of this pool.
    pub(super) fn handler(&self) -> &Handler {
        &self.handler
    }

    /// Waits for a place, for at most `left`, with the place that the request has in its route, which stays there without one.
    pub(super) async fn enter(
        self: &Rc<Self>,
        limits: HandlerLimits,
        left: Duration,
        of_route: &mut Option<RoutePermit>,
    ) -> Result<Permit, Refusal> {
        let entered = self.gate.enter(limits.in_flight, limits.waiting, left, &self.meters.waiting).await;
        entered.map_err(|no_place| match no_place {
            NoPlace::Late => late(&self.handler, limits),
            NoPlace::Full => self.full(limits),
        })?;
        Ok(self.permit(of_route))
    }

    /// The permit of a request that has taken a place of the gate.
    pub(super) fn permit(self: &Rc<Self>, of_route: &mut Option<RoutePermit>) -> Permit {
        self.meters.entered();
        Permit { pool: Rc::clone(self), of_route: of_route.take() }
    }

    /// The refusal if as many wait for a place as may.
    pub(super) fn full(&self, limits: HandlerLimits) -> Refusal {
        let detail = format!(
            "{} requests are with the handler at {} and {} wait for it; {} and handler_max_waiting allow no more.",
            limits.in_flight, self.handler, limits.waiting, limits.in_flight_key,
        );
        Refusal::new(Reject::HandlerOverloaded, detail)
    }

    /// An idle connection that is not known to be closed.
    pub(super) async fn checkout(&self) -> Option<Connection> {
        loop {
            let mut connection = self.idle.borrow_mut().pop()?;
            // The sweep has closed it, even if hyper does not know yet.
            if connection.deadline.is_overdue() {
                continue;
            }
            // In use from here on, so that the sweep does not close it under the request.
            connection.begin(Duration::from_secs(1));
            if connection.sender.ready().await.is_ok() {
                return Some(connection);
            }
        }
    }

    /// Connects within `limit`. If the accept queue of the handler is full, waits for room in it, or (if `may_reuse`) for a connection
    /// that is idle again; not for long, unless the request `waits`. Says whether it is one of those.
    pub(super) async fn connect(
        self: &Rc<Self>,
        limit: Duration,
        may_reuse: bool,
        waits: bool,
    ) -> Result<(Connection, bool), Refusal> {
        let mut begun = None;
        // One that comes later does not overtake.
        if self.queued.get() == 0 {
            let descriptor = new_socket(self.handler.address()).map_err(|error| self.unavailable(error))?;
            match try_connect(&descriptor, self.handler.address()) {
                Ok(()) => return Ok((self.connected(descriptor, limit).await?, false)),
                Err(Errno::AGAIN) => begun = Some(descriptor),
                Err(error) => return Err(self.unavailable(error)),
            }
        }
        let _queued = Queued::new(&self.queued);
        let longest = if waits { limit } else { limit.min(PATIENCE) };
        timeout(longest, self.queue(limit, may_reuse, begun))
            .await
            .unwrap_or_else(|_| Err(self.unavailable(Errno::AGAIN)))
    }

    /// Waits for its turn, in the order of arrival, and then for a connection: that of `begun`, if there is one.
    async fn queue(
        self: &Rc<Self>,
        limit: Duration,
        may_reuse: bool,
        begun: Option<OwnedFd>,
    ) -> Result<(Connection, bool), Refusal> {
        // The semaphore is never closed.
        let _turn = self.connecting.acquire().await;
        let descriptor = match begun {
            Some(begun) => begun,
            None => new_socket(self.handler.address()).map_err(|error| self.unavailable(error))?,
        };
        loop {
            if may_reuse && let Some(connection) = self.checkout().await {
                return Ok((connection, true));
            }
            match try_connect(&descriptor, self.handler.address()) {
                Ok(()) => return Ok((self.connected(descriptor, limit).await?, false)),
                Err(Errno::AGAIN) => drop(timeout(CONNECT_PAUSE, self.returned.notified()).await),
                Err(error) => return Err(self.unavailable(error)),
            }
        }
    }

    async fn connected(self: &Rc<Self>, descriptor: OwnedFd, limit: Duration) -> Result<Connection, Refusal> {
        let socket = Socket::new(self.backend, descriptor)
            .map_err(|error| self.unavailable(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
        self.meters.connected();
        let traffic = Rc::<Traffic>::default();
        let watched = self.sweep.watch(socket.descriptor(), Timer::closing(limit));
        let stream = HandlerStream::new(socket, Rc::clone(&traffic));
        let mut builder = http1::Builder::new();
        // At most 100 fields in an answer: hyper's default, and Envoy's. For any other bound hyper allocates for each answer.
        builder.max_buf_size(ANSWER_MAX_BUFFER);
        let (sender, connection) = builder.handshake(stream).await.map_err(|error| {
            Refusal::new(Reject::Internal, format!("The connection to a handler could not be set up: {error}."))
        })?;
        let pool = Rc::downgrade(self);
        let driver = Driver(spawn_local(async move {
            // Its errors reach the request in flight, which reports them.
            let _ = connection.await;
            if let Some(pool) = pool.upgrade() {
                pool.forget_closed();
            }
        }));
        Ok(Connection { sender, traffic, deadline: watched, _driver: driver })
    }

    /// Gives up idle connections that have ended, and with them their descriptors.
    fn forget_closed(&self) {
        self.idle.borrow_mut().retain(|connection| !connection.sender.is_closed());
    }

    fn unavailable(&self, error: Errno) -> Refusal {
        let handler = &self.handler;
        let is_port = matches!(handler.address(), HandlerAddress::Tcp(_));
        let hint = match error {
            Errno::NOENT => "the socket does not exist; start the handler",
            Errno::CONNREFUSED if is_port => "no process listens on the port; start the handler",
            Errno::CONNREFUSED => "no process listens on the socket; start the handler",
            Errno::ACCESS | Errno::PERM if is_port => "this host does not let hookgate connect to the port",
            Errno::ACCESS => "hookgate may not write to the socket; check its owner and mode",
            Errno::AGAIN => "the handler does not accept connections fast enough",
            Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS => {
                let detail = "This host has no descriptor or memory left for a connection to the handler.";
                return Refusal::new(Reject::HostExhausted, detail);
            }
            _ => return Refusal::new(Reject::HandlerUnavailable, format!("The handler at {handler} failed: {error}.")),
        };
        let reject = if error == Errno::AGAIN { Reject::HandlerOverloaded } else { Reject::HandlerUnavailable };
        Refusal::new(reject, format!("The handler at {handler} cannot be reached: {hint}."))
    }
}

/// A connection that one answer uses.
pub(super) struct Lease {
    connection: Connection,
    pool: Rc<Pool>,
    _permit: Permit,
    limits: HandlerLimits,
}

impl Lease {
    pub(super) fn new(connection: Connection, pool: Rc<Pool>, permit: Permit, limits: HandlerLimits) -> Self {
        let lease = Self { connection, pool, _permit: permit, limits };
        lease.progress();
        lease
    }

    /// The handler sent something: its time restarts, unless it is up.
    pub(super) fn progress(&self) {
        if !self.is_late() {
            self.connection.begin(self.limits.timeout);
        }
    }

    pub(super) fn is_late(&self) -> bool {
        self.connection.is_late()
    }

    /// The handler's time does not run: nothing is asked of it.
    pub(super) fn pause(&self) {
        if !self.is_late() {
            self.connection.deadline.set(Timer::unbounded());
        }
    }

    /// Room for what is taken of the answer ahead of the peer.
    pub(super) fn hold(&self) -> Held {
        Held::new(Rc::clone(&self.pool.held))
    }

    pub(super) fn held_limits(&self) -> HeldLimits {
        self.limits.held
    }

    /// Ready once the handler has sent nothing for a while; [`Lease::progress`] cancels it.
    pub(super) fn poll_silence(&self, context: &mut Context<'_>) -> Poll<()> {
        self.connection.deadline.poll_silence(context)
    }

    /// The answer is complete: the next request may use the connection, unless this one was answered before all of it was sent.
    pub(super) fn give_back(self) {
        let Connection { sender, traffic, .. } = &self.connection;
        if !sender.is_ready() || traffic.is_refused() || self.is_late() {
            return;
        }
        self.connection.deadline.set(Timer::closing(self.limits.idle_timeout));
        let mut idle = self.pool.idle.borrow_mut();
        if idle.len() < self.limits.idle_connections {
            idle.push(self.connection);
            if self.pool.queued.get() > 0 {
                self.pool.returned.notify_one();
            }
        }
    }
}

/// The refusal if the handler's time is up.
pub(super) fn late(handler: impl Display, limits: HandlerLimits) -> Refusal {
    let limit = limits.timeout.as_millis();
    Refusal::new(
        Reject::HandlerTimeout,
        format!("The handler at {handler} did not answer within {limit} ms (handler_timeout_ms)."),
    )
}

/// Counts one more for as long as it lives.
struct Queued<'a>(&'a Cell<usize>);

impl<'a> Queued<'a> {
    fn new(count: &'a Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Places;

    #[test]
    fn a_refused_connection_is_told_by_its_cause() {
        let handler = Handler::unix("/run/app.sock");
        let gate = Places::default().gate(&handler);
        let pool = Pool::new(handler, Backend::Epoll, Sweep::new(), gate, Rc::default());
        let check = |error: Errno, expected: Reject| assert_eq!(pool.unavailable(error).reject, expected, "{error}");
        check(Errno::NOENT, Reject::HandlerUnavailable);
        check(Errno::CONNREFUSED, Reject::HandlerUnavailable);
        check(Errno::ACCESS, Reject::HandlerUnavailable);
        check(Errno::IO, Reject::HandlerUnavailable);
        check(Errno::AGAIN, Reject::HandlerOverloaded);
        // The handler is not at fault, and the sender should try again.
        for error in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS] {
            check(error, Reject::HostExhausted);
        }
    }
}
