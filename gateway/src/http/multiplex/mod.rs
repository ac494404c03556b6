//! HTTP/2 (RFC 9113): many requests at a time on one connection.
//!
//! Owns the loop of such a connection, its bounds, and how it ends. h2 frames, and each stream is answered by the same steps as a request of HTTP/1
//! ([`stream`]). Must not judge a request.

mod frames;
mod phase;
mod stream;
mod transport;
mod unwanted;

use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::join;
use futures_util::stream::FuturesUnordered;
use h2::server::{self, Builder, SendResponse};
use h2::{Reason, RecvStream};
use hyper::Request;

use self::phase::{Phase, Sight};
use self::stream::{Begun, Ended};
use self::transport::{Leaving, Link, Transport};
use self::unwanted::Unwanted;
use super::Server;
use super::connection::{Connection, Peer, linger};
use crate::access::Outcome;
use crate::tls::stream::TlsStream;
use hookgate_core::limits::Limits;
use hookgate_core::reject::{Refusal, Reject};
use hookgate_io::sweep::{Deadline, Timer};

/// Requests of an admitted peer at a time: the least that RFC 9113, section 6.5.2, recommends, and what clients assume before they are told.
const STREAMS: u32 = 100;

/// As [`STREAMS`], of a stranger: as many as on a connection of HTTP/1. It stays so when a request has proven the peer: h2 announces this number only
/// once.
const STRANGER_STREAMS: u32 = 1;

/// Bytes of bodies that a peer may send before they are read, of one stream and of all: what a connection of HTTP/2 has at first, and cannot have less of
/// (RFC 9113, section 6.9.2). Bodies are read as they arrive, and count as those of HTTP/1 then.
const WINDOW: u32 = 65_535;

/// As [`WINDOW`], for one stream of a stranger, once it has acknowledged the settings and until a request has proven it.
const STRANGER_WINDOW: u32 = 16 * 1024;

/// Bytes that the parts of bodies that no request reads may take beside what is in them, over the life of a connection, as h2 counts it: 256 for each,
/// less its content. So a peer may send a thousand small ones after the answer. Those that a request reads count until it does, which [`transport`] sees
/// to: a sender that writes a body line by line is no attacker.
const PARTS_BUDGET: usize = 256 * 1024;

/// Bytes of one answer that h2 has while the kernel takes none: one frame.
const SEND_BUFFER: usize = 16 * 1024;

/// Streams that may break the rules before the connection does, over its life. (MadeYouReset: the peer has the server reset streams whose
/// requests go on.)
const RESET_BY_US: usize = 32;

/// Streams that the peer may reset before their requests begin, at a time.
const RESET_EARLY: usize = 20;

/// Streams that are remembered after a reset, so that what was on its way is not taken for an error.
const REMEMBERED: usize = 16;

/// What a field takes beside its bytes (RFC 9113, section 6.5.2), and how many pseudo-fields there are.
const FIELD: usize = 32;
const PSEUDO_FIELDS: usize = 4;

/// Serves requests of HTTP/2 on `stream` until either side ends it.
pub async fn serve(server: Rc<Server>, stream: TlsStream, peer: Peer, deadline: Deadline) {
    let limits = peer.snapshot.limits;
    let builder = builder(&limits, peer.stranger.is_some());
    let connection = Connection::new(server, peer, deadline);
    connection.exchange.set_timer(Phase::first_timer(&limits));
    let link = Link::new(&connection, stream);
    let unwanted = Rc::new(Unwanted::default());
    // On the heap, and freed before the end of the stream is waited for.
    let outcome = Box::pin(serve_streams(&builder, &link, &unwanted)).await;
    // The connection counts as open as long as a handler works for it.
    join(end(link, outcome), unwanted.finish()).await;
}

/// The bounds of h2.
fn builder(limits: &Limits, is_stranger: bool) -> Builder {
    // What `max_head_bytes` and `max_headers` admit, as HTTP/2 counts it.
    let list = limits.max_head_bytes + FIELD * (limits.max_headers + PSEUDO_FIELDS);
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(if is_stranger { STRANGER_STREAMS } else { STREAMS })
        .max_header_list_size(u32::try_from(list).unwrap_or(u32::MAX))
        .initial_window_size(if is_stranger { STRANGER_WINDOW } else { WINDOW })
        .initial_connection_window_size(WINDOW)
        .data_frame_budget(PARTS_BUDGET)
        .max_send_buffer_size(SEND_BUFFER)
        .max_local_error_reset_streams(Some(RESET_BY_US))
        .max_pending_accept_reset_streams(RESET_EARLY)
        .max_concurrent_reset_streams(REMEMBERED);
    builder
}

/// How the streams ended, as the end of the connection needs it.
struct Finish {
    outcome: Result<(), h2::Error>,
    phase: Phase,
}

async fn serve_streams(builder: &Builder, link: &Rc<Link>, unwanted: &Rc<Unwanted>) -> Finish {
    let h2 = match builder.handshake(Transport(Rc::clone(link))).await {
        Ok(h2) => h2,
        Err(error) => return Finish { outcome: Err(error), phase: Phase::First },
    };
    let mut serving = Serving {
        h2,
        link: Rc::clone(link),
        is_narrow: link.connection.exchange.is_stranger(),
        begin: stream::serve,
        streams: FuturesUnordered::new(),
        unwanted: Rc::clone(unwanted),
        open: Vec::new(),
        answered: Vec::new(),
        phase: Phase::First,
        said: Said::Nothing,
    };
    let outcome = poll_fn(|context| serving.poll(context)).await;
    serving.cut();
    Finish { outcome, phase: serving.phase }
}

/// What the peer was told about the end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Said {
    Nothing,
    /// It ends after what is on its way.
    Leaving,
    /// It ends now.
    Ending,
}

/// A connection and its streams.
struct Serving<F> {
    h2: server::Connection<Transport, Bytes>,
    link: Rc<Link>,
    /// Streams have the window of a stranger.
    is_narrow: bool,
    begin: fn(Begun) -> F,
    streams: FuturesUnordered<F>,
    /// Those that go on without their streams.
    unwanted: Rc<Unwanted>,
    /// What the requests that are being answered see of the connection, with the numbers of their streams.
    open: Vec<(u32, Rc<Connection>)>,
    /// The same of those whose answers h2 has, and the kernel may not have.
    answered: Vec<Rc<Connection>>,
    phase: Phase,
    said: Said,
}

/// What became of the connection when h2 was polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Requests have begun.
    Began,
    /// There is nothing more to do now.
    Waits,
    /// It has ended.
    Done,
}

impl<F: Future<Output = Ended>> Serving<F> {
    /// Does everything that is ready. Ready at the end of the connection.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            // What streams send is written by the poll of the connection, which therefore comes last.
            self.poll_streams(context);
            let _ = self.unwanted.poll(context);
            self.link.go_on_reading();
            if self.link.leaving().is_some() && self.said == Said::Nothing {
                self.h2.graceful_shutdown();
                self.said = Said::Leaving;
            }
            match self.poll_requests(context)? {
                Progress::Done => return Poll::Ready(Ok(())),
                Progress::Began => continue,
                Progress::Waits => self.note_flush(),
            }
            let Some(reason) = self.last_word() else { break };
            self.h2.abrupt_shutdown(reason);
            self.said = Said::Ending;
        }
        self.set_phase();
        if self.link.is_paused() {
            // Other connections have their turn before.
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn poll_streams(&mut self, context: &mut Context<'_>) {
        while let Poll::Ready(Some(Ended { stream, is_answered })) = self.streams.poll_next_unpin(context) {
            self.link.open.borrow_mut().retain(|open| *open != stream);
            let Some(index) = self.open.iter().position(|(open, _)| *open == stream) else { continue };
            let (_, connection) = self.open.swap_remove(index);
            if is_answered {
                self.answered.push(connection);
            }
        }
    }

    /// Reads what has come, writes what is to be sent, and begins requests.
    fn poll_requests(&mut self, context: &mut Context<'_>) -> Result<Progress, h2::Error> {
        let mut progress = Progress::Waits;
        loop {
            let is_welcome = self.said != Said::Ending && self.link.leaving() != Some(Leaving::AtOnce);
            let polled = if is_welcome {
                self.h2.poll_accept(context)
            } else {
                self.h2.poll_closed(context).map(|outcome| outcome.err().map(Err))
            };
            match polled {
                Poll::Ready(Some(Ok((request, respond)))) => self.begin(request, respond),
                Poll::Ready(Some(Err(error))) => return Err(error),
                Poll::Ready(None) => return Ok(Progress::Done),
                Poll::Pending => return Ok(progress),
            }
            progress = Progress::Began;
        }
    }

    fn begin(&mut self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        let stream = respond.stream_id().as_u32();
        if self.link.breach(stream).is_some() {
            // It was reset before it could begin, and is counted.
            return;
        }
        let of_all = &self.link.connection;
        // Most peers send one request, for which no other window is worth a frame. It fails before the peer has acknowledged the last settings.
        if self.is_narrow && of_all.exchange.is_proven() {
            self.is_narrow = self.h2.set_initial_window_size(WINDOW).is_err();
        }
        let connection = of_all.stream(of_all.server.context.sweep.watch_task(Timer::unbounded()));
        self.link.open.borrow_mut().push(stream);
        self.open.push((stream, Rc::clone(&connection)));
        let (link, unwanted) = (Rc::clone(&self.link), Rc::clone(&self.unwanted));
        let begun = Begun { link, connection, request, respond, unwanted };
        self.streams.push((self.begin)(begun));
    }

    /// If the kernel has everything, it has the answers that h2 has.
    fn note_flush(&mut self) {
        if !self.link.is_flushed() {
            return;
        }
        let is_over = self.open.is_empty() && !self.answered.is_empty();
        for connection in self.answered.drain(..) {
            connection.close_account(Outcome::Answered);
            self.link.allowance.borrow_mut().answered();
        }
        self.link.all_flushed();
        if is_over {
            // What the requests took was freed with them.
            self.link.connection.exchange.forget_read();
        }
    }

    /// Why the connection ends now, if it does.
    fn last_word(&self) -> Option<Reason> {
        let link = &self.link;
        if self.said == Said::Ending {
            return None;
        }
        if link.is_flooded() {
            return Some(Reason::ENHANCE_YOUR_CALM);
        }
        let is_quiet = self.open.is_empty() && self.answered.is_empty();
        if link.is_ended() {
            if link.is_in_head() {
                link.connection.refused_without_request(&in_head(link.connection.exchange.is_overdue()), None);
            }
            return Some(Reason::NO_ERROR);
        }
        (link.leaving() == Some(Leaving::AtOnce) && is_quiet).then_some(Reason::NO_ERROR)
    }

    fn set_phase(&mut self) {
        let is_ending = self.said == Said::Ending;
        let sight = Sight {
            has_begun: self.link.connection.has_served.get(),
            open: if is_ending { 0 } else { self.open.len() + self.answered.len() },
            in_head: self.link.is_in_head(),
            blocked: self.link.is_blocked(),
            leaving: is_ending || self.link.leaving().is_some(),
        };
        let limits = self.link.connection.standing.borrow().snapshot.limits;
        let (phase, timer) = self.phase.next(sight, &limits);
        self.phase = phase;
        if let Some(timer) = timer {
            self.link.connection.exchange.set_timer(timer);
        }
    }

    /// The connection has ended, and no request that is open gets its answer.
    fn cut(&self) {
        let of_all = &self.link.connection;
        if let Some(refusal) = of_all.exchange.tell_eviction() {
            return match self.open.first() {
                Some((_, connection)) => connection.refused(refusal),
                None => of_all.refused_without_request(&refusal, None),
            };
        }
        if self.phase != Phase::Stalled || !of_all.exchange.is_overdue() {
            return;
        }
        let detail = "The peer took fewer than 256 bytes a second of its answers for response_timeout_ms, and was cut.";
        let refusal = Refusal::new(Reject::ResponseTimeout, detail);
        let open = self.open.iter().map(|(_, connection)| connection).chain(&self.answered);
        open.for_each(|connection| connection.cut(refusal.clone()));
    }
}

/// The refusal of a head that is not complete.
fn in_head(is_overdue: bool) -> Refusal {
    if is_overdue {
        let detail = "The head of the request did not arrive within request_head_timeout_ms.";
        return Refusal::new(Reject::RequestTimeout, detail);
    }
    Refusal::new(Reject::MalformedRequest, "The connection ended in the middle of the request head.")
}

/// Why the whole connection is refused, if it is.
fn refusal(link: &Link, finish: &Finish) -> Option<Refusal> {
    if link.is_flooded() {
        let detail =
            "The peer sent too many pings, settings, resets and other frames that are no request, and was sent away.";
        return Some(Refusal::new(Reject::FrameFlood, detail));
    }
    if finish.phase == Phase::Head && !link.is_ended() && link.connection.exchange.is_overdue() {
        return Some(in_head(true));
    }
    let error = finish.outcome.as_ref().err().filter(|error| error.is_library())?;
    let reject = match error.reason()? {
        Reason::ENHANCE_YOUR_CALM => Reject::FrameFlood,
        _ => Reject::MalformedRequest,
    };
    Some(Refusal::new(reject, format!("The bytes received break the rules of HTTP/2: {error}.")))
}

/// Ends the connection after its last frame.
async fn end(link: Rc<Link>, finish: Finish) {
    let connection = Rc::clone(&link.connection);
    if connection.exchange.is_evicted() {
        return;
    }
    if let Some(refusal) = refusal(&link, &finish) {
        connection.refused_without_request(&refusal, None);
    }
    connection.exchange.end();
    // The streams and h2 are gone, and no other owner is left.
    let Some(mut stream) = Rc::into_inner(link).map(Link::into_stream) else { return };
    match finish.outcome {
        _ if stream.is_alerted() => stream.end_with_alert().await,
        // The peer may still be sending what was answered before its end: a reset would overtake the answer.
        Ok(()) => linger(&connection, stream).await,
        Err(error) if error.is_library() => linger(&connection, stream).await,
        Err(error) => tracing::debug!(peer = %connection.origin.address(), %error, "connection ended"),
    }
    connection.log_if_silent();
}
