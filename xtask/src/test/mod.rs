//! `cargo xtask test`: everything that must hold. Ends with the closing line of the last test binary, and prints nothing
//! after it.
//!
//! Everything is built once. Then what only computes (lints, instruction counts, …) runs beside the tests that have time-outs, and
//! takes the time in which those wait. Every step is a plain command that a person can run alone, and is shown as such.

mod end_to_end;
mod lanes;
mod programs;
mod step;

use anyhow::{Result, bail, ensure};
use hookgate_testkit::root::is_ci;

use crate::command::{self, cargo_path};
use crate::{rooms, setup};
use programs::{Program, xtask};
use step::Step;

/// The format of every file.
pub(crate) const FORMAT: [&str; 3] = ["fmt", "--all", "--check"];

/// clippy on everything, warnings included.
pub(crate) const LINTS: [&str; 6] = ["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"];

/// The unit tests of the crate that the filter shares with the daemon, which is no member of the workspace.
pub(crate) const FILTER_UNIT_TESTS: [&str; 6] =
    ["test", "--manifest-path", "gateway-ebpf/Cargo.toml", "--lib", "--features", "cases"];

/// Test targets that [`waiting`] has places for; all others run first.
const NAMED: [&str; 3] = ["filter", "system", "e2e"];

/// Runs everything.
///
/// # Errors
///
/// Something is missing and cannot be installed, or a step fails.
pub(crate) fn run() -> Result<()> {
    setup::install(&[setup::Task::Test])?;
    command::step(&FORMAT)?;
    rooms::check()?;
    licences()?;
    let programs = programs::build()?;
    lanes::run(computing()?, waiting(&programs)?)
}

/// The licences, sources and versions of the dependencies, against deny.toml.
fn licences() -> Result<()> {
    if command::is_installed("cargo-deny") {
        return command::step(&["deny", "check", "licenses", "bans", "sources"]);
    }
    eprintln!("\n!!! SKIPPED: the licences of the dependencies. cargo-deny is not installed.\n");
    Ok(())
}

/// What only computes, so that a busy machine makes it slower but not wrong.
fn computing() -> Result<Vec<Step>> {
    let cargo_step = |arguments: &[&str]| {
        Step::new(format!("cargo {}", arguments.join(" ")), &cargo_path(), arguments.iter().copied())
    };
    Ok(vec![
        cargo_step(&LINTS),
        cargo_step(&FILTER_UNIT_TESTS),
        cargo_step(&["test", "--workspace", "--doc"]),
        xtask(&["units"])?,
        xtask(&["count"])?,
        xtask(&["ebpf", "--check", "--if-possible"])?,
    ])
}

/// Tests that wait for other processes, and fail if they wait for too long.
fn waiting(programs: &[Program]) -> Result<Vec<Step>> {
    let named = |name: &str| programs.iter().find(|program| program.is_test(name));
    let others = programs.iter().filter(|program| !NAMED.iter().any(|name| program.is_test(name)));
    let mut steps: Vec<Step> = others.map(Program::step).collect();
    let [Some(filter), Some(system), Some(end_to_end)] = NAMED.map(named) else {
        bail!("a test target is missing: there should be {}", NAMED.join(", "));
    };
    if may_run_as_root("the tests of the filter in the kernel, for XDP and network namespaces,")? {
        let built = command::target()?.join("debug").display().to_string();
        steps.extend([filter.step(), xtask(&["flood", "--smoke", "--binaries", &built])?]);
    }
    if may_run_as_root("the tests of the installed service, to boot a container with systemd,")? {
        steps.push(system.step());
    }
    steps.extend(end_to_end::steps(end_to_end)?);
    Ok(steps)
}

/// Whether tests that need root can run.
fn may_run_as_root(tests: &str) -> Result<bool> {
    if setup::is_root() {
        return Ok(true);
    }
    ensure!(!is_ci(), "{tests} need root, and in CI they must not be skipped");
    eprintln!("\n!!! SKIPPED: {tests} need root.\n");
    Ok(false)
}
