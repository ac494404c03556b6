//! Mounts for tests that need root: a bpffs, and a daemon that sees a directory at another path.
//!
//! Owns the mounts, which end with the test or with the daemon.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::gateway::GatewayOptions;

const SCRIPT: &str = r#"#!/bin/sh
[ -z "$IS_JOURNAL" ] || export JOURNAL_STREAM="$(stat --dereference --format=%d:%i /proc/self/fd/2)"
exec unshare --mount sh -c '
  [ -d "$AT" ] || { mount -t tmpfs tmpfs /run && mkdir -p "$AT"; } || exit
  mount --bind "$MOUNTED" "$AT" && exec "$GATEWAY" "$@"' sh "$@"
"#;

/// Options that start `binary` in a mount namespace of its own, with `directory` mounted at `at`, which must exist or be below
/// `/run`. If `is_journal`, the daemon is told that its standard error is the journal. Writes a script to `scripts`.
///
/// # Errors
///
/// The script cannot be written.
pub fn with_mount(
    binary: &str,
    scripts: &Path,
    directory: &Path,
    at: &str,
    is_journal: bool,
) -> Result<GatewayOptions> {
    let script = scripts.join("with-mount");
    fs::write(&script, SCRIPT)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700))?;
    let mut options = GatewayOptions::new(script);
    options.environment = vec![
        ("MOUNTED".into(), directory.into()),
        ("AT".into(), at.into()),
        ("GATEWAY".into(), binary.into()),
        ("IS_JOURNAL".into(), if is_journal { "yes" } else { "" }.into()),
    ];
    Ok(options)
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
