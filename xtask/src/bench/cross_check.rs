//! `cargo xtask bench --cross-check`: compares the load generator with `openssl s_time` and `oha`, on one hookgate.
//!
//! If two load generators send the same load, the server must spend the same CPU time on a unit. If it does not, one of them measures
//! something else. Owns the invocations of the other generators. The rates are printed too, but they depend on the generators: each has
//! the client's core to itself, and handler and server wait for it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::cpu::on_cpu_ns;
use super::environment::Environment;
use super::measure;
use super::protocol::{Load, Sender, Transport, Unit};
use super::report::median;
use super::server::{Program, Server};
use crate::command;

/// Duration of each load; `s_time` counts whole seconds.
const SECONDS: u64 = 3;

/// Rounds in alternating order: ours, other; other, ours.
const ROUNDS: usize = 4;

/// Connections of the loads that send requests.
const CONNECTIONS: usize = 16;

/// One load for both generators.
struct Check {
    title: &'static str,
    transport: Transport,
    sender: Sender,
    unit: Unit,
    body_bytes: usize,
    connections: usize,
    other: Other,
}

/// The other load generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Other {
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
    other: Other::OpensslNew,
};

const CHECKS: [Check; 4] = [
    HANDSHAKES,
    Check {
        title: "resumed handshakes, TLS 1.2, one at a time",
        transport: Transport::Tls12,
        sender: Sender::Resuming,
        other: Other::OpensslReuse,
        ..HANDSHAKES
    },
    Check {
        title: "keep-alive, 16 connections, 1 KiB POST",
        unit: Unit::Request,
        body_bytes: 1024,
        connections: CONNECTIONS,
        other: Other::Oha { keep_alive: true },
        ..HANDSHAKES
    },
    Check {
        title: "one webhook a connection, 16 at once, 2 KiB POST",
        unit: Unit::Webhook,
        body_bytes: 2048,
        connections: CONNECTIONS,
        other: Other::Oha { keep_alive: false },
        ..HANDSHAKES
    },
];

/// The result of one load.
#[derive(Clone, Copy, Debug)]
struct Cost {
    /// CPU time of the server for one unit, microseconds.
    cpu_us: f64,
    /// Units per second.
    rate: f64,
}

/// Runs every check whose generator is installed, and prints the ratios.
///
/// # Errors
///
/// A load fails, or did something else than requested.
pub(crate) fn run(environment: &mut Environment, hookgate: &Program, client_core: usize) -> Result<()> {
    let server = Server::start(hookgate, None, &environment.materials)?;
    ensure_admitted(environment, server.port)?;
    println!("\n{:<50}{:>12}{:>12}{:>9}{:>9}  other", "hookgate-load ÷ other", "CPU µs", "other µs", "CPU", "rate");
    for check in &CHECKS {
        let Some(program) = find(check.other) else {
            println!("{:<50}  skipped: {} is not installed", check.title, name(check.other));
            continue;
        };
        let (mut ours, mut others) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            for own in [round % 2 == 0, round % 2 != 0] {
                match own {
                    true => ours.push(own_load(environment, &server, check)?),
                    false => others.push(other_load(environment, &server, check, &program, client_core)?),
                }
            }
        }
        let of = |costs: &[Cost], value: fn(&Cost) -> f64| median(costs.iter().map(value)).unwrap_or(f64::NAN);
        let (our_cpu, other_cpu) = (of(&ours, |cost| cost.cpu_us), of(&others, |cost| cost.cpu_us));
        let rates = of(&ours, |cost| cost.rate) / of(&others, |cost| cost.rate);
        let (cpu, tool) = (our_cpu / other_cpu, name(check.other));
        println!("{:<50}{our_cpu:>12.1}{other_cpu:>12.1}{cpu:>9.2}{rates:>9.2}  {tool}", check.title);
    }
    Ok(())
}

fn name(other: Other) -> &'static str {
    match other {
        Other::OpensslNew => "openssl s_time -new",
        Other::OpensslReuse => "openssl s_time -reuse",
        Other::Oha { keep_alive: true } => "oha",
        Other::Oha { keep_alive: false } => "oha --disable-keepalive",
    }
}

/// Looks for `oha` in `target/tools` too (`cargo install oha --root target/tools`).
fn find(other: Other) -> Option<PathBuf> {
    let installed = |name: &str| command::is_installed(name).then(|| PathBuf::from(name));
    match other {
        Other::OpensslNew | Other::OpensslReuse => installed("openssl"),
        Other::Oha { .. } => {
            let built = command::root().join("target/tools/bin/oha");
            if built.is_file() { Some(built) } else { installed("oha") }
        }
    }
}

fn own_load(environment: &mut Environment, server: &Server, check: &Check) -> Result<Cost> {
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
        refused: false,
        from: None,
    };
    let measured = measure::run(environment, load)?;
    let (units, window) = (measured.units as f64, measured.window_ns as f64);
    Ok(Cost { cpu_us: measured.server_cpu_ns as f64 / units / 1e3, rate: units / window * 1e9 })
}

fn other_load(environment: &Environment, server: &Server, check: &Check, program: &Path, core: usize) -> Result<Cost> {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &core.to_string()]).arg(program).current_dir(environment.directory());
    match check.other {
        Other::OpensslNew => openssl(&mut command, environment, server.port, &["-new", "-tls1_3"]),
        Other::OpensslReuse => openssl(&mut command, environment, server.port, &["-reuse", "-tls1_2"]),
        Other::Oha { keep_alive } => oha(&mut command, environment, server.port, check, keep_alive)?,
    }
    let before = on_cpu_ns(&server.pids)?;
    let output = command.output().context("starting taskset, of util-linux")?;
    let cpu = on_cpu_ns(&server.pids)? - before;
    let printed = String::from_utf8_lossy(&output.stdout);
    let tool = name(check.other);
    ensure!(output.status.success(), "{tool}: {}\n{printed}{}", output.status, String::from_utf8_lossy(&output.stderr));
    let (units, seconds) = match check.other {
        Other::OpensslNew => connections(&printed, '*'),
        Other::OpensslReuse => connections(&printed, 'r'),
        Other::Oha { .. } => requests(&printed),
    }
    .with_context(|| format!("{tool} printed:\n{printed}"))?;
    Ok(Cost { cpu_us: cpu as f64 / units / 1e3, rate: units / seconds })
}

/// Tests with `s_client` that the client certificate is admitted: `s_time` sends no request, and would not notice a refusal.
fn ensure_admitted(environment: &Environment, port: u16) -> Result<()> {
    let Some(program) = find(Other::OpensslNew) else { return Ok(()) };
    let identity = environment.returning();
    let mut command = Command::new(program);
    command.args(["s_client", "-quiet", "-connect", &format!("127.0.0.1:{port}")]);
    command.arg("-cert").arg(&identity.chain).arg("-key").arg(&identity.key).arg("-CAfile").arg(&identity.chain);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let host = environment.server_name();
    let request = format!("POST /pagerduty HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    // openssl ends when its input ends, so the input stays open until the answer has come.
    let mut input = child.stdin.take().context("it was started with a pipe")?;
    input.write_all(request.as_bytes())?;
    let output = child.wait_with_output()?;
    drop(input);
    let answer = String::from_utf8_lossy(&output.stdout);
    ensure!(answer.starts_with("HTTP/1.1 200 "), "openssl's client certificate is not admitted: {answer}");
    Ok(())
}

/// `s_time` presents one certificate, and the issuers that it finds in its trust store. So the client's chain is the store.
fn openssl(command: &mut Command, environment: &Environment, port: u16, mode: &[&str]) {
    let identity = environment.returning();
    let [chain, key] = [&identity.chain, &identity.key];
    command.args(["s_time", "-connect", &format!("127.0.0.1:{port}"), "-time", &SECONDS.to_string()]).args(mode);
    command.arg("-cert").arg(chain).arg("-key").arg(key).arg("-CAfile").arg(chain);
    command.args(["-ciphersuites", "TLS_AES_128_GCM_SHA256", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"]);
}

fn oha(command: &mut Command, environment: &Environment, port: u16, check: &Check, keep_alive: bool) -> Result<()> {
    let identity = environment.returning();
    let body = environment.directory().join("oha-body");
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
    // Without this option, oha counts the requests that it cuts off at the end as errors.
    command.args(["--wait-ongoing-requests-after-deadline", "-c", &check.connections.to_string(), "-D"]).arg(body);
    command.arg("--cert").arg(&identity.chain).arg("--key").arg(&identity.key);
    let host = environment.server_name();
    command.args(["--connect-to", &format!("{host}:{port}:127.0.0.1:{port}")]);
    if !keep_alive {
        command.arg("--disable-keepalive");
    }
    command.arg(format!("https://{host}:{port}/pagerduty"));
    Ok(())
}

/// Reads connections and seconds from the output of `s_time`: one character per connection, which is its kind, and
/// "1234 connections in 4 real seconds, …". At least 99 % must be of the kind `wanted`.
fn connections(printed: &str, wanted: char) -> Result<(f64, f64)> {
    let line = printed.lines().rev().find(|line| line.contains("real seconds")).context("no summary")?;
    let mut words = line.split(' ');
    let count: f64 = words.next().unwrap_or_default().parse().context("the number of connections")?;
    let seconds: f64 = words.nth(2).unwrap_or_default().parse().context("the number of seconds")?;
    let is_kind = |mark: char| matches!(mark, '*' | 'r' | 't');
    let marks = printed.lines().filter(|line| line.chars().all(is_kind)).flat_map(str::chars);
    let of_kind = marks.filter(|mark| *mark == wanted).count() as f64;
    ensure!(of_kind >= 0.99 * count, "{of_kind} of {count} connections were of the kind {wanted:?}");
    Ok((count, seconds))
}

/// Reads requests and seconds from the JSON of oha. Every answer must be 200.
fn requests(printed: &str) -> Result<(f64, f64)> {
    let value: serde_json::Value = serde_json::from_str(printed)?;
    let statuses = value["statusCodeDistribution"].as_object().context("no statuses")?;
    ensure!(statuses.keys().all(|status| status == "200"), "answers other than 200: {statuses:?}");
    let errors = value["errorDistribution"].as_object().is_none_or(serde_json::Map::is_empty);
    ensure!(errors, "errors: {}", value["errorDistribution"]);
    let count = statuses.get("200").and_then(serde_json::Value::as_f64).context("no answer")?;
    Ok((count, value["summary"]["total"].as_f64().context("no duration")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_of_other_generators_is_read_and_other_kinds_are_refused() {
        let printed = "Collecting connection statistics for 3 seconds\n****\n\n4 connections in 0.10s; 40.00 connections/user \
                    sec, bytes read 0\n4 connections in 2 real seconds, 0 bytes read per connection\n";
        assert_eq!(connections(printed, '*').expect("a sum"), (4.0, 2.0));
        assert!(connections(printed, 'r').is_err());
        let json = r#"{"summary":{"total":2.5},"statusCodeDistribution":{"200":7},"errorDistribution":{}}"#;
        assert_eq!(requests(json).expect("a result"), (7.0, 2.5));
        assert!(requests(&json.replace("200", "403")).is_err());
        assert!(requests(&json.replace("\"errorDistribution\":{}", "\"errorDistribution\":{\"refused\":1}")).is_err());
    }
}
