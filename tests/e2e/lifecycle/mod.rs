//! The life of the daemon: start, reload, drain, and what it looks like after a long day.

pub(crate) mod confinement;
mod drain;
mod endurance;
mod journal;
mod reload;
mod start;
