//! What the filter says about itself: plain data, for metrics, for the command line and for the log.

use std::fmt;
use std::net::IpAddr;

use hookgate_ebpf::{Action, Family, Mode, Reason, Verdict};

use crate::attach::Attached;
use crate::numbers::SetNumbers;
use crate::tables::Tables;
use hookgate_core::prefix::Prefix;

/// The filter at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// The mode in force.
    pub mode: Mode,
    /// Where it is attached.
    pub attached: Vec<Attached>,
    /// The sets, in the order of the policy.
    pub sets: Vec<SetStatus>,
    /// Packets since the program was loaded, without the counts that are zero.
    pub packets: Vec<PacketCount>,
    /// Bytes that the maps take in the kernel.
    pub memory_bytes: u64,
}

/// One named range set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetStatus {
    /// Its name.
    pub name: String,
    /// What it does.
    pub action: Action,
    /// Its IPv4 ranges.
    pub ranges_ipv4: usize,
    /// Its IPv6 ranges.
    pub ranges_ipv6: usize,
    /// Packets that it decided about since it joined the policy: passed ones of an allow set (and those over the SYN limit),
    /// dropped ones of a deny set.
    pub packets: u64,
}

/// One packet counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketCount {
    /// The family.
    pub family: Family,
    /// What was done.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// How often.
    pub packets: u64,
}

/// What the ranges say about one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The address.
    pub address: IpAddr,
    /// The range that decides, its action, and the set that it comes from.
    pub range: Option<(Prefix, Action, String)>,
}

impl Explanation {
    /// What `tables`, whose sets have these numbers, say about `address`.
    pub fn new(address: IpAddr, tables: &Tables, numbers: &SetNumbers) -> Self {
        let range = tables
            .decisive_range(address)
            .and_then(|(prefix, entry)| Some((prefix, entry.action()?, numbers.name(entry.set())?.to_owned())));
        Self { address, range }
    }

    /// Whether a packet from there to a filtered destination passes when the mode is [`Mode::Enforce`].
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
