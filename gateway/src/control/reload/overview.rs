//! What the loader knows that the status page shows.

use rustls_pki_types::UnixTime;

use super::Loader;
use crate::control::admin::facts::{ConfigurationFacts, FilterFacts};
use crate::control::rotation::overview::Ending;
use crate::suspects::Pending;

impl Loader {
    /// The configuration in use, of this generation, and what became of the last load.
    pub(in crate::control) fn configuration(&self, generation: u64) -> ConfigurationFacts {
        self.last.facts(&self.path, generation)
    }

    /// What ends, the first to end first.
    pub(in crate::control) fn endings(&self, now: UnixTime) -> Vec<Ending> {
        self.rotation.overview(now)
    }

    /// The refused chains that may be genuine.
    pub(in crate::control) fn suspects(&self) -> Vec<Pending> {
        self.pending.suspects().all()
    }

    /// The filter.
    pub(in crate::control) fn filter_facts(&self) -> FilterFacts {
        self.filter.facts()
    }
}
