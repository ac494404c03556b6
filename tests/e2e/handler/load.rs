//! Many bodies and many requests: none is lost, confused with another, or cut.

use std::thread;

use hookgate_testkit::handler::Behaviour;

use crate::environment::PATH;
use crate::test_gateway::TestGateway;
use crate::tls_client::request;

/// Pseudo-random bytes, which show a lost, doubled or moved piece.
fn noise(length: usize, mut state: u32) -> Vec<u8> {
    let mut next = || {
        // Marsaglia's xorshift, which is never 0 unless it begins with 0.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn a_mebibyte_of_body_arrives_intact() {
    let gateway = TestGateway::with_limits("").unwrap();
    let body = noise(1024 * 1024, 7);
    let check = |chunked: bool| {
        let curl = gateway.admitted_curl().post(PATH, &body);
        let curl = if chunked { curl.field("Transfer-Encoding", "chunked") } else { curl };
        assert_eq!(curl.run().unwrap().status(), Some(200));
        let requests = gateway.handler().requests();
        assert!(requests.last().unwrap().body == body, "chunked: {chunked}");
    };
    check(false);
    check(true);
}

#[test]
fn bodies_of_every_awkward_length_arrive_intact() {
    let gateway = TestGateway::with_limits("").unwrap();
    let mut connection = gateway.connect().unwrap();
    // Around the size of a TLS record (RFC 8446, section 5.1), and around the sizes of buffers.
    for length in [0, 1, 4095, 4096, 4097, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537, 262_144, 1_000_000] {
        let body = noise(length, 11);
        assert_eq!(connection.ask(request("POST", PATH, &body)).unwrap().status, 200, "{length}");
        assert!(gateway.handler().requests().last().unwrap().body == body, "{length}");
    }
}

#[test]
fn sixty_four_curls_at_once_are_all_served() {
    let gateway = TestGateway::with_limits("").unwrap();
    let outcomes: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..64)
            .map(|index| {
                let curl = gateway.admitted_curl().post(&format!("/any/{index}"), &noise(20_000, index + 1));
                scope.spawn(move || curl.run().unwrap())
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (index, outcome) in outcomes.iter().enumerate() {
        let response = outcome.response().unwrap();
        assert!(response.status == 200 && response.text().contains(&format!("/any/{index}\"")), "{outcome:?}");
    }
    let requests = gateway.handler().requests();
    assert_eq!(requests.len(), 64);
    for request in requests {
        let index: u32 = request.target.rsplit('/').next().unwrap().parse().unwrap();
        assert!(request.body == noise(20_000, index + 1), "request {index} has the body of another");
    }
}

#[test]
fn many_connections_on_many_workers_never_mix_their_responses() {
    let gateway = TestGateway::with_toml(|environment| environment.toml("", "").replace("workers = 1", "workers = 3"));
    let gateway = gateway.unwrap();
    gateway.handler().set_behaviour(Behaviour::Json);
    thread::scope(|scope| {
        for thread in 0..8 {
            let gateway = &gateway;
            scope.spawn(move || {
                let mut connection = gateway.connect().unwrap();
                for index in 0..50 {
                    let target = format!("/any/{thread}-{index}");
                    let response = connection.ask(request("POST", &target, b"{}")).unwrap();
                    assert!(response.text().contains(&format!("{target}\"")), "{target}: {}", response.text());
                }
            });
        }
    });
    assert_eq!(gateway.handler().request_count(), 400);
}
