//! Many deliveries, each sent to both hosts at once.
//!
//! `HOOKGATE_TEST_DELIVERIES` replaces how many.

use std::thread;

use hookgate_testkit::gateway::IO_VARIABLE;

use super::{Hosts, Nats, delivery};

/// Connections to each host.
const CONNECTIONS: usize = 4;

/// How many deliveries. The whole number takes some 20 s of processor time. What is tested is the same on each backend, so one of them takes it.
fn count() -> usize {
    let whole = std::env::var(IO_VARIABLE).is_ok_and(|backend| backend == "epoll");
    let asked = std::env::var("HOOKGATE_TEST_DELIVERIES").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(if whole { 10_000 } else { 2_000 })
}

#[test]
fn each_of_many_deliveries_that_both_hosts_get_is_handled_exactly_once() {
    let directory = tempfile::tempdir().unwrap();
    let nats = Nats::alone(directory.path());
    let hosts = &Hosts::pair(&nats, "");
    let count = count();
    // The connections with one number send the same deliveries to their hosts, in the same order.
    let send = |host: usize, number: usize| {
        let mut connection = hosts.connect(host);
        let ids = (number..count).step_by(CONNECTIONS);
        ids.map(|id| (id, connection.ask(delivery(&id.to_string())).unwrap().status)).collect::<Vec<_>>()
    };
    let mut told = vec![Vec::new(); count];
    thread::scope(|scope| {
        let pairs = (0..CONNECTIONS).flat_map(|number| [(0, number), (1, number)]);
        let running: Vec<_> = pairs.map(|(host, number)| scope.spawn(move || send(host, number))).collect();
        for (id, status) in running.into_iter().flat_map(|thread| thread.join().unwrap()) {
            told[id].push(status);
        }
    });
    for (id, told) in told.iter_mut().enumerate() {
        told.sort_unstable();
        assert!(matches!(told[..], [200, 208 | 429]), "{id}: {told:?}");
    }
    let handled = hosts.handled();
    assert_eq!(handled.len(), count);
    let twice: Vec<_> = handled.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
}
