//! What the daemon holds when nothing is open, and whether that grows.

use std::fmt;

use anyhow::{Result, ensure};
use hookgate_testkit::gateway::Gateway;

/// Rounds after which the process has what it keeps: pools of the allocator, caches, connections of the runtime.
const WARM_UP: usize = 2;

/// The least number of rounds that say whether something grows.
pub(super) const ROUNDS_MIN: usize = 4;

/// Descriptors by which a later round may exceed the first warm one: a scrape and a look at files.
const DESCRIPTORS: usize = 4;

/// Bytes of resident memory by which a later round may exceed the first warm one: what the allocator keeps differs by megabytes.
const RESIDENT: u64 = 24 * 1024 * 1024;

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Footprint {
    /// `None` if this process may not look, which only root may.
    descriptors: Option<usize>,
    threads: usize,
    resident: u64,
}

impl Footprint {
    /// Measures the daemon.
    ///
    /// # Errors
    ///
    /// It is not running.
    pub(super) fn of(gateway: &Gateway) -> Result<Self> {
        let (threads, resident) = (gateway.thread_count()?, gateway.rss_bytes()?);
        Ok(Self { descriptors: gateway.fd_count().ok(), threads, resident })
    }
}

impl fmt::Display for Footprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let descriptors = self.descriptors.map_or_else(|| "?".to_owned(), |count| count.to_string());
        write!(formatter, "{descriptors} descriptors, {} threads, {} KiB", self.threads, self.resident / 1024)
    }
}

/// Compares every round after the warm-up with the first of them.
///
/// # Errors
///
/// Names what has grown.
pub(super) fn check(rounds: &[Footprint]) -> Result<()> {
    let Some((first, later)) = rounds.get(WARM_UP - 1..).and_then(<[_]>::split_first) else { return Ok(()) };
    for (number, round) in later.iter().enumerate() {
        let number = number + WARM_UP + 1;
        let more_descriptors = round.descriptors > first.descriptors.map(|count| count + DESCRIPTORS);
        ensure!(!more_descriptors, "descriptors grow: round {number} has {round}, round {WARM_UP} had {first}");
        ensure!(round.threads <= first.threads, "threads grow: round {number} has {round}, not {first}");
        ensure!(
            round.resident <= first.resident + RESIDENT,
            "memory grows: round {number} has {round}, round {WARM_UP} had {first}"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_beyond_the_bounds_is_an_error() {
        let round = |descriptors: usize, threads: usize, mebibytes: u64| Footprint {
            descriptors: Some(descriptors),
            threads,
            resident: mebibytes * 1024 * 1024,
        };
        let first = round(50, 5, 100);
        let is_fine = |later: Footprint| check(&[round(0, 0, 0), first, first, later]).is_ok();
        assert!(is_fine(first) && is_fine(round(54, 5, 124)) && is_fine(round(1, 1, 1)));
        assert!(!is_fine(round(55, 5, 100)) && !is_fine(round(50, 6, 100)) && !is_fine(round(50, 5, 125)));
    }
}
