//! The state of the filter as plain data, for metrics, the command line and the log.
//!
//! Owns the texts about an address. Must not read maps: `loader` does.

use std::fmt;
use std::net::IpAddr;

use hookgate_ebpf::{Action, Family, Mode, Reason, Verdict};
use ipnet::IpNet;

use crate::attach::Attached;
use crate::numbers::SetNumbers;
use crate::tables::Tables;

/// The state of the filter at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// The mode in force.
    pub mode: Mode,
    /// The interfaces that run the program.
    pub attached: Vec<Attached>,
    /// The sets, in the order of the policy.
    pub sets: Vec<SetStatus>,
    /// Packets since the program was loaded, without counts of zero.
    pub packets: Vec<PacketCount>,
    /// Kernel memory of the maps, in bytes.
    pub memory_bytes: u64,
}

/// One named range set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetStatus {
    /// The name.
    pub name: String,
    /// What happens to packets from its ranges.
    pub action: Action,
    /// The number of IPv4 ranges.
    pub ranges_ipv4: usize,
    /// The number of IPv6 ranges.
    pub ranges_ipv6: usize,
    /// Packets that the set decided about since it joined the policy. An allow set counts packets that passed, and SYNs over
    /// the limit. A deny set counts packets that were dropped.
    pub packets: u64,
}

/// One packet counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketCount {
    /// The address family.
    pub family: Family,
    /// What happened to the packets.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// The count.
    pub packets: u64,
}

/// Which range decides about an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The address.
    pub address: IpAddr,
    /// The range, its action, and its set; `None` if the address is in no range.
    pub range: Option<(IpNet, Action, String)>,
}

impl Explanation {
    /// Looks `address` up in `tables`, whose sets have these numbers.
    pub fn new(address: IpAddr, tables: &Tables, numbers: &SetNumbers) -> Self {
        let range = tables
            .decisive_range(address)
            .and_then(|(prefix, entry)| Some((prefix, entry.action()?, numbers.name(entry.set())?.to_owned())));
        Self { address, range }
    }

    /// Whether a packet from the address to a filtered destination passes in mode [`Mode::Enforce`].
    pub fn passes(&self) -> bool {
        matches!(self.range, Some((_, Action::Allow, _)))
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.range {
            None => write!(formatter, "{} is in no range: dropped", self.address),
            Some((prefix, action, set)) => {
                let verdict = if *action == Action::Allow { "passes" } else { "dropped" };
                write!(formatter, "{} is in {prefix} of `{set}`: {verdict}", self.address)
            }
        }
    }
}
