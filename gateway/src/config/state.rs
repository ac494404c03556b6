//! `[state]`: where hookgate keeps what outlives a restart, and whether deliveries do.
//!
//! Owns which directory it is. Must not open it: [`crate::state`] does.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::error::Problem;
use super::report::Report;

const WRITE_DIRECTORY: &str = "directory = \"/var/lib/hookgate\", or remove [state] to use StateDirectory= of the unit";

/// What the default and `deliveries = "disk"` need.
const WRITE_DIRECTORY_OR_MEMORY: &str =
    "directory = \"/var/lib/hookgate\", StateDirectory= in the unit, or deliveries = \"memory\"";

/// `[state]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawState {
    directory: Option<Spanned<String>>,
    deliveries: Option<Spanned<Deliveries>>,
    on_state_failure: Option<OnStateFailure>,
}

impl RawState {
    /// Whether the file names the directory.
    pub(super) fn names_directory(&self) -> bool {
        self.directory.is_some()
    }
}

/// `deliveries`: where taken deliveries are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deliveries {
    /// A restart forgets them.
    Memory,
    /// They outlive a restart. The default with a state directory.
    Disk,
}

/// `on_state_failure`: what becomes of a delivery that the disk does not take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnStateFailure {
    /// Its sender gets 503, and sends it again.
    #[default]
    Refuse,
    /// It is handled, and a restart may forget it.
    Admit,
}

/// `[state]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The state directory, if there is one.
    pub directory: Option<PathBuf>,
    /// Where deliveries are remembered.
    pub deliveries: Deliveries,
    /// What becomes of one that cannot be.
    pub on_failure: OnStateFailure,
}

/// `[state]`, with the directory of the service manager if it names none.
pub(super) fn state(raw: Option<&Spanned<RawState>>, report: &mut Report<'_>) -> State {
    let given = raw.map(Spanned::get_ref);
    let directory = directory(raw, report);
    let written = given.and_then(|raw| raw.deliveries.as_ref());
    let default = if directory.is_some() { Deliveries::Disk } else { Deliveries::Memory };
    let deliveries = written.map_or(default, |written| *written.get_ref());
    if let (Some(written), None, Deliveries::Disk) = (written, &directory, deliveries) {
        report.error(written, Problem::Missing { write: WRITE_DIRECTORY_OR_MEMORY });
    }
    State { directory, deliveries, on_failure: given.and_then(|raw| raw.on_state_failure).unwrap_or_default() }
}

/// That of `[state]`, or else that of the service manager; `None` without either.
fn directory(raw: Option<&Spanned<RawState>>, report: &mut Report<'_>) -> Option<PathBuf> {
    let Some(raw) = raw else { return report.state_directory() };
    match raw.get_ref() {
        RawState { directory: Some(text), .. } if text.get_ref().is_empty() => {
            report.error(text, Problem::Empty { write: WRITE_DIRECTORY });
            None
        }
        // Not noted as a file: its changes must cause no reload.
        RawState { directory: Some(text), .. } => Some(report.resolve_unnoted(text.get_ref())),
        RawState { directory: None, deliveries: None, on_state_failure: None } => {
            report.missing(raw, "directory", WRITE_DIRECTORY);
            None
        }
        RawState { directory: None, .. } => report.state_directory(),
    }
}
