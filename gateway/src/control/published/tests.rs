//! Lists stay current, against a real publisher over TLS: whatever it answers, the copy in use stays until a better one is there.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use rustls::RootCertStore;
use tempfile::TempDir;

use super::*;
use crate::config::{FetchLimits, KeyUrl, RangeFormat};
use crate::control::jwks::tests::{Answer as Reply, KeyServer, http};

const GUARD: Guard = Guard { largest_shrink: 0.5, forced: false };
const FOUR: &str = "192.0.2.0/26\n192.0.2.64/26\n192.0.2.128/26\n192.0.2.192/26\n";

/// A list at a publisher, and the task of it, one round at a time.
struct Kept {
    server: KeyServer,
    place: Arc<Place>,
    fetcher: Fetcher,
    /// What the control loop says to an offer.
    verdict: Result<(), String>,
}

fn source(server: &KeyServer, limits: FetchLimits) -> Arc<RangeSource> {
    let url = KeyUrl::parse(&format!("https://{}/keys?v=3", server.address)).unwrap();
    Arc::new(RangeSource { url, format: RangeFormat::Any, limits, roots: None })
}

fn limits() -> FetchLimits {
    let base = FetchLimits { timeout: Duration::from_millis(500), max_bytes: 8192, ..FetchLimits::default() };
    FetchLimits { allow_private: true, redirects: 3, ..base }
}

fn place(source: Arc<RangeSource>, state: Option<StateDirectory>) -> Arc<Place> {
    let current = state.as_ref().and_then(|state| copy::read(state, &source)).map(Arc::new);
    Arc::new(Place {
        current: ArcSwapOption::from(current),
        attempted: AtomicBool::new(false),
        guard: ArcSwap::from_pointee(GUARD),
        wake: Notify::new(),
        state,
        source,
    })
}

impl Kept {
    async fn start(reply: Reply, state: Option<StateDirectory>) -> Self {
        let server = KeyServer::start(reply).await;
        let source = source(&server, limits());
        let tls = tls_settings(server.roots.clone()).unwrap();
        let fetcher = Fetcher::new(source.url.clone(), tls, source.limits);
        Self { place: place(source, state), server, fetcher, verdict: Ok(()) }
    }

    /// One round: the result, or the label and the text of the error.
    async fn round(&self) -> Result<&'static str, (&'static str, String)> {
        let (offers, mut inbox) = mpsc::channel::<Offer>(1);
        let verdict = self.verdict.clone();
        let control = tokio::spawn(async move {
            if let Some(offer) = inbox.recv().await {
                offer.answer(verdict);
            }
        });
        let outcome = renew(&self.place, &self.fetcher, &offers).await;
        drop(offers);
        control.await.unwrap();
        outcome.map(|(result, _)| result).map_err(|error| (error.label(), error.to_string()))
    }

    fn in_use(&self) -> usize {
        self.place.ranges().map_or(0, |ranges| ranges.len())
    }
}

fn list(text: &str) -> Reply {
    http("200 OK", "etag: \"one\"\r\n", text)
}

#[tokio::test]
async fn whatever_a_publisher_answers_the_copy_in_use_stays_until_a_better_one_is_there() {
    let kept = Kept::start(list(FOUR), None).await;
    assert_eq!(kept.round().await, Ok("ok"));
    let first = kept.place.ranges().unwrap();
    let raw = |text: &str| Reply::Bytes(text.as_bytes().to_vec());
    let moved = |to: &str| http("302 Found", &format!("location: {to}\r\n"), "");
    let here = format!("https://{}/keys?v=3", kept.server.address);
    for (reply, label, text) in [
        (list("192.0.2.0/26\n"), "refused", "75"),
        (list(""), "document", "holds no range"),
        (list("<!doctype html><title>Sign in</title>"), "document", "is not an IP address"),
        (list("{\"message\": \"rate limit\"}"), "document", "missing field `prefixes`"),
        (list("0.0.0.0/0\n"), "document", "wider than a /8"),
        (list(&"192.0.2.1\n".repeat(2000)), "too_large", "8192"),
        (http("404 Not Found", "", FOUR), "status", "404"),
        (http("500 Internal Server Error", "", ""), "status", "500"),
        (moved(&here), "redirect", "too many redirects"),
        (moved("http://127.0.0.1/"), "redirect", "not an https URL"),
        (moved("https://127.0.0.1:1/"), "connect", "127.0.0.1:1"),
        (http("200 OK", "content-encoding: gzip\r\n", FOUR), "content_encoding", "Content-Encoding"),
        (raw("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n192.0.2.0/24\n"), "http", "cannot be read"),
        (Reply::Stall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n192".to_vec()), "timed_out", "0.5 s"),
        (Reply::Close, "http", "HTTP"),
    ] {
        kept.server.answer(reply);
        let (found, error) = kept.round().await.unwrap_err();
        assert!(found == label && error.contains(text), "{label}: {found}: {error}");
        assert!(!error.contains('\n'), "one line: {error}");
        assert_eq!(kept.place.ranges().unwrap(), first, "{label}");
    }
    kept.server.answer(http("304 Not Modified", "", ""));
    assert_eq!(kept.round().await, Ok("not_modified"));
    kept.server.answer(list(FOUR));
    assert_eq!(kept.round().await, Ok("unchanged"));
    kept.server.answer(list(&format!("{FOUR}198.51.100.0/24\n")));
    assert_eq!(kept.round().await, Ok("ok"));
    assert_eq!(kept.in_use(), 5);
}

#[tokio::test]
async fn a_private_publisher_is_refused_also_behind_a_redirect() {
    let kept = Kept::start(list(FOUR), None).await;
    let limits = FetchLimits { allow_private: false, ..limits() };
    let fetcher = Fetcher::new(kept.place.source.url.clone(), tls_settings(RootCertStore::empty()).unwrap(), limits);
    let error = fetcher.get(&Validators::default()).await.unwrap_err();
    assert_eq!(error.label(), "not_public");
    assert_eq!(kept.server.hits(), 0);
}

#[tokio::test]
async fn bad_tls_is_an_error() {
    let kept = Kept::start(list(FOUR), None).await;
    let tls = tls_settings(RootCertStore::empty()).unwrap();
    let fetcher = Fetcher::new(kept.place.source.url.clone(), tls, limits());
    assert_eq!(fetcher.get(&Validators::default()).await.unwrap_err().label(), "tls");
}

#[tokio::test]
async fn a_list_that_the_filter_refuses_changes_nothing() {
    let mut kept = Kept::start(list(FOUR), None).await;
    kept.verdict = Err("[filter]: too many ranges".to_owned());
    let (label, text) = kept.round().await.unwrap_err();
    assert!(label == "refused" && text.contains("too many ranges"), "{text}");
    assert_eq!(kept.in_use(), 0);
}

#[tokio::test]
async fn a_shrink_that_is_forced_is_taken() {
    let kept = Kept::start(list(FOUR), None).await;
    assert_eq!(kept.round().await, Ok("ok"));
    kept.server.answer(list("192.0.2.0/26\n"));
    assert_eq!(kept.round().await.unwrap_err().0, "refused");
    kept.place.guard.store(Arc::new(Guard { forced: true, ..GUARD }));
    assert_eq!(kept.round().await, Ok("ok"));
    assert_eq!(kept.in_use(), 1);
}

#[tokio::test]
async fn a_start_without_network_uses_the_kept_copy() {
    let at = TempDir::new().unwrap();
    std::fs::set_permissions(at.path(), Permissions::from_mode(0o700)).unwrap();
    let state = StateDirectory::open(at.path()).unwrap();
    let kept = Kept::start(list(FOUR), Some(state.clone())).await;
    assert_eq!(kept.round().await, Ok("ok"));
    let names = state.list("ranges-").unwrap();
    assert_eq!(names.len(), 1);

    let again = place(Arc::clone(&kept.place.source), Some(state.clone()));
    let copy = again.current.load_full().unwrap();
    assert_eq!(copy.ranges.len(), 4);
    assert_eq!(copy.validators.etag.as_deref(), Some("\"one\""));
    assert!(age(copy.fetched) < 60);

    // A file of another list, or one that was cut, is as good as none.
    let bytes = state.read(&names[0], 100_000).unwrap().unwrap();
    for damaged in [&bytes[..10], &bytes[..bytes.len() - 3], b"{}\n192.0.2.0/24\n", b""] {
        state.write(&names[0], damaged).unwrap();
        assert!(place(Arc::clone(&kept.place.source), Some(state.clone())).current.load().is_none(), "{damaged:?}");
    }
}

#[tokio::test]
async fn a_reload_that_leaves_a_list_as_it_is_fetches_nothing() {
    let server = KeyServer::start(list(FOUR)).await;
    let mut with_roots = (*source(&server, limits())).clone();
    with_roots.roots = Some(server.certificates());
    let source = Arc::new(with_roots);
    let mut publisher = Publisher::default();
    publisher.adopt(publisher.prepare(vec![Arc::clone(&source)], GUARD, None).unwrap());
    assert!(publisher.known(&source).is_none());
    let deadline = Publisher::first_deadline();
    let offer = publisher.first_offer(deadline).await.unwrap();
    assert_eq!(offer.ranges_of(&source).unwrap().len(), 4);
    offer.answer(Ok(()));
    assert!(publisher.first_offer(deadline).await.is_none());
    assert_eq!(publisher.known(&source).unwrap().len(), 4);
    let same = Arc::new((*source).clone());
    for _ in 0..20 {
        let prepared = publisher.prepare(vec![Arc::clone(&same)], GUARD, None).unwrap();
        assert_eq!(prepared.known(&source).unwrap().len(), 4);
        publisher.adopt(prepared);
    }
    assert_eq!(server.hits(), 1);
    publisher.adopt(publisher.prepare(Vec::new(), GUARD, None).unwrap());
    assert!(publisher.known(&source).is_none());
}

/// As an operator does who has looked at the list: `force_shrink`, and a reload.
#[tokio::test]
async fn a_reload_that_forces_a_shrink_fetches_at_once() {
    let server = KeyServer::start(list(FOUR)).await;
    let mut with_roots = (*source(&server, limits())).clone();
    with_roots.roots = Some(server.certificates());
    let sources = vec![Arc::new(with_roots)];
    let mut publisher = Publisher::default();
    publisher.adopt(publisher.prepare(sources.clone(), GUARD, None).unwrap());
    publisher.offer().await.answer(Ok(()));
    server.answer(list("192.0.2.0/26\n"));
    let forced = Guard { forced: true, ..GUARD };
    publisher.adopt(publisher.prepare(sources.clone(), forced, None).unwrap());
    publisher.offer().await.answer(Ok(()));
    assert_eq!(publisher.known(&sources[0]).unwrap().len(), 1);
    assert_eq!(server.hits(), 2);
}

/// Both offers are answered before a task runs again.
#[tokio::test]
async fn two_lists_that_come_at_once_are_both_in_force() {
    let servers = [KeyServer::start(list(FOUR)).await, KeyServer::start(list("198.51.100.0/24\n")).await];
    let sources = servers.each_ref().map(|server| {
        let mut with_roots = (*source(server, limits())).clone();
        with_roots.roots = Some(server.certificates());
        Arc::new(with_roots)
    });
    let mut publisher = Publisher::default();
    publisher.adopt(publisher.prepare(sources.to_vec(), GUARD, None).unwrap());
    let deadline = Publisher::first_deadline();
    let first = publisher.first_offer(deadline).await.unwrap();
    let second = publisher.first_offer(deadline).await.unwrap();
    first.answer(Ok(()));
    second.answer(Ok(()));
    let known = sources.map(|source| publisher.known(&source).map(|ranges| ranges.len()));
    assert_eq!(known, [Some(4), Some(1)]);
}

#[tokio::test]
async fn start_up_waits_for_no_list_that_fails() {
    let server = KeyServer::start(Reply::Close).await;
    let mut with_roots = (*source(&server, limits())).clone();
    with_roots.roots = Some(server.certificates());
    let mut publisher = Publisher::default();
    publisher.adopt(publisher.prepare(vec![Arc::new(with_roots)], GUARD, None).unwrap());
    let began = Instant::now();
    assert!(publisher.first_offer(Publisher::first_deadline()).await.is_none());
    assert!(began.elapsed() < FIRST_ROUND / 2, "{:?}", began.elapsed());
}
