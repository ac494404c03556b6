//! Connections at a fixed rate, each with a full handshake and one request.
//!
//! Open loop: a connection begins when it is due, independent of those before it, so a pause of the server shows as latency, and
//! the end of the pause as a burst. Owns what a good response is. Must not judge how many may fail: tests do.

use std::io::{BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hookgate_testkit::configuration::HOST;
use hookgate_testkit::http::{self, Response};
use hookgate_testkit::pki::ClientIdentity;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::container::Container;
use crate::environment::{Environment, PATH};

/// Connections that are due in a second.
const RATE: f64 = 200.0;

/// The lowest rate that is still a load. A busy machine with a debug binary does not reach [`RATE`]; the actual rate is printed.
const LEAST_RATE: f64 = 40.0;

/// Concurrent connections: at [`RATE`], connections begin in time during a pause of half a second.
const SENDERS: usize = 100;

/// How long any step of a connection may take. A provider waits no longer than 5 s (PagerDuty's documentation).
const PATIENCE: Duration = Duration::from_secs(5);

/// Most failures of which the errors are kept.
const MAXIMUM_KEPT: usize = 10;

/// The result of a load.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) served: u64,
    pub(crate) failed: u64,
    /// The errors of the first failures.
    pub(crate) failures: Vec<String>,
    /// The longest time from when a connection was due to the last byte of its response.
    pub(crate) slowest: Duration,
    pub(crate) lasted: Duration,
}

impl Outcome {
    /// Fails unless all requests were served, at [`LEAST_RATE`] or more.
    pub(crate) fn expect_flawless(&self, container: &Container) {
        let rate = self.served as f64 / self.lasted.as_secs_f64();
        let (served, slowest) = (self.served, self.slowest);
        println!(
            "{served} connections, {rate:.0} a second of the {RATE} that were due; the slowest response after {slowest:.1?}"
        );
        assert_eq!(self.failed, 0, "{self:#?}\n{}", container.journal());
        assert!(rate > LEAST_RATE, "too few connections to be a load: {self:?}");
    }
}

struct Shared {
    client: Mutex<Arc<ClientConfig>>,
    began: Instant,
    next: AtomicU64,
    done: AtomicBool,
    outcome: Mutex<Outcome>,
}

/// Held by a running load: concurrent loads would share the cores.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A running load; ended on drop.
pub(crate) struct Load {
    shared: Arc<Shared>,
    senders: Vec<JoinHandle<()>>,
    _turn: MutexGuard<'static, ()>,
}

impl Load {
    /// Begins a load with the certificate of `environment`.
    pub(crate) fn start(environment: &Environment) -> Self {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = Arc::new(Shared {
            client: Mutex::new(client(environment, &environment.identity)),
            began: Instant::now(),
            next: AtomicU64::new(0),
            done: AtomicBool::new(false),
            outcome: Mutex::default(),
        });
        let senders = (0..SENDERS).map(|_| {
            let shared = Arc::clone(&shared);
            let network = environment.container.network();
            thread::spawn(move || {
                network.enter();
                send_all(&shared);
            })
        });
        Self { senders: senders.collect(), shared, _turn: turn }
    }

    /// Changes the certificate of all further connections.
    pub(crate) fn identify(&self, environment: &Environment, identity: &ClientIdentity) {
        *self.shared.client.lock().unwrap() = client(environment, identity);
    }

    /// Begins no more connections, and waits for those under way.
    pub(crate) fn stop(mut self) -> Outcome {
        let lasted = self.shared.began.elapsed();
        self.end();
        Outcome { lasted, ..std::mem::take(&mut *self.shared.outcome.lock().unwrap()) }
    }

    fn end(&mut self) {
        self.shared.done.store(true, Ordering::Relaxed);
        self.senders.drain(..).for_each(|sender| drop(sender.join()));
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

/// A client that makes a full handshake each time.
fn client(environment: &Environment, identity: &ClientIdentity) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(environment.pki.server_root().path()).unwrap()).unwrap();
    let chain = CertificateDer::pem_file_iter(&identity.chain_path).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(&identity.key_path).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut client = builder.with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap();
    client.resumption = Resumption::disabled();
    Arc::new(client)
}

fn send_all(shared: &Shared) {
    while !shared.done.load(Ordering::Relaxed) {
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        let due = shared.began + Duration::from_secs_f64(number as f64 / RATE);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if shared.done.load(Ordering::Relaxed) {
            return;
        }
        let client = Arc::clone(&shared.client.lock().unwrap());
        let sent = send(client);
        let mut outcome = shared.outcome.lock().unwrap();
        outcome.slowest = outcome.slowest.max(due.elapsed());
        match sent {
            Ok(()) => outcome.served += 1,
            Err(error) => {
                outcome.failed += 1;
                if outcome.failures.len() < MAXIMUM_KEPT {
                    let at = shared.began.elapsed();
                    outcome.failures.push(format!("{at:.1?} after the beginning: {error}"));
                }
            }
        }
    }
}

/// Makes one connection with one request. The response must be complete and 200.
fn send(client: Arc<ClientConfig>) -> std::io::Result<()> {
    let stage = |stage: &'static str| move |error: std::io::Error| std::io::Error::other(format!("{stage}: {error}"));
    let socket = TcpStream::connect_timeout(&([127, 0, 0, 1], 443).into(), PATIENCE).map_err(stage("connect"))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.set_nodelay(true)?;
    let name = ServerName::try_from(HOST).map_err(std::io::Error::other)?;
    let mut connection = ClientConnection::new(client, name).map_err(std::io::Error::other)?;
    let mut tcp = socket;
    connection.complete_io(&mut tcp).map_err(stage("handshake"))?;
    let mut tls = StreamOwned::new(connection, tcp);
    tls.write_all(&http::request("POST", PATH, HOST, &[("Connection", "close")], b"{}")).map_err(stage("request"))?;
    let mut tls = BufReader::new(tls);
    let response = Response::read(&mut tls).map_err(|error| std::io::Error::other(format!("answer: {error:#}")))?;
    let mut rest = Vec::new();
    tls.read_to_end(&mut rest).map_err(stage("end"))?;
    let is_good = |response: &Response| response.status == 200 && response.complete && response.body.ends_with(b"}\n");
    match response {
        Some(response) if is_good(&response) && rest.is_empty() => Ok(()),
        other => Err(std::io::Error::other(format!("answered {other:?}, and then {} bytes", rest.len()))),
    }
}
