//! The command line.

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
}
