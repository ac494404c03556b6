//! The HTTP/1.1 of the load generator and of its handler: heads of both kinds, by the parser of the test peers, and bodies by
//! `Content-Length`.
//!
//! Owns finding messages in a stream of pieces. Strict, since a wrong answer that counts as a right one spoils a measurement. Must
//! not accept what the peers under test do not send, and must not copy a head that arrives in one piece.

use std::mem::MaybeUninit;

use anyhow::{Result, bail, ensure};
use hookgate_testkit::http::head::{self, Framing, Head};

/// Longest head that is taken: what the peers forward, a client certificate included, stays below 8 KiB.
const MAXIMUM_HEAD: usize = 16 * 1024;

/// Most fields of a head: the peers forward fewer than 30.
const MAXIMUM_FIELDS: usize = 64;

/// What the handler answers.
pub(crate) const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n";

/// A webhook of `body_bytes`, as bytes to send.
pub(crate) fn request(host: &str, body_bytes: usize) -> Vec<u8> {
    let head = format!(
        "POST /pagerduty HTTP/1.1\r\nHost: {host}\r\nUser-Agent: hookgate-load\r\nAccept: */*\r\n\
         Content-Type: application/json\r\nContent-Length: {body_bytes}\r\n\r\n"
    );
    let mut request = head.into_bytes();
    request.resize(request.len() + body_bytes, b'x');
    request
}

/// Reads messages off a stream of pieces: a head, then as many bytes of body as it announced.
#[derive(Debug, Default)]
pub(crate) struct MessageReader {
    head: Vec<u8>,
    body_left: u64,
    start: Option<StartLine>,
}

/// The first line of a message, as far as anybody here cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartLine {
    /// A request.
    Request,
    /// An answer, and its status.
    Answer(u16),
}

impl MessageReader {
    /// Takes bytes off the front of `piece`. `Some` once a message is complete; what is left of `piece` is of the next one.
    ///
    /// # Errors
    ///
    /// What is no HTTP/1.1 message with a `Content-Length`.
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
        // Nearly always a head arrives in one piece, and then it is not copied.
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
        ensure!(std::str::from_utf8(&bytes[..head.length]).is_ok(), "a head that is no text: {:?}", text());
        ensure!(head.minor_version == 1, "no HTTP/1.1 message: {:?}", text());
        self.body_left = match head.framing()? {
            Framing::Length(length) => length,
            Framing::Chunked => bail!("a chunked message: {:?}", text()),
            Framing::Unannounced => bail!("a message without Content-Length: {:?}", text()),
        };
        self.start = Some(match head.start {
            head::StartLine::Request { .. } => StartLine::Request,
            head::StartLine::Response { status } => StartLine::Answer(status),
        });
        Ok(Some(head.length))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// Feeds `stream` in pieces of every length and expects the same messages each time.
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
    fn messages_are_found_however_they_are_cut() {
        check(&[ANSWER, ANSWER].concat(), &[StartLine::Answer(200); 2]);
        check(&request("localhost", 5), &[StartLine::Request]);
        check(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", &[StartLine::Answer(403)]);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
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
