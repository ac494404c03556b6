//! The keys of token issuers, from a server or a file: rotation, outage and reload.

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use hookgate_testkit::documents::DIALOGFLOW_CX;
use hookgate_testkit::gateway::Signal;
use hookgate_testkit::pki::{Pki, Sender};
use hookgate_testkit::token::Issuer;
use hookgate_testkit::wait::wait_until;
use tempfile::TempDir;

use super::issuer::{BODY, dialogflow_token, good_bearer, issuer, key_file};
use super::{ProofConfiguration, ProofGateway, post};
use crate::environment::{SOON, quoted};
use crate::publisher::{Answer, Publisher};

/// A key server and the directory of its PKI.
struct KeyPublisher {
    server: Publisher,
    _directory: TempDir,
}

impl KeyPublisher {
    fn start(answer: Answer) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let server = Publisher::start(&Pki::new(directory.path()).unwrap(), answer).unwrap();
        Self { server, _directory: directory }
    }

    fn configuration(&self, lines: &str) -> ProofConfiguration {
        let sections = self.server.source("google", lines);
        ProofConfiguration { provider: dialogflow_token(), sections, ..ProofConfiguration::default() }
    }

    /// The daemon with this key server as its source.
    fn gateway(&self, lines: &str) -> ProofGateway {
        ProofGateway::new(DIALOGFLOW_CX, |_| self.configuration(lines)).unwrap()
    }
}

fn key_set(issuers: &[&Issuer]) -> Answer {
    Answer::keys(&Issuer::key_set(issuers).unwrap())
}

fn fetches(gateway: &ProofGateway, result: &str) -> f64 {
    gateway.base.daemon.metric("hookgate_fetches_total", &[("source", "google"), ("result", result)]).unwrap()
}

fn wait_fetches(gateway: &ProofGateway, result: &str, least: f64) {
    let labels = [("source", "google"), ("result", result)];
    gateway.base.daemon.wait_metric("hookgate_fetches_total", &labels, least, SOON).unwrap();
}

fn admitted(gateway: &ProofGateway, what: &str, issuer: &Issuer) {
    gateway.expect_admitted(what, &[("Authorization", &good_bearer(issuer))], BODY);
}

fn refused(gateway: &ProofGateway, what: &str, issuer: &Issuer, expected: (u16, &str)) {
    gateway.expect_refused(what, expected, &[("Authorization", &good_bearer(issuer))], BODY);
}

#[test]
fn keys_are_fetched_before_the_first_token_and_then_kept() {
    let ours = issuer("key-1");
    let publisher = KeyPublisher::start(key_set(&[&ours]));
    let gateway = publisher.gateway("");
    wait_fetches(&gateway, "ok", 1.0);
    for _ in 0..5 {
        admitted(&gateway, "a token", &ours);
    }
    assert_eq!(publisher.server.requests(), 1);
    let gauge = |name: &str| gateway.base.daemon.metric(name, &[("source", "google")]).unwrap();
    let fetched = gauge("hookgate_fetched_timestamp_seconds");
    assert!((fetched - super::now() as f64).abs() < 30.0, "{fetched}");
    // The hour of Cache-Control, and a day of staleness, the default.
    assert_eq!(gauge("hookgate_keys_usable_until_timestamp_seconds") - fetched, 90_000.0);
}

#[test]
fn a_new_key_is_fetched_when_a_token_names_it_and_unknown_ones_cause_no_further_fetch() {
    let (old, new) = (issuer("key-1"), issuer("key-2"));
    let publisher = KeyPublisher::start(key_set(&[&old]));
    let gateway = publisher.gateway("");
    wait_fetches(&gateway, "ok", 1.0);
    admitted(&gateway, "before the rotation", &old);
    publisher.server.set(key_set(&[&old, &new]).after(Duration::from_millis(200)));
    admitted(&gateway, "the first token of the new key", &new);
    admitted(&gateway, "the old key", &old);
    assert_eq!(publisher.server.requests(), 2);
    thread::scope(|scope| {
        for index in 0..20 {
            let unknown = issuer(&format!("made-up-{index}"));
            let gateway = &gateway;
            scope.spawn(move || {
                let response = gateway.send(&[("Authorization", &good_bearer(&unknown))], BODY);
                assert_eq!(response.reason().as_deref(), Some("token_unknown_key"), "{}", response.text());
            });
        }
    });
    assert_eq!((publisher.server.requests(), fetches(&gateway, "ok")), (2, 2.0), "unknown names caused fetches");
    publisher.server.set(key_set(&[&new]));
    // A reload alone fetches nothing. One that changes the source does.
    gateway.reload(&publisher.configuration("timeout_ms = 9000"));
    wait_fetches(&gateway, "ok", 3.0);
    refused(&gateway, "the key that was withdrawn", &old, (401, "token_unknown_key"));
    admitted(&gateway, "the new key", &new);
}

#[test]
fn one_fetch_serves_all_requests_that_wait_for_a_new_key() {
    let (old, new) = (issuer("key-1"), issuer("key-2"));
    let publisher = KeyPublisher::start(key_set(&[&old]));
    let gateway = publisher.gateway("");
    wait_fetches(&gateway, "ok", 1.0);
    publisher.server.set(key_set(&[&old, &new]).after(Duration::from_millis(500)));
    thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                let response = gateway.send(&[("Authorization", &good_bearer(&new))], BODY);
                assert_eq!(response.status, 200, "{}", response.text());
            });
        }
    });
    assert_eq!(publisher.server.requests(), 2);
}

#[test]
fn an_unknown_key_is_refused_when_the_issuer_does_not_answer_in_time() {
    let ours = issuer("key-1");
    let publisher = KeyPublisher::start(key_set(&[&ours]));
    let gateway = publisher.gateway("timeout_ms = 400");
    wait_fetches(&gateway, "ok", 1.0);
    publisher.server.set(Answer::Trickle);
    refused(&gateway, "an unknown key", &issuer("key-2"), (401, "token_unknown_key"));
    wait_fetches(&gateway, "timed_out", 1.0);
    admitted(&gateway, "the known one", &ours);
}

/// Each reload changes a bound of the source: it fetches at once, and keeps the keys that are present.
#[test]
fn an_invalid_key_set_is_refused_and_the_old_keys_stay() {
    let ours = issuer("key-1");
    let good = Issuer::key_set(&[&ours]).unwrap();
    let publisher = KeyPublisher::start(Answer::keys(&good));
    let lines = "timeout_ms = 700\nmax_bytes = 4096";
    let gateway = publisher.gateway(lines);
    wait_fetches(&gateway, "ok", 1.0);
    let huge = format!("{good}{}", " ".repeat(5000));
    let private = good.replace("\"crv\"", "\"d\":\"AAAA\",\"crv\"");
    let chunked =
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFF\r\n", [b' '; 8192].as_slice()].concat();
    let moved = "Location: https://127.0.0.1:1/keys\r\n";
    let rows = [
        ("an outage", "tls", Answer::Close),
        ("slow to begin", "timed_out", Answer::keys(&good).after(Duration::from_secs(2))),
        ("slow to end", "timed_out", Answer::Trickle),
        ("huge", "too_large", Answer::keys(&huge)),
        ("huge without saying so", "too_large", Answer::Bytes(chunked, Duration::ZERO)),
        (
            "broken off",
            "http",
            Answer::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{".to_vec(), Duration::ZERO),
        ),
        ("not HTTP", "http", Answer::Bytes(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(), Duration::ZERO)),
        ("a redirect", "redirect", Answer::status("302 Found", moved)),
        ("a permanent redirect", "redirect", Answer::status("308 Permanent Redirect", moved)),
        ("an error", "status", Answer::status("500 Internal Server Error", "")),
        ("nothing there", "status", Answer::status("404 Not Found", "")),
        ("no content", "status", Answer::status("204 No Content", "")),
        ("compressed", "content_encoding", Answer::ok("Content-Encoding: gzip\r\n", good.as_bytes())),
        ("not JSON", "document", Answer::keys("<html>login</html>")),
        ("truncated JSON", "document", Answer::keys(&good[..good.len() - 2])),
        ("another document", "document", Answer::keys("{\"issuer\":\"https://accounts.google.com\"}")),
        ("no keys", "document", Answer::keys("{\"keys\":[]}")),
        ("a private key", "document", Answer::keys(&private)),
    ];
    for (row, (what, result, answer)) in rows.into_iter().enumerate() {
        let before = fetches(&gateway, result);
        publisher.server.set(answer);
        // A source with another bound is fetched at once, and keeps its keys.
        let lines = lines.replace("700", &(701 + row).to_string());
        gateway.reload(&publisher.configuration(&lines));
        admitted(&gateway, what, &ours);
        wait_fetches(&gateway, result, before + 1.0);
        admitted(&gateway, what, &ours);
    }
    assert!(gateway.base.daemon.log().contains("redirects are not followed"), "{}", gateway.base.daemon.log());
    let before = fetches(&gateway, "unchanged");
    publisher.server.set(Answer::keys(&good));
    // The daemon retries without a further reload.
    wait_fetches(&gateway, "unchanged", before + 1.0);
    admitted(&gateway, "after it all", &ours);
}

#[test]
fn without_keys_requests_are_refused_with_a_retry_after() {
    let ours = issuer("key-1");
    let publisher = KeyPublisher::start(Answer::Close);
    let gateway = publisher.gateway("");
    wait_fetches(&gateway, "tls", 1.0);
    refused(&gateway, "a good token", &ours, (503, "keys_unavailable"));
    gateway.expect_refused("no token", (401, "token_missing"), &[], BODY);
    publisher.server.set(key_set(&[&ours]));
    wait_fetches(&gateway, "ok", 1.0);
    admitted(&gateway, "the good token", &ours);
}

#[test]
fn an_absent_or_wrong_server_gives_no_keys() {
    let ours = issuer("key-1");
    let publisher = KeyPublisher::start(key_set(&[&ours]));
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let check = |result: &str, change: &dyn Fn(&str, &crate::environment::Environment) -> String| {
        let gateway = ProofGateway::new(DIALOGFLOW_CX, |environment| {
            let mut configuration = publisher.configuration("");
            configuration.sections = change(&configuration.sections, environment);
            configuration
        });
        let gateway = gateway.unwrap();
        wait_fetches(&gateway, result, 1.0);
        assert_eq!(fetches(&gateway, "ok"), 0.0);
        refused(&gateway, result, &ours, (503, "keys_unavailable"));
    };
    let port_of = |text: &str| {
        let after = text.split("127.0.0.1:").nth(1).unwrap();
        after.split('/').next().unwrap().to_owned()
    };
    check("connect", &|text, _| text.replace(&port_of(text), &closed.port().to_string()));
    // The certificate is for 127.0.0.1 and ::1, and is trusted only through its own root.
    check("tls", &|text, _| text.replace("https://127.0.0.1", "https://localhost"));
    check("tls", &|text, environment| {
        let stranger = quoted(environment.pki.sender(Sender::PagerDuty).root.path());
        text.lines()
            .map(
                |line| {
                    if line.starts_with("ca_file") { format!("ca_file = {stranger}\n") } else { format!("{line}\n") }
                },
            )
            .collect()
    });
}

#[test]
fn keys_from_a_file_are_replaced_by_a_reload() {
    let (old, new) = (issuer("key-1"), issuer("key-2"));
    let configuration = |environment: &_, issuers: &[&Issuer]| {
        let sections = key_file(environment, "google", issuers);
        ProofConfiguration { provider: dialogflow_token(), sections, ..ProofConfiguration::default() }
    };
    let gateway = ProofGateway::new(DIALOGFLOW_CX, |environment| configuration(environment, &[&old])).unwrap();
    admitted(&gateway, "from the first moment", &old);
    refused(&gateway, "a key that is not in the file", &new, (401, "token_unknown_key"));
    gateway.reload(&configuration(&gateway.base.environment, &[&old, &new]));
    admitted(&gateway, "both", &old);
    admitted(&gateway, "both", &new);
    gateway.reload(&configuration(&gateway.base.environment, &[&new]));
    refused(&gateway, "a key that was taken out", &old, (401, "token_unknown_key"));
    gateway.base.environment.write("google.json", "{\"keys\":").unwrap();
    gateway.base.daemon.signal(Signal::HUP).unwrap();
    let labels = [("result", "error")];
    gateway.base.daemon.wait_metric("hookgate_config_reloads_total", &labels, 1.0, SOON).unwrap();
    gateway.base.daemon.wait_log("google.json", SOON).unwrap();
    admitted(&gateway, "a file that cannot be read changes nothing", &new);
}

#[test]
fn keys_survive_reloads_without_a_gap() {
    let ours = issuer("key-1");
    let publisher = KeyPublisher::start(key_set(&[&ours]));
    let gateway = publisher.gateway("");
    wait_fetches(&gateway, "ok", 1.0);
    // The server is slower than the reloads, and then fails: only kept keys can verify a token.
    publisher.server.set(key_set(&[&ours]).after(SOON));
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let request = post(DIALOGFLOW_CX.path, &[("Authorization", &good_bearer(&ours))], BODY);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut connection = gateway.connect();
                while !over.load(Ordering::Relaxed) {
                    assert_eq!(connection.ask(&request).unwrap().status, 200);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for index in 0..16 {
            if index == 8 {
                publisher.server.set(Answer::Close);
            }
            gateway.reload(&publisher.configuration(""));
            let before = answered.load(Ordering::Relaxed);
            let more = || answered.load(Ordering::Relaxed) > before + 4;
            if wait_until("requests after a reload", SOON, more).is_err() {
                break;
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(answered.into_inner() > 16 * 4, "requests stopped");
    assert_eq!(gateway.base.rejections("keys_unavailable").unwrap(), 0.0);
    assert_eq!(publisher.server.requests(), 1, "a reload fetched keys that were fresh");
}

#[test]
fn reloads_of_an_unchanged_source_fetch_nothing() {
    let (ours, newer) = (issuer("key-1"), issuer("key-2"));
    let publisher = KeyPublisher::start(key_set(&[&ours]));
    let gateway = publisher.gateway("");
    wait_fetches(&gateway, "ok", 1.0);
    let limited = |bytes: usize| {
        let limits = format!("max_body_bytes = {bytes}");
        ProofConfiguration { limits, ..publisher.configuration("") }
    };
    for index in 0..30 {
        gateway.reload(&limited(100_000 + index));
        admitted(&gateway, "after a reload", &ours);
    }
    assert_eq!((publisher.server.requests(), fetches(&gateway, "ok")), (1, 1.0));
    // An unknown key still causes a fetch, whose keys the configuration in use gets; and one fetch in 30 seconds, over all reloads.
    publisher.server.set(key_set(&[&ours, &newer]));
    admitted(&gateway, "a new key", &newer);
    for index in 0..5 {
        gateway.reload(&limited(200_000 + index));
        let unknown = issuer(&format!("made-up-{index}"));
        refused(&gateway, "an unknown key", &unknown, (401, "token_unknown_key"));
        admitted(&gateway, "the new key", &newer);
    }
    assert_eq!(publisher.server.requests(), 2);
}

#[test]
fn keys_of_another_url_are_not_kept() {
    let (ours, theirs) = (issuer("key-1"), issuer("key-1"));
    let (first, second) = (KeyPublisher::start(key_set(&[&ours])), KeyPublisher::start(Answer::Trickle));
    let gateway = first.gateway("");
    wait_fetches(&gateway, "ok", 1.0);
    admitted(&gateway, "the first issuer", &ours);
    gateway.reload(&second.configuration(""));
    refused(&gateway, "the first issuer, after the second took its place", &ours, (503, "keys_unavailable"));
    second.server.set(key_set(&[&theirs]));
    gateway.reload(&second.configuration("timeout_ms = 9000"));
    wait_fetches(&gateway, "ok", 2.0);
    admitted(&gateway, "the second issuer", &theirs);
    refused(&gateway, "the first issuer", &ours, (401, "token_bad_signature"));
}

/// Each restart is a process that cannot reach the issuer.
#[test]
fn a_restart_without_network_uses_kept_keys_and_no_damaged_ones() {
    let ours = issuer("key-1");
    let publisher = KeyPublisher::start(key_set(&[&ours]));
    let kept = tempfile::tempdir().unwrap();
    fs::set_permissions(kept.path(), Permissions::from_mode(0o700)).unwrap();
    let configuration = || {
        let mut configuration = publisher.configuration("");
        configuration.sections += &format!("[state]\ndirectory = {}\n", quoted(kept.path()));
        configuration
    };
    let start = || ProofGateway::new(DIALOGFLOW_CX, |_| configuration()).unwrap();
    let is_of_keys = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("keys-");
    let all = || fs::read_dir(kept.path()).unwrap().map(|entry| entry.unwrap().path());
    let files = || all().filter(is_of_keys).collect::<Vec<_>>();
    let gateway = start();
    wait_fetches(&gateway, "ok", 1.0);
    admitted(&gateway, "fetched", &ours);
    wait_until("the keys are kept", SOON, || files().len() == 1).unwrap();
    drop(gateway);

    publisher.server.set(Answer::Close);
    let gateway = start();
    admitted(&gateway, "kept", &ours);
    let log = gateway.base.daemon.log();
    assert!(log.contains("using the kept copy") && log.contains("holds=\"1 key\" age_s="), "{log}");
    drop(gateway);

    let file = files().remove(0);
    let whole = fs::read_to_string(&file).unwrap();
    fs::write(&file, whole.replace("\"kty\"", "\"kTy\"")).unwrap();
    let gateway = start();
    refused(&gateway, "damaged", &ours, (503, "keys_unavailable"));
    assert!(gateway.base.daemon.log().contains("the file is damaged"), "{}", gateway.base.daemon.log());
    drop(gateway);

    fs::remove_file(&file).unwrap();
    let gateway = start();
    refused(&gateway, "nothing kept", &ours, (503, "keys_unavailable"));
    publisher.server.set(key_set(&[&ours]));
    wait_fetches(&gateway, "ok", 1.0);
    admitted(&gateway, "fetched again", &ours);
}

#[test]
fn keys_that_have_not_changed_are_not_sent_again() {
    let ours = issuer("key-1");
    let answer = Answer::ok("ETag: \"one\"\r\n", Issuer::key_set(&[&ours]).unwrap().as_bytes());
    let publisher = KeyPublisher::start(Answer::Unless("\"one\"", answer.into()));
    let gateway = publisher.gateway("");
    wait_fetches(&gateway, "ok", 1.0);
    gateway.reload(&publisher.configuration("timeout_ms = 9000"));
    wait_fetches(&gateway, "not_modified", 1.0);
    admitted(&gateway, "confirmed", &ours);
    assert_eq!(fetches(&gateway, "ok"), 1.0);
}
