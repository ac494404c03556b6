//! The end-to-end tests on each I/O backend.
//!
//! All of them run on the default backend and on epoll. The third backend, io_uring by tokio-uring, shares everything above the sockets with
//! the default, so it gets the tests of the sockets only.

use std::io;

use anyhow::{Result, bail, ensure};
use hookgate_testkit::gateway::IO_VARIABLE;
use hookgate_testkit::root::is_ci;
use io_uring::IoUring;

use super::programs::Program;
use super::step::Step;

/// Modules whose tests do not run on tokio-uring. They test decisions before a connection is accepted or after a request was read, and that
/// code is the same for every backend. All other modules run: those that open, fill, drain, time out, hand over or close a socket
/// (`handler`, `hostile`, `lifecycle`, `metrics`, `request::connection`, `request::limits`, `session`, `spread`, `tls`), and new ones.
const ABOVE_SOCKETS: [&str; 10] = [
    "command::",            // the command line, without connections
    "filter::",             // the configuration of the filter, and its absence
    "proof::",              // tokens, signatures, replay: decided on a request that was read whole
    "refusal::",            // the refusal of each wrong certificate
    "request::fields::",    // the fields that the handler gets
    "request::malformed::", // what hyper refuses
    "request::routing::",   // host, path and method
    "revocation::",         // revocation lists
    "rotation::",           // warnings of the control thread
    "watch::",              // files, watched by the control thread
];

/// The steps for every backend that this machine supports, epoll last.
///
/// # Errors
///
/// A module of [`ABOVE_SOCKETS`] has no test; or, in CI, a backend is unavailable.
pub(super) fn steps(program: &Program) -> Result<Vec<Step>> {
    let tests = program.tests()?;
    for module in ABOVE_SOCKETS {
        ensure!(
            tests.iter().any(|test| test.starts_with(module)),
            "no end-to-end test in {module}: correct {}",
            file!()
        );
    }
    // Each test has its own daemon and mostly waits for it.
    let threads = 4 * std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = format!("--test-threads={threads}");
    let on = |backend: &str, skipped: &[&str]| {
        let skips = skipped.iter().flat_map(|module| ["--skip", *module]);
        let arguments: Vec<&str> = [threads.as_str()].into_iter().chain(skips).collect();
        program.step().with(&arguments).variable(IO_VARIABLE, backend)
    };
    let mut deferring = IoUring::builder();
    deferring.setup_single_issuer().setup_defer_taskrun();
    let mut steps = Vec::new();
    if has_ring("io_uring_direct", deferring.build(2))? {
        steps.push(on("io_uring_direct", &[]));
    }
    if has_ring("io_uring", IoUring::new(2))? {
        steps.push(on("io_uring", &ABOVE_SOCKETS));
    }
    steps.push(on("epoll", &[]));
    Ok(steps)
}

/// Whether `backend` is available, according to the attempt to make such a ring.
fn has_ring(backend: &str, ring: io::Result<IoUring>) -> Result<bool> {
    let Err(error) = ring else { return Ok(true) };
    if is_ci() {
        bail!("{backend} is unavailable on this machine ({error}), and in CI its tests must not be skipped");
    }
    eprintln!("\n!!! SKIPPED: the end-to-end tests on {backend}, which is unavailable on this machine: {error}.");
    eprintln!("!!! See kernel.io_uring_disabled, and the container's seccomp filter.\n");
    Ok(false)
}
