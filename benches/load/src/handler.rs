//! The handler of every server under test: HTTP/1.1 on a Unix socket, with as little work as possible.
//!
//! Owns the socket and its connections. Must not do anything that depends on a request.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use anyhow::{Context, Result};

use crate::http::{MessageReader, RESPONSE};
use crate::poll::Poll;

/// The token of the listener. The token of a connection is its index in the table.
const LISTENER: u64 = u64::MAX;

/// Bytes of one read: a 1 MiB body takes eight reads.
const PIECE_BYTES: usize = 128 * 1024;

struct Connection {
    stream: UnixStream,
    reader: MessageReader,
}

/// Serves `socket` until the process ends.
///
/// # Errors
///
/// The socket cannot be bound, or epoll fails.
pub(crate) fn serve(socket: &Path) -> Result<()> {
    drop(fs::remove_file(socket));
    let listener = UnixListener::bind(socket).with_context(|| format!("binding {}", socket.display()))?;
    // The backlog of std depends on its version. This many connections never wait at once.
    rustix::net::listen(&listener, 4096)?;
    listener.set_nonblocking(true)?;
    let mut poll = Poll::new()?;
    poll.add_listener(listener.as_fd(), LISTENER)?;
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut free = Vec::new();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        poll.wait(None)?;
        for index in 0..poll.len() {
            let ready = poll.event(index);
            if ready.token == LISTENER {
                accept(&listener, &poll, &mut connections, &mut free)?;
                continue;
            }
            let slot = usize::try_from(ready.token)?;
            if ready.readable
                && let Some(connection) = &mut connections[slot]
                && connection.answer(&mut piece).is_none()
            {
                connections[slot] = None;
                free.push(slot);
            }
        }
    }
}

fn accept(
    listener: &UnixListener,
    poll: &Poll,
    connections: &mut Vec<Option<Connection>>,
    free: &mut Vec<usize>,
) -> Result<()> {
    let (stream, _) = match listener.accept() {
        Ok(accepted) => accepted,
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
        Err(error) => return Err(error).context("accepting"),
    };
    stream.set_nonblocking(true)?;
    let slot = free.pop().unwrap_or(connections.len());
    poll.add(stream.as_fd(), slot as u64)?;
    let connection = Some(Connection { stream, reader: MessageReader::default() });
    match connections.get_mut(slot) {
        Some(place) => *place = connection,
        None => connections.push(connection),
    }
    Ok(())
}

impl Connection {
    /// Reads the available bytes and answers complete requests. `None` if the connection has ended.
    fn answer(&mut self, piece: &mut [u8]) -> Option<()> {
        loop {
            let length = match self.stream.read(piece) {
                Ok(0) => return None,
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(()),
                Err(_) => return None,
            };
            let mut rest = &piece[..length];
            while !rest.is_empty() {
                match self.reader.take(&mut rest) {
                    // A response is far smaller than the buffer of a socket, so a short write means that the peer reads nothing.
                    Ok(Some(_)) => self.stream.write_all(RESPONSE).ok()?,
                    Ok(None) => {}
                    Err(error) => {
                        eprintln!("handler: {error:#}");
                        return None;
                    }
                }
            }
            if length < piece.len() {
                // A short read: the socket is empty, and epoll(7) reports further bytes.
                return Some(());
            }
        }
    }
}
