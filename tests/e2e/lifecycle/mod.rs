//! The life of the daemon: start, reload, restart, drain, and its resources after many connections.

pub(crate) mod confinement;
mod descriptors;
mod drain;
mod endurance;
mod journal;
mod managed;
mod notification;
pub(crate) mod preset;
mod reload;
mod sockets;
mod start;
mod weaker;
