//! `hookgate providers`. Owns its output and exit code; the description of a preset belongs to [`preset`].

use std::process::ExitCode;

use crate::config::preset;

/// Lists the presets, or describes the one called `name`. Exit code 0, or 1 if there is no such preset.
pub fn providers(name: Option<&str>) -> ExitCode {
    let Some(name) = name else {
        print!("{}", preset::list());
        return ExitCode::SUCCESS;
    };
    match preset::find(name) {
        Some(preset) => {
            print!("{}", preset::describe(preset));
            ExitCode::SUCCESS
        }
        None => {
            let known = preset::all().iter().map(|preset| preset.name()).collect::<Vec<_>>().join(", ");
            eprintln!("there is no preset \"{name}\"; the presets are {known}");
            ExitCode::FAILURE
        }
    }
}
