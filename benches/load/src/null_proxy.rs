//! The floor of proxying: copies bytes between TCP and a Unix socket. It connects to the handler at the first byte, so a connection
//! without one shows the cost of accepting and closing.
//!
//! Owns the pairs of sockets. Must not parse what it copies.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::poll::{Poll, Ready};

/// The token of the listener; pair `n` has the tokens `2n` (TCP) and `2n + 1` (Unix).
const LISTENER: u64 = u64::MAX;

/// Bytes of one read.
const PIECE_BYTES: usize = 64 * 1024;

struct NullProxy {
    listener: TcpListener,
    socket: PathBuf,
    poll: Poll,
    pairs: Vec<Option<Pair>>,
    free: Vec<usize>,
}

struct Pair {
    outside: TcpStream,
    inside: Option<UnixStream>,
    inward: Direction,
    outward: Direction,
}

/// One direction, with the bytes that were read and not yet written.
#[derive(Default)]
struct Direction {
    held: Vec<u8>,
    ended: bool,
}

/// Relays connections to 127.0.0.1:`port` to `socket` until the process ends.
///
/// # Errors
///
/// The port cannot be bound, the handler cannot be reached, or epoll fails.
pub(crate) fn serve(port: u16, socket: &Path) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).with_context(|| format!("binding port {port}"))?;
    rustix::net::listen(&listener, 4096)?;
    listener.set_nonblocking(true)?;
    let poll = Poll::new()?;
    poll.add_listener(listener.as_fd(), LISTENER)?;
    let mut proxy = NullProxy { listener, socket: socket.to_owned(), poll, pairs: Vec::new(), free: Vec::new() };
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        proxy.poll.wait(None)?;
        for index in 0..proxy.poll.len() {
            match proxy.poll.event(index) {
                Ready { token: LISTENER, .. } => proxy.accept()?,
                ready => proxy.relay(usize::try_from(ready.token / 2)?, &mut piece)?,
            }
        }
    }
}

impl NullProxy {
    fn accept(&mut self) -> Result<()> {
        let (outside, _) = match self.listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).context("accepting"),
        };
        outside.set_nodelay(true)?;
        outside.set_nonblocking(true)?;
        let slot = self.free.pop().unwrap_or(self.pairs.len());
        self.poll.add(outside.as_fd(), 2 * slot as u64)?;
        let pair = Pair { outside, inside: None, inward: Direction::default(), outward: Direction::default() };
        match self.pairs.get_mut(slot) {
            Some(place) => *place = Some(pair),
            None => self.pairs.push(Some(pair)),
        }
        Ok(())
    }

    fn relay(&mut self, slot: usize, piece: &mut [u8]) -> Result<()> {
        let Some(pair) = &mut self.pairs[slot] else { return Ok(()) };
        let alive = loop {
            let read = pair.inward.read(&mut pair.outside, piece);
            if pair.inside.is_none() && !pair.inward.held.is_empty() {
                let inside = UnixStream::connect(&self.socket).with_context(|| format!("{}", self.socket.display()))?;
                inside.set_nonblocking(true)?;
                self.poll.add(inside.as_fd(), 2 * slot as u64 + 1)?;
                pair.inside = Some(inside);
            }
            match read.and_then(|read| Ok(read + pair.copy(piece)?)) {
                // Edge-triggered: all readable bytes have been read, or wait for space, which causes an event.
                Ok(0) => break !pair.is_over(),
                Ok(_) => {}
                // The peer closed too early, which ends this pair alone.
                Err(_) => break false,
            }
        };
        if !alive {
            self.pairs[slot] = None;
            self.free.push(slot);
        }
        Ok(())
    }
}

impl Pair {
    /// Writes what was read from outside, and copies the other direction. Returns how many bytes were read.
    fn copy(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        let Some(inside) = &mut self.inside else { return Ok(0) };
        self.inward.write(inside)?;
        let read = self.outward.read(inside, piece)?;
        self.outward.write(&mut self.outside)?;
        if self.inward.ended && self.inward.held.is_empty() {
            // Fails if the handler has closed already.
            drop(inside.shutdown(Shutdown::Write));
        }
        Ok(read)
    }

    fn is_over(&self) -> bool {
        self.inward.ended && (self.inside.is_none() || self.outward.ended)
    }
}

impl Direction {
    /// Reads one piece, unless bytes wait to be written. Returns how many bytes were read.
    fn read(&mut self, from: &mut impl Read, piece: &mut [u8]) -> io::Result<usize> {
        if !self.held.is_empty() || self.ended {
            return Ok(0);
        }
        match from.read(piece) {
            Ok(length) => {
                self.ended = length == 0;
                self.held.extend_from_slice(&piece[..length]);
                Ok(length)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Writes as many of the held bytes as possible.
    fn write(&mut self, to: &mut impl Write) -> io::Result<()> {
        while !self.held.is_empty() {
            match to.write(&self.held) {
                Ok(length) => drop(self.held.drain(..length)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
