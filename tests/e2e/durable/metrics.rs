//! What the metrics tell of deliveries that are stored, dead, and taken.

use hookgate_testkit::configuration::HOST;
use hookgate_testkit::handler::Behaviour;
use hookgate_testkit::http;
use hookgate_testkit::metrics::Metrics;
use hookgate_testkit::wait::wait_until;

use super::{DURABLE, LATER, PATH, ROUTE, Stored, configuration, replay, with_id};
use crate::environment::SOON;

const OLDEST: &str = "hookgate_spool_oldest_age_seconds";
const BYTES: &str = "hookgate_spool_bytes";
const WRITES: &str = "hookgate_spool_write_duration_seconds_count";
const KEPT: &str = "hookgate_deliveries_kept_total";

#[test]
fn metrics_follow_a_delivery_from_its_sender_to_its_end() {
    let stored = Stored::with_copies();
    let direct = replay(&stored.base.environment);
    let durable = format!("{DURABLE}\n{direct}");
    let routes = [(ROUTE, PATH, durable.as_str()), ("direct", "/direct", direct.as_str())];
    stored.base.reload(&configuration(&stored.base.environment, &routes)).unwrap();
    let metrics = || stored.base.daemon.metrics().unwrap();
    for name in [OLDEST, BYTES, WRITES, KEPT] {
        assert!(!metrics().has(name, &[]), "{name} is absent until the first");
    }
    let of_route = |metrics: &Metrics, name: &str| metrics.sum(name, &[("route", ROUTE)]);
    let become_true = |what: &str, is_so: &dyn Fn(&Metrics) -> bool| {
        wait_until(what, LATER, || is_so(&metrics())).unwrap();
    };

    // Stored, while the handler is down.
    let before = std::time::Instant::now();
    assert_eq!(stored.send_with(&with_id("one"), "{\"n\":1}").status, 202);
    let bytes: f64 = stored.query("SELECT sum(bytes) FROM spool")[0].parse().unwrap();
    assert!(bytes > 100.0, "fields count");
    become_true("its bytes", &|now| of_route(now, BYTES) == bytes);
    become_true("its age", &|now| of_route(now, OLDEST) >= 1.0);
    let (now, waited) = (metrics(), before.elapsed().as_secs_f64());
    assert!(of_route(&now, OLDEST) <= waited + 1.0, "{} s after {waited} s", of_route(&now, OLDEST));
    assert_eq!((now.sum(WRITES, &[]), now.sum(KEPT, &[])), (1.0, 1.0));
    let seconds = now.sum("hookgate_spool_write_duration_seconds_sum", &[]);
    assert!(seconds > 0.0 && seconds < waited, "{seconds} s of {waited} s");

    // Dead: it has its bytes, and waits no longer.
    let handler = stored.start_handler(Behaviour::status(422, "never"));
    stored.wait_rows("dead", 1);
    become_true("no age", &|now| of_route(now, OLDEST) == 0.0);
    assert_eq!(of_route(&metrics(), BYTES), bytes);

    // Taken.
    handler.set_behaviour(Behaviour::Json);
    stored.commanded(&["retry", "--all-dead"]);
    become_true("no bytes", &|now| of_route(now, BYTES) == 0.0);
    become_true("no age", &|now| of_route(now, OLDEST) == 0.0);
    let now = metrics();
    assert_eq!((now.sum(WRITES, &[]), now.sum(KEPT, &[])), (1.0, 1.0), "outcomes are no deliveries");

    // One that its handler took directly is kept too.
    let request = http::request("POST", "/direct", HOST, &with_id("two"), b"{}");
    assert_eq!(stored.base.connect().unwrap().ask(request).unwrap().status, 200);
    stored.base.daemon.wait_metric(KEPT, &[], 2.0, SOON).unwrap();
    assert_eq!(metrics().sum(WRITES, &[]), 1.0);
}
