//! `cargo xtask bench`: hookgate and its peers, measured in one run.
//!
//! Builds release binaries, starts every server that this machine has on one core, drives each in turn from the other, and
//! writes a table, a JSON file and an HTML page. See `docs/performance.md` for what the numbers mean and what they do not.

#[path = "../../../benches/load/src/cpu.rs"]
mod cpu;
mod cross_check;
mod html;
mod machine;
mod measure;
mod priority;
#[path = "../../../benches/load/src/protocol.rs"]
pub(crate) mod protocol;
mod report;
mod scenario;
mod server;
mod spread;
pub(crate) mod stage;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::command::{self, cargo};
use crate::setup;
use machine::Machine;
use measure::Effort;
use report::{Report, Row};
use scenario::{Pace, SATURATION, Scenario};
use server::{Kind, Program, Server};
use stage::Stage;

/// For `--scenarios`: the memory of idle connections, which is no load and has no rounds.
const IDLE_MEMORY: &str = "idle-memory";

/// For `--scenarios`: how evenly connections are spread over several workers, which has none either.
const SPREAD: &str = "spread";

/// What to measure, and how thoroughly.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Two short rounds of the main scenarios, without hookgate's other backends and builds: under two minutes
    #[arg(long)]
    quick: bool,
    /// Rounds a scenario; made even
    #[arg(long)]
    rounds: Option<usize>,
    /// Only these servers; all that are installed otherwise
    #[arg(long, value_delimiter = ',')]
    servers: Vec<String>,
    /// Only these scenarios, and what they need to have been measured before
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<String>,
    /// Leave out the memory of idle connections
    #[arg(long)]
    no_memory: bool,
    /// Compare the load generator with `openssl s_time` and `oha`, as far as they are installed, and end
    #[arg(long)]
    cross_check: bool,
    /// Where built hookgate and hookgate-load lie, and hookgate-aws-lc if wanted; they are built otherwise
    #[arg(long)]
    programs: Option<PathBuf>,
    /// The core of the server under test
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// The core of load generator and handler
    #[arg(long, default_value_t = 1)]
    client_core: usize,
    /// Where results.json and report.html go
    #[arg(long, default_value = "target/bench")]
    output: PathBuf,
}

impl Bench {
    /// Measures, prints, and writes. Fails where hookgate failed at a scenario, not where it missed a target.
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
        let mut stage = Stage::build(&load, self.server_core, self.client_core)?;
        if self.cross_check {
            let hookgate = Program::find(Kind::Hookgate, &release)?;
            return cross_check::run(&mut stage, &hookgate, self.client_core);
        }
        let effort = self.effort();
        let machine = Machine::look(&programs);
        let floor = stage::floor(&load, self.server_core)?;
        let rows = measure_scenarios(&mut stage, &programs, &scenarios, effort)?;
        let memory = match self.measures_memory() {
            true => measure_memory(&mut stage, &programs, effort.idle_connections),
            false => Vec::new(),
        };
        let spread = match self.measures(SPREAD) {
            true => measure_spread(&mut stage, &programs),
            false => Vec::new(),
        };
        drop(stage);
        let machine = machine.finish(start.elapsed());
        let report = Report { machine, effort, floor, rows, memory, spread, skipped };
        print!("{}", report.text());
        let output = command::root().join(&self.output);
        fs::create_dir_all(&output)?;
        fs::write(output.join("results.json"), serde_json::to_vec_pretty(&report)?)?;
        fs::write(output.join("report.html"), html::page(&report))?;
        println!("\n{} and report.html beside it", output.join("results.json").display());
        let failures = report.own_failures();
        ensure!(failures.is_empty(), "hookgate failed: {}", failures.join("; "));
        Ok(())
    }

    fn measures_memory(&self) -> bool {
        !self.no_memory && self.measures(IDLE_MEMORY)
    }

    /// Whether what is no load and has this name is asked for.
    fn measures(&self, name: &str) -> bool {
        self.scenarios.is_empty() || self.scenarios.iter().any(|asked| asked == name)
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
            let is_known = known.contains(&name.as_str()) || [IDLE_MEMORY, SPREAD].contains(&name.as_str());
            ensure!(is_known, "no scenario {name}; there are {}, {IDLE_MEMORY} and {SPREAD}", known.join(", "));
        }
        let asked = |scenario: &Scenario| match self.scenarios.is_empty() {
            true => scenario.quick || !self.quick,
            false => self.scenarios.iter().any(|name| name == scenario.name),
        };
        // A part of the best peer's throughput is only known once that is.
        let in_part = scenario::ALL.iter().any(|scenario| asked(scenario) && scenario.pace != Pace::Saturated);
        let chosen = |scenario: &Scenario| asked(scenario) || (in_part && scenario.name == SATURATION);
        Ok(scenario::ALL.into_iter().filter(chosen).collect())
    }

    /// Every server that was asked for: those that are here, and why the others are not.
    fn find(&self, release: &std::path::Path) -> Result<(Vec<Program>, Vec<String>)> {
        let names = Kind::ALL.map(Kind::name);
        for name in &self.servers {
            ensure!(names.contains(&name.as_str()), "no server {name}; there are {}", names.join(", "));
        }
        let mut skipped = Vec::new();
        let mut programs = Vec::new();
        for kind in Kind::ALL.into_iter().filter(|kind| self.asks_for(*kind)) {
            match Program::find(kind, release) {
                Ok(program) => programs.push(program),
                Err(error) => skipped.push(format!("{}: {error:#}", kind.name())),
            }
        }
        Ok((programs, skipped))
    }

    fn asks_for(&self, kind: Kind) -> bool {
        match self.servers.as_slice() {
            // Of hookgate only what users get: the others would take a minute more.
            [] => !self.quick || !kind.is_own() || kind == Kind::Hookgate,
            named => named.iter().any(|name| name == kind.name()),
        }
    }

    /// Builds what is measured and what measures, and says where they are.
    fn build(&self) -> Result<PathBuf> {
        setup::require(setup::Task::Bench)?;
        let build = ["build", "--release", "--package", "hookgate"];
        command::run(cargo().args(build).args(["--package", "hookgate-load"]))?;
        let target = command::target()?;
        let release = target.join("release");
        if self.asks_for(Kind::HookgateAwsLc) && !self.cross_check {
            // A target directory of its own, since it would replace the other build, and be replaced by it, in every run.
            let apart = target.join("aws-lc");
            let mut command = cargo();
            command.args(build).args(["--features", "aws-lc", "--target-dir"]).arg(&apart);
            command::run(&mut command)?;
            fs::copy(apart.join("release/hookgate"), release.join(Kind::HookgateAwsLc.name()))?;
        }
        Ok(release)
    }
}

fn measure_scenarios(
    stage: &mut Stage,
    programs: &[Program],
    scenarios: &[Scenario],
    effort: Effort,
) -> Result<Vec<Row>> {
    let start = |program: &Program, revocation, stage: &Stage| {
        Server::start(program, revocation, &stage.materials).with_context(|| program.version.clone())
    };
    let mut servers = programs.iter().map(|program| start(program, false, stage)).collect::<Result<Vec<_>>>()?;
    let compared = servers.len();
    if scenarios.iter().any(|scenario| scenario.revocation) {
        for program in programs.iter().filter(|program| program.kind.checks_revocation()) {
            servers.push(start(program, true, stage)?);
        }
    }
    let mut saturated = BTreeMap::new();
    let mut rows = Vec::new();
    for scenario in scenarios {
        println!("{} …", scenario.title);
        let taking_part: Vec<&Server> = match scenario.revocation {
            true => servers.iter().filter(|server| server.kind.checks_revocation()).collect(),
            false => servers[..compared].iter().collect(),
        };
        let cells = measure::scenario(stage, &taking_part, scenario, effort, &saturated);
        if scenario.name == SATURATION {
            saturated = measure::throughput(&cells);
        }
        rows.push(Row::new(*scenario, cells));
    }
    Ok(rows)
}

fn measure_memory(
    stage: &mut Stage,
    programs: &[Program],
    connections: usize,
) -> Vec<(Kind, Result<measure::Memory, String>)> {
    println!("Memory of {connections} idle connections …");
    let speaks_tls = programs.iter().filter(|program| program.kind != Kind::NullProxy);
    let measured = speaks_tls.map(|program| {
        let memory = measure::memory(stage, program, connections);
        (program.kind, memory.map_err(|error| format!("{error:#}")))
    });
    measured.collect()
}

fn measure_spread(stage: &mut Stage, programs: &[Program]) -> Vec<(Kind, usize, Result<spread::Spread, String>)> {
    println!("Spread of {} connections over workers …", spread::CONNECTIONS);
    let own = programs.iter().filter(|program| matches!(program.kind, Kind::Hookgate | Kind::HookgateEpoll));
    let cases = own.flat_map(|program| spread::WORKERS.map(|workers| (workers, program)));
    let measured = cases.map(|(workers, program)| {
        let spread = spread::measure(stage, program, workers);
        (program.kind, workers, spread.map_err(|error| format!("{error:#}")))
    });
    measured.collect()
}
