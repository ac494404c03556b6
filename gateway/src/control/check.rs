//! `hookgate check`. Owns its output and exit code; must not start anything that the configuration asks for.

mod host;
mod user;

use std::fmt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use super::reload::{Loader, advice};
use super::sunset::outlook;
use crate::config::inventory::{Inventory, difference};
use crate::config::strength::{Comparison, Strength};
use crate::config::{Config, FileVersions, Location, NamedPlaces, Reading, one_line};

/// Something about this host that does not fit the configuration, and where the configuration names it.
struct Finding {
    location: Location,
    text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        one_line(formatter, &self.location, &self.text)
    }
}

/// Loads the configuration as `run` does, and looks whether this host has what it names; with `user`, whether that user has access. Prints
/// every error and warning to standard error, and a summary to standard output if there is no error. With `against`, the file of the
/// configuration in force, also prints what a reload would change. Exit code 0, or 1 if there is an error, or if the reload would be refused.
pub fn check(path: &Path, against: Option<&Path>, user: Option<&str>) -> ExitCode {
    let Some((mut config, files, mut warnings)) = load(path, "--config") else { return ExitCode::FAILURE };
    match look(path, &files, user) {
        Ok(found) => warnings += found,
        Err(errors) => {
            errors.iter().for_each(|error| eprintln!("{error}"));
            return ExitCode::FAILURE;
        }
    }
    let (inventory, strength) = (std::mem::take(&mut config.inventory), std::mem::take(&mut config.strength));
    let (providers, routes) = (config.providers.len(), config.routes.len());
    let limits = config.limits;
    let outlooks: Vec<String> = config.providers.iter().map(outlook).collect();
    let notes = std::mem::take(&mut config.notes);
    if let Err(error) = Loader::new(path.to_owned(), &limits, Arc::default()).check(config) {
        eprintln!("{}: {error:#}", path.display());
        return ExitCode::FAILURE;
    }
    outlooks.iter().for_each(|outlook| println!("{outlook}"));
    notes.iter().for_each(|note| println!("note: {note}"));
    println!("{}: ok, {providers} providers, {routes} routes, {warnings} warnings", path.display());
    match against.map(|path| load(path, "--against")) {
        None => ExitCode::SUCCESS,
        Some(None) => ExitCode::FAILURE,
        Some(Some((old, _, _))) => compare(&old, &inventory, &strength),
    }
}

/// The configuration in the file at `path`, which `option` names, the files that were read, and the number of its warnings, which are printed; `None` if it has
/// errors.
fn load(path: &Path, option: &'static str) -> Option<(Config, FileVersions, usize)> {
    let Reading { files, outcome } = Config::read(path);
    let (config, warnings) = outcome.map_err(|errors| eprintln!("{}", errors.of_option(option))).ok()?;
    for warning in &warnings {
        eprintln!("warning: {warning}");
    }
    Some((config, files, warnings.len()))
}

/// Looks at what the configuration names on this host. Prints the warnings, and returns their number.
///
/// # Errors
///
/// What makes a start by `user` fail, or why that cannot be found out.
fn look(path: &Path, files: &FileVersions, user: Option<&str>) -> Result<usize, Vec<String>> {
    let places = NamedPlaces::of(path, files);
    let mut warnings = host::sockets(&places.handlers);
    let port_user = match user {
        None => host::PortUser::current(),
        Some(name) => {
            let user = user::User::find(name).map_err(|error| vec![format!("--user {name}: {error:#}")])?;
            let access = user.look_at(&places).map_err(|error| vec![format!("--user {name}: {error:#}")])?;
            if !access.errors.is_empty() {
                return Err(access.errors.iter().map(ToString::to_string).collect());
            }
            warnings.extend(access.warnings);
            host::PortUser::other(user.name(), user.is_root())
        }
    };
    warnings.extend(host::ports(&places, &port_user));
    warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    Ok(warnings.len())
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
