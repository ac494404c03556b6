//! Bare TCP: peers that never speak TLS, speak it slowly, or not at all.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Most bytes that [`read_to_end`] keeps.
const MAX_READ_BYTES: u64 = 16 * 1024 * 1024;

/// Connects to 127.0.0.1:`port`.
///
/// # Errors
///
/// Nobody listens.
pub fn connect(port: u16) -> Result<TcpStream> {
    let stream =
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).with_context(|| format!("connecting to port {port}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends `bytes` in pieces of `piece`, with a pause before each; the number of bytes that were sent before the peer closed.
pub fn send_slowly(stream: &mut TcpStream, bytes: &[u8], piece: usize, pause: Duration) -> usize {
    let mut sent = 0;
    for chunk in bytes.chunks(piece.max(1)) {
        thread::sleep(pause);
        if stream.write_all(chunk).is_err() {
            break;
        }
        sent += chunk.len();
    }
    sent
}

/// What a peer did with a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// What it sent.
    pub bytes: Vec<u8>,
    /// Whether it closed (or reset) within the limit.
    pub closed: bool,
    /// After how long.
    pub after: Duration,
}

/// Reads until the peer closes, for at most `limit`.
///
/// # Errors
///
/// The socket takes no time-out; `limit` must not be zero.
pub fn read_to_end(stream: &mut TcpStream, limit: Duration) -> Result<Ended> {
    let start = Instant::now();
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    let mut closed = false;
    while let Some(left) = limit.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut piece) {
            Ok(0) => closed = true,
            Ok(length) if bytes.len() as u64 + length as u64 <= MAX_READ_BYTES => {
                bytes.extend_from_slice(&piece[..length])
            }
            Ok(_) => break,
            Err(error) => {
                closed = !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
            }
        }
        if closed {
            break;
        }
    }
    Ok(Ended { bytes, closed, after: start.elapsed() })
}
