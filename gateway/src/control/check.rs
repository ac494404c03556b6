//! `hookgate check`. Owns its output and exit code; must not start anything that the configuration asks for.

mod host;
mod user;

use std::fmt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use super::reload::{Loader, PERMITS_NOTHING, advice};
use super::status::counted;
use super::sunset::outlook;
use crate::config::inventory::{Inventory, difference};
use crate::config::strength::{Comparison, Strength};
use crate::config::{Config, FileVersions, Location, NamedPlaces, Problem, Reading, Sections, one_line};

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
    let Reading { files, outcome } = Config::read(path);
    let (mut config, mut warnings) = match outcome {
        Ok((config, found)) => (config, warn(&found)),
        Err(errors) => {
            eprintln!("{}", errors.of_option("--config"));
            return ExitCode::FAILURE;
        }
    };
    match look(path, &files, &config, user) {
        Ok(found) => warnings += found,
        Err(errors) => {
            errors.iter().for_each(|error| eprintln!("{error}"));
            return ExitCode::FAILURE;
        }
    }
    let (inventory, strength) = (std::mem::take(&mut config.inventory), std::mem::take(&mut config.strength));
    let (providers, routes) = (config.providers.len(), config.routes.len());
    let sections = Sections::of(path, &config.routes);
    let limits = config.limits;
    let outlooks: Vec<String> = config.providers.iter().map(outlook).collect();
    let notes = std::mem::take(&mut config.notes);
    if let Err(error) = Loader::new(path.to_owned(), &limits, Arc::default()).check(config) {
        eprintln!("{}: {error:#}", path.display());
        return ExitCode::FAILURE;
    }
    outlooks.iter().for_each(|outlook| println!("{outlook}"));
    notes.iter().for_each(|note| println!("note: {note}"));
    println!(
        "{}: ok, {}, {}, {}",
        path.display(),
        counted(providers, "provider"),
        counted(routes, "route"),
        counted(warnings, "warning")
    );
    match against.map(in_force) {
        None => ExitCode::SUCCESS,
        Some(None) => ExitCode::FAILURE,
        Some(Some(old)) => compare(&old, &inventory, &strength, &sections),
    }
}

/// Prints warnings, and returns their number.
fn warn(warnings: &[impl fmt::Display]) -> usize {
    warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    warnings.len()
}

/// The configuration in force, in the file at `path`. If it cannot be one, one message says so, and `None` is returned.
fn in_force(path: &Path) -> Option<Config> {
    let errors = match Config::read(path).outcome {
        Ok((config, warnings)) => {
            warn(&warnings);
            return Some(config);
        }
        Err(errors) => errors.of_option("--against"),
    };
    match errors.errors() {
        [only] if matches!(only.problem, Problem::Unreadable { .. }) => eprintln!("{only}"),
        all => {
            let first = all.first().map(ToString::to_string).unwrap_or_default();
            eprintln!(
                "{}: hookgate cannot run with this file, so there is nothing to compare with: it has {}, first {first}; name the file of a \
                 configuration in force with --against, or leave that out",
                path.display(),
                counted(all.len(), "error")
            );
        }
    }
    None
}

/// Looks at what the configuration names on this host. Prints the warnings, and returns their number.
///
/// # Errors
///
/// What makes a start by `user` fail, or why that cannot be found out.
fn look(path: &Path, files: &FileVersions, config: &Config, user: Option<&str>) -> Result<usize, Vec<String>> {
    let places = NamedPlaces::of(path, files);
    let mut warnings = host::sockets(&places.handlers, config);
    warnings.extend(host::state(places.state.as_ref()).map_err(|error| vec![error.to_string()])?);
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
    Ok(warn(&warnings))
}

/// Prints what a reload would change from `old`.
fn compare(old: &Config, inventory: &Inventory, strength: &Strength, sections: &Sections) -> ExitCode {
    let changes = difference(&old.inventory, inventory);
    if changes.is_empty() {
        println!("nothing has changed");
    }
    for change in changes {
        println!("changed: {change}");
    }
    match old.strength.compare(strength) {
        Comparison::NotWeaker => {
            if strength.has_permission() {
                println!("{PERMITS_NOTHING}");
            }
            ExitCode::SUCCESS
        }
        Comparison::Permitted { losses } => {
            losses
                .iter()
                .for_each(|loss| println!("{}: demands less, as accept_weaker permits: {loss}", sections.place(loss)));
            ExitCode::SUCCESS
        }
        Comparison::Refused { losses, permission, written } => {
            losses.iter().for_each(|loss| eprintln!("{}: demands less: {loss}", sections.place(loss)));
            eprintln!("{}", advice(losses.len(), &permission, written));
            ExitCode::FAILURE
        }
    }
}
