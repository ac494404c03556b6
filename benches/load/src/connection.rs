//! One client connection: TCP, TLS if configured, one request at a time, an orderly close.
//!
//! Owns the socket and its pending data. Must not wait: [`Connection::progress`] does what is possible now. Must not decide when units
//! begin and which count: `load` does.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, NamedGroup};
use rustls_pki_types::ServerName;

use crate::http::{MessageReader, StartLine};
use crate::poll::Ready;

/// What all connections of a load share.
pub(crate) struct Target {
    /// The address of the server.
    pub(crate) address: SocketAddr,
    /// `None` for no TLS.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// Name for SNI.
    pub(crate) server_name: ServerName<'static>,
    /// The bytes of one request.
    pub(crate) request: Vec<u8>,
    /// The address to connect from.
    pub(crate) from: Option<Ipv4Addr>,
}

impl Target {
    /// A target with this name at this address.
    pub(crate) fn new(
        address: SocketAddr,
        tls: Option<Arc<ClientConfig>>,
        name: &str,
        request: Vec<u8>,
    ) -> Result<Self> {
        let server_name = ServerName::try_from(name.to_owned()).context("server name")?;
        Ok(Self { address, tls, server_name, request, from: None })
    }
}

/// An event of [`Connection::progress`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Connected, with the handshake completed: a request may be sent.
    Established,
    /// The response to the request is complete.
    Answered(u16),
    /// Both sides have closed.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Opening,
    Idle,
    Requesting { sent: usize },
    Closing,
    Closed,
}

/// The result of a handshake.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Handshake {
    /// The cipher suite. The first letters of its IANA name tell TLS 1.3 from 1.2.
    pub(crate) suite: rustls::CipherSuite,
    /// The key exchange group; `None` for a resumption with TLS 1.2, which has no key exchange.
    pub(crate) group: Option<NamedGroup>,
    /// Whether a session was resumed.
    pub(crate) kind: HandshakeKind,
}

/// One connection.
pub(crate) struct Connection {
    stream: Stream,
    tls: Option<Box<ClientConnection>>,
    phase: Phase,
    half_closed: bool,
    reader: MessageReader,
    /// When the present unit began, or was due.
    pub(crate) began: Instant,
}

impl Connection {
    /// Begins to connect.
    ///
    /// # Errors
    ///
    /// No socket or no port is free, or the TLS configuration does not match.
    pub(crate) fn open(target: &Target, began: Instant) -> Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        if let Some(from) = target.from {
            rustix::net::bind(&socket, &SocketAddr::from((from, 0))).with_context(|| format!("binding to {from}"))?;
        }
        match rustix::net::connect(&socket, &target.address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error).with_context(|| format!("connecting to {}", target.address)),
        }
        let socket = TcpStream::from(socket);
        socket.set_nodelay(true)?;
        let tls = match &target.tls {
            None => None,
            Some(config) => Some(Box::new(ClientConnection::new(Arc::clone(config), target.server_name.clone())?)),
        };
        let stream = Stream { socket, readable: false, writable: false, ended: false };
        Ok(Self { stream, tls, phase: Phase::Opening, half_closed: false, reader: MessageReader::default(), began })
    }

    /// What to register for events.
    pub(crate) fn source(&self) -> BorrowedFd<'_> {
        self.stream.socket.as_fd()
    }

    /// Records what the socket is ready for.
    pub(crate) fn ready(&mut self, ready: Ready) {
        self.stream.readable |= ready.readable;
        self.stream.writable |= ready.writable;
    }

    /// Whether a request may be sent.
    pub(crate) fn is_idle(&self) -> bool {
        self.phase == Phase::Idle
    }

    /// Whether both sides have closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Begins to send the request. The connection must be idle.
    pub(crate) fn send_request(&mut self, began: Instant) {
        debug_assert!(self.is_idle(), "one request at a time");
        self.phase = Phase::Requesting { sent: 0 };
        self.began = began;
    }

    /// Begins to close: sends the close to the peer, and then expects that of the peer.
    pub(crate) fn close(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
        }
        self.phase = Phase::Closing;
    }

    /// The result of the handshake; `None` without TLS.
    ///
    /// # Errors
    ///
    /// The handshake is not complete.
    pub(crate) fn handshake(&self) -> Result<Option<Handshake>> {
        let Some(tls) = &self.tls else { return Ok(None) };
        Ok(Some(Handshake {
            suite: tls.negotiated_cipher_suite().context("no cipher suite yet")?.suite(),
            group: tls.negotiated_key_exchange_group().map(rustls::crypto::SupportedKxGroup::name),
            kind: tls.handshake_kind().context("no handshake yet")?,
        }))
    }

    /// Does what is possible without waiting, up to the next [`Step`]. `None` if only waiting remains.
    ///
    /// # Errors
    ///
    /// The peer closed too early, or sent something unexpected.
    pub(crate) fn progress(&mut self, request: &[u8], scratch: &mut [u8]) -> Result<Option<Step>> {
        loop {
            self.write(request)?;
            if let Some(step) = self.transition()? {
                return Ok(Some(step));
            }
            if !self.stream.readable || self.phase == Phase::Closed {
                return Ok(None);
            }
            if let Some(step) = self.read(scratch)? {
                return Ok(Some(step));
            }
        }
    }

    /// Steps that need no further bytes.
    fn transition(&mut self) -> Result<Option<Step>> {
        let established = match &self.tls {
            Some(tls) => !tls.is_handshaking() && !tls.wants_write(),
            None => self.stream.writable,
        };
        match self.phase {
            Phase::Opening if established => {
                self.phase = Phase::Idle;
                Ok(Some(Step::Established))
            }
            Phase::Closing if self.stream.ended => {
                self.phase = Phase::Closed;
                Ok(Some(Step::Closed))
            }
            Phase::Opening | Phase::Idle | Phase::Requesting { .. } if self.stream.ended => {
                bail!("the server closed a connection that was {:?}", self.phase)
            }
            _ => Ok(None),
        }
    }

    fn write(&mut self, request: &[u8]) -> Result<()> {
        let mut sent = match self.phase {
            Phase::Requesting { sent } => sent,
            _ => request.len(),
        };
        while self.stream.writable {
            let Some(tls) = &mut self.tls else {
                if sent == request.len() {
                    break;
                }
                sent += self.stream.write_some(&request[sent..])?;
                continue;
            };
            if sent < request.len() {
                sent += tls.writer().write(&request[sent..])?;
            }
            if !tls.wants_write() {
                break;
            }
            match tls.write_tls(&mut self.stream) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("sending"),
            }
        }
        if let Phase::Requesting { sent: place } = &mut self.phase {
            *place = sent;
        }
        let flushed = self.tls.as_ref().is_none_or(|tls| !tls.wants_write());
        if self.phase == Phase::Closing && flushed && !self.half_closed {
            self.half_closed = true;
            // Fails if the peer has closed already, which a read will show.
            drop(self.stream.socket.shutdown(Shutdown::Write));
        }
        Ok(())
    }

    fn read(&mut self, scratch: &mut [u8]) -> Result<Option<Step>> {
        let closing = self.phase == Phase::Closing;
        let Some(tls) = &mut self.tls else {
            let length = match self.stream.read(scratch) {
                Ok(length) => length,
                Err(error) => return self.broken(error, closing),
            };
            return self.receive(&scratch[..length]);
        };
        match tls.read_tls(&mut self.stream) {
            Ok(_) => {}
            Err(error) => return self.broken(error, closing),
        }
        let state = tls.process_new_packets()?;
        if state.peer_has_closed() {
            // rustls reads no more, so further bytes would keep the socket readable forever.
            self.stream.ended = true;
        }
        let mut length = 0;
        if state.plaintext_bytes_to_read() > 0 {
            ensure!(
                state.plaintext_bytes_to_read() <= scratch.len(),
                "a response that is longer than that of the handler"
            );
            length = tls.reader().read(&mut scratch[..state.plaintext_bytes_to_read()])?;
        }
        self.receive(&scratch[..length])
    }

    /// Handles an error of a read.
    fn broken(&mut self, error: io::Error, closing: bool) -> Result<Option<Step>> {
        match error.kind() {
            ErrorKind::WouldBlock => Ok(None),
            // If the server closes before it reads the close_notify, the kernel resets. The unit has ended by then.
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe if closing => {
                self.stream.ended = true;
                Ok(None)
            }
            _ => Err(error).with_context(|| format!("receiving while {:?}", self.phase)),
        }
    }

    fn receive(&mut self, mut plaintext: &[u8]) -> Result<Option<Step>> {
        if plaintext.is_empty() || self.phase == Phase::Closing {
            return Ok(None);
        }
        ensure!(matches!(self.phase, Phase::Requesting { .. }), "{} bytes without a request", plaintext.len());
        let Some(start) = self.reader.take(&mut plaintext)? else { return Ok(None) };
        ensure!(plaintext.is_empty(), "bytes after the response");
        let StartLine::Response(status) = start else { bail!("a request instead of a response") };
        self.phase = Phase::Idle;
        Ok(Some(Step::Answered(status)))
    }
}

/// A socket that remembers from edge-triggered events whether a system call can succeed.
struct Stream {
    socket: TcpStream,
    readable: bool,
    writable: bool,
    ended: bool,
}

impl Stream {
    /// Writes as much as possible without waiting.
    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.write(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            other => other,
        }
    }

    /// Clears `ready` if the operation would block.
    fn note<T>(ready: &mut bool, result: io::Result<T>) -> io::Result<T> {
        if matches!(&result, Err(error) if error.kind() == ErrorKind::WouldBlock) {
            *ready = false;
        }
        result
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = Self::note(&mut self.readable, self.socket.read(buffer))?;
        if length == 0 {
            self.ended = true;
            self.readable = false;
        }
        Ok(length)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::note(&mut self.writable, self.socket.write(bytes))
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        Self::note(&mut self.writable, self.socket.write_vectored(slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
