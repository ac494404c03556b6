//! A listener of the control side: plain HTTP/1.1 for programs and people of this host.
//!
//! Owns the listener and the bounds on its connections. Runs on the control thread, and never on a worker. Must not know what is answered:
//! [`Pages`] does.
//!
//! # Bounds
//!
//! Every client that reaches the listener can open connections, so they are bounded: at most [`CONNECTIONS`] at once, one request each,
//! [`HEAD_LIMIT`] for its head and [`CONNECTION_LIMIT`] for everything, [`BUFFER_BYTES`] of buffers. If all are open, the oldest of those
//! that have sent no request makes room for the next one. So a client that sends its request at once gets its answer, however many
//! silent ones there are. If the host has no descriptor or memory left, the loop pauses between two accepts.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use hyper::rt::{Read, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::io::Errno;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Most connections at once, and so the descriptors that a listener takes. A Prometheus server opens one, its twin another; the
/// rest is for people and for scrapes that overlap.
pub(super) const CONNECTIONS: usize = 16;

/// From the accept to the end of the head. A scraper sends it at once, in one segment.
const HEAD_LIMIT: Duration = Duration::from_secs(5);

/// From the accept to the end of the answer: as long as Prometheus waits for one by default (`scrape_timeout`).
const CONNECTION_LIMIT: Duration = Duration::from_secs(10);

/// The most that hyper buffers of a request: the least that it takes. Prometheus sends some 300 bytes.
const BUFFER_BYTES: usize = 8 * 1024;

/// Most fields of a request. Prometheus sends six, a browser some twenty.
const FIELDS: usize = 64;

/// Pause after an accept that failed for lack of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(500);

/// Pause before another look for a connection that has ended, if all are being answered.
const ROOM_PAUSE: Duration = Duration::from_millis(20);

/// Interval of the log lines about accepts that fail.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// What an endpoint answers.
pub(super) trait Pages: Send + Sync + 'static {
    /// The answer to a request. hyper leaves out the body if the method is HEAD.
    fn answer(&self, request: Parts) -> impl Future<Output = Answer> + Send;
}

/// A whole answer.
pub(super) type Answer = Response<Full<Bytes>>;

/// A bound listener.
pub(super) enum Bound {
    /// Of TCP.
    Tcp(TcpListener),
    /// Of a Unix socket.
    Unix(UnixListener),
}

impl Bound {
    /// Binds an address. Call it inside the runtime of the control thread.
    ///
    /// # Errors
    ///
    /// If it cannot be bound.
    pub(super) fn tcp(address: SocketAddr) -> io::Result<Self> {
        let listener = StdTcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener).map(Self::Tcp)
    }

    /// Binds a Unix socket at `path`, in place of one that no process listens on. Its mode is what the umask leaves. Call it inside the
    /// runtime of the control thread.
    ///
    /// # Errors
    ///
    /// If it cannot be bound, or another process listens on it.
    pub(super) fn unix(path: &Path) -> io::Result<Self> {
        let bound = match StdUnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_left_over(path) => {
                std::fs::remove_file(path)?;
                StdUnixListener::bind(path)
            }
            bound => bound,
        };
        let listener = bound?;
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener).map(Self::Unix)
    }
}

/// Whether a file is a socket that a process has left behind.
fn is_left_over(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    let is_refused =
        || StdUnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    is_socket && is_refused()
}

/// The bound endpoint.
pub(super) struct Endpoint<P> {
    listener: Bound,
    /// What it serves, for the log.
    name: &'static str,
    pages: Arc<P>,
}

impl<P: Pages> Endpoint<P> {
    /// Answers the requests that come to `listener` with `pages`.
    pub(super) fn new(listener: Bound, name: &'static str, pages: P) -> Self {
        Self { listener, name, pages: Arc::new(pages) }
    }

    /// Serves for as long as it is polled.
    pub(super) async fn serve(self) -> Infallible {
        let mut open = Vec::new();
        let mut reported = None;
        loop {
            match self.accept(&mut open).await {
                // It reads its request before a further connection can evict it.
                Ok(()) => yield_now().await,
                // The peer closed the connection in the queue.
                Err(error) if Errno::from_io_error(&error) == Some(Errno::CONNABORTED) => {}
                Err(error) => {
                    if reported.is_none_or(|reported: Instant| reported.elapsed() >= REPORT_INTERVAL) {
                        let name = self.name;
                        tracing::error!(%error, endpoint = %name, "an endpoint cannot accept connections; it tries again");
                        reported = Some(Instant::now());
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Accepts a connection, makes room for it among `open`, and starts to answer it.
    async fn accept(&self, open: &mut Vec<OpenConnection>) -> io::Result<()> {
        match &self.listener {
            Bound::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                make_room(open).await;
                open.push(self.start(TokioIo::new(stream)));
            }
            Bound::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                make_room(open).await;
                open.push(self.start(TokioIo::new(stream)));
            }
        }
        Ok(())
    }

    fn start(&self, stream: impl Read + Write + Unpin + Send + 'static) -> OpenConnection {
        let asked = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(converse(stream, Arc::clone(&self.pages), Arc::clone(&asked)));
        OpenConnection { asked, task }
    }
}

/// A connection that may still be open.
struct OpenConnection {
    /// Its request has arrived.
    asked: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

/// Waits until one more connection may be open. Evicts the oldest one that has sent no request; if all have, one of them ends within
/// [`CONNECTION_LIMIT`].
async fn make_room(open: &mut Vec<OpenConnection>) {
    loop {
        open.retain(|connection| !connection.task.is_finished());
        if open.len() < CONNECTIONS {
            return;
        }
        match open.iter().position(|connection| !connection.asked.load(Ordering::Relaxed)) {
            Some(silent) => open.remove(silent).task.abort(),
            None => sleep(ROOM_PAUSE).await,
        }
    }
}

/// Answers the one request of a connection. Nothing that a client does is logged.
async fn converse<P: Pages>(stream: impl Read + Write + Unpin + Send + 'static, pages: Arc<P>, asked: Arc<AtomicBool>) {
    let service = service_fn(move |request: hyper::Request<_>| {
        asked.store(true, Ordering::Relaxed);
        let pages = Arc::clone(&pages);
        async move {
            let (head, _): (Parts, hyper::body::Incoming) = request.into_parts();
            Ok::<_, Infallible>(pages.answer(head).await)
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(BUFFER_BYTES)
        .max_headers(FIELDS)
        // A client that has shut down its sending direction still gets its answer.
        .half_close(true)
        // A scrape every few seconds can pay for a connection of its own, and no connection waits for a second request.
        .keep_alive(false);
    // A client that breaks off, or is too slow, gets no answer.
    let _ = timeout(CONNECTION_LIMIT, builder.serve_connection(stream, service)).await;
}

/// An answer of this kind.
pub(super) fn answer(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// An answer of plain text.
pub(super) fn plain(status: StatusCode, text: &'static str) -> Answer {
    answer(status, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()))
}

/// The answer to a method that is neither GET nor HEAD.
pub(super) fn method_refused(method: &Method) -> Option<Answer> {
    if matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "use GET or HEAD\n");
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    Some(answer)
}

/// What is made anew for a request, but not too often: requests that arrive in between share the next one.
pub(super) struct Paced<T> {
    /// Least time between two.
    interval: Duration,
    last: Mutex<Option<(Instant, T)>>,
}

impl<T: Clone> Paced<T> {
    /// At most one in `interval`.
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, last: Mutex::default() }
    }

    /// One that is not older than the call.
    pub(super) async fn current<F: Future<Output = T>>(&self, make: impl FnOnce() -> F) -> T {
        let called = Instant::now();
        let mut last = self.last.lock().await;
        if let Some((began, made)) = &*last {
            if *began >= called {
                return made.clone();
            }
            sleep_until(*began + self.interval).await;
        }
        let began = Instant::now();
        let made = make().await;
        *last = Some((began, made.clone()));
        made
    }
}

#[cfg(test)]
mod tests;
