//! As much of HTTP/1.1 (RFC 9112) as the handler and the clients need to see what went over the wire.
//!
//! Owns reading requests and responses, with their fields in order. Written for test peers: it bounds what it reads, but
//! judges nothing.

use std::io::{self, BufRead, Read};

use anyhow::{Context, Result, bail, ensure};

/// Most bytes of a head; far above any limit that the daemon is tested with.
const MAX_HEAD_BYTES: usize = 1024 * 1024;

/// Most bytes of a body.
const MAX_BODY_BYTES: usize = 256 * 1024 * 1024;

/// The fields of a head, in order, names as sent.
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

    fn says(&self, name: &str, token: &str) -> bool {
        self.all(name).flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
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

    /// Reads one request; `None` where the peer closed before its first byte.
    pub(crate) fn read(stream: &mut impl BufRead, connection: u64) -> Result<Option<Self>> {
        let Some((line, fields)) = read_head(stream)? else { return Ok(None) };
        let mut words = line.split(' ');
        let (Some(method), Some(target)) = (words.next(), words.next()) else {
            bail!("malformed request line: {line}")
        };
        let (method, target) = (method.to_owned(), target.to_owned());
        let body = match framing(&fields)? {
            Framing::UntilClose => Vec::new(),
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

    /// The `reason` of a problem document (RFC 9457) as the daemon writes them.
    pub fn reason(&self) -> Option<String> {
        let text = self.text();
        let (_, rest) = text.split_once("\"reason\"")?;
        Some(rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?.split('"').next()?.to_owned())
    }

    /// Reads one final response, skipping interim ones; `None` where the peer closed before its first byte.
    ///
    /// # Errors
    ///
    /// A head that is broken off or malformed.
    pub fn read(stream: &mut impl BufRead) -> Result<Option<Self>> {
        loop {
            let Some((line, fields)) = read_head(stream)? else { return Ok(None) };
            let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
            let Some(status) = status.filter(|_| line.starts_with("HTTP/1.")) else {
                bail!("malformed status line: {line}")
            };
            let (body, complete) = match status {
                100..200 => continue,
                204 | 304 => (Vec::new(), true),
                _ => read_body(stream, framing(&fields)?)?,
            };
            return Ok(Some(Self { status, fields, body, complete }));
        }
    }

    /// Reads every response in `bytes`, up to the first that is malformed.
    pub fn read_all(mut bytes: &[u8]) -> Vec<Self> {
        std::iter::from_fn(|| Self::read(&mut bytes).ok().flatten()).collect()
    }
}

/// How a body ends (RFC 9112, section 6.3).
#[derive(Clone, Copy)]
enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

fn framing(fields: &Fields) -> Result<Framing> {
    if fields.says("Transfer-Encoding", "chunked") {
        return Ok(Framing::Chunked);
    }
    match fields.first("Content-Length") {
        None => Ok(Framing::UntilClose),
        Some(length) => Ok(Framing::Length(length.trim().parse().with_context(|| format!("Content-Length {length}"))?)),
    }
}

fn read_line(stream: &mut impl BufRead, budget: &mut usize) -> Result<Option<String>> {
    let mut line = Vec::new();
    let length = stream.take(*budget as u64).read_until(b'\n', &mut line)?;
    *budget -= length;
    if length == 0 {
        return Ok(None);
    }
    ensure!(line.ends_with(b"\n"), "the head was broken off, or is too long");
    let text = String::from_utf8_lossy(&line);
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
}

fn read_head(stream: &mut impl BufRead) -> Result<Option<(String, Fields)>> {
    let mut budget = MAX_HEAD_BYTES;
    let Some(first) = read_line(stream, &mut budget)? else { return Ok(None) };
    let mut fields = Vec::new();
    loop {
        let line = read_line(stream, &mut budget)?.context("the head was broken off")?;
        if line.is_empty() {
            return Ok(Some((first, Fields(fields))));
        }
        let (name, value) = line.split_once(':').with_context(|| format!("malformed field: {line}"))?;
        fields.push((name.to_owned(), value.trim().to_owned()));
    }
}

/// The body, and whether it is complete.
fn read_body(stream: &mut impl BufRead, framing: Framing) -> Result<(Vec<u8>, bool)> {
    let mut body = Vec::new();
    let complete = match framing {
        Framing::Length(length) => {
            ensure!(length <= MAX_BODY_BYTES, "a body of {length} bytes");
            read_piece(stream, length, &mut body)?
        }
        Framing::UntilClose => {
            let ended = stream.take(MAX_BODY_BYTES as u64).read_to_end(&mut body);
            ended.is_ok()
        }
        Framing::Chunked => read_chunks(stream, &mut body)?,
    };
    Ok((body, complete))
}

fn read_chunks(stream: &mut impl BufRead, body: &mut Vec<u8>) -> Result<bool> {
    loop {
        let mut budget = MAX_HEAD_BYTES;
        let Ok(Some(line)) = read_line(stream, &mut budget) else { return Ok(false) };
        let size = line.split(';').next().unwrap_or_default().trim();
        let length = usize::from_str_radix(size, 16).with_context(|| format!("malformed chunk size: {line}"))?;
        ensure!(body.len().saturating_add(length) <= MAX_BODY_BYTES, "a body that is too long");
        if !read_piece(stream, length, body)? {
            return Ok(false);
        }
        if length > 0 {
            drop(read_line(stream, &mut budget));
            continue;
        }
        loop {
            match read_line(stream, &mut budget) {
                Ok(Some(trailer)) if trailer.is_empty() => return Ok(true),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return Ok(false),
            }
        }
    }
}

/// Whether all of `length` bytes came.
fn read_piece(stream: &mut impl BufRead, length: usize, body: &mut Vec<u8>) -> Result<bool> {
    let before = body.len();
    match stream.take(length as u64).read_to_end(body) {
        Ok(_) => Ok(body.len() - before == length),
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
