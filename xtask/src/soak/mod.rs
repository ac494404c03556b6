//! `cargo xtask soak`: attacks, faults, reloads and load together on the real binary, for minutes or hours.
//!
//! Owns the rounds and the verdict. A round has two parts: a load that must succeed whole, while strangers attack and the configuration is
//! reloaded many times a second; and requests while the handler is killed again and again, each of which must get an answer. After each
//! round everything is still, and the process must have what it had before. Too long for `cargo xtask test`.

mod attack;
mod environment;
mod footprint;

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hookgate_testkit::gateway::{Gateway, Signal};
use hookgate_testkit::wait::wait_until;

use crate::bench::protocol::{Load, Sender, Transport, Unit};
use crate::command::{self, BUILD_FOR_TESTS};
use crate::setup;
use environment::Environment;
use footprint::Footprint;

/// How long one load runs.
const LOAD: Duration = Duration::from_secs(4);

/// How long the handler is killed and started again.
const FAULTS: Duration = Duration::from_secs(4);

/// How long the handler lives, and is absent, while it is killed again and again.
const HANDLER_LIVES: Duration = Duration::from_millis(300);
const HANDLER_IS_ABSENT: Duration = Duration::from_millis(100);

/// Pause between two hang-ups.
const BETWEEN_RELOADS: Duration = Duration::from_millis(50);

/// Clients that send while the handler is killed.
const CLIENTS: usize = 3;

/// How long everything may take to become still: longer than every time-out of the configuration.
const STILL: Duration = Duration::from_secs(20);

/// How long the daemon may take to end.
const END: Duration = Duration::from_secs(20);

/// The statuses of a request that reached a gateway whose handler comes and goes.
const WITHOUT_HANDLER: [u16; 4] = [200, 502, 503, 504];

/// The loads of a round: what is counted, and over how many connections. All handshakes are full, because no session outlives a reload.
const LOADS: [(Unit, usize); 3] = [(Unit::Webhook, 16), (Unit::Connection, 8), (Unit::Request, 32)];

/// Runs the rounds.
#[derive(Debug, clap::Args)]
pub(crate) struct Soak {
    /// How long, in minutes; a round that has begun is finished
    #[arg(long, default_value_t = 5)]
    minutes: u64,
}

impl Soak {
    /// Builds the programs, and runs rounds until the time is over.
    ///
    /// # Errors
    ///
    /// The first promise that is broken, with the log of the daemon in a file.
    pub(crate) fn run(&self) -> Result<()> {
        setup::require(setup::Task::Demo)?;
        command::step(&BUILD_FOR_TESTS)?;
        let programs = command::target()?.join("debug");
        let mut environment = Environment::start(&programs)?;
        let mut gateway = environment.gateway(&programs.join("hookgate"))?;
        let outcome = self.rounds(&mut environment, &gateway).and_then(|()| end(&mut gateway));
        let log = gateway.log();
        outcome.and_then(|()| check_log(&log)).map_err(|error| match fs::write("target/soak.log", &log) {
            Ok(()) => error.context("the log of the daemon is in target/soak.log"),
            Err(_) => error,
        })
    }

    fn rounds(&self, environment: &mut Environment, gateway: &Gateway) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(60 * self.minutes);
        let mut footprints = Vec::new();
        while Instant::now() < until || footprints.len() < footprint::ROUNDS_MIN {
            let round = footprints.len() + 1;
            let units = storm(environment, gateway).with_context(|| format!("round {round}, under attack"))?;
            let statuses = faults(environment, gateway).with_context(|| format!("round {round}, handler killed"))?;
            let footprint = still(gateway).with_context(|| format!("round {round}, afterwards"))?;
            println!("round {round}: {units} units under attack; handler killed: {statuses:?}; {footprint}");
            footprints.push(footprint);
            check_log(&gateway.log())?;
        }
        footprint::check(&footprints)
    }
}

/// Loads the gateway while it is attacked and reloaded. Every unit must succeed. Returns their number.
fn storm(environment: &mut Environment, gateway: &Gateway) -> Result<u64> {
    let over = AtomicBool::new(false);
    let attacks = attack::Attacks::new(environment, gateway)?;
    let configurations = written(environment, gateway)?;
    let loads_before = loads(gateway)?;
    let units = thread::scope(|scope| {
        let attackers: Vec<_> = attacks.all().map(|attack| scope.spawn(|| repeat(&over, attack))).collect();
        let reloads = scope.spawn(|| {
            let mut number = 0;
            repeat(&over, || {
                number += 1;
                // Renamed into place, because the daemon may be reading it.
                let (path, next) = (gateway.configuration_path(), gateway.directory().join("next.toml"));
                fs::write(&next, &configurations[number % configurations.len()])?;
                fs::rename(&next, path)?;
                gateway.signal(Signal::HUP)?;
                thread::sleep(BETWEEN_RELOADS);
                Ok(())
            })
        });
        let units = LOADS.iter().map(|(unit, connections)| {
            let load = Load {
                port: gateway.port(),
                transport: Transport::Tls13,
                sender: Sender::Returning,
                unit: *unit,
                body_bytes: 2048,
                connections: *connections,
                rate: None,
                warm_up_ms: 200,
                window_ms: u64::try_from(LOAD.as_millis())?,
                watch: Vec::new(),
                refused: false,
                from: None,
            };
            environment.load(load).with_context(|| format!("a load by {unit:?}"))
        });
        let units: Result<Vec<u64>> = units.collect();
        over.store(true, Ordering::Relaxed);
        for thread in attackers.into_iter().chain([reloads]) {
            thread.join().unwrap_or_else(|_| bail!("a thread of the soak panicked"))?;
        }
        units
    })?;
    ensure!(units.iter().all(|units| *units > 0), "a load without a unit: {units:?}");
    ensure!(loads(gateway)? > loads_before, "no reload in a storm of hang-ups");
    Ok(units.iter().sum())
}

/// The texts of the configurations, with the ports of this daemon.
fn written(environment: &Environment, gateway: &Gateway) -> Result<Vec<String>> {
    let text = |configuration: &String| {
        gateway.write_configuration(configuration)?;
        Ok(fs::read_to_string(gateway.configuration_path())?)
    };
    environment.configurations().iter().map(text).collect()
}

/// Does it again and again, until `over`.
fn repeat(over: &AtomicBool, mut act: impl FnMut() -> Result<()>) -> Result<()> {
    while !over.load(Ordering::Relaxed) {
        act()?;
    }
    Ok(())
}

/// Sends requests while the handler is killed and started. Each must get an answer, and be counted. Returns the number of each status.
fn faults(environment: &mut Environment, gateway: &Gateway) -> Result<BTreeMap<u16, usize>> {
    let answered = "hookgate_requests_total";
    let before = gateway.metric(answered, &[])?;
    let over = AtomicBool::new(false);
    let client = environment.client(gateway);
    let statuses = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let mut statuses = Vec::new();
                    repeat(&over, || {
                        let outcome = client.run()?;
                        statuses.push(
                            outcome.status().with_context(|| format!("a request without an answer: {outcome:?}"))?,
                        );
                        Ok(())
                    })?;
                    Ok::<_, anyhow::Error>(statuses)
                })
            })
            .collect();
        let began = Instant::now();
        let killed = (|| {
            while began.elapsed() < FAULTS {
                environment.kill_handler();
                thread::sleep(HANDLER_IS_ABSENT);
                environment.start_handler()?;
                thread::sleep(HANDLER_LIVES);
            }
            Ok::<_, anyhow::Error>(())
        })();
        over.store(true, Ordering::Relaxed);
        let mut statuses = Vec::new();
        for client in clients {
            statuses.extend(client.join().unwrap_or_else(|_| bail!("a client panicked"))?);
        }
        killed.map(|()| statuses)
    })?;
    let mut counts = BTreeMap::new();
    statuses.iter().for_each(|status| *counts.entry(*status).or_insert(0) += 1);
    ensure!(counts.keys().all(|status| WITHOUT_HANDLER.contains(status)), "unexpected answers: {counts:?}");
    ensure!(counts.contains_key(&200), "no request reached the handler: {counts:?}");
    let all = before + statuses.len() as f64;
    let counted = gateway.wait_metric(answered, &[], all, STILL)?;
    ensure!(counted == all, "{} answers, and the metrics count {}", statuses.len(), counted - before);
    Ok(counts)
}

/// Waits until nothing is open, compares the metrics with each other, and measures the process.
fn still(gateway: &Gateway) -> Result<Footprint> {
    let is_zero = |name: &str| gateway.metric(name, &[]).is_ok_and(|sum| sum == 0.0);
    wait_until("no connection and no request", STILL, || {
        is_zero("hookgate_connections_active") && is_zero("hookgate_handler_requests_in_flight")
    })?;
    let one = |name: &str, labels: &[(&str, &str)]| gateway.metric(name, labels);
    let (generation, good) = (one("hookgate_config_generation", &[])?, loads(gateway)?);
    ensure!(generation == good, "generation {generation} after {good} good loads");
    let bad = one("hookgate_config_reloads_total", &[("result", "error")])?;
    ensure!(bad == 0.0, "{bad} loads of a good configuration failed");
    let lost = one("hookgate_worker_stalled", &[])?;
    ensure!(lost == 0.0, "a worker is stalled");
    Footprint::of(gateway)
}

/// Good loads of the configuration.
fn loads(gateway: &Gateway) -> Result<f64> {
    gateway.metric("hookgate_config_reloads_total", &[("result", "ok")])
}

fn end(gateway: &mut Gateway) -> Result<()> {
    gateway.signal(Signal::TERM)?;
    let status = gateway.wait_exit(END)?;
    ensure!(status.success(), "the daemon ended with {status}");
    Ok(())
}

fn check_log(log: &str) -> Result<()> {
    match log.lines().find(|line| line.contains("panicked")) {
        Some(line) => bail!("a thread panicked: {line}"),
        None => Ok(()),
    }
}
