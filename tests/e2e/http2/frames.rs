//! A peer of HTTP/2 that sends any frame, right or wrong, when a test says so.
//!
//! Owns the connection and the form of frames. Must not keep rules: for a client that does, tests use curl.

use std::collections::VecDeque;
use std::io;

use anyhow::{Context, Result, bail};
use hookgate_testkit::configuration::HOST;

use crate::environment::PATH;
use crate::tls_client::{End, TlsClient, TlsConnection};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

/// Flags: of DATA and HEADERS, of HEADERS and CONTINUATION.
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// Codes of errors (RFC 9113, section 7).
pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const FLOW_CONTROL_ERROR: u32 = 3;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// Settings (RFC 9113, section 6.5.2).
const HEADER_TABLE_SIZE: u16 = 1;
pub(crate) const INITIAL_WINDOW: u16 = 4;

/// The largest window (RFC 9113, section 6.9.1).
pub(crate) const LARGEST_WINDOW: u32 = 0x7fff_ffff;

/// A frame that the daemon sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The code of a reset or of a GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let last = self.payload.get(if self.kind == GOAWAY { 4..8 } else { 0..4 });
        last.and_then(|bytes| bytes.try_into().ok()).map_or(u32::MAX, u32::from_be_bytes)
    }

    /// What settings say of `id`.
    pub(crate) fn setting(&self, id: u16) -> Option<u32> {
        let mut settings = self.payload.chunks_exact(6);
        let value = settings.find(|setting| setting[..2] == id.to_be_bytes())?[2..].try_into().ok()?;
        Some(u32::from_be_bytes(value))
    }

    /// Whether it ends the answer on `stream`.
    pub(crate) fn ends(&self, stream: u32) -> bool {
        self.stream == stream && matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }
}

/// A frame as bytes.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Credit for `stream`, or for the connection if it is 0.
pub(crate) fn credit(stream: u32, bytes: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
}

/// A reset of the peer.
pub(crate) fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}

/// A field as a literal that is not indexed, with a new name (RFC 7541, section 6.2.2).
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    [&[0][..], &text(&name.to_ascii_lowercase()), &text(value)].concat()
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    match u8::try_from(text.len()) {
        Ok(length) if length < 127 => bytes.push(length),
        _ => {
            bytes.push(127);
            let mut rest = text.len() - 127;
            while rest >= 128 {
                bytes.push((rest % 128 + 128) as u8);
                rest /= 128;
            }
            bytes.push(rest as u8);
        }
    }
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// The head of a POST to [`PATH`] of [`HOST`].
pub(crate) fn head() -> Vec<u8> {
    head_for("POST", PATH, HOST)
}

/// The head of a request.
pub(crate) fn head_for(method: &str, path: &str, authority: &str) -> Vec<u8> {
    let pseudo = [(":method", method), (":scheme", "https"), (":path", path), (":authority", authority)];
    pseudo.iter().flat_map(|(name, value)| field(name, value)).collect()
}

/// A whole request without a body.
pub(crate) fn request(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &head())
}

/// The head of a request with a body.
pub(crate) fn open(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &head())
}

/// The head of a POST to `path` of [`HOST`] with these fields, and with a body.
pub(crate) fn open_with(stream: u32, path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let fields = fields.iter().flat_map(|(name, value)| field(name, value));
    let head: Vec<u8> = head_for("POST", path, HOST).into_iter().chain(fields).collect();
    frame(HEADERS, END_HEADERS, stream, &head)
}

/// A whole POST with this body, of one frame.
pub(crate) fn post(stream: u32, path: &str, fields: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    [open_with(stream, path, fields), frame(DATA, END_STREAM, stream, body)].concat()
}

/// The status of an answer, which its head begins with, if nothing is indexed but by the static table (RFC 7541).
fn status(head: &[u8]) -> Option<u16> {
    // The encoder says once that its table is empty.
    match head.strip_prefix(&[0x20]).unwrap_or(head) {
        [indexed @ 0x88..=0x8e, ..] => Some([200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)]),
        [0x08, length, rest @ ..] if length & 0x80 != 0 => digits(rest.get(..usize::from(length & 0x7f))?),
        _ => None,
    }
}

/// Three digits in the code of RFC 7541, appendix B.
fn digits(coded: &[u8]) -> Option<u16> {
    let mut bits = coded.iter().flat_map(|byte| (0..8).rev().map(move |place| u16::from(byte >> place & 1)));
    let mut number = 0;
    for _ in 0..3 {
        let code = (0..5).try_fold(0, |code, _| Some(code << 1 | bits.next()?))?;
        number = number * 10 + if code < 3 { code } else { (code << 1 | bits.next()?).checked_sub(0b01_1001 - 3)? };
    }
    Some(number)
}

/// What the daemon answered on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Its status, and the `reason` of its problem document, or nothing.
    pub(crate) fn verdict(&self) -> (u16, String) {
        let document: Option<serde_json::Value> = serde_json::from_slice(&self.body).ok();
        let reason = document.and_then(|document| Some(document.get("reason")?.as_str()?.to_owned()));
        (self.status, reason.unwrap_or_default())
    }
}

/// A connection of a peer.
pub(crate) struct Http2 {
    connection: TlsConnection,
    bytes: VecDeque<u8>,
    /// Every frame that came.
    pub(crate) seen: Vec<Frame>,
}

impl Http2 {
    /// Connects, and sends preface and settings.
    pub(crate) fn connect(client: &TlsClient) -> Result<Self> {
        Self::over(client.clone().speaking(&[b"h2"]).connect()?, &[])
    }

    /// The same with a window of no byte for each stream.
    pub(crate) fn without_window(client: &TlsClient) -> Result<Self> {
        Self::over(client.clone().speaking(&[b"h2"]).connect()?, &[(INITIAL_WINDOW, 0)])
    }

    /// Sends preface and `settings` on a connection that has chosen `h2`. The daemon's tables stay empty, so that a status is easy to read.
    pub(crate) fn over(connection: TlsConnection, settings: &[(u16, u32)]) -> Result<Self> {
        let settings = [(HEADER_TABLE_SIZE, 0)].iter().chain(settings);
        let settings: Vec<u8> =
            settings.flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
        let mut this = Self { connection, bytes: VecDeque::new(), seen: Vec::new() };
        this.send([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &settings)].concat())?;
        Ok(this)
    }

    /// Acknowledges the daemon's settings, which hold from then on.
    pub(crate) fn acknowledge(&mut self) -> io::Result<()> {
        self.send(frame(SETTINGS, 1, 0, &[]))
    }

    /// Sends `bytes`.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.connection.send(bytes)
    }

    /// Sends all of them in few records; the daemon may end the connection before.
    pub(crate) fn flood(&mut self, frames: impl Iterator<Item = Vec<u8>>) {
        let frames: Vec<Vec<u8>> = frames.collect();
        for some in frames.chunks(200) {
            if self.send(some.concat()).is_err() {
                return;
            }
        }
    }

    /// The next frame; `None` at the end of the connection.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>> {
        loop {
            let head: Vec<u8> = self.bytes.iter().take(9).copied().collect();
            if let [a, b, c, kind, flags, s, t, u, v] = *head {
                let length = u32::from_be_bytes([0, a, b, c]) as usize;
                if self.bytes.len() >= 9 + length {
                    let payload = self.bytes.drain(..9 + length).skip(9).collect();
                    let frame = Frame { kind, flags, stream: u32::from_be_bytes([s, t, u, v]), payload };
                    self.seen.push(frame.clone());
                    return Ok(Some(frame));
                }
            }
            let (bytes, end) = self.connection.take(1)?;
            match (bytes.is_empty(), end) {
                (true, End::Open) => bail!("nothing came; seen {:?}", self.seen),
                (true, _) => return Ok(None),
                (false, _) => self.bytes.extend(bytes),
            }
        }
    }

    /// Reads until a frame for which `is_it`.
    pub(crate) fn wait(&mut self, is_it: impl Fn(&Frame) -> bool) -> Result<Frame> {
        loop {
            let frame = self.next()?;
            let frame = frame.with_context(|| format!("the connection ended; seen {:?}", self.seen))?;
            if is_it(&frame) {
                return Ok(frame);
            }
        }
    }

    /// Reads until the answer on `stream` is complete.
    pub(crate) fn answer(&mut self, stream: u32) -> Result<Answer> {
        if !self.seen.iter().any(|frame| frame.ends(stream)) {
            self.wait(|frame| frame.ends(stream))?;
        }
        let mut answer = Answer { status: 0, body: Vec::new() };
        for frame in self.seen.iter().filter(|frame| frame.stream == stream) {
            match frame.kind {
                HEADERS => answer.status = status(&frame.payload).with_context(|| format!("{frame:?}"))?,
                DATA => answer.body.extend(&frame.payload),
                _ => {}
            }
        }
        Ok(answer)
    }

    /// Sends `request` on `stream`, and reads its answer.
    pub(crate) fn ask(&mut self, stream: u32, request: impl AsRef<[u8]>) -> Result<Answer> {
        self.send(request)?;
        self.answer(stream)
    }

    /// Reads to the end of the connection, and returns the code of the last GOAWAY.
    pub(crate) fn end(&mut self) -> Result<u32> {
        while self.next()?.is_some() {}
        let last = self.seen.iter().rev().find(|frame| frame.kind == GOAWAY);
        last.map(Frame::code).with_context(|| format!("no GOAWAY; seen {:?}", self.seen))
    }

    /// How many frames of this type came.
    pub(crate) fn count(&self, kind: u8) -> usize {
        self.seen.iter().filter(|frame| frame.kind == kind).count()
    }

    /// As [`TlsConnection::discard`].
    pub(crate) fn discard(&mut self, count: usize) -> io::Result<usize> {
        self.connection.discard(count)
    }

    /// Ends the sending direction.
    pub(crate) fn finish_sending(&mut self) -> Result<()> {
        self.connection.finish_sending()
    }
}
