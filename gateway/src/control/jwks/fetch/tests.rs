//! Tests of one fetch against a real server over TLS, and of what it reads out of URLs and header fields.

#![expect(clippy::unwrap_used, reason = "tests")]

use hyper::header::{HeaderName, HeaderValue};

use super::super::tests::{Answer, KeyServer, http};
use super::*;
use hookgate_core::auth::testing::ISSUER;

fn limits() -> FetchLimits {
    FetchLimits { timeout: Duration::from_millis(500), max_bytes: 8192, ..FetchLimits::default() }
}

/// The outcome of one fetch: seconds of freshness, or the label of the error.
async fn outcome(answer: Answer) -> String {
    let server = KeyServer::start(answer).await;
    match server.fetcher(limits()).fetch().await {
        Ok(fetched) => format!("{} keys, fresh for {}", fetched.set.usable_keys(), fetched.fresh_for.as_secs()),
        Err(error) => error.label().to_owned(),
    }
}

#[tokio::test]
async fn fetches_keys_or_says_why_not() {
    let keys = ISSUER.jwks();
    let raw = |text: String| Answer::Bytes(text.into_bytes());
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
        (http("200 OK", "", &format!("{keys}{}", " ".repeat(8192))), "too_large"),
        (
            Answer::Endless(
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec(),
                b"400\r\n".iter().copied().chain([b' '; 1024]).chain(*b"\r\n").collect(),
            ),
            "too_large",
        ),
        (Answer::Endless(b"HTTP/1.1 200 OK\r\n".to_vec(), b"x-filler: 0123456789\r\n".repeat(100)), "http"),
        // Too little, or too slowly.
        (Answer::Close, "http"),
        (Answer::Stall(Vec::new()), "timed_out"),
        (Answer::Stall(head(keys.len()).into_bytes()), "timed_out"),
        (Answer::Stall(format!("{}{}", head(keys.len()), &keys[..100]).into_bytes()), "timed_out"),
        (raw(format!("{}{}", head(keys.len() + 1), keys)), "http"),
        (raw(chunked(&keys)), "http"),
        // Something else.
        (raw("SSH-2.0-OpenSSH_9.9\r\n".to_owned()), "http"),
        (http("200 OK", "content-encoding: gzip\r\n", &keys), "content_encoding"),
        (http("200 OK", "", "<!doctype html>"), "key_set"),
        (http("200 OK", "", &keys[..keys.len() - 1]), "key_set"),
        (http("200 OK", "", "{\"keys\":[]}"), "key_set"),
        (http("200 OK", "", ""), "key_set"),
    ] {
        let shown = match &answer {
            Answer::Bytes(bytes) | Answer::Stall(bytes) | Answer::Endless(bytes, _) => bytes.escape_ascii().to_string(),
            Answer::Close => "a closed connection".to_owned(),
        };
        assert_eq!(outcome(answer).await, expected, "{shown}");
    }
}

#[tokio::test]
async fn a_server_must_prove_its_name() {
    let keys = http("200 OK", "", &ISSUER.jwks());
    let server = KeyServer::start(keys.clone()).await;
    let stranger = KeyServer::start(keys).await;
    let fetch = async |url: &str, roots: &RootCertStore| {
        let fetcher = Fetcher::new(KeyUrl::parse(url).unwrap(), tls_settings(roots.clone()).unwrap(), limits());
        fetcher.fetch().await.map(|_| ()).map_err(|error| error.label())
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
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let url = KeyUrl::parse(&format!("https://127.0.0.1:{port}/keys")).unwrap();
    let error = Fetcher::new(url, tls_settings(RootCertStore::empty()).unwrap(), limits()).fetch().await.unwrap_err();
    assert_eq!(error.label(), "connect");
    assert!(error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");
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
