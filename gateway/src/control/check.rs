//! `hookgate check`. Owns its output and exit code; must not start anything that the configuration asks for.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use super::reload::Loader;
use crate::config::Config;

/// Loads the configuration as `run` does. Prints every error and warning to standard error, and a summary to standard output if
/// there is no error. Exit code 0, or 1 if there is an error.
pub fn check(path: &Path) -> ExitCode {
    let (config, warnings) = match Config::load(path) {
        Ok(loaded) => loaded,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::FAILURE;
        }
    };
    for warning in &warnings {
        eprintln!("warning: {warning}");
    }
    let (providers, routes) = (config.providers.len(), config.routes.len());
    let limits = config.limits;
    if let Err(error) = Loader::new(path.to_owned(), &limits, Arc::default()).check(config) {
        eprintln!("{}: {error:#}", path.display());
        return ExitCode::FAILURE;
    }
    println!("{}: ok, {providers} providers, {routes} routes, {} warnings", path.display(), warnings.len());
    ExitCode::SUCCESS
}
