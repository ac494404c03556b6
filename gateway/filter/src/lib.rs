//! The pre-filter: an XDP program that drops packets from foreign sources before the kernel makes anything of them.
//!
//! Owns the policy of the filter ([`policy`]), what that means for the program's maps ([`tables`], [`difference`]) and the
//! program's life in the kernel ([`Filter`]). The decision about a packet is `hookgate_ebpf`'s. Only this module names aya.
//! It must not know providers: a set of ranges has a name, and that is all.

mod attach;
pub mod difference;
mod loader;
mod maps;
pub mod numbers;
pub mod policy;
mod status;
pub mod tables;
#[cfg(test)]
mod tests;

pub use attach::{AttachMode, Attached, pinned, unpin};
pub use hookgate_ebpf::{Action, Address, Family, Mode, Rate, Reason, Sample, Verdict};
pub use loader::{Changes, Filter, FilterError};
pub use policy::{Attach, Destination, Limits, Policy, PolicyError, RangeSet, SynLimits};
pub use status::{Explanation, PacketCount, SetStatus, Status};
