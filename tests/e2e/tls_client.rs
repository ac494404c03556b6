//! A TLS client under the control of a test: rustls over a socket, for behaviour that depends on when bytes arrive and on how the
//! connection ends. For all else, tests use curl and OpenSSL.
//!
//! Owns the socket. Must not interpret more than HTTP heads and bodies.

use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hookgate_testkit::configuration::HOST;
use hookgate_testkit::http::{self, Response};
use hookgate_testkit::pki::{ClientIdentity, Pki};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::environment::SOON;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With a `close_notify`: the data is complete.
    Orderly,
    /// Without one, or by a reset: the data may be incomplete.
    Cut,
    /// Not within the limit.
    Open,
}

/// Makes connections to one daemon, with one certificate.
#[derive(Clone)]
pub(crate) struct TlsClient {
    config: Arc<ClientConfig>,
    port: u16,
    server_name: &'static str,
}

impl TlsClient {
    /// A client for 127.0.0.1:`port` with `identity`. It resumes sessions, as a frequent sender does.
    pub(crate) fn new(port: u16, pki: &Pki, identity: &ClientIdentity) -> Result<Self> {
        Self::with(port, pki, Some(identity))
    }

    /// As [`TlsClient::new`], without a certificate.
    pub(crate) fn without_certificate(port: u16, pki: &Pki) -> Result<Self> {
        Self::with(port, pki, None)
    }

    /// As [`TlsClient::new`], with the groups and suites of `provider`.
    pub(crate) fn of_provider(
        port: u16,
        pki: &Pki,
        identity: &ClientIdentity,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self> {
        Self::built(port, pki, Some(identity), provider)
    }

    fn with(port: u16, pki: &Pki, identity: Option<&ClientIdentity>) -> Result<Self> {
        Self::built(port, pki, identity, Arc::new(rustls::crypto::ring::default_provider()))
    }

    fn built(port: u16, pki: &Pki, identity: Option<&ClientIdentity>, provider: Arc<CryptoProvider>) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(pki.server_root().der().to_vec()))?;
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let config = config.with_root_certificates(roots);
        let config = match identity {
            Some(identity) => {
                let chain = identity.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
                config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&identity.key_path)?)?
            }
            None => config.with_no_client_auth(),
        };
        Ok(Self { config: Arc::new(config), port, server_name: HOST })
    }

    /// The same, which offers these protocols by ALPN.
    pub(crate) fn speaking(mut self, protocols: &[&[u8]]) -> Self {
        let config = Arc::make_mut(&mut self.config);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        self
    }

    /// The same for another server name than [`HOST`].
    pub(crate) fn at(self, server_name: &'static str) -> Self {
        Self { server_name, ..self }
    }

    /// Connects, and completes the handshake.
    pub(crate) fn connect(&self) -> Result<TlsConnection> {
        self.handshake(self.connect_tcp()?)
    }

    /// Connects without a handshake.
    pub(crate) fn connect_tcp(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SOON))?;
        stream.set_write_timeout(Some(SOON))?;
        Ok(stream)
    }

    /// A connection whose kernel takes little ahead of its reader: some kilobytes.
    pub(crate) fn connect_narrow(&self) -> Result<TlsConnection> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.set_recv_buffer_size(4096)?;
        socket.connect(&SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.port).into())?;
        socket.set_read_timeout(Some(SOON))?;
        self.handshake(socket.into())
    }

    /// The client's side of a handshake that has not begun.
    pub(crate) fn connection(&self) -> Result<ClientConnection> {
        Ok(ClientConnection::new(Arc::clone(&self.config), ServerName::try_from(self.server_name)?)?)
    }

    /// Completes the handshake on `stream`.
    pub(crate) fn handshake(&self, stream: TcpStream) -> Result<TlsConnection> {
        Self::proceed(self.connection()?, stream)
    }

    /// Completes the handshake of `connection`, from where it is, on `stream`.
    pub(crate) fn proceed(connection: ClientConnection, stream: TcpStream) -> Result<TlsConnection> {
        let mut stream = StreamOwned::new(connection, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).context("handshake")?;
        }
        Ok(TlsConnection { stream: BufReader::new(stream) })
    }
}

/// An established connection.
pub(crate) struct TlsConnection {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
}

impl TlsConnection {
    /// Sends `bytes`.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())?;
        self.stream.get_mut().flush()
    }

    /// Reads one final response. Fails if the connection ends, or nothing arrives, before the end of the response.
    pub(crate) fn response(&mut self) -> Result<Response> {
        Response::read(&mut self.stream)?.context("the connection ended before a response")
    }

    /// Sends `request`, and reads the response.
    pub(crate) fn ask(&mut self, request: impl AsRef<[u8]>) -> Result<Response> {
        self.send(request)?;
        self.response()
    }

    /// Reads up to and including `wanted`, for at most `limit`.
    pub(crate) fn read_until(&mut self, wanted: &str, limit: Duration) -> Result<String> {
        let mut seen = Vec::new();
        let deadline = Instant::now() + limit;
        while !seen.windows(wanted.len()).any(|window| window == wanted.as_bytes()) {
            let mut byte = [0];
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.socket().set_read_timeout(Some(left))?;
            let count = self.stream.read(&mut byte).with_context(|| format!("no {wanted:?} in {seen:?}"))?;
            ensure!(count == 1, "no {wanted:?} in {:?}", String::from_utf8_lossy(&seen));
            seen.push(byte[0]);
        }
        self.socket().set_read_timeout(Some(SOON))?;
        Ok(String::from_utf8_lossy(&seen).into_owned())
    }

    /// Reads until the connection ends, for at most `limit`.
    pub(crate) fn end(&mut self, limit: Duration) -> Result<(Vec<u8>, End)> {
        self.read(usize::MAX, limit)
    }

    /// Reads until `count` bytes or more have arrived, or the connection ends.
    pub(crate) fn take(&mut self, count: usize) -> Result<(Vec<u8>, End)> {
        self.read(count, SOON)
    }

    fn read(&mut self, most: usize, limit: Duration) -> Result<(Vec<u8>, End)> {
        let mut seen = Vec::new();
        let mut piece = [0; 16 * 1024];
        let deadline = Instant::now() + limit;
        while seen.len() < most {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.socket().set_read_timeout(Some(left))?;
            match self.stream.read(&mut piece) {
                Ok(0) => return Ok((seen, End::Orderly)),
                Ok(count) => seen.extend_from_slice(&piece[..count]),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => break,
                    ErrorKind::Interrupted => {}
                    ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                        return Ok((seen, End::Cut));
                    }
                    _ => return Err(error.into()),
                },
            }
        }
        Ok((seen, End::Open))
    }

    /// The protocol that ALPN has chosen.
    pub(crate) fn protocol(&self) -> Option<&[u8]> {
        self.stream.get_ref().conn.alpn_protocol()
    }

    /// Reads at most `count` bytes of ciphertext, and discards them: nothing can be read from the connection afterwards, but its speed is
    /// that of the reader. 0 is the end of the stream.
    pub(crate) fn discard(&mut self, count: usize) -> io::Result<usize> {
        self.stream.get_mut().sock.read(&mut vec![0; count])
    }

    /// Sends `bytes` as they are, not in a TLS record.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().sock.write_all(bytes)
    }

    /// Sends so many key updates (RFC 8446, section 4.6.3), each with a byte of content if `has_content`.
    pub(crate) fn update_keys(&mut self, count: usize, has_content: bool) -> Result<()> {
        let stream = self.stream.get_mut();
        for _ in 0..count {
            stream.conn.refresh_traffic_keys()?;
            if has_content {
                stream.conn.writer().write_all(b"x")?;
            }
            while stream.conn.wants_write() {
                stream.conn.write_tls(&mut stream.sock)?;
            }
        }
        Ok(())
    }

    /// Reads until the connection ends, and returns the alert that ended it.
    pub(crate) fn alert(&mut self) -> Result<AlertDescription> {
        let error = self.end(SOON).err().context("the connection ended without a fatal alert")?;
        let error = error.downcast::<io::Error>()?.into_inner().context("not an error of TLS")?;
        match error.downcast_ref() {
            Some(rustls::Error::AlertReceived(alert)) => Ok(*alert),
            _ => bail!("not an alert: {error}"),
        }
    }

    /// Closes the sending direction.
    pub(crate) fn finish_sending(&mut self) -> Result<()> {
        let stream = self.stream.get_mut();
        stream.conn.send_close_notify();
        stream.flush()?;
        Ok(stream.sock.shutdown(Shutdown::Write)?)
    }

    /// Closes the socket with a reset, as the kernel does for a killed peer.
    pub(crate) fn reset(self) -> Result<()> {
        Ok(socket2::SockRef::from(self.socket()).set_linger(Some(Duration::ZERO))?)
    }

    fn socket(&self) -> &TcpStream {
        &self.stream.get_ref().sock
    }
}

/// A request for [`HOST`] as bytes, with a Content-Length.
pub(crate) fn request(method: &str, target: &str, body: &[u8]) -> Vec<u8> {
    http::request(method, target, HOST, &[], body)
}
