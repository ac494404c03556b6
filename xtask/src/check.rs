//! `cargo xtask check`: what a change must pass before it is worth a whole test run. No root, and nothing is installed.

use anyhow::Result;

use crate::command::step;
use crate::{rooms, setup, test};

/// Checks format, rooms, lints and unit tests, the fastest first.
///
/// # Errors
///
/// The first check that fails, or what is missing on this machine.
pub(crate) fn run() -> Result<()> {
    setup::require(setup::Task::Check)?;
    step(&test::FORMAT)?;
    rooms::check()?;
    step(&test::LINTS)?;
    step(&["test", "--workspace", "--lib", "--bins"])?;
    step(&test::FILTER_UNIT_TESTS)
}
