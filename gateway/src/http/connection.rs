//! One connection, from the end of its handshake to the end of its stream.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};

use super::Server;
use super::answer::AnswerBody;
use super::exchange::{Exchange, ExchangeStream};
use super::{problem, request};
use crate::snapshot::Snapshot;
use crate::tls::stream::TlsStream;
use hookgate_core::identity::{ChainRefusal, VerifiedChain};
use hookgate_core::reject::{Refusal, Reject};
use hookgate_io::sweep::Deadline;

/// How many bytes a peer may go on sending of a request that was answered already, before the connection is reset.
const LINGER_BYTES: usize = 1024 * 1024;

/// hyper's read and write buffers may grow to this many bytes beyond the largest head: one TLS record and some.
const BUFFER_SLACK: usize = 32 * 1024;

/// What the handshake established about a peer.
pub struct Peer {
    /// Where it connects from.
    pub address: SocketAddr,
    /// The server name that it asked for, in lower case.
    pub server_name: Option<Box<str>>,
    /// The snapshot under which it was received.
    pub snapshot: Arc<Snapshot>,
    /// What its certificates prove, or why they don't.
    pub verdict: Result<Arc<VerifiedChain>, ChainRefusal>,
}

/// A connection, as its requests see it.
pub(super) struct Connection {
    pub(super) server: Rc<Server>,
    pub(super) address: SocketAddr,
    /// The address as handlers are told it: IPv4 where it is mapped into IPv6.
    pub(super) address_field: HeaderValue,
    pub(super) server_name: Option<Box<str>>,
    pub(super) state: RefCell<State>,
    pub(super) exchange: Rc<Exchange>,
}

/// What a reload can change under a connection.
#[derive(Clone)]
pub(super) struct State {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) verdict: Result<Arc<VerifiedChain>, ChainRefusal>,
}

impl State {
    /// Whose certificate it is, as far as it alone can tell: of one provider, or refused although it names one.
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
    let exchange = Exchange::new(deadline, limits);
    let connection = Rc::new(Connection {
        server,
        address: peer.address,
        address_field: address_field(peer.address.ip()),
        server_name: peer.server_name,
        state: RefCell::new(State { snapshot: peer.snapshot, verdict: peer.verdict }),
        exchange: Rc::clone(&exchange),
    });
    let mut builder = http1::Builder::new();
    builder
        // A peer that has said all it has to say still gets its answer.
        .half_close(true)
        .max_headers(limits.max_headers)
        .max_header_size(limits.max_head_bytes)
        .max_buf_size(limits.max_head_bytes + BUFFER_SLACK);
    let service = {
        let connection = Rc::clone(&connection);
        service_fn(move |request| Box::pin(request::handle(Rc::clone(&connection), request)))
    };
    let mut unread = Bytes::new();
    loop {
        let io = ExchangeStream::new(stream, Rc::clone(&exchange), unread);
        let serving = builder.serve_connection(io, service.clone());
        let outcome;
        // On the heap, and gone before the rest, so that a connection at rest does not keep room for it.
        (stream, unread, outcome) = Box::pin(serve_until_silence(serving, &exchange)).await;
        if let Some(outcome) = outcome {
            return Box::pin(end(&connection, stream, outcome)).await;
        }
        if unread.is_empty() {
            // Without hyper and its buffers, which are more than half of what an idle connection costs.
            unread = Bytes::new();
            stream.rest().await;
        }
    }
}

fn address_field(address: IpAddr) -> HeaderValue {
    // Digits, letters, dots and colons are all fit for a field.
    HeaderValue::try_from(address.to_canonical().to_string()).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// Has hyper serve until either side ends the connection, or the peer falls silent: then there is no outcome. Returns the stream, and
/// what was read of it and not used.
async fn serve_until_silence<S>(
    mut serving: http1::Connection<ExchangeStream, S>,
    exchange: &Exchange,
) -> (TlsStream, Bytes, Option<Result<(), hyper::Error>>)
where
    S: HttpService<Incoming, ResBody = AnswerBody, Error = Infallible> + Unpin,
    S::Future: Unpin,
{
    let outcome = poll_fn(|context| match serving.poll_without_shutdown(context) {
        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
        Poll::Pending => exchange.poll_silence(context).map(|()| None),
    });
    let outcome = outcome.await;
    let parts = serving.into_parts();
    (parts.io.into_inner(), parts.read_buf, outcome)
}

/// Ends the stream as it deserves: in order, with a last problem document, or visibly cut.
async fn end(connection: &Connection, mut stream: TlsStream, outcome: Result<(), hyper::Error>) {
    let exchange = &connection.exchange;
    let last_words = last_words(exchange, outcome.as_ref().err());
    match (last_words, outcome) {
        (Some(refusal), _) => {
            let request_id = connection.server.context.request_id();
            connection.refused(&refusal, &request_id, "", "");
            exchange.end();
            if stream.send_all(&problem::raw_response(&refusal, &request_id)).await.is_ok() {
                linger(exchange, stream).await;
            }
        }
        (None, Ok(())) if exchange.stage().is_unread() => linger(exchange, stream).await,
        (None, Ok(())) => {
            exchange.end();
            // The peer may be gone already, and then there is nobody to say good-bye to.
            let _ = stream.close().await;
        }
        // An answer that broke off, or a broken socket: no close_notify, so that nobody takes a cut body for a whole one.
        (None, Err(error)) => tracing::debug!(peer = %connection.address, %error, "connection ended"),
    }
}

/// Says that nothing more comes, and hears the peer out for a while.
async fn linger(exchange: &Exchange, mut stream: TlsStream) {
    exchange.end();
    if stream.close().await.is_ok() {
        stream.linger(LINGER_BYTES).await;
    }
}

/// What is still to be said to a peer whose bytes made no request.
fn last_words(exchange: &Exchange, error: Option<&hyper::Error>) -> Option<Refusal> {
    let stage = exchange.stage();
    let refusal = |reject, detail| Some(Refusal::new(reject, detail));
    match error {
        _ if stage.is_in_head() && exchange.is_overdue() => {
            refusal(Reject::RequestTimeout, "The head of the request did not arrive within request_head_timeout_ms.")
        }
        Some(error) if stage.is_no_request() && error.is_parse_too_large() => {
            refusal(Reject::HeadTooLarge, "The request head exceeds max_head_bytes or max_headers.")
        }
        Some(error) if stage.is_no_request() || (stage.is_in_head() && error.is_parse()) => Some(Refusal::new(
            Reject::MalformedRequest,
            format!("The bytes received are no HTTP/1.1 request: {error}."),
        )),
        Some(error) if stage.is_in_head() && error.is_incomplete_message() => {
            refusal(Reject::MalformedRequest, "The connection ended in the middle of the request head.")
        }
        _ => None,
    }
}

impl Connection {
    /// Counts a refusal and puts it into the log, with the route and the provider as far as the request got; empty where it
    /// did not.
    pub(super) fn refused(&self, refusal: &Refusal, request_id: &HeaderValue, route: &str, provider: &str) {
        self.server.context.meters.rejected(refusal.reject);
        self.server.context.log_refusal(|| {
            let known = |name: &str| (!name.is_empty()).then(|| name.to_owned());
            let provider = known(provider).or_else(|| self.state.borrow().provider().map(|name| name.to_string()));
            tracing::warn!(
                reason = refusal.reject.row().reason,
                provider,
                route = known(route),
                peer = %self.address,
                server_name = self.server_name.as_deref(),
                request_id = request_id.to_str().unwrap_or_default(),
                detail = %refusal.detail,
                "request refused"
            );
        });
    }
}
