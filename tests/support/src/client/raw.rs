//! Bare TCP: peers that send something other than TLS, send it slowly, or send nothing.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::OpenSsl;

/// Most bytes that [`read_to_end`] keeps.
const MAX_READ_BYTES: u64 = 16 * 1024 * 1024;

/// Connects to 127.0.0.1:`port`.
///
/// # Errors
///
/// Nothing listens on the port.
pub fn connect(port: u16) -> Result<TcpStream> {
    let stream =
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).with_context(|| format!("connecting to port {port}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends `bytes` in pieces of `piece` bytes, with a pause before each. Returns how many bytes it sent before the peer closed.
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
    /// The bytes that it sent.
    pub bytes: Vec<u8>,
    /// Whether it closed (or reset) within the limit.
    pub closed: bool,
    /// How long reading took.
    pub after: Duration,
}

/// Reads until the peer closes, for at most `limit`.
///
/// # Errors
///
/// The time-out of the socket cannot be set. `limit` must not be zero.
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

/// Relays one connection to 127.0.0.1:`port`: byte by byte towards it, with a pause before each, and at once in the other
/// direction. Returns the port to connect to.
///
/// # Errors
///
/// No port is free.
pub fn trickle(port: u16, pause: Duration) -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let own_port = listener.local_addr()?.port();
    thread::spawn(move || {
        let Ok((client, _)) = listener.accept() else { return };
        // If one side closes, the relay ends, and the other side sees that.
        drop(relay(client, port, pause));
    });
    Ok(own_port)
}

fn relay(mut client: TcpStream, port: u16, pause: Duration) -> Result<()> {
    let mut server = connect(port)?;
    let (mut answers, mut back) = (server.try_clone()?, client.try_clone()?);
    let returning = thread::spawn(move || {
        drop(std::io::copy(&mut answers, &mut back));
        drop(back.shutdown(Shutdown::Write));
    });
    let mut piece = [0; 4096];
    while let Ok(length @ 1..) = client.read(&mut piece) {
        if send_slowly(&mut server, &piece[..length], 1, pause) < length {
            break;
        }
    }
    drop(server.shutdown(Shutdown::Write));
    drop(returning.join());
    Ok(())
}

/// The ClientHello that a real client sends, as the bytes of its TLS record.
///
/// # Errors
///
/// It does not connect, or sends no ClientHello, within five seconds.
pub fn client_hello(client: impl FnOnce(u16) -> OpenSsl) -> Result<Vec<u8>> {
    const LIMIT: Duration = Duration::from_secs(5);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let client = client(listener.local_addr()?.port()).limit(LIMIT);
    let running = thread::spawn(move || client.run());
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(LIMIT))?;
    // RFC 8446, section 5.1: type, version, length.
    let mut record = vec![0; 5];
    stream.read_exact(&mut record)?;
    let length = usize::from(u16::from_be_bytes([record[3], record[4]]));
    record.resize(5 + length, 0);
    stream.read_exact(&mut record[5..])?;
    drop(stream);
    drop(running.join());
    Ok(record)
}
