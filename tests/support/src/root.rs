//! Tests that only root can run: whether they may be skipped, and what they mount.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// Whether this is CI (`CI=true`), where nothing that must hold may be skipped.
pub fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}

/// Whether this process is root. Where it is not, says that `tests` (such as "the tests of the filter") are skipped.
///
/// # Panics
///
/// In CI, where they must not be.
pub fn is_root(tests: &str) -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    assert!(!is_ci(), "{tests}: not skipped in CI, and they need root");
    eprintln!("SKIPPED: {tests}; they need root");
    false
}

/// A bpffs of a test's own; it ends with it.
#[derive(Debug)]
pub struct BpfFileSystem(TempDir);

impl BpfFileSystem {
    /// Mounts one.
    ///
    /// # Errors
    ///
    /// mount(8) does not.
    pub fn mount() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let mounted = Command::new("mount").args(["-t", "bpf", "bpf"]).arg(directory.path()).status();
        ensure!(mounted.context("starting mount")?.success(), "no bpffs can be mounted");
        Ok(Self(directory))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for BpfFileSystem {
    /// Fails the test where the mount stays behind, unless it has failed already.
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.path()).status().is_ok_and(|status| status.success());
        assert!(unmounted || std::thread::panicking(), "{} is still mounted", self.path().display());
    }
}
