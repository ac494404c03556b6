//! The metrics endpoint: `/metrics` over plain HTTP/1.1, for Prometheus.
//!
//! Owns the listener of the control side, the bounds on its connections, and what is answered. Runs on the control thread, and never on
//! a worker. Must not know what the metrics are: it is given a function that renders them.
//!
//! # Bounds
//!
//! Every client that reaches the port can open connections, so they are bounded: at most [`CONNECTIONS`] at once, one request each,
//! [`HEAD_LIMIT`] for its head and [`CONNECTION_LIMIT`] for everything, [`BUFFER_BYTES`] of buffers. If all are open, the oldest of those
//! that have sent no request makes room for the next one. So a client that sends its request at once gets its answer, however many
//! silent ones there are. If the host has no descriptor or memory left, the loop pauses between two accepts.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::anyhow;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::io::Errno;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Most connections at once, and so the descriptors that the endpoint takes. A Prometheus server opens one, its twin another; the
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

/// Least time between two renderings. Requests that arrive in between share the next one, so that a flood of them costs the control
/// thread at most 100 renderings a second.
const RENDER_INTERVAL: Duration = Duration::from_millis(10);

/// Where the metrics are.
const PATH: &str = "/metrics";

/// The text format of Prometheus, version 0.0.4.
const TEXT_FORMAT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// The bound endpoint.
pub(super) struct MetricsEndpoint {
    listener: TcpListener,
    renderer: Arc<Renderer>,
}

impl MetricsEndpoint {
    /// Binds `address`, to answer with what `render` returns. Call it inside the runtime of the control thread.
    ///
    /// # Errors
    ///
    /// If the address cannot be bound.
    pub(super) fn bind(
        address: SocketAddr,
        render: impl Fn() -> String + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let bind = || {
            let listener = StdListener::bind(address)?;
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        };
        let listener = bind().map_err(|error: io::Error| {
            let place = format!("cannot serve metrics on {address} (metrics.listen)");
            match (error.kind(), address.port()) {
                (io::ErrorKind::AddrInUse, port) => anyhow!(
                    "{place}: address already in use: another process listens there; `ss -ltnp sport = :{port}` shows it; end it, or write \
                     another port"
                ),
                _ => anyhow::Error::from(error).context(place),
            }
        })?;
        Ok(Self { listener, renderer: Arc::new(Renderer { render: Box::new(render), last: Mutex::default() }) })
    }

    /// Serves for as long as it is polled.
    pub(super) async fn serve(self) -> Infallible {
        let mut open = Vec::new();
        let mut reported = None;
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    make_room(&mut open).await;
                    open.push(self.start(stream));
                    // It reads its request before a further connection can evict it.
                    yield_now().await;
                }
                // The peer closed the connection in the queue.
                Err(error) if Errno::from_io_error(&error) == Some(Errno::CONNABORTED) => {}
                Err(error) => {
                    if reported.is_none_or(|reported: Instant| reported.elapsed() >= REPORT_INTERVAL) {
                        tracing::error!(%error, "the metrics endpoint cannot accept connections; it tries again");
                        reported = Some(Instant::now());
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }

    fn start(&self, stream: TcpStream) -> OpenConnection {
        let asked = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(answer(stream, Arc::clone(&self.renderer), Arc::clone(&asked)));
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
async fn answer(stream: TcpStream, renderer: Arc<Renderer>, asked: Arc<AtomicBool>) {
    let service = service_fn(move |request| {
        asked.store(true, Ordering::Relaxed);
        let renderer = Arc::clone(&renderer);
        async move { Ok::<_, Infallible>(respond(&request, &renderer).await) }
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
    let _ = timeout(CONNECTION_LIMIT, builder.serve_connection(TokioIo::new(stream), service)).await;
}

/// The answer to a request. hyper leaves out the body if the method is HEAD.
async fn respond<B>(request: &Request<B>, renderer: &Renderer) -> Response<Full<Bytes>> {
    if request.uri().path() != PATH {
        return refuse(StatusCode::NOT_FOUND, "only /metrics is here\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = refuse(StatusCode::METHOD_NOT_ALLOWED, "use GET or HEAD\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let mut response = Response::new(Full::new(renderer.current().await));
    response.headers_mut().insert(CONTENT_TYPE, TEXT_FORMAT);
    response
}

fn refuse(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Renders the metrics, at most once in [`RENDER_INTERVAL`].
struct Renderer {
    render: Box<dyn Fn() -> String + Send + Sync>,
    last: Mutex<Option<Rendered>>,
}

struct Rendered {
    began: Instant,
    text: Bytes,
}

impl Renderer {
    /// The metrics, not older than the call.
    async fn current(&self) -> Bytes {
        let called = Instant::now();
        let mut last = self.last.lock().await;
        if let Some(rendered) = &*last {
            if rendered.began >= called {
                return rendered.text.clone();
            }
            sleep_until(rendered.began + RENDER_INTERVAL).await;
        }
        let began = Instant::now();
        let text = Bytes::from((self.render)());
        *last = Some(Rendered { began, text: text.clone() });
        text
    }
}

#[cfg(test)]
mod tests;
