//! Which routes are paused.
//!
//! Pure. Owns what the empty name means, in memory as in the table `spool_pause`: every route.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// The names of paused routes; an empty name stands for every route. As JSON, an array of names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pauses(BTreeSet<String>);

impl Pauses {
    /// Whether the route is paused, by its name or with all.
    #[must_use]
    pub fn hold(&self, route: &str) -> bool {
        !self.0.is_empty() && (self.0.contains(route) || self.0.contains(""))
    }

    /// Pauses a route, or with an empty name every route.
    pub fn pause(&mut self, route: String) {
        self.0.insert(route);
    }

    /// Ends the pause of a route, or with an empty name every pause.
    pub fn resume(&mut self, route: &str) {
        if route.is_empty() {
            self.0.clear();
        } else {
            self.0.remove(route);
        }
    }
}

impl FromIterator<String> for Pauses {
    fn from_iter<I: IntoIterator<Item = String>>(routes: I) -> Self {
        Self(routes.into_iter().collect())
    }
}
