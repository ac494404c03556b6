//! `cargo xtask flood`: measures what a flood does to the gateway: SYNs from disallowed sources, with several protections, or with
//! `--strangers` peers that are never admitted ([`strangers`]).
//!
//! An allowed client sends webhooks over new mutual TLS connections at a rate that the gateway can serve, while other sources send SYNs
//! to the same port. Everything happens in two network namespaces, for a few seconds. See `docs/performance.md`.

mod network;
mod strangers;
mod syn;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use hookgate_testkit::configuration::{FourProviders, HOST, LISTEN_PORT};
use hookgate_testkit::documents::PERCOLATE;
use hookgate_testkit::gateway::{Gateway, GatewayOptions};
use hookgate_testkit::pki::{KeyKind, LeafOptions, Pki, Sender, ServerIdentity};
use hookgate_testkit::process::KilledOnDrop;
use hookgate_testkit::wait::wait_until;
use rustix::thread::sched_setaffinity;

use crate::bench::environment::LoadGenerator;
use crate::bench::protocol::{self, Identities, Identity, Load, Measured, Reply, Transport, Unit};
use crate::command::{self, cargo};
use crate::setup;
use network::{CLIENT, ELSEWHERE, INTERFACE, Network, SERVER, SINK, only};

/// Allowed ranges beside the client's own: as many as the feeds of several large senders have together.
const RANGES: u32 = 10_000;

/// Webhooks in flight at once, at most.
const CONNECTIONS: usize = 64;

/// How long the handler may take to make its socket.
const START_LIMIT: Duration = Duration::from_secs(5);

/// Measures the effect of a SYN flood.
#[derive(Debug, Args)]
pub(crate) struct Flood {
    /// SYNs a second
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1..=2_000_000))]
    rate: u32,
    /// Webhooks a second from the allowed client
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    webhooks: u32,
    /// Rounds; each measures every protection once
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// Duration of one measurement, milliseconds
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u64).range(100..=10_000))]
    window_ms: u64,
    /// Directory with hookgate and hookgate-load [default: build them in release mode]
    #[arg(long)]
    binaries: Option<PathBuf>,
    /// Core of the gateway, and of the thread that receives its packets
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// Core of the client and the flood
    #[arg(long, default_value_t = 1)]
    client_core: usize,
    /// One short round with debug binaries: tests that every protection works, not how well
    #[arg(long, conflicts_with_all = ["rate", "webhooks", "rounds", "window_ms"])]
    smoke: bool,
    /// Peers without an admitted certificate in place of SYNs; needs neither root nor network namespaces, and measures nginx too if it is
    /// installed
    #[arg(long, conflicts_with_all = ["rate", "webhooks", "smoke"])]
    strangers: bool,
}

/// How the gateway is protected from the flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protection {
    /// No flood reaches the gateway: it is dropped before it leaves the client.
    NoFlood,
    /// The flood reaches the interface with the hardware address of another host: the cost of receiving alone.
    Elsewhere,
    /// No protection but the kernel's SYN cookies.
    Nothing,
    Native,
    Generic,
    Nftables,
}

impl Protection {
    const ALL: [Self; 6] = [Self::NoFlood, Self::Elsewhere, Self::Nothing, Self::Native, Self::Generic, Self::Nftables];

    const fn title(self) -> &'static str {
        match self {
            Self::NoFlood => "no flood",
            Self::Elsewhere => "flood for another host",
            Self::Nothing => "flood, no protection",
            Self::Native => "flood, filter native",
            Self::Generic => "flood, filter generic",
            Self::Nftables => "flood, nftables",
        }
    }

    const fn filter(self) -> &'static str {
        match self {
            Self::Native => "mode = \"enforce\"\nattach = \"native\"",
            Self::Generic => "mode = \"enforce\"\nattach = \"generic\"",
            Self::NoFlood | Self::Elsewhere | Self::Nothing | Self::Nftables => "mode = \"off\"",
        }
    }
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// Webhooks served per second.
    goodput: f64,
    /// 99th percentile of their latency, milliseconds.
    p99_ms: f64,
    /// SYNs sent per second.
    flooded: f64,
    /// Part of the gateway's core that receiving used, 0 to 1.
    receiving: f64,
    /// Whether the protection dropped packets.
    dropped: bool,
}

impl Flood {
    /// Measures and prints.
    ///
    /// # Errors
    ///
    /// This process is not root, a protection does not work, or no webhook is served.
    pub(crate) fn run(&self) -> Result<()> {
        if self.strangers {
            return strangers::run(self);
        }
        ensure!(setup::is_root(), "flood needs root for network namespaces, raw packets and XDP");
        setup::require(setup::Task::Flood)?;
        if self.smoke {
            return self.smoke();
        }
        ensure!(self.server_core != self.client_core, "--server-core and --client-core must differ");
        let binaries = self.release()?;
        let environment = Environment::start(&binaries, self)?;
        let mut rounds = Vec::new();
        for round in 0..self.rounds {
            let mut order = Protection::ALL;
            if round % 2 == 1 {
                order.reverse(); // so that each is early as often as late
            }
            let samples = order.map(|protection| (protection, environment.measure(protection)));
            let mut round = Vec::new();
            for (protection, sample) in samples {
                round.push((protection, sample.with_context(|| protection.title())?));
            }
            rounds.push(round);
        }
        print(&rounds, self);
        check(&rounds)
    }

    /// The directory of the release binaries, which are built if none was named.
    fn release(&self) -> Result<PathBuf> {
        match &self.binaries {
            Some(directory) => Ok(std::path::absolute(directory)?),
            None => build(&["build", "--package", "hookgate", "--package", "hookgate-load", "--release"], "release"),
        }
    }

    /// The short round of `cargo xtask test`.
    fn smoke(&self) -> Result<()> {
        if thread::available_parallelism()?.get() < 2 {
            eprintln!("\n!!! SKIPPED: the flood. It needs two cores, and this machine has one.\n");
            return Ok(());
        }
        let binaries = Some(match &self.binaries {
            Some(directory) => directory.clone(),
            None => build(&command::BUILD_FOR_TESTS, "debug")?,
        });
        let (server_core, client_core) = (self.server_core, self.client_core);
        let (smoke, strangers) = (false, false);
        let (rate, webhooks, rounds, window_ms) = (20_000, 20, 1, 300);
        Self { rate, webhooks, rounds, window_ms, binaries, server_core, client_core, smoke, strangers }.run()
    }
}

/// Builds the gateway and the load generator. Returns their directory.
fn build(arguments: &[&str], profile: &str) -> Result<PathBuf> {
    command::run(cargo().args(arguments))?;
    Ok(command::target()?.join(profile))
}

/// Certificates, handler and network.
struct Environment<'f> {
    flood: &'f Flood,
    gateway: PathBuf,
    load: PathBuf,
    network: Network,
    ranges: Vec<String>,
    pki: Pki,
    server: ServerIdentity,
    handler: PathBuf,
    identities: PathBuf,
    ranges_file: PathBuf,
    _handler_process: KilledOnDrop,
    // Last, because everything above has files in it.
    _directory: tempfile::TempDir,
}

impl<'f> Environment<'f> {
    fn start(binaries: &Path, flood: &'f Flood) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("hookgate-flood-").tempdir()?;
        let pki = Pki::new(directory.path())?;
        let server = pki.server("server", &[HOST], KeyKind::P256)?;
        let client = pki.sender(Sender::PagerDuty).leaf("client", &LeafOptions::default())?;
        let identities = Identities {
            server: server.chain_path.clone(),
            server_name: HOST.to_owned(),
            returning: Identity { chain: client.chain_path, key: client.key_path },
            distinct: Vec::new(),
        };
        let identities_path = directory.path().join("identities.json");
        fs::write(&identities_path, serde_json::to_vec(&identities)?)?;
        let mut ranges = vec![CLIENT.to_string()];
        ranges.extend((0..RANGES).map(|index| format!("{}/24", syn::allowed(index))));
        ranges.sort_unstable();
        ranges.dedup();
        let ranges_file = directory.path().join("ranges.txt");
        fs::write(&ranges_file, ranges.join("\n"))?;
        let (gateway, load) = (binaries.join("hookgate"), binaries.join("hookgate-load"));
        let handler = directory.path().join("handler.sock");
        let mut handler_command = pinned(&load, flood.client_core);
        let handler_process = KilledOnDrop(
            handler_command.arg("handler").arg("--socket").arg(&handler).spawn().context("starting taskset")?,
        );
        let network = Network::new(flood.server_core)?;
        wait_until("the handler's socket", START_LIMIT, || handler.exists())?;
        Ok(Self {
            flood,
            gateway,
            load,
            network,
            ranges,
            pki,
            server,
            handler,
            identities: identities_path,
            ranges_file,
            _handler_process: handler_process,
            _directory: directory,
        })
    }

    fn configuration(&self, protection: Protection) -> String {
        let mut configuration = FourProviders::new(&self.pki, &self.server, &self.handler, &self.handler);
        configuration.listen = "workers = 1\nbacklog = 4096";
        let lines = format!("proof = \"certificate\"\nsource_ranges = [\"{CLIENT}\"]");
        let names = ["pagerduty", "dialogflow-cx", "dialogflow-es", PERCOLATE.provider];
        configuration.proofs = names.map(|name| (name, lines.clone())).to_vec();
        let toml = configuration.toml().replace(&format!("127.0.0.1:{LISTEN_PORT}"), &format!("{SERVER}:443"));
        let (filter, ranges) = (protection.filter(), self.ranges_file.display());
        format!("{toml}\n[filter]\ninterfaces = [\"{INTERFACE}\"]\nallow_files = [\"{ranges}\"]\n{filter}\n")
    }

    fn measure(&self, protection: Protection) -> Result<Sample> {
        self.network.nftables((protection == Protection::Nftables).then_some(&self.ranges))?;
        let configuration = self.configuration(protection);
        let gateway = self.network.server.run(|| {
            sched_setaffinity(None, &only(self.flood.server_core))?;
            Gateway::start(&configuration, &GatewayOptions::new(&self.gateway))
        })?;
        let (done, sent) = (AtomicBool::new(false), AtomicU64::new(0));
        let target = match protection {
            Protection::NoFlood => SINK,
            Protection::Elsewhere => ELSEWHERE,
            Protection::Nothing | Protection::Native | Protection::Generic | Protection::Nftables => SERVER,
        };
        let (measured, receiving, flooded) = thread::scope(|scope| {
            let flood = scope.spawn(|| {
                self.network.client.run(|| {
                    sched_setaffinity(None, &only(self.flood.client_core))?;
                    syn::flood(target, self.flood.rate, &done, &sent)
                })
            });
            let measured = self.load(gateway.process_id(), &sent);
            done.store(true, Ordering::Relaxed);
            flood.join().map_err(|_| anyhow::anyhow!("the flood's thread panicked"))??;
            measured
        })?;
        let dropped = match protection {
            Protection::NoFlood | Protection::Elsewhere | Protection::Nothing => true,
            Protection::Nftables => self.network.nftables_dropped()? > 0,
            Protection::Native | Protection::Generic => {
                let dropped = [("verdict", "drop"), ("reason", "no_range")];
                let name = "hookgate_filter_packets_total";
                // Published four times a second.
                thread::sleep(Duration::from_millis(300));
                self.network.server.run(|| gateway.metric(name, &dropped))? > 0.0
            }
        };
        let seconds = measured.window_ns as f64 / 1e9;
        let p99_ms = measured.latency.p99 as f64 / 1e6;
        Ok(Sample { goodput: measured.units as f64 / seconds, p99_ms, flooded, receiving, dropped })
    }

    /// The measurement of the load, the part of the core that receiving used meanwhile, and the SYNs sent per second.
    fn load(&self, gateway: u32, sent: &AtomicU64) -> Result<(Measured, f64, f64)> {
        let load = Load {
            port: 443,
            transport: Transport::Tls13,
            sender: protocol::Sender::Returning,
            unit: Unit::Webhook,
            body_bytes: 1024,
            connections: CONNECTIONS,
            rate: Some(f64::from(self.flood.webhooks)),
            warm_up_ms: 200,
            window_ms: self.flood.window_ms,
            watch: vec![gateway],
            refused: false,
            from: None,
        };
        let mut command = pinned(&self.load, self.flood.client_core);
        command.arg("client").arg("--identities").arg(&self.identities).args(["--server", &SERVER.to_string()]);
        let mut client = self.network.client.run(|| LoadGenerator::start(&mut command))?;
        let begin = (Instant::now(), self.network.receiving_ns()?, sent.load(Ordering::Relaxed));
        let Reply::Measured(measured) = client.ask(&protocol::Command::Run(load))? else {
            bail!("the load generator sent another reply")
        };
        let seconds = begin.0.elapsed().as_secs_f64();
        let receiving = (self.network.receiving_ns()? - begin.1) as f64 / 1e9 / seconds;
        Ok((*measured, receiving, (sent.load(Ordering::Relaxed) - begin.2) as f64 / seconds))
    }
}

fn pinned(program: &Path, core: usize) -> Command {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &core.to_string()]).arg(program);
    command
}

/// Prints the median of each column, with the lowest and the highest round. Ratios are taken within a round.
fn print(rounds: &[Vec<(Protection, Sample)>], flood: &Flood) {
    println!(
        "\n{} SYNs and {} webhooks a second requested, {} ranges, {} rounds of {} ms\n",
        flood.rate, flood.webhooks, RANGES, flood.rounds, flood.window_ms
    );
    println!("| | goodput ÷ no flood | 99th percentile, ms | SYNs a second | core for receiving | ns a SYN |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for protection in Protection::ALL {
        let of = |round: &[(Protection, Sample)], wanted: Protection| {
            round.iter().find(|(protection, _)| *protection == wanted).map(|(_, sample)| *sample)
        };
        let pairs = rounds.iter().filter_map(|round| Some((of(round, protection)?, of(round, Protection::NoFlood)?)));
        let pairs: Vec<_> = pairs.collect();
        let column = |value: &dyn Fn(&Sample, &Sample) -> f64| {
            let mut values: Vec<f64> = pairs.iter().map(|(sample, quiet)| value(sample, quiet)).collect();
            values.sort_by(f64::total_cmp);
            (values[values.len() / 2], values[0], values[values.len() - 1])
        };
        let goodput = column(&|sample, quiet| sample.goodput / quiet.goodput);
        let latency = column(&|sample, _| sample.p99_ms);
        let flooded = column(&|sample, _| sample.flooded);
        let receiving = column(&|sample, _| sample.receiving * 100.0);
        let each = column(&|sample, quiet| (sample.receiving - quiet.receiving) * 1e9 / sample.flooded);
        println!(
            "| {} | {:.3} ({:.3}–{:.3}) | {:.1} ({:.1}–{:.1}) | {:.0} | {:.0} % | {} |",
            protection.title(),
            goodput.0,
            goodput.1,
            goodput.2,
            latency.0,
            latency.1,
            latency.2,
            flooded.0,
            receiving.0,
            if protection == Protection::NoFlood {
                "–".to_owned()
            } else {
                format!("{:.0} ({:.0}–{:.0})", each.0, each.1, each.2)
            },
        );
    }
}

/// Fails if a protection did not work. How well it works is for the reader to judge.
fn check(rounds: &[Vec<(Protection, Sample)>]) -> Result<()> {
    for (protection, sample) in rounds.iter().flatten() {
        ensure!(sample.dropped, "{}: no packet was dropped", protection.title());
        ensure!(sample.flooded > 0.0, "{}: no SYN was sent", protection.title());
        let served = sample.goodput > 0.0 || *protection == Protection::Nothing;
        ensure!(served, "{}: no webhook was served", protection.title());
    }
    Ok(())
}
