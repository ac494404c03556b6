//! The encrypted stream: rustls over a [`Socket`], first as a handshake, then as hyper's reader and writer.
//!
//! Owns the order of operations: decrypt what was received, encrypt what is written, queue it on the socket. Sets no timer: the
//! deadline sweep shuts the socket down, and the pending operation sees the end of the stream.

use std::future::poll_fn;
use std::io::{self, BufRead, IoSlice, Write as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};
use rustls::server::{Accepted, Acceptor, ClientHello};
use rustls::{AlertDescription, HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection};
use thiserror::Error;

use super::fault;
use super::intake::{Intake, announces_too_much, offers_old_version};
use super::server::HTTP_2;
use super::turn_away::{
    alert_and_end, answer_plainly, discard, flush_and_end, is_plain_http, plaintext_alert, too_large,
};
use super::verifier::observe;
use crate::proxy::header::{self, Flaw};
use crate::strangers::{Eviction, Step, Stranger};
use hookgate_core::identity::{self, ChainRefusal};
use hookgate_core::limits::CLIENT_HELLO_BYTES;
use hookgate_core::reject::{Refusal, Reject};
use hookgate_io::{Socket, submit_queued};

/// The longest record: header, 16 KiB, and what a suite adds (RFC 8446, 5.2).
const LARGEST_RECORD: usize = 5 + 16 * 1024 + 256;

/// What a peer may send without content: key updates, empty records, and what encryption adds to very small ones. rustls bounds how many such
/// records come in a row, and one byte begins a new row. A receive that ends within a record counts until the record is whole.
const CONTENTLESS_BYTES: usize = 3 * LARGEST_RECORD;

/// Ciphertext that may wait for the kernel before writers wait too, in bytes: four TLS records.
const QUEUE_MAX: usize = 64 * 1024;

/// How a handshake ended without a connection.
#[derive(Debug, Error)]
pub enum HandshakeError {
    /// The peer, or the deadline sweep, ended the stream before the handshake was complete.
    #[error("the peer closed the connection during the handshake")]
    Closed,
    /// The socket failed.
    #[error("the connection failed during the handshake: {0}")]
    Io(#[from] io::Error),
    /// rustls rejected the peer's bytes, or the peer sent an alert.
    #[error("{}", fault::sentence(.0))]
    Tls(#[from] rustls::Error),
    /// The verifier refused the client's certificate, and the provider wants an alert instead of an HTTP answer.
    #[error("{}", .0.refusal)]
    Refused(Box<ChainRefusal>),
    /// No configuration was chosen for this client; an `unrecognized_name` alert was sent.
    #[error("no route has this server name")]
    UnknownServerName,
    /// There is no certificate for this client yet; an `unrecognized_name` alert was sent.
    #[error("There is no certificate for this server name yet: an authority was asked for it.")]
    CertificateAwaited,
    /// The connection of a proxy begins with no header that hookgate takes; an `unexpected_message` alert was sent.
    #[error(transparent)]
    Header(Flaw),
    /// There is a header of the PROXY protocol where TLS must begin; an `unexpected_message` alert was sent.
    #[error(
        "A header of the PROXY protocol is where TLS must begin: the source is in no range of proxy_protocol in [listen], or this is its second header."
    )]
    UnexpectedHeader,
    /// The peer sent a request of plain HTTP; an answer of plain HTTP was sent.
    #[error("The peer speaks plain HTTP, and this port speaks TLS: use an https URL.")]
    PlainHttp,
    /// The ClientHello is longer than [`CLIENT_HELLO_BYTES`]; an `illegal_parameter` alert was sent.
    #[error("the ClientHello is longer than {CLIENT_HELLO_BYTES} bytes")]
    HelloTooLarge,
    /// The rest of the client's handshake is too long.
    #[error("the client's certificates and its other messages after the ClientHello take more than {limit} bytes")]
    FlightTooLarge {
        /// `max_presented_bytes`, and what the other messages need.
        limit: usize,
    },
    /// It gave way to others.
    #[error("{}", .0.refusal().detail())]
    Evicted(Eviction),
}

impl HandshakeError {
    /// Whether the peer, or the deadline sweep, closed the connection. Health checks of balancers often do that by a reset.
    pub fn is_end_of_stream(&self) -> bool {
        match self {
            Self::Closed => true,
            Self::Io(error) => error.kind() == io::ErrorKind::ConnectionReset,
            _ => false,
        }
    }

    /// The refusal that is counted and logged. `overdue` if the deadline sweep has shut the socket down: an end of the stream is
    /// then the sweep's, while an alert that was in transit keeps its own reason. `versions` are those of TLS that are served.
    pub fn refusal(&self, overdue: bool, versions: &str) -> Refusal {
        match self {
            Self::Closed | Self::Io(_) if overdue => {
                Refusal::new(Reject::HandshakeTimeout, "The handshake was not complete within handshake_timeout_ms.")
            }
            Self::Refused(refusal) => refusal.refusal.clone(),
            Self::UnknownServerName => Refusal::new(Reject::UnknownServerName, self.to_string()),
            Self::CertificateAwaited => Refusal::new(Reject::CertificateAwaited, self.to_string()),
            Self::Header(flaw) => flaw.refusal(),
            Self::UnexpectedHeader => Refusal::new(Reject::ProxyHeaderUnexpected, self.to_string()),
            Self::PlainHttp => Refusal::new(Reject::PlainHttp, self.to_string()),
            Self::HelloTooLarge => Refusal::new(Reject::HelloTooLarge, self.to_string()),
            Self::FlightTooLarge { .. } => {
                Refusal::new(Reject::ChainTooLarge, format!("{self} (max_presented_bytes and 16 KiB)."))
            }
            Self::Evicted(eviction) => eviction.refusal(),
            Self::Tls(rustls::Error::NoCertificatesPresented) => identity::no_certificate(),
            Self::Tls(error) => match fault::reason(error) {
                Reject::TlsVersion => Refusal::new(Reject::TlsVersion, fault::no_version(versions)),
                reject => Refusal::new(reject, fault::sentence(error)),
            },
            Self::Closed | Self::Io(_) => Refusal::new(Reject::HandshakeFailed, self.to_string()),
        }
    }
}

/// A client whose ClientHello has arrived.
pub struct Hello {
    socket: Socket,
    /// On the heap: it takes more than a kilobyte, and its owner is moved often.
    accepted: Box<Accepted>,
}

impl Hello {
    /// Reads the ClientHello.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`] if no ClientHello arrives; the alert of rustls, if it has one, was sent.
    pub async fn read(mut socket: Socket, stranger: &Stranger) -> Result<Self, HandshakeError> {
        let mut intake = Intake::hello(stranger);
        let mut acceptor = Acceptor::default();
        let mut first = true;
        loop {
            match intake.fill(&mut socket).await {
                Ok(()) if first && announces_too_much(socket.buffered()) => return Err(too_large(socket).await),
                Ok(()) if first && offers_old_version(socket.buffered()) => {
                    socket.consume(usize::MAX);
                    alert_and_end(&mut socket, Reject::TlsVersion).await;
                    return Err(rustls::Error::from(rustls::PeerIncompatible::Tls12NotOfferedOrEnabled).into());
                }
                Ok(()) if first && header::is_header(socket.buffered()) => {
                    socket.consume(usize::MAX);
                    alert_and_end(&mut socket, Reject::ProxyHeaderUnexpected).await;
                    return Err(HandshakeError::UnexpectedHeader);
                }
                Ok(()) if first && is_plain_http(socket.buffered()) => return Err(answer_plainly(socket).await),
                Ok(()) => first = false,
                Err(HandshakeError::HelloTooLarge) => return Err(too_large(socket).await),
                Err(error) => return Err(error),
            }
            while !socket.buffered().is_empty() {
                let count = acceptor.read_tls(&mut socket.buffered())?;
                socket.consume(count);
                match acceptor.accept() {
                    Ok(None) => {}
                    Ok(Some(accepted)) => return Ok(Self { socket, accepted: Box::new(accepted) }),
                    Err((error, mut alert)) => {
                        alert.write_all(socket.queue())?;
                        if socket.pending() == 0 && fault::is_out_of_order(&error) {
                            // rustls has no alert for a first message that is no ClientHello.
                            socket.queue().extend_from_slice(&plaintext_alert(AlertDescription::UnexpectedMessage));
                        }
                        flush_and_end(&mut socket).await;
                        return Err(error.into());
                    }
                }
            }
        }
    }

    /// The ClientHello.
    pub fn client_hello(&self) -> ClientHello<'_> {
        self.accepted.client_hello()
    }

    /// Refuses the client with an `unrecognized_name` alert (RFC 6066, section 3).
    pub async fn turn_away(mut self) -> HandshakeError {
        alert_and_end(&mut self.socket, Reject::UnknownServerName).await;
        HandshakeError::UnknownServerName
    }

    /// Refuses the client because there is no certificate for it yet.
    pub async fn turn_away_without_certificate(mut self) -> HandshakeError {
        alert_and_end(&mut self.socket, Reject::CertificateAwaited).await;
        HandshakeError::CertificateAwaited
    }

    /// Completes the handshake with `config`. The client may present a chain of `max_presented_bytes`.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`]; the alert of rustls, if it has one, was sent.
    pub async fn complete(
        self,
        config: Arc<ServerConfig>,
        stranger: &Stranger,
        max_presented_bytes: usize,
    ) -> Result<TlsStream, HandshakeError> {
        let Self { mut socket, accepted } = self;
        let mut intake = Intake::flight(stranger, max_presented_bytes)?;
        intake.turn(Step::Begin).await?;
        // A key exchange and a signature follow: the sends of other connections must not wait for them.
        submit_queued();
        let connection = match accepted.into_connection(config) {
            Ok(connection) => connection,
            Err((error, mut alert)) => {
                alert.write_all(socket.queue())?;
                flush_and_end(&mut socket).await;
                return Err(error.into());
            }
        };
        let mut stream = TlsStream {
            socket,
            connection: Box::new(connection),
            refused: None,
            ended: false,
            alerted: false,
            read: 0,
            is_admitted: false,
            without_content: 0,
            yields: false,
        };
        let outcome = stream.handshake(&mut intake).await;
        match outcome {
            Ok(()) => Ok(stream),
            Err(error) => {
                if matches!(error, HandshakeError::FlightTooLarge { .. }) {
                    // rustls sends no other alert on demand.
                    stream.connection.send_close_notify();
                }
                stream.encrypt()?;
                flush_and_end(&mut stream.socket).await;
                Err(error)
            }
        }
    }
}

/// An established TLS connection.
pub struct TlsStream {
    socket: Socket,
    connection: Box<ServerConnection>,
    /// The refusal of a chain that was judged during the handshake, which went on.
    refused: Option<Box<ChainRefusal>>,
    /// The peer's end of stream was seen.
    ended: bool,
    /// The peer broke TLS, and the alert about it is queued.
    alerted: bool,
    /// Plaintext bytes handed to the reader.
    read: u64,
    /// The chain of the peer is admitted.
    is_admitted: bool,
    /// Bytes that the peer has sent, without the plaintext in them; of an admitted one, since there was some.
    without_content: usize,
    /// The last receives had no content.
    yields: bool,
}

impl TlsStream {
    async fn handshake(&mut self, intake: &mut Intake<'_>) -> Result<(), HandshakeError> {
        // What came with the ClientHello is with rustls already: perhaps an alert, or what no client sends there.
        self.process()?;
        loop {
            self.decrypt()?;
            self.encrypt()?;
            // After a complete TLS 1.3 handshake only a ticket is queued, which the first flush of HTTP sends. It must not wait for an answer: it
            // acknowledges the client's last flight, for which Nagle's algorithm has the client hold its request back.
            let ticket_only = !self.connection.is_handshaking()
                && self.connection.protocol_version() == Some(ProtocolVersion::TLSv1_3);
            if !ticket_only {
                poll_fn(|context| self.socket.poll_drain(context)).await?;
            }
            if !self.connection.is_handshaking() {
                return Ok(());
            }
            intake.fill(&mut self.socket).await?;
            intake.turn(Step::Finish).await?;
            // The client's signature, and perhaps its chain, are verified next.
            submit_queued();
        }
    }

    /// Passes everything received to rustls.
    fn decrypt(&mut self) -> Result<(), HandshakeError> {
        while !self.socket.buffered().is_empty() && self.connection.wants_read() {
            let count = self.connection.read_tls(&mut self.socket.buffered())?;
            self.socket.consume(count);
            self.process()?;
        }
        Ok(())
    }

    /// Lets rustls look at what it has.
    fn process(&mut self) -> Result<(), HandshakeError> {
        let (_, refusal) =
            observe(|| self.connection.process_new_packets()).map_err(|(error, refusal)| match refusal {
                Some(refusal) => HandshakeError::Refused(refusal),
                None => error.into(),
            })?;
        if let Some(refusal) = refusal {
            self.refused = Some(refusal);
        }
        Ok(())
    }

    /// Counts bytes that rustls took.
    ///
    /// # Errors
    ///
    /// The peer has sent too much that is no content.
    fn weigh(&mut self, taken: usize) -> io::Result<()> {
        let has_content = self.connection.reader().fill_buf().is_ok_and(|plaintext| !plaintext.is_empty());
        if !has_content || !self.is_admitted {
            self.without_content = self.without_content.saturating_add(taken);
        }
        self.yields = !has_content && self.without_content > LARGEST_RECORD;
        match self.without_content > CONTENTLESS_BYTES {
            true => Err(io::Error::new(io::ErrorKind::InvalidData, "the peer sends records without content")),
            false => Ok(()),
        }
    }

    /// Counts plaintext that the reader gets.
    fn note_content(&mut self, count: usize) {
        self.read += count as u64;
        self.without_content = if self.is_admitted { 0 } else { self.without_content.saturating_sub(count) };
    }

    /// Queues everything that rustls wants to send.
    fn encrypt(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(self.socket.queue())?;
        }
        Ok(())
    }

    /// Lets receive buffers grow: the peer is admitted.
    pub fn allow_large_receives(&mut self) {
        self.is_admitted = true;
        self.socket.allow_large_receives();
    }

    /// The rustls connection: server name, version, peer certificates, handshake kind.
    pub fn connection(&self) -> &ServerConnection {
        &self.connection
    }

    /// The refusal of the peer's chain, if it was judged during the handshake, which went on. Absent afterwards.
    pub fn take_refusal(&mut self) -> Option<ChainRefusal> {
        self.refused.take().map(|refusal| *refusal)
    }

    /// Whether the handshake resumed an earlier session.
    pub fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Whether the peer chose HTTP/2.
    pub fn is_http2(&self) -> bool {
        self.connection.alpn_protocol() == Some(HTTP_2)
    }

    /// Plaintext bytes handed to the reader since the handshake.
    pub fn bytes_read(&self) -> u64 {
        self.read
    }

    /// Writes all of `bytes` and waits until the kernel has taken them.
    ///
    /// # Errors
    ///
    /// If the socket fails.
    pub async fn send_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = poll_fn(|context| Pin::new(&mut *self).poll_write(context, bytes)).await?;
            bytes = &bytes[count..];
        }
        poll_fn(|context| Pin::new(&mut *self).poll_flush(context)).await
    }

    /// Waits until the peer sends something or ends the stream, without buffers. Call it when everything received was read and
    /// everything written was flushed. If the socket fails, the next read returns the error.
    pub async fn rest(&mut self) {
        poll_fn(|context| self.socket.poll_rest(context)).await;
    }

    /// Ends the stream: `close_notify`, then the end of the TCP stream.
    ///
    /// # Errors
    ///
    /// If the socket fails.
    pub async fn close(&mut self) -> io::Result<()> {
        poll_fn(|context| Pin::new(&mut *self).poll_shutdown(context)).await
    }

    /// Whether the peer broke TLS after its handshake, so that nothing but the alert about it can be sent: see
    /// [`TlsStream::end_with_alert`].
    pub fn is_alerted(&self) -> bool {
        self.alerted
    }

    /// Ends the stream before a request: `close_notify`, and what the peer still sends is discarded, within bounds.
    pub async fn end_at_once(mut self) {
        self.connection.send_close_notify();
        if self.encrypt().is_ok() {
            flush_and_end(&mut self.socket).await;
        }
    }

    /// Sends the alert that is queued, and ends the stream as after a failed handshake.
    pub async fn end_with_alert(&mut self) {
        flush_and_end(&mut self.socket).await;
    }

    /// Reads and discards what the peer sends, until it ends the stream or `limit` bytes of ciphertext have arrived. After an answer
    /// to a request that was not read to its end, this keeps the kernel from resetting the connection before the peer has read
    /// the answer. Calls `received` after each receive.
    pub async fn linger(&mut self, limit: usize, received: impl Fn()) {
        discard(&mut self.socket, limit, received).await;
    }
}

impl TlsStream {
    /// Lets `take` have plaintext, of which it returns how much it has taken. Returns without calling it at the end of the stream.
    ///
    /// # Errors
    ///
    /// The socket failed, or the peer broke TLS.
    #[inline]
    pub fn poll_take(&mut self, context: &mut Context<'_>, take: impl FnOnce(&[u8]) -> usize) -> Poll<io::Result<()>> {
        let this = self;
        loop {
            match this.connection.reader().fill_buf() {
                Ok([]) => return Poll::Ready(Ok(())),
                Ok(plaintext) => {
                    let count = take(plaintext);
                    this.connection.reader().consume(count);
                    this.note_content(count);
                    return Poll::Ready(Ok(()));
                }
                // No plaintext yet.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The peer ended the stream without a close_notify: the framing of HTTP shows whether something is missing.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Poll::Ready(Ok(())),
                Err(error) => return Poll::Ready(Err(error)),
            }
            if this.ended {
                return Poll::Ready(Ok(()));
            }
            // What has no content has its turn, and then others.
            if std::mem::take(&mut this.yields) {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let received = ready!(this.socket.poll_fill(context))?;
            if received == 0 {
                this.ended = true;
                let _ = this.connection.read_tls(&mut io::empty())?;
            }
            let waiting = this.socket.buffered().len();
            if let Err(error) = this.decrypt() {
                this.encrypt()?;
                this.alerted = true;
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
            }
            // A key update or a close_notify may require an answer.
            this.encrypt()?;
            // rustls takes no more while it has much for the reader; the rest comes again.
            this.weigh(waiting - this.socket.buffered().len())?;
        }
    }
}

impl Read for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_take(context, |plaintext| {
            let count = plaintext.len().min(buffer.remaining());
            buffer.put_slice(&plaintext[..count]);
            count
        })
    }
}

impl Write for TlsStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Head and body in one record, without joining them first.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.socket.pending() >= QUEUE_MAX {
            ready!(this.socket.poll_drain(context))?;
        }
        // rustls takes at most its buffer's limit, 64 KiB.
        let count = this.connection.writer().write_vectored(slices)?;
        this.encrypt()?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_drain(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        // rustls ignores a second request.
        this.connection.send_close_notify();
        this.encrypt()?;
        this.socket.poll_finish(context)
    }
}

#[cfg(test)]
mod tests {
    use hookgate_core::identity::OnFailure;

    use super::*;

    #[test]
    fn a_failed_handshake_has_the_reason_of_what_ended_it() {
        let check = |error: &HandshakeError, overdue, expected| {
            assert_eq!(error.refusal(overdue, "1.2 and 1.3").reject, expected, "{error:?} {overdue}");
        };
        let reset = || HandshakeError::Io(io::ErrorKind::ConnectionReset.into());
        check(&HandshakeError::Closed, false, Reject::HandshakeFailed);
        check(&HandshakeError::Closed, true, Reject::HandshakeTimeout);
        check(&reset(), false, Reject::HandshakeFailed);
        check(&reset(), true, Reject::HandshakeTimeout);
        assert!(HandshakeError::Closed.is_end_of_stream() && reset().is_end_of_stream());
        assert!(!HandshakeError::Io(io::ErrorKind::Other.into()).is_end_of_stream());
        check(&HandshakeError::Tls(rustls::Error::DecryptError), true, Reject::HandshakeFailed);
        check(&HandshakeError::Tls(rustls::Error::NoCertificatesPresented), true, Reject::NoCertificate);
        check(&HandshakeError::UnknownServerName, true, Reject::UnknownServerName);
        check(&HandshakeError::Header(Flaw::Missing), true, Reject::ProxyHeaderMissing);
        check(&HandshakeError::Header(Flaw::LongLine), false, Reject::ProxyHeaderInvalid);
        check(&HandshakeError::UnexpectedHeader, true, Reject::ProxyHeaderUnexpected);
        let refusal = Refusal::new(Reject::CertificateExpired, "It expired.");
        let refusal = ChainRefusal::unidentified(refusal, OnFailure::Abort);
        check(&HandshakeError::Refused(Box::new(refusal)), true, Reject::CertificateExpired);
    }
}
