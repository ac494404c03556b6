//! Which of three places decides about the level of the log: the command line (`--log`), else the environment (`HOOKGATE_LOG`), else
//! `[log] level`.
//!
//! Owns that order. Must not know what a level is: [`Levels`] does.

use std::env;

use crate::config::{Levels, LevelsError};

/// The option of `hookgate run`.
const OPTION: &str = "--log";

/// The variable. An empty one counts as none.
const VARIABLE: &str = "HOOKGATE_LOG";

/// Levels that replace those of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control) struct StatedLevels {
    /// What states them: an option or a variable.
    pub(super) place: &'static str,
    pub(super) levels: Levels,
}

/// What states no levels.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {source}")]
pub(in crate::control) struct StatedLevelsError {
    place: &'static str,
    source: LevelsError,
}

impl StatedLevels {
    /// Those of the option with this value, else those of the environment.
    ///
    /// # Errors
    ///
    /// [`StatedLevelsError`] if what decides is no list of levels.
    pub(in crate::control) fn find(option: Option<&str>) -> Result<Option<Self>, StatedLevelsError> {
        let variable = env::var_os(VARIABLE).filter(|value| !value.is_empty());
        let variable = variable.as_ref().map(|value| value.to_string_lossy());
        let stated = option.map(|text| (OPTION, text)).or_else(|| Some((VARIABLE, variable.as_deref()?)));
        stated.map(|(place, text)| Self::parse(place, text)).transpose()
    }

    fn parse(place: &'static str, text: &str) -> Result<Self, StatedLevelsError> {
        let levels = text.parse().map_err(|source| StatedLevelsError { place, source })?;
        Ok(Self { place, levels })
    }
}
