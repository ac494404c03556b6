//! The life of the daemon: start, reload, restart, drain, and what it looks like after a long day.

mod drain;
mod endurance;
mod managed;
mod notification;
mod reload;
mod sockets;
mod start;
