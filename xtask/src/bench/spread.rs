//! How evenly connections that stay open are spread over the workers of hookgate. Peers are not asked: they do not tell.
//!
//! The measure is hookgate's own count by worker, checked against how many connections the load generator holds. Must not judge:
//! the target is the report's.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use hookgate_testkit::metrics::Metrics;
use serde::Serialize;

use super::protocol::{self, Hold, Reply};
use super::server::{Kind, Program, Server, free_port};
use super::stage::Stage;

/// Workers that connections are spread over.
pub(crate) const WORKERS: [usize; 2] = [2, 4];

/// Connections that stay open.
pub(crate) const CONNECTIONS: usize = 200;

/// How long the counts may take until they are those of all connections; hookgate publishes them every 250 ms.
const SETTLED: Duration = Duration::from_secs(3);

/// How often they are looked at.
const POLL: Duration = Duration::from_millis(50);

/// What became of the connections.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Spread {
    /// Which hookgate.
    pub(crate) kind: Kind,
    /// How many each worker has.
    pub(crate) by_worker: Vec<f64>,
    /// How many were handed over from one worker to another.
    pub(crate) handed_over: f64,
    /// The most of a worker ÷ the fewest of one.
    pub(crate) ratio: f64,
}

/// Opens [`CONNECTIONS`] to a fresh `program` with so many workers, a request on each, and looks who has them.
pub(crate) fn measure(stage: &mut Stage, program: &Program, workers: usize) -> Result<Spread> {
    let metrics = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
    let mut materials = stage.materials.clone();
    // The first value of a name counts.
    let own = [("@WORKERS@", workers.to_string()), ("@METRICS@", format!("[metrics]\nlisten = \"{metrics}\""))];
    materials.values.splice(..0, own);
    let server = Server::start(program, false, &materials)?;
    let connections = CONNECTIONS;
    stage.ask(&protocol::Command::Hold(Hold { port: server.port, connections }))?;
    let spread = counted(program.kind, metrics, workers);
    match stage.ask(&protocol::Command::Release)? {
        Reply::Released(open) => ensure!(open == connections, "{} of {connections} were closed", connections - open),
        other => bail!("the load generator answered {other:?}"),
    }
    spread
}

fn counted(kind: Kind, address: SocketAddr, workers: usize) -> Result<Spread> {
    let start = Instant::now();
    loop {
        let metrics = Metrics::scrape(address)?;
        let of = |worker: usize| metrics.sum("hookgate_worker_connections", &[("worker", &worker.to_string())]);
        let by_worker: Vec<f64> = (0..workers).map(of).collect();
        if by_worker.iter().sum::<f64>() == CONNECTIONS as f64 {
            let most = by_worker.iter().copied().fold(0.0, f64::max);
            let ratio = most / by_worker.iter().copied().fold(f64::INFINITY, f64::min);
            let handed_over = metrics.sum("hookgate_connections_handed_over_total", &[]);
            return Ok(Spread { kind, by_worker, handed_over, ratio });
        }
        ensure!(start.elapsed() < SETTLED, "the workers have {by_worker:?} of {CONNECTIONS} connections");
        thread::sleep(POLL);
    }
}
