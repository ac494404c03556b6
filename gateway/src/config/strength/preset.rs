//! Which preset a provider is from.
//!
//! Owns whether another preset of the same name takes the place of one that is gone. Must not compare what they admit.

use std::fmt;

use time::Date;

use crate::config::preset::{Origin, Preset};

/// Where the preset of a provider is from.
#[derive(Clone, Debug)]
pub(super) struct PresetStrength {
    name: String,
    version: Date,
    origin: Origin,
    /// The number of its directory: a preset takes the place of one in a directory with a smaller number.
    place: usize,
}

impl PresetStrength {
    pub(super) fn new(preset: &Preset) -> Self {
        let (version, place) = (preset.version(), preset.place());
        Self { name: preset.name().to_owned(), version, origin: preset.origin().clone(), place }
    }

    /// Whether it takes the place of `old` because that one is gone, or has become an older one. A newer version, and a file that the operator
    /// adds in a later directory, are meant.
    pub(super) fn falls_back_from(&self, old: &Self) -> bool {
        let is_gone = self.origin != old.origin && self.place <= old.place;
        self.name == old.name && (self.version < old.version || is_gone)
    }
}

impl fmt::Display for PresetStrength {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.version, self.origin)
    }
}
