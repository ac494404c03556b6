//! Running other programs from the root of the workspace, visibly.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

/// Where Cargo puts what it builds.
pub(crate) fn target() -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Ok(std::path::absolute(target)?)
}

/// The Cargo that runs this command, so that every step uses the same toolchain.
pub(crate) fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// Builds all tests and all programs, each dependency once: with one package or kind of target alone, Cargo would choose other
/// features for some, and build those again.
pub(crate) const BUILD_FOR_TESTS: [&str; 4] = ["build", "--workspace", "--tests", "--bins"];

/// Whether `program` is in a directory of `PATH`. Starts no process.
pub(crate) fn is_installed(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|directory| directory.join(program).is_file()))
}

/// Runs Cargo with these arguments, as [`run`].
///
/// # Errors
///
/// It fails.
pub(crate) fn step(arguments: &[&str]) -> Result<()> {
    run(Command::new(cargo()).args(arguments))
}

/// Prints the command and runs it in the root of the workspace.
///
/// # Errors
///
/// It cannot be started, or fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let mut line = String::new();
    for (name, value) in command.get_envs() {
        line += &format!("{}={} ", name.to_string_lossy(), value.unwrap_or_default().to_string_lossy());
    }
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    line += &program.to_string_lossy();
    for argument in command.get_args() {
        line += &format!(" {}", argument.to_string_lossy());
    }
    eprintln!("$ {line}");
    let status = command.current_dir(root()).status().with_context(|| format!("starting {line}"))?;
    if !status.success() {
        bail!("{line}: {status}");
    }
    Ok(())
}
