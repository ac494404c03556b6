//! Entries of the inventory: what a setting or the content of a file is, in short.
//!
//! Owns how two of them are compared. No secret gets in: of a secret an entry keeps a hash that only this process can make, and
//! no text. Must not know what the entries are about: the sections do.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::LazyLock;

/// Hashes contents, with keys that only this process has.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// A text to show, and a hash of everything, which may be more than the text tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) shown: String,
    hash: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A key of the configuration. Without it, a default holds.
    Setting,
    /// The content of a file.
    Content,
}

impl Entry {
    /// A content that is shown as `shown`. It differs from another if `content` does.
    pub(super) fn new(shown: impl Into<String>, content: &(impl Hash + ?Sized)) -> Self {
        Self { kind: Kind::Content, shown: shown.into(), hash: HASHER.hash_one(content) }
    }

    /// A setting that is shown as `shown`. It differs from another if `content` does.
    pub(super) fn setting(shown: impl Into<String>, content: &(impl Hash + ?Sized)) -> Self {
        Self { kind: Kind::Setting, ..Self::new(shown, content) }
    }

    /// A content that is not shown. `hash` makes the hash.
    pub(super) fn hidden(hash: impl FnOnce(&RandomState) -> u64) -> Self {
        Self { kind: Kind::Content, shown: String::new(), hash: hash(&HASHER) }
    }

    /// Makes this entry differ if `other` does.
    pub(super) fn merge(&mut self, other: &Self) {
        self.hash = HASHER.hash_one((self.hash, other.hash));
    }
}

/// An entry that was found while a table of the configuration was read.
#[derive(Clone, Debug)]
pub(super) struct FoundEntry {
    /// The array of tables.
    pub(super) section: String,
    /// The index of the table in it.
    pub(super) index: usize,
    /// What the entry is about.
    pub(super) item: String,
    /// The entry.
    pub(super) entry: Entry,
}
