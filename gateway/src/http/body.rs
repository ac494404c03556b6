//! The body of a request: read whole, within its bounds, before it is judged.
//!
//! Owns the bound on one body and on all bodies of a worker together, and the part of it that requests without a certificate may take before
//! their proof is checked. Must not look at the bytes.

use std::cell::Cell;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;

use super::connection::Connection;
use super::exchange::Exchange;
use super::request_body::{BodyError, RequestBody};
use hookgate_core::limits::Limits;
use hookgate_core::reject::{Refusal, Reject};

/// A complete body. It counts against `max_buffered_bytes` until its [`BufferedBytes`] are dropped.
pub(super) type Complete = (Bytes, BufferedBytes);

/// Bodies that nothing stands for yet may take this part of a worker's share of `max_buffered_bytes`, on connections whose peers have proven
/// an earlier request. They have a part, so that who can repeat one request keeps no sender with a certificate out.
const UNPROVEN_PART: usize = 4;

/// Who sends a body, and so what its memory counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A peer with an admitted certificate: the worker's share of `max_buffered_bytes`.
    Certified,
    /// A peer without one, that has proven an earlier request: a part of that share, until this request is proven too.
    Unproven,
    /// A stranger: `max_unadmitted_bytes`, with everything else that it holds. The exchange counts what arrives.
    Stranger,
}

/// What the bodies of a worker hold, in bytes. Those of strangers are not part of it.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    all: Cell<usize>,
    /// Those of [`Source::Unproven`].
    unproven: Cell<usize>,
}

/// What the bodies of a worker may hold, in bytes.
#[derive(Clone, Copy, Debug)]
struct Share {
    all: usize,
    unproven: usize,
}

impl Share {
    /// Each holds at least one body of `most` bytes, the bound of the route.
    fn new(limits: &Limits, most: usize, workers: usize) -> Self {
        let all = (limits.max_buffered_bytes / workers).max(most);
        Self { all, unproven: (all / UNPROVEN_PART).max(most) }
    }
}

impl Buffers {
    /// Counts `bytes` more. Returns whether there is room.
    fn take(&self, bytes: usize, source: Source, share: Share) -> bool {
        let is_unproven = source == Source::Unproven;
        if self.all.get() + bytes > share.all || is_unproven && self.unproven.get() + bytes > share.unproven {
            return false;
        }
        self.all.set(self.all.get() + bytes);
        if is_unproven {
            self.unproven.set(self.unproven.get() + bytes);
        }
        true
    }

    fn give_back(&self, bytes: usize, source: Source) {
        self.all.set(self.all.get() - bytes);
        if source == Source::Unproven {
            self.unproven.set(self.unproven.get() - bytes);
        }
    }
}

/// Bytes counted in the [`Buffers`] of the worker.
pub(super) struct BufferedBytes {
    connection: Rc<Connection>,
    bytes: usize,
    share: Share,
    source: Source,
}

impl BufferedBytes {
    fn new(connection: &Rc<Connection>, (limits, most): (&Limits, usize), source: Source) -> Self {
        let share = Share::new(limits, most, connection.server.context.workers());
        Self { connection: Rc::clone(connection), bytes: 0, share, source }
    }

    /// The request of `body` is proven. From now on it counts as every other.
    ///
    /// # Errors
    ///
    /// `buffer_limit` if it was a stranger's, and there is no room.
    pub(super) fn proven(&mut self, body: &Bytes) -> Result<(), Refusal> {
        self.connection.server.buffers.give_back(self.bytes, self.source);
        self.bytes = 0;
        self.source = Source::Certified;
        self.cover(body.len())
    }

    /// Counts `total` bytes in all.
    fn cover(&mut self, total: usize) -> Result<(), Refusal> {
        if self.source == Source::Stranger {
            return Ok(());
        }
        let more = total.saturating_sub(self.bytes);
        if !self.connection.server.buffers.take(more, self.source, self.share) {
            let detail = "The request bodies in memory fill max_buffered_bytes; send the request again later.";
            return Err(Refusal::new(Reject::BufferLimit, detail));
        }
        self.bytes += more;
        Ok(())
    }
}

impl Drop for BufferedBytes {
    fn drop(&mut self) {
        self.connection.server.buffers.give_back(self.bytes, self.source);
    }
}

/// The pieces of a body. A single piece, the common case, is kept as received; several are joined.
#[derive(Default)]
struct Pieces {
    single: Bytes,
    joined: BytesMut,
}

impl Pieces {
    fn len(&self) -> usize {
        self.single.len() + self.joined.len()
    }

    /// Adds a piece. `expected` is the length of the whole body, if announced.
    fn push(&mut self, piece: Bytes, expected: usize) {
        if self.len() == 0 {
            self.single = piece;
            return;
        }
        if self.joined.is_empty() {
            self.joined.reserve(expected.max(self.single.len() + piece.len()));
            self.joined.extend_from_slice(&std::mem::take(&mut self.single));
        }
        self.joined.extend_from_slice(&piece);
    }

    fn into_bytes(self) -> Bytes {
        if self.joined.is_empty() { self.single } else { self.joined.freeze() }
    }
}

/// Reads the whole body, within its bounds, one of which is `most` bytes (`max_body_bytes` of the route).
///
/// # Errors
///
/// `body_too_large` before more than `most` bytes are held, `buffer_limit`, `request_timeout`, `malformed_request` if the
/// framing is broken, or why a stranger gave way to others.
pub(super) async fn read_body(
    connection: &Rc<Connection>,
    mut body: RequestBody,
    (limits, most): (&Limits, usize),
    source: Source,
) -> Result<Complete, Refusal> {
    let check = |total: usize| {
        if total <= most {
            return Ok(());
        }
        let detail = format!("The body is longer than {most} bytes (max_body_bytes).");
        Err(Refusal::new(Reject::BodyTooLarge, detail))
    };
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    check(announced)?;
    // A stranger does not get memory for what it announces.
    let expected = if source == Source::Stranger { 0 } else { announced };
    let mut buffered = BufferedBytes::new(connection, (limits, most), source);
    buffered.cover(announced)?;
    let mut pieces = Pieces::default();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(&connection.exchange, &error))?;
        // Trailers are dropped: no proof covers them.
        let Ok(piece) = frame.into_data() else { continue };
        let total = pieces.len() + piece.len();
        connection.note(|account| account.bytes_in = total as u64);
        check(total)?;
        buffered.cover(total)?;
        pieces.push(piece, expected);
    }
    Ok((pieces.into_bytes(), buffered))
}

/// The longest body that is read of a peer that is not admitted: as long as the longest that PagerDuty sends.
const MAX_UNADMITTED_BODY_BYTES: usize = 256 * 1024;

/// Reads the body of a peer that is not admitted. Every byte counts when it is received, among those of strangers (`max_unadmitted_bytes`);
/// nothing is reserved for what the peer announces. `None` if the body is broken, or longer than `most` bytes (`max_body_bytes` of the route) or than
/// what is read of such a peer.
pub(super) async fn read_unadmitted_body(connection: &Connection, mut body: RequestBody, most: usize) -> Option<Bytes> {
    let most = most.min(MAX_UNADMITTED_BODY_BYTES);
    let fits = |total: usize| total <= most;
    if !fits(usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX)) {
        return None;
    }
    let mut pieces = Pieces::default();
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.ok()?.into_data() else { continue };
        let total = pieces.len() + piece.len();
        connection.note(|account| account.bytes_in = total as u64);
        if !fits(total) {
            return None;
        }
        pieces.push(piece, 0);
    }
    Some(pieces.into_bytes())
}

fn broken(exchange: &Exchange, error: &BodyError) -> Refusal {
    if let Some(refusal) = exchange.tell_eviction() {
        return refusal;
    }
    if exchange.is_overdue() {
        return Refusal::new(Reject::RequestTimeout, "The body did not arrive within request_timeout_ms.");
    }
    let cause = std::error::Error::source(error).map(|cause| format!(" ({cause})")).unwrap_or_default();
    Refusal::new(Reject::MalformedRequest, format!("The body cannot be read: {error}{cause}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_bodies_is_for_requests_that_are_not_proven_yet() {
        let limits = Limits { max_buffered_bytes: 800, ..Limits::default() };
        let share = Share::new(&limits, 10, 2);
        let buffers = Buffers::default();
        assert!(buffers.take(100, Source::Unproven, share), "a quarter of 400");
        assert!(!buffers.take(1, Source::Unproven, share));
        assert!(buffers.take(300, Source::Certified, share), "the rest");
        assert!(!buffers.take(1, Source::Certified, share));
        buffers.give_back(100, Source::Unproven);
        assert!(buffers.take(100, Source::Certified, share) && !buffers.take(1, Source::Unproven, share));
        buffers.give_back(400, Source::Certified);
        assert_eq!((buffers.all.get(), buffers.unproven.get()), (0, 0));
        let least = Share::new(&Limits { max_buffered_bytes: 12, ..limits }, 10, 4);
        assert_eq!((least.all, least.unproven), (10, 10), "one body always has room");
    }

    #[test]
    fn pieces_are_joined_in_order_and_a_single_one_is_not_copied() {
        let only = Bytes::from(vec![1, 2, 3]);
        let mut pieces = Pieces::default();
        pieces.push(only.clone(), 3);
        assert_eq!(pieces.into_bytes().as_ptr(), only.as_ptr());

        let mut pieces = Pieces::default();
        for piece in [&b"a"[..], b"", b"bc", b"d"] {
            pieces.push(Bytes::copy_from_slice(piece), 0);
        }
        assert_eq!(pieces.len(), 4);
        assert_eq!(pieces.into_bytes(), "abcd");
        assert!(Pieces::default().into_bytes().is_empty());
    }
}
