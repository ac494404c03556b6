//! The bounds of numbers.
//!
//! Owns the report of a number that is out of bounds. Must not know what a number is for: each section has its own bounds.

use std::time::Duration;

use toml::Spanned;

use super::error::Problem;
use super::report::Report;

/// The bounds of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    /// The smallest allowed number.
    pub(super) minimum: u64,
    /// The largest allowed number.
    pub(super) maximum: u64,
    unit: &'static str,
}

impl Bound {
    /// Bounds with a unit, which has a space before it; empty for counts.
    pub(super) const fn new(minimum: u64, maximum: u64, unit: &'static str) -> Self {
        Self { minimum, maximum, unit }
    }

    /// The number, if there is one within these bounds. Reports a number out of bounds.
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

    /// As [`Bound::check`], as a count; `default` if there is none within these bounds.
    pub(super) fn count(&self, raw: Option<&Spanned<i64>>, default: usize, report: &mut Report<'_>) -> usize {
        // Every bound fits into usize on a 64-bit host; on others the largest usize is as good as no bound.
        self.check(raw, report).map_or(default, |value| usize::try_from(value).unwrap_or(usize::MAX))
    }

    /// As [`Bound::check`], as a time in milliseconds; `default` if there is none within these bounds.
    pub(super) fn milliseconds(
        &self,
        raw: Option<&Spanned<i64>>,
        default: Duration,
        report: &mut Report<'_>,
    ) -> Duration {
        self.check(raw, report).map_or(default, Duration::from_millis)
    }

    /// As [`Bound::check`], as a time in seconds; `default` if there is none within these bounds.
    pub(super) fn seconds(&self, raw: Option<&Spanned<i64>>, default: Duration, report: &mut Report<'_>) -> Duration {
        self.check(raw, report).map_or(default, Duration::from_secs)
    }
}
