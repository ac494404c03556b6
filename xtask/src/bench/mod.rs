//! `cargo xtask bench`: measures hookgate and other servers in one run.
//!
//! Builds release binaries, starts every installed server on one core, loads each in turn from another core, and writes a table, a JSON
//! file and an HTML page. `docs/performance.md` says what the numbers mean.

#[path = "../../../benches/load/src/cpu.rs"]
mod cpu;
mod cross_check;
mod durable;
pub(crate) mod environment;
mod html;
mod machine;
mod measure;
mod priority;
#[path = "../../../benches/load/src/protocol.rs"]
pub(crate) mod protocol;
pub(crate) mod report;
mod scenario;
pub(crate) mod server;
mod spread;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::command::{self, cargo};
use crate::setup;
use durable::{Durable, StoredAt};
use environment::Environment;
use machine::Machine;
use measure::Effort;
use protocol::Transport;
use report::{Report, Row};
use scenario::{Addition, Pace, SATURATION, Scenario};
use server::{Kind, Program, Server};

/// For `--scenarios`: the memory of idle connections. It has no load and no rounds.
const IDLE_MEMORY: &str = "idle-memory";

/// For `--scenarios`: how evenly connections are spread over several workers. It has no load and no rounds either.
const SPREAD: &str = "spread";

/// For `--scenarios`: a route that stores its deliveries. It has one long round.
const DURABLE: &str = "durable-webhook";

/// Measures hookgate and other servers.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Two short rounds of the main scenarios, with hookgate's default backend only: under two minutes
    #[arg(long)]
    quick: bool,
    /// Rounds of each scenario, rounded up to an even number
    #[arg(long)]
    rounds: Option<usize>,
    /// Only these servers [default: every installed one]
    #[arg(long, value_delimiter = ',')]
    servers: Vec<String>,
    /// Only these scenarios, and those that they depend on
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<String>,
    /// Do not measure the memory of idle connections
    #[arg(long)]
    no_memory: bool,
    /// Only compare the load generator with `openssl s_time` and `oha`, if they are installed
    #[arg(long)]
    cross_check: bool,
    /// Directory with hookgate, hookgate-load and, if wanted, hookgate-ring [default: build them]
    #[arg(long)]
    programs: Option<PathBuf>,
    /// Core of the server under test
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// Core of the load generator and the handler
    #[arg(long, default_value_t = 1)]
    client_core: usize,
    /// Directory for results.json and report.html
    #[arg(long, default_value = "target/bench")]
    output: PathBuf,
}

impl Bench {
    /// Measures, prints and writes.
    ///
    /// # Errors
    ///
    /// hookgate failed in a scenario. A missed target is no error.
    pub(crate) fn run(&self) -> Result<()> {
        let scenarios = self.chosen_scenarios()?;
        let release = match &self.programs {
            Some(directory) => std::path::absolute(directory)?,
            None => self.build()?,
        };
        let start = Instant::now();
        let (programs, skipped) = self.find(&release)?;
        println!("making certificates …");
        let load = release.join("hookgate-load");
        let mut environment = Environment::start(&load, self.server_core, self.client_core)?;
        if self.cross_check {
            let hookgate = Program::find(Kind::Hookgate, &release)?;
            return cross_check::run(&mut environment, &hookgate, self.client_core);
        }
        let effort = self.effort();
        let machine = Machine::current(&programs);
        let floor = environment::floor(&load, self.server_core)?;
        let rows = measure_scenarios(&mut environment, &programs, &scenarios, effort)?;
        let memory = match self.measures_memory() {
            true => measure_memory(&mut environment, &programs, effort.idle_connections),
            false => Vec::new(),
        };
        let spread = match self.measures(SPREAD) {
            true => measure_spread(&mut environment, &programs),
            false => Vec::new(),
        };
        let durable = match self.measures(DURABLE) {
            true => measure_durable(&mut environment, &programs),
            false => Vec::new(),
        };
        drop(environment);
        let machine = machine.finish(start.elapsed());
        let report = Report { machine, effort, floor, rows, memory, spread, durable, skipped };
        print!("{}", report.text());
        let output = command::root().join(&self.output);
        fs::create_dir_all(&output)?;
        fs::write(output.join("results.json"), serde_json::to_vec_pretty(&report)?)?;
        fs::write(output.join("report.html"), html::page(&report))?;
        println!("\nwrote {} and report.html beside it", output.join("results.json").display());
        let failures = report.own_failures();
        ensure!(failures.is_empty(), "hookgate failed: {}", failures.join("; "));
        Ok(())
    }

    fn measures_memory(&self) -> bool {
        !self.no_memory && self.measures(IDLE_MEMORY)
    }

    /// Whether the measurement without load that has this name was selected.
    fn measures(&self, name: &str) -> bool {
        self.scenarios.is_empty() || self.scenarios.iter().any(|selected| selected == name)
    }

    fn effort(&self) -> Effort {
        let rounds = self.rounds.map(|rounds| rounds.max(1).next_multiple_of(2));
        let quick = Effort {
            rounds: rounds.unwrap_or(2),
            warm_up_ms: 100,
            window_ms: 400,
            system_calls: false,
            idle_connections: 1_000,
        };
        match self.quick {
            true => quick,
            false => Effort {
                rounds: rounds.unwrap_or(6),
                warm_up_ms: 300,
                window_ms: 1_000,
                system_calls: true,
                idle_connections: 5_000,
            },
        }
    }

    fn chosen_scenarios(&self) -> Result<Vec<Scenario>> {
        for name in &self.scenarios {
            let known = scenario::ALL.map(|scenario| scenario.name);
            let others = [IDLE_MEMORY, SPREAD, DURABLE];
            let is_known = known.contains(&name.as_str()) || others.contains(&name.as_str());
            ensure!(is_known, "no scenario {name}; the scenarios are {}, {}", known.join(", "), others.join(", "));
        }
        let selected = |scenario: &Scenario| match self.scenarios.is_empty() {
            true => scenario.quick || !self.quick,
            false => self.scenarios.iter().any(|name| name == scenario.name),
        };
        // A part of the best peer's throughput needs that throughput.
        let in_part = scenario::ALL.iter().any(|scenario| selected(scenario) && scenario.pace != Pace::Saturated);
        let chosen = |scenario: &Scenario| selected(scenario) || (in_part && scenario.name == SATURATION);
        Ok(scenario::ALL.into_iter().filter(chosen).collect())
    }

    /// The selected servers that are installed, and for each of the others the reason why it is not.
    fn find(&self, release: &std::path::Path) -> Result<(Vec<Program>, Vec<String>)> {
        let names = Kind::ALL.map(Kind::name);
        for name in &self.servers {
            ensure!(names.contains(&name.as_str()), "no server {name}; the servers are {}", names.join(", "));
        }
        let mut skipped = Vec::new();
        let mut programs = Vec::new();
        for kind in Kind::ALL.into_iter().filter(|kind| self.selects(*kind)) {
            match Program::find(kind, release) {
                Ok(program) => programs.push(program),
                Err(error) => skipped.push(format!("{}: {error:#}", kind.name())),
            }
        }
        Ok((programs, skipped))
    }

    fn selects(&self, kind: Kind) -> bool {
        match self.servers.as_slice() {
            // The other variants of hookgate would take a minute more.
            [] => !self.quick || !kind.is_own() || kind == Kind::Hookgate,
            named => named.iter().any(|name| name == kind.name()),
        }
    }

    /// Builds hookgate and the load generator. Returns their directory.
    fn build(&self) -> Result<PathBuf> {
        setup::require(setup::Task::Bench)?;
        let build = ["build", "--release", "--package", "hookgate"];
        command::run(cargo().args(build).args(["--package", "hookgate-load"]))?;
        let target = command::target()?;
        let release = target.join("release");
        if self.selects(Kind::HookgateRing) && !self.cross_check {
            // A target directory of its own: in a shared one, the two builds would replace each other in every run.
            let apart = target.join("ring");
            let mut command = cargo();
            command.args(build).args(["--no-default-features", "--target-dir"]).arg(&apart);
            command::run(&mut command)?;
            fs::copy(apart.join("release/hookgate"), release.join(Kind::HookgateRing.name()))?;
        }
        Ok(release)
    }
}

fn measure_scenarios(
    environment: &mut Environment,
    programs: &[Program],
    scenarios: &[Scenario],
    effort: Effort,
) -> Result<Vec<Row>> {
    let start = |program: &Program, addition, environment: &Environment| {
        Server::start(program, addition, &environment.materials).with_context(|| program.version.clone())
    };
    let mut servers = programs.iter().map(|program| start(program, None, environment)).collect::<Result<Vec<_>>>()?;
    let compared = servers.len();
    let additions: BTreeSet<Addition> = scenarios.iter().filter_map(|scenario| scenario.addition).collect();
    for addition in additions {
        for program in programs.iter().filter(|program| program.kind.can(addition)) {
            servers.push(start(program, Some(addition), environment)?);
        }
    }
    let mut saturated = BTreeMap::new();
    let mut rows = Vec::new();
    for scenario in scenarios {
        println!("{} …", scenario.title);
        let taking_part: Vec<&Server> = match scenario.addition {
            Some(addition) => {
                let with_or_without = |server: &&Server| server.addition.is_none_or(|its| its == addition);
                servers.iter().filter(|server| server.kind.can(addition)).filter(with_or_without).collect()
            }
            None => {
                let is_hybrid = scenario.transport == Transport::Tls13Hybrid;
                servers[..compared].iter().filter(|server| !is_hybrid || server.kind.has_hybrid()).collect()
            }
        };
        let cells = measure::scenario(environment, &taking_part, scenario, effort, &saturated);
        if scenario.name == SATURATION {
            saturated = measure::throughput(&cells);
        }
        rows.push(Row::new(*scenario, cells));
    }
    Ok(rows)
}

fn measure_memory(
    environment: &mut Environment,
    programs: &[Program],
    connections: usize,
) -> Vec<(Kind, Result<measure::Memory, String>)> {
    println!("Memory of {connections} idle connections …");
    let speaks_tls = programs.iter().filter(|program| program.kind != Kind::NullProxy);
    let measured = speaks_tls.map(|program| {
        let memory = measure::memory(environment, program, connections);
        (program.kind, memory.map_err(|error| format!("{error:#}")))
    });
    measured.collect()
}

fn measure_spread(
    environment: &mut Environment,
    programs: &[Program],
) -> Vec<(Kind, usize, Result<spread::Spread, String>)> {
    println!("Spread of {} connections over workers …", spread::CONNECTIONS);
    let own = programs.iter().filter(|program| matches!(program.kind, Kind::Hookgate | Kind::HookgateEpoll));
    let cases = own.flat_map(|program| spread::WORKERS.map(|workers| (workers, program)));
    let measured = cases.map(|(workers, program)| {
        let spread = spread::measure(environment, program, workers);
        (program.kind, workers, spread.map_err(|error| format!("{error:#}")))
    });
    measured.collect()
}

fn measure_durable(environment: &mut Environment, programs: &[Program]) -> Vec<(Kind, Result<Durable, String>)> {
    println!("Durable webhook, 64 connections, 1 KiB POST …");
    let own = programs.iter().filter(|program| matches!(program.kind, Kind::Hookgate | Kind::HookgateEpoll));
    let cases = own.flat_map(|program| [StoredAt::Disk, StoredAt::Fleet].map(|stored_at| (program, stored_at)));
    let measured = cases.map(|(program, stored_at)| {
        let durable = durable::measure(environment, program, stored_at);
        (program.kind, durable.map_err(|error| format!("{error:#}")))
    });
    measured.collect()
}
