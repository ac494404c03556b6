//! A handler that is down for a minute while deliveries come: each of them arrives when it is back, in the order of its key.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use hookgate_testkit::configuration::HOST;
use hookgate_testkit::handler::Behaviour;
use hookgate_testkit::http;

use super::{PATH, ROUTE, Stored, by_key, is_whole};
use crate::environment::SOON;

/// Deliveries that begin in a second, whether earlier ones were answered or not.
const RATE: u32 = 200;

/// Different values of `order_by`.
const KEYS: u32 = 50;

/// Connections. Each has the deliveries of its keys, so that these are stored in the order of their numbers. A delivery is sent when it is due: an
/// answer may take 50 ms before it delays the next one of its connection.
const SENDERS: u32 = 10;

/// How long all that is stored may take to arrive, on a machine that does other things too.
const ALL: Duration = Duration::from_secs(120);

/// How long the handler is down.
fn outage() -> Duration {
    Duration::from_secs(if is_whole() { 60 } else { 5 })
}

/// Sends the deliveries of one connection when they are due. Returns their ids.
fn send(stored: &Stored, sender: u32, count: u32, start: Instant) -> Vec<String> {
    let mut connection = stored.base.connect().unwrap();
    let own = (0..count).filter(|number| number % KEYS % SENDERS == sender);
    let mut ids = Vec::new();
    for number in own {
        let due = start + Duration::from_secs(1) * number / RATE;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let body = format!("{{\"key\":{},\"n\":{number}}}", number % KEYS);
        let response = connection.ask(http::request("POST", PATH, HOST, &[], body.as_bytes())).unwrap();
        assert_eq!(response.status, 202, "{number}: {response:?}");
        ids.push(response.field("x-request-id").unwrap().to_owned());
    }
    ids
}

#[test]
fn every_delivery_of_an_outage_arrives_in_the_order_of_its_key() {
    let stored = Stored::new(&format!("order_by = \"/key\", max_in_flight = {KEYS}"));
    let count = RATE * u32::try_from(outage().as_secs()).unwrap();
    let start = Instant::now();
    let accepted: BTreeSet<String> = thread::scope(|scope| {
        let (stored, start) = (&stored, start);
        let senders: Vec<_> =
            (0..SENDERS).map(|sender| scope.spawn(move || send(stored, sender, count, start))).collect();
        senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect()
    });
    let sent = start.elapsed();
    assert_eq!(accepted.len(), usize::try_from(count).unwrap(), "each has an id of its own");
    assert!(sent >= outage() - Duration::from_secs(1), "the handler was down for {sent:?} only");
    assert_eq!(stored.query("SELECT count(*) FROM spool WHERE state = 'waiting'"), [count.to_string()]);

    let handler = stored.start_handler(Behaviour::Json);
    let back = Instant::now();
    handler.wait_for(count.into(), ALL).unwrap();
    stored.wait_rows("waiting", 0);
    println!("{count} deliveries in {sent:?}, all handed over {:?} after the handler was back", back.elapsed());
    assert_eq!(stored.query("SELECT count(*) FROM spool"), ["0"]);
    // A row leaves the spool when its handler has taken it.
    let requests = handler.requests();
    let taken: BTreeSet<String> =
        requests.iter().map(|request| request.field("x-hookgate-delivery").unwrap().to_owned()).collect();
    assert!(taken == accepted, "{} were accepted and {} taken", accepted.len(), taken.len());
    let arrived = by_key(&requests);
    assert_eq!(arrived.len(), usize::try_from(KEYS).unwrap());
    for (key, numbers) in arrived {
        let first: u32 = key.parse().unwrap();
        let stored_in: Vec<u64> = (first..count).step_by(usize::try_from(KEYS).unwrap()).map(u64::from).collect();
        assert_eq!(numbers, stored_in, "key {key}");
    }
    let labels = [("route", ROUTE), ("result", "taken")];
    stored.base.daemon.wait_metric("hookgate_spool_attempts_total", &labels, count.into(), SOON).unwrap();
}
