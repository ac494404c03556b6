//! What the XDP pre-filter and the daemon agree on: the layout of the maps, and the decision about one packet.
//!
//! Everything here is pure and `no_std`: it reads bytes through [`Packet`] and tables through [`Maps`], so the code that runs
//! under the kernel's verifier is tested on the host. It must not attach, load or count anything; the
//! program (`kernel.rs`) and the daemon's loader do.
//!
//! # What is decided
//!
//! | packet | verdict |
//! | --- | --- |
//! | not TCP, or to a port or address that is not filtered | passes untouched |
//! | TCP to a filtered destination, source in a deny range | dropped |
//! | source in an allow range | passes, unless its SYNs exceed the configured rate |
//! | source in no range | dropped |
//! | fragment other than the first | passes untouched: see [`parse`] |
//!
//! In [`Mode::Monitor`] nothing is dropped; a packet that enforcement would drop counts as [`Verdict::WouldDrop`].
#![no_std]

#[cfg(any(test, feature = "cases"))]
extern crate std;

mod decision;
mod layout;
mod lookup;
mod packet;
mod rate;

#[cfg(any(test, feature = "cases"))]
pub mod cases;
#[cfg(test)]
mod tests;

pub use decision::{Decision, Maps, decide};
pub use layout::{
    Action, Address, BucketKey, COARSE_PAGES, COUNTERS, DestinationKey, Entry, FRONT_PAGES, FRONT_STATES_PER_WORD,
    Family, FrontPage, Mode, PORT_WORDS, PORTS_PER_WORD, PRESENCE_BITS, PRESENCE_PAGES, PortState, Rate, Reason, SETS,
    Sample, SetPage, Settings, Step, Verdict, counter_index, front_key_32, front_key_48, names, presence_bit,
};
pub use lookup::{FrontState, Lookup, lookup_ipv4, lookup_ipv6};
pub use packet::{MAX_EXTENSION_HEADERS, MAX_VLAN_TAGS, Packet, Parsed, Segment, parse};
pub use rate::take;
