//! The metrics of the memory of deliveries that hosts share.
//!
//! Owns their handles. Must not talk to a server.

use std::time::Duration;

use metrics::{counter, gauge, histogram};

use super::table::{FLEET_CLAIM_DURATION, FLEET_CLAIMS, FLEET_CONNECTED, FLEET_NOT_STORED};

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
