//! The body of a request: read whole, within its bounds, before it is judged.
//!
//! Owns the bound on one body and on all bodies of a worker together, and the part of it that requests without a certificate may take before
//! their proof is checked. Must not look at the bytes.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::connection::Connection;
use super::exchange::Exchange;
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

/// Bytes counted against the worker's share of `max_buffered_bytes`.
pub(super) struct BufferedBytes {
    connection: Rc<Connection>,
    bytes: usize,
    share: usize,
    unproven_share: usize,
    source: Source,
}

impl BufferedBytes {
    fn new(connection: &Rc<Connection>, limits: &Limits, source: Source) -> Self {
        // A worker's share holds at least one body of the largest size.
        let share = (limits.max_buffered_bytes / connection.server.context.workers()).max(limits.max_body_bytes);
        let unproven_share = (share / UNPROVEN_PART).max(limits.max_body_bytes);
        Self { connection: Rc::clone(connection), bytes: 0, share, unproven_share, source }
    }

    /// The request of the body is proven. From now on it counts as every other.
    ///
    /// # Errors
    ///
    /// `buffer_limit` if it was a stranger's, and there is no room.
    pub(super) fn proven(&mut self, body: &Bytes) -> Result<(), Refusal> {
        if self.source == Source::Unproven {
            let unproven = &self.connection.server.unproven_bytes;
            unproven.set(unproven.get() - self.bytes);
        }
        self.source = Source::Certified;
        self.cover(body.len())
    }

    /// Counts `total` bytes in all.
    fn cover(&mut self, total: usize) -> Result<(), Refusal> {
        if self.source == Source::Stranger {
            return Ok(());
        }
        let more = total.saturating_sub(self.bytes);
        let buffered = &self.connection.server.buffered_bytes;
        let unproven = &self.connection.server.unproven_bytes;
        let is_unproven = self.source == Source::Unproven;
        if buffered.get() + more > self.share || is_unproven && unproven.get() + more > self.unproven_share {
            let detail = "The request bodies in memory fill max_buffered_bytes; send the request again later.";
            return Err(Refusal::new(Reject::BufferLimit, detail));
        }
        buffered.set(buffered.get() + more);
        if is_unproven {
            unproven.set(unproven.get() + more);
        }
        self.bytes += more;
        Ok(())
    }
}

impl Drop for BufferedBytes {
    fn drop(&mut self) {
        let buffered = &self.connection.server.buffered_bytes;
        buffered.set(buffered.get() - self.bytes);
        if self.source == Source::Unproven {
            let unproven = &self.connection.server.unproven_bytes;
            unproven.set(unproven.get() - self.bytes);
        }
        self.connection.server.context.freed.note();
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

/// Reads the whole body, within its bounds.
///
/// # Errors
///
/// `body_too_large` before more than `max_body_bytes` are held, `buffer_limit`, `request_timeout`, `malformed_request` if the
/// framing is broken, or why a stranger gave way to others.
pub(super) async fn read_body(
    connection: &Rc<Connection>,
    mut body: Incoming,
    limits: &Limits,
    source: Source,
) -> Result<Complete, Refusal> {
    let check = |total: usize| {
        if total <= limits.max_body_bytes {
            return Ok(());
        }
        let detail = format!("The body is longer than {} bytes (max_body_bytes).", limits.max_body_bytes);
        Err(Refusal::new(Reject::BodyTooLarge, detail))
    };
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    check(announced)?;
    // A stranger does not get memory for what it announces.
    let expected = if source == Source::Stranger { 0 } else { announced };
    let mut buffered = BufferedBytes::new(connection, limits, source);
    buffered.cover(announced)?;
    let mut pieces = Pieces::default();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(&connection.exchange, &error))?;
        // Trailers are dropped: no proof covers them.
        let Ok(piece) = frame.into_data() else { continue };
        let total = pieces.len() + piece.len();
        check(total)?;
        buffered.cover(total)?;
        pieces.push(piece, expected);
    }
    Ok((pieces.into_bytes(), buffered))
}

fn broken(exchange: &Exchange, error: &hyper::Error) -> Refusal {
    if let Some(refusal) = exchange.tell_eviction() {
        return refusal;
    }
    if exchange.is_overdue() {
        return Refusal::new(Reject::RequestTimeout, "The body did not arrive within request_timeout_ms.");
    }
    Refusal::new(Reject::MalformedRequest, format!("The body cannot be read: {error}."))
}

#[cfg(test)]
mod tests {
    use super::*;

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
