//! Replay: a delivery reaches the handler once, unless the handler failed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hookgate_testkit::documents::{PAGERDUTY, PAGERDUTY_SECRET, PERCOLATE};
use hookgate_testkit::handler::Behaviour;
use hookgate_testkit::http::Response;
use hookgate_testkit::wait::wait_until;

use super::{ProofConfiguration, ProofGateway, hmac_hex, now, post, route, secret_file};
use crate::environment::{Environment, SOON};

const BODY: &[u8] = PAGERDUTY.body.as_bytes();

/// PagerDuty's preset with its own replay rule.
fn preset(environment: &Environment) -> ProofConfiguration {
    ProofConfiguration::of_provider(format!(
        "signature = {{ secrets = [{}] }}",
        secret_file(environment, "webhook.secret", PAGERDUTY_SECRET)
    ))
}

/// PagerDuty's preset with the rule `replay`.
fn ruled(environment: &Environment, replay: &str) -> ProofConfiguration {
    let mut configuration = preset(environment);
    configuration.provider += &format!("\nreplay = {replay}");
    configuration
}

fn signature(body: &[u8]) -> String {
    format!("v1={}", hmac_hex(PAGERDUTY_SECRET, body))
}

/// A delivery with this id and the document's body.
fn delivery(id: &str) -> Vec<u8> {
    post(PAGERDUTY.path, &[("X-Webhook-Id", id), ("X-PagerDuty-Signature", &signature(BODY))], BODY)
}

fn send(gateway: &ProofGateway, id: &str) -> Response {
    gateway.connect().ask(delivery(id)).unwrap()
}

/// Fails unless this is the response to a duplicate: the status, without a problem document.
fn assert_duplicate(response: &Response, status: u16, what: &str) {
    assert_eq!((response.status, response.text().as_str()), (status, ""), "{what}");
    assert!(response.complete, "{what}");
    assert_eq!(response.field("content-type"), None, "{what}");
    assert_eq!(response.field("x-request-id").map(str::len), Some(32), "{what}");
}

fn assert_reason(response: &Response, status: u16, reason: &str, what: &str) {
    assert_eq!((response.status, response.reason().as_deref()), (status, Some(reason)), "{what}: {}", response.text());
}

/// Waits until the gauge, which is published periodically, has this value.
fn wait_remembered(gateway: &ProofGateway, count: f64) {
    let remembered = || gateway.base.daemon.metric("hookgate_replay_deliveries", &[]).unwrap();
    wait_until("the number of remembered deliveries", SOON, || remembered() == count).unwrap();
}

/// Waits until at least so many duplicates are counted, and returns how many there are.
fn duplicates(gateway: &ProofGateway, least: f64) -> f64 {
    let labels = [("route", "pagerduty"), ("provider", "pagerduty")];
    gateway.base.daemon.wait_metric("hookgate_duplicate_deliveries_total", &labels, least, SOON).unwrap()
}

#[test]
fn a_delivery_is_handled_once() {
    let gateway = ProofGateway::new(PAGERDUTY, preset).unwrap();
    assert_eq!(gateway.expect_admitted("the document", PAGERDUTY.fields, BODY).text(), PAGERDUTY.body);
    for count in 1..=3 {
        assert_duplicate(&gateway.send(PAGERDUTY.fields, BODY), 200, "the document again");
        assert_eq!(duplicates(&gateway, f64::from(count)), f64::from(count));
    }
    assert_eq!(gateway.base.rejections("duplicate_delivery").unwrap(), 0.0, "it is no refusal");
    let log = || gateway.base.daemon.log();
    wait_until("an event for each", SOON, || log().matches("reason=duplicate_delivery").count() == 3).unwrap();
    let log = log();
    let mut told = log.lines().filter(|line| line.contains("reason=duplicate_delivery"));
    assert!(told.all(|line| line.contains(" INFO request answered ")), "{log}");
    // The same id with another body is a duplicate too: the id decides.
    let fields = [("x-webhook-id", PAGERDUTY.fields[3].1), ("X-PagerDuty-Signature", &signature(b"{}"))];
    assert_eq!(fields[0].1, "f5d9fe43-a1d5-4ad1-b0f5-7a2b2d4ff2c9");
    assert_duplicate(&gateway.send(&fields, b"{}"), 200, "another body");
    assert_eq!(gateway.handler().request_count(), 1);
    let response = send(&gateway, "another-id");
    assert!(response.status == 200 && !response.body.is_empty(), "another id is another delivery");
    assert_eq!(gateway.handler().request_count(), 2);
    wait_remembered(&gateway, 2.0);
    let labels = [("provider", "pagerduty"), ("status", "200")];
    gateway.base.daemon.wait_metric("hookgate_requests_total", &labels, 6.0, SOON).unwrap();
}

#[test]
fn a_connection_stays_open_after_a_duplicate() {
    let gateway = ProofGateway::new(PAGERDUTY, preset).unwrap();
    let mut connection = gateway.connect();
    assert_eq!(connection.ask(delivery("1")).unwrap().status, 200);
    assert_duplicate(&connection.ask(delivery("1")).unwrap(), 200, "on the same connection");
    assert_eq!(connection.ask(delivery("2")).unwrap().status, 200);
    assert_eq!(gateway.handler().request_count(), 2);
}

#[test]
fn the_status_of_a_duplicate_is_configurable() {
    for status in [200, 202, 204, 409] {
        let replay = format!("{{ id_header = \"x-webhook-id\", duplicate_status = {status} }}");
        let gateway = ProofGateway::new(PAGERDUTY, |environment| ruled(environment, &replay)).unwrap();
        assert_eq!(send(&gateway, "1").status, 200);
        assert_duplicate(&send(&gateway, "1"), status, "the second");
        assert_eq!(gateway.handler().request_count(), 1);
    }
}

#[test]
fn a_delivery_without_its_id_is_refused() {
    let gateway = ProofGateway::new(PAGERDUTY, preset).unwrap();
    let signature = signature(BODY);
    let signed = ("X-PagerDuty-Signature", signature.as_str());
    let missing = (400, "delivery_id_missing");
    gateway.expect_refused("none", missing, &[signed], BODY);
    gateway.expect_refused("an empty one", missing, &[signed, ("X-Webhook-Id", "")], BODY);
    gateway.expect_refused("two", missing, &[signed, ("X-Webhook-Id", "1"), ("X-Webhook-Id", "2")], BODY);
}

/// Without a proof, a peer can neither use an id nor learn which ids were used.
#[test]
fn a_refused_delivery_is_not_remembered() {
    let gateway = ProofGateway::new(PAGERDUTY, preset).unwrap();
    let forged = [("X-Webhook-Id", "1"), ("X-PagerDuty-Signature", "v1=00")];
    gateway.expect_refused("before", (403, "signature_malformed"), &forged, BODY);
    assert_eq!(send(&gateway, "1").status, 200);
    gateway.expect_refused("afterwards", (403, "signature_malformed"), &forged, BODY);
    assert_eq!(gateway.handler().request_count(), 1);
    wait_remembered(&gateway, 1.0);
}

#[test]
fn a_failed_delivery_may_be_repeated() {
    let failures = [
        (Behaviour::status(500, "no"), 500),
        (Behaviour::status(503, "later"), 503),
        (Behaviour::CloseBeforeAnswering, 502),
        (Behaviour::Malformed, 502),
        (Behaviour::BreakOffHead, 502),
        (Behaviour::NeverAnswer, 504),
    ];
    let limits = |environment: &Environment| ProofConfiguration {
        limits: "handler_timeout_ms = 500".to_owned(),
        ..preset(environment)
    };
    let gateway = ProofGateway::new(PAGERDUTY, limits).unwrap();
    for (index, (behaviour, status)) in failures.into_iter().enumerate() {
        let (id, before) = (index.to_string(), gateway.handler().request_count());
        gateway.handler().set_behaviour(Behaviour::sequence([behaviour.clone(), Behaviour::Json]));
        assert_eq!(send(&gateway, &id).status, status, "{behaviour:?}");
        let again = send(&gateway, &id);
        assert!(again.status == 200 && !again.body.is_empty(), "{behaviour:?}: {again:?}");
        assert_duplicate(&send(&gateway, &id), 200, "after it was taken");
        assert_eq!(gateway.handler().request_count(), before + 2, "{behaviour:?}");
    }
    // A refusal by the handler takes the delivery: a copy would be refused too.
    for (id, status) in [("a", 400), ("b", 404), ("c", 429)] {
        gateway.handler().set_behaviour(Behaviour::status(status, "no"));
        assert_eq!(send(&gateway, id).status, status);
        assert_duplicate(&send(&gateway, id), 200, "after a refusal");
    }
}

#[test]
fn a_copy_of_a_delivery_in_flight_is_refused_until_the_handler_answers() {
    let gateway = ProofGateway::new(PAGERDUTY, preset).unwrap();
    let slow = Behaviour::Delay(Duration::from_millis(1500), Behaviour::Json.boxed());
    gateway.handler().set_behaviour(Behaviour::sequence([slow, Behaviour::Json]));
    thread::scope(|scope| {
        let first = scope.spawn(|| send(&gateway, "1"));
        wait_until("the first copy", SOON, || gateway.handler().request_count() == 1).unwrap();
        let copy = send(&gateway, "1");
        assert_reason(&copy, 429, "delivery_in_flight", "a copy");
        assert!(copy.field("retry-after").is_some(), "{copy:?}");
        assert_eq!(send(&gateway, "2").status, 200);
        assert!(!first.is_finished(), "another delivery had to wait");
        assert_eq!(first.join().unwrap().status, 200);
    });
    assert_duplicate(&send(&gateway, "1"), 200, "after the response");
    assert_eq!(gateway.handler().request_count(), 2);
}

/// A sender that leaves before the response does not know that the handler took the delivery, and retries.
#[test]
fn a_delivery_that_the_handler_takes_is_taken_even_if_the_sender_left() {
    let gateway = ProofGateway::new(PAGERDUTY, preset).unwrap();
    let slow = |behaviour: Behaviour| Behaviour::Delay(Duration::from_millis(500), behaviour.boxed());
    let behaviours = [slow(Behaviour::Json), slow(Behaviour::status(500, "no")), Behaviour::Json];
    gateway.handler().set_behaviour(Behaviour::sequence(behaviours));
    let abandon = |id: &str, handled: u64| {
        let mut connection = gateway.connect();
        connection.send(delivery(id)).unwrap();
        wait_until("the request", SOON, || gateway.handler().request_count() == handled).unwrap();
        connection.reset().unwrap();
        let mut answer = send(&gateway, id);
        let mut settled = || {
            answer = send(&gateway, id);
            answer.status != 429
        };
        wait_until("the handler's answer", SOON, &mut settled).unwrap();
        answer
    };
    assert_duplicate(&abandon("taken", 1), 200, "taken");
    assert_eq!(gateway.handler().request_count(), 1);
    let again = abandon("failed", 2);
    assert!(again.status == 200 && !again.body.is_empty(), "failed: {again:?}");
    assert_eq!(gateway.handler().request_count(), 3);
}

/// A thousand copies of one delivery at once, over fifty connections to four workers. The others are duplicates or in flight.
#[test]
fn of_a_thousand_copies_at_once_one_reaches_the_handler() {
    let gateway = ProofGateway::new(PAGERDUTY, |environment| ProofConfiguration {
        listen: "workers = 4".to_owned(),
        ..preset(environment)
    })
    .unwrap();
    gateway.handler().set_behaviour(Behaviour::Delay(Duration::from_millis(200), Behaviour::Json.boxed()));
    let request = delivery("one-of-a-thousand");
    let (handled, taken, in_flight) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let count = |counter: &AtomicUsize| counter.fetch_add(1, Ordering::Relaxed);
    thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                let mut connection = gateway.connect();
                for _ in 0..20 {
                    let response = connection.ask(&request).unwrap();
                    match (response.status, response.body.is_empty()) {
                        (200, false) => count(&handled),
                        (200, true) => count(&taken),
                        (429, _) if response.reason().as_deref() == Some("delivery_in_flight") => count(&in_flight),
                        other => unreachable!("{other:?}: {}", response.text()),
                    };
                }
            });
        }
    });
    let (handled, taken, in_flight) = (handled.into_inner(), taken.into_inner(), in_flight.into_inner());
    assert_eq!((handled, taken + in_flight), (1, 999), "{taken} taken, {in_flight} in flight");
    assert_eq!(gateway.handler().request_count(), 1);
    assert_eq!(duplicates(&gateway, taken as f64), taken as f64);
    assert_eq!(gateway.base.rejections("delivery_in_flight").unwrap(), in_flight as f64);
}

#[test]
fn a_full_replay_memory_refuses_new_deliveries_and_keeps_the_old() {
    let write = |environment: &Environment| ProofConfiguration {
        limits: "replay_entries = 3".to_owned(),
        ..preset(environment)
    };
    let gateway = ProofGateway::new(PAGERDUTY, write).unwrap();
    for id in ["1", "2", "3"] {
        assert_eq!(send(&gateway, id).status, 200);
    }
    for id in ["4", "5", "4"] {
        let response = send(&gateway, id);
        assert_reason(&response, 503, "replay_guard_full", id);
        assert!(response.field("retry-after").is_some(), "{response:?}");
    }
    for id in ["1", "2", "3"] {
        assert_duplicate(&send(&gateway, id), 200, id);
    }
    assert_eq!(gateway.handler().request_count(), 3);
    assert_eq!(gateway.base.rejections("replay_guard_full").unwrap(), 3.0);
    gateway.base.still_serves().unwrap();
}

#[test]
fn a_delivery_is_forgotten_when_its_window_has_passed() {
    let write = |environment: &Environment| {
        let replay = "{ id_header = \"x-webhook-id\", window_s = 3 }";
        ProofConfiguration { limits: "replay_entries = 1".to_owned(), ..ruled(environment, replay) }
    };
    let gateway = ProofGateway::new(PAGERDUTY, write).unwrap();
    let taken = Instant::now();
    assert_eq!(send(&gateway, "1").status, 200);
    assert_duplicate(&send(&gateway, "1"), 200, "within the window");
    assert_reason(&send(&gateway, "2"), 503, "replay_guard_full", "no space until then");
    let mut connection = gateway.connect();
    wait_until("space for another delivery", SOON, || connection.ask(delivery("2")).unwrap().status == 200).unwrap();
    // The clock of the worker lags by a sweep, on a busy machine by a few.
    assert!(taken.elapsed() > Duration::from_millis(2500), "{:?} after it was taken", taken.elapsed());
    assert_eq!(gateway.handler().request_count(), 2);
}

#[test]
fn deliveries_are_remembered_over_a_reload() {
    let gateway = ProofGateway::new(PAGERDUTY, preset).unwrap();
    assert_eq!(send(&gateway, "1").status, 200);
    gateway.reload(&preset(&gateway.base.environment));
    assert_duplicate(&send(&gateway, "1"), 200, "after a reload");
    gateway.reload_permitting(&ruled(&gateway.base.environment, "\"none\""));
    let response = send(&gateway, "1");
    assert!(response.status == 200 && !response.body.is_empty(), "without the rule: {response:?}");
    gateway.reload(&preset(&gateway.base.environment));
    assert_duplicate(&send(&gateway, "1"), 200, "with the rule again");
    assert_eq!(gateway.handler().request_count(), 2);
}

/// With `by_signature`, neither another id nor another notation of the signature makes a delivery new.
#[test]
fn the_signed_message_can_be_the_id() {
    let gateway = ProofGateway::new(PAGERDUTY, |environment| ruled(environment, "{ by_signature = true }")).unwrap();
    let good = signature(BODY);
    assert_eq!(gateway.send(&[("X-PagerDuty-Signature", &good)], BODY).status, 200);
    let upper = format!("v1={}", good["v1=".len()..].to_uppercase());
    for value in [&good, &upper, &format!("v1=00,{good}"), &format!("{good},{good}")] {
        for id in ["1", "2"] {
            let fields = [("X-PagerDuty-Signature", value.as_str()), ("X-Webhook-Id", id)];
            assert_duplicate(&gateway.send(&fields, BODY), 200, value);
        }
    }
    let other = [BODY, b"\n"].concat();
    assert_eq!(gateway.send(&[("X-PagerDuty-Signature", &signature(&other))], &other).status, 200);
    assert_eq!(gateway.handler().request_count(), 2);
}

/// The same body with another signed timestamp is another delivery.
#[test]
fn a_signed_timestamp_is_part_of_the_id() {
    let write = |environment: &Environment| {
        let secret = secret_file(environment, "slack.secret", "slack");
        let lines = format!(
            "replay = {{ by_signature = true, window_s = 600 }}\n[route.proof.signature]\nform = \"hmac\"\n\
             header = \"x-slack-signature\"\nprefix = \"v0=\"\nmessage = \"v0:{{timestamp}}:{{body}}\"\n\
             timestamp_header = \"x-slack-request-timestamp\"\nsecrets = [{secret}]"
        );
        ProofConfiguration {
            sections: route(&environment.events, "percolate", "/slack", &lines),
            ..ProofConfiguration::of_provider("proof = \"certificate\"")
        }
    };
    let gateway = ProofGateway::new(PERCOLATE, write).unwrap();
    let send = |timestamp: u64| {
        let signature = format!("v0={}", hmac_hex("slack", format!("v0:{timestamp}:{{}}").as_bytes()));
        let timestamp = timestamp.to_string();
        let fields = [("X-Slack-Signature", signature.as_str()), ("X-Slack-Request-Timestamp", &timestamp)];
        gateway.connect().ask(post("/slack", &fields, b"{}")).unwrap()
    };
    let first = now();
    assert!(!send(first).body.is_empty());
    assert_duplicate(&send(first), 200, "the same again");
    assert!(!send(first - 1).body.is_empty(), "another time");
    assert_eq!(gateway.handler().request_count(), 2);
}

#[test]
fn the_id_can_be_in_the_body() {
    let write = |environment: &Environment| {
        let lines = "proof = \"certificate\"\nreplay = { id_pointer = \"/event_id\" }";
        let other = route(&environment.events, "percolate", "/other", lines);
        ProofConfiguration { sections: other, ..ProofConfiguration::of_provider(lines) }
    };
    let gateway = ProofGateway::new(PERCOLATE, write).unwrap();
    gateway.expect_admitted("the document", PERCOLATE.fields, PERCOLATE.body.as_bytes());
    assert_duplicate(&gateway.send(PERCOLATE.fields, PERCOLATE.body.as_bytes()), 200, "again");
    assert_duplicate(&gateway.send(&[], b"{\"event_id\":\"evt\\u003a4711\"}"), 200, "with an escape");
    gateway.expect_admitted("another id", &[], b"{\"event_id\":\"evt:4712\"}");
    gateway.expect_admitted_at("/other", "the same id at another route", &[], PERCOLATE.body.as_bytes());
    let missing = (400, "delivery_id_missing");
    for body in ["{}", "{\"event_id\":\"\"}", "{\"event_id\":4711}", "{\"event_id\":null}", "{\"event_id\":[\"a\"]}"] {
        gateway.expect_refused(body, missing, &[], body.as_bytes());
    }
    for body in ["", "evt:4711", "{\"event_id\":\"a\"", "{\"event_id\":\"a\",\"event_id\":\"b\"}"] {
        gateway.expect_refused(body, (400, "body_not_json"), &[], body.as_bytes());
    }
}
