//! The handler that every server under test hands its requests to: HTTP/1.1 on a Unix socket, as little work as can be.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use anyhow::{Context, Result};

use crate::http::{ANSWER, MessageReader};
use crate::poll::Poll;

/// The token of the listener; connections have their place in the table.
const LISTENER: u64 = u64::MAX;

/// Size of one read: a 1 MiB body takes eight.
const PIECE_BYTES: usize = 128 * 1024;

struct Connection {
    stream: UnixStream,
    reader: MessageReader,
}

/// Serves `socket` until the process is ended.
///
/// # Errors
///
/// The socket cannot be bound, or epoll fails.
pub(crate) fn serve(socket: &Path) -> Result<()> {
    drop(fs::remove_file(socket));
    let listener = UnixListener::bind(socket).with_context(|| format!("binding {}", socket.display()))?;
    // std asks for a backlog of 128 or more, which depends on its version; this many never wait at once here.
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
    /// Reads what is there and answers what is complete; `None` once the connection is of no more use.
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
                    // An answer is far smaller than a socket's buffer, so a short write means a peer that reads nothing.
                    Ok(Some(_)) => self.stream.write_all(ANSWER).ok()?,
                    Ok(None) => {}
                    Err(error) => {
                        eprintln!("handler: {error:#}");
                        return None;
                    }
                }
            }
            if length < piece.len() {
                // Less than asked for: the socket is empty, and the next event tells when it is not (epoll(7)).
                return Some(());
            }
        }
    }
}
