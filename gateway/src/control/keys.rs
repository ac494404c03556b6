//! The keys of token issuers: the store of a configuration, and which of its sources are fetched.
//!
//! Owns the ids of sources, and what a reload takes over. Workers read the keys from [`crate::key_store`], and `published` fetches them. Must
//! not judge tokens: [`hookgate_core::auth`] does.
//!
//! A reload builds a new store. The task of a source that stays publishes there from then on, first of all what it has: a reload refuses no
//! token for lack of keys that were there before.

use std::sync::Arc;
use std::time::Duration;

use hookgate_core::auth::KeySourceId;
use rustls_pki_types::UnixTime;

use super::published::{KeyFeed, Outlet, Source, Terms};
use crate::config::{KeyOrigin, KeySource};
use crate::key_store::KeyStore;

/// Keys from a file stay in use until a reload reads the file again.
const FOREVER: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));

/// The key sources of a configuration.
pub(super) struct Keys {
    store: Arc<KeyStore>,
    /// By id; `None` for a file.
    fetched: Vec<Option<Source>>,
}

impl Default for Keys {
    fn default() -> Self {
        Self { store: Arc::new(KeyStore::new(0)), fetched: Vec::new() }
    }
}

impl Keys {
    /// Builds a store for `sources`, with the keys of files. A source that this configuration has too goes on. Changes nothing else.
    pub(super) fn prepare(&self, sources: Vec<KeySource>) -> Self {
        let fetched: Vec<Option<Source>> = sources.iter().map(fetched).collect();
        let continued = |source: &Option<Source>| {
            let source = source.as_ref()?;
            let index = self.fetched.iter().position(|known| known.as_ref() == Some(source))?;
            Some((&*self.store, id(index)))
        };
        let store = Arc::new(KeyStore::continuing(&fetched.iter().map(continued).collect::<Vec<_>>()));
        for (index, source) in sources.iter().enumerate() {
            if let KeyOrigin::File(set) = &source.origin {
                store.publish(id(index), Arc::clone(set), FOREVER);
            }
        }
        Self { store, fetched }
    }

    /// The store that the snapshot of this configuration reads.
    pub(super) fn store(&self) -> &Arc<KeyStore> {
        &self.store
    }

    /// The sources that are fetched, with their places in the store.
    pub(super) fn sources(&self) -> impl Iterator<Item = (Source, Terms)> {
        let outlet = |index| Outlet { store: Arc::clone(&self.store), source: id(index) };
        let fetched = self.fetched.iter().enumerate();
        fetched.filter_map(move |(index, source)| Some((source.clone()?, Terms::Keys(outlet(index)))))
    }
}

/// The source that is fetched; `None` for a file.
pub(super) fn fetched(source: &KeySource) -> Option<Source> {
    let KeyOrigin::Url(feed) = &source.origin else { return None };
    Some(Source::Keys(Arc::new(KeyFeed { name: Arc::clone(&source.name), feed: feed.clone() })))
}

/// The id of the source with this index. A configuration has at most 65 sources.
fn id(index: usize) -> KeySourceId {
    KeySourceId(u16::try_from(index).unwrap_or(u16::MAX))
}
