//! Tests of one fetch against a real server over TLS, and of what it reads out of URLs and header fields.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::future::{Ready, ready};
use std::net::{IpAddr, Ipv4Addr};

use hyper::Uri;
use hyper::header::HeaderName;
use tokio::io::copy;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::server::{Answer as Reply, Server, http};
use super::*;
use hookgate_core::auth::KeySet;
use hookgate_core::auth::testing::ISSUER;

/// What is at `url`.
fn feed(url: &str) -> Feed {
    Feed { url: FeedUrl::parse(url).unwrap(), limits: limits(), roots: None }
}

/// The usable keys of one fetch, and how long they are fresh.
async fn fetched_keys(fetcher: &Fetcher) -> Result<(usize, Duration), FetchError> {
    match fetcher.get(&Validators::default()).await? {
        Answer::Document { bytes, fresh_for, .. } => {
            let set = KeySet::parse(&bytes).map_err(|error| FetchError::Document(error.to_string()))?;
            Ok((set.usable_keys(), fresh_for))
        }
        Answer::NotModified { .. } => Err(FetchError::Status(StatusCode::NOT_MODIFIED)),
    }
}

fn limits() -> FetchLimits {
    FetchLimits { timeout: Duration::from_millis(500), max_bytes: 8192, allow_private: true, ..FetchLimits::default() }
}

/// The outcome of one fetch: seconds of freshness, or the label of the error.
async fn outcome(answer: Reply) -> String {
    let server = Server::start(answer).await;
    match fetched_keys(&server.fetcher(limits())).await {
        Ok((keys, fresh_for)) => format!("{keys} keys, fresh for {}", fresh_for.as_secs()),
        Err(error) => error.label().to_owned(),
    }
}

#[tokio::test]
async fn fetches_keys_or_says_why_not() {
    let keys = ISSUER.jwks();
    let raw = |text: String| Reply::Bytes(text.into_bytes());
    let chunked =
        |body: &str| format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n", body.len());
    let head = |length: usize| format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
    for (answer, expected) in [
        (http("200 OK", "cache-control: public, max-age=20000\r\n", &keys), "2 keys, fresh for 20000"),
        (http("200 OK", "", &keys), "2 keys, fresh for 3600"),
        (http("200 OK", "cache-control: no-cache\r\n", &keys), "2 keys, fresh for 60"),
        (http("200 OK", "cache-control: max-age=99999999\r\n", &keys), "2 keys, fresh for 86400"),
        (raw(format!("{}0\r\n\r\n", chunked(&keys))), "2 keys, fresh for 3600"),
        (raw(format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{keys}")), "2 keys, fresh for 3600"),
        // Redirects, which could lead to a server that is nobody's.
        (http("301 Moved Permanently", "location: https://evil.example/keys\r\n", &keys), "redirect"),
        (http("302 Found", "location: http://127.0.0.1/keys\r\n", ""), "redirect"),
        (http("307 Temporary Redirect", "", &keys), "redirect"),
        (http("304 Not Modified", "", ""), "redirect"),
        (http("404 Not Found", "", &keys), "status"),
        (http("500 Internal Server Error", "", &keys), "status"),
        (http("201 Created", "", &keys), "status"),
        // Too much.
        (http("200 OK", "", format!("{keys}{}", " ".repeat(8192))), "too_large"),
        (
            Reply::Endless(
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec(),
                b"400\r\n".iter().copied().chain([b' '; 1024]).chain(*b"\r\n").collect(),
            ),
            "too_large",
        ),
        (Reply::Endless(b"HTTP/1.1 200 OK\r\n".to_vec(), b"x-filler: 0123456789\r\n".repeat(100)), "http"),
        // Too little, or too slowly.
        (Reply::Close, "http"),
        (Reply::Stall(Vec::new()), "timed_out"),
        (Reply::Stall(head(keys.len()).into_bytes()), "timed_out"),
        (Reply::Stall(format!("{}{}", head(keys.len()), &keys[..100]).into_bytes()), "timed_out"),
        (raw(format!("{}{}", head(keys.len() + 1), keys)), "http"),
        (raw(chunked(&keys)), "http"),
        // Something else.
        (raw("SSH-2.0-OpenSSH_9.9\r\n".to_owned()), "http"),
        (http("200 OK", "content-encoding: gzip\r\n", &keys), "content_encoding"),
        (http("200 OK", "", "<!doctype html>"), "document"),
        (http("200 OK", "", &keys[..keys.len() - 1]), "document"),
        (http("200 OK", "", "{\"keys\":[]}"), "document"),
        (http("200 OK", "", ""), "document"),
    ] {
        let shown = match &answer {
            Reply::Bytes(bytes) | Reply::Stall(bytes) | Reply::Endless(bytes, _) => bytes.escape_ascii().to_string(),
            Reply::Close => "a closed connection".to_owned(),
        };
        assert_eq!(outcome(answer).await, expected, "{shown}");
    }
}

#[tokio::test]
async fn a_server_must_prove_its_name() {
    let keys = http("200 OK", "", ISSUER.jwks());
    let server = Server::start(keys.clone()).await;
    let stranger = Server::start(keys).await;
    let fetch = async |url: &str, roots: &RootCertStore| {
        let fetcher = Fetcher::new(&feed(url), tls_settings(roots.clone()).unwrap(), "*/*", false);
        fetched_keys(&fetcher).await.map(|_| ()).map_err(|error| error.label())
    };
    let port = server.address.port();
    let url = format!("https://127.0.0.1:{port}/keys?v=3");
    assert_eq!(fetch(&url, &server.roots).await, Ok(()));
    assert_eq!(fetch(&url, &stranger.roots).await, Err("tls"));
    assert_eq!(fetch(&url, &RootCertStore::empty()).await, Err("tls"));
    assert_eq!(fetch(&format!("https://localhost:{port}/keys?v=3"), &server.roots).await, Err("tls"));
    drop(server);
    tokio::task::yield_now().await;
    assert!(fetch(&url, &stranger.roots).await.is_err());
}

#[tokio::test]
async fn nobody_listening_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let feed = feed(&format!("https://127.0.0.1:{port}/keys"));
    let fetcher = Fetcher::new(&feed, tls_settings(RootCertStore::empty()).unwrap(), "*/*", false);
    let error = fetched_keys(&fetcher).await.unwrap_err();
    assert_eq!(error.label(), "connect");
    assert!(error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");
}

/// A resolver with one answer.
#[derive(Clone)]
struct Fixed(Vec<SocketAddr>);

impl Service<Name> for Fixed {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        ready(Ok(self.0.clone().into_iter()))
    }
}

/// Sockets of `address` that a SYN gets no answer from: the accept queue of the listener is full.
async fn silent(address: SocketAddr) -> (TcpListener, TcpStream) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(address).unwrap();
    let listener = socket.listen(0).unwrap();
    let queued = TcpStream::connect(address).await.unwrap();
    (listener, queued)
}

#[tokio::test]
async fn dead_addresses_leave_time_for_the_next_and_for_the_answer() {
    let live = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = live.local_addr().unwrap().port();
    let dead = [2, 3, 4].map(|last| SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), port)));
    let _silent = [silent(dead[0]).await, silent(dead[1]).await, silent(dead[2]).await];
    let connect = async |addresses: &[SocketAddr]| {
        let mut connector = connector(Fixed(addresses.to_vec()), Duration::from_millis(1600));
        // Everything but what comes after connecting: three quarters of the time of the fetch.
        let url = Uri::from_static("https://issuer.example/keys");
        timeout(Duration::from_millis(1500), connector.call(url))
            .await
            .unwrap()
            .map(|stream| stream.inner().peer_addr())
    };
    let live = live.local_addr().unwrap();
    assert_eq!(connect(&[dead[0], live]).await.unwrap().unwrap(), live);
    assert_eq!(connect(&[dead[0], dead[1], dead[2], live]).await.unwrap().unwrap(), live);
    assert!(connect(&dead).await.is_err());
}

#[test]
fn some_addresses_of_each_family_are_tried() {
    let address = |text: &str| SocketAddr::from((text.parse::<IpAddr>().unwrap(), 0));
    let found = (1..=9).map(|last| address(&format!("2001:db8::{last}")));
    let found = found.chain((1..=9).map(|last| address(&format!("192.0.2.{last}"))));
    let tried: Vec<_> = first_of_each_family(found).iter().map(|address| address.ip().to_string()).collect();
    let [v6, v4] = [&tried[..4], &tried[4..]];
    assert_eq!(v6, ["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4"]);
    assert_eq!(v4, ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"]);
}

#[tokio::test]
async fn the_resolver_finds_the_addresses_of_a_name() {
    let found = Resolver { allow_private: true }.call("localhost".parse().unwrap()).await.unwrap();
    assert!(found.map(|address| address.ip()).all(|address| address.is_loopback()));
}

#[tokio::test]
async fn only_public_addresses_are_connected_to() {
    for (address, expected) in [
        ("1.1.1.1", true),
        ("44.242.69.192", true),
        ("2606:4700::1111", true),
        ("64:ff9b::808:808", true),
        ("127.0.0.1", false),
        ("10.1.2.3", false),
        ("172.31.0.1", false),
        ("192.168.1.1", false),
        ("169.254.169.254", false),
        ("100.64.0.1", false),
        ("0.0.0.0", false),
        ("224.0.0.1", false),
        ("255.255.255.255", false),
        ("::", false),
        ("::1", false),
        ("::ffff:10.0.0.1", false),
        ("64:ff9b::a00:1", false),
        ("fe80::1", false),
        ("fd00::1", false),
        ("ff02::1", false),
    ] {
        assert_eq!(is_public(address.parse().unwrap()), expected, "{address}");
    }
    let server = Server::start(http("200 OK", "", ISSUER.jwks())).await;
    for host in ["127.0.0.1", "localhost", "[::1]"] {
        let feed = feed(&format!("https://{host}:{}/keys?v=3", server.address.port()));
        let limits = FetchLimits { allow_private: false, ..limits() };
        let tls = tls_settings(server.roots.clone()).unwrap();
        let error = fetched_keys(&Fetcher::new(&Feed { limits, ..feed }, tls, "*/*", false)).await.unwrap_err();
        assert_eq!(error.label(), "not_public", "{host}: {error}");
        assert!(error.to_string().contains("allow_private = true"), "{error}");
    }
    assert_eq!(server.hits(), 0);
}

/// What a redirect of `https://example.com/a` leads to.
#[test]
fn redirects_lead_to_https_alone() {
    let from = FeedUrl::parse("https://example.com:8443/a?b").unwrap();
    let to = |location: &'static str, left| {
        let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_static(location))]);
        follow(&from, StatusCode::FOUND, &headers, left, false)
            .map(|url| url.to_string())
            .map_err(|error| error.to_string())
    };
    assert_eq!(to("/c", 1).unwrap(), "https://example.com:8443/c");
    assert_eq!(to("https://b.example/d#e", 1).unwrap(), "https://b.example/d");
    for (location, left, expected) in [
        ("https://b.example/", 0, "too many redirects"),
        ("http://b.example/", 1, "is not an https URL"),
        ("//b.example/", 1, "is not a URL"),
        ("ftp://b.example/", 1, "is not an https URL"),
        ("c", 1, "is not a URL"),
        ("", 1, "is not a URL"),
        ("https://u:p@b.example/", 1, "user name or password"),
    ] {
        let error = to(location, left).unwrap_err();
        assert!(error.contains(expected), "{location}: {error}");
    }
}

/// What is signed may come over plain HTTP, and a redirect never leads from TLS to what has none.
#[test]
fn redirects_of_signed_documents_never_lose_tls() {
    let to = |from: &str, location: &'static str| {
        let from = FeedUrl::parse_signed(from).unwrap();
        let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_static(location))]);
        follow(&from, StatusCode::FOUND, &headers, 1, true)
            .map(|url| url.to_string())
            .map_err(|error| error.to_string())
    };
    let (plain, tls) = ("http://crl.example:8080/a", "https://crl.example/a");
    assert_eq!(to(plain, "/b").unwrap(), "http://crl.example:8080/b");
    assert_eq!(to(plain, "http://other.example/b").unwrap(), "http://other.example/b");
    assert_eq!(to(plain, tls).unwrap(), tls);
    assert!(to(plain, "ldap://other.example/").unwrap_err().contains("is not an http or https URL"));
    assert!(to(tls, plain).unwrap_err().contains("is not an https URL"));
}

#[tokio::test]
async fn only_signed_documents_come_over_plain_http() {
    let server = Server::start_plain(http("200 OK", "", "signed")).await;
    assert!(matches!(server.fetcher(limits()).get(&Validators::default()).await, Ok(Answer::Document { .. })));
    let tls = tls_settings(RootCertStore::empty()).unwrap();
    let unsigned = Fetcher::new(&server.feed(limits()), tls, "*/*", false);
    assert!(unsigned.get(&Validators::default()).await.is_err());
    assert_eq!(server.heads().len(), 1);
}

#[tokio::test]
async fn no_connection_outlives_its_fetch() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n";
    for (answer, expected) in [
        (http("200 OK", "", ISSUER.jwks()), "ok"),
        (Reply::Stall(Vec::new()), "timed_out"),
        (Reply::Stall(head.into()), "timed_out"),
        (Reply::Stall(format!("{head}12345").into()), "timed_out"),
        (Reply::Stall("HTTP/1.1 302 Found\r\ncontent-length: 10\r\n\r\n".into()), "redirect"),
        (Reply::Endless(head.into(), b"12345".to_vec()), "document"),
    ] {
        let server = Server::start(answer).await;
        // A relay, which sees when the client closes.
        let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let feed = feed(&format!("https://{}/keys?v=3", relay.local_addr().unwrap()));
        let fetcher = Fetcher::new(&feed, tls_settings(server.roots.clone()).unwrap(), "*/*", false);
        let fetch =
            tokio::spawn(async move { fetched_keys(&fetcher).await.map_or_else(|error| error.label(), |_| "ok") });
        let (mut requests, mut to_client) = relay.accept().await.unwrap().0.into_split();
        let (mut answers, mut to_server) = TcpStream::connect(server.address).await.unwrap().into_split();
        tokio::spawn(async move { copy(&mut answers, &mut to_client).await });
        let closed = timeout(Duration::from_secs(5), copy(&mut requests, &mut to_server)).await;
        assert!(closed.is_ok(), "{expected}");
        assert_eq!(fetch.await.unwrap(), expected);
    }
}

#[test]
fn reads_freshness_as_rfc_9111_has_it() {
    for (fields, expected) in [
        (&[][..], 3600),
        (&[("cache-control", "public, max-age=23456, must-revalidate, no-transform")], 23_456),
        (&[("cache-control", "max-age=100"), ("age", "30")], 70),
        (&[("cache-control", "max-age=100"), ("age", "300")], 0),
        (&[("cache-control", "MAX-AGE=\"100\"")], 100),
        (&[("cache-control", "max-age=100"), ("cache-control", "max-age=50")], 50),
        (&[("cache-control", "max-age=100, no-store")], 0),
        (&[("cache-control", "no-cache=\"set-cookie\", max-age=100")], 0),
        (&[("cache-control", "max-age=-1")], 0),
        (&[("cache-control", "max-age=")], 0),
        (&[("cache-control", "max-age=99999999999999999999999")], u64::from(u32::MAX)),
        (&[("cache-control", "s-maxage=5, x-max-age=7")], 3600),
        (&[("cache-control", "max-age=100"), ("age", "x")], 100),
    ] {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        assert_eq!(freshness(&headers).as_secs(), expected, "{fields:?}");
    }
}
