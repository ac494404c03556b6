//! The bounds of numbers, and numbers within them.
//!
//! Owns the report of a number that is out of bounds. Must not know what a number is for: each section has its own bounds.

use std::time::Duration;

use toml::Spanned;

use super::error::Problem;
use super::report::Report;

/// What a number may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    /// The smallest.
    pub(super) minimum: u64,
    /// The greatest.
    pub(super) maximum: u64,
    unit: &'static str,
}

impl Bound {
    pub(super) const fn new(minimum: u64, maximum: u64, unit: &'static str) -> Self {
        Self { minimum, maximum, unit }
    }

    /// The number, where there is one and it is within these bounds; one that is not is reported.
    pub(super) fn check(&self, raw: Option<&Spanned<i64>>, report: &mut Report<'_>) -> Option<u64> {
        let raw = raw?;
        let value = u64::try_from(*raw.get_ref()).ok();
        let value = value.filter(|value| (self.minimum..=self.maximum).contains(value));
        if value.is_none() {
            let Self { minimum, maximum, unit } = *self;
            report.error(raw, Problem::OutOfBounds { value: *raw.get_ref(), minimum, maximum, unit });
        }
        value
    }

    pub(super) fn count(&self, raw: Option<&Spanned<i64>>, default: usize, report: &mut Report<'_>) -> usize {
        // Every bound fits into usize on the 64-bit hosts that we run on; elsewhere "more than you have" stays a bound.
        self.check(raw, report).map_or(default, |value| usize::try_from(value).unwrap_or(usize::MAX))
    }

    pub(super) fn milliseconds(
        &self,
        raw: Option<&Spanned<i64>>,
        default: Duration,
        report: &mut Report<'_>,
    ) -> Duration {
        self.check(raw, report).map_or(default, Duration::from_millis)
    }

    pub(super) fn seconds(&self, raw: Option<&Spanned<i64>>, default: Duration, report: &mut Report<'_>) -> Duration {
        self.check(raw, report).map_or(default, Duration::from_secs)
    }
}
