//! The order of deliveries, and the bounds on their attempts.

use std::time::{Duration, Instant};

use hookgate_testkit::handler::Behaviour;
use hookgate_testkit::wait::wait_until;

use super::{LATER, Stored, bodies, by_key};
use crate::environment::SOON;

#[test]
fn deliveries_of_one_key_arrive_in_order_although_some_fail() {
    let stored = Stored::new("order_by = \"/key\", max_in_flight = 8");
    let keys = ["\"a\"", "\"b\"", "7"];
    for number in 0..36 {
        stored.store(&format!("{{\"key\":{},\"n\":{number}}}", keys[number % 3]));
    }
    // Every fifth request fails.
    let pattern = (0..12).flat_map(|_| {
        let good = Behaviour::Delay(Duration::from_millis(5), Behaviour::Json.boxed());
        [good.clone(), good.clone(), good.clone(), good, Behaviour::status(503, "")]
    });
    let handler = stored.start_handler(Behaviour::sequence(pattern.chain([Behaviour::Json])));
    stored.wait_rows("waiting", 0);
    let arrived = by_key(&handler.requests());
    for (index, key) in keys.into_iter().enumerate() {
        let expected: Vec<u64> = (0..12).map(|turn| turn * 3 + index as u64).collect();
        assert_eq!(arrived[key], expected, "{key}");
    }
    assert!(handler.request_count() > 36);
}

#[test]
fn a_key_that_fails_holds_no_other_up_and_a_dead_letter_frees_it() {
    let stored = Stored::new("order_by = \"x-account\"");
    let send = |account: &str, body: &str| assert_eq!(stored.send_with(&[("X-Account", account)], body).status, 202);
    let handler = stored.start_handler(Behaviour::sequence([
        Behaviour::Fixed { status: 503, fields: vec![("Retry-After".into(), "3600".into())], body: Vec::new() },
        Behaviour::Json,
    ]));
    send("a", "a1");
    handler.wait_for(1, SOON).unwrap();
    send("a", "a2");
    send("b", "b1");
    assert_eq!(stored.send("no account").status, 202);
    handler.wait_for(3, SOON).unwrap();
    stored.wait_rows("waiting", 2);
    let mut others = bodies(&handler.requests())[1..].to_vec();
    others.sort();
    assert_eq!(others, ["b1", "no account"]);
    // The first of the key goes, and the next follows.
    let mut waiting = stored.query("SELECT id FROM spool ORDER BY number");
    let (next, blocked) = (waiting.remove(1), waiting.remove(0));
    let behind = format!("waits until {blocked}, which came before it with the same order key");
    assert!(stored.commanded(&["show", &next]).contains(&behind));
    assert!(!stored.commanded(&["show", &blocked]).contains("waits until"));
    assert_eq!(stored.commanded(&["drop", &blocked]), "1 delivery is dropped\n");
    let requests = handler.wait_for(4, SOON).unwrap();
    assert_eq!(requests[3].text(), "a2");
    stored.wait_rows("waiting", 0);
}

#[test]
fn no_more_than_max_in_flight_are_with_the_handler() {
    let stored = Stored::new("max_in_flight = 3");
    let handler = stored.start_handler(Behaviour::NeverAnswer);
    (0..9).for_each(|number| drop(stored.store(&number.to_string())));
    handler.wait_for(3, LATER).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!((handler.request_count(), handler.open_connections()), (3, 3));
}

#[test]
fn attempts_keep_to_the_rate() {
    let stored = Stored::new("rate_per_s = 10");
    (0..30).for_each(|number| drop(stored.store(&number.to_string())));
    // The attempts so far found no handler, and these are due at different times; now all of them are.
    let handler = stored.start_handler(Behaviour::Json);
    let began = Instant::now();
    stored.commanded(&["retry", "--route", "orders"]);
    handler.wait_for(30, LATER).unwrap();
    assert!(began.elapsed() > Duration::from_millis(2300), "{:?}", began.elapsed());
}

#[test]
fn a_paused_route_stores_and_a_resumed_one_hands_over() {
    let mut stored = Stored::new("");
    let handler = stored.start_handler(Behaviour::Json);
    assert!(stored.commanded(&["pause", "--route", "orders"]).contains("route \"orders\" is paused:"));
    assert!(stored.commanded(&["pause", "--route", "orders"]).contains("paused already"));
    stored.store("one");
    stored.stop();
    stored.start_again(super::DURABLE);
    stored.store("two");
    stored.base.daemon.wait_metric("hookgate_spool_paused", &[("route", "orders")], 1.0, SOON).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(handler.request_count(), 0, "also after a restart");
    let list = stored.commanded(&["list"]);
    assert!(list.lines().count() == 2 && list.lines().all(|line| line.contains("  paused  ")), "{list}");
    assert_eq!(stored.commanded(&["resume", "--route", "orders"]), "route \"orders\" is resumed\n");
    handler.wait_for(2, LATER).unwrap();
    let error = stored.command(&["pause", "--route", "other"]);
    assert!(!error.success());
    assert!(error.stderr_text().contains("there is no route \"other\""), "{}", error.stderr_text());
}

/// The status page has what the dispatcher and the writing thread publish.
#[test]
fn the_status_tells_what_waits_and_what_is_paused() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("admin.sock");
    let stored =
        Stored::with_route(&format!("delivery = \"durable\"\n[admin]\nlisten = \"unix:{}\"", socket.display()));
    let orders = || crate::admin::json(&socket)["spool"][0].clone();
    assert_eq!((&orders()["route"], &orders()["waiting"]), (&"orders".into(), &0.into()), "nothing was stored yet");
    stored.commanded(&["pause"]);
    stored.store("one");
    let is_told = || orders()["waiting"] == 1 && orders()["is_paused"] == true && orders()["dead"] == 0;
    wait_until("the route is paused", SOON, is_told).unwrap();
    stored.commanded(&["resume"]);
    wait_until("the route is resumed", SOON, || orders()["is_paused"] == false).unwrap();
}
