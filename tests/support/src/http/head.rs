//! The one parser of HTTP/1 heads (RFC 9112) of the test peers and of the load generator, on `httparse`.
//!
//! Owns what a head is, and how its body is framed. Allocates nothing, since the load generator parses two heads a request. Must
//! not read from a stream, and must not accept what two readers could understand differently.

use std::mem::MaybeUninit;

use anyhow::{Context, Result, ensure};
use httparse::{ParserConfig, Status};

pub use httparse::Header;

/// Most bytes of a malformed head that an error shows.
const SHOWN_BYTES: usize = 200;

/// A head, borrowed from the bytes that it was parsed from.
#[derive(Clone, Copy, Debug)]
pub struct Head<'bytes, 'fields> {
    /// The first line.
    pub start: StartLine<'bytes>,
    /// The `x` of `HTTP/1.x`.
    pub minor_version: u8,
    /// The fields, in order, names as sent, values without the white space around them.
    pub fields: &'fields [Header<'bytes>],
    /// Bytes of the head, the empty line at its end included.
    pub length: usize,
}

/// The first line of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartLine<'bytes> {
    /// A request.
    Request {
        /// The method.
        method: &'bytes str,
        /// The request target, as sent.
        target: &'bytes str,
    },
    /// A response.
    Response {
        /// The status code.
        status: u16,
    },
}

/// How a body ends (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After this many bytes.
    Length(u64),
    /// With the last chunk.
    Chunked,
    /// The head does not say: a request has no body, a response ends with the connection.
    Unannounced,
}

impl<'bytes, 'fields> Head<'bytes, 'fields> {
    /// Parses the head at the front of `bytes`; `None` if more bytes are needed. `space` holds the fields, and bounds their number.
    ///
    /// # Errors
    ///
    /// The bytes are not the beginning of an HTTP/1.0 or HTTP/1.1 message, a line does not end with CRLF, or `space` is too small.
    pub fn parse(bytes: &'bytes [u8], space: &'fields mut [MaybeUninit<Header<'bytes>>]) -> Result<Option<Self>> {
        // `httparse` skips empty lines at this place.
        ensure!(!bytes.starts_with(b"\r") && !bytes.starts_with(b"\n"), "an empty line before a head");
        let parsed = match bytes.starts_with(b"HTTP/") {
            true => parse_response(bytes, space),
            false => parse_request(bytes, space),
        };
        let Some(head) = parsed.with_context(|| format!("a malformed head: {}", shown(bytes)))? else {
            return Ok(None);
        };
        // `httparse` accepts LF alone as the end of a line. The fold looks at every byte, which the compiler vectorizes: a search
        // that ends at the first LF takes fifteen times as long.
        let lines = &bytes[..head.length];
        let is_bare = |(byte, next): (&u8, &u8)| (*next == b'\n') & (*byte != b'\r');
        let bare = lines.iter().zip(&lines[1..]).fold(false, |bare, pair| bare | is_bare(pair));
        ensure!(!bare, "a line that does not end with CRLF in a head: {}", shown(bytes));
        Ok(Some(head))
    }

    /// Every value of `name`, in order, whatever the case of the name.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'bytes [u8]> {
        self.fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// How the body ends.
    ///
    /// # Errors
    ///
    /// A transfer coding other than `chunked`, a Content-Length that is no number, or two that differ.
    pub fn framing(&self) -> Result<Framing> {
        let mut framing = Framing::Unannounced;
        for value in self.values("Transfer-Encoding") {
            ensure!(value.eq_ignore_ascii_case(b"chunked"), "the transfer coding {}", shown(value));
            framing = Framing::Chunked;
        }
        for value in self.values("Content-Length") {
            let digits = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            let length = digits.and_then(|digits| digits.parse().ok());
            let length = Framing::Length(length.with_context(|| format!("Content-Length {}", shown(value)))?);
            match framing {
                Framing::Unannounced => framing = length,
                Framing::Chunked => {}
                Framing::Length(_) => ensure!(framing == length, "two values of Content-Length"),
            }
        }
        Ok(framing)
    }
}

/// [`Head::parse`], if `bytes` begin as a response does.
fn parse_response<'bytes, 'fields>(
    bytes: &'bytes [u8],
    space: &'fields mut [MaybeUninit<Header<'bytes>>],
) -> Result<Option<Head<'bytes, 'fields>>, httparse::Error> {
    let mut parsed = httparse::Response::new(&mut []);
    let status = ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, bytes, space)?;
    let (Status::Complete(length), Some(status), Some(minor_version)) = (status, parsed.code, parsed.version) else {
        return Ok(None);
    };
    Ok(Some(Head { start: StartLine::Response { status }, minor_version, fields: parsed.headers, length }))
}

/// [`Head::parse`], if `bytes` begin as no response does.
fn parse_request<'bytes, 'fields>(
    bytes: &'bytes [u8],
    space: &'fields mut [MaybeUninit<Header<'bytes>>],
) -> Result<Option<Head<'bytes, 'fields>>, httparse::Error> {
    let mut parsed = httparse::Request::new(&mut []);
    let status = parsed.parse_with_uninit_headers(bytes, space)?;
    let (Status::Complete(length), Some((method, target)), Some(minor_version)) =
        (status, parsed.method.zip(parsed.path), parsed.version)
    else {
        return Ok(None);
    };
    Ok(Some(Head { start: StartLine::Request { method, target }, minor_version, fields: parsed.headers, length }))
}

/// The beginning of `bytes`, for an error.
fn shown(bytes: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_BYTES)]))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// What `look` finds in the head of `text`.
    fn with_head<T>(text: &str, look: impl FnOnce(Option<Head<'_, '_>>) -> T) -> Result<T> {
        let mut space = [const { MaybeUninit::uninit() }; 3];
        Head::parse(text.as_bytes(), &mut space).map(look)
    }

    #[test]
    fn a_head_is_parsed_with_its_fields_in_order() {
        let text = "POST /a?b HTTP/1.1\r\nX-One: 1 \r\nx-one:2\r\nHost: a\r\n\r\nbody";
        let is_request = with_head(text, |head| {
            let head = head.unwrap();
            let fields: Vec<_> = head.fields.iter().map(|field| (field.name, field.value)).collect();
            assert_eq!(fields, [("X-One", &b"1"[..]), ("x-one", b"2"), ("Host", b"a")]);
            assert_eq!(head.values("X-ONE").collect::<Vec<_>>(), [b"1", b"2"]);
            assert_eq!((head.minor_version, head.length), (1, text.len() - 4));
            head.start == StartLine::Request { method: "POST", target: "/a?b" }
        });
        assert!(is_request.unwrap());
        let is_response = with_head("HTTP/1.0 404 Not Found\r\n\r\n", |head| {
            let head = head.unwrap();
            head.start == StartLine::Response { status: 404 } && head.minor_version == 0
        });
        assert!(is_response.unwrap());
    }

    #[test]
    fn a_head_that_is_cut_anywhere_needs_more_bytes() {
        for whole in ["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
            for length in 0..whole.len() {
                let is_partial = with_head(&whole[..length], |head| head.is_none());
                assert!(is_partial.unwrap(), "{length} bytes of {whole:?}");
            }
        }
    }

    #[test]
    fn what_two_readers_could_understand_differently_is_refused() {
        for wrong in [
            "\r\nHTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\n\n",
            "HTTP/1.1 200 OK\r\nA: b\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "GET / HTTP/1.1\r\nA: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n\r\n",
            "not HTTP\r\n\r\n",
        ] {
            assert!(with_head(wrong, |_| ()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_body_is_framed_as_the_fields_say() {
        let check = |fields: &str, expected: Option<Framing>| {
            let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
            let framing = with_head(&text, |head| head.unwrap().framing().ok());
            assert_eq!(framing.unwrap(), expected, "{fields:?}");
        };
        check("", Some(Framing::Unannounced));
        check("content-length: 12\r\n", Some(Framing::Length(12)));
        check("Content-Length: 12\r\nContent-Length: 12\r\n", Some(Framing::Length(12)));
        check("Transfer-Encoding: Chunked\r\n", Some(Framing::Chunked));
        check("Content-Length: 12\r\nTransfer-Encoding: chunked\r\n", Some(Framing::Chunked));
        check("Transfer-Encoding: chunked\r\nContent-Length: 12\r\n", Some(Framing::Chunked));
        check("Content-Length: 12\r\nContent-Length: 13\r\n", None);
        check("Content-Length: +12\r\n", None);
        check("Content-Length: \r\n", None);
        check("Content-Length: 99999999999999999999\r\n", None);
        check("Transfer-Encoding: gzip\r\n", None);
        check("Transfer-Encoding: gzip, chunked\r\n", None);
    }
}
