//! The metrics of deliveries that are kept over a restart.
//!
//! Owns their names, labels and help texts. Must not touch the disk.

use metrics::{counter, describe_counter, describe_gauge, gauge};

const KEPT: &str = "hookgate_deliveries_kept_total";
const NOT_KEPT: &str = "hookgate_deliveries_not_kept_total";
const FAILING: &str = "hookgate_deliveries_failing";

pub(super) fn describe() {
    describe_counter!(KEPT, "Delivery ids that were written to the state directory");
    describe_counter!(NOT_KEPT, "Deliveries that a handler took and the state directory did not; see on_state_failure");
    describe_gauge!(FAILING, "1 if the last write of deliveries failed, otherwise 0");
}

/// The outcome of one transaction of `count` ids.
pub fn written(count: usize, failed: bool) {
    if !failed {
        counter!(KEPT).increment(count as u64);
    }
    gauge!(FAILING).set(f64::from(u8::from(failed)));
}

/// A delivery was not kept.
pub fn not_kept() {
    counter!(NOT_KEPT).increment(1);
}
