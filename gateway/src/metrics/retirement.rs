//! Series of providers, routes, handlers and key sources that a reload has removed.
//!
//! The recorder cannot remove a series, so removed ones are left out of what a scrape gets. Owns which these are. Must not count.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long the series of a removed name are still rendered, so that Prometheus gets their last values: five scrapes at its default
/// interval of one minute.
const GRACE: Duration = Duration::from_secs(300);

/// The beginning of metrics about stored deliveries: those of a route that is gone are still there, and an operator has to hear of them.
const STORED: &str = "hookgate_spool_";

/// A label and a value that the configuration chose for it, such as `provider` and `pagerduty`.
pub type NamedLabel = (&'static str, String);

/// Which names the configuration has now, and since when others are gone.
#[derive(Debug, Default)]
pub struct Retirement {
    current: BTreeSet<NamedLabel>,
    gone: BTreeMap<NamedLabel, Instant>,
}

impl Retirement {
    /// Replaces the names of the configuration.
    pub fn adopt(&mut self, names: BTreeSet<NamedLabel>, now: Instant) {
        for name in std::mem::take(&mut self.current) {
            if !names.contains(&name) {
                self.gone.insert(name, now);
            }
        }
        self.gone.retain(|name, _| !names.contains(name));
        self.current = names;
    }

    /// `text`, in the text format of Prometheus, without the series of names that are gone for longer than five minutes, and without
    /// those whose value is NaN, which is what a date becomes that a reload has removed.
    #[must_use]
    pub fn without_gone(&self, text: &str, now: Instant) -> String {
        let is_over = |since: &Instant| now.saturating_duration_since(*since) >= GRACE;
        let over: Vec<String> = (self.gone.iter().filter(|(_, since)| is_over(since)))
            .map(|((label, value), _)| format!("{label}=\"{}\"", escaped(value)))
            .collect();
        let mut kept = String::with_capacity(text.len());
        let is_kept = |line: &&str| line.starts_with('#') || line.starts_with(STORED) || !is_gone(line, &over);
        for line in text.lines().filter(is_kept) {
            kept.push_str(line);
            kept.push('\n');
        }
        kept
    }
}

/// Whether a line with a sample has one of the labels, or no value.
fn is_gone(line: &str, labels: &[String]) -> bool {
    if line.ends_with(" NaN") {
        return true;
    }
    let Some((_, written)) = line.split_once('{') else { return false };
    // A label follows the brace or a comma. Within a value a quote is escaped, so no value contains a whole label.
    labels
        .iter()
        .any(|label| written.match_indices(label.as_str()).any(|(at, _)| at == 0 || written[..at].ends_with(',')))
}

/// A label value as the text format writes it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[NamedLabel]) -> BTreeSet<NamedLabel> {
        names.iter().cloned().collect()
    }

    #[test]
    fn the_series_of_removed_names_are_left_out_after_a_while() {
        let text = "# HELP a provider=\"old\"\na{provider=\"old\",reason=\"x\"} 1\na{provider=\"new\"} 2\n\
                    a{route=\"old\"} 3\na{xprovider=\"old\"} 4\na{reason=\",\",provider=\"old\",le=\"+Inf\"} 5\nb 6\n\nd{provider=\"new\"} NaN\n";
        let all = text.replace("d{provider=\"new\"} NaN\n", "");
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let (old, new) = (("provider", "old".to_owned()), ("provider", "new".to_owned()));
        let mut retirement = Retirement::default();
        assert_eq!(retirement.without_gone(text, at(0)), all);
        retirement.adopt(names(&[old.clone(), new.clone()]), at(0));
        retirement.adopt(names(std::slice::from_ref(&new)), at(10));
        assert_eq!(retirement.without_gone(text, at(309)), all);
        let left =
            "# HELP a provider=\"old\"\na{provider=\"new\"} 2\na{route=\"old\"} 3\na{xprovider=\"old\"} 4\nb 6\n\n";
        assert_eq!(retirement.without_gone(text, at(310)), left);
        retirement.adopt(names(std::slice::from_ref(&new)), at(400));
        assert_eq!(retirement.without_gone(text, at(400)), left, "another reload does not bring them back");
        retirement.adopt(names(&[old, new]), at(500));
        assert_eq!(retirement.without_gone(text, at(1000)), all, "a name that is back has its series again");
    }

    #[test]
    fn values_are_compared_as_they_are_written() {
        let text = "a{handler=\"unix:/a\\\\b\\\"c\"} 1\n";
        let begin = Instant::now();
        let mut retirement = Retirement::default();
        retirement.adopt(names(&[("handler", "unix:/a\\b\"c".to_owned())]), begin);
        retirement.adopt(BTreeSet::new(), begin);
        assert_eq!(retirement.without_gone(text, begin + GRACE), "");
        assert_eq!(retirement.without_gone(text, begin), text);
    }
}
