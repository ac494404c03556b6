//! `cargo xtask miri`: the operation table of the reactor under Miri, an interpreter that finds undefined behaviour.
//!
//! Owns the choice of tests: those that enter the kernel for nothing but a socket pair. Miri knows no io_uring, so the tests stand in for
//! the kernel, and write to the buffers that it was lent. No part of `cargo xtask test`: the first run compiles a standard library.

use anyhow::{Result, ensure};

use crate::{command, nightly};

/// What this command needs, and how to get it.
const NEEDED: &str = "Miri is missing; install it, then run this again:\n  \
     rustup toolchain install nightly --component miri,rust-src";

/// The tests that run under Miri.
const TESTS: &str = "ring::reactor::operation::";

/// Runs the tests.
///
/// # Errors
///
/// Miri is missing, or finds something.
pub(crate) fn run() -> Result<()> {
    ensure!(nightly::has_miri(), NEEDED);
    let mut miri = nightly::cargo();
    // An SQE holds an address as a number, and the tests that stand in for the kernel make a pointer of it.
    miri.env("MIRIFLAGS", "-Zmiri-permissive-provenance");
    miri.args(["miri", "test", "--package", "hookgate-io", "--lib", "--", TESTS]);
    command::run(&mut miri)
}
