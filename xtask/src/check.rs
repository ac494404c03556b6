//! `cargo xtask check`: the quick checks of a change. Needs no root, and installs nothing.

use anyhow::Result;

use crate::command::step;
use crate::{docs, licences, promises, rooms, setup, test};

/// Checks format, rooms, promises, dependencies, lints and unit tests, in order of duration.
///
/// # Errors
///
/// The first check that fails, or what is missing on this machine.
pub(crate) fn run() -> Result<()> {
    setup::require(setup::Task::Check)?;
    step(&test::FORMAT)?;
    rooms::check()?;
    promises::check()?;
    docs::check()?;
    licences::check()?;
    step(&test::LINTS)?;
    step(&["test", "--workspace", "--lib", "--bins"])?;
    step(&test::FILTER_UNIT_TESTS)
}
