//! `hookgate filter status`.
//!
//! Owns the output. It asks the metrics endpoint or the admin side of the daemon what runs, which needs no privilege. The answer about an address
//! comes from the configuration and the files that it names, as they are now. Must not touch the kernel.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use super::filter;
use crate::config::{AdminAddress, Config, FilterSection};
use hookgate_filter::{Action, Explanation, Family, Mode, Policy};

/// The time-out of each system call on the connection to the daemon, which is on this host.
const PATIENCE: Duration = Duration::from_secs(2);
/// The bound on the answer: far more than the metrics of a thousand providers.
const MAXIMUM_METRICS_BYTES: u64 = 16 * 1024 * 1024;

/// Prints the filter that the configuration at `path` asks for, the metrics of the filter that runs, and whether a packet from
/// `address` passes, and by which range. The exit code is 1 if the configuration has errors.
pub fn status(path: &Path, address: Option<IpAddr>) -> ExitCode {
    let config = match Config::load(path) {
        Ok((config, _)) => config,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::FAILURE;
        }
    };
    let FilterSection { policy, .. } = &config.filter;
    let (tables, numbers) = match filter::tables(policy) {
        Ok(tables) => tables,
        Err(error) => {
            eprintln!("{}: [filter]: {error}", path.display());
            return ExitCode::FAILURE;
        }
    };
    println!("Configuration in {}:", path.display());
    configured(policy);
    match endpoint(&config) {
        None => println!("Running: unknown, because the configuration has neither [metrics] nor [admin] to ask."),
        Some(endpoint) => running(&endpoint),
    }
    if let Some(address) = address {
        let note = if policy.mode == Mode::Enforce { "" } else { ", if the mode were \"enforce\"" };
        println!("With the configured ranges{note}: {}", Explanation::new(address, &tables, &numbers));
    }
    ExitCode::SUCCESS
}

fn configured(policy: &Policy) {
    let mode = match policy.mode {
        Mode::Off => "off",
        Mode::Monitor => "monitor",
        Mode::Enforce => "enforce",
    };
    match policy.interfaces.as_slice() {
        [] => println!("  mode {mode}"),
        interfaces => println!("  mode {mode}, interfaces: {}", interfaces.join(", ")),
    }
    for set in &policy.sets {
        let action = if set.action == Action::Allow { "allow" } else { "deny" };
        let (ipv4, ipv6) = (set.count(Family::Ipv4), set.count(Family::Ipv6));
        println!("  {action} {}: {ipv4} IPv4 and {ipv6} IPv6 ranges", set.name);
    }
}

/// Where the daemon serves its metrics. The address of `[metrics]` need not be of this host; here it only says whom to ask.
fn endpoint(config: &Config) -> Option<AdminAddress> {
    let metrics = config.metrics.as_ref().map(|metrics| AdminAddress::Loopback(metrics.listen));
    metrics.or_else(|| config.admin.as_ref().map(|admin| admin.listen.clone()))
}

fn running(endpoint: &AdminAddress) {
    let metrics = match scrape(endpoint) {
        Ok(metrics) => metrics,
        Err(error) => {
            println!("Running: unknown, because /metrics at {endpoint} does not answer: {error}");
            return;
        }
    };
    println!("Running, according to /metrics at {endpoint}:");
    let lines: Vec<_> = metrics.lines().filter(|line| line.starts_with("hookgate_filter_")).collect();
    if !lines.iter().any(|line| line.starts_with("hookgate_filter_attached_info")) {
        println!("  no filter is attached");
    }
    lines.iter().for_each(|line| println!("  {line}"));
}

/// The metrics of the daemon at `endpoint`, by HTTP/1.0: the answer then ends with the connection and has no chunks.
fn scrape(endpoint: &AdminAddress) -> std::io::Result<String> {
    match endpoint {
        AdminAddress::Loopback(address) => {
            let stream = TcpStream::connect_timeout(address, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            ask(stream, &address.to_string())
        }
        AdminAddress::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            ask(stream, "localhost")
        }
    }
}

fn ask(mut stream: impl Read + Write, host: &str) -> std::io::Result<String> {
    stream.write_all(format!("GET /metrics HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.take(MAXIMUM_METRICS_BYTES).read_to_string(&mut answer)?;
    Ok(answer)
}
