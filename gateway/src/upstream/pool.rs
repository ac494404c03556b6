//! The connections of one worker to one handler, and the bounds on requests in flight there.
//!
//! Owns the idle connections, the permits and the queue for them. Must not know what a request says.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::held::{Held, HeldLimits};
use super::stream::{ANSWER_MAX_BUFFER, Traffic, UnixStream};
use crate::metrics::HandlerMeters;
use hookgate_core::limits::Limits;
use hookgate_core::reject::{Refusal, Reject};
use hookgate_core::route::Handler;
use hookgate_io::sweep::{Deadline, Sweep, Timer};
use hookgate_io::timer::{sleep, timeout};
use hookgate_io::{Backend, Socket};

/// Pause before another connect to a handler whose accept queue is full.
const CONNECT_PAUSE: Duration = Duration::from_millis(10);

/// The bounds of one worker for each handler: its share of the configured ones.
#[derive(Clone, Copy, Debug)]
pub struct HandlerLimits {
    in_flight: usize,
    waiting: usize,
    idle_connections: usize,
    idle_timeout: Duration,
    pub(super) timeout: Duration,
    held: HeldLimits,
}

impl HandlerLimits {
    /// The share of one of `workers` in `limits`, rounded up so that every worker has at least one.
    pub fn share(limits: &Limits, workers: usize) -> Self {
        Self {
            in_flight: limits.handler_max_in_flight.div_ceil(workers),
            waiting: limits.handler_max_waiting.div_ceil(workers),
            idle_connections: limits.handler_idle_connections,
            idle_timeout: limits.handler_idle_timeout,
            timeout: limits.handler_timeout,
            held: HeldLimits {
                answer: limits.max_answer_buffer_bytes,
                total: limits.max_buffered_answer_bytes / workers,
            },
        }
    }
}

/// A connection to a handler.
pub(super) struct Connection {
    pub(super) sender: SendRequest<Full<Bytes>>,
    pub(super) traffic: Rc<Traffic>,
    deadline: Deadline,
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

/// The permit for one request in flight.
pub(super) struct Permit {
    _permit: OwnedSemaphorePermit,
    pool: Rc<Pool>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.pool.meters.left();
    }
}

/// The pool of one handler.
pub(super) struct Pool {
    handler: Handler,
    backend: Backend,
    sweep: Rc<Sweep>,
    pub(super) meters: HandlerMeters,
    idle: RefCell<Vec<Connection>>,
    permits: Arc<Semaphore>,
    /// Permits that exist: the current bound.
    allowed: Cell<usize>,
    waiting: Rc<Cell<usize>>,
    /// Bytes that are held of all answers of this worker.
    held: Rc<Cell<usize>>,
}

impl Pool {
    pub(super) fn new(handler: Handler, backend: Backend, sweep: Rc<Sweep>, held: Rc<Cell<usize>>) -> Self {
        let meters = HandlerMeters::new(&handler.socket.display().to_string());
        Self {
            handler,
            backend,
            sweep,
            meters,
            idle: RefCell::default(),
            permits: Arc::new(Semaphore::new(0)),
            allowed: Cell::new(0),
            waiting: Rc::default(),
            held,
        }
    }

    /// The handler of this pool.
    pub(super) fn handler(&self) -> &Handler {
        &self.handler
    }

    /// Adopts the bound of the current snapshot: a reload may have changed it.
    fn allow(&self, in_flight: usize) {
        let allowed = self.allowed.get();
        if in_flight > allowed {
            self.permits.add_permits(in_flight - allowed);
            self.allowed.set(in_flight);
        } else if in_flight < allowed {
            // Only free permits can be removed; the others follow with later requests.
            self.allowed.set(allowed - self.permits.forget_permits(allowed - in_flight));
        }
    }

    /// Waits for a permit, as one of at most `limits.waiting`.
    pub(super) async fn enter(self: &Rc<Self>, limits: HandlerLimits) -> Result<Permit, Refusal> {
        self.allow(limits.in_flight);
        let permit = match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.wait(limits).await?,
        };
        self.meters.entered();
        Ok(Permit { _permit: permit, pool: Rc::clone(self) })
    }

    async fn wait(&self, limits: HandlerLimits) -> Result<OwnedSemaphorePermit, Refusal> {
        if self.waiting.get() >= limits.waiting {
            let detail = format!(
                "{} requests are with the handler at {} and {} wait for it, on this worker; \
                 handler_max_in_flight and handler_max_waiting allow no more.",
                limits.in_flight,
                self.handler.socket.display(),
                limits.waiting,
            );
            return Err(Refusal::new(Reject::HandlerOverloaded, detail));
        }
        let _waiting = Occupied::new(&self.waiting);
        match timeout(limits.timeout, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            // The semaphore is never closed while the pool lives.
            Ok(Err(_)) | Err(_) => Err(late(&self.handler, limits)),
        }
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

    /// Connects within `limit`.
    pub(super) async fn connect(self: &Rc<Self>, limit: Duration) -> Result<Connection, Refusal> {
        let deadline = Instant::now() + limit;
        let socket = loop {
            match self.try_connect() {
                Ok(socket) => break socket,
                // The accept queue is full; a non-blocking connect(2) on a Unix socket does not wait for room.
                Err(Errno::AGAIN) if Instant::now() < deadline => sleep(CONNECT_PAUSE).await,
                Err(error) => return Err(self.unavailable(error)),
            }
        };
        self.meters.connected();
        let traffic = Rc::<Traffic>::default();
        let watched = self.sweep.watch(socket.descriptor(), Timer::closing(limit));
        let stream = UnixStream::new(socket, Rc::clone(&traffic));
        let mut builder = http1::Builder::new();
        // At most 100 fields in an answer: hyper's default, and Envoy's. For any other bound hyper allocates for each answer.
        builder.max_buf_size(ANSWER_MAX_BUFFER);
        let (sender, connection) = builder.handshake(stream).await.map_err(|error| {
            Refusal::new(Reject::Internal, format!("The connection to a handler could not be set up: {error}."))
        })?;
        // Its errors reach the request in flight, which reports them.
        tokio::task::spawn_local(async move {
            let _ = connection.await;
        });
        Ok(Connection { sender, traffic, deadline: watched })
    }

    fn try_connect(&self) -> Result<Socket, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let descriptor = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(&descriptor, &SocketAddrUnix::new(&self.handler.socket)?)?;
        Socket::new(self.backend, descriptor).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }

    fn unavailable(&self, error: Errno) -> Refusal {
        let socket = self.handler.socket.display();
        let hint = match error {
            Errno::NOENT => "the socket does not exist; start the handler",
            Errno::CONNREFUSED => "no process listens on the socket; start the handler",
            Errno::ACCESS => "hookgate may not write to the socket; check its owner and mode",
            Errno::AGAIN => "the handler does not accept connections fast enough",
            Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS => {
                let detail = "This host has no descriptor or memory left for a connection to the handler.";
                return Refusal::new(Reject::HostExhausted, detail);
            }
            _ => return Refusal::new(Reject::HandlerUnavailable, format!("The handler at {socket} failed: {error}.")),
        };
        let reject = if error == Errno::AGAIN { Reject::HandlerOverloaded } else { Reject::HandlerUnavailable };
        Refusal::new(reject, format!("The handler at {socket} cannot be reached: {hint}."))
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

    /// The answer is complete: the next request may use the connection.
    pub(super) fn give_back(self) {
        if self.connection.sender.is_closed() || self.is_late() {
            return;
        }
        self.connection.deadline.set(Timer::closing(self.limits.idle_timeout));
        let mut idle = self.pool.idle.borrow_mut();
        if idle.len() >= self.limits.idle_connections {
            // Connections that the handler has closed are removed here.
            idle.retain(|connection| !connection.sender.is_closed());
        }
        if idle.len() < self.limits.idle_connections {
            idle.push(self.connection);
        }
    }
}

/// The refusal if the handler's time is up.
pub(super) fn late(handler: &Handler, limits: HandlerLimits) -> Refusal {
    let (socket, limit) = (handler.socket.display(), limits.timeout.as_millis());
    Refusal::new(
        Reject::HandlerTimeout,
        format!("The handler at {socket} did not answer within {limit} ms (handler_timeout_ms)."),
    )
}

/// Counts one more for as long as it lives.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_connection_is_told_by_its_cause() {
        let handler = Handler { socket: "/run/app.sock".into() };
        let pool = Pool::new(handler, Backend::Epoll, Sweep::new(), Rc::default());
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
