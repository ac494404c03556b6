//! The life of the daemon: start, reload, restart, drain, and what it looks like after a long day.

pub(crate) mod confinement;
mod drain;
mod endurance;
mod journal;
mod managed;
mod notification;
mod reload;
mod sockets;
mod start;
