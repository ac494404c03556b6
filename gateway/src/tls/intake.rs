//! What a peer may send in a handshake, and what it holds meanwhile.
//!
//! Owns the count of received bytes, and the look at the length that a ClientHello announces. Must not read a message further: rustls
//! does. rustls joins messages of up to 64 KiB, which is more than a client needs.

use std::future::poll_fn;

use hookgate_core::limits::{CLIENT_FLIGHT_SLACK, CLIENT_HELLO_BYTES};
use hookgate_io::Socket;

use super::stream::HandshakeError;
use crate::strangers::{GREETED, SILENT, Step, Stranger, held};

/// The content type of handshake records (RFC 8446, section 5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// The type of a ClientHello (RFC 8446, section 4).
const CLIENT_HELLO: u8 = 1;

/// Bytes of a message's type and length.
const MESSAGE_HEADER: u16 = 4;

/// What a peer sends in one part of its handshake.
pub(super) struct Intake<'s> {
    stranger: &'s Stranger,
    part: Part,
    received: usize,
}

/// A part of a handshake, and its bound in bytes.
#[derive(Clone, Copy)]
enum Part {
    Hello,
    Flight { limit: usize },
}

impl<'s> Intake<'s> {
    /// Up to the end of the ClientHello.
    pub(super) fn hello(stranger: &'s Stranger) -> Self {
        Self { stranger, part: Part::Hello, received: 0 }
    }

    /// After the ClientHello, with a chain of at most `max_presented_bytes`.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Evicted`].
    pub(super) fn flight(stranger: &'s Stranger, max_presented_bytes: usize) -> Result<Self, HandshakeError> {
        let limit = max_presented_bytes + CLIENT_FLIGHT_SLACK;
        let mut intake = Self { stranger, part: Part::Flight { limit }, received: 0 };
        intake.count(0)?;
        Ok(intake)
    }

    /// Receives, and counts what was received.
    ///
    /// # Errors
    ///
    /// The end of the stream, more than the bound of this part, or the stranger was evicted.
    pub(super) async fn fill(&mut self, socket: &mut Socket) -> Result<(), HandshakeError> {
        let outcome = poll_fn(|context| socket.poll_fill(context)).await;
        if let Some(eviction) = self.stranger.evicted() {
            return Err(HandshakeError::Evicted(eviction));
        }
        match outcome? {
            0 => Err(HandshakeError::Closed),
            count => self.count(count),
        }
    }

    /// As [`Stranger::turn`].
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Evicted`].
    pub(super) async fn turn(&self, step: Step) -> Result<(), HandshakeError> {
        self.stranger.turn(step).await.map_err(HandshakeError::Evicted)
    }

    fn count(&mut self, count: usize) -> Result<(), HandshakeError> {
        self.received += count;
        let base = match self.part {
            Part::Hello if self.received > CLIENT_HELLO_BYTES => return Err(HandshakeError::HelloTooLarge),
            Part::Flight { limit } if self.received > limit => return Err(HandshakeError::FlightTooLarge { limit }),
            Part::Hello => SILENT,
            Part::Flight { .. } => GREETED,
        };
        self.stranger.holds(held(base, self.received)).map_err(HandshakeError::Evicted)
    }
}

/// Whether a connection that begins with these bytes announces a ClientHello of more than [`CLIENT_HELLO_BYTES`]. If the header of the
/// message is incomplete, or split over records, the count of received bytes alone decides.
pub(super) fn announces_too_much(start: &[u8]) -> bool {
    match start {
        [HANDSHAKE_RECORD, _, _, record_high, record_low, CLIENT_HELLO, high, middle, low, ..]
            if u16::from_be_bytes([*record_high, *record_low]) >= MESSAGE_HEADER =>
        {
            u32::from_be_bytes([0, *high, *middle, *low]) as usize > CLIENT_HELLO_BYTES
        }
        _ => false,
    }
}

/// Whether a connection that begins with these bytes has a ClientHello of a version before TLS 1.2. TLS 1.3 has the version number of
/// TLS 1.2 there (RFC 8446, section 4.1.2). rustls would complain of what else such a hello lacks.
pub(super) fn offers_old_version(start: &[u8]) -> bool {
    match start {
        [HANDSHAKE_RECORD, _, _, record_high, record_low, CLIENT_HELLO, _, _, _, 3, minor, ..]
            if u16::from_be_bytes([*record_high, *record_low]) >= MESSAGE_HEADER + 2 =>
        {
            *minor < 3
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_hello_of_an_old_version_is_seen_in_its_first_bytes() {
        let check = |version: [u8; 2], expected| {
            let start = [&[22, 3, 1, 2, 0, 1, 0, 1, 0xFC][..], &version, &[0; 8]].concat();
            assert_eq!(offers_old_version(&start), expected, "{version:?}");
        };
        for (version, expected) in [([3, 0], true), ([3, 1], true), ([3, 2], true), ([3, 3], false), ([3, 4], false)] {
            check(version, expected);
        }
        check([0, 0], false);
        check([4, 0], false);
        assert!(!offers_old_version(&[22, 3, 1, 0, 1, 1, 22, 3, 1, 3, 1, 0]), "the version is in another record");
        assert!(!offers_old_version(&[22, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3]));
        assert!(!offers_old_version(&[22, 3, 1, 2, 0, 2, 0, 1, 0xFC, 3, 1]), "another message");
    }

    #[test]
    fn a_client_hello_that_announces_too_much_is_seen_in_its_first_bytes() {
        let check = |start: &[u8], expected| assert_eq!(announces_too_much(start), expected, "{start:?}");
        check(&[22, 3, 1, 64, 0, 1, 0, 0xFF, 0xFF], true);
        check(&[22, 3, 1, 64, 0, 1, 0, 0xFF, 0xFF, 3, 3], true);
        check(&[22, 3, 1, 64, 0, 1, 1, 0, 0], true);
        check(&[22, 3, 1, 64, 0, 1, 0, 0x48, 1], true);
        check(&[22, 3, 1, 64, 0, 1, 0, 0x48, 0], false);
        check(&[22, 3, 1, 2, 0, 1, 0, 1, 0xFC], false);
        // The length is in the next records.
        check(&[22, 3, 1, 0, 1, 1, 22, 3, 1, 0, 1, 0], false);
        check(&[22, 3, 1, 0, 3, 1, 0, 1, 22, 3, 1], false);
        // Incomplete, another message, another record.
        check(&[22, 3, 1, 64, 0, 1, 0, 0xFF], false);
        check(&[22, 3, 1, 64, 0, 2, 0, 0xFF, 0xFF], false);
        check(&[21, 3, 1, 64, 0, 1, 0, 0xFF, 0xFF], false);
        check(&[], false);
    }
}
