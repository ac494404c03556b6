//! The pre-filter in a real kernel: by test runs of the program, and in network namespaces with traffic.
//!
//! Needs root. Elsewhere every test says that it is skipped and passes, unless `CI=true`, where it fails. Everything that is
//! made here (namespaces, links, mounts) has a name of its own and is removed again, also where a test fails.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod daemon;
mod kernel;
mod lifecycle;
mod namespaces;
mod network;
mod policies;
mod raw;
mod speed;

/// Whether a test can run: as root. Says so where it cannot.
pub(crate) fn is_root() -> bool {
    hookgate_testkit::root::is_root("the tests of the filter")
}
