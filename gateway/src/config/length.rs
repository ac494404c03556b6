//! The lengths of arrays.
//!
//! Owns the report of an array that is empty or too long. Must not know what its entries are: each section has its own bounds.

use toml::Spanned;

use super::error::Problem;
use super::report::Report;

/// Whether `array` has 1 to `maximum` entries. Reports if not; about an empty array, the report says what to `write`.
pub(super) fn is_within<T>(
    array: &Spanned<Vec<T>>,
    maximum: usize,
    write: &'static str,
    report: &mut Report<'_>,
) -> bool {
    match array.get_ref().len() {
        0 => report.empty(array, Problem::Empty { write }),
        count if count > maximum => report.error(array, Problem::TooMany { count, maximum }),
        _ => return true,
    }
    false
}

/// The first `maximum` tables of a section. If there are more, reports the first excess table.
pub(super) fn first<'r, T>(tables: &'r [Spanned<T>], maximum: usize, report: &mut Report<'_>) -> &'r [Spanned<T>] {
    if let Some(excess) = tables.get(maximum) {
        report.error(excess, Problem::TooMany { count: tables.len(), maximum });
    }
    &tables[..tables.len().min(maximum)]
}
