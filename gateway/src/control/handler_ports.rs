//! The ports of handlers to which the threads of workers and of the dispatcher may connect.
//!
//! Owns that a reload names no others: the kernel does not loosen what a thread gave up. Must not confine a thread: [`super::confine`] does.

use std::collections::BTreeSet;

use crate::config::Config;
use hookgate_core::route::{Handler, handlers_of};

/// The ports of the first configuration.
#[derive(Debug, Default)]
pub(super) struct HandlerPorts {
    allowed: BTreeSet<u16>,
    is_enforced: bool,
}

impl HandlerPorts {
    /// Those of `config`.
    pub(super) fn of(config: &Config) -> Self {
        let ports = handlers_of(&config.routes).filter_map(Handler::port);
        Self { allowed: ports.map(|address| address.port()).collect(), is_enforced: false }
    }

    /// The ports.
    pub(super) fn allowed(&self) -> &BTreeSet<u16> {
        &self.allowed
    }

    /// Whether the kernel lets the threads connect to no other port.
    pub(super) fn are_enforced(&mut self, is_enforced: bool) {
        self.is_enforced = is_enforced;
    }

    /// Whether a handler is at a port that is not among them.
    pub(super) fn is_foreign(&self, handler: &Handler) -> bool {
        handler.port().is_some_and(|address| !self.allowed.contains(&address.port()))
    }

    /// Whether every handler of `config` can be connected to.
    ///
    /// # Errors
    ///
    /// A line for each handler at another port.
    pub(super) fn check(&self, config: &Config) -> Result<(), String> {
        let foreign = handlers_of(&config.routes).filter(|handler| self.is_enforced && self.is_foreign(handler));
        let lines: Vec<String> = foreign
            .map(|handler| {
                format!(
                    "the handler {handler} is at a port that no handler had at the start, and this process may connect to no other (Landlock); \
                     restart hookgate, or give the handler a Unix socket"
                )
            })
            .collect();
        if lines.is_empty() { Ok(()) } else { Err(lines.join("\n")) }
    }
}
