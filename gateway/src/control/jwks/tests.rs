//! Keys stay fresh, against a real server over TLS: rotation, outage, unknown keys, many requests at once.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::fetch::{FetchLimits, KeyUrl, tls_settings};
use super::*;
use hookgate_core::auth::KeySets;
use hookgate_core::auth::TokenClaims;
use hookgate_core::auth::testing::{ISSUER, NOW, Request, SOURCE, at, dialogflow, dialogflow_claims, reason, token};
use hookgate_core::auth::{Clause, Proof, ProofPolicy, ReplayGuard};
use tokio::sync::watch;

/// A key server of an issuer on loopback, over real TLS, which answers as the test says.
pub(in crate::control) struct KeyServer {
    pub(in crate::control) address: SocketAddr,
    pub(in crate::control) roots: RootCertStore,
    certificate: CertificateDer<'static>,
    hits: Arc<AtomicUsize>,
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

impl KeyServer {
    pub(in crate::control) async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
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
        let hits = Arc::new(AtomicUsize::new(0));
        let (answer, receiver) = watch::channel(answer);
        let task = tokio::spawn({
            let hits = Arc::clone(&hits);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    hits.fetch_add(1, Ordering::Relaxed);
                    let (acceptor, answer) = (acceptor.clone(), receiver.borrow().clone());
                    tokio::spawn(async move { serve(acceptor, stream, answer).await });
                }
            }
        });
        Self { address, roots, certificate: certified.cert.der().clone(), hits, answer, task }
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

    pub(super) fn fetcher(&self, limits: FetchLimits) -> Fetcher {
        let url = KeyUrl::parse(&format!("https://{}/keys?v=3", self.address)).unwrap();
        Fetcher::new(url, tls_settings(self.roots.clone()).unwrap(), FetchLimits { allow_private: true, ..limits })
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves one connection. An error ends it: the peer may close at any time.
async fn serve(acceptor: TlsAcceptor, stream: tokio::net::TcpStream, answer: Answer) -> Option<()> {
    let mut stream = acceptor.accept(stream).await.ok()?;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.ok()?);
    }
    assert!(request.starts_with(b"GET /keys?v=3 HTTP/1.1\r\n"), "{}", request.escape_ascii());
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
pub(in crate::control) fn http(status: &str, fields: &str, body: &str) -> Answer {
    let length = body.len();
    Answer::Bytes(format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{fields}\r\n{body}").into_bytes())
}

/// The keys of the issuer of these tests, its RSA key under the name `kid`.
fn keys(kid: &str) -> Answer {
    let body = json!({ "keys": [ISSUER.rsa_jwk(kid)] }).to_string();
    http("200 OK", "cache-control: public, max-age=20000\r\ncontent-type: application/json\r\n", &body)
}

/// A token signed by the key of that name.
fn token_by(kid: &str) -> String {
    token(&json!({ "alg": "RS256", "kid": kid }), &dialogflow_claims(), |signed| ISSUER.rs256(signed))
}

/// The verdict of a route's policy on a request with this token.
fn judge(store: &KeyStore, token: &str, seconds: u64) -> Result<TokenClaims, hookgate_core::auth::Unproven> {
    let policy = ProofPolicy::all(vec![Clause::One(Proof::Token(dialogflow()))]).unwrap();
    let request = Request::new(&[("authorization", &format!("Bearer {token}"))], "").at(seconds);
    let guard = Arc::new(ReplayGuard::new(1));
    policy.check(&request.view(), &store.current(), &guard).map(|proven| proven.claims().unwrap().clone())
}

/// A task that keeps the keys of `server` fresh, and the outcomes of its fetches.
struct Kept {
    store: Arc<KeyStore>,
    outcomes: watch::Receiver<Vec<String>>,
    task: JoinHandle<()>,
}

impl Kept {
    fn start(server: &KeyServer) -> Self {
        let store = Arc::new(KeyStore::new(1));
        let (sender, outcomes) = watch::channel(Vec::new());
        let observe = move |event: FetchEvent<'_>| {
            sender.send_modify(|outcomes: &mut Vec<String>| {
                outcomes.push(match event {
                    FetchEvent::Fetched { set, usable_until, .. } => {
                        format!("{} keys until {}", set.usable_keys(), usable_until.as_secs() - NOW)
                    }
                    FetchEvent::Failed { error, failures, .. } => format!("{} {failures}", error.label()),
                });
            });
        };
        let fetcher = server.fetcher(FetchLimits { timeout: Duration::from_millis(500), ..FetchLimits::default() });
        let place = Place { store: Arc::clone(&store), source: SOURCE, fetcher: Arc::new(fetcher) };
        let target = Arc::new(ArcSwap::from_pointee(place));
        let task = tokio::spawn(keep_fresh(target, || at(NOW), observe));
        Self { store, outcomes, task }
    }

    /// Asks for newer keys than the current ones.
    async fn refreshed(&self) -> bool {
        let judged = self.store.current().clone();
        self.store.refreshed(SOURCE, &judged).await
    }

    /// Waits for the fetch of this number, from 1.
    async fn outcome(&mut self, number: usize) -> String {
        let wait = self.outcomes.wait_for(|outcomes| outcomes.len() >= number);
        timeout(Duration::from_secs(10), wait).await.unwrap().unwrap()[number - 1].clone()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn an_unknown_key_is_fetched_once_and_then_known() {
    let server = KeyServer::start(keys("old")).await;
    let mut kept = Kept::start(&server);
    assert_eq!(reason(judge(&kept.store, &token_by("old"), NOW)), "keys_unavailable");
    assert_eq!(kept.outcome(1).await, "1 keys until 106400");
    assert_eq!(reason(judge(&kept.store, &token_by("old"), NOW)), "ok");

    server.answer(keys("new"));
    let unproven = judge(&kept.store, &token_by("new"), NOW).unwrap_err();
    assert_eq!(unproven.wants_keys, Some(SOURCE));
    let judged = kept.store.current().clone();
    assert!(kept.store.refreshed(SOURCE, &judged).await);
    assert_eq!(reason(judge(&kept.store, &token_by("new"), NOW)), "ok");
    // The key that the issuer no longer publishes is no longer trusted.
    assert_eq!(reason(judge(&kept.store, &token_by("old"), NOW)), "token_unknown_key");
    assert_eq!(server.hits(), 2);

    // A token that was judged by the old keys needs no fetch.
    assert!(kept.store.refreshed(SOURCE, &judged).await);
    // A key that does not exist causes no further fetch.
    for _ in 0..100 {
        assert!(!kept.refreshed().await);
    }
    assert_eq!(server.hits(), 2);
}

#[tokio::test]
async fn a_crowd_that_wants_a_key_shares_one_fetch() {
    let server = KeyServer::start(keys("old")).await;
    let mut kept = Kept::start(&server);
    kept.outcome(1).await;
    server.answer(keys("new"));
    let crowd: Vec<_> = (0..1000)
        .map(|_| {
            let store = Arc::clone(&kept.store);
            let judged = store.current().clone();
            tokio::spawn(async move { store.refreshed(SOURCE, &judged).await })
        })
        .collect();
    for one in crowd {
        assert!(one.await.unwrap());
    }
    assert_eq!(server.hits(), 2);
}

#[tokio::test]
async fn keys_outlive_an_outage_up_to_their_bound() {
    let server = KeyServer::start(keys("rsa")).await;
    let mut kept = Kept::start(&server);
    kept.outcome(1).await;
    server.answer(Answer::Close);
    assert!(!kept.refreshed().await);
    assert_eq!(kept.outcome(2).await, "http 1");
    server.answer(http("503 Service Unavailable", "", ""));
    assert_eq!(kept.outcome(3).await, "status 2");
    // Fresh for 20,000 s, stale for a day more; the token itself is good for an hour.
    let bound = NOW + 20_000 + 86_400;
    assert_eq!(reason(judge(&kept.store, &token_by("rsa"), NOW + 3600)), "ok");
    assert_eq!(reason(judge(&kept.store, &token_by("rsa"), bound - 1)), "token_expired");
    assert_eq!(reason(judge(&kept.store, &token_by("rsa"), bound)), "keys_unavailable");
}

#[tokio::test]
async fn fetching_recovers_by_itself() {
    let server = KeyServer::start(http("500 Internal Server Error", "", "")).await;
    let mut kept = Kept::start(&server);
    assert_eq!(kept.outcome(1).await, "status 1");
    assert_eq!(reason(judge(&kept.store, &token_by("rsa"), NOW)), "keys_unavailable");
    server.answer(keys("rsa"));
    assert_eq!(kept.outcome(2).await, "1 keys until 106400");
    assert_eq!(reason(judge(&kept.store, &token_by("rsa"), NOW)), "ok");
}

#[tokio::test]
async fn no_request_waits_for_a_task_that_ended() {
    let server = KeyServer::start(keys("rsa")).await;
    let mut kept = Kept::start(&server);
    kept.outcome(1).await;
    server.answer(Answer::Stall(Vec::new()));
    let waiting = tokio::spawn({
        let store = Arc::clone(&kept.store);
        async move { store.refreshed(SOURCE, &store.current().clone()).await }
    });
    while server.hits() < 2 {
        sleep(Duration::from_millis(1)).await;
    }
    kept.task.abort();
    assert!(!timeout(Duration::from_secs(1), waiting).await.unwrap().unwrap());
    // Without a task, nothing is waited for.
    assert!(!timeout(Duration::from_millis(100), kept.refreshed()).await.unwrap());
    assert!(!kept.store.refreshed(KeySourceId(7), &KeySets::default()).await);
}

#[test]
fn waits_grow_to_their_bound_and_differ() {
    for (failures, least, most) in
        [(1, 500, 1000), (2, 1000, 2000), (5, 8000, 16_000), (10, 150_000, 300_000), (u32::MAX, 150_000, 300_000)]
    {
        let waits: Vec<u128> = (0..100).map(|_| backoff(failures).as_millis()).collect();
        assert!(waits.iter().all(|wait| (least..=most).contains(wait)), "{failures}: {waits:?}");
        assert!(waits.iter().any(|wait| *wait != waits[0]), "{failures}");
    }
    for _ in 0..100 {
        let next = earlier(Duration::from_secs(1000));
        assert!((900..=1000).contains(&next.as_secs()), "{next:?}");
    }
}
