//! How much of each route is stored, and whether more fits.
//!
//! Pure, but for the warnings: the thread that writes counts. Must not know the database.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Levels;
use super::spool::{self, Size};
use crate::config::Durable;
use crate::metrics::spool as metrics;

/// Percent of a bound from which on hookgate warns, in the log and on the status page.
pub const WARN_AT: u64 = 80;
/// Percent below which the next warning may come, so that a level that swings around the other one warns once.
const CALM_AT: u64 = 70;

/// Whether it was warned of a bound that fills.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alarm(bool);

impl Alarm {
    /// Whether to warn, now that so many percent of the bound are used: at [`WARN_AT`], and again only after a level below [`CALM_AT`].
    pub fn rings(&mut self, percent: u64) -> bool {
        let had_rung = self.0;
        self.0 = percent >= WARN_AT || had_rung && percent >= CALM_AT;
        percent >= WARN_AT && !had_rung
    }
}

/// What is stored of one route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Deliveries that wait.
    pub waiting: u64,
    /// Dead letters.
    pub dead: u64,
    /// Bytes of both.
    pub bytes: u64,
}

/// What is stored of every route that has had something since the start.
#[derive(Clone, Debug, Default)]
pub(super) struct Usages(BTreeMap<Arc<str>, Level>);

#[derive(Clone, Debug, Default)]
struct Level {
    usage: Usage,
    /// The rule by which the last delivery was stored.
    rule: Option<Arc<Durable>>,
    alarm: Alarm,
    /// It was published as it is.
    is_published: bool,
}

impl Level {
    /// The larger part of a bound that is used, in percent.
    fn percent(&self) -> Option<u64> {
        Some(self.rule.as_ref()?.filled_percent(self.usage.waiting + self.usage.dead, self.usage.bytes))
    }
}

impl Usages {
    /// Counts the rows of the database.
    pub(super) fn new(sizes: &[Size]) -> Self {
        let mut usages = Self::default();
        usages.count_again(sizes);
        usages
    }

    /// Replaces what was counted by these rows.
    pub(super) fn count_again(&mut self, sizes: &[Size]) {
        for level in self.0.values_mut() {
            (level.usage, level.is_published) = (Usage::default(), false);
        }
        for Size { route, bytes, is_dead } in sizes {
            let usage = self.of(route);
            *(if *is_dead { &mut usage.dead } else { &mut usage.waiting }) += 1;
            usage.bytes += bytes;
        }
    }

    /// Deliveries of all routes that wait.
    pub(super) fn waiting(&self) -> u64 {
        self.0.values().map(|level| level.usage.waiting).sum()
    }

    /// What is stored of a route.
    pub(super) fn of(&mut self, route: &str) -> &mut Usage {
        let level = self.0.entry(route.into()).or_default();
        level.is_published = false;
        &mut level.usage
    }

    /// Counts one more of these bytes, if it fits.
    ///
    /// # Errors
    ///
    /// The bound that does not allow it.
    pub(super) fn add(&mut self, route: &Arc<str>, rule: &Arc<Durable>, bytes: u64) -> Result<(), String> {
        let level = self.0.entry(Arc::clone(route)).or_default();
        level.rule = Some(Arc::clone(rule));
        let entries = level.usage.waiting + level.usage.dead;
        if bytes > spool::MAXIMUM_BYTES {
            return Err(format!("One delivery may have {} bytes.", spool::MAXIMUM_BYTES));
        }
        if entries >= rule.max_entries {
            return Err(format!("{entries} deliveries of the route are stored (max_entries)."));
        }
        if level.usage.bytes.saturating_add(bytes) > rule.max_bytes {
            return Err(format!("{} bytes of the route are stored (max_bytes).", level.usage.bytes));
        }
        level.usage.waiting += 1;
        level.usage.bytes += bytes;
        level.is_published = false;
        Ok(())
    }

    /// Publishes what has changed, as metrics and as `levels`, and warns of routes that fill.
    pub(super) fn publish(&mut self, levels: &Levels) {
        for (route, level) in self.0.iter_mut().filter(|(_, level)| !level.is_published) {
            level.is_published = true;
            let usage @ Usage { waiting, dead, bytes } = level.usage;
            metrics::stored(route, waiting, dead, bytes);
            levels.set(route, |level| level.usage = usage);
            let Some(percent) = level.percent() else { continue };
            metrics::filled(route, percent);
            if level.alarm.rings(percent) {
                tracing::warn!(
                    %route, waiting, dead, bytes, percent,
                    "the spool of the route fills; at 100 % its senders get 503 (max_entries, max_bytes of durable)"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn an_alarm_rings_once_until_the_level_has_fallen() {
        let mut alarm = Alarm::default();
        let rings = [79, 80, 90, 75, 80, 69, 79, 80].map(|percent| alarm.rings(percent));
        assert_eq!(rings, [false, true, false, false, false, false, false, true]);
    }

    #[test]
    fn what_does_not_fit_is_not_counted() {
        let rule = Arc::new(Durable { max_entries: 3, max_bytes: 100, ..Durable::default() });
        let route: Arc<str> = "a".into();
        let mut usages = Usages::new(&[
            Size { route: "a".into(), bytes: 10, is_dead: true },
            Size { route: "b".into(), bytes: 99, is_dead: false },
        ]);
        usages.add(&route, &rule, 80).unwrap();
        assert!(usages.add(&route, &rule, 11).unwrap_err().contains("90 bytes"));
        usages.add(&route, &rule, 10).unwrap();
        assert!(usages.add(&route, &rule, 0).unwrap_err().contains("3 deliveries"));
        assert_eq!(*usages.of("a"), Usage { waiting: 2, dead: 1, bytes: 100 });
        usages.of("a").waiting -= 1;
        assert!(usages.add(&route, &rule, spool::MAXIMUM_BYTES + 1).is_err());
        // Another process has handed one over meanwhile.
        let rest = Size { route: "a".into(), bytes: 10, is_dead: false };
        usages.count_again(&[rest]);
        assert_eq!([*usages.of("a"), *usages.of("b")], [Usage { waiting: 1, dead: 0, bytes: 10 }, Usage::default()]);
        usages.add(&route, &rule, 90).unwrap();
        usages.add(&"b".into(), &rule, 1).unwrap();
    }
}
