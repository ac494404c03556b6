//! One connection, from the end of its handshake to the end of its stream.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};

use super::Server;
use super::answer::{AnswerBody, Subject};
use super::ending::{Ending, Outcome, ending};
use super::exchange::{Exchange, ExchangeStream};
use super::{problem, request};
use crate::cause::Cause;
use crate::snapshot::Snapshot;
use crate::strangers::Stranger;
use crate::tls::stream::TlsStream;
use crate::upstream::HandlerBody;
use hookgate_core::identity::{ChainRefusal, VerifiedChain};
use hookgate_core::reject::Refusal;
use hookgate_io::sweep::Deadline;

/// Bytes that a peer may send of a request that was answered already, before the connection is reset.
const LINGER_BYTES: usize = 1024 * 1024;

/// hyper's read and write buffers may grow to this many bytes beyond the largest head: one TLS record and some.
const BUFFER_SLACK: usize = 32 * 1024;

/// As [`BUFFER_SLACK`], for strangers, whose bodies are not read, or slowly: the first size of hyper's buffer.
const REFUSED_BUFFER_SLACK: usize = 8 * 1024;

/// What the handshake established about a peer.
pub struct Peer {
    /// Where it connects from.
    pub address: SocketAddr,
    /// The server name that it asked for, in lower case.
    pub server_name: Option<Box<str>>,
    /// The snapshot under which its handshake was made.
    pub snapshot: Arc<Snapshot>,
    /// What its certificates prove, or why they prove nothing.
    pub verdict: Result<Arc<VerifiedChain>, ChainRefusal>,
    /// Its place among strangers, if they prove nothing.
    pub stranger: Option<Stranger>,
    /// Whether its request may prove it instead: only then is its source blamed for a request that does not.
    pub is_judged_by_request: bool,
}

/// A connection, as its requests see it.
pub(super) struct Connection {
    pub(super) server: Rc<Server>,
    pub(super) address: SocketAddr,
    /// The address as handlers get it: an IPv4-mapped IPv6 address as IPv4.
    pub(super) address_field: HeaderValue,
    pub(super) server_name: Option<Box<str>>,
    pub(super) standing: RefCell<Standing>,
    pub(super) exchange: Rc<Exchange>,
    /// The answer that is being streamed.
    pub(super) streamed: RefCell<Option<Rc<RefCell<HandlerBody>>>>,
    /// The request whose answer was cut, until the log has it.
    pub(super) cut: RefCell<Option<Box<Subject>>>,
}

/// What a reload can change under a connection.
#[derive(Clone)]
pub(super) struct Standing {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) verdict: Result<Arc<VerifiedChain>, ChainRefusal>,
}

impl Standing {
    /// The provider of the certificate, if it alone tells: it proves exactly one, or is refused although it claims one.
    fn provider(&self) -> Option<Arc<str>> {
        let id = match &self.verdict {
            Ok(chain) => match chain.matches() {
                [only] => only.provider,
                _ => return None,
            },
            Err(refusal) => refusal.provider?,
        };
        Some(Arc::clone(&self.snapshot.identity.provider(id).name))
    }
}

/// Serves requests on `stream` until either side ends it.
pub async fn serve(server: Rc<Server>, mut stream: TlsStream, peer: Peer, deadline: Deadline) {
    let limits = peer.snapshot.limits;
    let slack = if peer.stranger.is_some() { REFUSED_BUFFER_SLACK } else { BUFFER_SLACK };
    let exchange = Exchange::new(deadline, limits, peer.stranger, peer.is_judged_by_request);
    let connection = Rc::new(Connection {
        server,
        address: peer.address,
        address_field: address_field(peer.address.ip()),
        server_name: peer.server_name,
        standing: RefCell::new(Standing { snapshot: peer.snapshot, verdict: peer.verdict }),
        exchange: Rc::clone(&exchange),
        streamed: RefCell::default(),
        cut: RefCell::default(),
    });
    let mut builder = http1::Builder::new();
    builder
        // A peer that has shut down its sending direction still gets its answer.
        .half_close(true)
        .max_headers(limits.max_headers)
        .max_header_size(limits.max_head_bytes)
        .max_buf_size(limits.max_head_bytes + slack);
    let service = {
        let connection = Rc::clone(&connection);
        service_fn(move |request| Box::pin(request::handle(Rc::clone(&connection), request)))
    };
    let mut unread = Bytes::new();
    loop {
        let io = ExchangeStream::new(stream, Rc::clone(&exchange), unread);
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
        if let Some(refusal) = exchange.tell_eviction() {
            let request_id = connection.server.context.request_id();
            connection.refused(&refusal, &request_id, "", "");
        }
        return;
    }
    let ending = ending(exchange.stage(), exchange.is_overdue(), &outcome);
    exchange.end();
    match ending {
        Ending::Refuse(refusal) => {
            let request_id = connection.server.context.request_id();
            connection.refused(&refusal, &request_id, "", "");
            if stream.send_all(&problem::raw_response(&refusal, &request_id)).await.is_ok() {
                linger(exchange, stream).await;
            }
        }
        Ending::Linger => linger(exchange, stream).await,
        // The peer may be gone already.
        Ending::Close => drop(stream.close().await),
        Ending::CutSlow(refusal) => connection.cut_slow(&refusal),
        Ending::Cut => tracing::debug!(peer = %connection.address, %outcome, "connection ended"),
    }
}

/// Sends `close_notify`, and discards for a while what the peer still sends.
async fn linger(exchange: &Exchange, mut stream: TlsStream) {
    exchange.end();
    if stream.close().await.is_ok() {
        stream.linger(LINGER_BYTES).await;
    }
}

impl Connection {
    /// hyper asks for no more of an answer while the peer takes nothing. Then the handler is not waited for either; and if the peer is
    /// slow, its answer is taken from the handler all the same.
    fn take_ahead(&self, context: &mut Context<'_>) {
        if !self.exchange.stage().is_stalled() {
            return;
        }
        let Some(streamed) = &*self.streamed.borrow() else { return };
        match self.exchange.poll_slow(context) {
            Poll::Ready(()) => streamed.borrow_mut().take_ahead(context),
            Poll::Pending => streamed.borrow_mut().pause(),
        }
    }

    /// Counts and logs an answer that the peer did not take. Its request is known unless hyper had the whole answer.
    fn cut_slow(&self, refusal: &Refusal) {
        match self.cut.take() {
            Some(subject) => self.refused(refusal, &subject.request_id, &subject.route, &subject.provider),
            None => self.refused(refusal, &self.server.context.request_id(), "", ""),
        }
    }

    /// Counts and logs a refusal. `route` and `provider` are empty if they are not known yet.
    pub(super) fn refused(&self, refusal: &Refusal, request_id: &HeaderValue, route: &str, provider: &str) {
        self.server.context.meters.rejected(refusal.reject);
        fn known(name: &str) -> Option<&str> {
            (!name.is_empty()).then_some(name)
        }
        let standing = self.standing.borrow();
        let of_certificate = standing.provider();
        tracing::warn!(
            reason = refusal.reject.row().reason,
            provider = known(provider).or(of_certificate.as_deref()),
            route = known(route),
            peer = %self.address,
            server_name = self.server_name.as_deref(),
            request_id = request_id.to_str().unwrap_or_default(),
            detail = %refusal.detail(),
            cause = Cause::of(refusal.reject, standing.verdict.is_ok() || self.exchange.is_proven()).label(),
            "request refused"
        );
    }
}
