//! `cargo xtask test`: everything that must hold. Ends with the closing line of the last test binary, and prints nothing
//! after it.
//!
//! Every step is a plain Cargo command that a person can run alone. The end-to-end tests run thrice, since the daemon's
//! sockets have three backends: io_uring by its own reactor, io_uring by tokio-uring, and epoll.

use std::io;
use std::process::Command;

use anyhow::{Result, bail};
use hookgate_testkit::gateway::IO_VARIABLE;
use hookgate_testkit::root::is_ci;
use io_uring::IoUring;

use crate::command::{self, cargo};
use crate::count::Count;
use crate::{ebpf, flood, setup, units};

pub(crate) fn run() -> Result<()> {
    setup::install(&[setup::Task::Test])?;
    step(&["fmt", "--all", "--check"])?;
    step(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])?;
    step(&command::BUILD_FOR_TESTS)?;
    step(&["test", "--workspace", "--lib", "--bins", "--test", "allocations"])?;
    step(&["test", "--workspace", "--doc"])?;
    step(&["test", "--manifest-path", "gateway-ebpf/Cargo.toml", "--lib", "--features", "cases"])?;
    objects()?;
    units::check()?;
    Count::default().run()?;
    filter()?;
    system()?;
    let mut deferring = IoUring::builder();
    deferring.setup_single_issuer().setup_defer_taskrun();
    on_ring("io_uring_direct", deferring.build(2))?;
    on_ring("io_uring", IoUring::new(2))?;
    end_to_end("epoll")
}

/// The end-to-end tests on a backend that needs a ring such as this one.
fn on_ring(backend: &str, ring: io::Result<IoUring>) -> Result<()> {
    let Err(error) = ring else { return end_to_end(backend) };
    if is_ci() {
        bail!("this host makes no ring for {backend} ({error}), and in CI the tests on it must not be skipped");
    }
    eprintln!("\n!!! SKIPPED: the end-to-end tests on {backend}. This host makes no such ring: {error}.");
    eprintln!("!!! See kernel.io_uring_disabled, and the container's seccomp filter.\n");
    Ok(())
}

/// The committed eBPF objects, against their source. They were built once, by a toolchain that nothing else needs, so only CI
/// installs it. Where Debian has moved on to another compiler, other bytes would prove nothing.
fn objects() -> Result<()> {
    if is_ci()
        && setup::is_root()
        && !ebpf::can_check()
        && let Err(error) = ebpf::install()
    {
        // Whether a compiler can be had today says nothing about this source.
        eprintln!("\n!!! The toolchain of the eBPF objects cannot be installed: {error:#}");
    }
    if ebpf::can_check() {
        return ebpf::check();
    }
    eprintln!(
        "\n!!! SKIPPED: whether the committed eBPF objects are built from this source. Their toolchain is not here."
    );
    eprintln!("!!! See gateway-ebpf/object/toolchain.txt, and `cargo xtask ebpf --check --install`.\n");
    Ok(())
}

/// The filter in the kernel, and in network namespaces with traffic.
fn filter() -> Result<()> {
    if setup::is_root() {
        step(&["test", "--workspace", "--test", "filter"])?;
        return flood::smoke();
    }
    if is_ci() {
        bail!("the tests of the filter need root, and in CI they must not be skipped");
    }
    eprintln!(
        "\n!!! SKIPPED: the tests of the filter in the kernel. They need root: for XDP, and for network namespaces.\n"
    );
    Ok(())
}

/// The installed service on a real systemd, in containers.
fn system() -> Result<()> {
    if setup::is_root() {
        return step(&["test", "--workspace", "--test", "system"]);
    }
    if is_ci() {
        bail!("the tests of the service need root, and in CI they must not be skipped");
    }
    eprintln!("\n!!! SKIPPED: the tests of the installed service. They need root: to boot a container with systemd.\n");
    Ok(())
}

fn step(arguments: &[&str]) -> Result<()> {
    command::run(Command::new(cargo()).args(arguments))
}

fn end_to_end(backend: &str) -> Result<()> {
    let mut command = Command::new(cargo());
    command.env(IO_VARIABLE, backend).args(["test", "--workspace", "--test", "e2e"]);
    // Each test has its own daemon and mostly waits for it.
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    command.args(["--", &format!("--test-threads={}", 4 * cores)]);
    command::run(&mut command)
}
