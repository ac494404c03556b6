//! The installed service on a real systemd: the package of the binary under test, in a container with Debian.
//!
//! Needs root, mmdebstrap and systemd-nspawn. Without root every test prints that it is skipped, and passes; with `CI=true` it
//! fails. Every test boots a container, and must use nothing of hookgate but what an operator has. The tests remove all that they
//! make (container, mounts, control group), even if they fail; the root file system below `target/system` is kept for the next run.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod artifacts;
mod container;
mod durable;
mod environment;
mod fault;
mod image;
mod lifecycle;
mod load;
mod reload;
mod restart;

/// Whether this process is root, which these tests need. Prints that they are skipped if it is not.
pub(crate) fn is_root() -> bool {
    hookgate_testkit::root::is_root("the tests of the service")
}
