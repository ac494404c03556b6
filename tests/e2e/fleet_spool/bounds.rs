//! The bounds of what the servers and the disk of a host store of durable routes, what the metrics tell of it, and streams that are not as hookgate makes them.

use super::*;

const ROUTE: (&str, &str) = ("route", "orders");

/// How often the log of a host says this.
fn said(hosts: &Hosts, text: &str) -> usize {
    hosts.gateways[0].log().matches(text).count()
}

#[test]
fn a_bound_that_fills_is_said_once_and_the_metrics_tell_what_the_servers_have() {
    let directory = tempfile::tempdir().unwrap();
    let nats = Nats::alone(directory.path());
    let hosts = Hosts::at(&nats, 1, "max_entries = 5");
    (0..4).for_each(|number| drop(hosts.store(0, &number.to_string())));
    let wait = |name: &str, labels: &[(&str, &str)], least: f64| {
        hosts.gateways[0].wait_metric(name, labels, least, LATER).unwrap()
    };
    assert_eq!(wait("hookgate_fleet_spool_filled_ratio", &[ROUTE], 0.8), 0.8);
    hosts.gateways[0].wait_log("the spool of the fleet fills", SOON).unwrap();
    let deliveries = "hookgate_fleet_spool_deliveries";
    assert_eq!(wait(deliveries, &[ROUTE, ("state", "waiting")], 4.0), 4.0);
    assert_eq!(hosts.gateways[0].metric(deliveries, &[ROUTE, ("state", "dead")]).unwrap(), 0.0);
    assert_eq!(wait("hookgate_fleet_spool_write_duration_seconds_count", &[], 4.0), 4.0);
    // They wait for longer than it takes to look twice.
    let oldest = "hookgate_fleet_spool_oldest_age_seconds";
    let age = wait(oldest, &[ROUTE], 5.0);
    assert!(age < LATER.as_secs_f64(), "{age}");
    let _handler = hosts.start_handler(0, Behaviour::status(422, "no"));
    assert_eq!(wait(deliveries, &[ROUTE, ("state", "dead")], 4.0), 4.0);
    hosts.wait_zero(0, deliveries, &[ROUTE, ("state", "waiting")]);
    hosts.wait_zero(0, oldest, &[ROUTE]);
    assert_eq!(
        hosts.gateways[0].metric("hookgate_fleet_spool_filled_ratio", &[ROUTE]).unwrap(),
        0.8,
        "dead letters count"
    );
    assert_eq!(said(&hosts, "the spool of the fleet fills"), 1);
}

#[test]
fn the_disk_that_takes_over_has_the_bounds_of_the_route_too() {
    let directory = tempfile::tempdir().unwrap();
    let nats = Nats::alone(directory.path());
    let hosts = Hosts::start(1, &nats.url(), "replicas = 1\nfallback = \"disk\"", "max_entries = 2");
    let start_again = nats.end();
    hosts.wait_lost(0);
    (0..2).for_each(|number| assert_eq!(hosts.send(0, &number.to_string()).status, 202, "the disk"));
    let full = hosts.send(0, "more");
    assert_eq!((full.status, full.reason().as_deref()), (503, Some("spool_full")), "{full:?}");
    assert!(full.field("retry-after").is_some(), "{full:?}");
    let _nats = start_again();
    let handler = hosts.start_handler(0, Behaviour::Json);
    wait_until("what is stored", LATER, || taken([&handler]) == each_once(2)).unwrap();
    wait_until("room", LATER, || hosts.send(0, "2").status == 202).unwrap();
    wait_until("the third", LATER, || taken([&handler]) == each_once(3)).unwrap();
}

#[test]
fn the_servers_store_a_message_once_however_often_it_is_sent() {
    let directory = tempfile::tempdir().unwrap();
    let nats = Nats::alone(directory.path());
    let hosts = Hosts::at(&nats, 1, "");
    let id = hosts.store(0, "0");
    as_operator(&nats, |context| async move {
        let mut stream = context.get_stream("hookgate-spool-hookgate").await.unwrap();
        let stored = stream.get_raw_message(1).await.unwrap();
        assert_eq!(stored.headers.get("Nats-Msg-Id").map(async_nats::HeaderValue::as_str), Some(id.as_str()));
        let again = context.publish_with_headers(stored.subject, stored.headers, stored.payload).await.unwrap();
        assert!(again.await.unwrap().duplicate);
        assert_eq!(stream.info().await.unwrap().state.messages, 1);
    });
    let handler = hosts.start_handler(0, Behaviour::Json);
    hosts.wait_listed(0, "waiting", 0);
    assert_eq!(taken([&handler]), each_once(1));
}

#[test]
fn a_stream_with_another_bound_of_bytes_is_used_and_said_once() {
    const DIFFERS: &str =
        "the stream has another bound of bytes than max_bytes of [fleet], and that of the stream holds";
    let directory = tempfile::tempdir().unwrap();
    let nats = Nats::alone(directory.path());
    let hosts = Hosts::at(&nats, 1, "");
    hosts.store(0, "0");
    assert_eq!(said(&hosts, DIFFERS), 0);
    drop(hosts);
    let hosts = Hosts::start(1, &nats.url(), "replicas = 1\nmax_bytes = 2097152", "");
    hosts.store(0, "1");
    assert_eq!(said(&hosts, DIFFERS), 2, "of what waits, and of dead letters: {}", hosts.gateways[0].log());
    as_operator(&nats, |context| async move {
        context.delete_stream("KV_hookgate-attempts-hookgate").await.unwrap();
    });
    // Then all are looked for again.
    hosts.gateways[0].wait_log("made a stream of the fleet stream=KV_hookgate-attempts-hookgate", LATER).unwrap();
    hosts.store(0, "2");
    assert_eq!(said(&hosts, DIFFERS), 2);
}

#[test]
fn without_servers_and_fallback_and_beyond_the_bounds_senders_are_told_to_wait() {
    let directory = tempfile::tempdir().unwrap();
    let nats = Nats::alone(directory.path());
    let hosts = Hosts::at(&nats, 1, "max_entries = 3");
    (0..3).for_each(|number| drop(hosts.store(0, &number.to_string())));
    // The number is looked at every 5 s; what this host stores counts at once, from the first look on.
    wait_until("the bound", LATER, || hosts.send(0, "more").reason().as_deref() == Some("spool_full")).unwrap();
    drop(nats);
    hosts.wait_lost(0);
    let response = hosts.send(0, "more");
    assert_eq!((response.status, response.reason().as_deref()), (503, Some("state_unavailable")));
    assert!(response.field("retry-after").is_some(), "{response:?}");
}

#[test]
fn a_full_stream_and_a_long_body_are_refused_and_what_is_stored_stays() {
    let directory = tempfile::tempdir().unwrap();
    let nats = Nats::alone(directory.path());
    let hosts = Hosts::start(1, &nats.url(), "replicas = 1\nmax_bytes = 1048576", "");
    hosts.store(0, "0");
    let body = "x".repeat(100_000);
    let mut stored = 1;
    wait_until("the bound", LATER, || {
        let response = hosts.send(0, &body);
        stored += usize::from(response.status == 202);
        response.reason().as_deref() == Some("spool_full")
    })
    .unwrap();
    assert!((8..=11).contains(&stored), "{stored}");
    let handler = hosts.start_handler(0, Behaviour::Json);
    wait_until("what is stored", LATER, || handler.taken().len() == stored).unwrap();
    wait_until("room", LATER, || hosts.send(0, &body).status == 202).unwrap();
    let longest = hosts.send(0, &"x".repeat(1024 * 1024));
    assert_eq!(longest.reason().as_deref(), Some("spool_full"));
    hosts.gateways[0].wait_log("the NATS servers take 1048576 (max_payload)", SOON).unwrap();
}

#[test]
fn a_stream_that_would_forget_is_not_used_and_never_changed() {
    let directory = tempfile::tempdir().unwrap();
    let nats = Nats::alone(directory.path());
    let one = Hosts::at(&nats, 1, "");
    one.store(0, "0");
    let more = Hosts::start(1, &nats.url(), "replicas = 3", "");
    assert_eq!(more.send(0, "1").status, 503);
    let wrong = "it has fewer copies than [fleet] replicas says";
    more.gateways[0].wait_log(wrong, SOON).unwrap();
    more.wait_zero(0, "hookgate_fleet_spool_usable", &[]);
    let asked = more.refused(0, &["list"]);
    assert!(asked.contains(wrong), "{asked}");
    one.gateways[0].wait_metric("hookgate_fleet_spool_usable", &[], 1.0, SOON).unwrap();
    one.store(0, "2");
    assert_eq!(one.listed(0, "waiting").len(), 2);
}
