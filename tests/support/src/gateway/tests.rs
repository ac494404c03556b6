//! Starting and ending a child, with a script in place of the daemon.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::net::TcpStream;

use super::*;

fn start(say: &str) -> Result<Gateway> {
    let binary = concat!(env!("CARGO_MANIFEST_DIR"), "/src/gateway/stand-in.sh");
    let mut options = GatewayOptions::new(binary);
    options.io = "epoll".into();
    options.environment.push(("SAY".into(), say.into()));
    Gateway::start("port = @LISTEN_PORT@\nmetrics = @METRICS_PORT@\nio = \"@IO@\"\n", &options)
}

#[test]
fn a_daemon_that_becomes_ready_is_watched_and_signalled() {
    let mut gateway = start("ready").unwrap();
    let file = format!("port = {}\nmetrics = {}\nio = \"epoll\"\n", gateway.port(), gateway.metrics_address().port());
    assert!(gateway.log().contains(&file), "{}", gateway.log());
    assert!(gateway.log().contains("arguments: run --config "));
    assert!(gateway.fd_count().unwrap() >= 3);
    assert_eq!(gateway.thread_count().unwrap(), 1);
    assert!(gateway.rss_bytes().unwrap() > 64 * 1024);
    gateway.wait_exit(Duration::from_millis(50)).unwrap_err();
    gateway.signal(Signal::TERM).unwrap();
    assert_eq!(gateway.wait_exit(Duration::from_secs(5)).unwrap().code(), Some(7));
    assert!(gateway.log().ends_with("terminated\n"), "{}", gateway.log());
}

#[test]
fn a_daemon_that_ends_is_an_error_with_its_log() {
    let error = format!("{:#}", start("bad configuration").unwrap_err());
    assert!(error.contains("error: bad configuration") && error.contains("exit status: 1"), "{error}");
}

#[test]
fn a_taken_port_is_tried_again_and_then_given_up() {
    let error = format!("{:#}", start("Address already in use").unwrap_err());
    assert!(error.contains("Address already in use"), "{error}");
}

#[test]
fn a_reserved_port_is_the_daemons_alone() {
    let port = ReservedPort::new().unwrap();
    TcpListener::bind((Ipv4Addr::LOCALHOST, port.number)).unwrap_err();
    let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, port.number)).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "the socket listens already");
    let others: Vec<_> = (0..200).map(|_| ReservedPort::new().unwrap()).collect();
    assert!(others.iter().all(|other| other.number != port.number));
}
