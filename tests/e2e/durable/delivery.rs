//! A delivery from its sender to its handler: what is stored, attempted, retried and given up.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use hookgate_testkit::configuration::HOST;
use hookgate_testkit::documents::{PAGERDUTY, PAGERDUTY_SECRET};
use hookgate_testkit::handler::{Behaviour, Handler};
use hookgate_testkit::http;
use hookgate_testkit::pki::{Sender, Variant};
use hookgate_testkit::wait::wait_until;

use super::{DURABLE, LATER, PATH, ROUTE, Stored, bodies, configuration, socket};
use crate::environment::{SOON, handler_socket};
use crate::proof::hmac_hex;
use crate::tls_client::TlsClient;

#[test]
fn what_was_stored_while_the_handler_was_down_arrives_when_it_is_up() {
    let stored = Stored::new("");
    let ids: Vec<String> = (0..20).map(|number| stored.store(&format!("{{\"n\":{number}}}"))).collect();
    assert_eq!(stored.query("SELECT id FROM spool ORDER BY number"), ids);
    let handler = stored.start_handler(Behaviour::Json);
    let requests = handler.wait_for(20, LATER).unwrap();
    let arrived: BTreeSet<&str> = requests.iter().filter_map(|request| request.field("x-hookgate-delivery")).collect();
    assert_eq!(arrived, ids.iter().map(String::as_str).collect());
    stored.wait_rows("waiting", 0);
    assert_eq!(handler.request_count(), 20, "each once");
    let daemon = &stored.base.daemon;
    daemon
        .wait_metric("hookgate_spool_accepted_total", &[("route", ROUTE), ("provider", "percolate")], 20.0, SOON)
        .unwrap();
    daemon.wait_metric("hookgate_spool_attempts_total", &[("route", ROUTE), ("result", "taken")], 20.0, SOON).unwrap();
    let log = daemon.log();
    let accepted = log.lines().find(|line| line.contains("request answered") && line.contains("status=202")).unwrap();
    assert!(accepted.contains("route=orders") && accepted.contains(" stored_ms="), "{accepted}");
    let taken = log.lines().find(|line| line.contains("delivery taken") && line.contains(&ids[0])).unwrap();
    assert!(taken.contains("status=200") && taken.contains("route=orders") && taken.contains("attempt="), "{taken}");
}

/// The request of a durable route, but for the fields of the attempt, is that of a direct one.
#[test]
fn a_handler_gets_what_it_would_get_directly() {
    let lines = "client_cert_chain = true\nstrip_prefix = \"/orders\"";
    let direct = Stored::with_route(lines);
    let durable = Stored::with_route(&format!("{lines}\ndelivery = \"durable\""));
    let request = |stored: &Stored| {
        let handler = stored.start_handler(Behaviour::Json);
        let fields = [
            ("X-Tag", "one"),
            ("Cookie", "a=b"),
            ("X-Tag", "two"),
            ("X-Hookgate-Delivery", "forged"),
            ("x_hookgate_attempt", "forged"),
            ("Connection", "X-Gone"),
            ("X-Gone", "1"),
        ];
        let target = format!("{PATH}?q=%20&r");
        let bytes = http::request("POST", &target, HOST, &fields, b"\x00\xffbody\r\n");
        let response = stored.base.connect().unwrap().ask(bytes).unwrap();
        assert!(matches!(response.status, 200 | 202), "{response:?}");
        handler.wait_for(1, SOON).unwrap().remove(0)
    };
    let (one, other) = (request(&direct), request(&durable));
    assert_eq!((&one.method, &one.target, &one.body), (&other.method, &other.target, &other.body));
    assert_eq!((other.target.as_str(), other.field("x-forwarded-prefix")), ("/?q=%20&r", Some("/orders")));
    // What differs from request to request, and from daemon to daemon.
    let own = ["x-request-id", "client-cert", "client-cert-chain", "x-hookgate-delivery", "x-hookgate-attempt"];
    let fields = |request: &http::Request| {
        let all = request.fields.0.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone()));
        let mut all: Vec<_> = all.filter(|(name, _)| !own.contains(&name.as_str())).collect();
        all.sort();
        all
    };
    assert_eq!(fields(&one), fields(&other));
    for name in ["client-cert", "client-cert-chain", "x-request-id"] {
        assert!(one.field(name).is_some() && other.field(name).is_some(), "{name}");
    }
    assert_eq!(other.field("x-hookgate-attempt"), Some("1"));
    assert_eq!(other.field("x-hookgate-delivery"), other.field("x-request-id"));
    assert_eq!(one.field("x-hookgate-delivery"), None);
}

/// The handler may be slow for another reason than the test's on a busy machine: what it got is compared with what was counted.
#[test]
fn a_failure_that_may_pass_is_tried_again_and_counted() {
    let stored = Stored::with_route(&format!("{DURABLE}\nhandler_timeout_ms = 1000"));
    let failures = [408, 425, 429, 500, 503].map(|status| Behaviour::status(status, "later"));
    let others = [Behaviour::CloseBeforeAnswering, Behaviour::Malformed, Behaviour::NeverAnswer];
    let first = failures[..2].iter().cloned().chain(others).chain([Behaviour::Json]);
    let handler = stored.start_handler(Behaviour::sequence(first));
    stored.store("{}");
    handler.wait_for(6, LATER).unwrap();
    stored.wait_rows("waiting", 0);
    let attempts = |requests: &[http::Request]| -> Vec<u64> {
        requests.iter().map(|request| request.field("x-hookgate-attempt").unwrap().parse().unwrap()).collect()
    };
    let count = handler.request_count();
    assert_eq!(attempts(&handler.requests()), (1..=count).collect::<Vec<_>>());
    let again = || stored.base.daemon.metric("hookgate_spool_attempts_total", &[("result", "again")]).unwrap();
    assert_eq!(again(), (count - 1) as f64);
    handler.forget();
    handler.set_behaviour(Behaviour::sequence(failures[2..].iter().cloned().chain([Behaviour::Json])));
    stored.store("{}");
    handler.wait_for(count + 4, LATER).unwrap();
    stored.wait_rows("waiting", 0);
    let requests = handler.requests();
    assert_eq!(attempts(&requests), (1..=requests.len() as u64).collect::<Vec<_>>());
    assert_eq!(again(), (handler.request_count() - 2) as f64);
    let log = stored.base.daemon.log();
    let event = log.lines().find(|line| line.contains("delivery not taken")).unwrap();
    assert!(event.contains("status=408") && event.contains("next_ms=") && event.contains("cause=handler"), "{event}");
    for outcome in ["answered 425", "answered 429", "answered 500", "answered 503", "within 1000 ms"] {
        assert!(
            log.lines().any(|line| line.contains("delivery not taken") && line.contains(outcome)),
            "{outcome}: {log}"
        );
    }
}

#[test]
fn no_attempt_comes_before_retry_after() {
    let stored = Stored::new("");
    let wait = Behaviour::Fixed { status: 503, fields: vec![("Retry-After".into(), "3".into())], body: Vec::new() };
    let handler = stored.start_handler(Behaviour::sequence([wait, Behaviour::Json]));
    stored.store("{}");
    handler.wait_for(1, SOON).unwrap();
    let first = Instant::now();
    handler.wait_for(2, LATER).unwrap();
    assert!(first.elapsed() > Duration::from_millis(2800), "{:?}", first.elapsed());
}

#[test]
fn another_answer_is_final_and_an_operator_can_try_again() {
    let stored = Stored::new("");
    let handler = stored.start_handler(Behaviour::status(422, "never"));
    let (one, two) = (stored.store("one"), stored.store("two"));
    stored.wait_rows("dead", 2);
    let count = handler.request_count();
    assert_eq!(count, 2, "no attempt follows");
    assert_eq!(stored.query("SELECT DISTINCT outcome FROM spool"), ["The handler answered 422, which is final."]);
    stored.base.daemon.wait_log("delivery dead", SOON).unwrap();
    stored.base.daemon.wait_metric("hookgate_spool_deliveries", &[("state", "dead")], 2.0, SOON).unwrap();
    handler.set_behaviour(Behaviour::Json);
    assert_eq!(stored.commanded(&["retry", &one]), "1 delivery is attempted now\n");
    let requests = handler.wait_for(3, SOON).unwrap();
    assert_eq!((requests[2].text(), requests[2].field("x-hookgate-attempt")), ("one".to_owned(), Some("2")));
    assert_eq!(stored.commanded(&["retry", "--all-dead"]), "1 delivery is attempted now\n");
    let requests = handler.wait_for(4, SOON).unwrap();
    assert_eq!(requests[3].field("x-hookgate-delivery"), Some(two.as_str()));
    stored.wait_rows("waiting", 0);
    assert!(stored.query("SELECT id FROM spool").is_empty());
}

#[test]
fn every_retry_of_a_dead_letter_is_an_attempt() {
    let stored = Stored::new("");
    let handler = stored.start_handler(Behaviour::status(422, "never"));
    for number in 0..20 {
        stored.store(&number.to_string());
    }
    stored.wait_rows("dead", 20);
    // Retries meet attempts and outcomes at every stage.
    for _ in 0..12 {
        stored.commanded(&["retry", "--all-dead"]);
    }
    handler.set_behaviour(Behaviour::Json);
    stored.wait_rows("waiting", 0);
    stored.commanded(&["retry", "--all-dead"]);
    wait_until("no row is left", LATER, || stored.query("SELECT id FROM spool").is_empty()).unwrap();
}

#[test]
fn after_retry_for_s_a_delivery_is_a_dead_letter() {
    let stored = Stored::new("retry_for_s = 3");
    stored.store("{}");
    stored.wait_rows("dead", 1);
    let outcome = stored.query("SELECT outcome FROM spool").remove(0);
    assert!(outcome.contains("the socket does not exist") && outcome.ends_with("retry_for_s has passed."), "{outcome}");
}

#[test]
fn the_answer_to_the_sender_is_configurable_and_a_handlers_answer_is_not_seen() {
    for status in [200, 202, 204] {
        let stored = Stored::new(&format!("status = {status}"));
        let _handler = stored.start_handler(Behaviour::status(400, "for nobody"));
        let response = stored.send("{}");
        assert_eq!((response.status, response.text().as_str()), (status, ""));
        assert_eq!(response.field("x-request-id").map(str::len), Some(32));
    }
}

#[test]
fn a_request_that_is_refused_is_not_stored() {
    let stored = Stored::new("");
    let identity = stored.base.environment.identity(Sender::PagerDuty, Variant::Good).unwrap();
    let client = TlsClient::new(stored.base.daemon.port(), &stored.base.environment.pki, &identity).unwrap();
    let response = client.connect().unwrap().ask(http::request("POST", PATH, HOST, &[], b"{}")).unwrap();
    assert_eq!((response.status, response.reason().as_deref()), (403, Some("provider_not_admitted")));
    assert!(stored.query("SELECT id FROM spool").is_empty());
}

/// The digest is in the transaction of the row: a copy is a duplicate from the 202 on, also after a crash, and makes no second row.
#[test]
fn copies_make_one_row() {
    let environment_lines = |stored: &Stored| {
        let secret = stored.base.environment.write("webhook.secret", PAGERDUTY_SECRET).unwrap();
        format!(
            "replay = {{ id_header = \"x-webhook-id\", duplicate_status = 208 }}\nproof.signature = {{ form = \"pagerduty\", secrets = [{{ file = \"{}\" }}] }}\n{DURABLE}",
            secret.display()
        )
    };
    let mut stored = Stored::new("");
    let lines = environment_lines(&stored);
    stored.stop();
    stored.start_again(&lines);
    let signature = format!("v1={}", hmac_hex(PAGERDUTY_SECRET, PAGERDUTY.body.as_bytes()));
    let send = |stored: &Stored, id: &str| {
        let fields = [("X-Webhook-Id", id), ("X-PagerDuty-Signature", signature.as_str())];
        stored.send_with(&fields, PAGERDUTY.body).status
    };
    assert_eq!(send(&stored, "one"), 202);
    assert_eq!(send(&stored, "one"), 208);
    stored.kill();
    stored.start_again(&lines);
    assert_eq!(send(&stored, "one"), 208, "after a crash");
    // Many at once: one row each.
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for number in 0..10 {
                    let status = send(&stored, &format!("many-{number}"));
                    assert!([202, 208, 429].contains(&status), "{status}");
                }
            });
        }
    });
    assert_eq!(stored.query("SELECT id FROM spool").len(), 11);
    let handler = stored.start_handler(Behaviour::Json);
    handler.wait_for(11, LATER).unwrap();
    stored.wait_rows("waiting", 0);
    assert_eq!(handler.request_count(), 11);
    assert_eq!(send(&stored, "one"), 208, "after it was taken");
}

#[test]
fn a_route_that_becomes_direct_still_hands_over_what_it_stored() {
    let mut stored = Stored::new("");
    stored.store("stored");
    stored.stop();
    stored.start_again("");
    let handler = stored.start_handler(Behaviour::Json);
    assert_eq!(bodies(&handler.wait_for(1, LATER).unwrap()), ["stored"]);
    let response = stored.send("direct");
    assert_eq!(response.status, 200);
    let toml = configuration(&stored.base.environment, &[(ROUTE, PATH, DURABLE)]);
    stored.base.reload(&toml).unwrap();
    assert_eq!(stored.send("again").status, 202);
    handler.wait_for(3, LATER).unwrap();
}

#[test]
fn of_several_handlers_one_that_is_there_gets_a_delivery_at_once() {
    let stored = Stored::with_route(DURABLE);
    let environment = &stored.base.environment;
    let first = format!("\"unix:{}\"", socket(environment).display());
    let other = Handler::start(&environment.path("other.sock"), Behaviour::Json).unwrap();
    let toml = configuration(environment, &[(ROUTE, PATH, DURABLE)]);
    let both = format!("[{first}, {}]", handler_socket(&other));
    stored.base.reload(&toml.replace(&first, &both)).unwrap();
    for index in 1..=10 {
        stored.store(&index.to_string());
        other.wait_for(index, SOON).unwrap();
    }
    stored.wait_rows("waiting", 0);
    let attempts = |result| {
        let labels = [("route", ROUTE), ("result", result)];
        stored.base.daemon.metric("hookgate_spool_attempts_total", &labels).unwrap_or(0.0)
    };
    assert_eq!((attempts("taken"), attempts("again")), (10.0, 0.0));
    let first = stored.start_handler(Behaviour::Json);
    let mut index = 10;
    wait_until("a delivery to the first handler", LATER, || {
        index += 1;
        stored.store(&index.to_string());
        stored.wait_rows("waiting", 0);
        first.request_count() > 0
    })
    .unwrap();
    assert_eq!(attempts("again"), 0.0);
}
