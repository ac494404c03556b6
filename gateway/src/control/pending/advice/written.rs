//! How a provider is written: its own table, and the profiles of its preset.
//!
//! Owns which of them has a key that counts for a profile. Reads the configuration as text, because an operator edits text. Must not judge
//! it: what does not parse has no keys.

use std::io::Read as _;
use std::path::Path;

use hookgate_core::identity::ExtendedKeyUsage;
use toml::{Table, Value};

use crate::config::preset::{Found, Presets};
use crate::config::{DEFAULT_VERIFY_DEPTH, MAXIMUM_NAME_BYTES};

/// The most bytes of a configuration that is read for its words.
const MAXIMUM_BYTES: u64 = 1024 * 1024;

/// A provider.
#[derive(Debug, Default)]
pub(in crate::control) struct Written {
    /// Its `[[provider]]`.
    table: Table,
    /// The profiles of its preset that it keeps, as `[[provider.profile]]` tables.
    pub(super) of_preset: Vec<Table>,
}

/// What an operator edits to change a key of one profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The `[[provider]]`, whose key counts for all profiles, or which has no other.
    Provider,
    /// The `[[provider.profile]]`.
    Table,
    /// Nothing: the preset has the profile, and others beside it.
    Preset,
}

impl Written {
    /// The provider of this name in a configuration. `None` if the file cannot be read.
    pub(in crate::control) fn read(configuration: &Path, name: &str) -> Option<Self> {
        let mut text = String::new();
        std::fs::File::open(configuration).ok()?.take(MAXIMUM_BYTES).read_to_string(&mut text).ok()?;
        let document: Table = text.parse().ok()?;
        let is_meant = |table: &&Table| table.get("name").and_then(Value::as_str) == Some(name);
        let table = document.get("provider")?.as_array()?.iter().filter_map(Value::as_table).find(is_meant)?.clone();
        Some(Self::new(table, &Presets::for_configuration(configuration).ok()?))
    }

    /// A provider whose `[[provider]]` is `table`.
    pub(super) fn new(table: Table, presets: &Presets) -> Self {
        let preset = table.get("preset").and_then(Value::as_str);
        let chosen = table.get("profiles").and_then(Value::as_array);
        let is_chosen =
            |profile: &Table| chosen.is_none_or(|chosen| profile.get("name").is_some_and(|name| chosen.contains(name)));
        let of_preset = preset.and_then(|name| profiles(presets, name)).unwrap_or_default();
        Self { of_preset: of_preset.into_iter().filter(is_chosen).collect(), table }
    }

    /// A key of the `[[provider]]` itself.
    pub(super) fn own(&self, key: &str) -> Option<&Value> {
        self.table.get(key)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Whether it has profiles beside its own keys.
    pub(super) fn has_profiles(&self) -> bool {
        self.tables().next().is_some() || !self.of_preset.is_empty()
    }

    /// The profile of this name.
    pub(super) fn profile(&self, name: &str) -> Option<&Table> {
        self.tables().chain(&self.of_preset).find(|table| is_named(table, name))
    }

    /// What to edit so that `key` of the profile `name` is another.
    pub(super) fn owner(&self, name: &str, key: &str) -> Owner {
        let is_only = self.tables().count() + self.of_preset.len() <= 1;
        if self.has(key) {
            Owner::Provider
        } else if self.tables().any(|table| is_named(table, name)) {
            Owner::Table
        } else if is_only || self.profile(name).is_none() {
            Owner::Provider
        } else {
            Owner::Preset
        }
    }

    /// `verify_depth` of the profile `name`.
    pub(super) fn verify_depth(&self, name: &str) -> u8 {
        let written = self.effective(name, "verify_depth").and_then(Value::as_integer);
        written.and_then(|depth| u8::try_from(depth).ok()).unwrap_or(DEFAULT_VERIFY_DEPTH)
    }

    /// `extended_key_usage` of the profile `name`.
    pub(super) fn extended_key_usage(&self, name: &str) -> ExtendedKeyUsage {
        match self.effective(name, "extended_key_usage").and_then(Value::as_str) {
            Some("ignore") => ExtendedKeyUsage::Ignore,
            Some("client-auth-explicit") => ExtendedKeyUsage::ClientAuthExplicit,
            _ => ExtendedKeyUsage::ClientAuth,
        }
    }

    fn effective(&self, name: &str, key: &str) -> Option<&Value> {
        self.own(key).or_else(|| self.profile(name)?.get(key))
    }

    /// Its `[[provider.profile]]` tables.
    pub(super) fn tables(&self) -> impl Iterator<Item = &Table> {
        self.table.get("profile").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table)
    }
}

fn is_named(profile: &Table, name: &str) -> bool {
    profile.get("name").and_then(Value::as_str) == Some(name)
}

/// The profiles of a preset. The `[[provider]]` that says the same has them.
fn profiles(presets: &Presets, name: &str) -> Option<Vec<Table>> {
    let Found::Preset(preset) = presets.find(name) else { return None };
    let written: Table = preset.toml().parse().ok()?;
    let profiles = written.get("provider")?.as_array()?.first()?.as_table()?.get("profile")?.as_array()?;
    Some(profiles.iter().filter_map(Value::as_table).cloned().collect())
}

/// `name`, or with a number behind it, if a profile has that name already. Short enough for a name.
pub(super) fn unique(name: &str, provider: &Written) -> String {
    // The number takes three characters at most: a provider has few profiles.
    let short: String = name.chars().take(MAXIMUM_NAME_BYTES - 3).collect();
    let numbered = (2..).map(|number: u32| format!("{short}-{number}"));
    let mut names = std::iter::once(name.to_owned()).chain(numbered);
    names.find(|name| provider.profile(name).is_none()).unwrap_or_default()
}
