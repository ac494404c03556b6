//! The summary of a run: medians, ratios with their range, distance from the floor, targets reached and missed.

use std::fmt::Write as _;

use serde::Serialize;

use super::durable::{Durable, StoredAt};
use super::machine::Machine;
use super::measure::{Cell, Effort, Memory, Sample};
use super::protocol::{Floor, Sender, Transport, Unit};
use super::scenario::{Addition, Metric, Pace, Scenario};
use super::server::Kind;
use super::spread::{CONNECTIONS, Spread};

/// Target for the memory per idle connection, hookgate ÷ best peer.
const MEMORY_TARGET: f64 = 0.5;

/// Target for the connections of two workers, most ÷ fewest.
const SPREAD_TARGET: f64 = 1.2;

/// Target for durable deliveries a second on one core.
const DELIVERED_TARGET: f64 = 10_000.0;

/// Target for the latency at half of that, milliseconds.
const LATENCY_TARGET_MS: f64 = 25.0;

/// The results of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The machine, and the versions.
    pub(crate) machine: Machine,
    /// Durations and numbers.
    pub(crate) effort: Effort,
    /// The crypto floor.
    pub(crate) floor: Floor,
    /// The scenarios.
    pub(crate) rows: Vec<Row>,
    /// Memory of idle connections, or the failure.
    pub(crate) memory: Vec<(Kind, Result<Memory, String>)>,
    /// Spread of connections over a number of workers, or the failure.
    pub(crate) spread: Vec<(Kind, usize, Result<Spread, String>)>,
    /// Durable routes, or the failure.
    pub(crate) durable: Vec<(Kind, Result<Durable, String>)>,
    /// Servers that are not installed, with the reason.
    pub(crate) skipped: Vec<String>,
}

/// The results of one scenario.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    name: &'static str,
    title: &'static str,
    measure: &'static str,
    comparisons: Vec<Comparison>,
    cells: Vec<Cell>,
    #[serde(skip)]
    scenario: Scenario,
}

/// One ratio.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Comparison {
    /// What is divided by what.
    pub(crate) what: String,
    /// The median of the rounds.
    pub(crate) ratio: f64,
    /// The lowest and the highest round.
    pub(crate) spread: (f64, f64),
    /// The highest ratio that reaches the target, if there is a target.
    pub(crate) target: Option<f64>,
}

impl Comparison {
    /// `reached`, `MISSED`, or empty without a target.
    pub(crate) fn verdict(&self) -> &'static str {
        match self.target {
            Some(target) if self.ratio <= target => "reached",
            Some(_) => "MISSED",
            None => "",
        }
    }
}

/// A median and its range.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Summary {
    /// The median.
    pub(crate) median: f64,
    /// The lowest.
    pub(crate) low: f64,
    /// The highest.
    pub(crate) high: f64,
}

impl Summary {
    fn of(values: impl Iterator<Item = f64> + Clone) -> Option<Self> {
        let median = median(values.clone())?;
        Some(Self {
            median,
            low: values.clone().fold(f64::INFINITY, f64::min),
            high: values.fold(f64::NEG_INFINITY, f64::max),
        })
    }
}

/// The median; of an even number of values the mean of the two in the middle.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        length if length % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

impl Row {
    /// Compares `cells`.
    pub(crate) fn new(scenario: Scenario, cells: Vec<Cell>) -> Self {
        let mut row = Self {
            name: scenario.name,
            title: scenario.title,
            measure: scenario.measure(),
            comparisons: Vec::new(),
            cells,
            scenario,
        };
        row.comparisons = match scenario.addition {
            Some(addition) => row.with_and_without(addition),
            None => row.against_best_peer(),
        };
        row
    }

    /// The scenario's title.
    pub(crate) fn title(&self) -> &'static str {
        self.title
    }

    /// The unit of the numbers.
    pub(crate) fn measure(&self) -> &'static str {
        self.measure
    }

    /// The ratios.
    pub(crate) fn comparisons(&self) -> &[Comparison] {
        &self.comparisons
    }

    /// The servers.
    pub(crate) fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// The number of a sample that this scenario compares.
    fn value(&self, sample: &Sample) -> f64 {
        match self.scenario.metric {
            Metric::Cpu => sample.cpu_us,
            Metric::Latency99 => sample.measured.latency.p99 as f64 / 1e3,
        }
    }

    /// The summary of a server's samples.
    pub(crate) fn summary(&self, cell: &Cell) -> Option<Summary> {
        Summary::of(cell.samples.iter().map(|sample| self.value(sample)))
    }

    fn cell(&self, kind: Kind, addition: Option<Addition>) -> Option<&Cell> {
        let found = self.cells.iter().find(|cell| cell.kind == kind && cell.addition == addition);
        found.filter(|cell| cell.failure.is_none())
    }

    /// Compares round by round, so that a slow round of the machine affects both alike.
    fn compare(&self, one: &Cell, other: &Cell, what: String, target: Option<f64>) -> Option<Comparison> {
        let pairs = one.samples.iter().zip(&other.samples);
        let summary = Summary::of(pairs.map(|(one, other)| self.value(one) / self.value(other)))?;
        Some(Comparison { what, ratio: summary.median, spread: (summary.low, summary.high), target })
    }

    fn against_best_peer(&self) -> Vec<Comparison> {
        let peers = self.cells.iter().filter(|cell| cell.kind.is_peer() && cell.failure.is_none());
        let ranked = peers.filter_map(|cell| Some((cell, self.summary(cell)?.median)));
        let Some((best, _)) = ranked.min_by(|one, other| one.1.total_cmp(&other.1)) else { return Vec::new() };
        let against = |kind: Kind, target| {
            self.compare(self.cell(kind, None)?, best, format!("{} ÷ {}", kind.name(), best.kind.name()), target)
        };
        let target = |kind| self.scenario.target.filter(|_| kind == Kind::Hookgate);
        let own = Kind::ALL.into_iter().filter(|kind| kind.is_own());
        own.filter_map(|kind| against(kind, target(kind))).collect()
    }

    fn with_and_without(&self, addition: Addition) -> Vec<Comparison> {
        let of = |kind: Kind| {
            let target = self.scenario.target.filter(|_| kind == Kind::Hookgate);
            let what = format!("{} with ÷ without", kind.name());
            self.compare(self.cell(kind, Some(addition))?, self.cell(kind, None)?, what, target)
        };
        Kind::ALL.into_iter().filter_map(of).collect()
    }

    /// The least that a server can spend here, microseconds: the cryptography of ring, and the CPU time of the null proxy.
    pub(crate) fn floor(&self, floor: &Floor) -> Option<f64> {
        if self.scenario.metric != Metric::Cpu {
            return None;
        }
        let proxy = self.summary(self.cell(Kind::NullProxy, None)?)?.median;
        let exchange = floor.x25519_generate + floor.x25519_agree;
        let crypto = match (self.scenario.unit, self.scenario.sender, self.scenario.transport) {
            (Unit::Request, _, _) | (_, _, Transport::Plain) | (_, Sender::Resuming, Transport::Tls12) => 0.0,
            (_, Sender::Resuming, Transport::Tls13) => exchange,
            _ => exchange + floor.p256_sign + floor.p256_verify,
        };
        Some(proxy + crypto / 1e3)
    }

    /// Whether the servers are saturated.
    pub(crate) fn is_saturated(&self) -> bool {
        self.scenario.pace == Pace::Saturated
    }
}

impl Report {
    /// Scenarios in which hookgate failed.
    pub(crate) fn own_failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for row in &self.rows {
            for cell in row.cells.iter().filter(|cell| cell.kind.is_own()) {
                failures.extend(cell.failure.iter().map(|failure| format!("{}: {failure}", row.name)));
            }
        }
        for (kind, workers, spread) in &self.spread {
            let failure = spread.as_ref().err();
            failures.extend(failure.map(|failure| format!("{}, {workers} workers: {failure}", kind.name())));
        }
        for (kind, durable) in &self.durable {
            let failure = durable.as_ref().err();
            failures.extend(failure.map(|failure| format!("{}, durable: {failure}", kind.name())));
        }
        failures
    }

    /// The memory per idle connection, hookgate ÷ best peer.
    pub(crate) fn memory_comparison(&self) -> Option<Comparison> {
        let measured = || self.memory.iter().filter_map(|(_, memory)| memory.as_ref().ok());
        let own = measured().find(|memory| memory.kind == Kind::Hookgate)?;
        let peers = measured().filter(|memory| memory.kind.is_peer());
        let best = peers.min_by(|one, other| one.bytes_each.total_cmp(&other.bytes_each))?;
        let ratio = own.bytes_each / best.bytes_each;
        let what = format!("hookgate ÷ {}", best.kind.name());
        Some(Comparison { what, ratio, spread: (ratio, ratio), target: Some(MEMORY_TARGET) })
    }

    /// The most connections of a worker ÷ the fewest of one.
    pub(crate) fn spread_comparisons(&self) -> Vec<Comparison> {
        let compare = |(kind, workers, spread): &(Kind, usize, Result<Spread, String>)| {
            let ratio = spread.as_ref().ok()?.ratio;
            let what = format!("{}, {workers} workers: most ÷ fewest", kind.name());
            Some(Comparison { what, ratio, spread: (ratio, ratio), target: Some(SPREAD_TARGET) })
        };
        self.spread.iter().filter_map(compare).collect()
    }

    /// The report as text for a terminal.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("a String takes every text");
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let Machine { date, processor, kernel, compiler, commit, versions, .. } = &self.machine;
        writeln!(text, "\n{date} UTC; {processor}; {kernel}; {compiler}; commit {commit}")?;
        for (name, version) in versions {
            writeln!(text, "  {name:<15} {version}")?;
        }
        for skipped in &self.skipped {
            writeln!(text, "  SKIPPED {skipped}")?;
        }
        let Floor { x25519_generate, x25519_agree, p256_sign, p256_verify, .. } = self.floor;
        writeln!(
            text,
            "  aws-lc, µs: X25519 key {:.1}, agreement {:.1}; P-256 signature {:.1}, verification {:.1}",
            x25519_generate / 1e3,
            x25519_agree / 1e3,
            p256_sign / 1e3,
            p256_verify / 1e3
        )?;
        for row in &self.rows {
            self.write_row(text, row)?;
        }
        self.write_memory(text)?;
        self.write_spread(text)?;
        text.push_str(&self.durable_text());
        let Machine { load_before, load_after, seconds, .. } = &self.machine;
        writeln!(text, "\n{} rounds in {seconds} s; load average {load_before} → {load_after}", self.effort.rounds)
    }

    fn write_row(&self, text: &mut String, row: &Row) -> std::fmt::Result {
        writeln!(text, "\n{} [{}]", row.title, row.name)?;
        let floor = row.floor(&self.floor);
        for cell in &row.cells {
            let name = Addition::beside(cell.addition, cell.kind.name());
            if let Some(failure) = &cell.failure {
                writeln!(text, "  {name:<22} FAILED: {failure}")?;
                continue;
            }
            let Some(Summary { median, low, high }) = row.summary(cell) else { continue };
            write!(text, "  {name:<22} {median:>8.1} {} ({low:.1}–{high:.1})", row.measure)?;
            let rate = self::median(cell.samples.iter().map(|sample| sample.rate)).unwrap_or_default();
            let share = self::median(cell.samples.iter().map(|sample| sample.server_share)).unwrap_or_default();
            write!(text, "  {rate:>7.0}/s, core {:>3.0} %", share * 100.0)?;
            if let Some(calls) = cell.system_calls {
                write!(text, ", {calls:.2} syscalls")?;
            }
            if let Some(floor) = floor.filter(|_| cell.kind != Kind::NullProxy) {
                write!(text, ", {:.2} × floor", median / floor)?;
            }
            if cell.samples.iter().any(|sample| sample.real_time) {
                write!(text, ", at real-time priority")?;
            }
            writeln!(text)?;
        }
        row.comparisons.iter().try_for_each(|comparison| write_comparison(text, comparison))
    }

    fn write_memory(&self, text: &mut String) -> std::fmt::Result {
        if self.memory.is_empty() {
            return Ok(());
        }
        writeln!(text, "\nMemory of an idle TLS connection, {} open", self.effort.idle_connections)?;
        for (kind, memory) in &self.memory {
            match memory {
                Ok(memory) => writeln!(
                    text,
                    "  {:<22} {:>8.1} KiB ({} MiB without, {} MiB with)",
                    kind.name(),
                    memory.bytes_each / 1024.0,
                    memory.before_kib / 1024,
                    memory.with_kib / 1024
                )?,
                Err(failure) => writeln!(text, "  {:<22} FAILED: {failure}", kind.name())?,
            }
        }
        self.memory_comparison().iter().try_for_each(|comparison| write_comparison(text, comparison))
    }

    fn write_spread(&self, text: &mut String) -> std::fmt::Result {
        if self.spread.is_empty() {
            return Ok(());
        }
        writeln!(text, "\nSpread of {CONNECTIONS} connections over workers [spread]")?;
        for (kind, workers, spread) in &self.spread {
            let name = kind.name();
            match spread {
                Ok(Spread { by_worker, handed_over, .. }) => {
                    writeln!(text, "  {name:<22} {}, {handed_over} handed over", list(by_worker))?;
                }
                Err(failure) => writeln!(text, "  {name:<22} {workers} workers FAILED: {failure}")?,
            }
        }
        self.spread_comparisons().iter().try_for_each(|comparison| write_comparison(text, comparison))
    }
}

impl Report {
    /// The durable routes as text; empty if none was measured.
    pub(crate) fn durable_text(&self) -> String {
        if self.durable.is_empty() {
            return String::new();
        }
        let of = |(kind, durable): &(Kind, Result<Durable, String>)| match durable {
            Ok(durable) => durable_lines(kind.name(), durable),
            Err(failure) => format!("  {:<22} FAILED: {failure}\n", kind.name()),
        };
        let lines: String = self.durable.iter().map(of).collect();
        format!("\nDurable webhook, 64 connections, 1 KiB POST [durable-webhook]\n{lines}")
    }
}

fn durable_lines(name: &str, durable: &Durable) -> String {
    let Durable { stored_at, answered, delivered, cpu_us, server_cpu_us, direct_cpu_us, rate, latency99_ms } = durable;
    if *stored_at == StoredAt::Fleet {
        let server_cpu_us = server_cpu_us.unwrap_or_default();
        return format!(
            "  {name} with one NATS server: {answered:.0} answers a second\n  \
             → {delivered:.0} deliveries a second\n  \
             → {cpu_us:.1} µs of CPU a request, and {server_cpu_us:.1} of the server\n  \
             → at {rate:.0} a second 99 % are answered within {latency99_ms:.1} ms\n"
        );
    }
    let verdict = |is_reached| if is_reached { "reached" } else { "MISSED" };
    let (rate, latency) = (verdict(*delivered >= DELIVERED_TARGET), verdict(*latency99_ms <= LATENCY_TARGET_MS));
    let times = cpu_us / direct_cpu_us;
    format!(
        "  {name:<22} {answered:.0} answers a second\n  \
         → {delivered:.0} deliveries a second, target {DELIVERED_TARGET:.0}: {rate}\n  \
         → {cpu_us:.1} µs of CPU a request, direct {direct_cpu_us:.1}: {times:.2} times as much\n  \
         → at 5,000 a second 99 % are answered within {latency99_ms:.1} ms, target {LATENCY_TARGET_MS:.0}: {latency}\n"
    )
}

/// Connections by worker, as a list.
fn list(by_worker: &[f64]) -> String {
    by_worker.iter().map(f64::to_string).collect::<Vec<_>>().join(" + ")
}

fn write_comparison(text: &mut String, comparison: &Comparison) -> std::fmt::Result {
    let Comparison { what, ratio, spread: (low, high), target } = comparison;
    write!(text, "  → {what}: {ratio:.2} ({low:.2}–{high:.2})")?;
    match target {
        Some(target) => writeln!(text, ", target {target:.2}: {}", comparison.verdict()),
        None => writeln!(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_lies_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), Some(2.5));
        assert_eq!(median(std::iter::empty()), None);
    }
}
