//! The command line: subcommands, their arguments, and the texts of `--help`, from which the manual page hookgate(8) is made too.
//!
//! Must not do anything: `main.rs` calls what a subcommand names.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Receives webhooks over mutual TLS, verifies who sent them, and hands them to local handlers over Unix sockets.
#[derive(Debug, Parser)]
#[command(name = "hookgate", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve until SIGTERM or SIGINT. SIGHUP reloads the configuration
    Run {
        /// The configuration file
        #[arg(long, short, default_value = "/etc/hookgate/hookgate.toml")]
        config: PathBuf,
        /// What is logged: off, error, warn, info, debug or trace, or a list with levels of modules, such as info,hookgate::tls=debug.
        /// Replaces HOOKGATE_LOG, which replaces level in [log]; without any of them, it is info
        #[arg(long, value_name = "LEVEL")]
        log: Option<String>,
    },
    /// Check the configuration and every file that it names. If there are errors, print them all and exit with status 1
    Check {
        /// The configuration file
        #[arg(long, short, default_value = "/etc/hookgate/hookgate.toml")]
        config: PathBuf,
        /// The configuration in force, as a file in the same directory. Print what a reload would change, and exit with status 1 if it
        /// would be refused because it demands less
        #[arg(long)]
        against: Option<PathBuf>,
    },
    /// Fetch once what the configuration names by URL (ranges, token keys), and print what came. Nothing is kept. If a source fails, exit
    /// with status 1
    Fetch {
        /// The configuration file
        #[arg(long, short, default_value = "/etc/hookgate/hookgate.toml")]
        config: PathBuf,
    },
    /// List the presets for providers with version and origin, or describe one
    Providers {
        /// Name of a preset, such as pagerduty
        name: Option<String>,
        /// Print the list as JSON
        #[arg(long, conflicts_with = "name")]
        json: bool,
        /// The configuration file, of which only [presets] is read. It need not exist
        #[arg(long, short, default_value = "/etc/hookgate/hookgate.toml")]
        config: PathBuf,
    },
    /// Inspect refused chains that may be genuine, because a sender changed its authority. Trusts nothing
    Trust {
        /// What to show
        #[command(subcommand)]
        command: TrustCommand,
    },
    /// Inspect the pre-filter, which drops packets from addresses that no provider uses
    Filter {
        /// What to show
        #[command(subcommand)]
        command: FilterCommand,
    },
}

/// What to show of the refused chains.
#[derive(Debug, Subcommand)]
pub enum TrustCommand {
    /// List the chains in the state directory
    Pending {
        /// The configuration file
        #[arg(long, short, default_value = "/etc/hookgate/hookgate.toml")]
        config: PathBuf,
    },
    /// Show a chain as PEM, what to compare, and what to write to admit it
    Show {
        /// Its number in the list
        number: usize,
        /// Print its new trust anchor alone
        #[arg(long)]
        anchor: bool,
        /// The configuration file
        #[arg(long, short, default_value = "/etc/hookgate/hookgate.toml")]
        config: PathBuf,
    },
}

/// What to show of the pre-filter.
#[derive(Debug, Subcommand)]
pub enum FilterCommand {
    /// Show what is attached, its ranges and counters, and whether an address passes and by which range
    Status {
        /// An IPv4 or IPv6 address to look up
        address: Option<IpAddr>,
        /// The configuration file
        #[arg(long, short, default_value = "/etc/hookgate/hookgate.toml")]
        config: PathBuf,
    },
}
