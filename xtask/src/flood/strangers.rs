//! `cargo xtask flood --strangers`: what peers that are never admitted do to the requests of those that are, and to memory.
//!
//! Good clients send requests at rates that leave the server mostly idle, on connections that stay open and on new ones. Beside them, 64
//! bad clients make handshakes with a certificate that is refused, each as soon as its last one has ended: a closed loop, which
//! takes all that the server's core has. Then 3,000 connections send a ClientHello without its end. Every server has one core; the
//! clients have another, where the bad ones have a lower priority, because the good ones are to be measured and not their core.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hookgate_testkit::configuration::HOST;
use hookgate_testkit::pki::{ClientIdentity, KeyKind, LeafOptions, Pki, Sender, Variant};
use hookgate_testkit::process::KilledOnDrop;
use hookgate_testkit::wait::wait_until;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Flood, START_LIMIT, pinned};
use crate::bench::environment::LoadGenerator;
use crate::bench::protocol::{self, Identities, Identity, Load, Measured, Reply, Transport, Unit};
use crate::bench::report::median;
use crate::bench::server::{Kind, Materials, Program, Server};

/// Bad clients.
const BAD_CLIENTS: usize = 64;

/// Where bad clients connect from, unless they share the address of the good ones.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Requests per second on 8 connections that stay open.
const KEPT_RATE: f64 = 200.0;

/// Webhooks per second, each on a new connection.
const NEW_RATE: f64 = 50.0;

/// Connections with an unfinished ClientHello.
const UNFINISHED: usize = 3000;

/// How long a server may take to read what it gets, and to give memory back.
const SETTLED: Duration = Duration::from_secs(4);

/// How much longer bad clients work than good ones, milliseconds: for the start of both.
const LEAD_MS: u64 = 500;

/// The servers that are measured, if installed.
const KINDS: [Kind; 4] = [Kind::Hookgate, Kind::HookgateTokioUring, Kind::HookgateEpoll, Kind::Nginx];

/// What bad clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attack {
    Nothing,
    /// A certificate of an unknown authority, from another address.
    Unknown,
    /// The same from the address of the good clients.
    SameAddress,
    /// A chain with the names of the right authorities and other keys, from another address: it costs signature checks.
    Costly,
}

impl Attack {
    const ALL: [Self; 4] = [Self::Nothing, Self::Unknown, Self::SameAddress, Self::Costly];

    const fn title(self) -> &'static str {
        match self {
            Self::Nothing => "no bad clients",
            Self::Unknown => "unknown authority",
            Self::SameAddress => "the same, same address",
            Self::Costly => "costly chain",
        }
    }
}

/// One measurement with one attack.
#[derive(Clone, Copy, Debug)]
struct Sample {
    kept: Good,
    new: Good,
    /// Bad handshakes per second.
    bad: f64,
}

/// What good clients saw.
#[derive(Clone, Copy, Debug)]
struct Good {
    rate: f64,
    p99_ms: f64,
}

impl Good {
    fn of(measured: &Measured) -> Self {
        Self {
            rate: measured.units as f64 / measured.window_ns as f64 * 1e9,
            p99_ms: measured.latency.p99 as f64 / 1e6,
        }
    }
}

/// Measures and prints.
///
/// # Errors
///
/// A program is missing, or a server does not serve.
pub(super) fn run(flood: &Flood) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let binaries = flood.release()?;
    let mut environment = Environment::start(&binaries, flood)?;
    println!("\n{} rounds of {} ms; {BAD_CLIENTS} bad clients\n", flood.rounds, flood.window_ms);
    println!("| server | bad clients | bad a second | kept: goodput, 99 % | new: goodput, 99 % |");
    println!("| --- | --- | --- | --- | --- |");
    let programs = KINDS.iter().filter_map(|kind| Program::find(*kind, &binaries).ok());
    let programs: Vec<_> = programs.collect();
    for program in &programs {
        let mut rounds = Vec::new();
        for _ in 0..flood.rounds {
            let server = Server::start(program, None, &environment.materials)?;
            let mut samples = Vec::new();
            for attack in Attack::ALL {
                let sample = environment.measure(&server, attack);
                samples.push(sample.with_context(|| format!("{}: {}", program.kind.name(), attack.title()))?);
            }
            rounds.push(samples);
        }
        print(program.kind.name(), &rounds);
    }
    println!("\n| server | {UNFINISHED} unfinished ClientHellos, MiB | still open | MiB after their end |");
    println!("| --- | --- | --- | --- |");
    for program in &programs {
        environment.memory(program)?;
    }
    Ok(())
}

/// Medians of the rounds. Goodput is relative to that without bad clients in the same round.
fn print(server: &str, rounds: &[Vec<Sample>]) {
    for (index, attack) in Attack::ALL.into_iter().enumerate() {
        let of = |value: fn(&Sample, &Sample) -> f64| {
            let values = rounds.iter().filter_map(|round| Some(value(round.get(index)?, round.first()?)));
            median(values).unwrap_or(f64::NAN)
        };
        println!(
            "| {server} | {} | {:.0} | {:.0} %, {:.1} ms | {:.0} %, {:.1} ms |",
            attack.title(),
            of(|sample, _| sample.bad),
            of(|sample, idle| 100.0 * sample.kept.rate / idle.kept.rate),
            of(|sample, _| sample.kept.p99_ms),
            of(|sample, idle| 100.0 * sample.new.rate / idle.new.rate),
            of(|sample, _| sample.new.p99_ms),
        );
    }
}

/// Certificates, handler and clients.
struct Environment<'f> {
    flood: &'f Flood,
    materials: Materials,
    kept: LoadGenerator,
    new: LoadGenerator,
    unknown: LoadGenerator,
    costly: LoadGenerator,
    _handler: KilledOnDrop,
    // Last, because everything above has files in it.
    _directory: tempfile::TempDir,
}

impl<'f> Environment<'f> {
    fn start(binaries: &Path, flood: &'f Flood) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("hookgate-strangers-").tempdir()?;
        let pki = Pki::new(directory.path())?;
        let server = pki.server("server", &[HOST], KeyKind::P256)?;
        let sender = pki.sender(Sender::PagerDuty);
        let write = |name: &str, client: ClientIdentity| -> Result<PathBuf> {
            let identities = Identities {
                server: server.chain_path.clone(),
                server_name: HOST.to_owned(),
                returning: Identity { chain: client.chain_path, key: client.key_path },
                distinct: Vec::new(),
            };
            let path = directory.path().join(name);
            fs::write(&path, serde_json::to_vec(&identities)?)?;
            Ok(path)
        };
        let good = write("good.json", sender.leaf("good", &LeafOptions::default())?)?;
        let unknown = write("unknown.json", sender.variant(Variant::Stranger)?)?;
        let costly = write("costly.json", sender.variant(Variant::Impostor)?)?;
        let (load, handler) = (binaries.join("hookgate-load"), directory.path().join("handler.sock"));
        let mut command = pinned(&load, flood.client_core);
        let handler_process =
            KilledOnDrop(command.arg("handler").arg("--socket").arg(&handler).spawn().context("starting taskset")?);
        wait_until("the handler's socket", START_LIMIT, || handler.exists())?;
        let client = |identities: &Path, niceness: &str| {
            let mut command = Command::new("nice");
            command.args(["-n", niceness, "taskset", "--cpu-list", &flood.client_core.to_string()]).arg(&load);
            LoadGenerator::start(command.arg("client").arg("--identities").arg(identities))
        };
        let values = vec![
            ("@SERVER_NAME@", HOST.to_owned()),
            ("@SERVER_CHAIN@", server.chain_path.display().to_string()),
            ("@SERVER_KEY@", server.key_path.display().to_string()),
            ("@CLIENT_ROOT@", sender.root.path().display().to_string()),
            ("@SUBJECT_CN@", "webhooks.pagerduty.com".to_owned()),
            ("@WORKERS@", "1".to_owned()),
            ("@METRICS@", String::new()),
        ];
        Ok(Self {
            flood,
            kept: client(&good, "0")?,
            new: client(&good, "0")?,
            unknown: client(&unknown, "10")?,
            costly: client(&costly, "10")?,
            materials: Materials {
                values,
                directory: directory.path().to_owned(),
                handler: handler.clone(),
                core: flood.server_core,
            },
            _handler: handler_process,
            _directory: directory,
        })
    }

    /// Good clients beside bad ones.
    fn measure(&mut self, server: &Server, attack: Attack) -> Result<Sample> {
        let load = |unit, connections, rate: Option<f64>| Load {
            port: server.port,
            transport: Transport::Tls13,
            sender: protocol::Sender::Returning,
            unit,
            body_bytes: 1024,
            connections,
            rate,
            warm_up_ms: 300,
            window_ms: self.flood.window_ms,
            watch: server.pids.clone(),
            refused: false,
            from: None,
        };
        let bad = Load {
            window_ms: self.flood.window_ms + 2 * LEAD_MS,
            refused: true,
            from: (attack != Attack::SameAddress).then_some(ELSEWHERE),
            ..load(Unit::Webhook, BAD_CLIENTS, None)
        };
        let kept = load(Unit::Request, 8, Some(KEPT_RATE));
        let new = load(Unit::Webhook, 64, Some(NEW_RATE));
        let attacker = match attack {
            Attack::Nothing => None,
            Attack::Unknown | Attack::SameAddress => Some(&mut self.unknown),
            Attack::Costly => Some(&mut self.costly),
        };
        let (kept_client, new_client) = (&mut self.kept, &mut self.new);
        thread::scope(|scope| {
            let attack = scope.spawn(move || attacker.map(|client| ask(client, bad)).transpose());
            thread::sleep(Duration::from_millis(LEAD_MS));
            let kept = scope.spawn(move || ask(kept_client, kept));
            let new = Good::of(&ask(new_client, new)?);
            let panicked = |_| anyhow::anyhow!("a thread of the clients panicked");
            let kept = Good::of(&kept.join().map_err(panicked)??);
            let bad = attack.join().map_err(panicked)??;
            Ok(Sample { kept, new, bad: bad.map_or(0.0, |measured| Good::of(&measured).rate) })
        })
    }

    /// The memory of unfinished ClientHellos.
    fn memory(&mut self, program: &Program) -> Result<()> {
        let server = Server::start(program, None, &self.materials)?;
        let before = resident_mib(&server.pids)?;
        let mut hello = vec![0; 16_000];
        // RFC 8446, sections 5.1 and 4: a record of 16,384 bytes, with the beginning of a ClientHello of 17,000.
        hello[..11].copy_from_slice(&[22, 3, 1, 0x40, 0, 1, 0, 0x42, 0x68, 3, 3]);
        let mut strangers = Vec::new();
        for _ in 0..UNFINISHED {
            let mut stranger = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port))?;
            // It fails if the server has closed the connection already.
            let _ = stranger.write_all(&hello);
            strangers.push(stranger);
        }
        thread::sleep(SETTLED);
        let full = resident_mib(&server.pids)?;
        let open = |stranger: &&TcpStream| {
            stranger.set_nonblocking(true).is_ok()
                && stranger.peek(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
        };
        let open = strangers.iter().filter(open).count();
        drop(strangers);
        thread::sleep(SETTLED);
        let after = resident_mib(&server.pids)?;
        println!("| {} | {:.0} | {open} | {:.0} |", program.kind.name(), full - before, after - before);
        Ok(())
    }
}

fn ask(client: &mut LoadGenerator, load: Load) -> Result<Measured> {
    match client.ask(&protocol::Command::Run(load))? {
        Reply::Measured(measured) => Ok(*measured),
        other => bail!("the load generator answered {other:?}"),
    }
}

/// The resident memory of all these processes together.
fn resident_mib(pids: &[u32]) -> Result<f64> {
    let mut sum = 0.0;
    for pid in pids {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        sum += line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0;
    }
    Ok(sum)
}
