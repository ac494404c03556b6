//! The status line that `systemctl status` shows: what is served, and how the last reload went.
//!
//! Owns the wording. Must not decide anything.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::snapshot::Snapshot;

/// The numbers of what is served.
#[derive(Clone, Copy, Debug)]
pub(super) struct Serving {
    routes: usize,
    providers: usize,
    workers: usize,
    backend: &'static str,
    generation: u64,
}

impl Serving {
    /// The numbers of `snapshot`, with this many workers on this backend.
    pub(super) fn new(snapshot: &Snapshot, workers: usize, backend: &'static str) -> Self {
        let (routes, providers) = (snapshot.routes.routes().len(), snapshot.sources.len());
        Self { routes, providers, workers, backend, generation: snapshot.generation }
    }

    /// The line after the start.
    pub(super) fn started(self) -> String {
        format!("{}; generation {}", self.numbers(), self.generation)
    }

    /// The line after a reload at `now`.
    pub(super) fn reloaded(self, now: SystemTime) -> String {
        format!("{}; generation {}, reloaded {}", self.numbers(), self.generation, clock(now))
    }

    /// The line after a reload at `now` that failed.
    pub(super) fn not_reloaded(self, now: SystemTime) -> String {
        format!(
            "{}; still generation {}: the reload at {} failed; the log says why; correct that and reload again",
            self.numbers(),
            self.generation,
            clock(now)
        )
    }

    fn numbers(self) -> String {
        let (routes, providers) = (counted(self.routes, "route"), counted(self.providers, "provider"));
        format!("serving {routes} of {providers} with {} on {}", counted(self.workers, "worker"), self.backend)
    }
}

/// `1 worker`, `2 workers`.
pub(super) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// The time of day in UTC: a local time would need the time zone files of the host.
fn clock(now: SystemTime) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs() % 86_400;
    format!("{:02}:{:02}:{:02} UTC", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_served_and_how_the_last_reload_went() {
        let serving = Serving { routes: 3, providers: 2, workers: 1, backend: "io_uring", generation: 4 };
        let at = UNIX_EPOCH + Duration::from_secs(20_000 * 86_400 + 12 * 3600 + 31 * 60 + 7);
        let numbers = "serving 3 routes of 2 providers with 1 worker on io_uring";
        assert_eq!(serving.started(), format!("{numbers}; generation 4"));
        assert_eq!(serving.reloaded(at), format!("{numbers}; generation 4, reloaded 12:31:07 UTC"));
        let failed =
            "still generation 4: the reload at 12:31:07 UTC failed; the log says why; correct that and reload again";
        assert_eq!(serving.not_reloaded(at), format!("{numbers}; {failed}"));
    }
}
