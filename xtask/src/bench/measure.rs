//! The measurements: rounds that interleave the servers, system calls, memory.
//!
//! Every number is one server's in one round; what they come to together is the report's business.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use super::priority::First;
use super::protocol::{self, Hold, Load, Measured, Reply, Sender, Transport, Unit};
use super::scenario::{Metric, Pace, SATURATION, Scenario};
use super::server::{Kind, Program, Server};
use super::stage::Stage;

/// A server is asked for a part of the best peer's throughput only if its own leaves this much room above that part.
const HEADROOM: f64 = 1.2;

/// How long the tracepoint is counted.
const COUNTED: Duration = Duration::from_millis(400);

/// How long connections are idle before their memory is looked at, the same for every server. Longer than the second after which
/// hookgate takes a connection for silent, and than the time after which allocators give pages back.
const SETTLED: Duration = Duration::from_secs(4);

/// How long, and how often.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Effort {
    /// Rounds; an even number, so that each server is as often early as late.
    pub(crate) rounds: usize,
    /// Load before counting.
    pub(crate) warm_up_ms: u64,
    /// Counting.
    pub(crate) window_ms: u64,
    /// Whether system calls are counted, in a round of their own.
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
    /// Part of its core that the server used.
    pub(crate) server_share: f64,
    /// Whether server, load generator and handler came first on their cores.
    pub(crate) real_time: bool,
    /// Everything that the load generator said.
    pub(crate) measured: Measured,
}

/// One server in one scenario.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Cell {
    /// Which server.
    pub(crate) kind: Kind,
    /// Whether it checked revocation lists.
    pub(crate) revocation: bool,
    /// By round.
    pub(crate) samples: Vec<Sample>,
    /// System calls for one unit; `None` where nothing counts them.
    pub(crate) system_calls: Option<f64>,
    /// Why there are no samples, or no more.
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
    /// The difference by connection, bytes.
    pub(crate) bytes_each: f64,
}

/// Runs `scenario` on every one of `servers`, in rounds there and back: A B C, C B A. `saturated` holds the throughput of the
/// servers in [`SATURATION`].
pub(crate) fn scenario(
    stage: &mut Stage,
    servers: &[&Server],
    scenario: &Scenario,
    effort: Effort,
    saturated: &BTreeMap<Kind, f64>,
) -> Vec<Cell> {
    let mut cells: Vec<Cell> = servers
        .iter()
        .map(|server| Cell {
            kind: server.kind,
            revocation: server.revocation,
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
            match sample(stage, servers[index], scenario, effort, saturated) {
                Ok(sample) => cell.samples.push(sample),
                Err(error) => cell.failure = Some(format!("{error:#}")),
            }
        }
    }
    for (cell, server) in cells.iter_mut().zip(servers) {
        if effort.system_calls && cell.failure.is_none() && scenario.pace == Pace::Saturated && !scenario.revocation {
            cell.system_calls = system_calls(stage, server, scenario).ok();
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
    stage: &mut Stage,
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
    let first = match scenario.metric {
        Metric::Cpu => None,
        Metric::Latency99 => First::put(server.pids.iter().copied().chain(stage.pids()).collect()),
    };
    let measured = run(stage, load)?;
    let window = measured.window_ns as f64;
    ensure!(measured.units > 0, "not one unit in the window");
    ensure!(measured.server_cpu_ns > 0, "units, and no CPU time of the server: it has processes that were not watched");
    Ok(Sample {
        cpu_us: measured.server_cpu_ns as f64 / measured.units as f64 / 1e3,
        rate: measured.units as f64 / window * 1e9,
        server_share: measured.server_cpu_ns as f64 / window,
        real_time: first.is_some(),
        measured,
    })
}

fn rate(kind: Kind, part: f64, saturated: &BTreeMap<Kind, f64>) -> Result<f64> {
    let peers = saturated.iter().filter(|(kind, _)| kind.is_peer());
    let best = peers.map(|(_, rate)| *rate).max_by(f64::total_cmp);
    let rate = part * best.with_context(|| format!("needs the scenario {SATURATION}, with a peer"))?;
    let own = saturated.get(&kind).copied().unwrap_or_default();
    ensure!(own >= HEADROOM * rate, "saturated at {own:.0} a second, so {rate:.0} a second is no part load for it");
    Ok(rate)
}

fn load(server: &Server, scenario: &Scenario, rate: Option<f64>, warm_up_ms: u64, window_ms: u64) -> Load {
    let plain = server.kind == Kind::NullProxy;
    Load {
        port: server.port,
        transport: if plain { Transport::Plain } else { scenario.transport },
        // Without TLS nobody is anybody.
        sender: if plain { Sender::Returning } else { scenario.sender },
        unit: scenario.unit,
        body_bytes: scenario.body_bytes,
        connections: scenario.connections,
        rate,
        warm_up_ms,
        window_ms,
        watch: server.pids.clone(),
    }
}

/// Has the load generator run `load`.
///
/// # Errors
///
/// What it says went wrong.
pub(crate) fn run(stage: &mut Stage, load: Load) -> Result<Measured> {
    match stage.ask(&protocol::Command::Run(load))? {
        Reply::Measured(measured) => Ok(*measured),
        other => bail!("the load generator answered {other:?}"),
    }
}

/// System calls for one unit: `perf` counts them while the load runs, the load generator says how many units a second.
fn system_calls(stage: &mut Stage, server: &Server, scenario: &Scenario) -> Result<f64> {
    let pids: Vec<String> = server.pids.iter().map(u32::to_string).collect();
    let mut perf = Command::new("perf");
    perf.args(["stat", "--field-separator", ",", "--event", "raw_syscalls:sys_enter", "--pid", &pids.join(",")]);
    perf.args(["--", "sleep", &COUNTED.as_secs_f64().to_string()]);
    perf.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let load = load(server, scenario, None, 100, 2 * u64::try_from(COUNTED.as_millis())?);
    // The load is under way when the counting begins, and goes on until after its end.
    let counting = thread::spawn(move || {
        thread::sleep(Duration::from_millis(200));
        perf.output()
    });
    let measured = run(stage, load)?;
    let output = counting.join().map_err(|_| anyhow::anyhow!("the counting thread panicked"))??;
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|line| line.contains("raw_syscalls:sys_enter")).context("perf counted nothing")?;
    let count: f64 = line.split(',').next().unwrap_or_default().parse().context("perf's count")?;
    let units_a_second = measured.units as f64 / measured.window_ns as f64 * 1e9;
    Ok(count / COUNTED.as_secs_f64() / units_a_second)
}

/// What `connections` idle TLS connections cost a fresh `program` in memory. Each has carried one request.
pub(crate) fn memory(stage: &mut Stage, program: &Program, connections: usize) -> Result<Memory> {
    let server = Server::start(program, false, &stage.materials)?;
    // What a server allocates once, it has allocated after this.
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
    };
    run(stage, warm_up)?;
    thread::sleep(Duration::from_millis(300));
    let before_kib = proportional_set_kib(&server.pids)?;
    stage.ask(&protocol::Command::Hold(Hold { port: server.port, connections }))?;
    // What is idle has been so for a while: the last connection was as busy as the first a moment ago.
    thread::sleep(SETTLED);
    let with_kib = proportional_set_kib(&server.pids)?;
    match stage.ask(&protocol::Command::Release)? {
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
