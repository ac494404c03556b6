//! The pre-filter: an XDP program that drops packets from foreign sources before the kernel's network stack sees them.
//!
//! A policy becomes tables, tables become writes, and the loader applies the writes to the kernel:
//!
//! 1. A [`Policy`] says what the operator wants: the mode, the interfaces, the destinations that are filtered, and sets of
//!    ranges. Each set has a name and an action: allow or deny.
//! 2. [`SetNumbers`](numbers::SetNumbers) gives each set a number. The kernel counts packets by that number.
//! 3. [`Tables`](tables::Tables) is the content of the program's maps for that policy. It is computed without the kernel, so
//!    tests compare it with the definition of the policy.
//! 4. [`difference()`](difference::difference) lists the writes from one content of the maps to another. In their order, a
//!    source that both contents allow is allowed after every write.
//! 5. A [`Filter`] loads the program, writes the maps and then attaches the program. [`Filter::reload`] takes a new policy
//!    through steps 2 to 4 and applies the writes in place. [`Filter::status`] reads the counters.
//!
//! The program and its decision about a packet are in `hookgate_ebpf`. This crate owns everything else about the filter, and
//! only this crate names aya. It must not know requests or providers: a set of ranges has a name, and that is all.

mod aligned;
mod attach;
pub mod difference;
mod error;
mod interfaces;
mod loader;
mod maps;
pub mod numbers;
pub mod policy;
mod status;
pub mod tables;
#[cfg(test)]
mod tests;

pub use attach::{Attached, pinned, unpin};
pub use error::FilterError;
pub use hookgate_ebpf::{Action, Address, Family, Mode, Rate, Reason, Sample, Verdict};
pub use interfaces::InterfaceChange;
pub use loader::{Changes, Filter};
pub use policy::{Attach, AttachMode, Destination, Limits, Policy, PolicyError, RangeSet, SynLimits};
pub use status::{Explanation, PacketCount, SetStatus, Status};
