//! `cargo xtask bench --cross-check`: the load generator against the ones of others, on the same hookgate.
//!
//! Where two load generators ask the same of one server, the server must pay the same for a unit; where it does not, one of
//! them measures something else. Owns the invocations of `openssl s_time` and `oha`. Rates are given too, but they are the
//! generators' own: each has the client's core to itself, and handler and server wait for it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::cpu::on_cpu_ns;
use super::measure;
use super::protocol::{Load, Sender, Transport, Unit};
use super::report::median;
use super::server::{Program, Server};
use super::stage::Stage;
use crate::command;

/// How long each load lasts; `s_time` counts whole seconds.
const SECONDS: u64 = 3;

/// Rounds, there and back: ours, theirs; theirs, ours.
const ROUNDS: usize = 4;

/// Connections of the loads with requests.
const CONNECTIONS: usize = 16;

/// What both generators are asked for.
struct Check {
    title: &'static str,
    transport: Transport,
    sender: Sender,
    unit: Unit,
    body_bytes: usize,
    connections: usize,
    theirs: Theirs,
}

/// The other generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Theirs {
    OpensslNew,
    OpensslReuse,
    Oha { keep_alive: bool },
}

const HANDSHAKES: Check = Check {
    title: "full handshakes, TLS 1.3, one at a time",
    transport: Transport::Tls13,
    sender: Sender::Returning,
    unit: Unit::Connection,
    body_bytes: 0,
    connections: 1,
    theirs: Theirs::OpensslNew,
};

const CHECKS: [Check; 4] = [
    HANDSHAKES,
    Check {
        title: "resumed handshakes, TLS 1.2, one at a time",
        transport: Transport::Tls12,
        sender: Sender::Resuming,
        theirs: Theirs::OpensslReuse,
        ..HANDSHAKES
    },
    Check {
        title: "keep-alive, 16 connections, 1 KiB POST",
        unit: Unit::Request,
        body_bytes: 1024,
        connections: CONNECTIONS,
        theirs: Theirs::Oha { keep_alive: true },
        ..HANDSHAKES
    },
    Check {
        title: "one webhook a connection, 16 at once, 2 KiB POST",
        unit: Unit::Webhook,
        body_bytes: 2048,
        connections: CONNECTIONS,
        theirs: Theirs::Oha { keep_alive: false },
        ..HANDSHAKES
    },
];

/// What one load came to.
#[derive(Clone, Copy, Debug)]
struct Paid {
    /// CPU time of the server for one unit, microseconds.
    cpu_us: f64,
    /// Units a second.
    rate: f64,
}

/// Runs every check whose generator is installed, and prints the ratios.
///
/// # Errors
///
/// A load that fails, ours or theirs, or did something else than it was asked for.
pub(crate) fn run(stage: &mut Stage, hookgate: &Program, client_core: usize) -> Result<()> {
    let server = Server::start(hookgate, false, &stage.materials)?;
    ensure_admitted(stage, server.port)?;
    println!("\n{:<50}{:>12}{:>12}{:>9}{:>9}  theirs", "ours ÷ theirs", "our CPU µs", "their µs", "CPU", "rate");
    for check in &CHECKS {
        let Some(program) = find(check.theirs) else {
            println!("{:<50}  skipped: {} is not installed", check.title, name(check.theirs));
            continue;
        };
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            for own in [round % 2 == 0, round % 2 != 0] {
                match own {
                    true => ours.push(own_load(stage, &server, check)?),
                    false => theirs.push(their_load(stage, &server, check, &program, client_core)?),
                }
            }
        }
        let of = |paid: &[Paid], value: fn(&Paid) -> f64| median(paid.iter().map(value)).unwrap_or(f64::NAN);
        let (our_cpu, their_cpu) = (of(&ours, |paid| paid.cpu_us), of(&theirs, |paid| paid.cpu_us));
        let rates = of(&ours, |paid| paid.rate) / of(&theirs, |paid| paid.rate);
        let (cpu, tool) = (our_cpu / their_cpu, name(check.theirs));
        println!("{:<50}{our_cpu:>12.1}{their_cpu:>12.1}{cpu:>9.2}{rates:>9.2}  {tool}", check.title);
    }
    Ok(())
}

fn name(theirs: Theirs) -> &'static str {
    match theirs {
        Theirs::OpensslNew => "openssl s_time -new",
        Theirs::OpensslReuse => "openssl s_time -reuse",
        Theirs::Oha { keep_alive: true } => "oha",
        Theirs::Oha { keep_alive: false } => "oha --disable-keepalive",
    }
}

/// `oha` also where `cargo install oha --root target/tools` puts it.
fn find(theirs: Theirs) -> Option<PathBuf> {
    let installed = |name: &str| command::is_installed(name).then(|| PathBuf::from(name));
    match theirs {
        Theirs::OpensslNew | Theirs::OpensslReuse => installed("openssl"),
        Theirs::Oha { .. } => {
            let built = command::root().join("target/tools/bin/oha");
            if built.is_file() { Some(built) } else { installed("oha") }
        }
    }
}

fn own_load(stage: &mut Stage, server: &Server, check: &Check) -> Result<Paid> {
    let load = Load {
        port: server.port,
        transport: check.transport,
        sender: check.sender,
        unit: check.unit,
        body_bytes: check.body_bytes,
        connections: check.connections,
        rate: None,
        warm_up_ms: 200,
        window_ms: SECONDS * 1000,
        watch: server.pids.clone(),
    };
    let measured = measure::run(stage, load)?;
    let (units, window) = (measured.units as f64, measured.window_ns as f64);
    Ok(Paid { cpu_us: measured.server_cpu_ns as f64 / units / 1e3, rate: units / window * 1e9 })
}

fn their_load(stage: &Stage, server: &Server, check: &Check, program: &Path, core: usize) -> Result<Paid> {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &core.to_string()]).arg(program).current_dir(stage.directory());
    match check.theirs {
        Theirs::OpensslNew => openssl(&mut command, stage, server.port, &["-new", "-tls1_3"]),
        Theirs::OpensslReuse => openssl(&mut command, stage, server.port, &["-reuse", "-tls1_2"]),
        Theirs::Oha { keep_alive } => oha(&mut command, stage, server.port, check, keep_alive)?,
    }
    let before = on_cpu_ns(&server.pids)?;
    let output = command.output().context("starting taskset, of util-linux")?;
    let cpu = on_cpu_ns(&server.pids)? - before;
    let said = String::from_utf8_lossy(&output.stdout);
    let tool = name(check.theirs);
    ensure!(output.status.success(), "{tool}: {}\n{said}{}", output.status, String::from_utf8_lossy(&output.stderr));
    let (units, seconds) = match check.theirs {
        Theirs::OpensslNew => connections(&said, '*'),
        Theirs::OpensslReuse => connections(&said, 'r'),
        Theirs::Oha { .. } => requests(&said),
    }
    .with_context(|| format!("{tool} said:\n{said}"))?;
    Ok(Paid { cpu_us: cpu as f64 / units / 1e3, rate: units / seconds })
}

/// `s_time` sends no request, so it would not notice that its certificate is refused: `s_client` presents the same, and asks.
fn ensure_admitted(stage: &Stage, port: u16) -> Result<()> {
    let Some(program) = find(Theirs::OpensslNew) else { return Ok(()) };
    let identity = stage.returning();
    let mut command = Command::new(program);
    command.args(["s_client", "-quiet", "-connect", &format!("127.0.0.1:{port}")]);
    command.arg("-cert").arg(&identity.chain).arg("-key").arg(&identity.key).arg("-CAfile").arg(&identity.chain);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let host = stage.server_name();
    let request = format!("POST /pagerduty HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    // Held open until the answer came: openssl ends with its input.
    let mut input = child.stdin.take().context("it was asked for with a pipe")?;
    input.write_all(request.as_bytes())?;
    let output = child.wait_with_output()?;
    drop(input);
    let answer = String::from_utf8_lossy(&output.stdout);
    ensure!(answer.starts_with("HTTP/1.1 200 "), "openssl's client certificate is not admitted: {answer}");
    Ok(())
}

/// `s_time` presents one certificate and what its own store leads it on to, so the store is the client's chain.
fn openssl(command: &mut Command, stage: &Stage, port: u16, mode: &[&str]) {
    let identity = stage.returning();
    let [chain, key] = [&identity.chain, &identity.key];
    command.args(["s_time", "-connect", &format!("127.0.0.1:{port}"), "-time", &SECONDS.to_string()]).args(mode);
    command.arg("-cert").arg(chain).arg("-key").arg(key).arg("-CAfile").arg(chain);
    command.args(["-ciphersuites", "TLS_AES_128_GCM_SHA256", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"]);
}

fn oha(command: &mut Command, stage: &Stage, port: u16, check: &Check, keep_alive: bool) -> Result<()> {
    let identity = stage.returning();
    let body = stage.directory().join("oha-body");
    fs::write(&body, vec![b'x'; check.body_bytes])?;
    command.args([
        "--no-tui",
        "--output-format",
        "json",
        "--insecure",
        "--method",
        "POST",
        "-z",
        &format!("{SECONDS}s"),
    ]);
    // Without it oha counts what it broke off at the end as errors.
    command.args(["--wait-ongoing-requests-after-deadline", "-c", &check.connections.to_string(), "-D"]).arg(body);
    command.arg("--cert").arg(&identity.chain).arg("--key").arg(&identity.key);
    let host = stage.server_name();
    command.args(["--connect-to", &format!("{host}:{port}:127.0.0.1:{port}")]);
    if !keep_alive {
        command.arg("--disable-keepalive");
    }
    command.arg(format!("https://{host}:{port}/pagerduty"));
    Ok(())
}

/// Connections and seconds out of what `s_time` prints: a character for each connection, which tells its kind, and
/// "1234 connections in 4 real seconds, …". All must be of the kind `wanted`.
fn connections(said: &str, wanted: char) -> Result<(f64, f64)> {
    let line = said.lines().rev().find(|line| line.contains("real seconds")).context("no sum")?;
    let mut words = line.split(' ');
    let count: f64 = words.next().unwrap_or_default().parse().context("the number of connections")?;
    let seconds: f64 = words.nth(2).unwrap_or_default().parse().context("the number of seconds")?;
    let is_kind = |mark: char| matches!(mark, '*' | 'r' | 't');
    let marks = said.lines().filter(|line| line.chars().all(is_kind)).flat_map(str::chars);
    let of_kind = marks.filter(|mark| *mark == wanted).count() as f64;
    ensure!(of_kind >= 0.99 * count, "{of_kind} of {count} connections were of the kind {wanted:?}");
    Ok((count, seconds))
}

/// Requests and seconds out of oha's JSON. Every answer must be 200.
fn requests(said: &str) -> Result<(f64, f64)> {
    let value: serde_json::Value = serde_json::from_str(said)?;
    let statuses = value["statusCodeDistribution"].as_object().context("no statuses")?;
    ensure!(statuses.keys().all(|status| status == "200"), "answers other than 200: {statuses:?}");
    let errors = value["errorDistribution"].as_object().is_none_or(serde_json::Map::is_empty);
    ensure!(errors, "errors: {}", value["errorDistribution"]);
    let count = statuses.get("200").and_then(serde_json::Value::as_f64).context("not one answer")?;
    Ok((count, value["summary"]["total"].as_f64().context("no duration")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_print_is_read_and_other_kinds_are_refused() {
        let said = "Collecting connection statistics for 3 seconds\n****\n\n4 connections in 0.10s; 40.00 connections/user \
                    sec, bytes read 0\n4 connections in 2 real seconds, 0 bytes read per connection\n";
        assert_eq!(connections(said, '*').expect("a sum"), (4.0, 2.0));
        assert!(connections(said, 'r').is_err());
        let json = r#"{"summary":{"total":2.5},"statusCodeDistribution":{"200":7},"errorDistribution":{}}"#;
        assert_eq!(requests(json).expect("a result"), (7.0, 2.5));
        assert!(requests(&json.replace("200", "403")).is_err());
        assert!(requests(&json.replace("\"errorDistribution\":{}", "\"errorDistribution\":{\"refused\":1}")).is_err());
    }
}
