//! What a reload would not apply, beside the settings that [`crate::config::inventory`] marks: it is refused, or a part of it has no effect.
//!
//! Owns the reasons, which are those of [`crate::control::reload`]. Takes the old configuration for that of the start; must not ask a running
//! hookgate.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, Deliveries, FilterSection, Sections};
use crate::control::confine;
use crate::control::handler_ports::HandlerPorts;
use hookgate_core::route::{Handler, handlers_of};
use hookgate_filter::Mode;

/// What a configuration asks of a process that runs with another one.
pub(super) struct Demands {
    /// Each handler at a port, with the name of the first route that has it.
    handlers: Vec<(Arc<str>, Handler)>,
    /// The first durable route.
    durable: Option<Arc<str>>,
    /// The longest `window_s` of a replay rule.
    window: Duration,
    filter: FilterSection,
}

/// Something that needs a restart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Obstacle {
    /// The section, with the name of its element.
    about: (&'static str, Option<Arc<str>>),
    text: String,
    /// Whether a reload is refused. Otherwise this part has no effect.
    pub(super) is_refused: bool,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "needs a restart: {}", self.text)
    }
}

impl Obstacle {
    /// The line of its section.
    pub(super) fn place(&self, sections: &Sections) -> String {
        let (section, name) = &self.about;
        sections.place_of(section, name.as_deref())
    }

    fn refused(about: (&'static str, Option<Arc<str>>), text: String) -> Self {
        Self { about, text, is_refused: true }
    }
}

impl Demands {
    /// Those of `config`.
    pub(super) fn of(config: &Config) -> Self {
        let route_of = |handler: &Handler| {
            let has_it = |route: &&hookgate_core::route::Route| {
                route.handlers().is_some_and(|handlers| handlers.iter().any(|other| other == handler))
            };
            config.routes.iter().find(has_it).map(|route| Arc::clone(&route.name))
        };
        let at_ports = handlers_of(&config.routes).filter(|handler| handler.port().is_some());
        let durable = config.routes.iter().zip(&config.durable).find(|(_, durable)| durable.is_some());
        Self {
            handlers: at_ports.filter_map(|handler| Some((route_of(handler)?, handler.clone()))).collect(),
            durable: durable.map(|(route, _)| Arc::clone(&route.name)),
            window: config.proofs.longest_window(),
            filter: config.filter.clone(),
        }
    }

    /// What a process that was started with `old` cannot do without a restart, on this kernel.
    pub(super) fn obstacles(&self, old: &Config) -> Vec<Obstacle> {
        self.obstacles_if(old, confine::enforces_ports())
    }

    fn obstacles_if(&self, old: &Config, kernel_enforces_ports: bool) -> Vec<Obstacle> {
        let mut obstacles: Vec<Obstacle> = self.foreign_handlers(old, kernel_enforces_ports).collect();
        let has_database = old.state.deliveries == Deliveries::Disk && old.state.directory.is_some();
        if let Some(route) = self.durable.as_ref().filter(|_| !has_database) {
            let text = format!(
                "route \"{route}\" is durable, and a process that was started without a state directory has no database: a reload is refused"
            );
            obstacles.push(Obstacle::refused(("route", Some(Arc::clone(route))), text));
        }
        if let Some(kept) = old.fleet.as_ref().map(|fleet| fleet.keep).filter(|kept| self.window > *kept) {
            let (window, kept) = (self.window.as_secs(), kept.as_secs());
            let text = format!(
                "a replay rule has window_s = {window}, and the hosts were started with keep_s = {kept}: a reload is refused"
            );
            obstacles.push(Obstacle::refused(("fleet", None), text));
        }
        obstacles.extend(self.filter_obstacle(old));
        obstacles
    }

    fn foreign_handlers(&self, old: &Config, kernel_enforces_ports: bool) -> impl Iterator<Item = Obstacle> {
        let known = HandlerPorts::of(old);
        let foreign = self.handlers.iter().filter(move |(_, handler)| known.is_foreign(handler));
        foreign.map(move |(route, handler)| Obstacle {
            about: ("route", Some(Arc::clone(route))),
            text: format!(
                "the handler {handler} is at a port that no handler had before; where Landlock holds (Linux 6.7 or newer), a reload is \
                 refused; a Unix socket needs no restart"
            ),
            is_refused: kernel_enforces_ports,
        })
    }

    fn filter_obstacle(&self, old: &Config) -> Option<Obstacle> {
        let (old, new) = (&old.filter.policy, &self.filter.policy);
        match (old.mode, new.mode) {
            (_, Mode::Off) => None,
            (Mode::Off, _) => Some(Obstacle {
                about: ("filter", None),
                text: "a reload does not start the filter".to_owned(),
                is_refused: false,
            }),
            // What shrinks too far is refused too, and needs no restart.
            (_, _) => old.may_become(new, true).err().map(|error| {
                let text = format!("{error}; a reload is refused");
                Obstacle::refused(("filter", None), text)
            }),
        }
    }
}

#[cfg(test)]
mod tests;
