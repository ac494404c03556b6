//! The keys of token issuers: from a server or a file, over rotation, outage and reload.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use hookgate_testkit::documents::DIALOGFLOW_CX;
use hookgate_testkit::gateway::Signal;
use hookgate_testkit::handler::eventually;
use hookgate_testkit::pki::{Pki, Sender};
use hookgate_testkit::token::Issuer;
use tempfile::TempDir;

use super::issuer::{BODY, dialogflow_token, good_bearer, issuer, key_file};
use super::key_server::{Answer, KeyServer};
use super::{Demand, Gate, post};
use crate::world::{SOON, quoted};

/// A server of keys, and the PKI of its certificate.
struct Publisher {
    server: KeyServer,
    _directory: TempDir,
}

impl Publisher {
    fn start(answer: Answer) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let server = KeyServer::start(&Pki::new(directory.path()).unwrap(), answer).unwrap();
        Self { server, _directory: directory }
    }

    fn demand(&self, lines: &str) -> Demand {
        let sections = self.server.source("google", lines);
        Demand { provider: dialogflow_token(), sections, ..Demand::default() }
    }

    /// The daemon that fetches from here.
    fn gate(&self, lines: &str) -> Gate {
        Gate::new(DIALOGFLOW_CX, |_| self.demand(lines)).unwrap()
    }
}

fn key_set(issuers: &[&Issuer]) -> Answer {
    Answer::keys(&Issuer::key_set(issuers).unwrap())
}

fn fetches(gate: &Gate, result: &str) -> f64 {
    gate.world.gateway.metric("hookgate_key_fetches_total", &[("source", "google"), ("result", result)]).unwrap()
}

fn wait_fetches(gate: &Gate, result: &str, least: f64) {
    let labels = [("source", "google"), ("result", result)];
    gate.world.gateway.wait_metric("hookgate_key_fetches_total", &labels, least, SOON).unwrap();
}

fn admitted(gate: &Gate, what: &str, issuer: &Issuer) {
    gate.admitted(what, &[("Authorization", &good_bearer(issuer))], BODY);
}

fn refused(gate: &Gate, what: &str, issuer: &Issuer, expected: (u16, &str)) {
    gate.refused(what, expected, &[("Authorization", &good_bearer(issuer))], BODY);
}

#[test]
fn keys_are_fetched_before_anybody_needs_them_and_then_kept() {
    let ours = issuer("key-1");
    let publisher = Publisher::start(key_set(&[&ours]));
    let gate = publisher.gate("");
    wait_fetches(&gate, "ok", 1.0);
    for _ in 0..5 {
        admitted(&gate, "a token", &ours);
    }
    assert_eq!(publisher.server.requests(), 1);
    let gauge = |name: &str| gate.world.gateway.metric(name, &[("source", "google")]).unwrap();
    let fetched = gauge("hookgate_keys_fetched_timestamp_seconds");
    assert!((fetched - super::now() as f64).abs() < 30.0, "{fetched}");
    // An hour, as the server says, and a day of staleness, which is the default.
    assert_eq!(gauge("hookgate_keys_usable_until_timestamp_seconds") - fetched, 90_000.0);
}

#[test]
fn a_new_key_is_fetched_when_a_token_names_it_and_unknown_ones_cause_no_more() {
    let (old, new) = (issuer("key-1"), issuer("key-2"));
    let publisher = Publisher::start(key_set(&[&old]));
    let gate = publisher.gate("");
    wait_fetches(&gate, "ok", 1.0);
    admitted(&gate, "before the rotation", &old);
    publisher.server.set(key_set(&[&old, &new]).after(Duration::from_millis(200)));
    admitted(&gate, "the first token of the new key", &new);
    admitted(&gate, "the old key", &old);
    assert_eq!(publisher.server.requests(), 2);
    thread::scope(|scope| {
        for index in 0..20 {
            let unknown = issuer(&format!("made-up-{index}"));
            let gate = &gate;
            scope.spawn(move || {
                let response = gate.send(&[("Authorization", &good_bearer(&unknown))], BODY);
                assert_eq!(response.reason().as_deref(), Some("token_unknown_key"), "{}", response.text());
            });
        }
    });
    assert_eq!((publisher.server.requests(), fetches(&gate, "ok")), (2, 2.0), "made-up names led to fetches");
    publisher.server.set(key_set(&[&new]));
    gate.reload(&publisher.demand(""));
    wait_fetches(&gate, "ok", 3.0);
    refused(&gate, "the key that was withdrawn", &old, (401, "token_unknown_key"));
    admitted(&gate, "the new key", &new);
}

#[test]
fn one_fetch_serves_everybody_who_waits_for_a_new_key() {
    let (old, new) = (issuer("key-1"), issuer("key-2"));
    let publisher = Publisher::start(key_set(&[&old]));
    let gate = publisher.gate("");
    wait_fetches(&gate, "ok", 1.0);
    publisher.server.set(key_set(&[&old, &new]).after(Duration::from_millis(500)));
    thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                let response = gate.send(&[("Authorization", &good_bearer(&new))], BODY);
                assert_eq!(response.status, 200, "{}", response.text());
            });
        }
    });
    assert_eq!(publisher.server.requests(), 2);
}

#[test]
fn an_unknown_key_is_refused_when_the_issuer_does_not_answer_in_time() {
    let ours = issuer("key-1");
    let publisher = Publisher::start(key_set(&[&ours]));
    let gate = publisher.gate("timeout_ms = 400");
    wait_fetches(&gate, "ok", 1.0);
    publisher.server.set(Answer::Trickle);
    refused(&gate, "an unknown key", &issuer("key-2"), (401, "token_unknown_key"));
    wait_fetches(&gate, "timed_out", 1.0);
    admitted(&gate, "the known one", &ours);
}

/// Each reload fetches at once, and carries the keys over that are there.
#[test]
fn what_is_no_key_set_is_refused_and_the_old_keys_stay() {
    let ours = issuer("key-1");
    let good = Issuer::key_set(&[&ours]).unwrap();
    let publisher = Publisher::start(Answer::keys(&good));
    let lines = "timeout_ms = 700\nmax_bytes = 4096";
    let gate = publisher.gate(lines);
    wait_fetches(&gate, "ok", 1.0);
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
        ("not JSON", "key_set", Answer::keys("<html>login</html>")),
        ("truncated JSON", "key_set", Answer::keys(&good[..good.len() - 2])),
        ("another document", "key_set", Answer::keys("{\"issuer\":\"https://accounts.google.com\"}")),
        ("no keys", "key_set", Answer::keys("{\"keys\":[]}")),
        ("a private key", "key_set", Answer::keys(&private)),
    ];
    for (what, result, answer) in rows {
        let before = fetches(&gate, result);
        publisher.server.set(answer);
        gate.reload(&publisher.demand(lines));
        admitted(&gate, what, &ours);
        wait_fetches(&gate, result, before + 1.0);
        admitted(&gate, what, &ours);
    }
    assert!(gate.world.gateway.log().contains("redirects are not followed"), "{}", gate.world.gateway.log());
    let before = fetches(&gate, "ok");
    publisher.server.set(Answer::keys(&good));
    // Without a further reload: it is tried again by itself.
    wait_fetches(&gate, "ok", before + 1.0);
    admitted(&gate, "after it all", &ours);
}

#[test]
fn without_keys_requests_are_asked_to_come_again() {
    let ours = issuer("key-1");
    let publisher = Publisher::start(Answer::Close);
    let gate = publisher.gate("");
    wait_fetches(&gate, "tls", 1.0);
    refused(&gate, "a good token", &ours, (503, "keys_unavailable"));
    gate.refused("no token", (401, "token_missing"), &[], BODY);
    publisher.server.set(key_set(&[&ours]));
    wait_fetches(&gate, "ok", 1.0);
    admitted(&gate, "the good token", &ours);
}

#[test]
fn a_server_that_is_not_there_or_not_the_right_one_gives_no_keys() {
    let ours = issuer("key-1");
    let publisher = Publisher::start(key_set(&[&ours]));
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let check = |result: &str, change: &dyn Fn(&str, &crate::world::Scene) -> String| {
        let gate = Gate::new(DIALOGFLOW_CX, |scene| {
            let mut demand = publisher.demand("");
            demand.sections = change(&demand.sections, scene);
            demand
        });
        let gate = gate.unwrap();
        wait_fetches(&gate, result, 1.0);
        assert_eq!(fetches(&gate, "ok"), 0.0);
        refused(&gate, result, &ours, (503, "keys_unavailable"));
    };
    let port_of = |text: &str| {
        let after = text.split("127.0.0.1:").nth(1).unwrap();
        after.split('/').next().unwrap().to_owned()
    };
    check("connect", &|text, _| text.replace(&port_of(text), &closed.port().to_string()));
    // The certificate is for 127.0.0.1 and ::1, and nobody vouches for it but its own root.
    check("tls", &|text, _| text.replace("https://127.0.0.1", "https://localhost"));
    check("tls", &|text, scene| {
        let stranger = quoted(scene.pki.sender(Sender::PagerDuty).root.path());
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
    let demand = |scene: &_, issuers: &[&Issuer]| {
        let sections = key_file(scene, "google", issuers);
        Demand { provider: dialogflow_token(), sections, ..Demand::default() }
    };
    let gate = Gate::new(DIALOGFLOW_CX, |scene| demand(scene, &[&old])).unwrap();
    admitted(&gate, "from the first moment", &old);
    refused(&gate, "a key that is not in the file", &new, (401, "token_unknown_key"));
    gate.reload(&demand(&gate.world.scene, &[&old, &new]));
    admitted(&gate, "both", &old);
    admitted(&gate, "both", &new);
    gate.reload(&demand(&gate.world.scene, &[&new]));
    refused(&gate, "a key that was taken out", &old, (401, "token_unknown_key"));
    gate.world.scene.write("google.json", "{\"keys\":").unwrap();
    gate.world.gateway.signal(Signal::HUP).unwrap();
    let labels = [("result", "error")];
    gate.world.gateway.wait_metric("hookgate_config_reloads_total", &labels, 1.0, SOON).unwrap();
    gate.world.gateway.wait_log("google.json", SOON).unwrap();
    admitted(&gate, "a file that cannot be read changes nothing", &new);
}

#[test]
fn keys_survive_reloads_without_a_gap() {
    let ours = issuer("key-1");
    let publisher = Publisher::start(key_set(&[&ours]));
    let gate = publisher.gate("");
    wait_fetches(&gate, "ok", 1.0);
    // Slower than the reloads follow each other, and then not at all: only what is carried over can verify a token.
    publisher.server.set(key_set(&[&ours]).after(SOON));
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let request = post(DIALOGFLOW_CX.path, &[("Authorization", &good_bearer(&ours))], BODY);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut call = gate.call();
                while !over.load(Ordering::Relaxed) {
                    assert_eq!(call.ask(&request).unwrap().status, 200);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for index in 0..16 {
            if index == 8 {
                publisher.server.set(Answer::Close);
            }
            gate.reload(&publisher.demand(""));
            let before = answered.load(Ordering::Relaxed);
            let more = || answered.load(Ordering::Relaxed) > before + 4;
            if eventually("requests after a reload", SOON, more).is_err() {
                break;
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(answered.into_inner() > 16 * 4, "requests stopped");
    assert_eq!(gate.world.rejections("keys_unavailable").unwrap(), 0.0);
    assert_eq!(fetches(&gate, "ok"), 1.0, "the slow server answered");
}

#[test]
fn keys_of_another_url_are_not_carried_over() {
    let (ours, theirs) = (issuer("key-1"), issuer("key-1"));
    let (first, second) = (Publisher::start(key_set(&[&ours])), Publisher::start(Answer::Trickle));
    let gate = first.gate("");
    wait_fetches(&gate, "ok", 1.0);
    admitted(&gate, "the first issuer", &ours);
    gate.reload(&second.demand(""));
    refused(&gate, "the first issuer, after the second took its place", &ours, (503, "keys_unavailable"));
    second.server.set(key_set(&[&theirs]));
    gate.reload(&second.demand(""));
    wait_fetches(&gate, "ok", 2.0);
    admitted(&gate, "the second issuer", &theirs);
    refused(&gate, "the first issuer", &ours, (401, "token_bad_signature"));
}
