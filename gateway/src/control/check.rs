//! `hookgate check`. Owns its output and exit code; must not start anything that the configuration asks for.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use super::reload::{Loader, advice};
use super::sunset::outlook;
use crate::config::Config;
use crate::config::inventory::{Inventory, difference};
use crate::config::strength::{Comparison, Strength};

/// Loads the configuration as `run` does. Prints every error and warning to standard error, and a summary to standard output if
/// there is no error. With `against`, the file of the configuration in force, also prints what a reload would change. Exit code 0, or 1
/// if there is an error, or if the reload would be refused.
pub fn check(path: &Path, against: Option<&Path>) -> ExitCode {
    let Some((mut config, warnings)) = load(path, "--config") else { return ExitCode::FAILURE };
    let (inventory, strength) = (std::mem::take(&mut config.inventory), std::mem::take(&mut config.strength));
    let (providers, routes) = (config.providers.len(), config.routes.len());
    let limits = config.limits;
    let outlooks: Vec<String> = config.providers.iter().map(outlook).collect();
    if let Err(error) = Loader::new(path.to_owned(), &limits, Arc::default()).check(config) {
        eprintln!("{}: {error:#}", path.display());
        return ExitCode::FAILURE;
    }
    outlooks.iter().for_each(|outlook| println!("{outlook}"));
    println!("{}: ok, {providers} providers, {routes} routes, {warnings} warnings", path.display());
    match against.map(|path| load(path, "--against")) {
        None => ExitCode::SUCCESS,
        Some(None) => ExitCode::FAILURE,
        Some(Some((old, _))) => compare(&old, &inventory, &strength),
    }
}

/// The configuration in the file at `path`, which `option` names, and the number of its warnings, which are printed; `None` if it has errors.
fn load(path: &Path, option: &'static str) -> Option<(Config, usize)> {
    let loaded = Config::load(path).map_err(|errors| errors.of_option(option));
    let (config, warnings) = loaded.map_err(|errors| eprintln!("{errors}")).ok()?;
    for warning in &warnings {
        eprintln!("warning: {warning}");
    }
    Some((config, warnings.len()))
}

/// Prints what a reload would change from `old`.
fn compare(old: &Config, inventory: &Inventory, strength: &Strength) -> ExitCode {
    let changes = difference(&old.inventory, inventory);
    if changes.is_empty() {
        println!("nothing has changed");
    }
    for change in changes {
        println!("changed: {change}");
    }
    match old.strength.compare(strength) {
        Comparison::NotWeaker => ExitCode::SUCCESS,
        Comparison::Permitted { losses } => {
            losses.iter().for_each(|loss| println!("demands less, as accept_weaker permits: {loss}"));
            ExitCode::SUCCESS
        }
        Comparison::Refused { losses, permission, is_used } => {
            losses.iter().for_each(|loss| eprintln!("demands less: {loss}"));
            eprintln!("{}", advice(losses.len(), &permission, is_used));
            ExitCode::FAILURE
        }
    }
}
