//! How lists that were fetched become ranges of providers and sets of the filter.
//!
//! Owns what the configuration in use says about both, so that a new list takes effect without another reading of the file. Pure. Must
//! not fetch, nor touch the filter.

use std::sync::Arc;

use ipnet::IpNet;

use super::published::{Content, Copy, Guard, Source, Terms};
use crate::config::{Config, FilterSection, RangeSource, RangeUrl};
use hookgate_core::ranges::{Ranges, SourceCheck, Sources};
use hookgate_filter::{Action, RangeSet};

/// The copy of a source, if there is one.
type Known<'k> = &'k dyn Fn(&Source) -> Option<Arc<Copy>>;

/// The part of a configuration that lists complete.
#[derive(Default)]
pub(super) struct WrittenRanges {
    providers: Vec<ProviderRanges>,
    section: FilterSection,
}

struct ProviderRanges {
    name: Arc<str>,
    check: SourceCheck,
    prefixes: Vec<IpNet>,
    urls: Vec<RangeUrl>,
}

impl WrittenRanges {
    /// Takes this part out of `config`.
    pub(super) fn take(config: &mut Config) -> Self {
        let written = std::mem::take(&mut config.written_ranges);
        let urls = std::mem::take(&mut config.range_urls);
        let providers = config.providers.iter().zip(&config.sources).zip(written).zip(urls);
        let providers = providers.map(|(((provider, sources), prefixes), urls)| ProviderRanges {
            name: Arc::clone(&provider.name),
            check: sources.check,
            prefixes,
            urls,
        });
        Self { providers: providers.collect(), section: std::mem::take(&mut config.filter) }
    }

    /// The lists to fetch, each once, and how much of one may disappear.
    pub(super) fn sources(&self) -> Vec<(Source, Terms)> {
        let mut sources: Vec<Arc<RangeSource>> = Vec::new();
        for source in self.providers.iter().flat_map(|provider| &provider.urls).flat_map(RangeUrl::sources) {
            // A list that several providers name is one allocation.
            if !sources.iter().any(|known| Arc::ptr_eq(known, source)) {
                sources.push(Arc::clone(source));
            }
        }
        let guard = Guard { largest_shrink: self.section.policy.largest_shrink, forced: self.section.force_shrink };
        sources.into_iter().map(|source| (Source::Ranges(source), Terms::Ranges(guard))).collect()
    }

    /// The names of the providers whose ranges come from `source`.
    pub(super) fn users(&self, source: &Source) -> Vec<Arc<str>> {
        let Source::Ranges(list) = source else { return Vec::new() };
        let has_it =
            |provider: &&ProviderRanges| provider.urls.iter().flat_map(RangeUrl::sources).any(|own| own == list);
        self.providers.iter().filter(has_it).map(|provider| Arc::clone(&provider.name)).collect()
    }

    /// The ranges of each provider.
    pub(super) fn ranges(&self, known: Known<'_>) -> Vec<Sources> {
        let sources = self.providers.iter().map(|provider| {
            let (prefixes, is_complete) = provider.prefixes(known);
            Sources { check: provider.check, ranges: Ranges::new(&prefixes), is_complete }
        });
        sources.collect()
    }

    /// The section of the filter, with the ranges of each provider.
    pub(super) fn section(&self, known: Known<'_>) -> FilterSection {
        let mut section = self.section.clone();
        for provider in self.providers.iter().filter(|provider| !provider.urls.is_empty()) {
            let (prefixes, _) = provider.prefixes(known);
            let sets = &mut section.policy.sets;
            match sets.iter_mut().find(|set| *set.name == *provider.name) {
                Some(set) => set.prefixes = prefixes,
                None if prefixes.is_empty() => {}
                None => sets.push(RangeSet { name: provider.name.to_string(), action: Action::Allow, prefixes }),
            }
        }
        section
    }
}

impl ProviderRanges {
    /// All ranges that are known, and whether these are all.
    fn prefixes(&self, known: Known<'_>) -> (Vec<IpNet>, bool) {
        let mut prefixes = self.prefixes.clone();
        let mut is_complete = true;
        for url in &self.urls {
            match url.ranges(|source| ranges(source, known)) {
                Some(ranges) => prefixes.extend(ranges),
                None => is_complete = false,
            }
        }
        (prefixes, is_complete)
    }
}

/// The ranges of a list, if they are known.
fn ranges(source: &Arc<RangeSource>, known: Known<'_>) -> Option<Arc<[IpNet]>> {
    match &known(&Source::Ranges(Arc::clone(source)))?.content {
        Content::Ranges(ranges) => Some(Arc::clone(ranges)),
        Content::List(_) | Content::Keys(_) => None,
    }
}
