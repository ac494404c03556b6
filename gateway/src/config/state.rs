//! `[state]`: where hookgate keeps what outlives a restart.
//!
//! Owns which directory it is. Must not open it: [`crate::state`] does.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::error::Problem;
use super::report::Report;

const WRITE_DIRECTORY: &str = "directory = \"/var/lib/hookgate\", or remove [state] to use StateDirectory= of the unit";

/// `[state]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawState {
    directory: Option<Spanned<String>>,
}

/// The state directory: that of `[state]`, or else that of the service manager; `None` without either.
pub(super) fn state(raw: Option<&Spanned<RawState>>, report: &mut Report<'_>) -> Option<PathBuf> {
    let Some(raw) = raw else { return report.state_directory() };
    match &raw.get_ref().directory {
        Some(text) if text.get_ref().is_empty() => {
            report.error(text, Problem::Empty { write: WRITE_DIRECTORY });
            None
        }
        // Not noted as a file: its changes must cause no reload.
        Some(text) => Some(report.resolve_unnoted(text.get_ref())),
        None => {
            report.missing(raw, "directory", WRITE_DIRECTORY);
            None
        }
    }
}
