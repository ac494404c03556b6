//! The connections of one worker to one handler, and the bounds on what is with it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{HandlerLimits, Occupied, late, stream::UnixStream};
use crate::metrics::HandlerMeters;
use hookgate_core::reject::{Refusal, Reject};
use hookgate_core::route::Handler;
use hookgate_io::sweep::{Deadline, Sweep, Timer};
use hookgate_io::timer::{sleep, timeout};
use hookgate_io::{Backend, Socket};

/// How long to wait before trying a handler whose accept queue is full again.
const CONNECT_PAUSE: Duration = Duration::from_millis(10);

/// Bytes of head accepted in a handler's answer, and the size to which hyper's buffers may grow.
const ANSWER_MAX_BUFFER: usize = 256 * 1024;

/// A connection to a handler.
pub(super) struct Connection {
    pub(super) sender: SendRequest<Full<Bytes>>,
    deadline: Deadline,
    sent: Rc<Cell<u64>>,
}

impl Connection {
    /// The handler has `limit` from now to answer.
    pub(super) fn begin(&self, limit: Duration) {
        self.deadline.set(Timer::closing(limit));
    }

    /// Bytes that the kernel has taken on this connection.
    pub(super) fn sent(&self) -> u64 {
        self.sent.get()
    }

    /// Whether the sweep ended it, since the handler was late.
    pub(super) fn is_late(&self) -> bool {
        self.deadline.is_overdue()
    }
}

/// The right to have one request with the handler.
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
    /// Permits that exist: the bound that the semaphore was last set to.
    allowed: Cell<usize>,
    waiting: Rc<Cell<usize>>,
}

impl Pool {
    pub(super) fn new(handler: Handler, backend: Backend, sweep: Rc<Sweep>) -> Self {
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
        }
    }

    /// Whose pool it is.
    pub(super) fn handler(&self) -> &Handler {
        &self.handler
    }

    /// Adopts the bound of the snapshot at hand: a reload may have changed it.
    fn allow(&self, in_flight: usize) {
        let allowed = self.allowed.get();
        if in_flight > allowed {
            self.permits.add_permits(in_flight - allowed);
            self.allowed.set(in_flight);
        } else if in_flight < allowed {
            // Only what is free can be taken back; the rest follows with later requests.
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
            // The semaphore is never closed while the pool lives; a wait that ends without a permit was too long either way.
            Ok(Err(_)) | Err(_) => Err(late(&self.handler, limits)),
        }
    }

    /// An idle connection that the handler has not closed, as far as can be known.
    pub(super) async fn checkout(&self) -> Option<Connection> {
        loop {
            let mut connection = self.idle.borrow_mut().pop()?;
            // The sweep has closed it, even if hyper does not know yet.
            if connection.deadline.is_overdue() {
                continue;
            }
            // Not idle any more, so that the sweep does not close it under the request.
            connection.begin(Duration::from_secs(1));
            if connection.sender.ready().await.is_ok() {
                return Some(connection);
            }
        }
    }

    /// Makes a connection within `limit`.
    pub(super) async fn connect(self: &Rc<Self>, limit: Duration) -> Result<Connection, Refusal> {
        let deadline = Instant::now() + limit;
        let socket = loop {
            match self.try_connect() {
                Ok(socket) => break socket,
                // A full accept queue; connect(2) on a Unix socket does not wait for room when it is not to block.
                Err(Errno::AGAIN) if Instant::now() < deadline => sleep(CONNECT_PAUSE).await,
                Err(error) => return Err(self.unavailable(error)),
            }
        };
        self.meters.connected();
        let sent = Rc::new(Cell::new(0));
        let watched = self.sweep.watch(socket.descriptor(), Timer::closing(limit));
        let stream = UnixStream::new(socket, Rc::clone(&sent));
        let mut builder = http1::Builder::new();
        // At most 100 fields in an answer: hyper's own bound, and Envoy's. For any other it allocates room for each answer.
        builder.max_buf_size(ANSWER_MAX_BUFFER);
        let (sender, connection) = builder.handshake(stream).await.map_err(|error| {
            Refusal::new(Reject::Internal, format!("The connection to a handler could not be set up: {error}."))
        })?;
        // Its errors reach the request under way, which says more about them.
        tokio::task::spawn_local(async move {
            let _ = connection.await;
        });
        Ok(Connection { sender, deadline: watched, sent })
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
            Errno::NOENT => "the socket does not exist; is the handler running?",
            Errno::CONNREFUSED => "nobody listens on the socket; is the handler running?",
            Errno::ACCESS => "hookgate may not write to the socket; check its owner and mode",
            Errno::AGAIN => "the handler does not accept connections fast enough",
            _ => return Refusal::new(Reject::HandlerUnavailable, format!("The handler at {socket} failed: {error}.")),
        };
        let reject = if error == Errno::AGAIN { Reject::HandlerOverloaded } else { Reject::HandlerUnavailable };
        Refusal::new(reject, format!("The handler at {socket} cannot be reached: {hint}."))
    }
}

/// A connection on loan to one answer.
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

    /// The handler sent something: its time starts anew.
    pub(super) fn progress(&self) {
        self.connection.begin(self.limits.timeout);
    }

    pub(super) fn is_late(&self) -> bool {
        self.connection.is_late()
    }

    /// The answer is complete: the next request may use the connection.
    pub(super) fn give_back(self) {
        if self.connection.sender.is_closed() {
            return;
        }
        self.connection.deadline.set(Timer::closing(self.limits.idle_timeout));
        let mut idle = self.pool.idle.borrow_mut();
        if idle.len() >= self.limits.idle_connections {
            // Those that the handler has closed are nothing but handles by now, and wait here for somebody to look.
            idle.retain(|connection| !connection.sender.is_closed());
        }
        if idle.len() < self.limits.idle_connections {
            idle.push(self.connection);
        }
    }
}
