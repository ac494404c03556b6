//! Tests that need root, and when they are skipped.

/// Whether this is CI (`CI=true`), where no test may be skipped.
pub fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}

/// Whether this process is root. If it is not, prints that `tests` (such as "the tests of the filter") are skipped.
///
/// # Panics
///
/// This process is not root, and this is CI.
pub fn is_root(tests: &str) -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    assert!(!is_ci(), "{tests} need root, and CI skips no test");
    eprintln!("SKIPPED: {tests}: they need root");
    false
}
