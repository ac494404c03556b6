//! The nightly compiler, for commands that need one: `fuzz` and `miri`.

use std::process::{Command, Stdio};

use crate::command;

/// Whether rustup has a nightly toolchain.
pub(crate) fn is_installed() -> bool {
    succeeds(&["cargo", "--version"])
}

/// Whether rustup's nightly toolchain has Miri and the source of the standard library, which Miri compiles.
pub(crate) fn has_miri() -> bool {
    succeeds(&["cargo", "miri", "--version"]) && has_source()
}

fn has_source() -> bool {
    let mut rustc = Command::new("rustup");
    rustc.args(["run", "nightly", "rustc", "--print", "sysroot"]);
    rustc.output().is_ok_and(|output| {
        let sysroot = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        std::path::Path::new(&sysroot).join("lib/rustlib/src/rust/library").is_dir()
    })
}

/// The nightly Cargo, with the environment that the user gave to this command.
pub(crate) fn cargo() -> Command {
    let mut command = rustup();
    command.arg("cargo");
    command
}

fn rustup() -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly"]);
    command::without_package(&mut command);
    // `cargo run` names the toolchain of this command in these.
    for name in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(name);
    }
    command
}

fn succeeds(arguments: &[&str]) -> bool {
    let mut command = rustup();
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
