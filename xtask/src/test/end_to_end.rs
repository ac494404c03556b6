//! The end-to-end tests, once for each way in which the daemon does I/O.
//!
//! All of them run on the default backend and on epoll. The third, io_uring by tokio-uring, differs from the default only below
//! the socket, so it gets the tests of what happens to sockets.

use std::io;

use anyhow::{Result, bail, ensure};
use hookgate_testkit::gateway::IO_VARIABLE;
use hookgate_testkit::root::is_ci;
use io_uring::IoUring;

use super::programs::Program;
use super::step::Step;

/// Modules whose tests do not run on tokio-uring: what they test is decided before a connection is accepted or after a request has
/// been read, by code that is the same for every backend. Everything else runs: whatever opens, fills, empties, times, hands over or
/// ends a socket (`handler`, `hostile`, `lifecycle`, `metrics`, `request::connection`, `request::limits`, `session`, `spread`,
/// `tls`), and every module that is new.
const ABOVE_SOCKETS: [&str; 10] = [
    "command::",            // the command line, without connections
    "filter::",             // the configuration of the filter, and its absence
    "proof::",              // tokens, signatures, replay: decided on a request that was read whole
    "refusal::",            // certificates, and the answer to each
    "request::fields::",    // what the handler is told
    "request::malformed::", // what hyper refuses
    "request::routing::",   // host, path and method
    "revocation::",         // revocation lists
    "rotation::",           // warnings of the control thread
    "watch::",              // files, watched by the control thread
];

/// The tests on every backend of which this machine makes a ring, epoll last.
///
/// # Errors
///
/// In CI, if this machine makes no ring; or if a module of [`ABOVE_SOCKETS`] has no test.
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

/// Whether the kernel makes the ring that `backend` needs.
fn has_ring(backend: &str, ring: io::Result<IoUring>) -> Result<bool> {
    let Err(error) = ring else { return Ok(true) };
    if is_ci() {
        bail!("this host makes no ring for {backend} ({error}), and in CI the tests on it must not be skipped");
    }
    eprintln!("\n!!! SKIPPED: the end-to-end tests on {backend}. This host makes no such ring: {error}.");
    eprintln!("!!! See kernel.io_uring_disabled, and the container's seccomp filter.\n");
    Ok(false)
}
