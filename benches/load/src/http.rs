//! As much of HTTP/1.1 as a load generator and its handler speak: heads of both kinds, bodies by `Content-Length`.
//!
//! Strict about what it takes for an answer, since a wrong answer that counts as a right one spoils a measurement. Must not
//! be mistaken for an implementation: it refuses what the peers under test do not send.

use anyhow::{Context, Result, bail, ensure};

/// Longest head that is taken: what the peers forward, a client certificate included, stays below 8 KiB.
const MAXIMUM_HEAD: usize = 16 * 1024;

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
        // Nearly always a head comes whole, and then it is not copied.
        if self.head.is_empty()
            && let Some(end) = head_end(piece, 0)
        {
            let (head, rest) = piece.split_at(end);
            self.parse(head)?;
            *piece = rest;
            return Ok(true);
        }
        let before = self.head.len();
        self.head.extend_from_slice(piece);
        let Some(end) = head_end(&self.head, before.saturating_sub(3)) else {
            ensure!(self.head.len() <= MAXIMUM_HEAD, "a head of more than {MAXIMUM_HEAD} bytes");
            *piece = &[];
            return Ok(false);
        };
        *piece = &piece[end - before..];
        let mut head = std::mem::take(&mut self.head);
        head.truncate(end);
        self.parse(&head)?;
        Ok(true)
    }

    fn parse(&mut self, head: &[u8]) -> Result<()> {
        let text = std::str::from_utf8(head).context("a head that is no text")?;
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let start = match first.strip_prefix("HTTP/1.1 ") {
            Some(rest) => StartLine::Answer(rest.get(..3).unwrap_or_default().parse().context("a status")?),
            None if first.ends_with(" HTTP/1.1") => StartLine::Request,
            None => bail!("no HTTP/1.1 message: {first:?}"),
        };
        let mut length = None;
        for line in lines {
            let Some((name, value)) = line.split_once(':') else { continue };
            ensure!(!name.eq_ignore_ascii_case("transfer-encoding"), "a chunked message: {text:?}");
            if name.eq_ignore_ascii_case("content-length") {
                length = Some(value.trim().parse().context("Content-Length")?);
            }
        }
        self.body_left = length.with_context(|| format!("a message without Content-Length: {text:?}"))?;
        self.start = Some(start);
        Ok(())
    }
}

/// Where the head that begins at 0 ends, looking from `from` on.
fn head_end(bytes: &[u8], from: usize) -> Option<usize> {
    bytes[from..].windows(4).position(|window| window == b"\r\n\r\n").map(|start| from + start + 4)
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
        ] {
            assert!(MessageReader::default().take(&mut &wrong[..]).is_err(), "{}", String::from_utf8_lossy(wrong));
        }
    }
}
