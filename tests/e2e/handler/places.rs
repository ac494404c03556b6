//! The places of a handler: counted over all workers, given in order, and cheap to wait for.

use std::os::unix::net::UnixListener;
use std::thread::sleep;
use std::time::Duration;

use hookgate_testkit::handler::Behaviour;
use hookgate_testkit::wait::wait_until;

use super::answer_all;
use crate::environment::{PATH, SOON};
use crate::test_gateway::TestGateway;
use crate::tls_client::{TlsConnection, request};

/// So many that every worker gets some.
const CONNECTIONS: usize = 24;

fn on_three_workers(limits: &str) -> TestGateway {
    TestGateway::with_toml(|environment| environment.toml(limits, "").replace("workers = 1", "workers = 3")).unwrap()
}

fn asking(gateway: &TestGateway, count: usize) -> Vec<TlsConnection> {
    let mut connections: Vec<_> = (0..count).map(|_| gateway.connect().unwrap()).collect();
    for connection in &mut connections {
        connection.send(request("POST", PATH, b"{}")).unwrap();
    }
    connections
}

#[test]
fn no_more_requests_are_with_a_handler_than_configured_on_all_workers_together() {
    let gateway = on_three_workers("handler_max_in_flight = 4\nhandler_max_waiting = 0");
    gateway.handler().set_behaviour(Behaviour::Delay(Duration::from_secs(2), Behaviour::Json.boxed()));
    let mut connections = asking(&gateway, CONNECTIONS);
    let statuses: Vec<_> = connections.iter_mut().map(|one| one.response().unwrap().status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 4, "{statuses:?}");
    assert_eq!(gateway.handler().request_count(), 4);
    assert_eq!(gateway.rejections("handler_overloaded").unwrap(), (CONNECTIONS - 4) as f64);
}

#[test]
fn requests_wait_for_a_place_that_another_worker_has() {
    let gateway = on_three_workers("handler_max_in_flight = 1");
    gateway.handler().set_behaviour(Behaviour::Delay(Duration::from_millis(20), Behaviour::Json.boxed()));
    for connection in &mut asking(&gateway, CONNECTIONS) {
        assert_eq!(connection.response().unwrap().status, 200);
    }
    assert_eq!(gateway.daemon.metric("hookgate_handler_requests_in_flight", &[]).unwrap(), 0.0);
}

/// The daemon has nothing to do.
fn check_cheap(gateway: &TestGateway) {
    let before = gateway.cpu_seconds().unwrap();
    sleep(Duration::from_secs(2));
    let used = gateway.cpu_seconds().unwrap() - before;
    println!("{used} s of CPU in 2 s");
    assert!(used < 0.2, "{used} s of CPU in 2 s");
}

#[test]
fn requests_that_wait_for_a_place_cost_little() {
    let gateway = on_three_workers("handler_max_in_flight = 1");
    gateway.handler().set_behaviour(Behaviour::NeverAnswer);
    let _connections = asking(&gateway, 250);
    gateway.handler().wait_for(1, SOON).unwrap();
    check_cheap(&gateway);
}

/// A handler that accepts nothing leaves the requests in line: one of them tries, the others wait for their turn.
#[test]
fn requests_before_a_full_accept_queue_cost_little_and_are_served_when_there_is_room() {
    const REQUESTS: usize = 250;
    let gateway = TestGateway::with_toml(|environment| {
        let (old, new) = (environment.events.path().display().to_string(), environment.path("full.sock"));
        environment.toml("", "").replace(&old, &new.display().to_string())
    });
    let gateway = gateway.unwrap();
    let listener = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    listener.bind(&socket2::SockAddr::unix(gateway.environment.path("full.sock")).unwrap()).unwrap();
    listener.listen(0).unwrap();
    let mut connections = asking(&gateway, REQUESTS);
    let in_flight = || gateway.daemon.metric("hookgate_handler_requests_in_flight", &[]).unwrap();
    wait_until("all requests", SOON, || in_flight() == REQUESTS as f64).unwrap();
    check_cheap(&gateway);
    let listener = UnixListener::from(std::os::fd::OwnedFd::from(listener));
    answer_all(move || listener.accept().map(|(stream, _)| stream));
    for connection in &mut connections {
        assert_eq!(connection.response().unwrap().text(), "ok");
    }
}
