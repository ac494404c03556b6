//! The counts in the window of a load, and their percentiles.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::connection::Handshake;
use crate::cpu::on_cpu_ns;
use crate::protocol::{Latency, Measured};

/// Counts between the end of the warm-up and the end of the window.
pub(crate) struct Record {
    watch: Vec<u32>,
    warm_up: Duration,
    window: Duration,
    opens: Instant,
    closes: Instant,
    open: Option<Opening>,
    latencies: Vec<u64>,
    handshakes: Vec<(Handshake, u64)>,
    statuses: BTreeMap<u16, u64>,
    /// Most units that waited for a free connection.
    pub(crate) backlog: usize,
}

/// The moment at which counting began.
struct Opening {
    at: Instant,
    server_cpu_ns: u64,
    client_cpu_ns: u64,
}

impl Record {
    pub(crate) fn new(warm_up: Duration, window: Duration, watch: Vec<u32>) -> Self {
        let opens = Instant::now() + warm_up;
        Self {
            watch,
            warm_up,
            window,
            opens,
            closes: opens + window,
            open: None,
            latencies: Vec::new(),
            handshakes: Vec::new(),
            statuses: BTreeMap::new(),
            backlog: 0,
        }
    }

    /// Restarts the warm-up.
    pub(crate) fn restart(&mut self, now: Instant) {
        self.opens = now + self.warm_up;
        self.closes = self.opens + self.window;
    }

    /// Opens the window when it is due. Returns whether it has ended.
    pub(crate) fn tick(&mut self, now: Instant) -> Result<bool> {
        if self.open.is_none() && now >= self.opens {
            let server_cpu_ns = on_cpu_ns(&self.watch)?;
            let client_cpu_ns = on_cpu_ns(&[std::process::id()])?;
            self.open = Some(Opening { at: Instant::now(), server_cpu_ns, client_cpu_ns });
        }
        Ok(now >= self.closes)
    }

    /// Counts a complete unit.
    pub(crate) fn unit(&mut self, began: Instant, now: Instant) {
        if self.open.is_some() {
            let latency = now.saturating_duration_since(began).as_nanos();
            self.latencies.push(u64::try_from(latency).unwrap_or(u64::MAX));
        }
    }

    /// Counts a handshake.
    pub(crate) fn handshake(&mut self, handshake: Handshake) {
        match self.handshakes.iter_mut().find(|(kind, _)| *kind == handshake) {
            Some((_, count)) => *count += 1,
            None => self.handshakes.push((handshake, 1)),
        }
    }

    /// Counts a response.
    pub(crate) fn status(&mut self, status: u16) {
        *self.statuses.entry(status).or_default() += 1;
    }

    /// Ends the window.
    ///
    /// # Errors
    ///
    /// A watched process has ended.
    pub(crate) fn finish(mut self) -> Result<Measured> {
        let server_cpu_ns = on_cpu_ns(&self.watch)?;
        let client_cpu_ns = on_cpu_ns(&[std::process::id()])?;
        let now = Instant::now();
        let Some(open) = self.open else { anyhow::bail!("the load ended before its window opened") };
        self.latencies.sort_unstable();
        let name = |handshake: &Handshake| {
            let group = handshake.group.map_or_else(|| "-".to_owned(), |group| format!("{group:?}"));
            format!("{:?} {group} {:?}", handshake.suite, handshake.kind)
        };
        Ok(Measured {
            units: self.latencies.len() as u64,
            window_ns: u64::try_from((now - open.at).as_nanos())?,
            server_cpu_ns: server_cpu_ns - open.server_cpu_ns,
            client_cpu_ns: client_cpu_ns - open.client_cpu_ns,
            latency: percentiles(&self.latencies),
            backlog: self.backlog,
            handshakes: self.handshakes.iter().map(|(handshake, count)| (name(handshake), *count)).collect(),
            statuses: self.statuses,
        })
    }
}

/// Percentiles of `sorted`: the smallest value that at least this part of the values does not exceed.
fn percentiles(sorted: &[u64]) -> Latency {
    let at = |permille: usize| match sorted.len() {
        0 => 0,
        length => sorted[(length * permille).div_ceil(1000).saturating_sub(1)],
    };
    Latency { p50: at(500), p90: at(900), p99: at(990), p999: at(999), maximum: at(1000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<u64> = (1..=1000).collect();
        let latency = percentiles(&values);
        let found = [latency.p50, latency.p90, latency.p99, latency.p999, latency.maximum];
        assert_eq!(found, [500, 900, 990, 999, 1000]);
        assert_eq!(percentiles(&[7]).p50, 7);
        assert_eq!(percentiles(&[]).maximum, 0);
    }
}
