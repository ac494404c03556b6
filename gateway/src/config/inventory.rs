//! The inventory of a configuration: a list of its settings and of the contents of its files, so that a reload can log what it
//! changed.
//!
//! Owns the list and the words about the difference of two lists. Must not read a file or a clock, and must not hold a secret:
//! see `entry`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use data_encoding::HEXLOWER;
use toml::de::{DeTable, DeValue};

use super::certificate::{Certificate, ServerCertificate};
use super::entry::{Entry, FoundEntry, Kind};
use super::file;
use hookgate_core::identity::{Profile, Provider, trust_anchor_label};
use hookgate_core::ranges::Sources;
use hookgate_core::route::Route;
use hookgate_filter::RangeSet;

/// The most characters of a value that are shown.
const MAXIMUM_SHOWN_CHARACTERS: usize = 120;

/// The keys whose values are secrets.
const SECRET_KEYS: [&str; 1] = ["unsafe_value"];

/// What only a restart changes: a reload keeps the values of the start.
const FIXED: [&str; 9] = [
    "admin.",
    "fleet.",
    "listen.",
    "log.format",
    "metrics.",
    "state.",
    "limits.chain_cache_entries",
    "limits.chain_cache_ttl_s",
    "limits.replay_entries",
];

/// What a reload changes, although it is below entries of [`FIXED`].
const RELOADED: [&str; 2] = ["listen.http2", "listen.proxy_protocol."];

/// The owner of an entry: an element of an array of tables, by its name, or a section.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    /// `[limits]`, for example; empty for the keys above all sections.
    Section(String),
    /// `provider pagerduty`, for example.
    Element(String),
}

/// The entries, by owner and item.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory(BTreeMap<Owner, BTreeMap<String, Entry>>);

/// A difference, as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change(String);

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What the sections of a document were parsed into. Elements of arrays of tables are in the order of the file.
pub(super) struct Parsed<'c> {
    pub(super) certificates: &'c [Certificate],
    pub(super) providers: &'c [Provider],
    /// By provider.
    pub(super) sources: &'c [Sources],
    /// By provider: the number of its ranges as written.
    pub(super) range_counts: &'c [usize],
    pub(super) routes: &'c [Route],
    /// The range sets of `[filter]` and of the providers.
    pub(super) filter_sets: &'c [RangeSet],
}

impl Inventory {
    /// The inventory of the document `root`, which was parsed into `parsed`. `found` was found on the way.
    pub(super) fn new(root: &DeTable<'_>, parsed: &Parsed<'_>, found: &[FoundEntry]) -> Self {
        let names = Names::new(root, parsed);
        let mut inventory = Self::default();
        inventory.settings(root, &names);
        for (index, certificate) in parsed.certificates.iter().enumerate() {
            if let Some(entry) = certificate.of_files().and_then(certificate_entry) {
                inventory.add(names.owner("certificate", index), String::new(), entry);
            }
        }
        for (index, provider) in parsed.providers.iter().enumerate() {
            let owner = names.owner("provider", index);
            for profile in &provider.profiles {
                // The name of a single profile is omitted.
                let suffix =
                    if provider.profiles.len() > 1 { format!(" (profile {})", profile.name) } else { String::new() };
                inventory.profile(&owner, profile, &suffix);
            }
            if let (Some(count), Some(sources)) = (parsed.range_counts.get(index), parsed.sources.get(index)) {
                let content = format!("{:?}", sources.ranges);
                inventory.add(owner, "ranges".to_owned(), Entry::new(format!("{count} prefixes"), &content));
            }
        }
        for set in parsed.filter_sets {
            // The sets of providers are listed with the providers.
            if !parsed.providers.iter().any(|provider| *provider.name == *set.name) {
                let entry = Entry::new(format!("{} prefixes", set.prefixes.len()), &format!("{:?}", set.prefixes));
                inventory.add(Owner::Section("filter".to_owned()), format!("ranges of {}", set.name), entry);
            }
        }
        for FoundEntry { section, index, item, entry } in found {
            let owner = index.map_or_else(|| Owner::Section(section.clone()), |index| names.owner(section, index));
            inventory.add(owner, item.clone(), entry.clone());
        }
        inventory
    }

    /// Adds an entry. Of two entries about one item, the first is shown, and a change of either is a change.
    fn add(&mut self, owner: Owner, item: String, entry: Entry) {
        let items = self.0.entry(owner).or_default();
        match items.get_mut(&item) {
            Some(known) if *known == entry => {}
            Some(known) => known.merge(&entry),
            None => {
                items.insert(item, entry);
            }
        }
    }

    fn settings(&mut self, root: &DeTable<'_>, names: &Names) {
        for (key, value) in root {
            let key = key.get_ref();
            match value.get_ref() {
                DeValue::Table(table) => self.table(&Owner::Section(key.to_string()), "", table),
                DeValue::Array(elements) => {
                    for (index, element) in elements.iter().enumerate() {
                        if let DeValue::Table(table) = element.get_ref() {
                            self.table(&names.owner(key, index), "", table);
                        }
                    }
                }
                scalar => self.add(Owner::Section(String::new()), key.to_string(), setting(scalar)),
            }
        }
    }

    /// Adds the settings of a table, and of the tables in it with a prefix.
    fn table(&mut self, owner: &Owner, prefix: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let item = format!("{prefix}{}", key.get_ref());
            match value.get_ref() {
                _ if SECRET_KEYS.contains(&key.get_ref().as_ref()) => {}
                DeValue::Table(table) => self.table(owner, &format!("{item}."), table),
                value => self.add(owner.clone(), item, setting(value)),
            }
        }
    }

    fn profile(&mut self, owner: &Owner, profile: &Profile, suffix: &str) {
        for (anchor, not_after) in profile.trust_anchors.with_ends() {
            let entry = Entry::new(format!("until {}", file::day_of(not_after)), &not_after);
            self.add(owner.clone(), format!("trust anchor {}{suffix}", trust_anchor_label(anchor)), entry);
        }
        // The newest list of an issuer comes first, and is in use.
        for list in profile.revocation.iter().flat_map(|lists| lists.lists()) {
            let number = list.number().map(|number| format!("number {number}, ")).unwrap_or_default();
            let (this_update, next_update) = (list.this_update().as_secs(), list.next_update().as_secs());
            let shown = format!("{number}next update {}", file::day_of(next_update));
            let entry = Entry::new(shown, &(list.number(), this_update, next_update));
            self.add(owner.clone(), format!("revocation list of {}{suffix}", list.issuer()), entry);
        }
    }
}

/// The names of the elements of arrays of tables.
struct Names(BTreeMap<(String, usize), String>);

impl Names {
    fn new(root: &DeTable<'_>, parsed: &Parsed<'_>) -> Self {
        let mut names = BTreeMap::new();
        for (section, value) in root {
            let DeValue::Array(elements) = value.get_ref() else { continue };
            let mut taken: BTreeMap<String, usize> = BTreeMap::new();
            for (index, element) in elements.iter().enumerate() {
                let name = match section.get_ref().as_ref() {
                    "certificate" => parsed.certificates.get(index).map(certificate_name),
                    "route" => parsed.routes.get(index).map(|route| format!("\"{}\"", route.name)),
                    _ => own_name(element.get_ref()),
                };
                let name = name.unwrap_or_else(|| (index + 1).to_string());
                let text = format!("{} {name}", section.get_ref().replace('_', " "));
                let count = taken.entry(text.clone()).or_insert(0);
                *count += 1;
                // Two certificates can have the same name, with keys of different types.
                let text = if *count > 1 { format!("{text} ({count})") } else { text };
                names.insert((section.get_ref().to_string(), index), text);
            }
        }
        Self(names)
    }

    fn owner(&self, section: &str, index: usize) -> Owner {
        let name = self.0.get(&(section.to_owned(), index));
        Owner::Element(name.cloned().unwrap_or_else(|| format!("{section}[{index}]")))
    }
}

fn own_name(element: &DeValue<'_>) -> Option<String> {
    let DeValue::Table(table) = element else { return None };
    match table.get("name")?.get_ref() {
        DeValue::String(name) => Some(name.to_string()),
        _ => None,
    }
}

fn certificate_name(certificate: &Certificate) -> String {
    let path = || certificate.of_files().map(|files| files.chain_path.display().to_string()).unwrap_or_default();
    certificate.names().first().cloned().unwrap_or_else(path)
}

fn certificate_entry(certificate: &ServerCertificate) -> Option<Entry> {
    let parsed = file::parse(certificate.chain.first()?, 0, &certificate.chain_path).ok()?;
    let (serial, until) = (HEXLOWER.encode(parsed.raw_serial()), file::day(parsed.validity().not_after));
    Some(Entry::new(format!("serial {serial} until {until}"), &certificate.chain))
}

/// A value as TOML, without secrets, and cut if it is long.
fn setting(value: &DeValue<'_>) -> Entry {
    let text = written(value);
    match text.char_indices().nth(MAXIMUM_SHOWN_CHARACTERS) {
        Some((end, _)) => Entry::setting(format!("{}…", &text[..end]), &text),
        None => Entry::setting(text.clone(), &text),
    }
}

fn written(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(integer) => integer.to_string(),
        DeValue::Float(float) => float.to_string(),
        DeValue::Boolean(boolean) => boolean.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(array) => {
            let elements: Vec<String> = array.iter().map(|element| written(element.get_ref())).collect();
            format!("[{}]", elements.join(", "))
        }
        DeValue::Table(table) => {
            let entry = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| -> String {
                let key: &std::borrow::Cow<'_, str> = key.get_ref();
                let hidden = SECRET_KEYS.contains(&key.as_ref());
                let value = if hidden { "(hidden)".to_owned() } else { written(value.get_ref()) };
                format!("{key} = {value}")
            };
            let entries: Vec<String> = table.iter().map(entry).collect();
            format!("{{ {} }}", entries.join(", "))
        }
    }
}

/// The differences of `new` from `old`, in the order of owners and items.
pub fn difference(old: &Inventory, new: &Inventory) -> Vec<Change> {
    let nothing = BTreeMap::new();
    let mut changes = Vec::new();
    let owners: BTreeSet<&Owner> = old.0.keys().chain(new.0.keys()).collect();
    for owner in owners {
        match (owner, old.0.get(owner), new.0.get(owner)) {
            (Owner::Element(name), None, Some(_)) => changes.push(Change(format!("{name} added"))),
            (Owner::Element(name), Some(_), None) => changes.push(Change(format!("{name} removed"))),
            (_, old, new) => items(owner, old.unwrap_or(&nothing), new.unwrap_or(&nothing), &mut changes),
        }
    }
    changes
}

fn items(owner: &Owner, old: &BTreeMap<String, Entry>, new: &BTreeMap<String, Entry>, changes: &mut Vec<Change>) {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for item in names {
        let what = match (old.get(item), new.get(item)) {
            (Some(old), Some(new)) if old == new => continue,
            (Some(old), Some(new)) if old.shown == new.shown && new.shown.is_empty() => ": changed".to_owned(),
            (Some(old), Some(new)) if old.shown == new.shown => format!(": changed ({})", new.shown),
            (Some(old), Some(new)) => format!(": {} → {}", old.shown, new.shown),
            (None, Some(new)) if new.kind == Kind::Setting => format!(": (not set) → {}", new.shown),
            (Some(old), None) if old.kind == Kind::Setting => format!(": {} → (not set)", old.shown),
            (None, Some(new)) if new.shown.is_empty() => " added".to_owned(),
            (None, Some(new)) => format!(" added: {}", new.shown),
            (Some(old), None) if old.shown.is_empty() => " removed".to_owned(),
            (Some(old), None) => format!(" removed (it was {})", old.shown),
            (None, None) => continue,
        };
        let subject = match owner {
            Owner::Section(section) if section.is_empty() => item.clone(),
            Owner::Section(section) => format!("{section}.{item}"),
            Owner::Element(name) if item.is_empty() => name.clone(),
            Owner::Element(name) => format!("{name}: {item}"),
        };
        let fixed = FIXED.iter().any(|fixed| subject.starts_with(fixed))
            && !RELOADED.iter().any(|key| subject.starts_with(key));
        let suffix = if fixed { " (needs a restart)" } else { "" };
        changes.push(Change(format!("{subject}{what}{suffix}")));
    }
}
