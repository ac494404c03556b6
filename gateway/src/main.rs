//! The `hookgate` command: each subcommand is one call.

use std::process::ExitCode;

use clap::Parser;
use hookgate::cli::{Cli, Command, FilterCommand};
use hookgate::control;

/// A handshake makes and drops hundreds of small blocks. With glibc's allocator, they cost a quarter of the instructions that are no
/// cryptography.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

// The build of every test has the feature; what is installed must not.
const _: () =
    assert!(!hookgate_core::IS_FOR_TESTS || cfg!(debug_assertions), "hookgate-core has the feature `testing`");

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run { config } => control::run::run(&config),
        Command::Check { config } => control::check::check(&config),
        Command::Providers { name } => control::providers::providers(name.as_deref()),
        Command::Filter { command: FilterCommand::Status { address, config } } => {
            control::filter_status::status(&config, address)
        }
    }
}
