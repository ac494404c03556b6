//! `cargo xtask test`: checks everything. Ends with the closing line of the last test binary, and prints nothing after it.
//!
//! Builds everything once. Then steps that only compute (lints, instruction counts, …) run beside the tests that have time-outs, and use the
//! CPU time while those wait. Every step is shown as a plain command that reproduces it.

mod end_to_end;
mod lanes;
mod programs;
mod step;

use anyhow::{Result, bail, ensure};
use hookgate_testkit::root::is_ci;

use crate::command::{self, cargo_path};
use crate::{docs, licences, promises, rooms, setup};
use programs::{Program, xtask};
use step::Step;

/// The format of every file.
pub(crate) const FORMAT: [&str; 3] = ["fmt", "--all", "--check"];

/// clippy on everything, warnings included.
pub(crate) const LINTS: [&str; 6] = ["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"];

/// The daemon on ring alone, which no other step compiles.
const RING_ALONE: [&str; 4] = ["check", "--package", "hookgate", "--no-default-features"];

/// The unit tests of gateway-ebpf, which is not a member of the workspace.
pub(crate) const FILTER_UNIT_TESTS: [&str; 6] =
    ["test", "--manifest-path", "gateway-ebpf/Cargo.toml", "--lib", "--features", "cases"];

/// Test targets with a place of their own in [`waiting`]. All others run first.
const NAMED: [&str; 3] = ["filter", "system", "e2e"];

/// Test targets that only compute: the corpora of the fuzz targets, and the interleavings of threads.
const COMPUTING: [&str; 2] = ["corpora", "models"];

/// Runs everything.
///
/// # Errors
///
/// Something is missing and cannot be installed, or a step fails.
pub(crate) fn run() -> Result<()> {
    setup::install(&[setup::Task::Test])?;
    command::step(&FORMAT)?;
    rooms::check()?;
    promises::check()?;
    docs::check()?;
    licences::check()?;
    licences::check_advisories()?;
    let programs = programs::build()?;
    lanes::run(computing(&programs)?, waiting(&programs)?)
}

/// Steps that only compute: a busy machine makes them slower, but cannot make them fail.
fn computing(programs: &[Program]) -> Result<Vec<Step>> {
    let cargo_step = |arguments: &[&str]| {
        Step::new(format!("cargo {}", arguments.join(" ")), &cargo_path(), arguments.iter().copied())
    };
    let mut steps = vec![
        cargo_step(&LINTS),
        cargo_step(&RING_ALONE),
        cargo_step(&FILTER_UNIT_TESTS),
        cargo_step(&["test", "--workspace", "--doc"]),
        xtask(&["units"])?,
        xtask(&["kubernetes"])?,
        xtask(&["count"])?,
        xtask(&["ebpf", "--check", "--if-possible"])?,
    ];
    let own: Vec<_> = programs.iter().filter(|program| is_one_of(program, &COMPUTING)).map(Program::step).collect();
    ensure!(own.len() == COMPUTING.len(), "a test target is missing; {} are expected", COMPUTING.join(", "));
    steps.extend(own);
    Ok(steps)
}

fn is_one_of(program: &Program, names: &[&str]) -> bool {
    names.iter().any(|name| program.is_test(name))
}

/// Tests that wait for other processes, and fail if they wait too long.
fn waiting(programs: &[Program]) -> Result<Vec<Step>> {
    let named = |name: &str| programs.iter().find(|program| program.is_test(name));
    let others = programs.iter().filter(|program| !is_one_of(program, &[&NAMED[..], &COMPUTING].concat()));
    let mut steps: Vec<Step> = others.map(Program::step).collect();
    let built = command::target()?.join("debug").display().to_string();
    // Not a build of its own: it would wait for the lints, and replace the daemon under the tests.
    steps.push(xtask(&["demo", "--binary", &format!("{built}/hookgate")])?);
    let [Some(filter), Some(system), Some(end_to_end)] = NAMED.map(named) else {
        bail!("a test target is missing; {} are expected", NAMED.join(", "));
    };
    if may_run_as_root("the tests of the pre-filter (XDP, network namespaces)")? {
        steps.extend([filter.step(), xtask(&["flood", "--smoke", "--binaries", &built])?]);
    }
    if may_run_as_root("the tests of the installed service (containers with systemd)")? {
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
