//! The HTTP/1.1 of the load generator and of its handler: heads, with the parser of the test peers, and bodies with a
//! `Content-Length`.
//!
//! Owns finding messages in a stream of pieces. Must not accept what the servers under test do not send, because a wrong response
//! that counts as a right one spoils a measurement. Must not copy a head that arrives in one piece.

use std::mem::MaybeUninit;

use anyhow::{Result, bail, ensure};
use hookgate_testkit::http::head::{self, Framing, Head};

/// Longest head. The heads that the servers forward, with a client certificate, are shorter than 8 KiB.
const MAXIMUM_HEAD: usize = 16 * 1024;

/// Most fields of a head. The servers forward fewer than 30.
const MAXIMUM_FIELDS: usize = 64;

/// The response of the handler.
pub(crate) const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n";

/// The bytes of a webhook with a body of `body_bytes`.
pub(crate) fn request(host: &str, body_bytes: usize) -> Vec<u8> {
    let head = format!(
        "POST /pagerduty HTTP/1.1\r\nHost: {host}\r\nUser-Agent: hookgate-load\r\nAccept: */*\r\n\
         Content-Type: application/json\r\nContent-Length: {body_bytes}\r\n\r\n"
    );
    let mut request = head.into_bytes();
    request.resize(request.len() + body_bytes, b'x');
    request
}

/// Finds messages in a stream of pieces: a head, then a body of the announced length.
#[derive(Debug, Default)]
pub(crate) struct MessageReader {
    head: Vec<u8>,
    body_left: u64,
    start: Option<StartLine>,
}

/// The part of the first line of a message that matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartLine {
    /// A request.
    Request,
    /// A response with this status.
    Response(u16),
}

impl MessageReader {
    /// Takes bytes from the front of `piece`. `Some` if a message is complete; the rest of `piece` belongs to the next one.
    ///
    /// # Errors
    ///
    /// The bytes are no HTTP/1.1 message with a `Content-Length`.
    pub(crate) fn take(&mut self, piece: &mut &[u8]) -> Result<Option<StartLine>> {
        if self.start.is_none() && !self.take_head(piece)? {
            return Ok(None);
        }
        let taken = usize::try_from(self.body_left).unwrap_or(usize::MAX).min(piece.len());
        *piece = &piece[taken..];
        self.body_left -= taken as u64;
        Ok(if self.body_left == 0 { self.start.take() } else { None })
    }

    fn take_head(&mut self, piece: &mut &[u8]) -> Result<bool> {
        // A head nearly always arrives in one piece, and is not copied then.
        if self.head.is_empty()
            && let Some(length) = self.parse(piece)?
        {
            *piece = &piece[length..];
            return Ok(true);
        }
        let mut head = std::mem::take(&mut self.head);
        let before = head.len();
        head.extend_from_slice(piece);
        if let Some(length) = self.parse(&head)? {
            *piece = &piece[length - before..];
            return Ok(true);
        }
        ensure!(head.len() <= MAXIMUM_HEAD, "a head of more than {MAXIMUM_HEAD} bytes");
        self.head = head;
        *piece = &[];
        Ok(false)
    }

    /// Parses the head at the front of `bytes`, and returns its length; `None` if more bytes are needed.
    fn parse(&mut self, bytes: &[u8]) -> Result<Option<usize>> {
        let mut space = [const { MaybeUninit::uninit() }; MAXIMUM_FIELDS];
        let Some(head) = Head::parse(bytes, &mut space)? else { return Ok(None) };
        let text = || String::from_utf8_lossy(&bytes[..head.length]);
        ensure!(std::str::from_utf8(&bytes[..head.length]).is_ok(), "a head that is not UTF-8: {:?}", text());
        ensure!(head.minor_version == 1, "a message that is not HTTP/1.1: {:?}", text());
        self.body_left = match head.framing()? {
            Framing::Length(length) => length,
            Framing::Chunked => bail!("a chunked message: {:?}", text()),
            Framing::Unannounced => bail!("a message without Content-Length: {:?}", text()),
        };
        self.start = Some(match head.start {
            head::StartLine::Request { .. } => StartLine::Request,
            head::StartLine::Response { status } => StartLine::Response(status),
        });
        Ok(Some(head.length))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// Feeds `stream` in pieces of every length, and expects the same messages each time.
    fn check(stream: &[u8], expected: &[StartLine]) {
        for length in 1..=stream.len() {
            let mut reader = MessageReader::default();
            let mut messages = Vec::new();
            for mut piece in stream.chunks(length) {
                while let Some(message) = reader.take(&mut piece).unwrap() {
                    messages.push(message);
                    if piece.is_empty() {
                        break;
                    }
                }
            }
            assert_eq!(messages, expected, "in pieces of {length}");
        }
    }

    #[test]
    fn messages_are_found_in_pieces_of_any_length() {
        check(&[RESPONSE, RESPONSE].concat(), &[StartLine::Response(200); 2]);
        check(&request("localhost", 5), &[StartLine::Request]);
        check(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", &[StartLine::Response(403)]);
    }

    #[test]
    fn unexpected_messages_are_refused() {
        for wrong in [
            &b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 2 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX-A: b\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX-A: \xff\r\nContent-Length: 0\r\n\r\n",
            b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ] {
            assert!(MessageReader::default().take(&mut &wrong[..]).is_err(), "{}", String::from_utf8_lossy(wrong));
        }
    }
}
