//! A real publisher for tests: right and wrong answers, over TLS or without.
//!
//! Owns its port and its task, which ends when it is dropped. Must not judge its clients.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::{Fetcher, tls_settings};
use crate::config::{Feed, FeedUrl, FetchLimits};

/// A name that stands for a public host: in tests it leads to loopback, whatever the configuration says of private addresses.
pub(in crate::control) const PUBLIC_NAME: &str = "publisher.example";

/// A publisher on loopback, over real TLS or without, which answers as the test says.
pub(in crate::control) struct Server {
    pub(in crate::control) address: SocketAddr,
    pub(in crate::control) roots: RootCertStore,
    certificate: CertificateDer<'static>,
    hits: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
    is_plain: bool,
    answer: watch::Sender<Answer>,
    task: JoinHandle<()>,
}

/// What the server does with a request.
#[derive(Clone)]
pub(in crate::control) enum Answer {
    /// These bytes, and then the end of the connection.
    Bytes(Vec<u8>),
    /// These bytes, and then silence.
    Stall(Vec<u8>),
    /// The first bytes, and then the second ones without end.
    Endless(Vec<u8>, Vec<u8>),
    /// The end of the connection.
    Close,
}

impl Server {
    pub(in crate::control) async fn start(answer: Answer) -> Self {
        Self::start_as(answer, false).await
    }

    /// Without TLS.
    pub(in crate::control) async fn start_plain(answer: Answer) -> Self {
        Self::start_as(answer, true).await
    }

    async fn start_as(answer: Answer, is_plain: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), PUBLIC_NAME.to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certified.cert.der().clone()).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(crate::crypto::provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (hits, heads) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (answer, receiver) = watch::channel(answer);
        let task = tokio::spawn({
            let (hits, heads) = (Arc::clone(&hits), Arc::clone(&heads));
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    hits.fetch_add(1, Ordering::Relaxed);
                    let (acceptor, answer, heads) = (acceptor.clone(), receiver.borrow().clone(), Arc::clone(&heads));
                    tokio::spawn(async move {
                        match is_plain {
                            true => serve(stream, answer, &heads).await,
                            false => serve(acceptor.accept(stream).await.ok()?, answer, &heads).await,
                        }
                    });
                }
            }
        });
        Self { address, roots, certificate: certified.cert.der().clone(), hits, heads, is_plain, answer, task }
    }

    pub(in crate::control) fn answer(&self, answer: Answer) {
        self.answer.send_replace(answer);
    }

    /// What `ca_file` would have.
    pub(in crate::control) fn certificates(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.clone()]
    }

    pub(in crate::control) fn hits(&self) -> usize {
        self.hits.load(Ordering::Relaxed)
    }

    /// What is published here, within these bounds.
    pub(in crate::control) fn feed(&self, limits: FetchLimits) -> Feed {
        let scheme = if self.is_plain { "http" } else { "https" };
        let url = FeedUrl::parse_signed(&format!("{scheme}://{}/keys?v=3", self.address)).unwrap();
        Feed { url, limits: FetchLimits { allow_private: true, ..limits }, roots: Some(self.certificates()) }
    }

    /// The same as from a public host, with no other address than public ones allowed.
    pub(in crate::control) fn public_feed(&self, limits: FetchLimits) -> Feed {
        let scheme = if self.is_plain { "http" } else { "https" };
        let url = FeedUrl::parse_signed(&format!("{scheme}://{PUBLIC_NAME}:{}/keys?v=3", self.address.port())).unwrap();
        Feed { url, limits: FetchLimits { allow_private: false, ..limits }, roots: Some(self.certificates()) }
    }

    pub(in crate::control) fn fetcher(&self, limits: FetchLimits) -> Fetcher {
        Fetcher::new(&self.feed(limits), tls_settings(self.roots.clone()).unwrap(), "*/*", self.is_plain)
    }

    /// The heads of all requests.
    pub(in crate::control) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves one connection. An error ends it: the peer may close at any time.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: Answer,
    heads: &Mutex<Vec<String>>,
) -> Option<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.ok()?);
    }
    assert!(request.starts_with(b"GET /keys?v=3 HTTP/1.1\r\n"), "{}", request.escape_ascii());
    heads.lock().unwrap().push(String::from_utf8(request).unwrap().to_lowercase());
    let (first, rest) = match &answer {
        Answer::Bytes(bytes) | Answer::Stall(bytes) => (bytes, None),
        Answer::Endless(bytes, again) => (bytes, Some(again)),
        Answer::Close => return Some(()),
    };
    stream.write_all(first).await.ok()?;
    stream.flush().await.ok()?;
    if matches!(answer, Answer::Stall(_)) {
        std::future::pending::<()>().await;
    }
    while let Some(again) = rest {
        stream.write_all(again).await.ok()?;
    }
    stream.shutdown().await.ok()
}

/// A complete answer.
pub(in crate::control) fn http(status: &str, fields: &str, body: impl AsRef<[u8]>) -> Answer {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{fields}\r\n", body.len());
    Answer::Bytes([head.as_bytes(), body].concat())
}
