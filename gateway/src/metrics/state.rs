//! The metrics of the state directory.
//!
//! Owns their labels. Must not touch the disk.

use metrics::counter;

use super::table::STATE_WRITES;

/// Counts a write.
pub fn written(result: &'static str) {
    counter!(STATE_WRITES, "result" => result).increment(1);
}
