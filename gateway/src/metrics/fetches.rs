//! The metrics of what is fetched from its publisher.
//!
//! Owns their labels. Must not fetch.

use metrics::{counter, gauge};

use super::table::{FETCHED, FETCHES, KEYS_USABLE};

/// Counts a fetch of `source`, which the configuration names.
pub fn counted(source: &str, result: &'static str) {
    counter!(FETCHES, "source" => source.to_owned(), "result" => result).increment(1);
}

/// Publishes when the copy in use was fetched or confirmed, in seconds since 1970.
pub fn have(source: &str, fetched: u64) {
    #[expect(clippy::cast_precision_loss, reason = "a time in seconds stays far below 2^53")]
    gauge!(FETCHED, "source" => source.to_owned()).set(fetched as f64);
}

/// Publishes until when the keys of `source` may be used, in seconds since 1970.
pub fn keys_usable_until(source: &str, until: u64) {
    #[expect(clippy::cast_precision_loss, reason = "a time in seconds stays far below 2^53")]
    gauge!(KEYS_USABLE, "source" => source.to_owned()).set(until as f64);
}
