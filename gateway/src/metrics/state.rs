//! The metrics of the state directory.
//!
//! Owns their names, labels and help texts. Must not touch the disk.

use metrics::{counter, describe_counter};

const WRITES: &str = "hookgate_state_writes_total";

pub(super) fn describe() {
    describe_counter!(
        WRITES,
        "Writes to the state directory, by result: ok, disk_full, read_only, not_permitted or failed"
    );
}

/// Counts a write.
pub fn written(result: &'static str) {
    counter!(WRITES, "result" => result).increment(1);
}
