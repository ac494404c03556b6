//! The project's own commands, one file each. Must not hold any of their logic.

mod ebpf;

use clap::Parser;

/// `cargo xtask …`
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
enum Xtask {
    /// Build the eBPF objects, or check that the committed ones are built from this source
    Ebpf(ebpf::Arguments),
}

fn main() -> anyhow::Result<()> {
    match Xtask::parse() {
        Xtask::Ebpf(arguments) => ebpf::run(&arguments),
    }
}
