//! The life of the daemon: start, reload, drain, and what it looks like after a long day.

mod drain;
mod endurance;
mod reload;
mod start;
