//! After many connections, descriptors, threads and memory are as before.

use std::thread::{self, sleep};
use std::time::Duration;

use hookgate_testkit::wait::wait_until;

use crate::environment::{PATH, SOON};
use crate::test_gateway::TestGateway;
use crate::tls_client::request;

/// Rounds of connections; odd, so that one of them is the median.
const ROUNDS: usize = 7;

/// Connections of a round; ten thousand in all rounds.
const CONNECTIONS: usize = 1_500;

/// Client threads: a handshake costs the client as much as the daemon.
const CLIENTS: usize = 4;

/// Bytes by which resident memory may grow in the median round: a hundred per connection. The allocator takes and returns megabytes
/// at a time, so a single round proves little; a leak grows in all of them.
const GROWTH_MAX: i64 = 100 * CONNECTIONS as i64;

/// Makes `count` connections, each client one after the other, which end in every way.
fn connect(gateway: &TestGateway, count: usize) {
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                for index in 0..count / CLIENTS {
                    let mut connection = gateway.connect().unwrap();
                    let bytes = request("POST", PATH, b"{}");
                    match index % 4 {
                        // Reset by the peer, closed by the peer, closed by the daemon, and without a request.
                        0 => assert_eq!(connection.ask(bytes).unwrap().status, 200),
                        1 => {
                            assert_eq!(connection.ask(bytes).unwrap().status, 200);
                            connection.finish_sending().unwrap();
                        }
                        2 => {
                            let text = String::from_utf8(bytes).unwrap();
                            let close = text.replacen("\r\n", "\r\nConnection: close\r\n", 1);
                            assert_eq!(connection.ask(close).unwrap().status, 200);
                            connection.end(SOON).unwrap();
                            continue;
                        }
                        _ => {}
                    }
                    // Otherwise ports in TIME-WAIT would run out.
                    connection.reset().unwrap();
                }
            });
        }
    });
    gateway.wait_no_connection().unwrap();
}

/// Connections that stay open without a request.
const RESTING: usize = 800;

/// Bytes of resident memory that each of them may take. Most are the TLS library's. The HTTP state and its buffers would add half of
/// that, and are released.
const RESTING_MAX: u64 = 20 * 1024;

#[test]
fn a_connection_at_rest_keeps_little_memory() {
    let gateway = TestGateway::with_limits("").unwrap();
    connect(&gateway, 400);
    let before = gateway.daemon.rss_bytes().unwrap();
    let one = || {
        let mut connection = gateway.connect().unwrap();
        assert_eq!(connection.ask(request("POST", PATH, b"{}")).unwrap().status, 200);
        connection
    };
    let open = |count: usize| (0..count).map(|_| one()).collect::<Vec<_>>();
    let connections: Vec<_> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| open(RESTING / CLIENTS))).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    let each = || gateway.daemon.rss_bytes().unwrap().saturating_sub(before) / RESTING as u64;
    let is_little = || each() <= RESTING_MAX;
    let waited = wait_until("little memory at rest", SOON, is_little);
    assert!(waited.is_ok(), "{} bytes for each connection at rest", each());
    drop(connections);
}

#[derive(Debug)]
struct Footprint {
    /// After the last connection to the handler. `None` if this process is not root.
    descriptors: Option<usize>,
    threads: usize,
}

fn footprint(gateway: &TestGateway) -> Footprint {
    wait_until("idle connections to the handler are closed", SOON, || gateway.handler().open_connections() == 0)
        .unwrap();
    // The connections of the scrapes, and the daemon's ends of those to the handler, end a moment later.
    sleep(Duration::from_millis(200));
    let descriptors = rustix::process::geteuid().is_root().then(|| gateway.daemon.fd_count().unwrap());
    Footprint { descriptors, threads: gateway.daemon.thread_count().unwrap() }
}

#[test]
fn ten_thousand_connections_leak_nothing() {
    let gateway = TestGateway::with_limits("").unwrap();
    connect(&gateway, 1000);
    let before = footprint(&gateway);
    let resident = || i64::try_from(gateway.daemon.rss_bytes().unwrap()).unwrap();
    let mut sizes = vec![resident()];
    for _ in 0..ROUNDS {
        connect(&gateway, CONNECTIONS);
        sizes.push(resident());
    }
    let mut after = footprint(&gateway);
    // The connection of a scrape may end late on a busy host; what leaks stays.
    let is_as_before = wait_until("no more descriptors and threads than before", SOON, || {
        after = footprint(&gateway);
        after.descriptors <= before.descriptors && after.threads <= before.threads
    });
    assert!(is_as_before.is_ok(), "{before:?}, then {after:?}");
    let mut growths: Vec<i64> = sizes.windows(2).map(|pair| pair[1] - pair[0]).collect();
    growths.sort_unstable();
    assert!(growths[ROUNDS / 2] <= GROWTH_MAX, "resident bytes after each round: {sizes:?}");
    let total = gateway.daemon.metric("hookgate_connections_total", &[]).unwrap();
    assert!(total >= (ROUNDS * CONNECTIONS + 1000) as f64);
    gateway.still_serves().unwrap();
}
