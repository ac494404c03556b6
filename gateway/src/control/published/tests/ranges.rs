//! Lists of ranges: what is refused, what is kept, and what start-up and reloads do.

use rustls::RootCertStore;

use super::*;

const GUARD: Guard = Guard { largest_shrink: 0.5, forced: false };
const FOUR: &str = "192.0.2.0/26\n192.0.2.64/26\n192.0.2.128/26\n192.0.2.192/26\n";

fn source(feed: Feed) -> Source {
    Source::Ranges(Arc::new(RangeSource { feed, format: RangeFormat::Any }))
}

async fn kept(reply: Reply, state: Option<&StateDirectory>) -> Kept {
    Kept::start(Server::start(reply).await, source, Terms::Ranges(GUARD), state).await
}

fn count(copy: Option<Arc<Copy>>) -> usize {
    match copy.as_deref().map(|copy| &copy.content) {
        Some(Content::Ranges(ranges)) => ranges.len(),
        _ => 0,
    }
}

fn list(text: &str) -> Reply {
    http("200 OK", "etag: \"one\"\r\n", text)
}

#[tokio::test]
async fn whatever_a_publisher_answers_the_copy_in_use_stays_until_a_better_one_is_there() {
    let kept = kept(list(FOUR), None).await;
    assert_eq!(kept.round().await, Ok("ok"));
    let raw = |text: &str| Reply::Bytes(text.as_bytes().to_vec());
    let moved = |to: &str| http("302 Found", &format!("location: {to}\r\n"), "");
    let here = format!("https://{}/keys?v=3", kept.server.address);
    for (reply, label, text) in [
        (
            list("192.0.2.0/26\n"),
            "refused",
            "75 % of the IPv4 addresses, and at most 50 % may go at once (largest_shrink_percent in [filter])",
        ),
        (list("192.0.2.0/26\n"), "refused", "write force_shrink = true in [filter] and reload"),
        (list(""), "document", "holds no range"),
        (
            list("<!doctype html><title>Sign in</title>"),
            "document",
            "it is a page of HTML or XML, not a list of ranges",
        ),
        (
            list("{\"message\": \"rate limit\"}"),
            "document",
            "a JSON object without `prefixes`; to say where its ranges are, write pointer",
        ),
        (list("{\"hooks\": [\"192.0.2.0/24\"]}"), "document", "write pointer = \"/hooks/*\""),
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
        kept.refuses(reply, label, text).await;
    }
    kept.server.answer(http("304 Not Modified", "", ""));
    assert_eq!(kept.round().await, Ok("not_modified"));
    kept.server.answer(list(FOUR));
    assert_eq!(kept.round().await, Ok("unchanged"));
    kept.server.answer(list(&format!("{FOUR}198.51.100.0/24\n")));
    assert_eq!(kept.round().await, Ok("ok"));
    assert_eq!(kept.in_use(), "5 ranges");
    // The version of the copy is asked for, also after failures.
    let heads = kept.server.heads();
    assert!(!heads[0].contains("if-none-match"), "{heads:#?}");
    assert!(heads[1..].iter().all(|head| head.contains("if-none-match: \"one\"")), "{heads:#?}");
}

#[tokio::test]
async fn a_private_publisher_is_refused_also_behind_a_redirect() {
    let kept = kept(list(FOUR), None).await;
    assert_eq!(kept.round().await, Ok("ok"));
    kept.refuses_redirects_to_private_addresses().await;
    let hits = kept.server.hits();
    let limits = FetchLimits { allow_private: false, ..limits() };
    let feed = Feed { limits, ..kept.place.source.feed().clone() };
    let fetcher = Fetcher::new(&feed, tls_settings(RootCertStore::empty()).unwrap(), "*/*", false);
    let error = fetcher.get(&Validators::default()).await.unwrap_err();
    assert_eq!(error.label(), "not_public");
    assert_eq!(kept.server.hits(), hits);
}

#[tokio::test]
async fn bad_tls_is_an_error() {
    let kept = kept(list(FOUR), None).await;
    let tls = tls_settings(RootCertStore::empty()).unwrap();
    let fetcher = Fetcher::new(kept.place.source.feed(), tls, "*/*", false);
    let error = fetcher.get(&Validators::default()).await.unwrap_err();
    assert!(error.label() == "tls" && error.to_string().contains("in the ca_file of this URL"), "{error}");
}

#[tokio::test]
async fn a_list_that_the_filter_refuses_changes_nothing() {
    let mut kept = kept(list(FOUR), None).await;
    kept.verdict = Err("[filter]: too many ranges".to_owned());
    let (label, text) = kept.round().await.unwrap_err();
    assert!(label == "refused" && text.contains("too many ranges"), "{text}");
    assert_eq!(kept.in_use(), "");
}

#[tokio::test]
async fn a_shrink_that_is_forced_is_taken() {
    let kept = kept(list(FOUR), None).await;
    assert_eq!(kept.round().await, Ok("ok"));
    kept.server.answer(list("192.0.2.0/26\n"));
    assert_eq!(kept.round().await.unwrap_err().0, "refused");
    kept.place.accept(Terms::Ranges(Guard { forced: true, ..GUARD }));
    assert_eq!(kept.round().await, Ok("ok"));
    assert_eq!(kept.in_use(), "1 range");
}

#[tokio::test]
async fn a_start_without_network_uses_the_kept_copy() {
    let (_at, state) = state();
    let kept = kept(list(FOUR), Some(&state)).await;
    assert_eq!(kept.round().await, Ok("ok"));
    let copy = kept.restarted(&state).unwrap();
    assert_eq!((copy.validators.etag.as_deref(), &*copy.content.to_string()), (Some("\"one\""), "4 ranges"));
    assert!(now() - copy.fetched < 60);
    let (name, bytes) = file(&state, "ranges-");
    for damaged in damages(&bytes) {
        state.write(&name, &damaged).unwrap();
        assert!(kept.restarted(&state).is_none(), "{}", damaged.escape_ascii());
    }
    // The next round replaces the damaged file.
    assert_eq!(kept.round().await, Ok("unchanged"));
    assert!(kept.restarted(&state).is_none(), "the copy in use was kept less than an hour ago");
    kept.server.answer(list(&format!("{FOUR}198.51.100.0/24\n")));
    assert_eq!(kept.round().await, Ok("ok"));
    assert_eq!(count(kept.restarted(&state)), 5);
}

/// A copy that is confirmed for weeks is young, although its document is old.
#[tokio::test]
async fn the_age_of_a_kept_copy_is_that_of_its_confirmation() {
    let (_at, state) = state();
    let mut kept = kept(list(FOUR), Some(&state)).await;
    Arc::get_mut(&mut kept.place).unwrap().clock = clock;
    let start = now() - 10_000_000;
    let age = |seconds: u64| CLOCK.store(start + seconds, Ordering::Relaxed);
    let fetched = |kept: &Kept| kept.restarted(&state).unwrap().fetched;
    age(0);
    assert_eq!(kept.round().await, Ok("ok"));
    let first = fetched(&kept);
    kept.server.answer(http("304 Not Modified", "", ""));
    for (seconds, noted) in [(60, 0), (3599, 0), (3600, 3600), (3700, 3600), (900_000, 900_000)] {
        age(seconds);
        assert_eq!(kept.round().await, Ok("not_modified"));
        assert_eq!(kept.place.current.load_full().unwrap().fetched - first, seconds);
        assert_eq!(fetched(&kept) - first, noted, "{seconds}");
    }
}

#[tokio::test]
async fn a_reload_that_leaves_a_list_as_it_is_fetches_nothing() {
    let server = Server::start(list(FOUR)).await;
    let source = source(server.feed(limits()));
    let mut publisher = Publisher::default();
    publisher.adopt(publisher.prepare(vec![(source.clone(), Terms::Ranges(GUARD))], None).unwrap());
    assert!(publisher.known(&source).is_none());
    let deadline = Publisher::first_deadline();
    let offer = publisher.first_offer(deadline).await.unwrap();
    assert_eq!((offer.source(), count(Some(Arc::clone(offer.copy())))), (&source, 4));
    offer.answer(Ok(()));
    assert!(publisher.first_offer(deadline).await.is_none());
    assert_eq!(count(publisher.known(&source)), 4);
    let same = Source::Ranges(Arc::new(RangeSource { feed: server.feed(limits()), format: RangeFormat::Any }));
    for _ in 0..20 {
        let prepared = publisher.prepare(vec![(same.clone(), Terms::Ranges(GUARD))], None).unwrap();
        assert_eq!(count(prepared.known(&source)), 4);
        publisher.adopt(prepared);
    }
    assert_eq!(server.hits(), 1);
    publisher.adopt(publisher.prepare(Vec::new(), None).unwrap());
    assert!(publisher.known(&source).is_none());
}

/// As an operator does who has looked at the list: `force_shrink`, and a reload.
#[tokio::test]
async fn a_reload_that_forces_a_shrink_fetches_at_once() {
    let server = Server::start(list(FOUR)).await;
    let source = source(server.feed(limits()));
    let sources = |guard| vec![(source.clone(), Terms::Ranges(guard))];
    let mut publisher = Publisher::default();
    publisher.adopt(publisher.prepare(sources(GUARD), None).unwrap());
    publisher.offer().await.answer(Ok(()));
    server.answer(list("192.0.2.0/26\n"));
    let forced = Guard { forced: true, ..GUARD };
    publisher.adopt(publisher.prepare(sources(forced), None).unwrap());
    publisher.offer().await.answer(Ok(()));
    assert_eq!(count(publisher.known(&source)), 1);
    assert_eq!(server.hits(), 2);
}

/// Both offers are answered before a task runs again.
#[tokio::test]
async fn two_lists_that_come_at_once_are_both_in_force() {
    let servers = [Server::start(list(FOUR)).await, Server::start(list("198.51.100.0/24\n")).await];
    let sources = servers.each_ref().map(|server| source(server.feed(limits())));
    let wanted = sources.iter().map(|source| (source.clone(), Terms::Ranges(GUARD))).collect();
    let mut publisher = Publisher::default();
    publisher.adopt(publisher.prepare(wanted, None).unwrap());
    let deadline = Publisher::first_deadline();
    let first = publisher.first_offer(deadline).await.unwrap();
    let second = publisher.first_offer(deadline).await.unwrap();
    first.answer(Ok(()));
    second.answer(Ok(()));
    assert_eq!(sources.map(|source| count(publisher.known(&source))), [4, 1]);
}

#[tokio::test]
async fn start_up_waits_for_no_list_that_fails() {
    let server = Server::start(Reply::Close).await;
    let source = source(server.feed(limits()));
    let mut publisher = Publisher::default();
    publisher.adopt(publisher.prepare(vec![(source, Terms::Ranges(GUARD))], None).unwrap());
    let began = Instant::now();
    assert!(publisher.first_offer(Publisher::first_deadline()).await.is_none());
    assert!(began.elapsed() < FIRST_ROUND / 2, "{:?}", began.elapsed());
}
