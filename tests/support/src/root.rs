//! Tests that need root: when they are skipped, and what they mount.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

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

/// A bpffs for one test; unmounted on drop.
#[derive(Debug)]
pub struct BpfFileSystem(TempDir);

impl BpfFileSystem {
    /// Mounts one.
    ///
    /// # Errors
    ///
    /// mount(8) fails.
    pub fn mount() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let mounted = Command::new("mount").args(["-t", "bpf", "bpf"]).arg(directory.path()).status();
        ensure!(mounted.context("starting mount")?.success(), "mount(8) could not mount a bpffs");
        Ok(Self(directory))
    }

    /// The mount point.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for BpfFileSystem {
    /// Fails the test if the file system stays mounted, unless the test has failed already.
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.path()).status().is_ok_and(|status| status.success());
        assert!(unmounted || std::thread::panicking(), "{} is still mounted", self.path().display());
    }
}
