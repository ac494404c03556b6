//! The pre-filter in a real kernel: test runs of the program, and traffic in network namespaces.
//!
//! Needs root. Without root every test prints that it is skipped, and passes; with `CI=true` it fails. All that the tests make
//! (namespaces, links, mounts) has a unique name. They must remove it, even if they fail.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod daemon;
mod interfaces;
mod kernel;
mod lifecycle;
mod namespaces;
mod network;
mod policies;
mod published;
mod raw;
mod speed;

/// Whether this process is root, which these tests need. Prints that they are skipped if it is not.
pub(crate) fn is_root() -> bool {
    hookgate_testkit::root::is_root("the tests of the filter")
}
