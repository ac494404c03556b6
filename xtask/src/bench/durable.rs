//! What a durable route costs hookgate: the rate of answers and of deliveries, CPU time beside a direct route, and latency. Other servers
//! store nothing.
//!
//! The state directory is below the directory of the run, so its disk is the one that is measured. Must not judge: the report has the targets.

use std::fs::DirBuilder;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hookgate_testkit::gateway::free_port;
use hookgate_testkit::metrics::Metrics;
use serde::Serialize;

use super::cpu::on_cpu_ns;
use super::environment::Environment;
use super::measure::run;
use super::protocol::{Load, Measured, Sender, Transport, Unit};
use super::scenario::Addition;
use super::server::{Program, Server};

/// Connections, each with one request at a time.
const CONNECTIONS: usize = 64;

/// Bytes of a body.
const BODY_BYTES: usize = 1024;

/// The load of the latency: half of what a core is to take.
const HALF_A_SECOND: f64 = 5_000.0;

/// How long each load lasts.
const WINDOW: Duration = Duration::from_secs(4);

/// How long the dispatcher may take for what is stored when a load ends.
const DRAINED: Duration = Duration::from_secs(60);

/// How often what is stored is looked at; hookgate publishes it every second at most.
const POLL: Duration = Duration::from_millis(20);

/// A route whose deliveries are stored.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Durable {
    /// Answers a second while the load lasts.
    pub(crate) answered: f64,
    /// Deliveries a second, from the beginning of the load until the last one is taken.
    pub(crate) delivered: f64,
    /// CPU time for a request, its storage and its delivery, microseconds.
    pub(crate) cpu_us: f64,
    /// CPU time for a request of the same size on a direct route, microseconds.
    pub(crate) direct_cpu_us: f64,
    /// The 99th percentile of the latency of an answer at [`HALF_A_SECOND`], milliseconds.
    pub(crate) latency99_ms: f64,
}

/// Loads a newly started `program` with a durable route, then one with a direct route.
pub(crate) fn measure(environment: &mut Environment, program: &Program) -> Result<Durable> {
    let direct = Server::start(program, None, &environment.materials)?;
    let direct_cpu_us = cpu_us(&loaded(environment, &direct, None)?);
    drop(direct);
    let metrics = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
    let state = environment.directory().join(format!("state-{}", metrics.port()));
    DirBuilder::new().mode(0o700).create(&state)?;
    let mut materials = environment.materials.clone();
    // The first value of a name is used.
    let own = [
        ("@METRICS@", format!("[metrics]\nlisten = \"{metrics}\"")),
        ("@STATE@", format!("[state]\ndirectory = \"{}\"", state.display())),
    ];
    materials.values.splice(..0, own);
    let server = Server::start(program, Some(Addition::Durable), &materials)?;
    let (began, cpu) = (Instant::now(), on_cpu_ns(&server.pids)?);
    let saturated = loaded(environment, &server, None)?;
    let taken = drained(metrics)?;
    let (lasted, spent) = (began.elapsed().as_secs_f64(), on_cpu_ns(&server.pids)? - cpu);
    let half = loaded(environment, &server, Some(HALF_A_SECOND))?;
    drained(metrics)?;
    Ok(Durable {
        answered: saturated.units as f64 / saturated.window_ns as f64 * 1e9,
        delivered: taken / lasted,
        cpu_us: spent as f64 / taken / 1e3,
        direct_cpu_us,
        latency99_ms: half.latency.p99 as f64 / 1e6,
    })
}

fn cpu_us(measured: &Measured) -> f64 {
    measured.server_cpu_ns as f64 / measured.units as f64 / 1e3
}

fn loaded(environment: &mut Environment, server: &Server, rate: Option<f64>) -> Result<Measured> {
    let load = Load {
        port: server.port,
        transport: Transport::Tls13,
        sender: Sender::Returning,
        unit: Unit::Request,
        body_bytes: BODY_BYTES,
        connections: CONNECTIONS,
        rate,
        warm_up_ms: 0,
        window_ms: u64::try_from(WINDOW.as_millis())?,
        watch: server.pids.clone(),
        refused: false,
        from: None,
    };
    let measured = run(environment, load)?;
    ensure!(measured.units > 0, "no unit was served in the window");
    Ok(measured)
}

/// How many deliveries the handler has taken, when none waits.
fn drained(metrics: SocketAddr) -> Result<f64> {
    let start = Instant::now();
    loop {
        let seen = Metrics::scrape(metrics)?;
        let accepted = seen.sum("hookgate_spool_accepted_total", &[]);
        let attempts = seen.sum("hookgate_spool_attempts_total", &[]);
        let taken = seen.sum("hookgate_spool_attempts_total", &[("result", "taken")]);
        if accepted > 0.0 && taken >= accepted {
            ensure!(attempts <= taken, "{} attempts failed", attempts - taken);
            return Ok(taken);
        }
        ensure!(start.elapsed() < DRAINED, "{taken} of {accepted} deliveries are taken");
        thread::sleep(POLL);
    }
}
