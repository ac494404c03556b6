//! What a durable route costs hookgate: the rate of answers and of deliveries, CPU time beside a direct route, and latency. On the disk, and with the
//! servers of a fleet: one nats-server, if it is installed. Other servers store nothing.
//!
//! The state directories are below the directory of the run, so its disk is the one that is measured. Must not judge: the report has the targets.

use std::fs::{self, DirBuilder, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hookgate_testkit::gateway::free_port;
use hookgate_testkit::metrics::Metrics;
use hookgate_testkit::process::KilledOnDrop;
use hookgate_testkit::wait::wait_until;
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

/// The load of the latency: half of what a core is to take, on a disk; a tenth of that over a network.
const HALF_A_SECOND: f64 = 5_000.0;
const FLEET_A_SECOND: f64 = 500.0;

/// How long each load lasts.
const WINDOW: Duration = Duration::from_secs(4);

/// How long the server of a fleet may take to accept.
const START_LIMIT: Duration = Duration::from_secs(10);

/// How long the dispatcher may take for what is stored when a load ends.
const DRAINED: Duration = Duration::from_secs(60);

/// How often what is stored is looked at; hookgate publishes it every second at most.
const POLL: Duration = Duration::from_millis(20);

/// Where deliveries are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum StoredAt {
    /// On the disk.
    Disk,
    /// On a NATS server of this machine, without TLS, which has both cores.
    Fleet,
}

/// A route whose deliveries are stored.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Durable {
    /// Where.
    pub(crate) stored_at: StoredAt,
    /// Answers a second while the load lasts.
    pub(crate) answered: f64,
    /// Deliveries a second, from the beginning of the load until the last one is taken.
    pub(crate) delivered: f64,
    /// CPU time for a request, its storage and its delivery, microseconds.
    pub(crate) cpu_us: f64,
    /// CPU time of the NATS server for that, microseconds.
    pub(crate) server_cpu_us: Option<f64>,
    /// CPU time for a request of the same size on a direct route, microseconds.
    pub(crate) direct_cpu_us: f64,
    /// Requests a second for the latency.
    pub(crate) rate: f64,
    /// The 99th percentile of the latency of an answer at that rate, milliseconds.
    pub(crate) latency99_ms: f64,
}

/// A server of a fleet.
struct Nats {
    process: KilledOnDrop,
    port: u16,
}

impl Nats {
    fn start(directory: &Path) -> Result<Self> {
        let port = free_port()?;
        fs::create_dir(directory)?;
        let log = File::create(directory.join("log"))?;
        let mut command = Command::new("nats-server");
        command.args(["--addr", "127.0.0.1", "--port", &port.to_string(), "--jetstream", "--store_dir"]).arg(directory);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().context("starting nats-server, of the package of this name")?;
        let nats = Self { process: KilledOnDrop(child), port };
        wait_until("nats-server", START_LIMIT, || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())?;
        Ok(nats)
    }
}

/// Loads a newly started `program` with a durable route, then one with a direct route.
pub(crate) fn measure(environment: &mut Environment, program: &Program, stored_at: StoredAt) -> Result<Durable> {
    let direct = Server::start(program, None, &environment.materials)?;
    let direct_cpu_us = cpu_us(&loaded(environment, &direct, None)?);
    drop(direct);
    let metrics = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
    let state = environment.directory().join(format!("state-{}", metrics.port()));
    DirBuilder::new().mode(0o700).create(&state)?;
    let mut materials = environment.materials.clone();
    let nats = match stored_at {
        StoredAt::Disk => None,
        StoredAt::Fleet => Some(Nats::start(&environment.directory().join(format!("nats-{}", metrics.port())))?),
    };
    let fleet = nats.as_ref().map(|nats| {
        format!("\n[fleet]\nnats = [\"nats://127.0.0.1:{}\"]\nreplicas = 1\nmax_bytes = 536870912", nats.port)
    });
    let fleet = fleet.unwrap_or_default();
    // The first value of a name is used.
    let own = [
        ("@METRICS@", format!("[metrics]\nlisten = \"{metrics}\"")),
        ("@STATE@", format!("[state]\ndirectory = \"{}\"{fleet}", state.display())),
    ];
    materials.values.splice(..0, own);
    let server = Server::start(program, Some(Addition::Durable), &materials)?;
    if nats.is_some() {
        wait_stored(metrics)?;
    }
    let of_nats = || nats.as_ref().map(|nats| on_cpu_ns(&[nats.process.0.id()])).transpose();
    let (began, cpu, nats_cpu) = (Instant::now(), on_cpu_ns(&server.pids)?, of_nats()?);
    let saturated = loaded(environment, &server, None)?;
    let taken = drained(metrics)?;
    let (lasted, spent) = (began.elapsed().as_secs_f64(), on_cpu_ns(&server.pids)? - cpu);
    let nats_spent = of_nats()?.zip(nats_cpu).map(|(after, before)| after - before);
    let rate = if stored_at == StoredAt::Disk { HALF_A_SECOND } else { FLEET_A_SECOND };
    let half = loaded(environment, &server, Some(rate))?;
    drained(metrics)?;
    Ok(Durable {
        stored_at,
        server_cpu_us: nats_spent.map(|spent| spent as f64 / taken / 1e3),
        rate,
        answered: saturated.units as f64 / saturated.window_ns as f64 * 1e9,
        delivered: taken / lasted,
        cpu_us: spent as f64 / taken / 1e3,
        direct_cpu_us,
        latency99_ms: half.latency.p99 as f64 / 1e6,
    })
}

/// Waits until the streams are there.
fn wait_stored(metrics: SocketAddr) -> Result<()> {
    wait_until("the streams", DRAINED, || {
        Metrics::scrape(metrics).is_ok_and(|metrics| metrics.sum("hookgate_fleet_spool_usable", &[]) >= 1.0)
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
