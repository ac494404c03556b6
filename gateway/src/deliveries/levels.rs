//! What is stored of each route, as the metrics tell it, for the status page.
//!
//! Owns what the writing thread and the dispatcher published last. Must not count: `usage` and `dispatch` do. Workers never take its lock.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::pauses::Pauses;
use super::usage::Usage;

/// What is stored of one route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// How much.
    pub usage: Usage,
    /// How long the oldest delivery that waits has waited, at most a second ago; five, at the servers of a fleet.
    pub oldest: Duration,
}

/// What is stored of every route that has had something since the start, and which routes are paused.
#[derive(Clone, Debug, Default)]
pub struct Levels(Arc<Mutex<Published>>);

#[derive(Debug, Default)]
struct Published {
    levels: BTreeMap<Arc<str>, Level>,
    paused: Pauses,
}

impl Levels {
    /// All, by the names of the routes.
    #[must_use]
    pub fn all(&self) -> BTreeMap<Arc<str>, Level> {
        self.published().levels.clone()
    }

    /// Whether the route is paused, by its name or with all.
    #[must_use]
    pub fn is_paused(&self, route: &str) -> bool {
        self.published().paused.hold(route)
    }

    /// These are paused.
    pub fn set_paused(&self, paused: &Pauses) {
        let mut published = self.published();
        if published.paused != *paused {
            published.paused.clone_from(paused);
        }
    }

    fn published(&self) -> MutexGuard<'_, Published> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the level of a route.
    pub fn set(&self, route: &str, change: impl FnOnce(&mut Level)) {
        let levels = &mut self.published().levels;
        match levels.get_mut(route) {
            Some(level) => change(level),
            None => change(levels.entry(route.into()).or_default()),
        }
    }
}
