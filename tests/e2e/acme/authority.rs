//! A real ACME server, Pebble, with the name server that it asks, and a relay before it that can break any of its answers.
//!
//! Owns the processes and the relay's threads, which end on drop. Must not judge its client.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use data_encoding::BASE64URL_NOPAD;
use hookgate_testkit::http::Request;
use hookgate_testkit::pki::{KeyKind, Pki};
use hookgate_testkit::process::{KilledOnDrop, run};
use hookgate_testkit::wait::wait_until;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use crate::acceptor::{Acceptor, own_address, server_config};
use crate::environment::{Environment, SOON, quoted};

/// The port of its clients' servers, to which it connects to verify a name.
pub(super) const PORT: u16 = 5001;

/// Its directory, and what else it serves; the names are Pebble's.
pub(super) const DIRECTORY: &str = "/dir";
pub(super) const NEW_ACCOUNT: &str = "/sign-me-up";
pub(super) const NEW_ORDER: &str = "/order-plz";
pub(super) const ORDER: &str = "/my-order/";
pub(super) const CHALLENGE: &str = "/chalZ/";
pub(super) const FINALIZE: &str = "/finalize-order/";
pub(super) const CERTIFICATE: &str = "/certZ/";
/// The renewal information, which this version of Pebble has not: the relay answers for it, and says of an order that it replaces what it
/// names, as an authority with this information does (RFC 9773, section 5).
pub(super) const RENEWAL: &str = "/renewal";

const HOST: &str = "pebble.example.com";

/// What the relay does with requests whose path begins so.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// Ends the connection without an answer.
    Away,
    /// Answers this itself: status, media type with any further fields, body.
    Answer(u16, &'static str, String),
    /// Replaces the body of the server's answer.
    Replace(String),
    /// Changes it.
    Rewrite(fn(&str) -> String),
    /// Holds the request until the fault is gone.
    Hold,
}

/// An answer of the authority that refuses.
pub(super) fn problem(status: u16, kind: &str, detail: &str) -> Fault {
    let body = format!(r#"{{"type":"urn:ietf:params:acme:error:{kind}","detail":"{detail}","status":{status}}}"#);
    Fault::Answer(status, "application/problem+json", body)
}

struct Shared {
    upstream: SocketAddr,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    faults: Mutex<BTreeMap<&'static str, Fault>>,
    /// The path of each request, and what it says: the payload of its JWS, `null` without one.
    requests: Mutex<Vec<(String, Value)>>,
    /// The window that it advises for a renewal, as RFC 3339 writes times.
    window: Mutex<Option<(String, String)>>,
    port: Mutex<u16>,
}

/// The running authority.
pub(super) struct Authority {
    _pebble: KilledOnDrop,
    _names: KilledOnDrop,
    shared: Arc<Shared>,
    relay: Acceptor,
    /// The address of everything of this authority: that of its servers, and of every name that it verifies.
    pub(super) address: Ipv4Addr,
    root: String,
}

impl Authority {
    /// Starts it with these members of Pebble's configuration, such as `"certificateValidityPeriod": 60`.
    pub(super) fn start(environment: &Environment, members: &str) -> Self {
        let address = own_address();
        let identity = environment.pki.server("pebble", &[HOST], KeyKind::P256).unwrap();
        let (chain, key) = (quoted(&identity.chain_path), quoted(&identity.key_path));
        let comma = if members.is_empty() { "" } else { "," };
        let configuration = format!(
            r#"{{"pebble":{{"listenAddress":"{address}:14000","managementListenAddress":"{address}:15000","certificate":{chain},
            "privateKey":{key},"httpPort":5002,"tlsPort":{PORT}{comma}{members}}}}}"#
        );
        let file = environment.path("pebble.json");
        fs::write(&file, configuration).unwrap();
        let spawn = |command: &mut Command| {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            KilledOnDrop(command.spawn().expect("pebble is installed: cargo xtask setup test"))
        };
        let dns = format!("{address}:8053");
        let mut command = Command::new("pebble-challtestsrv");
        command.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-dns01", &dns, "-defaultIPv6", ""]);
        command.args(["-defaultIPv4", &address.to_string(), "-management", &format!("{address}:8055")]);
        let names = spawn(&mut command);
        let mut command = Command::new("pebble");
        command.arg("-config").arg(&file).args(["-dnsserver", &dns]);
        // By default it waits before it verifies, verifies half of the names that it has verified again, and refuses one nonce of twenty.
        command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_AUTHZREUSE", "0").env("PEBBLE_WFE_NONCEREJECT", "0");
        // Two intermediates, so that a chain with the right end entity can be out of order.
        command.env("PEBBLE_CHAIN_LENGTH", "2");
        let pebble = spawn(&mut command);
        let accepts = |port| TcpStream::connect(SocketAddrV4::new(address, port)).is_ok();
        wait_until("Pebble", SOON, || accepts(14000) && accepts(8055)).unwrap();
        let upstream = SocketAddrV4::new(address, 14000).into();
        let (shared, relay) = Self::relay(&environment.pki, upstream).unwrap();
        let root = quoted(environment.pki.server_root().path());
        Self { _pebble: pebble, _names: names, shared, relay, address, root }
    }

    fn relay(pki: &Pki, upstream: SocketAddr) -> Result<(Arc<Shared>, Acceptor)> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(pki.server_root().der().to_vec()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let shared = Arc::new(Shared {
            upstream,
            server: server_config(pki, "relay", "acme.example.com")?,
            client: Arc::new(client.with_root_certificates(roots).with_no_client_auth()),
            faults: Mutex::default(),
            requests: Mutex::default(),
            window: Mutex::default(),
            port: Mutex::default(),
        });
        let of_acceptor = Arc::clone(&shared);
        let acceptor = Acceptor::start(move |stream, stopping| relay(stream, &of_acceptor, stopping))?;
        *lock(&shared.port) = acceptor.address().port();
        Ok((shared, acceptor))
    }

    /// The inline table `acme` for these names, with these keys added.
    pub(super) fn acme(&self, domains: &[&str], keys: &str) -> String {
        let url = format!("https://{}{DIRECTORY}", self.relay.address());
        format!(
            "[[certificate]]\nacme = {{ domains = {domains:?}, directory = \"{url}\", ca_file = {}, allow_private = true, \
             terms_of_service_agreed = true{keys} }}\n",
            self.root
        )
    }

    /// `toml` with the address at which this authority verifies names, beside its own.
    pub(super) fn listening(&self, toml: &str) -> String {
        toml.replacen("addresses = [", &format!("addresses = [\"{}:{PORT}\", ", self.address), 1)
    }

    /// Breaks requests whose path begins so, in place of what broke them before.
    pub(super) fn set(&self, path: &'static str, fault: Fault) {
        lock(&self.shared.faults).insert(path, fault);
    }

    /// Breaks nothing any more.
    pub(super) fn mend(&self) {
        lock(&self.shared.faults).clear();
    }

    /// Breaks nothing any more but this.
    pub(super) fn mend_others(&self, path: &str) {
        lock(&self.shared.faults).retain(|kept, _| *kept == path);
    }

    /// How many requests came with a path that begins so.
    pub(super) fn requests(&self, path: &str) -> usize {
        self.payloads(path).len()
    }

    /// What they said.
    pub(super) fn payloads(&self, path: &str) -> Vec<Value> {
        let requests = lock(&self.shared.requests);
        requests.iter().filter(|(known, _)| known.starts_with(path)).map(|(_, payload)| payload.clone()).collect()
    }

    /// Advises to renew within this window.
    pub(super) fn advise(&self, start: &str, end: &str) {
        *lock(&self.shared.window) = Some((start.to_owned(), end.to_owned()));
    }

    /// Lets the authority find `domain` at `address`, and no more where it found it before.
    pub(super) fn resolve(&self, domain: &str, address: Ipv4Addr) {
        self.tell_names("clear-a", &format!(r#"{{"host":"{domain}."}}"#));
        self.tell_names("add-a", &format!(r#"{{"host":"{domain}.","addresses":["{address}"]}}"#));
    }

    fn tell_names(&self, what: &str, body: &str) {
        let mut command = Command::new("curl");
        command.args(["--silent", "--fail", "--data", body, &format!("http://{}:8055/{what}", self.address)]);
        assert!(run(command, b"", SOON).unwrap().success());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn relay(stream: TcpStream, shared: &Shared, stopping: &AtomicBool) -> Result<()> {
    stream.set_read_timeout(Some(SOON))?;
    let connection = ServerConnection::new(Arc::clone(&shared.server))?;
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    let request = Request::read(&mut stream, 1)?.context("the client closed without a request")?;
    let (path, payload) = (request.target.clone(), payload(&request.body));
    lock(&shared.requests).push((path.clone(), payload.clone()));
    let fault =
        || lock(&shared.faults).iter().find(|(start, _)| path.starts_with(**start)).map(|(_, fault)| fault.clone());
    while matches!(fault(), Some(Fault::Hold)) && !stopping.load(Ordering::SeqCst) {
        thread::sleep(std::time::Duration::from_millis(5));
    }
    let answer = match (fault(), lock(&shared.window).clone()) {
        (Some(Fault::Away), _) => return Ok(()),
        (Some(Fault::Answer(status, kind, body)), _) => answer(status, kind, &body),
        (_, Some((start, end))) if path.starts_with(RENEWAL) => {
            let body = format!(r#"{{"suggestedWindow":{{"start":"{start}","end":"{end}"}}}}"#);
            answer(200, "application/json\r\nretry-after: 21600", &body)
        }
        (fault, window) => {
            let answered = forward(&request, shared)?;
            let (head, body) = answered.split_once("\r\n\r\n").context("an answer has a head")?;
            let body = match fault {
                Some(Fault::Replace(body)) => body,
                Some(Fault::Rewrite(change)) => change(body),
                _ if window.is_some() => with_renewals(body, &path, &payload, *lock(&shared.port)),
                _ => body.to_owned(),
            };
            let kept = |line: &&str| !line.to_ascii_lowercase().starts_with("content-length");
            let head: Vec<&str> = head.split("\r\n").filter(kept).collect();
            format!("{}\r\ncontent-length: {}\r\n\r\n{body}", head.join("\r\n"), body.len())
        }
    };
    let mut stream = stream.into_inner();
    stream.write_all(answer.as_bytes())?;
    stream.conn.send_close_notify();
    stream.flush()?;
    Ok(())
}

/// What a request says: the payload of its JWS (RFC 8555, section 6.2).
fn payload(body: &[u8]) -> Value {
    let signed: Value = serde_json::from_slice(body).unwrap_or_default();
    let payload = BASE64URL_NOPAD.decode(signed["payload"].as_str().unwrap_or_default().as_bytes());
    payload.ok().and_then(|payload| serde_json::from_slice(&payload).ok()).unwrap_or_default()
}

/// The server's answer, as one that knows of renewals gives it.
fn with_renewals(body: &str, path: &str, payload: &Value, port: u16) -> String {
    let with = |name: &str, value: &str| body.replacen('{', &format!("{{\"{name}\":\"{value}\","), 1);
    match payload["replaces"].as_str() {
        _ if path == DIRECTORY => with("renewalInfo", &format!("https://127.0.0.1:{port}{RENEWAL}")),
        Some(replaced) if path == NEW_ORDER => with("replaces", replaced),
        _ => body.to_owned(),
    }
}

fn answer(status: u16, kind: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\nreplay-nonce: bm9uY2U\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

/// The server's answer to the same request.
fn forward(request: &Request, shared: &Shared) -> Result<String> {
    let name = ServerName::try_from(HOST)?;
    let connection = ClientConnection::new(Arc::clone(&shared.client), name)?;
    let mut upstream = StreamOwned::new(connection, TcpStream::connect(shared.upstream)?);
    let mut text = format!("{} {} HTTP/1.0\r\n", request.method, request.target);
    for (name, value) in &request.fields.0 {
        text += &format!("{name}: {value}\r\n");
    }
    text += "\r\n";
    upstream.write_all(text.as_bytes())?;
    upstream.write_all(&request.body)?;
    upstream.flush()?;
    let mut answer = Vec::new();
    // Without a close_notify at the end, all the same.
    let _ = upstream.read_to_end(&mut answer);
    Ok(String::from_utf8(answer)?)
}

/// An address where nothing listens.
pub(super) fn nowhere() -> Ipv4Addr {
    own_address()
}
