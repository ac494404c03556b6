//! Entries of the inventory: a setting, or the content of a file, in short.
//!
//! Owns how two entries are compared. Must not hold a secret: of a secret, an entry has a hash that only this process can make,
//! and no text.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::LazyLock;

/// Hashes contents with random keys of this process.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// A text to show, and a hash of the whole content, of which the text may show a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) shown: String,
    hash: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A key of the configuration. Without it, the default applies.
    Setting,
    /// The content of a file.
    Content,
}

impl Entry {
    /// An entry for the content of a file. Two such entries differ if `shown` or `content` differ.
    pub(super) fn new(shown: impl Into<String>, content: &(impl Hash + ?Sized)) -> Self {
        Self { kind: Kind::Content, shown: shown.into(), hash: HASHER.hash_one(content) }
    }

    /// An entry for a setting. Two such entries differ if `shown` or `content` differ.
    pub(super) fn setting(shown: impl Into<String>, content: &(impl Hash + ?Sized)) -> Self {
        Self { kind: Kind::Setting, ..Self::new(shown, content) }
    }

    /// An entry without text, with the hash that `hash` makes.
    pub(super) fn hidden(hash: impl FnOnce(&RandomState) -> u64) -> Self {
        Self { kind: Kind::Content, shown: String::new(), hash: hash(&HASHER) }
    }

    /// Makes this entry differ if `other` does.
    pub(super) fn merge(&mut self, other: &Self) {
        self.hash = HASHER.hash_one((self.hash, other.hash));
    }
}

/// An entry that a section adds while it is parsed.
#[derive(Clone, Debug)]
pub(super) struct FoundEntry {
    /// The section.
    pub(super) section: String,
    /// The index of the table, if the section is an array of tables.
    pub(super) index: Option<usize>,
    /// What the entry is about.
    pub(super) item: String,
    /// The entry.
    pub(super) entry: Entry,
}
