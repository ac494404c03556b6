//! `hookgate check`. Owns its output and exit code; must not start anything that the configuration asks for.

mod chain;
mod host;
mod restart;
mod user;

use std::fmt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use self::restart::Demands;
use super::inquiry::ControlSocket;
use super::reload::{Loader, advice};
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
/// configuration in force, also prints what a reload would change, and what needs a restart. Exit code 0, or 1 if there is an error, or if the
/// reload would be refused.
pub fn check(path: &Path, against: Option<&Path>, user: Option<&str>) -> ExitCode {
    let Reading { files, outcome } = Config::read(path);
    let (mut config, mut warnings) = match outcome {
        Ok((config, found)) => (config, warn(&found)),
        Err(errors) => {
            eprintln!("{}", errors.of_option("--config"));
            // What is wrong on this host is wrong whatever else is.
            look(path, &files, None, user).errors.iter().for_each(|error| eprintln!("{error}"));
            return ExitCode::FAILURE;
        }
    };
    let found = look(path, &files, Some(&config), user);
    if !found.errors.is_empty() {
        found.errors.iter().for_each(|error| eprintln!("{error}"));
        return ExitCode::FAILURE;
    }
    warnings += warn(&found.warnings);
    let (inventory, strength) = (std::mem::take(&mut config.inventory), std::mem::take(&mut config.strength));
    let (providers, routes) = (config.providers.len(), config.routes.len());
    let sections = Sections::of(path, &config.routes);
    let limits = config.limits;
    let demands = Demands::of(&config);
    let outlooks: Vec<String> = config.providers.iter().map(outlook).collect();
    let notes = std::mem::take(&mut config.notes);
    if let Err(error) = Loader::new(path.to_owned(), &limits, Arc::default()).check(config) {
        eprintln!("{}: {error:#}", path.display());
        return ExitCode::FAILURE;
    }
    outlooks.iter().for_each(|outlook| println!("{outlook}"));
    notes.iter().for_each(|note| println!("note: {note}"));
    found.notes.iter().for_each(|note| println!("note: {note}"));
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
        Some(Some(old)) => {
            let can_be_applied = tell_changes(&old, &inventory, &demands, &sections);
            let is_permitted = tell_losses(&old, &strength, &sections);
            if can_be_applied && is_permitted { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
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

/// What a look at this host found.
#[derive(Default)]
struct Look {
    /// What makes a start by the user fail, or why that cannot be found out.
    errors: Vec<String>,
    warnings: Vec<Finding>,
    notes: Vec<Finding>,
}

/// Looks at what the configuration names on this host. `config` is `None` if it has errors.
fn look(path: &Path, files: &FileVersions, config: Option<&Config>, user: Option<&str>) -> Look {
    let places = NamedPlaces::of(path, files);
    let mut look = Look::default();
    match host::state(places.state.as_ref()) {
        Ok(warning) => look.warnings.extend(warning),
        Err(error) => look.errors.push(error.to_string()),
    }
    let port_user = match user {
        None => Some(host::PortUser::current()),
        Some(name) => look.as_user(name, &places),
    };
    look.warnings.extend(port_user.iter().flat_map(|user| host::ports(&places, user)));
    look.warnings.extend(host::journal(&places));
    look.warnings.extend(host::foreign_addresses(&places));
    if let Some(config) = config {
        look.warnings.extend(host::handlers(&places.handlers, config));
        look.notes.extend(host::taken_ports(&places, &ControlSocket::of(config)));
        look.notes.extend(chain::private_ends(&places, config));
    }
    look
}

impl Look {
    /// Adds what the user of this name may not do. `None` if there is no such user, or this process may not be it.
    fn as_user(&mut self, name: &str, places: &NamedPlaces) -> Option<host::PortUser> {
        let mut unknown = |error: anyhow::Error| self.errors.push(format!("--user {name}: {error:#}"));
        let user = user::User::find(name).map_err(&mut unknown).ok()?;
        let access = user.look_at(places).map_err(unknown).ok()?;
        let errors = access.errors.iter().map(ToString::to_string);
        // What is wrong for every user was told.
        let errors: Vec<String> = errors.filter(|error| !self.errors.contains(error)).collect();
        self.errors.extend(errors);
        self.warnings.extend(access.warnings);
        Some(host::PortUser::other(user.name(), user.is_root()))
    }
}

/// Prints what a reload would change from `old`, and what needs a restart. Returns whether the running process can do what is new.
fn tell_changes(old: &Config, inventory: &Inventory, demands: &Demands, sections: &Sections) -> bool {
    let changes = difference(&old.inventory, inventory);
    if changes.is_empty() {
        println!("nothing has changed");
    }
    for change in changes {
        println!("changed: {change}");
    }
    let obstacles = demands.obstacles(old);
    for obstacle in &obstacles {
        let line = format!("{}: {obstacle}", obstacle.place(sections));
        if obstacle.is_refused {
            eprintln!("{line}");
        } else {
            println!("{line}");
        }
    }
    !obstacles.iter().any(|obstacle| obstacle.is_refused)
}

/// Prints what the configuration demands less than `old`. Returns whether that is nothing, or permitted.
fn tell_losses(old: &Config, strength: &Strength, sections: &Sections) -> bool {
    match old.strength.compare(strength) {
        Comparison::NotWeaker => {
            if strength.has_permission() {
                println!("accept_weaker permits no change of this reload; remove the line");
            }
            true
        }
        Comparison::Permitted { losses } => {
            losses
                .iter()
                .for_each(|loss| println!("{}: demands less, as accept_weaker permits: {loss}", sections.place(loss)));
            true
        }
        Comparison::Refused { losses, permission, written } => {
            losses.iter().for_each(|loss| eprintln!("{}: demands less: {loss}", sections.place(loss)));
            eprintln!("{}", advice(losses.len(), &permission, written));
            false
        }
    }
}
