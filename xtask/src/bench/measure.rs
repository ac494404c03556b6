//! The measurements: rounds that interleave the servers, system calls, memory.
//!
//! Every number belongs to one server in one round. Must not summarize: the report does.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use super::environment::Environment;
use super::priority::RealTime;
use super::protocol::{self, Hold, Load, Measured, Reply, Sender, Transport, Unit};
use super::scenario::{Addition, Metric, Pace, SATURATION, Scenario};
use super::server::{Kind, Program, Server};

/// A server gets a part of the best peer's throughput only if its own throughput is at least this many times that part.
const HEADROOM: f64 = 1.2;

/// How long system calls are counted.
const COUNTED: Duration = Duration::from_millis(400);

/// How long connections are idle before their memory is measured, the same for every server. Longer than the second after which
/// hookgate regards a connection as silent, and longer than allocators keep free pages.
const SETTLED: Duration = Duration::from_secs(4);

/// Durations and numbers of a run.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Effort {
    /// Rounds; even, because every second round has the reverse order.
    pub(crate) rounds: usize,
    /// Load before the measurement.
    pub(crate) warm_up_ms: u64,
    /// Duration of the measurement.
    pub(crate) window_ms: u64,
    /// Whether system calls are counted, in an additional round.
    pub(crate) system_calls: bool,
    /// Idle connections whose memory is measured.
    pub(crate) idle_connections: usize,
}

/// One server in one round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    /// CPU time of the server for one unit, microseconds.
    pub(crate) cpu_us: f64,
    /// Units a second.
    pub(crate) rate: f64,
    /// Part of its core that the server used, 0 to 1.
    pub(crate) server_share: f64,
    /// Whether server, load generator and handler had real-time priority.
    pub(crate) real_time: bool,
    /// The reply of the load generator.
    pub(crate) measured: Measured,
}

/// One server in one scenario.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Cell {
    /// Which server.
    pub(crate) kind: Kind,
    /// What it did beside its job.
    pub(crate) addition: Option<Addition>,
    /// One per round.
    pub(crate) samples: Vec<Sample>,
    /// System calls for one unit; `None` if they were not counted.
    pub(crate) system_calls: Option<f64>,
    /// Why samples are missing.
    pub(crate) failure: Option<String>,
}

/// Memory of one server's connections.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Memory {
    /// Which server.
    pub(crate) kind: Kind,
    /// Connections that were open.
    pub(crate) connections: usize,
    /// Proportional set size with none open, KiB.
    pub(crate) before_kib: u64,
    /// The same with all of them open.
    pub(crate) with_kib: u64,
    /// The difference per connection, bytes.
    pub(crate) bytes_each: f64,
}

/// Runs `scenario` on each of `servers`, in rounds of alternating order: A B C, C B A. `saturated` holds the throughput of the servers
/// in [`SATURATION`].
pub(crate) fn scenario(
    environment: &mut Environment,
    servers: &[&Server],
    scenario: &Scenario,
    effort: Effort,
    saturated: &BTreeMap<Kind, f64>,
) -> Vec<Cell> {
    let mut cells: Vec<Cell> = servers
        .iter()
        .map(|server| Cell {
            kind: server.kind,
            addition: server.addition,
            samples: Vec::new(),
            system_calls: None,
            failure: None,
        })
        .collect();
    for round in 0..effort.rounds {
        for place in 0..servers.len() {
            let index = if round % 2 == 0 { place } else { servers.len() - 1 - place };
            let cell = &mut cells[index];
            if cell.failure.is_some() {
                continue;
            }
            match sample(environment, servers[index], scenario, effort, saturated) {
                Ok(sample) => cell.samples.push(sample),
                Err(error) => cell.failure = Some(format!("{error:#}")),
            }
        }
    }
    for (cell, server) in cells.iter_mut().zip(servers) {
        if effort.system_calls
            && cell.failure.is_none()
            && scenario.pace == Pace::Saturated
            && scenario.addition.is_none()
        {
            cell.system_calls = system_calls(environment, server, scenario).ok();
        }
    }
    cells
}

/// The throughput of every server in [`SATURATION`], if `cells` are of that scenario.
pub(crate) fn throughput(cells: &[Cell]) -> BTreeMap<Kind, f64> {
    let of = |cell: &Cell| super::report::median(cell.samples.iter().map(|sample| sample.rate));
    cells.iter().filter_map(|cell| Some((cell.kind, of(cell)?))).collect()
}

fn sample(
    environment: &mut Environment,
    server: &Server,
    scenario: &Scenario,
    effort: Effort,
    saturated: &BTreeMap<Kind, f64>,
) -> Result<Sample> {
    let rate = match scenario.pace {
        Pace::Saturated => None,
        Pace::Part(part) => Some(rate(server.kind, part, saturated)?),
    };
    let load = load(server, scenario, rate, effort.warm_up_ms, effort.window_ms);
    let real_time = match scenario.metric {
        Metric::Cpu => None,
        Metric::Latency99 => RealTime::set(server.pids.iter().copied().chain(environment.pids()).collect()),
    };
    let measured = run(environment, load)?;
    let window = measured.window_ns as f64;
    ensure!(measured.units > 0, "no unit was served in the window");
    ensure!(measured.server_cpu_ns > 0, "the server used no CPU time: it has processes that were not measured");
    Ok(Sample {
        cpu_us: measured.server_cpu_ns as f64 / measured.units as f64 / 1e3,
        rate: measured.units as f64 / window * 1e9,
        server_share: measured.server_cpu_ns as f64 / window,
        real_time: real_time.is_some(),
        measured,
    })
}

fn rate(kind: Kind, part: f64, saturated: &BTreeMap<Kind, f64>) -> Result<f64> {
    let peers = saturated.iter().filter(|(kind, _)| kind.is_peer());
    let best = peers.map(|(_, rate)| *rate).max_by(f64::total_cmp);
    let rate = part * best.with_context(|| format!("needs the scenario {SATURATION}, with a peer"))?;
    let own = saturated.get(&kind).copied().unwrap_or_default();
    ensure!(own >= HEADROOM * rate, "at most {own:.0} a second, so {rate:.0} a second is no part load");
    Ok(rate)
}

fn load(server: &Server, scenario: &Scenario, rate: Option<f64>, warm_up_ms: u64, window_ms: u64) -> Load {
    let plain = server.kind == Kind::NullProxy;
    Load {
        port: server.port,
        transport: if plain { Transport::Plain } else { scenario.transport },
        // Without TLS there are no client certificates.
        sender: if plain { Sender::Returning } else { scenario.sender },
        unit: scenario.unit,
        body_bytes: scenario.body_bytes,
        connections: scenario.connections,
        rate,
        warm_up_ms,
        window_ms,
        watch: server.pids.clone(),
        refused: false,
        from: None,
    }
}

/// Runs `load`.
///
/// # Errors
///
/// The load generator reports a failure.
pub(crate) fn run(environment: &mut Environment, load: Load) -> Result<Measured> {
    match environment.ask(&protocol::Command::Run(load))? {
        Reply::Measured(measured) => Ok(*measured),
        other => bail!("the load generator answered {other:?}"),
    }
}

/// System calls for one unit: `perf` counts the calls while the load runs, the load generator the units.
fn system_calls(environment: &mut Environment, server: &Server, scenario: &Scenario) -> Result<f64> {
    let pids: Vec<String> = server.pids.iter().map(u32::to_string).collect();
    let mut perf = Command::new("perf");
    perf.args(["stat", "--field-separator", ",", "--event", "raw_syscalls:sys_enter", "--pid", &pids.join(",")]);
    perf.args(["--", "sleep", &COUNTED.as_secs_f64().to_string()]);
    perf.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let load = load(server, scenario, None, 100, 2 * u64::try_from(COUNTED.as_millis())?);
    // The load begins before the counting and ends after it.
    let counting = thread::spawn(move || {
        thread::sleep(Duration::from_millis(200));
        perf.output()
    });
    let measured = run(environment, load)?;
    let output = counting.join().map_err(|_| anyhow::anyhow!("the counting thread panicked"))??;
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|line| line.contains("raw_syscalls:sys_enter")).context("perf counted nothing")?;
    let count: f64 = line.split(',').next().unwrap_or_default().parse().context("perf's count")?;
    let units_a_second = measured.units as f64 / measured.window_ns as f64 * 1e9;
    Ok(count / COUNTED.as_secs_f64() / units_a_second)
}

/// The memory of `connections` idle TLS connections to a newly started `program`. Each has carried one request.
pub(crate) fn memory(environment: &mut Environment, program: &Program, connections: usize) -> Result<Memory> {
    let server = Server::start(program, None, &environment.materials)?;
    // After this, a server has allocated what it allocates once.
    let warm_up = Load {
        port: server.port,
        transport: Transport::Tls13,
        sender: Sender::Returning,
        unit: Unit::Webhook,
        body_bytes: 1024,
        connections: 16,
        rate: None,
        warm_up_ms: 0,
        window_ms: 300,
        watch: server.pids.clone(),
        refused: false,
        from: None,
    };
    run(environment, warm_up)?;
    thread::sleep(Duration::from_millis(300));
    let before_kib = proportional_set_kib(&server.pids)?;
    environment.ask(&protocol::Command::Hold(Hold { port: server.port, connections }))?;
    // The last connection has just been busy.
    thread::sleep(SETTLED);
    let with_kib = proportional_set_kib(&server.pids)?;
    match environment.ask(&protocol::Command::Release)? {
        Reply::Released(open) => ensure!(open == connections, "{} of {connections} were closed", connections - open),
        other => bail!("the load generator answered {other:?}"),
    }
    let bytes_each = (with_kib.saturating_sub(before_kib) * 1024) as f64 / connections as f64;
    Ok(Memory { kind: program.kind, connections, before_kib, with_kib, bytes_each })
}

/// `Pss` of `/proc/PID/smaps_rollup` (proc(5)), summed. hookgate shows it to root alone.
fn proportional_set_kib(pids: &[u32]) -> Result<u64> {
    let mut sum = 0;
    for pid in pids {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = std::fs::read_to_string(&path).context(path)?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss")?;
        sum += line.trim().trim_end_matches(" kB").trim().parse::<u64>()?;
    }
    Ok(sum)
}
