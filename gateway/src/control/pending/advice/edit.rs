//! What to write where, as lines for an operator and as a change of the parsed document.
//!
//! Owns both forms, so that what is tried is what is printed. Must not choose what to write.

use toml::{Table, Value};

/// Lines of TOML that belong together.
#[derive(Clone, Debug)]
pub(in crate::control) struct Block {
    /// The name of the provider.
    pub(in crate::control) provider: String,
    /// Where they belong.
    pub(in crate::control) place: Place,
    /// Keys and values, in their order.
    pub(in crate::control) keys: Vec<(String, Value)>,
}

/// Where lines belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control) enum Place {
    /// The table of the provider, in place of the keys of these names.
    Provider,
    /// Its profile of this name, in the same way.
    Table(String),
    /// A profile that is added.
    NewProfile,
    /// Out of the table of the provider: the keys are to be removed.
    Removal,
}

impl Block {
    /// What the operator has to do with the lines: "write, in …".
    pub(in crate::control) fn place(&self) -> String {
        let provider = &self.provider;
        match &self.place {
            Place::Provider => {
                format!("write, in the [[provider]] \"{provider}\", in place of the keys of these names")
            }
            Place::Table(profile) => format!(
                "write, in the [[provider.profile]] \"{profile}\" of the [[provider]] \"{provider}\", in place of the keys of these names"
            ),
            Place::NewProfile => format!(
                "write, at the end of the [[provider]] \"{provider}\", after its keys and tables, before the next section"
            ),
            Place::Removal => format!("remove, from the [[provider]] \"{provider}\" itself, these lines"),
        }
    }

    /// The lines. Those to remove are comments.
    pub(in crate::control) fn lines(&self) -> Vec<String> {
        let prefix = if self.place == Place::Removal { "#- " } else { "" };
        let header = (self.place == Place::NewProfile).then(|| "[[provider.profile]]".to_owned());
        header.into_iter().chain(self.keys.iter().map(|(key, value)| format!("{prefix}{key} = {value}"))).collect()
    }
}

/// The table of a provider after an operator wrote `blocks`. `None` if a place is not there.
pub(in crate::control) fn apply(blocks: &[Block], mut provider: Table) -> Option<Table> {
    for Block { place, keys, .. } in blocks {
        let keys = keys.iter().cloned();
        match place {
            Place::Provider => provider.extend(keys),
            Place::Removal => keys.for_each(|(key, _)| drop(provider.remove(&key))),
            Place::Table(name) => {
                let mut tables =
                    provider.get_mut("profile")?.as_array_mut()?.iter_mut().filter_map(Value::as_table_mut);
                tables.find(|table| table.get("name").and_then(Value::as_str) == Some(name))?.extend(keys);
            }
            Place::NewProfile => {
                let profiles = provider.entry("profile").or_insert_with(|| Vec::<Value>::new().into());
                profiles.as_array_mut()?.push(Value::Table(keys.collect()));
            }
        }
    }
    Some(provider)
}
