//! Token keys: rotation, outage, unknown keys, many requests at once, and what is kept over a restart.

use hookgate_core::auth::testing::{ISSUER, NOW, Request, SOURCE, at, dialogflow, dialogflow_claims, reason, token};
use hookgate_core::auth::{Clause, KeySets, KeySourceId, Proof, ProofPolicy, ReplayGuard, TokenClaims};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::super::task::keep_current;
use super::*;
use crate::key_store::KeyStore;

/// The keys of the issuer of these tests, its RSA key under the name `kid`.
fn keys(kid: &str) -> Reply {
    let body = json!({ "keys": [ISSUER.rsa_jwk(kid)] }).to_string();
    http("200 OK", "cache-control: public, max-age=20000\r\netag: \"k\"\r\n", &body)
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

fn source(feed: Feed) -> Source {
    Source::Keys(Arc::new(KeyFeed { name: "issuer".into(), feed }))
}

fn terms(store: &Arc<KeyStore>) -> Terms {
    Terms::Keys(Outlet { store: Arc::clone(store), source: SOURCE })
}

/// As for keys: redirects are not followed.
fn limits() -> FetchLimits {
    FetchLimits { redirects: 0, ..super::limits() }
}

/// The time at which tokens are judged.
fn test_time() -> u64 {
    NOW
}

/// A place for the keys of `server`, at the time at which tokens are judged.
fn keys_place(server: &Server, state: Option<&StateDirectory>) -> (Arc<KeyStore>, Arc<Place>) {
    let store = Arc::new(KeyStore::new(1));
    let source = source(server.feed(limits()));
    let copy = state.and_then(|state| copy::read(state, &source, NOW)).map(Arc::new);
    let place = Place { clock: test_time, ..Place::new(source, terms(&store), copy, state.cloned()) };
    (store, Arc::new(place))
}

fn fetcher(server: &Server) -> Fetcher {
    Fetcher::new(&server.feed(limits()), tls_settings(server.roots.clone()).unwrap(), "*/*", false)
}

/// A task that keeps the keys of `server` current.
struct Running {
    store: Arc<KeyStore>,
    task: JoinHandle<()>,
}

impl Running {
    fn start(server: &Server) -> Self {
        let (store, place) = keys_place(server, None);
        let (offers, _) = mpsc::channel(1);
        Self { store, task: tokio::spawn(keep_current(place, fetcher(server), offers)) }
    }

    /// Asks for newer keys than the current ones.
    async fn refreshed(&self) -> bool {
        let judged = self.store.current().clone();
        self.store.refreshed(SOURCE, &judged).await
    }

    /// Waits until a request with this token gets this verdict.
    async fn until(&self, kid: &str, expected: &str) {
        let wait = async {
            while reason(judge(&self.store, &token_by(kid), NOW)) != expected {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(10), wait).await.unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn an_unknown_key_is_fetched_once_and_then_known() {
    let server = Server::start(keys("old")).await;
    let kept = Running::start(&server);
    assert_eq!(reason(judge(&kept.store, &token_by("old"), NOW)), "keys_unavailable");
    kept.until("old", "ok").await;

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
    let server = Server::start(keys("old")).await;
    let kept = Running::start(&server);
    kept.until("old", "ok").await;
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

/// The same keys once more, or the word that they are still the same, are no newer keys.
#[tokio::test]
async fn a_fetch_without_news_brings_no_newer_keys() {
    for again in [keys("old"), http("304 Not Modified", "", "")] {
        let server = Server::start(keys("old")).await;
        let kept = Running::start(&server);
        kept.until("old", "ok").await;
        server.answer(again);
        assert!(!kept.refreshed().await);
        assert_eq!(server.hits(), 2);
        let heads = server.heads();
        assert!(!heads[0].contains("if-none-match") && heads[1].contains("if-none-match: \"k\""), "{heads:#?}");
    }
}

#[tokio::test]
async fn keys_outlive_an_outage_up_to_their_bound() {
    let server = Server::start(keys("rsa")).await;
    let (store, place) = keys_place(&server, None);
    let kept = Kept { fetcher: fetcher(&server), place, server, verdict: Ok(()) };
    assert_eq!(kept.round().await, Ok("ok"));
    let whole = json!({ "keys": [ISSUER.rsa_jwk("rsa")] }).to_string();
    let cut = |field: &str| Reply::Bytes(format!("HTTP/1.1 200 OK\r\n{field}\r\n{}", &whole[..40]).into_bytes());
    for (reply, label) in [
        (Reply::Close, "http"),
        (http("503 Service Unavailable", "", ""), "status"),
        (http("301 Moved Permanently", "location: https://127.0.0.1/\r\n", ""), "redirect"),
        (http("200 OK", "", "<html>"), "document"),
        (http("200 OK", "", "{\"keys\":[]}"), "document"),
        (http("200 OK", "", &whole[..whole.len() / 2]), "document"),
        (http("200 OK", "", format!("{whole}{}", " ".repeat(8192))), "too_large"),
        (cut("content-length: 9000\r\n"), "http"),
        (Reply::Stall(b"HTTP/1.1 200 OK\r\ncontent-length: 9000\r\n\r\n{".to_vec()), "timed_out"),
        (http("302 Found", "location: https://127.0.0.1:1/\r\n", ""), "redirect"),
    ] {
        kept.refuses(reply, label, "").await;
    }
    let elsewhere = Fetcher::new(
        &kept.server.public_feed(limits()),
        tls_settings(kept.server.roots.clone()).unwrap(),
        "*/*",
        false,
    );
    kept.server.answer(http(
        "302 Found",
        &format!("location: https://127.0.0.1:{}/\r\n", kept.server.address.port()),
        "",
    ));
    let (hits, (offers, _)) = (kept.server.hits(), mpsc::channel(1));
    let error = renew(&kept.place, &elsewhere, &offers).await.unwrap_err();
    assert_eq!((error.label(), kept.server.hits() - hits), ("redirect", 1), "{error}");
    // An issuer that withdraws a key has fewer: they are its keys now.
    kept.server.answer(keys("other"));
    assert_eq!(kept.round().await, Ok("ok"));
    assert_eq!(reason(judge(&store, &token_by("rsa"), NOW + 3600)), "token_unknown_key");
    kept.server.answer(keys("rsa"));
    assert_eq!(kept.round().await, Ok("ok"));
    // Fresh for 20,000 s, stale for a day more; the token itself is good for an hour.
    let bound = NOW + 20_000 + 86_400;
    assert_eq!(reason(judge(&store, &token_by("rsa"), NOW + 3600)), "ok");
    assert_eq!(reason(judge(&store, &token_by("rsa"), bound - 1)), "token_expired");
    assert_eq!(reason(judge(&store, &token_by("rsa"), bound)), "keys_unavailable");
}

#[tokio::test]
async fn fetching_recovers_by_itself() {
    let server = Server::start(http("500 Internal Server Error", "", "")).await;
    let kept = Running::start(&server);
    while server.hits() < 1 {
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(reason(judge(&kept.store, &token_by("rsa"), NOW)), "keys_unavailable");
    server.answer(keys("rsa"));
    kept.until("rsa", "ok").await;
}

#[tokio::test]
async fn no_request_waits_for_a_task_that_ended() {
    let server = Server::start(keys("rsa")).await;
    let kept = Running::start(&server);
    kept.until("rsa", "ok").await;
    server.answer(Reply::Stall(Vec::new()));
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

#[tokio::test]
async fn kept_keys_are_used_after_a_restart_as_long_as_those_in_use_would_be() {
    let (_at, state) = state();
    let server = Server::start(keys("rsa")).await;
    let (_, place) = keys_place(&server, Some(&state));
    let kept = Kept { fetcher: fetcher(&server), place, server, verdict: Ok(()) };
    assert_eq!(kept.round().await, Ok("ok"));
    let source = kept.place.source.clone();
    let bound = NOW + 20_000 + 86_400;
    for (now, is_used) in [(NOW, true), (bound - 1, true), (bound, false), (bound + 1_000_000, false)] {
        assert_eq!(copy::read(&state, &source, now).is_some(), is_used, "{}", now - NOW);
    }
    // A clock that was set back does not make them younger.
    assert_eq!(copy::read(&state, &source, NOW - 50).unwrap().fetched, NOW - 50);

    // A start without network: the first request is judged by the kept keys.
    kept.server.answer(Reply::Close);
    let (store, again) = keys_place(&kept.server, Some(&state));
    let (offers, _) = mpsc::channel(1);
    let _task = Task::start(again, fetcher(&kept.server), offers);
    assert_eq!(reason(judge(&store, &token_by("rsa"), NOW)), "ok");
    assert_eq!(reason(judge(&store, &token_by("rsa"), bound)), "keys_unavailable");
    assert_eq!(store.current().published(SOURCE).unwrap().usable_until, at(bound));

    // Keys that other roots vouched for are not these.
    let feed = Feed { roots: None, ..source.feed().clone() };
    assert!(copy::read(&state, &Source::Keys(Arc::new(KeyFeed { name: "issuer".into(), feed })), NOW).is_none());
    let (name, bytes) = file(&state, "keys-");
    for damaged in damages(&bytes) {
        state.write(&name, &damaged).unwrap();
        assert!(copy::read(&state, &source, NOW).is_none(), "{}", damaged.escape_ascii());
    }
}
