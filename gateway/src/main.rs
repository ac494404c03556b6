//! The `hookgate` command. Owns the choice of the allocator; each subcommand is one call into the library, and nothing else belongs here.

use std::process::ExitCode;

use clap::Parser;
use hookgate::cli::{Cli, Command, FilterCommand, TrustCommand};
use hookgate::{client, control, init};

/// A handshake allocates and frees hundreds of small blocks. With glibc's allocator, they take a quarter of all instructions outside of
/// cryptography.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

// Test builds have the feature. A release build must not.
const _: () =
    assert!(!hookgate_core::IS_FOR_TESTS || cfg!(debug_assertions), "hookgate-core has the feature `testing`");

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run { config, log } => control::run::run(&config, log.as_deref()),
        Command::Init(arguments) => init::init(&arguments),
        Command::Check { config, against, user } => control::check::check(&config, against.as_deref(), user.as_deref()),
        Command::Fetch { config } => control::fetch::fetch(&config),
        Command::Providers { name, json, config } => control::providers::providers(&config, name.as_deref(), json),
        Command::Probe(arguments) => client::probe(&arguments),
        Command::Send(arguments) => client::send(&arguments),
        Command::Explain(options) => control::explain::explain(&options),
        Command::Trust { command: TrustCommand::Pending { config } } => control::trust::pending(&config),
        Command::Trust { command: TrustCommand::Show { number, anchor, config } } => {
            control::trust::show(&config, number, anchor)
        }
        Command::Deliveries { command } => control::stored::deliveries(&command),
        Command::Filter { command: FilterCommand::Status { address, config } } => {
            control::filter_status::status(&config, address)
        }
    }
}
