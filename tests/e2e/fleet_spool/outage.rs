//! Durable routes while no NATS server answers: what the disk of a host takes over, what is handed over without the servers, and that they get the
//! rest when they are back.

use super::*;

#[test]
fn without_servers_the_disk_takes_over_and_they_get_what_is_there_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let nats = Nats::alone(directory.path());
    let lines = "replicas = 1\nfallback = \"disk\"";
    let hosts = Hosts::start(2, &nats.url(), lines, "order_by = \"/key\"");
    let body = |number: usize| format!("{{\"key\":{},\"n\":{number}}}", number % 3);
    (0..10).for_each(|number| drop(hosts.store(0, &body(number))));
    let start_again = nats.end();
    hosts.wait_lost(0);
    for number in 10..30 {
        assert_eq!(hosts.send(0, &body(number)).status, 202, "the disk");
    }
    hosts.wait_zero(0, "hookgate_fleet_spool_usable", &[]);
    let fallback = hosts.gateways[0].metric("hookgate_fleet_spool_fallback_total", &[]).unwrap();
    assert_eq!(fallback, 20.0);
    let handler = hosts.start_handler(1, Behaviour::Json);
    let _nats = start_again();
    wait_until("all deliveries", LATER, || handler.taken().len() >= 30).unwrap();
    check_order(&handler, 10, 3);
    hosts.wait_listed(0, "waiting", 0);
}

#[test]
fn without_servers_this_host_hands_over_what_waits_for_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let nats = Nats::alone(directory.path());
    let hosts = Hosts::start(1, &nats.url(), "replicas = 1\nfallback = \"disk\"", "");
    hosts.store(0, "0");
    let handler = hosts.start_handler(0, Behaviour::Json);
    wait_until("the first", LATER, || taken([&handler]) == each_once(1)).unwrap();
    drop(nats);
    hosts.wait_lost(0);
    assert_eq!(hosts.send(0, "1").status, 202);
    assert_eq!(hosts.send(0, &"x".repeat(1024 * 1024)).status, 503, "the servers would never take it");
    wait_until("the second", LATER, || taken([&handler]) == each_once(2)).unwrap();
}

/// Three servers with three copies end, and a host with rows on its disk too.
#[test]
fn a_cluster_that_is_back_with_its_files_gets_what_the_disks_have_in_order() {
    const KEYS: usize = 6;
    let directory = tempfile::tempdir().unwrap();
    let servers = Nats::cluster(directory.path());
    let lines = "replicas = 3\nfallback = \"disk\"";
    let mut hosts = Hosts::start(2, &Nats::urls(&servers), lines, "order_by = \"/key\"");
    // Each host gets half of the keys: those that come to both have no order during an outage.
    let of_turn =
        |turn: usize| (0..KEYS).map(move |key| (key / 3, format!("{{\"key\":{key},\"n\":{}}}", turn * KEYS + key)));
    (0..4).flat_map(of_turn).for_each(|(host, body)| drop(hosts.store(host, &body)));
    let start_again: Vec<_> = servers.into_iter().map(Nats::end).collect();
    (0..2).for_each(|host| hosts.wait_lost(host));
    let to_disk = |hosts: &Hosts, turn: usize| {
        for (host, body) in of_turn(turn) {
            assert_eq!(hosts.send(host, &body).status, 202, "the disk");
        }
    };
    (4..7).for_each(|turn| to_disk(&hosts, turn));
    hosts.restart(0);
    (7..10).for_each(|turn| to_disk(&hosts, turn));
    let handler = hosts.start_handler(1, Behaviour::Json);
    assert_eq!(handler.request_count(), 0, "what has a key waits for the servers");
    let _servers: Vec<Nats> = start_again.into_iter().map(|start| start()).collect();
    let all = wait_until("all deliveries", LATER, || handler.taken().len() >= 10 * KEYS);
    assert!(all.is_ok(), "{} were taken\n{}", handler.taken().len(), hosts.gateways[0].log());
    check_order(&handler, 10, 6);
    (0..2).for_each(|host| hosts.wait_listed(host, "waiting", 0));
}

#[test]
fn a_pause_holds_without_servers_and_over_restarts_and_is_set_and_ended_with_them_alone() {
    let directory = tempfile::tempdir().unwrap();
    let nats = Nats::alone(directory.path());
    let socket = directory.path().join("refunds.sock");
    let lines = format!("replicas = 1\nfallback = \"disk\"\n{}", durable_route("refunds", "/refunds", &socket, ""));
    let mut hosts = Hosts::start(1, &nats.url(), &lines, "");
    let (orders, refunds) =
        (hosts.start_handler(0, Behaviour::Json), Handler::start(&socket, Behaviour::Json).unwrap());
    // What is not paused is handed over. What came before it is tried before it, so that would have been too.
    let check_paused = |hosts: &Hosts, when: &str| {
        for number in 0..2 {
            let body = format!("{when} {number}");
            assert_eq!(hosts.send_to(0, "/refunds", &body).status, 202, "{when}");
            let handed = wait_until(&body, LATER, || taken([&refunds]).contains_key(&body));
            assert!(handed.is_ok(), "{}", hosts.gateways[0].log());
        }
        assert_eq!(orders.request_count(), 0, "{when}");
    };
    hosts.command(0, &["pause", "--route", "orders"]);
    let kept = hosts.state(0).join("fleet-paused-hookgate");
    wait_until("the pause on the disk", SOON, || std::fs::read(&kept).is_ok_and(|kept| kept == b"[\"orders\"]"))
        .unwrap();
    let start_again = nats.end();
    hosts.wait_lost(0);
    let refused = hosts.refused(0, &["pause"]);
    assert!(
        refused.contains("a pause is one of all hosts and is kept by the servers, so it cannot be set now"),
        "{refused}"
    );
    let refused = hosts.refused(0, &["resume"]);
    assert!(refused.contains("kept by the servers, so it cannot be ended now"), "{refused}");
    assert_eq!(hosts.send(0, "0").status, 202, "the disk");
    check_paused(&hosts, "without servers");
    hosts.restart(0);
    check_paused(&hosts, "after a restart");
    assert_eq!(hosts.send(0, "1").status, 202, "the disk");
    hosts.restart(0);
    let _nats = start_again();
    hosts.wait_connected(0);
    check_paused(&hosts, "with servers");
    wait_until("the servers have all", LATER, || {
        let listed = hosts.listed(0, "waiting");
        listed.len() == 2 && listed.iter().all(|delivery| delivery["number"].as_i64() >= Some(1 << 60))
    })
    .unwrap();
    hosts.restart(0);
    check_paused(&hosts, "after a restart with servers");
    hosts.command(0, &["resume", "--route", "orders"]);
    wait_until("all deliveries", LATER, || taken([&orders]) == each_once(2)).unwrap();
}
