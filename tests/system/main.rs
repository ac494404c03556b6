//! The installed service on a real systemd: the package of the binary under test, in a container with a Debian of its own.
//!
//! Needs root, mmdebstrap and systemd-nspawn. Elsewhere every test says that it is skipped and passes, unless `CI=true`, where it
//! fails. Every test boots a container, and knows of hookgate what an operator knows. Everything that is made here (container,
//! mounts, control group) goes with its test, also where that fails; the root file system below `target/system` is kept for the next
//! run.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod artifacts;
mod container;
mod environment;
mod fault;
mod lifecycle;
mod load;
mod reload;
mod restart;

/// Whether a test can run: as root. Says so where it cannot.
pub(crate) fn is_root() -> bool {
    hookgate_testkit::root::is_root("the tests of the service")
}
