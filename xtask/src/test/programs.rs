//! The test programs, built by one command.
//!
//! With one package or one kind of target alone, Cargo would enable other features of some dependencies and build those again. So one
//! command builds everything, and its programs are run without Cargo.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::step::Step;
use crate::command::{self, BUILD_FOR_TESTS, cargo, root};

/// A compiled test program.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Program {
    path: PathBuf,
    /// The manifest of its package.
    manifest: PathBuf,
    kind: Kind,
    /// The name of its target.
    name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Library,
    Binary,
    Test,
}

/// A line of `cargo build --message-format=json`.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
    name: String,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Builds all tests and all programs of the workspace.
///
/// # Errors
///
/// The build fails; the compiler has printed why.
pub(super) fn build() -> Result<Vec<Program>> {
    let mut build = cargo();
    build.args(BUILD_FOR_TESTS).arg("--message-format=json-render-diagnostics").current_dir(root());
    eprintln!("$ cargo {}", BUILD_FOR_TESTS.join(" "));
    let mut child = build.stdout(Stdio::piped()).spawn().context("starting cargo")?;
    let output = child.stdout.take().context("it was started with a pipe")?;
    let mut programs = Vec::new();
    for line in BufReader::new(output).lines() {
        programs.extend(program(&line?)?);
    }
    let status = child.wait()?;
    ensure!(status.success(), "cargo {}: {status}", BUILD_FOR_TESTS.join(" "));
    programs.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(programs)
}

/// The test program in a message of Cargo, if there is one.
fn program(line: &str) -> Result<Option<Program>> {
    let message: Message = serde_json::from_str(line).with_context(|| format!("cargo printed {line}"))?;
    let (Some(path), Some(manifest), Some(target)) = (message.executable, message.manifest_path, message.target) else {
        return Ok(None);
    };
    if !message.profile.is_some_and(|profile| profile.test) {
        return Ok(None);
    }
    let kind = match target.kind.first().map(String::as_str) {
        Some("test") => Kind::Test,
        Some("bin") => Kind::Binary,
        _ => Kind::Library,
    };
    Ok(Some(Program { path, manifest, kind, name: target.name }))
}

impl Program {
    /// Whether it is the test target `name`.
    pub(super) fn is_test(&self, name: &str) -> bool {
        self.kind == Kind::Test && self.name == name
    }

    /// The step that runs it like `cargo test`.
    pub(super) fn step(&self) -> Step {
        let package = self.manifest.parent().unwrap_or(root());
        let shown = match self.kind {
            Kind::Test => format!("cargo test --workspace --test {}", self.name),
            Kind::Binary => format!("cargo test --workspace --bin {}", self.name),
            Kind::Library => {
                let manifest = self.manifest.strip_prefix(root()).unwrap_or(&self.manifest);
                format!("cargo test --manifest-path {} --lib", manifest.display())
            }
        };
        Step::new(shown, &self.path, []).directory(package)
    }

    /// The names of its tests.
    ///
    /// # Errors
    ///
    /// The program fails.
    pub(super) fn tests(&self) -> Result<Vec<String>> {
        let output =
            Command::new(&self.path).arg("--list").output().with_context(|| self.path.display().to_string())?;
        ensure!(output.status.success(), "{} --list: {}", self.path.display(), output.status);
        let text = String::from_utf8(output.stdout)?;
        Ok(text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
    }
}

/// The step that runs a command of xtask in another process, so that its output is separate.
///
/// # Errors
///
/// The current directory does not exist.
pub(super) fn xtask(arguments: &[&str]) -> Result<Step> {
    let shown = format!("cargo xtask {}", arguments.join(" "));
    Ok(Step::new(shown, &command::target()?.join("debug/xtask"), arguments.iter().copied()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tests_among_the_messages_count() {
        let message = |executable: &str, test: bool| {
            format!(
                "{{\"reason\":\"compiler-artifact\",\"manifest_path\":\"/r/gateway/Cargo.toml\",\"executable\":{executable},\
                 \"target\":{{\"kind\":[\"test\"],\"name\":\"e2e\"}},\"profile\":{{\"test\":{test}}}}}"
            )
        };
        let read = |line: &str| program(line).expect("it is JSON");
        let found = read(&message("\"/r/target/debug/deps/e2e-1\"", true)).expect("these are tests");
        assert!(found.is_test("e2e") && !found.is_test("filter"));
        assert_eq!(found.step().shown, "cargo test --workspace --test e2e");
        assert_eq!(read(&message("\"/r/target/debug/hookgate\"", false)), None);
        assert_eq!(read(&message("null", true)), None);
        assert_eq!(read("{\"reason\":\"build-finished\",\"success\":true}"), None);
        assert!(program("no JSON").is_err());
    }
}
