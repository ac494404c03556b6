//! What the operator wants of the filter, as plain data.
//!
//! Owns the policy, its limits, and whether one policy may replace another. Must not touch the kernel. An empty policy fails
//! closed: in mode [`Mode::Enforce`] without an allow range, nothing gets in.

use std::net::IpAddr;
use std::path::PathBuf;

use hookgate_ebpf::{Action, Family, Mode, Rate, SETS};
use ipnet::IpNet;

use crate::aligned;

/// All settings of the filter.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Whether foreign packets are dropped, only counted, or ignored.
    pub mode: Mode,
    /// The interfaces, by name. Never empty unless the mode is [`Mode::Off`].
    pub interfaces: Vec<String>,
    /// How the program is attached to the interfaces.
    pub attach: Attach,
    /// The directory on a bpffs in which the filter stays when the process ends. With `None` the kernel detaches the filter
    /// when the process ends, also after SIGKILL. A filter that stays goes on dropping by its last ranges, and nothing reads
    /// its counters.
    pub pin: Option<PathBuf>,
    /// The destinations that are filtered. Packets to other destinations pass, except IPv6 packets with more than 8 extension
    /// headers: the program does not follow them to the port, and judges them by their source alone.
    pub destinations: Vec<Destination>,
    /// The ranges. If sets overlap, deny wins over allow, then the longer range, then the earlier set.
    pub sets: Vec<RangeSet>,
    /// Limits on the SYNs of allowed sources.
    pub syn_limits: SynLimits,
    /// How many drops each CPU reports as samples for the log.
    pub samples: Rate,
    /// The sizes of the maps. They are fixed while the filter is attached.
    pub limits: Limits,
    /// The share of a set's addresses, from 0 to 1, that a reload may remove unless it is forced: a broken feed must neither cut a
    /// provider off nor let denied sources in.
    pub largest_shrink: f64,
}

impl Default for Policy {
    /// Mode off, with the limits that the configuration documents.
    fn default() -> Self {
        Self {
            mode: Mode::Off,
            interfaces: Vec::new(),
            attach: Attach::default(),
            pin: None,
            destinations: Vec::new(),
            sets: Vec::new(),
            syn_limits: SynLimits::default(),
            samples: Rate::per_second(5, 10),
            limits: Limits::default(),
            largest_shrink: 0.5,
        }
    }
}

/// Where in the receive path the program runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attach {
    /// In the driver if the driver can, else in the network stack.
    #[default]
    Auto,
    /// In the driver, before the kernel allocates anything for the packet.
    Native,
    /// In the network stack, after it allocated a buffer. Every interface can; a packet costs more.
    Generic,
}

/// Where in the receive path an interface runs the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMode {
    /// In the driver.
    Native,
    /// In the network stack.
    Generic,
}

impl AttachMode {
    /// The metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// A TCP port that is filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Destination {
    /// The address; `None` for every address, also of hosts that this one forwards to.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: u16,
}

/// Ranges with a name, such as those of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeSet {
    /// The name in metrics and in the log.
    pub name: String,
    /// What happens to packets from these ranges.
    pub action: Action,
    /// The ranges, in any order. They may overlap; host bits are ignored.
    pub prefixes: Vec<IpNet>,
}

impl RangeSet {
    /// The number of ranges of a family.
    pub fn count(&self, family: Family) -> usize {
        self.prefixes.iter().filter(|range| aligned::family(range) == family).count()
    }
}

/// How fast allowed sources may open connections. The default is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SynLimits {
    /// Per IPv4 address.
    pub ipv4_address: Rate,
    /// Per IPv4 /24, as a whole.
    pub ipv4_network: Rate,
    /// Per IPv6 /64, as a whole.
    pub ipv6_network: Rate,
}

/// The capacities of the maps. They bound the memory that the maps take in the kernel. The front tables take 24.5 MiB in
/// addition, whatever the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// IPv4 ranges, at about 64 bytes each, or 128 if no range shares a node of the trie with its parent.
    pub ranges_ipv4: u32,
    /// IPv6 ranges, at about 64 to 192 bytes each.
    pub ranges_ipv6: u32,
    /// Entries of the hash in front of the IPv6 ranges. A /48 takes two entries, at about 64 bytes each. The capacity itself
    /// takes 32 bytes an entry from the start. If ranges do not fit, their lookups use the trie: slower, not wrong.
    pub hash_ipv6: u32,
    /// Destinations with an address of their own.
    pub destinations: u32,
    /// SYN buckets, at about 100 bytes each, allocated at start if there is a SYN limit. If there are more sources, the kernel
    /// evicts the least recently used bucket.
    pub syn_buckets: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { ranges_ipv4: 131_072, ranges_ipv6: 131_072, hash_ipv6: 262_144, destinations: 1024, syn_buckets: 65_536 }
    }
}

/// Why a policy cannot take effect.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PolicyError {
    /// There is no interface to attach the filter to.
    #[error("the filter has no interface: name at least one")]
    NoInterface,
    /// More sets than there are numbers: a number is one byte, and 0 means no set.
    #[error("{count} range sets are too many: the filter supports at most {}", SETS - 1)]
    TooManySets {
        /// The number of sets.
        count: usize,
    },
    /// More ranges than the limit.
    #[error("{count} {} ranges are more than the limit of {limit}: raise the limit, or merge ranges", family.label())]
    TooManyRanges {
        /// The family.
        family: Family,
        /// The number of ranges, without duplicates.
        count: usize,
        /// See [`Limits::ranges_ipv4`] and [`Limits::ranges_ipv6`].
        limit: u32,
    },
    /// More destinations than the limit.
    #[error("{count} destination addresses are more than the limit of {limit}")]
    TooManyDestinations {
        /// The number of destinations.
        count: usize,
        /// See [`Limits::destinations`].
        limit: u32,
    },
    /// A set would lose too many addresses.
    #[error(
        "range set `{set}` would lose {lost_percent:.0} % of its {} addresses; a reload may remove at most \
         {allowed_percent:.0} %: check the source of the ranges; if it is right, write force_shrink = true in [filter] and \
         reload",
        family.label()
    )]
    Shrink {
        /// The name of the set.
        set: String,
        /// The family of the addresses.
        family: Family,
        /// What it would lose, in percent.
        lost_percent: f64,
        /// What a reload may remove, in percent.
        allowed_percent: f64,
    },
    /// A setting that is fixed while the filter is attached.
    #[error("`{what}` cannot change while the filter is attached: restart the service")]
    Fixed {
        /// The setting.
        what: &'static str,
    },
}

impl Policy {
    /// Checks whether `next` may replace `self` while the filter is attached.
    ///
    /// # Errors
    ///
    /// [`PolicyError::Fixed`] if `next` changes a fixed setting. [`PolicyError::Shrink`] if it removes too many addresses from
    /// an allow set that both policies have, or from a deny set, unless `forced`.
    pub fn may_become(&self, next: &Self, forced: bool) -> Result<(), PolicyError> {
        let fixed = [
            ("interfaces", self.interfaces == next.interfaces),
            ("attach", self.attach == next.attach),
            ("pin", self.pin == next.pin),
            ("limits", self.limits == next.limits),
            ("the presence of SYN limits", !next.has_syn_limit() || self.has_syn_limit()),
        ];
        if let Some((what, _)) = fixed.into_iter().find(|(_, same)| !same) {
            return Err(PolicyError::Fixed { what });
        }
        if forced {
            return Ok(());
        }
        for old in &self.sets {
            let new = next.sets.iter().find(|set| set.name == old.name && set.action == old.action);
            let left = match (new, old.action) {
                (Some(new), _) => new.prefixes.as_slice(),
                // A provider that is removed by name sends nothing. Sources that are no longer denied may.
                (None, Action::Allow) => continue,
                (None, Action::Deny) => &[],
            };
            for family in [Family::Ipv4, Family::Ipv6] {
                let lost = lost_share(&old.prefixes, left, family);
                if lost > next.largest_shrink {
                    let (lost_percent, allowed_percent) = (lost * 100.0, next.largest_shrink * 100.0);
                    return Err(PolicyError::Shrink { set: old.name.clone(), family, lost_percent, allowed_percent });
                }
            }
        }
        Ok(())
    }

    /// Whether it limits how fast any source opens connections.
    pub(crate) fn has_syn_limit(&self) -> bool {
        self.syn_limits != SynLimits::default()
    }
}

/// The share of the addresses of `old` that are not in `new`: 0 to 1.
fn lost_share(old: &[IpNet], new: &[IpNet], family: Family) -> f64 {
    let (old, new) = (intervals(old, family), intervals(new, family));
    let size = |&(first, last): &(u128, u128)| (last - first) as f64 + 1.0;
    let had: f64 = old.iter().map(size).sum();
    let mut kept = 0.0;
    let mut rest = new.iter().peekable();
    for &(first, last) in &old {
        while rest.next_if(|&&(_, other_last)| other_last < first).is_some() {}
        while let Some(&&(other_first, other_last)) = rest.peek() {
            if other_first > last {
                break;
            }
            kept += size(&(first.max(other_first), last.min(other_last)));
            if other_last > last {
                break;
            }
            rest.next();
        }
    }
    if had == 0.0 { 0.0 } else { 1.0 - kept / had }
}

/// The addresses of a family as disjoint intervals in ascending order.
fn intervals(prefixes: &[IpNet], family: Family) -> Vec<(u128, u128)> {
    let of_family = prefixes.iter().filter(|range| aligned::family(range) == family);
    let mut sorted: Vec<_> = of_family.map(|range| (aligned::first(range), aligned::last(range))).collect();
    sorted.sort_unstable();
    // Ranges are nested or disjoint, so an interval that begins within the previous one also ends in it.
    sorted.dedup_by(|next, previous| next.0 <= previous.1);
    sorted
}
