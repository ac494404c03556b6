//! What the files and lists of ranges of a provider leave out, and from whom a list is taken.
//!
//! Owns the comparison of two versions of them. A range that is added names who may send, and a list that has lost ranges admits fewer
//! addresses. But a file that is cut within its last line, or a list of exceptions that is cut, admits more.

use std::collections::BTreeMap;

use ipnet::IpNet;
use toml::de::{DeTable, DeValue};

use crate::config::ranges::RangeFile;
use hookgate_core::ranges::Ranges;

/// Most removed files and lists that are remembered: as many as a provider may have.
const MAXIMUM_REMOVED: usize = 80;

/// Most ranges that a file is remembered to leave out. Lists of senders have some hundred.
const MAXIMUM_LEFT_OUT: usize = 65_536;

/// What the ranges of a provider demand.
#[derive(Clone, Debug, Default)]
pub(super) struct RangeStrength {
    /// By the name of the file, or the URL of the list.
    sources: BTreeMap<String, SourceStrength>,
    /// Those of earlier configurations, at most [`MAXIMUM_REMOVED`].
    removed: BTreeMap<String, SourceStrength>,
    /// The ranges that are written, or stand in files.
    all: Ranges,
}

/// What one file or list demands.
#[derive(Clone, Debug, Default)]
struct SourceStrength {
    /// `minus`; empty without it.
    minus: String,
    has_pointer: bool,
    has_ca_file: bool,
    open_end: Option<IpNet>,
    kept: Ranges,
    /// Also what an earlier version left out, unless this one has it.
    left_out: Ranges,
}

impl RangeStrength {
    /// `table` is the provider's table, `files` what was read of the files that it names, and `all` the ranges without those that are
    /// fetched.
    pub(super) fn new(table: Option<&DeTable<'_>>, files: &[RangeFile], all: &Ranges) -> Self {
        let lists = [("source_range_files", "file"), ("source_range_urls", "url")];
        let table = |(key, of)| table.map(|table| sources(table, key, of)).unwrap_or_default();
        let mut sources: BTreeMap<_, _> = lists.into_iter().flat_map(table).collect();
        for RangeFile { name, open_end, kept, left_out } in files {
            let source = sources.entry(name.clone()).or_default();
            source.open_end = *open_end;
            (source.kept, source.left_out) = (kept.clone(), left_out.clone());
        }
        Self { sources, removed: BTreeMap::new(), all: all.clone() }
    }

    /// Remembers the sources of `old`, which this version replaces, and what they left out.
    pub(super) fn remember(&mut self, old: Self) {
        for (name, source) in &mut self.sources {
            if let Some(known) = old.known(name) {
                source.remember(known);
            }
        }
        let gone = old.sources.into_iter().chain(old.removed).filter(|(name, _)| !self.sources.contains_key(name));
        for (name, source) in gone {
            self.removed.entry(name).or_insert(source);
        }
        while self.removed.len() > MAXIMUM_REMOVED {
            self.removed.pop_last();
        }
    }

    /// What `new` lacks of this version, which had ranges.
    pub(super) fn losses(&self, new: &Self, report: &mut dyn FnMut(String)) {
        for (name, source) in &new.sources {
            if let Some(range) = source.open_end
                && !Ranges::new(&[range]).minus(&self.all).is_empty()
            {
                report(format!("the last line of {name}, {range}, is new and has no line break: the file may be cut"));
            }
            if let Some(known) = self.known(name) {
                known.losses(name, source, report);
            }
        }
    }

    /// What this version, of the provider `owner`, demands of the sources that `new` of another one has and `old` had not. `next` is what
    /// `owner` has now. A source that it has no longer was not added to the other: it lost its header.
    pub(super) fn losses_of_taken_over(
        &self,
        owner: &str,
        next: Option<&Self>,
        (old, new): (&Self, &Self),
        report: &mut dyn FnMut(String),
    ) {
        for (name, source) in new.sources.iter().filter(|(name, _)| old.known(name).is_none()) {
            let Some(known) = self.known(name) else { continue };
            known.losses(name, source, report);
            if !next.is_some_and(|next| next.sources.contains_key(name)) {
                report(format!("the ranges of {name} come from provider {owner}, which has them no longer"));
            }
        }
    }

    fn known(&self, name: &str) -> Option<&SourceStrength> {
        self.sources.get(name).or_else(|| self.removed.get(name))
    }
}

impl SourceStrength {
    /// Remembers what `old` left out and this version does not have: it can come back with the lines that were lost.
    fn remember(&mut self, old: &Self) {
        let own = self.left_out.minus(&Ranges::default());
        let all = [own, old.left_out.minus(&self.kept)].concat();
        if all.len() <= MAXIMUM_LEFT_OUT {
            self.left_out = Ranges::new(&all);
        }
    }

    fn losses(&self, name: &str, new: &Self, report: &mut dyn FnMut(String)) {
        if !self.minus.is_empty() && new.minus.is_empty() {
            report(format!("the ranges of {} are no longer left out of {name}", self.minus));
        } else if let Some(range) = common(&self.left_out, &new.kept).first() {
            report(format!("{} no longer leaves out of {name} what it did, such as {range}", new.minus));
        }
        if self.has_pointer && !new.has_pointer {
            report(format!("pointer no longer selects the ranges of {name}"));
        }
        if self.has_ca_file && !new.has_ca_file {
            report(format!("ca_file is no longer demanded of {name}"));
        }
    }
}

/// What is in both.
fn common(one: &Ranges, other: &Ranges) -> Vec<IpNet> {
    one.minus(&Ranges::new(&one.minus(other)))
}

/// The entries of the array `key`, whose tables have their name in `of`.
fn sources(table: &DeTable<'_>, key: &str, of: &str) -> BTreeMap<String, SourceStrength> {
    let Some(DeValue::Array(entries)) = table.get(key).map(toml::Spanned::get_ref) else { return BTreeMap::new() };
    let text = |table: &DeTable<'_>, key: &str| table.get(key).and_then(|it| it.get_ref().as_str()).map(str::to_owned);
    let entry = |value: &DeValue<'_>| match value {
        DeValue::String(name) => Some((name.to_string(), SourceStrength::default())),
        DeValue::Table(table) => {
            let (has_pointer, has_ca_file) = (table.contains_key("pointer"), table.contains_key("ca_file"));
            let minus = text(table, "minus").unwrap_or_default();
            Some((text(table, of)?, SourceStrength { minus, has_pointer, has_ca_file, ..SourceStrength::default() }))
        }
        _ => None,
    };
    entries.iter().filter_map(|value| entry(value.get_ref())).collect()
}
