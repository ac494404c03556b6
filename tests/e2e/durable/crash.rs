//! kill -9 under load: every 202 is stored or was delivered, and no delivery is stored twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hookgate_testkit::configuration::HOST;
use hookgate_testkit::gateway::{Gateway, Signal};
use hookgate_testkit::handler::Behaviour;
use hookgate_testkit::http;
use hookgate_testkit::wait::wait_until;

use super::{DURABLE, LATER, PATH, ROUTE, Stored, configuration};
use crate::environment::SOON;

/// How often the daemon is killed; `HOOKGATE_TEST_KILLS` replaces it.
const ROUNDS: u32 = 10;

/// Senders at a time.
const SENDERS: usize = 4;

#[test]
fn no_accepted_delivery_is_lost_by_a_kill() {
    let rounds = std::env::var("HOOKGATE_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let mut stored = Stored::new("");
    // Slow and failing now and then, so that the spool is never empty for long.
    let pattern = |round: u32| {
        let slow = Behaviour::Delay(Duration::from_millis(u64::from(round % 4) * 5), Behaviour::Json.boxed());
        Behaviour::sequence(
            (0..50).flat_map(|_| [slow.clone(), slow.clone(), Behaviour::status(503, "")]).chain([slow.clone()]),
        )
    };
    let handler = stored.start_handler(pattern(0));
    let accepted = Mutex::new(BTreeMap::new());
    for round in 0..rounds {
        handler.set_behaviour(pattern(round));
        let before = accepted.lock().unwrap().len();
        let has_ended = AtomicBool::new(false);
        thread::scope(|scope| {
            for sender in 0..SENDERS {
                let (stored, accepted, has_ended) = (&stored, &accepted, &has_ended);
                scope.spawn(move || {
                    let Ok(mut connection) = stored.base.connect() else { return };
                    for number in 0.. {
                        let body = format!("{round}-{sender}-{number}");
                        // The kill ends it.
                        let answer = connection.ask(http::request("POST", PATH, HOST, &[], body.as_bytes()));
                        let Ok(response) = answer else { return };
                        if response.status == 202 {
                            let id = response.field("x-request-id").unwrap().to_owned();
                            accepted.lock().unwrap().insert(id, body);
                        } else {
                            assert_eq!(response.status, 503, "{response:?}");
                        }
                        if has_ended.load(Ordering::Relaxed) {
                            return;
                        }
                    }
                });
            }
            wait_until("some deliveries", LATER, || accepted.lock().unwrap().len() > before + 20).unwrap();
            thread::sleep(Duration::from_millis(u64::from(round) * 7 % 40));
            stored.base.daemon.signal(Signal::KILL).unwrap();
            has_ended.store(true, Ordering::Relaxed);
        });
        stored.base.daemon.wait_exit(SOON).unwrap();
        let rows = stored.query("SELECT id FROM spool");
        let unique: BTreeSet<&String> = rows.iter().collect();
        assert_eq!(unique.len(), rows.len(), "a delivery is stored twice");
        let delivered: BTreeSet<String> = delivered(&handler.requests());
        for (id, body) in &*accepted.lock().unwrap() {
            assert!(
                rows.contains(id) || delivered.contains(id),
                "round {round}: {id} ({body}) was answered 202 and is gone"
            );
        }
        assert_eq!(stored.query("PRAGMA integrity_check"), ["ok"]);
        stored.start_again(DURABLE);
    }
    handler.set_behaviour(Behaviour::Json);
    stored.commanded(&["retry", "--route", "orders"]);
    stored.wait_rows("waiting", 0);
    assert!(stored.query("SELECT id FROM spool").is_empty());
    let requests = handler.requests();
    let delivered: BTreeMap<&str, String> =
        requests.iter().map(|request| (request.field("x-hookgate-delivery").unwrap(), request.text())).collect();
    let accepted = accepted.into_inner().unwrap();
    for (id, body) in &accepted {
        assert_eq!(delivered.get(id.as_str()), Some(body), "{id}");
    }
    assert!(accepted.len() as u32 >= rounds * 20);
}

fn delivered(requests: &[http::Request]) -> BTreeSet<String> {
    requests.iter().filter_map(|request| request.field("x-hookgate-delivery").map(str::to_owned)).collect()
}

#[test]
fn an_orderly_end_finishes_the_attempts_in_flight() {
    let mut stored = Stored::new("");
    let handler = stored.start_handler(Behaviour::Delay(Duration::from_millis(800), Behaviour::Json.boxed()));
    stored.store("in flight");
    handler.wait_for(1, SOON).unwrap();
    stored.stop();
    assert!(stored.query("SELECT id FROM spool").is_empty(), "its outcome was written");
    assert_eq!(handler.request_count(), 1);
}

#[test]
fn a_restart_hands_a_filled_spool_over() {
    let mut stored = Stored::new("");
    let bodies: Vec<String> = (0..50).map(|number| format!("{number}:{}", "x".repeat(number * 500))).collect();
    for body in &bodies {
        stored.store(body);
    }
    stored.stop();
    stored.start_again(DURABLE);
    stored.base.daemon.wait_log("stored deliveries wait for their handlers", SOON).unwrap();
    let handler = stored.start_handler(Behaviour::Json);
    let requests = handler.wait_for(50, LATER).unwrap();
    let arrived: BTreeSet<String> = requests.iter().map(http::Request::text).collect();
    assert_eq!(arrived, bodies.into_iter().collect());
    stored.wait_rows("waiting", 0);
}

#[test]
fn a_dead_letter_is_attempted_after_a_restart_without_durable_routes() {
    let mut stored = Stored::new("");
    let handler = stored.start_handler(Behaviour::status(422, "never"));
    stored.store("{}");
    stored.wait_rows("dead", 1);
    stored.stop();
    stored.start_again("");
    handler.set_behaviour(Behaviour::Json);
    stored.commanded(&["retry", "--all-dead"]);
    wait_until("no row is left", LATER, || stored.query("SELECT id FROM spool").is_empty()).unwrap();
}

#[test]
fn a_process_that_began_before_another_one_ended_hands_over_what_that_one_stored() {
    let mut stored = Stored::new("");
    let environment = &stored.base.environment;
    let next = Gateway::start(&configuration(environment, &[(ROUTE, PATH, DURABLE)]), &stored.options).unwrap();
    next.wait_log("another process still hands the stored deliveries over", SOON).unwrap();
    let id = stored.store("late");
    stored.stop();
    let handler = stored.start_handler(Behaviour::Json);
    let requests = handler.wait_for(1, LATER).unwrap();
    assert_eq!(requests[0].field("x-hookgate-delivery"), Some(id.as_str()));
    stored.wait_rows("waiting", 0);
    next.wait_metric("hookgate_spool_deliveries", &[("state", "waiting")], 0.0, SOON).unwrap();
}
