//! HTTP/1.1 (RFC 9112) for the test peers: messages as they arrived, with the fields in order and their names as sent.
//!
//! Owns reading whole requests and responses from a stream; `head` owns the parser, `client` the requests. Bounds what it reads.
//! Must not judge what a message says: tests do.

mod client;
pub mod head;

use std::io::{self, BufRead, Read};

use anyhow::{Context, Result, bail, ensure};
use httparse::Status;

pub use client::{ask, get, request};

use head::{Framing, Head, StartLine};

/// Most bytes of a head; far above any limit that the daemon is tested with.
const MAX_HEAD_BYTES: usize = 1024 * 1024;

/// Most fields of a head; the daemon can be configured to take 1,024.
const MAX_FIELDS: usize = 2048;

/// Most bytes of a body.
const MAX_BODY_BYTES: usize = 256 * 1024 * 1024;

/// The fields of a head, in order, with their names as sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(String, String)>);

impl Fields {
    /// The first value of `name`, whatever its case.
    pub fn first(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(field, _)| field.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Every value of `name`, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

impl From<&Head<'_, '_>> for Fields {
    /// Bytes that are no UTF-8 are replaced.
    fn from(head: &Head<'_, '_>) -> Self {
        let owned =
            |field: &head::Header<'_>| (field.name.to_owned(), String::from_utf8_lossy(field.value).into_owned());
        Self(head.fields.iter().map(owned).collect())
    }
}

/// A request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The request target, as sent.
    pub target: String,
    /// The fields, in order.
    pub fields: Fields,
    /// The body, without its transfer coding.
    pub body: Vec<u8>,
    /// Which connection it came over, from 1, in the order of their acceptance.
    pub connection: u64,
}

impl Request {
    /// The first value of the field `name`.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.first(name)
    }

    /// The body as text; bytes that are no UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Reads one request; `None` if the peer closed before its first byte.
    ///
    /// # Errors
    ///
    /// The head is cut off or malformed, or a chunk is malformed.
    pub fn read(stream: &mut impl BufRead, connection: u64) -> Result<Option<Self>> {
        let Some(head) = read_head(stream)? else { return Ok(None) };
        let (method, target, fields, framing) = with_head(&head, |head| match head.start {
            StartLine::Request { method, target } => {
                Ok((method.to_owned(), target.to_owned(), Fields::from(head), head.framing()?))
            }
            StartLine::Response { status } => bail!("a response with status {status} instead of a request"),
        })?;
        let body = match framing {
            Framing::Unannounced => Vec::new(),
            framing => read_body(stream, framing)?.0,
        };
        Ok(Some(Self { method, target, fields, body, connection }))
    }
}

/// A response as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The fields, in order.
    pub fields: Fields,
    /// The body, without its transfer coding.
    pub body: Vec<u8>,
    /// Whether the body ended as its framing says. A body that ends with the connection is complete by definition.
    pub complete: bool,
}

impl Response {
    /// The first value of the field `name`.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.first(name)
    }

    /// The body as text; bytes that are no UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The `reason` of a problem document (RFC 9457) as the daemon writes it.
    pub fn reason(&self) -> Option<String> {
        let text = self.text();
        let (_, rest) = text.split_once("\"reason\"")?;
        Some(rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?.split('"').next()?.to_owned())
    }

    /// Reads one final response, skipping interim ones; `None` if the peer closed before its first byte.
    ///
    /// # Errors
    ///
    /// The head is cut off or malformed, or a chunk is malformed.
    pub fn read(stream: &mut impl BufRead) -> Result<Option<Self>> {
        loop {
            let Some(head) = read_head(stream)? else { return Ok(None) };
            let (status, fields, framing) = with_head(&head, |head| match head.start {
                StartLine::Response { status } => Ok((status, Fields::from(head), head.framing()?)),
                StartLine::Request { .. } => bail!("a request instead of a response"),
            })?;
            let (body, complete) = match status {
                100..200 => continue,
                204 | 304 => (Vec::new(), true),
                _ => read_body(stream, framing)?,
            };
            return Ok(Some(Self { status, fields, body, complete }));
        }
    }

    /// Reads every response in `bytes`, up to the first that is malformed.
    pub fn read_all(mut bytes: &[u8]) -> Vec<Self> {
        std::iter::from_fn(|| Self::read(&mut bytes).ok().flatten()).collect()
    }
}

/// The fields of the last head in `bytes`, which must consist of heads.
///
/// # Errors
///
/// A head is cut off or malformed.
pub(crate) fn last_fields(mut bytes: &[u8]) -> Result<Fields> {
    let mut last = Fields::default();
    while let Some(head) = read_head(&mut bytes)? {
        last = with_head(&head, |head| Ok(Fields::from(head)))?;
    }
    Ok(last)
}

/// Reads up to the next LF, which is included; `None` at the end of the stream.
fn read_line(stream: &mut impl BufRead, budget: &mut usize) -> Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let length = stream.take(*budget as u64).read_until(b'\n', &mut line)?;
    *budget -= length;
    if length == 0 {
        return Ok(None);
    }
    ensure!(line.ends_with(b"\n"), "a line is cut off, or too long");
    Ok(Some(line))
}

/// Reads the bytes of one head and none after it; `None` at the end of the stream.
fn read_head(stream: &mut impl BufRead) -> Result<Option<Vec<u8>>> {
    let mut budget = MAX_HEAD_BYTES;
    let mut head = Vec::new();
    loop {
        match read_line(stream, &mut budget)? {
            Some(line) => head.extend_from_slice(&line),
            None if head.is_empty() => return Ok(None),
            None => bail!("a head is cut off: {}", String::from_utf8_lossy(&head)),
        }
        if head.ends_with(b"\r\n\r\n") {
            return Ok(Some(head));
        }
    }
}

/// Parses `bytes`, which must be one whole head.
fn with_head<T>(bytes: &[u8], look: impl FnOnce(&Head<'_, '_>) -> Result<T>) -> Result<T> {
    let mut fields = Vec::with_capacity(MAX_FIELDS);
    let head = Head::parse(bytes, fields.spare_capacity_mut())?.context("a head without an end")?;
    look(&head)
}

/// The body, and whether it is complete.
fn read_body(stream: &mut impl BufRead, framing: Framing) -> Result<(Vec<u8>, bool)> {
    let mut body = Vec::new();
    let complete = match framing {
        Framing::Length(length) => {
            ensure!(length <= MAX_BODY_BYTES as u64, "a body of {length} bytes");
            read_piece(stream, length, &mut body)?
        }
        Framing::Unannounced => stream.take(MAX_BODY_BYTES as u64).read_to_end(&mut body).is_ok(),
        Framing::Chunked => read_chunks(stream, &mut body)?,
    };
    Ok((body, complete))
}

fn read_chunks(stream: &mut impl BufRead, body: &mut Vec<u8>) -> Result<bool> {
    loop {
        let mut budget = MAX_HEAD_BYTES;
        let Ok(Some(line)) = read_line(stream, &mut budget) else { return Ok(false) };
        let Ok(Status::Complete((_, length))) = httparse::parse_chunk_size(&line) else {
            bail!("a malformed chunk size: {}", String::from_utf8_lossy(&line))
        };
        ensure!((body.len() as u64).saturating_add(length) <= MAX_BODY_BYTES as u64, "a body that is too long");
        if length == 0 {
            return Ok(read_trailers(stream, &mut budget));
        }
        if !read_piece(stream, length, body)? {
            return Ok(false);
        }
        let Ok(Some(end)) = read_line(stream, &mut budget) else { return Ok(false) };
        ensure!(end == b"\r\n", "a chunk that is longer than its size");
    }
}

/// Skips the trailers. Returns whether the empty line after them arrived.
fn read_trailers(stream: &mut impl BufRead, budget: &mut usize) -> bool {
    loop {
        match read_line(stream, budget) {
            Ok(Some(line)) if line == b"\r\n" => return true,
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return false,
        }
    }
}

/// Appends `length` bytes to `bytes`. Returns whether all of them arrived.
fn read_piece(stream: &mut impl BufRead, length: u64, bytes: &mut Vec<u8>) -> Result<bool> {
    match stream.take(length).read_to_end(bytes) {
        Ok(read) => Ok(read as u64 == length),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::Response;

    #[test]
    fn responses_are_read_as_framed() {
        fn check(bytes: &str, expected: &[(u16, &str, bool)]) {
            let responses = Response::read_all(bytes.as_bytes());
            let seen: Vec<_> = responses.iter().map(|one| (one.status, one.text(), one.complete)).collect();
            let expected: Vec<_> =
                expected.iter().map(|(status, body, end)| (*status, (*body).to_owned(), *end)).collect();
            assert_eq!(seen, expected, "of {bytes:?}");
        }
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokclosed\n", &[(200, "ok", true)]);
        check("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", &[(200, "ok", false)]);
        check("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", &[(204, "", true)]);
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", &[(200, "ok", true)]);
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", &[(200, "ok", false)]);
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokXX0\r\n\r\n", &[]);
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n", &[]);
        check("HTTP/1.1 200 OK\r\n\r\nrest", &[(200, "rest", true)]);
        let two = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1HTTP/1.1 403 No\r\nContent-Length: 1\r\n\r\n2";
        check(two, &[(200, "1", true), (403, "2", true)]);
        check("not HTTP", &[]);
    }

    #[test]
    fn the_reason_of_a_problem_document_is_found() {
        let bytes = b"HTTP/1.1 403 No\r\n\r\n{\"status\":403, \"reason\": \"no_certificate\"}";
        assert_eq!(Response::read_all(bytes)[0].reason().as_deref(), Some("no_certificate"));
    }
}
