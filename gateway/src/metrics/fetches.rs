//! The metrics of what is fetched from its publisher.
//!
//! Owns their names, labels and help texts. Must not fetch.

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

const FETCHES: &str = "hookgate_fetches_total";
const FETCHED: &str = "hookgate_fetched_timestamp_seconds";
const KEYS_USABLE: &str = "hookgate_keys_usable_until_timestamp_seconds";

pub(super) fn describe() {
    describe_counter!(
        FETCHES,
        "Fetches of published lists and keys, by source and result (ok, unchanged, not_modified, or why it failed)"
    );
    describe_gauge!(
        FETCHED,
        Unit::Seconds,
        "When what is in use was fetched or confirmed last, in seconds since 1970, by source"
    );
    describe_gauge!(
        KEYS_USABLE,
        Unit::Seconds,
        "Until when the keys of a source stay in use if every further fetch fails, in seconds since 1970"
    );
}

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
