//! `hookgate providers`. Owns its output and exit code; the description of a preset belongs to [`preset`].

use std::path::Path;
use std::process::ExitCode;

use crate::config::preset::{self, Found, Presets};

/// Lists the presets for the configuration file at `path`, as JSON with `json`, or describes the one called `name`. Exit code 0, or 1 if
/// there is no such preset, or if a preset has errors, which are printed to standard error.
pub fn providers(path: &Path, name: Option<&str>, json: bool) -> ExitCode {
    let presets = match Presets::for_configuration(path) {
        Ok(presets) => presets,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::FAILURE;
        }
    };
    let Some(name) = name else {
        print!("{}", if json { preset::list_as_json(&presets) } else { preset::list(&presets) });
        presets.unusable().for_each(|(_, unusable)| eprintln!("{}", unusable.errors()));
        return if presets.unusable().next().is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    };
    match presets.find(name) {
        Found::Preset(preset) => {
            print!("{}", preset::describe(preset));
            return ExitCode::SUCCESS;
        }
        Found::Unusable(unusable) => eprintln!("{}", unusable.errors()),
        Found::Unknown => {
            let known = presets.names().collect::<Vec<_>>().join(", ");
            eprintln!("there is no preset \"{name}\"; the presets are {known}");
        }
    }
    ExitCode::FAILURE
}
