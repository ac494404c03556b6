//! What servers that tests stand up share: the thread that accepts, their TLS, and addresses of their own.
//!
//! Owns the thread, which ends on drop. Must not answer: who starts it does.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::Result;
use hookgate_testkit::pki::{KeyKind, Pki};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Accepts on a free port of 127.0.0.1 until it is dropped.
pub(crate) struct Acceptor {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Acceptor {
    /// Serves each connection on a thread of its own. `serve` gets a flag that is set when the server stops.
    pub(crate) fn start(serve: impl Fn(TcpStream, &AtomicBool) -> Result<()> + Send + Sync + 'static) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let stopping = Arc::<AtomicBool>::default();
        let (seen, serve) = (Arc::clone(&stopping), Arc::new(serve));
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if seen.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (seen, serve) = (Arc::clone(&seen), Arc::clone(&serve));
                // The test sees the effect of an error on the client.
                thread::spawn(move || drop(serve(stream, &seen)));
            }
        });
        Ok(Self { address, stopping, thread: Some(thread) })
    }

    /// Where it accepts.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // Wakes the thread, which then sees the flag.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// The TLS of a server with a certificate for `host` below the server root of `pki`, in files of this name.
pub(crate) fn server_config(pki: &Pki, name: &str, host: &str) -> Result<Arc<ServerConfig>> {
    let identity = pki.server(name, &[host], KeyKind::P256)?;
    let chain = CertificateDer::pem_file_iter(&identity.chain_path)?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(&identity.key_path)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.with_no_client_auth().with_single_cert(chain, key)?))
}

/// An address of this host that no other test has, so that fixed ports are free there.
pub(crate) fn own_address() -> Ipv4Addr {
    static COUNT: AtomicU8 = AtomicU8::new(0);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 100 + COUNT.fetch_add(1, Ordering::Relaxed), high, low)
}
