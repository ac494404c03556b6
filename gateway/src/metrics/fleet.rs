//! The metrics of what hosts share: the memory of deliveries, and the spool.
//!
//! Owns their handles. Must not talk to a server.

use std::time::Duration;

use metrics::{counter, gauge, histogram};

use super::table::{
    FLEET_CLAIM_DURATION, FLEET_CLAIMS, FLEET_CONNECTED, FLEET_NOT_STORED, FLEET_SPOOL_DELIVERIES,
    FLEET_SPOOL_FALLBACK, FLEET_SPOOL_FILLED, FLEET_SPOOL_OLDEST, FLEET_SPOOL_PAUSED, FLEET_SPOOL_USABLE,
    FLEET_SPOOL_WRITE,
};

/// Whether there is a connection to a server.
pub fn connected(is_connected: bool) {
    gauge!(FLEET_CONNECTED).set(f64::from(u8::from(is_connected)));
}

/// A delivery was to be claimed: `made`, `taken`, `in_flight` or `failed`.
pub fn claimed(result: &'static str, elapsed: Duration) {
    counter!(FLEET_CLAIMS, "result" => result).increment(1);
    histogram!(FLEET_CLAIM_DURATION).record(elapsed);
}

/// A delivery was taken, and the servers do not know it.
pub fn taken(is_stored: bool) {
    if !is_stored {
        counter!(FLEET_NOT_STORED).increment(1);
    }
}

/// The servers have stored a delivery, in this time.
pub fn put(elapsed: Duration) {
    histogram!(FLEET_SPOOL_WRITE).record(elapsed);
}

/// A delivery went to the disk of this host, because the servers did not store it.
pub fn fell_back(route: &str) {
    counter!(FLEET_SPOOL_FALLBACK, "route" => route.to_owned()).increment(1);
}

/// What the servers have of a route, of all hosts.
#[expect(clippy::cast_precision_loss, reason = "the bounds of a spool are far below 2^53")]
pub fn stored(route: &str, waiting: u64, dead: u64, oldest: Duration) {
    let label = || route.to_owned();
    gauge!(FLEET_SPOOL_DELIVERIES, "route" => label(), "state" => "waiting").set(waiting as f64);
    gauge!(FLEET_SPOOL_DELIVERIES, "route" => label(), "state" => "dead").set(dead as f64);
    gauge!(FLEET_SPOOL_OLDEST, "route" => label()).set(oldest.as_secs_f64());
}

/// How much of the larger part of a bound of a route is used, in percent.
pub fn filled(route: &str, percent: u64) {
    #[expect(clippy::cast_precision_loss, reason = "a few hundred at most")]
    gauge!(FLEET_SPOOL_FILLED, "route" => route.to_owned()).set(percent as f64 / 100.0);
}

/// Whether a route is paused at all hosts.
pub fn paused(route: &str, is_paused: bool) {
    gauge!(FLEET_SPOOL_PAUSED, "route" => route.to_owned()).set(f64::from(u8::from(is_paused)));
}

/// Whether the servers store deliveries.
pub fn usable(is_usable: bool) {
    gauge!(FLEET_SPOOL_USABLE).set(f64::from(u8::from(is_usable)));
}
