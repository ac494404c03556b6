//! The interfaces of the policy over time: each may be deleted, and made again under its name with another index.
//!
//! Owns which of them run the program now, and what has changed. The kernel detaches a program from an interface that is deleted,
//! and says nothing. Must not read a clock, nor decide what a change means for the process.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use aya::programs::Xdp;
use rustix::net::netdevice::{index_to_name, name_to_index};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::attach::{Attached, Hold, attach, release};
use crate::error::FilterError;
use crate::policy::Attach;

/// A change of an interface.
#[derive(Debug)]
pub enum InterfaceChange {
    /// The interface is deleted or in another network namespace, so no packets come from it.
    Gone(Attached),
    /// There is an interface of this name again, and it runs the program.
    Attached(Attached),
    /// There is an interface of this name again, and the program cannot be attached to it: its packets are not filtered.
    Unfiltered {
        /// The name.
        interface: String,
        /// Why.
        error: FilterError,
    },
}

/// An interface of the policy.
struct Interface {
    name: String,
    state: State,
}

enum State {
    Attached {
        index: u32,
        attached: Attached,
        hold: Hold,
    },
    /// It is gone, or attaching failed to the interface with this index.
    Detached {
        failed: Option<u32>,
    },
}

/// The interfaces of the policy.
pub(super) struct Interfaces {
    all: Vec<Interface>,
    /// Interfaces that had a name of the policy, still run the program, and have another name now.
    renamed: Vec<(u32, Hold)>,
    wanted: Attach,
    pin: Option<PathBuf>,
    /// What the kernel is asked by. Any socket does.
    socket: Option<OwnedFd>,
}

impl Interfaces {
    /// None, for a program that is not attached.
    pub(super) fn none() -> Self {
        Self { all: Vec::new(), renamed: Vec::new(), wanted: Attach::Auto, pin: None, socket: None }
    }

    /// How the program is attached to further interfaces.
    pub(super) fn new(wanted: Attach, pin: Option<PathBuf>) -> Result<Self, FilterError> {
        let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
            .map_err(|error| FilterError::Interfaces { source: error.into() })?;
        Ok(Self { all: Vec::new(), renamed: Vec::new(), wanted, pin, socket: Some(socket) })
    }

    /// Attaches the program to the interface of this name.
    pub(super) fn add(&mut self, program: &mut Xdp, name: &str) -> Result<(), FilterError> {
        // Asked first: if another interface gets the name in between, the next look finds another index.
        let index = self.index(name).unwrap_or(0);
        let (attached, hold) = attach(program, name, self.wanted, self.pin.as_deref())?;
        self.all.push(Interface { name: name.to_owned(), state: State::Attached { index, attached, hold } });
        Ok(())
    }

    /// The interfaces that run the program.
    pub(super) fn attached(&self) -> impl Iterator<Item = &Attached> {
        self.all.iter().filter_map(|interface| match &interface.state {
            State::Attached { attached, .. } => Some(attached),
            State::Detached { .. } => None,
        })
    }

    /// Whether the program could not be attached to an interface that exists.
    pub(super) fn has_unfiltered(&self) -> bool {
        self.all.iter().any(|interface| matches!(interface.state, State::Detached { failed: Some(_) }))
    }

    /// Compares the interfaces with those of the kernel, and attaches the program to those that were made again. Says each change once.
    pub(super) fn look(&mut self, program: &mut Xdp) -> Vec<InterfaceChange> {
        let mut changes = Vec::new();
        for (own, hold) in std::mem::take(&mut self.renamed) {
            if self.exists(own) {
                self.renamed.push((own, hold));
            } else {
                // The kernel has detached it already; this drops the descriptor or the pin.
                let _ = release(program, hold);
            }
        }
        for mut interface in std::mem::take(&mut self.all) {
            let index = self.index(&interface.name);
            interface.state = match interface.state {
                State::Attached { index: own, attached, hold } if index == Some(own) => {
                    State::Attached { index: own, attached, hold }
                }
                State::Attached { index: own, attached, hold } => {
                    if self.exists(own) {
                        self.renamed.push((own, hold));
                    } else {
                        let _ = release(program, hold);
                    }
                    changes.push(InterfaceChange::Gone(attached));
                    self.attach(program, &interface.name, index, None, &mut changes)
                }
                State::Detached { failed } => self.attach(program, &interface.name, index, failed, &mut changes),
            };
            self.all.push(interface);
        }
        changes
    }

    /// Attaches the program to the interface that has the name now. An interface that failed is tried again without a word.
    fn attach(
        &self,
        program: &mut Xdp,
        name: &str,
        index: Option<u32>,
        failed: Option<u32>,
        changes: &mut Vec<InterfaceChange>,
    ) -> State {
        let Some(index) = index else { return State::Detached { failed: None } };
        match attach(program, name, self.wanted, self.pin.as_deref()) {
            Ok((attached, hold)) => {
                changes.push(InterfaceChange::Attached(attached.clone()));
                State::Attached { index, attached, hold }
            }
            Err(error) => {
                if failed != Some(index) {
                    changes.push(InterfaceChange::Unfiltered { interface: name.to_owned(), error });
                }
                State::Detached { failed: Some(index) }
            }
        }
    }

    /// Detaches the program from every interface. If a link cannot be removed, the others are.
    pub(super) fn release(self, program: &mut Xdp) -> Result<(), FilterError> {
        let attached = self.all.into_iter().filter_map(|interface| match interface.state {
            State::Attached { hold, .. } => Some(hold),
            State::Detached { .. } => None,
        });
        let mut result = Ok(());
        for hold in attached.chain(self.renamed.into_iter().map(|(_, hold)| hold)) {
            result = result.and(release(program, hold));
        }
        result
    }

    /// Whether there is an interface with this index.
    fn exists(&self, index: u32) -> bool {
        self.socket.as_ref().is_some_and(|socket| index_to_name(socket, index).is_ok())
    }

    fn index(&self, name: &str) -> Option<u32> {
        name_to_index(self.socket.as_ref()?, name).ok()
    }
}
