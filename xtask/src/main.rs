//! The project's own commands, run as `cargo xtask COMMAND`. One file per command; this one lists them.

mod bench;
mod check;
#[path = "../../gateway/src/cli.rs"]
#[expect(unreachable_pub, reason = "the gateway's command line, here only for its description")]
mod cli;
mod command;
mod count;
mod demo;
mod dist;
mod docs;
mod ebpf;
mod flood;
mod fuzz;
mod kubernetes;
mod licences;
mod miri;
mod mutants;
mod nightly;
mod promises;
mod rooms;
mod setup;
mod soak;
mod test;
mod units;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Commands for developers of hookgate.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Commands,
}

#[derive(Subcommand)]
enum Commands {
    /// Show the gateway at work, with real clients and throwaway certificates.
    Demo(demo::Demo),
    /// Compare the gateway with nginx, HAProxy, Caddy and Envoy.
    Bench(bench::Bench),
    /// Measure the effect of a SYN flood, with and without the pre-filter (as root).
    Flood(flood::Flood),
    /// Compare the instructions of the micro-benchmarks with the committed baseline.
    Count(count::Count),
    /// Install the programs and libraries that the other commands need, or print what to install.
    Setup(setup::Setup),
    /// Build the eBPF objects, or check that the committed ones are built from this source.
    Ebpf(ebpf::Arguments),
    /// Run libFuzzer on the code that judges a stranger's input (needs a nightly compiler).
    Fuzz(fuzz::Fuzz),
    /// Run the tests of buffers that the kernel uses under Miri (needs a nightly compiler).
    Miri,
    /// Change the code that decides, and look whether a test notices (half an hour).
    Mutants(mutants::Mutants),
    /// Check which module of the daemon names which, against the tables of ARCHITECTURE.md.
    Rooms(rooms::Rooms),
    /// Run attacks, faults, reloads and load together on the real binary, for minutes or hours.
    Soak(soak::Soak),
    /// Build the Debian package and the tarball.
    Dist(dist::Arguments),
    /// Build the documentation as a book, and check its links.
    Docs(docs::Docs),
    /// Check the systemd units: every line, and how exposed the service is.
    Units,
    /// Check the manifests for Kubernetes: every key against its schemas, and that they fit each other.
    Kubernetes,
    /// Check format, lints, rooms, promises and unit tests: quick, without root, and installs nothing.
    Check,
    /// Check everything, as CI does: also licences, instruction counts, units, and the tests on io_uring and epoll.
    #[command(visible_alias = "ci")]
    Test,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Commands::Demo(demo) => demo.run(),
        Commands::Bench(bench) => bench.run(),
        Commands::Flood(flood) => flood.run(),
        Commands::Count(count) => count.run(),
        Commands::Fuzz(fuzz) => fuzz.run(),
        Commands::Miri => miri::run(),
        Commands::Mutants(mutants) => mutants.run(),
        Commands::Ebpf(arguments) => ebpf::run(&arguments),
        Commands::Dist(arguments) => dist::run(&arguments),
        Commands::Docs(docs) => docs.run(),
        Commands::Rooms(rooms) => rooms.run(),
        Commands::Setup(setup) => setup.run(),
        Commands::Soak(soak) => soak.run(),
        Commands::Units => units::check(),
        Commands::Kubernetes => kubernetes::check(),
        Commands::Test => test::run(),
        Commands::Check => check::run(),
    };
    // Not returned from main, which would print a backtrace: these errors concern the machine, not this program.
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
