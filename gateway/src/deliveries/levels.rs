//! What is stored of each route, as the metrics tell it, for the status page.
//!
//! Owns what the writing thread and the dispatcher published last. Must not count: `usage` and `dispatch` do. Workers never take its lock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What is stored of one route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// Deliveries that wait.
    pub waiting: u64,
    /// Dead letters.
    pub dead: u64,
    /// Bytes of both.
    pub bytes: u64,
    /// How long the oldest delivery that waits has waited, at most a second ago.
    pub oldest: Duration,
}

/// What is stored of every route that has had something since the start, and which routes are paused.
#[derive(Clone, Debug, Default)]
pub struct Levels(Arc<Mutex<Published>>);

#[derive(Debug, Default)]
struct Published {
    levels: BTreeMap<Arc<str>, Level>,
    /// An empty name stands for every route.
    paused: BTreeSet<String>,
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
        let published = self.published();
        published.paused.contains("") || published.paused.contains(route)
    }

    /// These are paused; an empty name stands for every route.
    pub fn set_paused(&self, paused: &BTreeSet<String>) {
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
