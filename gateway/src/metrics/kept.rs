//! The metrics of deliveries that are kept over a restart.
//!
//! Owns their handles. Must not touch the disk.

use metrics::{counter, gauge};

use super::table::{DELIVERIES_FAILING, DELIVERIES_KEPT, DELIVERIES_NOT_KEPT};

/// The outcome of one transaction of `count` ids.
pub fn written(count: usize, failed: bool) {
    if !failed {
        counter!(DELIVERIES_KEPT).increment(count as u64);
    }
    gauge!(DELIVERIES_FAILING).set(f64::from(u8::from(failed)));
}

/// A delivery was not kept.
pub fn not_kept() {
    counter!(DELIVERIES_NOT_KEPT).increment(1);
}
