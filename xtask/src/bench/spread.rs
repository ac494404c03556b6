//! How evenly open connections are spread over the workers of hookgate. Other servers do not publish this.
//!
//! Reads hookgate's own count per worker, and checks the sum against the connections of the load generator. Must not judge: the report
//! has the target.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use hookgate_testkit::gateway::free_port;
use hookgate_testkit::metrics::Metrics;
use serde::Serialize;

use super::environment::Environment;
use super::protocol::{self, Hold, Reply};
use super::server::{Kind, Program, Server};

/// Numbers of workers.
pub(crate) const WORKERS: [usize; 2] = [2, 4];

/// Open connections.
pub(crate) const CONNECTIONS: usize = 200;

/// How long the counts may take to include every connection; hookgate publishes them every 250 ms.
const SETTLED: Duration = Duration::from_secs(3);

/// How often the counts are read.
const POLL: Duration = Duration::from_millis(50);

/// Where the connections are.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Spread {
    /// The variant of hookgate.
    pub(crate) kind: Kind,
    /// Connections of each worker.
    pub(crate) by_worker: Vec<f64>,
    /// Connections that one worker handed over to another.
    pub(crate) handed_over: f64,
    /// The most connections of a worker ÷ the fewest.
    pub(crate) ratio: f64,
}

/// Opens [`CONNECTIONS`] to a newly started `program` with `workers`, sends a request on each, and reads which worker has them.
pub(crate) fn measure(environment: &mut Environment, program: &Program, workers: usize) -> Result<Spread> {
    let metrics = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
    let mut materials = environment.materials.clone();
    // The first value of a name is used.
    let own = [("@WORKERS@", workers.to_string()), ("@METRICS@", format!("[metrics]\nlisten = \"{metrics}\""))];
    materials.values.splice(..0, own);
    let server = Server::start(program, None, &materials)?;
    let connections = CONNECTIONS;
    environment.ask(&protocol::Command::Hold(Hold { port: server.port, connections }))?;
    let spread = counted(program.kind, metrics, workers);
    match environment.ask(&protocol::Command::Release)? {
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
