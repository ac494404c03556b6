//! `hookgate-load`: all programs around the server under test, in one. `cargo xtask bench` starts it, pinned to the core that the
//! server does not use, and reads its results. Must not judge them.

mod connection;
mod cpu;
mod floor;
mod handler;
mod http;
mod load;
mod null_proxy;
mod poll;
mod protocol;
mod record;
mod tls;

use std::fs;
use std::io::{self, BufRead, Write};
use std::net::Ipv4Addr;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Parser;

use protocol::{Command, Identities, Reply};
use tls::Credentials;

/// The programs around a server under test.
#[derive(Parser)]
enum Part {
    /// Reads commands from standard input, one per line, and replies on standard output.
    Client {
        /// Certificates and keys: the JSON of `Identities`.
        #[arg(long)]
        identities: PathBuf,
        /// The address of the servers.
        #[arg(long, default_value_t = Ipv4Addr::LOCALHOST)]
        server: Ipv4Addr,
    },
    /// Answers every request on a Unix socket.
    Handler {
        /// The socket to listen on.
        #[arg(long)]
        socket: PathBuf,
    },
    /// Relays TCP connections to a Unix socket.
    NullProxy {
        /// The port on 127.0.0.1 to listen on.
        #[arg(long)]
        port: u16,
        /// The socket to relay to.
        #[arg(long)]
        socket: PathBuf,
    },
    /// Measures the crypto floor.
    Floor,
}

fn main() -> Result<()> {
    match Part::parse() {
        Part::Client { identities, server } => client(&identities, server),
        Part::Handler { socket } => handler::serve(&socket),
        Part::NullProxy { port, socket } => null_proxy::serve(port, &socket),
        Part::Floor => print(&floor::measure()?),
    }
}

fn client(identities: &Path, server: Ipv4Addr) -> Result<()> {
    // The default slack of 50 µs would delay every arrival of an open loop (prctl(2), PR_SET_TIMERSLACK).
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
    let text = fs::read(identities).with_context(|| format!("reading {}", identities.display()))?;
    let identities: Identities = serde_json::from_slice(&text)?;
    let credentials = Credentials::read(&identities)?;
    let mut held = None;
    for line in io::stdin().lock().lines() {
        let reply = obey(serde_json::from_str(&line?)?, server, &credentials, &mut held);
        print(&reply.unwrap_or_else(|error| Reply::Failed(format!("{error:#}"))))?;
    }
    Ok(())
}

fn obey(command: Command, server: Ipv4Addr, credentials: &Credentials, held: &mut Option<load::Held>) -> Result<Reply> {
    match command {
        Command::Run(load) => Ok(Reply::Measured(Box::new(load::run(&load, server, credentials)?))),
        Command::Hold(hold) => {
            *held = Some(load::hold((server, hold.port).into(), hold.connections, credentials)?);
            Ok(Reply::Holding(hold.connections))
        }
        Command::Release => Ok(Reply::Released(held.take().map_or(Ok(0), |mut held| held.still_open())?)),
    }
}

fn print(value: &impl serde::Serialize) -> Result<()> {
    let mut stdout = io::stdout().lock();
    serde_json::to_writer(&mut stdout, value)?;
    stdout.write_all(b"\n")?;
    Ok(stdout.flush()?)
}
