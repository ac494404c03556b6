//! The samples of a scrape, parsed from as much of the Prometheus text format as the daemon writes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::http;

/// How long a scrape may take.
const SCRAPE_LIMIT: Duration = Duration::from_secs(5);

/// One sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The name, `_bucket`, `_sum` or `_count` included.
    pub name: String,
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
}

/// Everything that one scrape returned.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics(pub Vec<Sample>);

impl Metrics {
    /// Scrapes `http://address/metrics`.
    ///
    /// # Errors
    ///
    /// No response within five seconds, a status other than 200, or a line that is no sample.
    pub fn scrape(address: SocketAddr) -> Result<Self> {
        let response = http::get(address, "/metrics", SCRAPE_LIMIT).context("scraping the metrics")?;
        ensure!(response.status == 200, "the metrics endpoint answered {}", response.status);
        Self::parse(&response.text())
    }

    /// Parses the text format.
    ///
    /// # Errors
    ///
    /// A line that is no sample; it is in the message.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines
            .map(|line| parse_sample(line).with_context(|| format!("no sample: {line}")))
            .collect::<Result<_>>()
            .map(Self)
    }

    /// The sum over all samples of `name` that have every one of `labels`, and any others. 0 if there is none: a counter that was
    /// never incremented is absent.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).map(|sample| sample.value).sum()
    }

    /// Whether there is any such sample.
    pub fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.matching(name, labels).next().is_some()
    }

    fn matching<'a>(&'a self, name: &'a str, labels: &'a [(&str, &str)]) -> impl Iterator<Item = &'a Sample> {
        self.0.iter().filter(move |sample| {
            let has = |(key, value): &(&str, &str)| sample.labels.get(*key).is_some_and(|found| found == value);
            sample.name == name && labels.iter().all(has)
        })
    }
}

fn parse_sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            rest = rest.trim_start_matches([',', ' ']);
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (key, after) = rest.split_once("=\"")?;
            let (value, after) = parse_label_value(after)?;
            labels.insert(key.to_owned(), value);
            rest = after;
        }
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// The value up to its closing quote, with escapes resolved, and the text after it.
fn parse_label_value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[index + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                escaped => value.push(escaped),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::Metrics;

    const TEXT: &str = "# TYPE a counter\na 3\n\nb{x=\"1\",y=\"p\\\"q\"} 2\nb{x=\"2\"} 0.5\nc_bucket{le=\"+Inf\"} 7\n";

    #[test]
    fn samples_are_summed_over_the_labels_that_are_not_given() {
        let metrics = Metrics::parse(TEXT).expect("is well-formed");
        let check = |name, labels: &[(&str, &str)], expected: f64| {
            assert_eq!(metrics.sum(name, labels), expected, "{name} {labels:?}");
        };
        check("a", &[], 3.0);
        check("b", &[], 2.5);
        check("b", &[("y", "p\"q")], 2.0);
        check("b", &[("x", "2")], 0.5);
        check("b", &[("x", "3")], 0.0);
        check("c_bucket", &[("le", "+Inf")], 7.0);
        assert!(metrics.has("a", &[]) && !metrics.has("d", &[]));
        Metrics::parse("no value here").expect_err("is no sample");
    }
}
