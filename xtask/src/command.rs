//! Running other programs in the root of the workspace, and printing their command lines.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result, bail};

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

/// The target directory of Cargo.
pub(crate) fn target() -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Ok(std::path::absolute(target)?)
}

/// The path of the Cargo that runs this command, so that every step uses the same toolchain.
pub(crate) fn cargo_path() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// Cargo, with the environment that the user gave to this command.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(cargo_path());
    without_package(&mut command);
    command
}

/// Removes the variables with which `cargo run` describes the package of this command. Build scripts such as ring's read variables of the
/// same names, and Cargo would build their packages again after each run without them.
pub(crate) fn without_package(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_MANIFEST_", "CARGO_PKG_"].iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
}

/// Builds all tests and all programs, and each dependency once. With one package or one kind of target alone, Cargo would enable other
/// features of some dependencies, and build those again.
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
    run(cargo().args(arguments))
}

/// Prints the command and runs it in the root of the workspace.
///
/// # Errors
///
/// It cannot be started, or fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let (line, status) = status(command)?;
    if !status.success() {
        bail!("{line}: {status}");
    }
    Ok(())
}

/// As [`run`], for a command whose failure the caller judges. Returns the line that was printed, too.
///
/// # Errors
///
/// It cannot be started.
pub(crate) fn status(command: &mut Command) -> Result<(String, ExitStatus)> {
    let mut line = String::new();
    for (name, value) in command.get_envs().filter_map(|(name, value)| Some((name, value?))) {
        line += &format!("{}={} ", name.to_string_lossy(), value.to_string_lossy());
    }
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    line += &program.to_string_lossy();
    for argument in command.get_args() {
        line += &format!(" {}", argument.to_string_lossy());
    }
    eprintln!("$ {line}");
    let status = command.current_dir(root()).status().with_context(|| format!("starting {line}"))?;
    Ok((line, status))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Packages with their features, in the build of `packages`.
    fn features(packages: &[&str]) -> BTreeSet<String> {
        let mut tree = cargo();
        tree.args(["tree", "--locked", "--edges", "normal,build,dev", "--prefix", "none", "--format", "{p} {f}"]);
        let output = tree.args(packages).current_dir(root()).output().expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("names of packages");
        text.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).collect()
    }

    #[test]
    fn dependencies_of_xtask_have_the_features_that_the_workspace_enables() {
        let (own, all) = (features(&["--package", "xtask"]), features(&["--workspace"]));
        let compiled_twice: Vec<_> = own.difference(&all).collect();
        assert!(compiled_twice.is_empty(), "add what is missing here to xtask/Cargo.toml: {compiled_twice:#?}");
    }
}
