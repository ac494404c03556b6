//! The report as one HTML page with inline plots, without scripts and without external files.

use std::fmt::{self, Write as _};

use super::report::{Comparison, Report, Row, Summary};
use super::scenario::Addition;
use super::server::Kind;
use super::spread::CONNECTIONS;

/// Width of a plot, pixels.
const WIDTH: f64 = 860.0;

/// The left end of the bars, beside the names.
const LEFT: f64 = 170.0;

/// The right end of the longest bar, beside the numbers.
const RIGHT: f64 = 640.0;

/// Height of one bar with its margin.
const LINE: f64 = 24.0;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}\
table{border-collapse:collapse;margin:1em 0}td,th{padding:.2em .8em;border-bottom:1px solid #ddd;text-align:left}\
td.n{text-align:right;font-variant-numeric:tabular-nums}svg{display:block;font:13px system-ui,sans-serif}\
.missed{color:#b00020;font-weight:600}.reached{color:#0a6b2d;font-weight:600}h2{font-size:1.1em;margin:1.6em 0 .3em}\
p.note{color:#555;margin:.2em 0}";

/// The page.
pub(crate) fn page(report: &Report) -> String {
    let mut page = String::new();
    write(&mut page, report).expect("a String takes every text");
    page
}

fn write(page: &mut String, report: &Report) -> fmt::Result {
    let machine = &report.machine;
    write!(
        page,
        "<!doctype html><html lang=en><meta charset=utf-8><title>hookgate compared with other servers</title>"
    )?;
    write!(page, "<style>{STYLE}</style><h1>hookgate compared with other servers</h1>")?;
    write!(page, "<p>{} UTC · {} · {} · ", machine.date, escaped(&machine.processor), escaped(&machine.kernel))?;
    write!(page, "{} · commit {}. ", escaped(&machine.compiler), escaped(&machine.commit))?;
    write!(
        page,
        "{} rounds in alternating order, {} ms each, in {} s. ",
        report.effort.rounds, report.effort.window_ms, machine.seconds
    )?;
    write!(page, "Load average {} before, {} after.</p>", machine.load_before, machine.load_after)?;
    write!(page, "<p>Bars are medians of the rounds, whiskers the lowest and the highest round. Shorter is better. ")?;
    write!(page, "The grey line is the floor: the cryptography of aws-lc, and a proxy without TLS and HTTP.</p>")?;
    summary(page, report)?;
    for row in &report.rows {
        section(page, report, row)?;
    }
    memory(page, report)?;
    durable(page, report)?;
    write!(page, "<h2>Versions</h2><table>")?;
    for (name, version) in &machine.versions {
        write!(page, "<tr><td>{name}<td>{}", escaped(version))?;
    }
    for skipped in &report.skipped {
        write!(page, "<tr><td>skipped<td>{}", escaped(skipped))?;
    }
    write!(page, "</table></html>")
}

/// The ratios, in one table.
fn summary(page: &mut String, report: &Report) -> fmt::Result {
    write!(page, "<table><tr><th>scenario<th>ratio of<th>median<th>rounds<th>target<th>")?;
    for row in &report.rows {
        for comparison in row.comparisons() {
            summary_line(page, row.title(), comparison)?;
        }
    }
    if let Some(comparison) = report.memory_comparison() {
        summary_line(page, "Memory of an idle TLS connection", &comparison)?;
    }
    for comparison in report.spread_comparisons() {
        summary_line(page, &format!("Spread of {CONNECTIONS} connections over workers"), &comparison)?;
    }
    write!(page, "</table>")
}

fn summary_line(page: &mut String, title: &str, comparison: &Comparison) -> fmt::Result {
    let Comparison { what, ratio, spread: (low, high), target } = comparison;
    write!(page, "<tr><td>{title}<td>{what}<td class=n>{ratio:.2}<td class=n>{low:.2}–{high:.2}")?;
    write!(page, "<td class=n>{}", target.map(|target| format!("{target:.2}")).unwrap_or_default())?;
    let verdict = comparison.verdict();
    write!(page, "<td class={}>{verdict}", verdict.to_lowercase())
}

fn section(page: &mut String, report: &Report, row: &Row) -> fmt::Result {
    write!(page, "<h2>{}</h2><p class=note>{}</p>", row.title(), row.measure())?;
    let mut bars = Vec::new();
    for cell in row.cells() {
        let name = Addition::beside(cell.addition, cell.kind.name());
        match (row.summary(cell), &cell.failure) {
            (Some(summary), None) => {
                let calls = cell.system_calls.map(|calls| format!(", {calls:.2} syscalls")).unwrap_or_default();
                bars.push(Bar { name, kind: cell.kind, summary, note: format!("{:.1} µs{calls}", summary.median) });
            }
            (_, failure) => {
                let reason = failure.as_deref().unwrap_or("no sample");
                write!(page, "<p class=note>{name}: {}</p>", escaped(reason))?;
            }
        }
    }
    let floor = if row.is_saturated() { row.floor(&report.floor) } else { None };
    plot(page, &bars, floor)
}

fn durable(page: &mut String, report: &Report) -> fmt::Result {
    let text = report.durable_text();
    if text.is_empty() { Ok(()) } else { write!(page, "<h2>Durable webhook</h2><pre>{}</pre>", escaped(&text)) }
}

fn memory(page: &mut String, report: &Report) -> fmt::Result {
    let bars: Vec<Bar> = report
        .memory
        .iter()
        .filter_map(|(kind, memory)| {
            let kib = memory.as_ref().ok()?.bytes_each / 1024.0;
            let summary = Summary { median: kib, low: kib, high: kib };
            Some(Bar { name: kind.name().to_owned(), kind: *kind, summary, note: format!("{kib:.1} KiB") })
        })
        .collect();
    if bars.is_empty() {
        return Ok(());
    }
    write!(page, "<h2>Memory of an idle TLS connection</h2><p class=note>")?;
    write!(page, "KiB of proportional set size, {} connections open</p>", report.effort.idle_connections)?;
    plot(page, &bars, None)
}

struct Bar {
    name: String,
    kind: Kind,
    summary: Summary,
    note: String,
}

fn plot(page: &mut String, bars: &[Bar], floor: Option<f64>) -> fmt::Result {
    let longest = bars.iter().map(|bar| bar.summary.high).chain(floor).fold(f64::MIN_POSITIVE, f64::max);
    let place = |value: f64| LEFT + value / longest * (RIGHT - LEFT);
    let height = LINE * bars.len() as f64 + 6.0;
    write!(page, "<svg role=img width={WIDTH} height={height} viewBox='0 0 {WIDTH} {height}'>")?;
    for (index, bar) in bars.iter().enumerate() {
        let top = LINE * index as f64 + 4.0;
        let middle = top + LINE / 2.0 - 3.0;
        let Summary { median, low, high } = bar.summary;
        write!(page, "<text x={} y={} text-anchor=end>{}</text>", LEFT - 8.0, middle + 5.0, bar.name)?;
        let (length, fill) = (place(median) - LEFT, colour(bar.kind));
        write!(page, "<rect x={LEFT} y={top} width={length:.1} height={} fill='{fill}'/>", LINE - 6.0)?;
        let (low, high) = (place(low), place(high));
        write!(
            page,
            "<path d='M{low:.1} {middle}H{high:.1}M{low:.1} {}v8M{high:.1} {}v8' ",
            middle - 4.0,
            middle - 4.0
        )?;
        write!(page, "stroke='#222' fill=none />")?;
        write!(page, "<text x={:.1} y={}>{}</text>", high.max(place(median)) + 8.0, middle + 5.0, bar.note)?;
    }
    if let Some(floor) = floor.map(place) {
        write!(page, "<path d='M{floor:.1} 0V{height}' stroke='#888' stroke-width=2 stroke-dasharray='4 3'/>")?;
    }
    write!(page, "</svg>")
}

fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::Hookgate => "#1f6feb",
        Kind::HookgateTokioUring => "#0b3d91",
        Kind::HookgateEpoll => "#79a9f5",
        Kind::HookgateRing => "#0f3f8f",
        Kind::NullProxy => "#d0d0d0",
        Kind::Nginx | Kind::HaProxy | Kind::NginxTrixie | Kind::HaProxyTrixie | Kind::Caddy | Kind::Envoy => "#e0a458",
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
