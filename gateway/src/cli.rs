//! The command line.

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
    /// Serve until SIGTERM; SIGHUP loads the configuration again
    Run {
        /// The configuration file
        #[arg(long, short, default_value = "/etc/hookgate/hookgate.toml")]
        config: PathBuf,
    },
    /// Check the configuration and every file that it names; exit with 1 and all errors where there are any
    Check {
        /// The configuration file
        #[arg(long, short, default_value = "/etc/hookgate/hookgate.toml")]
        config: PathBuf,
    },
    /// List the providers that are known by name, or describe one
    Providers {
        /// Name of a preset, such as pagerduty
        name: Option<String>,
    },
    /// Ask about the pre-filter
    Filter {
        /// What to ask
        #[command(subcommand)]
        command: FilterCommand,
    },
}

/// What to ask about the pre-filter.
#[derive(Debug, Subcommand)]
pub enum FilterCommand {
    /// Say what is attached, its ranges and counters, and whether an address would pass, and by which range
    Status {
        /// An IPv4 or IPv6 address to look up
        address: Option<IpAddr>,
        /// The configuration file
        #[arg(long, short, default_value = "/etc/hookgate/hookgate.toml")]
        config: PathBuf,
    },
}
