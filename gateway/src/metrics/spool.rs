//! The metrics of durable deliveries.
//!
//! Owns their handles. Must not touch the disk.

use std::time::Duration;

use metrics::{counter, gauge, histogram};

use super::table::{
    SPOOL_ACCEPTED, SPOOL_ATTEMPTS, SPOOL_BYTES, SPOOL_DELIVERIES, SPOOL_FILLED, SPOOL_OLDEST, SPOOL_PAUSED,
    SPOOL_WRITE,
};

/// A delivery was stored, and its sender hears so.
pub fn accepted(route: &str, provider: &str) {
    counter!(SPOOL_ACCEPTED, "route" => route.to_owned(), "provider" => provider.to_owned()).increment(1);
}

/// A transaction with deliveries took this time.
pub fn written(elapsed: Duration) {
    histogram!(SPOOL_WRITE).record(elapsed);
}

/// What is stored of a route.
#[expect(clippy::cast_precision_loss, reason = "the bounds of a spool are far below 2^53")]
pub fn stored(route: &str, waiting: u64, dead: u64, bytes: u64) {
    let label = || route.to_owned();
    gauge!(SPOOL_DELIVERIES, "route" => label(), "state" => "waiting").set(waiting as f64);
    gauge!(SPOOL_DELIVERIES, "route" => label(), "state" => "dead").set(dead as f64);
    gauge!(SPOOL_BYTES, "route" => label()).set(bytes as f64);
}

/// How much of the larger part of a bound of a route is used, in percent.
pub fn filled(route: &str, percent: u64) {
    #[expect(clippy::cast_precision_loss, reason = "a few hundred at most")]
    gauge!(SPOOL_FILLED, "route" => route.to_owned()).set(percent as f64 / 100.0);
}

/// An attempt ended: `taken`, `again` or `dead`.
pub fn attempted(route: &str, result: &'static str) {
    counter!(SPOOL_ATTEMPTS, "route" => route.to_owned(), "result" => result).increment(1);
}

/// How long the oldest delivery of a route that waits has waited.
pub fn oldest(route: &str, age: Duration) {
    gauge!(SPOOL_OLDEST, "route" => route.to_owned()).set(age.as_secs_f64());
}

/// Whether a route is paused.
pub fn paused(route: &str, is_paused: bool) {
    gauge!(SPOOL_PAUSED, "route" => route.to_owned()).set(f64::from(u8::from(is_paused)));
}
