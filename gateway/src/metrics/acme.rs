//! The metrics of certificates that hookgate asks for.
//!
//! Owns their labels. Must not ask.

use metrics::{counter, gauge};

use super::table::{ACME_ATTEMPTS, ACME_FAILURES, ACME_NEXT};

/// Counts an attempt to get the certificate of this first name: `ok`, or the step that failed.
pub fn attempted(name: &str, result: &'static str) {
    counter!(ACME_ATTEMPTS, "certificate" => name.to_owned(), "result" => result).increment(1);
}

/// Publishes how many attempts failed in a row.
pub fn failures(name: &str, failures: u32) {
    gauge!(ACME_FAILURES, "certificate" => name.to_owned()).set(f64::from(failures));
}

/// Publishes when the certificate is asked for next, in seconds since 1970.
pub fn next_attempt(name: &str, seconds: u64) {
    #[expect(clippy::cast_precision_loss, reason = "a time in seconds stays far below 2^53")]
    gauge!(ACME_NEXT, "certificate" => name.to_owned()).set(seconds as f64);
}
