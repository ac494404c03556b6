//! One connection, from the end of its handshake to the end of its stream.

use std::cell::{Cell, OnceCell, RefCell};
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};

use super::Server;
use super::account::Account;
use super::answer::AnswerBody;
use super::ending::{Ending, Linger, Outcome, ending};
use super::exchange::{Exchange, ExchangeStream};
use super::request_body::RequestBody;
use super::{problem, request};
use crate::access::{Outcome as Event, Tls};
use crate::proxy::Origin;
use crate::snapshot::Snapshot;
use crate::strangers::Stranger;
use crate::tls::stream::TlsStream;
use crate::upstream::HandlerBody;
use hookgate_core::identity::{ChainRefusal, ProviderId, VerifiedChain};
use hookgate_io::sweep::Deadline;

/// hyper's read and write buffers may grow to this many bytes beyond the largest head: one TLS record and some.
const BUFFER_SLACK: usize = 32 * 1024;

/// As [`BUFFER_SLACK`], for strangers, whose bodies are not read, or slowly: the first size of hyper's buffer.
const REFUSED_BUFFER_SLACK: usize = 8 * 1024;

/// What the handshake established about a peer.
pub struct Peer {
    /// Where it is.
    pub origin: Origin,
    /// The server name that it asked for, in lower case.
    pub server_name: Option<Box<str>>,
    /// What its handshake negotiated.
    pub tls: Tls,
    /// The snapshot under which its handshake was made.
    pub snapshot: Arc<Snapshot>,
    /// What its certificates prove, or why they prove nothing.
    pub verdict: Result<Arc<VerifiedChain>, ChainRefusal>,
    /// Its place among strangers, if they prove nothing.
    pub stranger: Option<Stranger>,
    /// Whether its request may prove it instead: only then is its source blamed for a request that does not.
    pub is_judged_by_request: bool,
}

/// A connection, as its requests see it. Each stream of HTTP/2 has one of its own, with what the streams share.
pub(super) struct Connection {
    pub(super) server: Rc<Server>,
    pub(super) origin: Origin,
    /// The address and port as the log has them, once it does.
    pub(super) peer: OnceCell<Box<str>>,
    /// Those of the proxy that the peer came through, likewise.
    pub(super) proxy: OnceCell<Box<str>>,
    /// The address as handlers get it: an IPv4-mapped IPv6 address as IPv4.
    pub(super) address_field: HeaderValue,
    pub(super) server_name: Option<Box<str>>,
    pub(super) tls: Tls,
    pub(super) standing: RefCell<Standing>,
    pub(super) exchange: Rc<Exchange>,
    /// The answer that is being streamed.
    pub(super) streamed: RefCell<Option<Rc<RefCell<HandlerBody>>>>,
    /// The request that is being answered.
    pub(super) account: RefCell<Option<Account>>,
    /// A request was answered, or what came instead of one.
    pub(super) has_served: Cell<bool>,
    /// A handler may have bytes of the request, or it is being stored: from here on it is finished, even if its peer wants no answer any more. The
    /// peer of a stream can say so.
    pub(super) is_begun: Cell<bool>,
}

impl Drop for Connection {
    /// Every request is counted, also if the worker ends first.
    fn drop(&mut self) {
        self.close_account(Event::Abandoned);
    }
}

/// What a reload can change under a connection.
#[derive(Clone)]
pub(super) struct Standing {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) verdict: Result<Arc<VerifiedChain>, ChainRefusal>,
}

impl Standing {
    /// The provider of the certificate, if it alone tells: it proves exactly one, or is refused although it claims one.
    pub(super) fn provider(&self) -> Option<ProviderId> {
        match &self.verdict {
            Ok(chain) => match chain.matches() {
                [only] => Some(only.provider),
                _ => None,
            },
            Err(refusal) => refusal.provider,
        }
    }
}

/// Serves requests of HTTP/1 on `stream` until either side ends it.
pub async fn serve(server: Rc<Server>, mut stream: TlsStream, peer: Peer, deadline: Deadline) {
    let limits = peer.snapshot.limits;
    let slack = if peer.stranger.is_some() { REFUSED_BUFFER_SLACK } else { BUFFER_SLACK };
    let connection = Connection::new(server, peer, deadline);
    let exchange = Rc::clone(&connection.exchange);
    let mut builder = http1::Builder::new();
    builder
        // A peer that has shut down its sending direction still gets its answer.
        .half_close(true)
        .max_headers(limits.max_headers)
        .max_header_size(limits.max_head_bytes)
        .max_buf_size(limits.max_head_bytes + slack);
    let service = {
        let connection = Rc::clone(&connection);
        service_fn(move |request: Request<Incoming>| {
            Box::pin(request::answer(Rc::clone(&connection), request.map(RequestBody::Http1)))
        })
    };
    let mut unread = Bytes::new();
    loop {
        let io = ExchangeStream::new(stream, Rc::clone(&connection), unread);
        let serving = builder.serve_connection(io, service.clone());
        let outcome;
        // On the heap, and freed before the rest, so that a connection at rest does not keep memory for it.
        (stream, unread, outcome) = Box::pin(serve_until_silence(serving, &connection)).await;
        if let Some(outcome) = outcome {
            return Box::pin(end(&connection, stream, outcome.into())).await;
        }
        if unread.is_empty() {
            // hyper and its buffers are freed: they are more than half of the memory of an idle connection.
            unread = Bytes::new();
            stream.rest().await;
            if exchange.is_proven() {
                stream.allow_large_receives();
            }
        }
    }
}

fn address_field(address: IpAddr) -> HeaderValue {
    // Digits, letters, dots and colons are valid in a field.
    HeaderValue::try_from(address.to_canonical().to_string()).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// Lets hyper serve until either side ends the connection, or until the peer is silent (no outcome). Returns the stream, and the
/// bytes that were read and not used.
async fn serve_until_silence<S>(
    mut serving: http1::Connection<ExchangeStream, S>,
    connection: &Connection,
) -> (TlsStream, Bytes, Option<Result<(), hyper::Error>>)
where
    S: HttpService<Incoming, ResBody = AnswerBody, Error = Infallible> + Unpin,
    S::Future: Unpin,
{
    let outcome = poll_fn(|context| match serving.poll_without_shutdown(context) {
        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
        Poll::Pending => {
            connection.take_ahead(context);
            connection.exchange.poll_silence(context).map(|()| None)
        }
    });
    let outcome = outcome.await;
    let parts = serving.into_parts();
    (parts.io.into_inner(), parts.read_buf, outcome)
}

/// Ends the stream as [`ending`] decides.
async fn end(connection: &Connection, mut stream: TlsStream, outcome: Outcome) {
    let exchange = &connection.exchange;
    if exchange.is_evicted() {
        match exchange.tell_eviction() {
            Some(refusal) if connection.account.borrow().is_some() => connection.refused(refusal),
            Some(refusal) => connection.refused_without_request(&refusal, None),
            None => {}
        }
        return connection.close_account(Event::Abandoned);
    }
    let limits = connection.standing.borrow().snapshot.limits;
    let ending = ending(exchange.stage(), exchange.is_overdue(), stream.is_alerted(), &outcome, &limits);
    exchange.end();
    if !matches!(ending, Ending::CutSlow(_)) {
        connection.close_account(Event::Abandoned);
    }
    match ending {
        Ending::Refuse(refusal) => {
            let request_id = connection.server.context.request_id();
            connection.refused_without_request(&refusal, Some(&request_id));
            let types = connection.standing.borrow().snapshot.problem_types.clone();
            if stream.send_all(&problem::raw_response(&refusal, &request_id, &types)).await.is_ok() {
                linger(connection, stream).await;
            }
        }
        Ending::Linger => linger(connection, stream).await,
        // The peer may be gone already.
        Ending::Close => drop(stream.close().await),
        Ending::Alert => {
            tracing::debug!(peer = %connection.origin.address(), %outcome, "connection ended");
            stream.end_with_alert().await;
        }
        Ending::CutSlow(refusal) => connection.cut(refusal),
        Ending::Cut => tracing::debug!(peer = %connection.origin.address(), %outcome, "connection ended"),
    }
    connection.log_if_silent();
}

/// Sends `close_notify` and the end of the stream, and discards for a while what the peer still sends. A sender that writes its whole
/// request before it reads would otherwise see a reset in place of the answer.
pub(super) async fn linger(connection: &Connection, mut stream: TlsStream) {
    let exchange = &connection.exchange;
    exchange.end();
    if stream.close().await.is_err() {
        return;
    }
    let linger = Linger::of(exchange.is_stranger());
    let began = exchange.coarse();
    let received = || {
        let lasted = exchange.coarse().saturating_sub(began);
        if linger.goes_on(lasted, connection.server.context.is_draining()) {
            exchange.end();
        }
    };
    stream.linger(linger.bytes, received).await;
}

impl Connection {
    /// After the handshake of `peer`, whose first request is due.
    pub(super) fn new(server: Rc<Server>, peer: Peer, deadline: Deadline) -> Rc<Self> {
        let limits = peer.snapshot.limits;
        Rc::new(Self {
            server,
            origin: peer.origin,
            peer: OnceCell::new(),
            proxy: OnceCell::new(),
            address_field: address_field(peer.origin.address().ip()),
            server_name: peer.server_name,
            tls: peer.tls,
            standing: RefCell::new(Standing { snapshot: peer.snapshot, verdict: peer.verdict }),
            exchange: Exchange::new(deadline, limits, peer.stranger, peer.is_judged_by_request),
            streamed: RefCell::default(),
            account: RefCell::default(),
            has_served: Cell::new(false),
            is_begun: Cell::new(false),
        })
    }

    /// For a request that begins now on a stream of this connection of HTTP/2. Its verdict is that of the connection, renewed as for a request of
    /// HTTP/1; what a reload changes later does not concern it.
    pub(super) fn stream(&self, deadline: Deadline) -> Rc<Self> {
        self.has_served.set(true);
        Rc::new(Self {
            server: Rc::clone(&self.server),
            origin: self.origin,
            peer: self.peer.clone(),
            proxy: self.proxy.clone(),
            address_field: self.address_field.clone(),
            server_name: self.server_name.clone(),
            tls: self.tls,
            standing: RefCell::new(self.current_standing()),
            exchange: Exchange::of_stream(&self.exchange, deadline),
            streamed: RefCell::default(),
            account: RefCell::default(),
            has_served: Cell::new(false),
            is_begun: Cell::new(false),
        })
    }

    /// hyper asks for no more of an answer while the peer takes nothing. Then the handler is not waited for either; and if the peer is
    /// slow, its answer is taken from the handler all the same.
    pub(super) fn take_ahead(&self, context: &mut Context<'_>) {
        if !self.exchange.stage().is_stalled() {
            return;
        }
        let Some(streamed) = &*self.streamed.borrow() else { return };
        match self.exchange.poll_slow(context) {
            Poll::Ready(()) => streamed.borrow_mut().take_ahead(context),
            Poll::Pending => streamed.borrow_mut().pause(),
        }
    }
}
