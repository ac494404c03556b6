//! The table is complete and well-formed, and docs/metrics.md is made of it.

#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use super::*;
use crate::metrics::DURATION_BUCKETS;

/// If set, the page is written instead of compared.
const BLESS: &str = "HOOKGATE_BLESS";

const BEGIN: &str = "<!-- generated from gateway/src/metrics/table.rs -->\n";
const END: &str = "<!-- end -->";

/// How many series a metric has at most, as a product.
fn series(metric: &Metric) -> String {
    let factor = |label: &&str| LABELS.iter().find(|row| row.name == *label).map(|row| row.most);
    let factors: Vec<&str> = metric.labels.iter().filter_map(factor).filter(|most| *most != "1").collect();
    // The buckets, that of all, the sum and the count.
    let of_each = DURATION_BUCKETS.len() + 3;
    match (metric.kind, factors.is_empty()) {
        (Kind::Histogram, true) => of_each.to_string(),
        (Kind::Histogram, false) => format!("{} × {of_each}", factors.join(" × ")),
        (_, true) => "1".to_owned(),
        (_, false) => factors.join(" × "),
    }
}

/// `text` within a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// The generated part of the page.
fn reference() -> String {
    let mut text = String::new();
    let mut section = "";
    for metric in METRICS {
        if metric.section != section {
            section = metric.section;
            let head = "| metric | type | unit | labels | most series | meaning | example |\n| --- | --- | --- | --- | --- | --- | --- |\n";
            write!(text, "\n### {section}\n\n{head}").unwrap();
        }
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, kind, labels) = (metric.name, metric.kind.label(), labels.join(", "));
        let unit = metric.unit().map_or("", |unit| unit.as_str());
        let (meaning, query) = (cell(metric.meaning), cell(metric.query));
        let series = series(metric);
        writeln!(text, "| `{name}` | {kind} | {unit} | {labels} | {series} | {meaning} | `{query}` |").unwrap();
    }
    text.push_str("\n### Labels\n\n| label | values | counted as |\n| --- | --- | --- |\n");
    for Label { name, values, most } in LABELS {
        writeln!(text, "| `{name}` | {values} | {most} |").unwrap();
    }
    text.push('\n');
    text
}

#[test]
fn the_page_has_the_table() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let expected = format!("{before}{BEGIN}{}{END}{after}", reference());
    if std::env::var_os(BLESS).is_some() {
        return fs::write(&path, expected).unwrap();
    }
    assert!(page == expected, "docs/metrics.md is not what the table says: run this test with {BLESS}=1");
}

#[test]
fn names_follow_the_conventions_of_prometheus() {
    for metric in METRICS {
        let (name, kind) = (metric.name, metric.kind);
        assert!(name.starts_with("hookgate_") || name.starts_with("process_"), "{name}");
        assert_eq!(name.ends_with("_total"), kind == Kind::Counter, "{name}");
        assert_eq!(kind == Kind::Histogram, name.ends_with("_duration_seconds"), "{name}");
        let foreign = ["_ms", "_milliseconds", "_count", "_sum", "_bucket", "_kb", "_kib"];
        assert!(!foreign.iter().any(|suffix| name.ends_with(suffix)), "{name}");
    }
    let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), METRICS.len(), "a name is there twice");
}

#[test]
fn every_row_is_complete() {
    for metric in METRICS {
        let name = metric.name;
        assert!(metric.meaning.ends_with('.'), "{name}: a sentence");
        assert!(metric.query.contains(name), "{name}: an example of something else");
        for label in metric.labels {
            assert!(LABELS.iter().any(|row| row.name == *label), "{name}: no row for the label {label}");
        }
    }
    for label in LABELS {
        assert!(METRICS.iter().any(|metric| metric.labels.contains(&label.name)), "no metric has {}", label.name);
    }
    assert!(LABELS.is_sorted_by(|one, next| one.name < next.name), "labels in alphabetical order");
}
