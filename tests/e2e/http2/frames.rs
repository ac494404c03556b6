//! A peer of HTTP/2 that sends any frame, right or wrong, when a test says so.
//!
//! Owns the connection and the form of frames. Must not keep rules: for a client that does, tests use curl.

use std::collections::VecDeque;
use std::io;

use anyhow::{Context, Result, bail};
use hookgate_testkit::configuration::HOST;

use crate::environment::PATH;
use crate::tls_client::{End, TlsClient, TlsConnection};

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

/// Flags: of DATA and HEADERS, of HEADERS and CONTINUATION.
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// Codes of errors (RFC 9113, section 7).
pub(super) const NO_ERROR: u32 = 0;
pub(super) const PROTOCOL_ERROR: u32 = 1;
pub(super) const REFUSED_STREAM: u32 = 7;
pub(super) const CANCEL: u32 = 8;
pub(super) const ENHANCE_YOUR_CALM: u32 = 11;

/// `SETTINGS_INITIAL_WINDOW_SIZE`.
const INITIAL_WINDOW: u16 = 4;

/// A frame that the daemon sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    /// The code of a reset or of a GOAWAY.
    pub(super) fn code(&self) -> u32 {
        let last = self.payload.get(if self.kind == GOAWAY { 4..8 } else { 0..4 });
        last.and_then(|bytes| bytes.try_into().ok()).map_or(u32::MAX, u32::from_be_bytes)
    }

    /// Whether it ends the answer on `stream`.
    pub(super) fn ends(&self, stream: u32) -> bool {
        self.stream == stream && matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }
}

/// A frame as bytes.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A reset of the peer.
pub(super) fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}

/// A field as a literal that is not indexed, with a new name (RFC 7541, section 6.2.2).
pub(super) fn field(name: &str, value: &str) -> Vec<u8> {
    [&[0][..], &text(name), &text(value)].concat()
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
pub(super) fn head() -> Vec<u8> {
    head_for("POST", PATH, HOST)
}

/// The head of a request.
pub(super) fn head_for(method: &str, path: &str, authority: &str) -> Vec<u8> {
    let pseudo = [(":method", method), (":scheme", "https"), (":path", path), (":authority", authority)];
    pseudo.iter().flat_map(|(name, value)| field(name, value)).collect()
}

/// A whole request without a body.
pub(super) fn request(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &head())
}

/// The head of a request with a body.
pub(super) fn open(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &head())
}

/// A connection of a peer.
pub(super) struct Http2 {
    connection: TlsConnection,
    bytes: VecDeque<u8>,
    /// Every frame that came.
    pub(super) seen: Vec<Frame>,
}

impl Http2 {
    /// Connects, and sends preface and settings.
    pub(super) fn connect(client: &TlsClient) -> Result<Self> {
        Self::with_settings(client, &[])
    }

    /// The same with a window of no byte for each stream.
    pub(super) fn without_window(client: &TlsClient) -> Result<Self> {
        Self::with_settings(client, &[&INITIAL_WINDOW.to_be_bytes()[..], &[0; 4]].concat())
    }

    fn with_settings(client: &TlsClient, settings: &[u8]) -> Result<Self> {
        let connection = client.clone().speaking(&[b"h2"]).connect()?;
        let mut this = Self { connection, bytes: VecDeque::new(), seen: Vec::new() };
        this.send([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, settings)].concat())?;
        Ok(this)
    }

    /// Sends `bytes`.
    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.connection.send(bytes)
    }

    /// Sends all of them in few records; the daemon may end the connection before.
    pub(super) fn flood(&mut self, frames: impl Iterator<Item = Vec<u8>>) {
        let frames: Vec<Vec<u8>> = frames.collect();
        for some in frames.chunks(200) {
            if self.send(some.concat()).is_err() {
                return;
            }
        }
    }

    /// The next frame; `None` at the end of the connection.
    pub(super) fn next(&mut self) -> Result<Option<Frame>> {
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
    pub(super) fn wait(&mut self, is_it: impl Fn(&Frame) -> bool) -> Result<Frame> {
        loop {
            let frame = self.next()?;
            let frame = frame.with_context(|| format!("the connection ended; seen {:?}", self.seen))?;
            if is_it(&frame) {
                return Ok(frame);
            }
        }
    }

    /// Reads until the answer on `stream` is complete.
    pub(super) fn answer(&mut self, stream: u32) -> Result<Frame> {
        self.wait(|frame| frame.ends(stream))
    }

    /// Reads to the end of the connection, and returns the code of the last GOAWAY.
    pub(super) fn end(&mut self) -> Result<u32> {
        while self.next()?.is_some() {}
        let last = self.seen.iter().rev().find(|frame| frame.kind == GOAWAY);
        last.map(Frame::code).with_context(|| format!("no GOAWAY; seen {:?}", self.seen))
    }

    /// How many frames of this type came.
    pub(super) fn count(&self, kind: u8) -> usize {
        self.seen.iter().filter(|frame| frame.kind == kind).count()
    }

    /// Ends the sending direction.
    pub(super) fn finish_sending(&mut self) -> Result<()> {
        self.connection.finish_sending()
    }
}
