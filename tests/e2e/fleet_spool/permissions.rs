//! What a user of NATS must be allowed for the spool: no more than docs/fleet.md names.

use super::*;
use crate::acceptor::own_address;
use crate::fleet::credentials::{HEARS, Operator};

/// The streams and buckets of the spool.
const STREAMS: [&str; 4] = [
    "hookgate-spool-hookgate",
    "hookgate-dead-hookgate",
    "KV_hookgate-attempts-hookgate",
    "KV_hookgate-turns-hookgate",
];

/// What hookgate publishes to beside what is of each stream.
const USES: [&str; 14] = [
    "$JS.API.STREAM.MSG.GET.hookgate-spool-hookgate",
    "$JS.API.STREAM.MSG.GET.hookgate-dead-hookgate",
    "$JS.API.DIRECT.GET.KV_hookgate-attempts-hookgate.>",
    "$JS.API.DIRECT.GET.KV_hookgate-turns-hookgate.>",
    "$JS.API.CONSUMER.INFO.hookgate-spool-hookgate.*",
    "$JS.API.CONSUMER.INFO.hookgate-dead-hookgate.*",
    "$JS.API.CONSUMER.CREATE.hookgate-spool-hookgate.>",
    "$JS.API.CONSUMER.CREATE.hookgate-dead-hookgate.>",
    "$JS.API.CONSUMER.MSG.NEXT.hookgate-spool-hookgate.*",
    "$JS.ACK.hookgate-spool-hookgate.>",
    "hookgate.spool.hookgate.>",
    "hookgate.dead.hookgate.>",
    "$KV.hookgate-attempts-hookgate.>",
    "$KV.hookgate-turns-hookgate.>",
];

#[test]
fn the_spool_works_with_the_permissions_that_the_page_names() {
    let page = include_str!("../../../docs/fleet.md");
    let of_streams = |verb: &str| STREAMS.map(|stream| format!("$JS.API.STREAM.{verb}.{stream}"));
    for subject in of_streams("INFO").iter().map(String::as_str).chain(USES).chain([HEARS]) {
        assert!(page.contains(&format!("`{subject}`")), "docs/fleet.md does not name {subject}");
    }
    let all: Vec<String> = ["INFO", "CREATE", "MSG.DELETE"].into_iter().flat_map(of_streams).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).chain(USES).collect();

    let files = tempfile::tempdir().unwrap();
    let operator = Operator::new(files.path());
    let address = std::net::SocketAddrV4::new(own_address(), 4222);
    let nats = Nats::start(&files.path().join("store"), address, &["--config", operator.configuration()]);
    let credentials = operator.credentials(files.path(), &all);
    let lines = format!("replicas = 1\nmax_bytes = 4194304\ncredentials = {}", quoted(&credentials));
    let hosts = Hosts::start(2, &nats.url(), &lines, "order_by = \"/key\"");

    // Without a handler, and then with one that takes neither the first nor the second.
    let first = hosts.store(0, "{\"key\":1,\"n\":0}");
    let second = hosts.store(1, "{\"key\":1,\"n\":1}");
    assert!(!hosts.command(0, &["show", &first]).contains("waits until"));
    let shown = hosts.command(0, &["show", &second]);
    assert!(shown.contains(&format!("waits until {first}, which came before it")), "{shown}");
    hosts.store(1, "{\"n\":2}");
    hosts.command(0, &["pause", "--route", "orders"]);
    hosts.command(1, &["resume", "--route", "orders"]);
    let refuse = |status| Behaviour::Fixed { status, fields: Vec::new(), body: Vec::new() };
    let sequence = Behaviour::sequence([refuse(503), refuse(422), Behaviour::Json]);
    let _handlers = [0, 1].map(|host| hosts.start_handler(host, sequence.clone()));
    hosts.wait_listed(0, "waiting", 0);
    let dead = hosts.listed(1, "dead");
    assert!(!dead.is_empty());
    for letter in &dead {
        let id = letter["id"].as_str().unwrap();
        hosts.command(0, &["show", id]);
        hosts.command(1, &["retry", id]);
    }
    wait_until("every delivery", LATER, || {
        let listed = ["waiting", "dead"].map(|state| hosts.listed(0, state));
        listed[1].iter().for_each(|letter| drop(hosts.command(0, &["drop", letter["id"].as_str().unwrap()])));
        listed.iter().all(Vec::is_empty)
    })
    .unwrap();
    for gateway in &hosts.gateways {
        assert!(!gateway.log().contains("Permissions Violation"), "{}", gateway.log());
    }
}
