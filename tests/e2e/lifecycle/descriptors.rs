//! The limit on open files: raised at the start, and shared so that peers leave enough for everything else.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;

use hookgate_testkit::client::raw;
use hookgate_testkit::gateway::{Gateway, GatewayOptions};
use hookgate_testkit::pki::Sender;

use crate::environment::{BINARY, Environment, PATH, SOON};
use crate::test_gateway::TestGateway;
use crate::tls_client::request;

/// The daemon in a shell that has run `ulimit` with these arguments.
fn with_ulimit(environment: &Environment, arguments: &str) -> GatewayOptions {
    let script = format!("#!/bin/sh\nulimit {arguments} && exec {BINARY} \"$@\"\n");
    let script = environment.write("with-ulimit", script).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
    GatewayOptions::new(script)
}

/// The soft and the hard limit of the process.
fn limits(gateway: &Gateway) -> (String, String) {
    let limits = fs::read_to_string(format!("/proc/{}/limits", gateway.process_id())).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let mut numbers = line.split_ascii_whitespace().map(str::to_owned);
    (numbers.next().unwrap(), numbers.next().unwrap())
}

#[test]
fn the_soft_limit_is_raised_to_the_hard_limit() {
    let environment = Environment::new().unwrap();
    let options = with_ulimit(&environment, "-Sn 32");
    let daemon = Gateway::start(&environment.toml("max_connections = 10", ""), &options).unwrap();
    let (soft, hard) = limits(&daemon);
    assert_eq!(soft, hard);
    assert!(!daemon.log().contains("RLIMIT_NOFILE"), "{}", daemon.log());
    assert_eq!(daemon.metric("hookgate_connections_limit", &[]).unwrap(), 10.0);
}

#[test]
fn a_limit_that_is_too_low_bounds_the_connections_with_a_warning() {
    let environment = Environment::new().unwrap();
    let options = with_ulimit(&environment, "-n 256");
    let daemon = Gateway::start(&environment.toml("max_connections = 1000", ""), &options).unwrap();
    let bound = daemon.metric("hookgate_connections_limit", &[]).unwrap();
    assert!((50.0..150.0).contains(&bound), "{bound}");
    let log = daemon.log();
    let warning = log.lines().find(|line| line.contains("RLIMIT_NOFILE")).unwrap();
    let needed = warning.split_once("needed=").unwrap().1.split(' ').next().unwrap();
    for part in [
        "WARN".to_owned(),
        "limit=256".to_owned(),
        "max_connections=1000".to_owned(),
        format!("connections={bound}"),
        format!("needed={needed} "),
        "set LimitNOFILE= to `needed` in the unit".to_owned(),
    ] {
        assert!(warning.contains(&part), "no {part:?} in {warning}");
    }
    // A reload counts anew, and publishes its bound.
    daemon
        .reload(
            &environment.toml("max_connections = 40\nhandler_max_in_flight = 20\nhandler_idle_connections = 1", ""),
            SOON,
        )
        .unwrap();
    assert_eq!(daemon.metric("hookgate_connections_limit", &[]).unwrap(), 40.0);
    assert_eq!(daemon.log().matches("RLIMIT_NOFILE").count(), 1, "{}", daemon.log());
}

/// Strangers who want every descriptor get those of `max_connections` only. A request that is in flight meanwhile reaches its handler on a
/// new connection, a reload reads its files, and a scrape is answered.
#[test]
fn strangers_take_no_descriptor_from_handlers_reloads_and_scrapes() {
    let environment = Environment::new().unwrap();
    let options = with_ulimit(&environment, "-n 64");
    let configuration = environment.toml("max_connections = 1000\nhandshake_timeout_ms = 60000", "");
    let daemon = Gateway::start(&configuration, &options).unwrap();
    let gateway = TestGateway::new(daemon, environment, Sender::Percolate).unwrap();
    let mut sender = gateway.connect().unwrap();
    let whole = request("PUT", PATH, b"{}");
    let (half, rest) = whole.split_at(10);
    sender.send(half).unwrap();

    let strangers: Vec<TcpStream> = (0..80).map(|_| raw::connect(gateway.daemon.port()).unwrap()).collect();
    gateway.wait_rejections("connection_limit", 1.0).unwrap();
    gateway.reload(&configuration).unwrap();
    assert!(!gateway.daemon.metrics().unwrap().has("hookgate_accept_errors_total", &[]));
    assert_eq!(sender.ask(rest).unwrap().status, 200);
    assert_eq!(gateway.rejections("host_exhausted").unwrap(), 0.0);

    drop(strangers);
    drop(sender);
    gateway.wait_no_connection().unwrap();
    gateway.still_serves().unwrap();
}
