//! How many entries an array of the file may have.
//!
//! Owns the report of one that is empty or too long. Must not know what the entries are, nor how many are allowed: each section does.

use toml::Spanned;

use super::error::Problem;
use super::report::Report;

/// Whether `array` has 1 to `maximum` entries. If not, reports it, and for an empty one what to `write`.
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

/// The first `maximum` tables of a section. If there are more, reports the first that is too many.
pub(super) fn first<'r, T>(tables: &'r [Spanned<T>], maximum: usize, report: &mut Report<'_>) -> &'r [Spanned<T>] {
    if let Some(excess) = tables.get(maximum) {
        report.error(excess, Problem::TooMany { count: tables.len(), maximum });
    }
    &tables[..tables.len().min(maximum)]
}
