//! The token bucket: one 64-bit word of state, so that it needs neither lock nor division in the kernel.
//!
//! The generic cell rate algorithm (ITU-T I.371) in its virtual scheduling form: the word is the time at which the next
//! event is due at the sustained rate. It admits exactly what a token bucket of the same rate and burst admits. Must not
//! read a clock.

use crate::layout::Rate;

/// Takes one token at `now_ns` from the bucket whose state is `due_ns` (0 for a new one).
///
/// Returns the new state to store, or `None` if the bucket is empty and there is nothing to store. Two CPUs that take
/// from one bucket at the same moment may both take the same token: the limit is approximate by at most one event a CPU.
#[inline(always)]
pub fn take(rate: Rate, due_ns: u64, now_ns: u64) -> Option<u64> {
    let begin = if due_ns > now_ns { due_ns } else { now_ns };
    let due = begin.wrapping_add(rate.interval_ns);
    if due.wrapping_sub(now_ns) > rate.tolerance_ns { None } else { Some(due) }
}
