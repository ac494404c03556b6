//! The heads of frames in a stream of bytes (RFC 9113, section 4.1), and what a peer may send that is no request.
//!
//! h2 bounds what its frames make it keep. Owns what it does not: how many frames a peer may have handled that ask for nothing, and whether
//! the head of a request is on its way. Pure: no clock, no socket. Must not look into a payload but for the code of a reset.

use std::time::Duration;

/// What a client sends before its first frame (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The head of a frame, in bytes.
const HEAD: usize = 9;

/// The code of a reset, which is its payload, in bytes.
const CODE: usize = 4;

/// Types of frames (RFC 9113, section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;

/// The flag of HEADERS and CONTINUATION that ends a head.
const END_HEADERS: u8 = 4;

/// The longest payload of HEADERS that is h2's own 431 (Request Header Fields Too Large): a change of the table's size, and one literal. Every
/// answer of hookgate has an X-Request-Id, and so is longer.
const BARE_STATUS: u32 = 16;

/// A frame, as far as one of its two readers asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A part of a body.
    Data,
    /// A head, or the rest of one. `is_bare` if it has room for a status and nothing else.
    Head { stream: u32, is_bare: bool },
    /// The end of a stream, with the code of an error (RFC 9113, section 7).
    Reset { stream: u32, code: u32 },
    /// Any other: settings, pings, windows, priorities, and unknown ones.
    Other,
}

/// Reads the heads of frames from one direction of a connection.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes of the preface that are still to come.
    preface: usize,
    head: [u8; HEAD + CODE],
    /// Bytes of `head` that have come.
    have: usize,
    /// Bytes of the payload that are still to come.
    payload: usize,
    /// The current payload is a part of a head.
    is_head: bool,
    /// A head has begun, and the frame that ends it has not come.
    continues: bool,
}

impl Frames {
    /// Of what a client sends: the preface, and then frames.
    pub(super) fn of_client() -> Self {
        Self { preface: PREFACE.len(), ..Self::of_server() }
    }

    /// Of what a server sends.
    pub(super) fn of_server() -> Self {
        Self { preface: 0, head: [0; HEAD + CODE], have: 0, payload: 0, is_head: false, continues: false }
    }

    /// Whether the head of a request has begun and is not complete.
    pub(super) fn is_in_head(&self) -> bool {
        self.continues || self.is_head && self.payload > 0
    }

    /// Reads `bytes`, and asks `goes_on` after the head of each frame. Returns how many bytes were read.
    pub(super) fn read(&mut self, bytes: &[u8], mut goes_on: impl FnMut(Frame) -> bool) -> usize {
        let preface = self.preface.min(bytes.len());
        self.preface -= preface;
        let mut rest = &bytes[preface..];
        while !rest.is_empty() {
            if self.payload > 0 {
                let count = self.payload.min(rest.len());
                self.payload -= count;
                rest = &rest[count..];
                continue;
            }
            let wanted = if self.have >= HEAD { HEAD + CODE } else { HEAD };
            let count = (wanted - self.have).min(rest.len());
            self.head[self.have..self.have + count].copy_from_slice(&rest[..count]);
            self.have += count;
            rest = &rest[count..];
            if self.have == wanted
                && let Some(frame) = self.complete()
                && !goes_on(frame)
            {
                break;
            }
        }
        bytes.len() - rest.len()
    }

    /// The frame of a complete head; `None` if its code is still to come.
    fn complete(&mut self) -> Option<Frame> {
        let [a, b, c, kind, flags, s, t, u, v, code @ ..] = self.head;
        let length = u32::from_be_bytes([0, a, b, c]);
        let stream = u32::from_be_bytes([s & 0x7f, t, u, v]);
        // Another length is an error of the connection (RFC 9113, section 6.4).
        if kind == RST_STREAM && length == CODE as u32 {
            if self.have == HEAD {
                return None;
            }
            self.have = 0;
            self.is_head = false;
            return Some(Frame::Reset { stream, code: u32::from_be_bytes(code) });
        }
        self.have = 0;
        self.payload = length as usize;
        self.is_head = matches!(kind, HEADERS | CONTINUATION);
        if self.is_head {
            self.continues = flags & END_HEADERS == 0;
        }
        Some(match kind {
            DATA => Frame::Data,
            HEADERS | CONTINUATION => Frame::Head { stream, is_bare: kind == HEADERS && length <= BARE_STATUS },
            _ => Frame::Other,
        })
    }
}

/// What a peer may have handled that is no request and no part of one.
///
/// A frame of 13 bytes costs a microsecond, and a reset may cost a request, so a peer that sends nothing else would keep a worker busy for less than it
/// costs itself. Each frame takes from an allowance that time, requests and answers refill.
#[derive(Debug)]
pub(super) struct Allowance {
    left: u32,
    /// When it was refilled last, by the coarse clock.
    at: Duration,
}

impl Allowance {
    /// At first, and at most: a thousand frames, or a hundred resets. A client that stops a page of a hundred requests, which is all that it may have
    /// open, is within it.
    const MOST: u32 = 1000;
    /// For each second: more pings than any keep-alive sends.
    const A_SECOND: u32 = 100;
    /// What a reset takes.
    const RESET: u32 = 10;
    /// For each answered request: it may be followed by a reset, as some clients do with what they do not need.
    const ANSWER: u32 = Self::RESET;
    /// For each frame of an answer: the peer opens two windows for it.
    const DATA: u32 = 2;

    pub(super) fn new(now: Duration) -> Self {
        Self { left: Self::MOST, at: now }
    }

    /// A frame that is no request arrived at `now`. Returns whether the peer may go on.
    pub(super) fn take(&mut self, frame: Frame, now: Duration) -> bool {
        let price = match frame {
            // h2 bounds these, and what they make: a request has to be paid for by its answer.
            Frame::Data | Frame::Head { .. } => return true,
            Frame::Reset { .. } => Self::RESET,
            Frame::Other => 1,
        };
        let seconds = now.saturating_sub(self.at).as_secs();
        if seconds > 0 {
            self.at += Duration::from_secs(seconds);
            self.give(u32::try_from(seconds).unwrap_or(u32::MAX).saturating_mul(Self::A_SECOND));
        }
        let left = self.left.checked_sub(price);
        self.left = left.unwrap_or(0);
        left.is_some()
    }

    /// A request was answered.
    pub(super) fn answered(&mut self) {
        self.give(Self::ANSWER);
    }

    /// A part of an answer was sent.
    pub(super) fn sent(&mut self) {
        self.give(Self::DATA);
    }

    fn give(&mut self, amount: u32) {
        self.left = self.left.saturating_add(amount).min(Self::MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
        [&[length[1], length[2], length[3], kind, flags, 0, 0, 0, 1], payload].concat()
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let bytes = [
            PREFACE.to_vec(),
            frame(4, 0, &[]),
            frame(HEADERS, END_HEADERS, &[7; 40]),
            frame(DATA, 1, &[1; 20]),
            frame(RST_STREAM, 0, &[0, 0, 0, 8]),
            frame(RST_STREAM, 0, &[0; 5]),
            frame(6, 0, &[0; 8]),
            frame(HEADERS, END_HEADERS | 1, &[0; 5]),
        ]
        .concat();
        for size in [1, 2, 3, 9, 13, bytes.len()] {
            let (mut frames, mut found) = (Frames::of_client(), Vec::new());
            for chunk in bytes.chunks(size) {
                let mut note = |frame| {
                    found.push(frame);
                    true
                };
                assert_eq!(frames.read(chunk, &mut note), chunk.len());
            }
            let reset = Frame::Reset { stream: 1, code: 8 };
            let head = |is_bare| Frame::Head { stream: 1, is_bare };
            let expected = [Frame::Other, head(false), Frame::Data, reset, Frame::Other, Frame::Other, head(true)];
            assert_eq!(found, expected, "{size}");
            assert!(!frames.is_in_head());
        }
    }

    #[test]
    fn what_follows_the_head_of_a_frame_can_be_left_for_later() {
        let bytes = [frame(6, 0, &[0; 8]), frame(DATA, 0, &[1; 20]), frame(6, 0, &[0; 8])].concat();
        let (mut frames, mut found) = (Frames::of_server(), Vec::new());
        let mut read = |bytes| {
            frames.read(bytes, |frame| {
                found.push(frame);
                frame != Frame::Data
            })
        };
        let first = read(&bytes);
        assert_eq!(first, 17 + HEAD);
        assert_eq!(read(&bytes[first..]), bytes.len() - first);
        assert_eq!(found, [Frame::Other, Frame::Data, Frame::Other]);
    }

    #[test]
    fn a_head_is_on_its_way_until_the_frame_that_ends_it_is_complete() {
        let mut frames = Frames::of_server();
        let check = |frames: &mut Frames, bytes: &[u8], expected| {
            frames.read(bytes, |_| true);
            assert_eq!(frames.is_in_head(), expected, "{bytes:?}");
        };
        check(&mut frames, &frame(HEADERS, 0, &[]), true);
        check(&mut frames, &frame(CONTINUATION, 0, &[1, 2]), true);
        let last = frame(CONTINUATION, END_HEADERS, &[1, 2]);
        check(&mut frames, &last[..10], true);
        check(&mut frames, &last[10..], false);
        check(&mut frames, &frame(DATA, 0, &[1, 2])[..10], false);
    }

    #[test]
    fn an_allowance_is_used_up_by_frames_and_refilled_by_time_and_answers() {
        let start = Duration::from_secs(50);
        let later = |seconds| start + Duration::from_secs(seconds);
        let count = |allowance: &mut Allowance, frame, now| (0..).take_while(|_| allowance.take(frame, now)).count();
        let reset = Frame::Reset { stream: 1, code: 8 };
        let mut allowance = Allowance::new(start);
        assert_eq!(count(&mut allowance, Frame::Other, start), 1000);
        assert_eq!(count(&mut allowance, Frame::Other, later(2)), 200);
        assert_eq!(count(&mut allowance, reset, later(1000)), 100);
        assert!(!allowance.take(Frame::Other, later(1000)));
        allowance.answered();
        assert_eq!(count(&mut allowance, reset, later(1000)), 1, "an answer pays for a reset");
        (0..5).for_each(|_| allowance.sent());
        assert_eq!(count(&mut allowance, Frame::Other, later(1000)), 10, "a part of an answer for two windows");
        let head = Frame::Head { stream: 1, is_bare: false };
        assert!(allowance.take(Frame::Data, later(1000)) && allowance.take(head, later(1000)));
    }
}
