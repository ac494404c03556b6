//! What the operator asks of the filter: plain data, made once by `config`.
//!
//! Must not touch the kernel. A policy without an allow range enforces what it says: nothing gets in.

use std::net::IpAddr;
use std::path::PathBuf;

use hookgate_ebpf::{Action, Mode, Rate, SETS};

use hookgate_core::prefix::{AddressFamily, Prefix};

/// Everything about the filter.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Whether foreign packets are dropped, counted, or not looked at.
    pub mode: Mode,
    /// The interfaces, by name. Never empty unless the mode is [`Mode::Off`].
    pub interfaces: Vec<String>,
    /// How the program is attached to them.
    pub attach: Attach,
    /// The directory on a bpffs in which the filter stays when the process ends; `None` detaches it then, however the
    /// process ends. A filter that stays goes on dropping by its last ranges, and nobody reads its counters.
    pub pin: Option<PathBuf>,
    /// What is filtered. Everything else passes untouched.
    pub destinations: Vec<Destination>,
    /// The ranges. Where sets overlap, deny wins over allow, then the longer range, then the earlier set.
    pub sets: Vec<RangeSet>,
    /// SYNs of allowed sources.
    pub syn_limits: SynLimits,
    /// Samples of drops for the log, on each CPU.
    pub samples: Rate,
    /// Sizes of the maps. They are fixed while the filter is attached.
    pub limits: Limits,
    /// The share of an allow set's addresses, from 0 to 1, that a reload may take away unless it is forced: a feed that
    /// broke must not cut a provider off.
    pub largest_shrink: f64,
}

impl Default for Policy {
    /// Off, with the limits that the configuration documents.
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
    /// In the driver where it can, else in the network stack.
    #[default]
    Auto,
    /// In the driver, before the kernel allocates anything for the packet.
    Native,
    /// In the network stack, after it has allocated a buffer: every interface can, at a higher price a packet.
    Generic,
}

/// A TCP port that is filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Destination {
    /// The address at which it is; `None` for every address, those of hosts behind this one included.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: u16,
}

/// Ranges with a name, such as a provider's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeSet {
    /// Metric label, and what a log line calls it.
    pub name: String,
    /// What happens to packets from it.
    pub action: Action,
    /// The ranges, in any order; overlaps are fine.
    pub prefixes: Vec<Prefix>,
}

impl RangeSet {
    /// How many ranges of a family it has.
    pub fn count(&self, family: AddressFamily) -> usize {
        self.prefixes.iter().filter(|prefix| prefix.family() == family).count()
    }
}

/// How fast allowed sources may open connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SynLimits {
    /// One IPv4 address.
    pub ipv4_address: Rate,
    /// All of an IPv4 /24.
    pub ipv4_network: Rate,
    /// All of an IPv6 /64.
    pub ipv6_network: Rate,
}

/// The most that the maps hold, and with it the memory that they can take in the kernel. Independent of them, the front
/// tables take 24.5 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// IPv4 ranges, at about 64 bytes each (128 where none can be merged into a parent's node).
    pub ranges_ipv4: u32,
    /// IPv6 ranges, at about 64 to 192 bytes each.
    pub ranges_ipv6: u32,
    /// Entries of the hash in front of the IPv6 ranges: a /48 takes two, at about 64 bytes each, and every one that there may
    /// be takes 32 bytes from the start. Beyond it lookups are slower, not wrong.
    pub hash_ipv6: u32,
    /// Destinations with an address of their own.
    pub destinations: u32,
    /// SYN buckets, at about 100 bytes each, allocated at once where there is a SYN limit; beyond it the least recently
    /// used is forgotten.
    pub syn_buckets: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { ranges_ipv4: 131_072, ranges_ipv6: 131_072, hash_ipv6: 262_144, destinations: 1024, syn_buckets: 65_536 }
    }
}

/// Why a policy cannot be put into force.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PolicyError {
    /// The filter has nothing to be attached to.
    #[error("the filter has no interface: name at least one")]
    NoInterface,
    /// More sets than a byte can tell apart.
    #[error("{count} range sets are too many: at most {} can be told apart", SETS - 1)]
    TooManySets {
        /// How many there are.
        count: usize,
    },
    /// More ranges than configured.
    #[error("{count} {} ranges are more than the limit of {limit}: raise it, or merge ranges", family.label())]
    TooManyRanges {
        /// Of which family.
        family: AddressFamily,
        /// How many there are, without duplicates.
        count: usize,
        /// How many there may be.
        limit: u32,
    },
    /// More destinations than configured.
    #[error("{count} destination addresses are more than the limit of {limit}")]
    TooManyDestinations {
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: u32,
    },
    /// An allow set would lose too much.
    #[error(
        "range set `{set}` would lose {lost_percent:.0} % of its {} addresses, more than the {allowed_percent:.0} % that \
         a reload may take away: check its source, or force the reload",
        family.label()
    )]
    Shrink {
        /// Which.
        set: String,
        /// In which family.
        family: AddressFamily,
        /// How much, in percent.
        lost_percent: f64,
        /// How much it might be, in percent.
        allowed_percent: f64,
    },
    /// Something that is fixed while the filter is attached.
    #[error("`{what}` cannot be changed while the filter is attached: restart the service")]
    Fixed {
        /// What was to be changed.
        what: &'static str,
    },
}

impl Policy {
    /// Refuses to replace `self` by a policy that an attached filter cannot take over, or that takes too much away from an
    /// allow set which both have.
    ///
    /// # Errors
    ///
    /// [`PolicyError::Fixed`], and [`PolicyError::Shrink`] unless `forced`.
    pub fn may_become(&self, next: &Self, forced: bool) -> Result<(), PolicyError> {
        let fixed = [
            ("interfaces", self.interfaces == next.interfaces),
            ("attach", self.attach == next.attach),
            ("pin", self.pin == next.pin),
            ("limits", self.limits == next.limits),
        ];
        if let Some((what, _)) = fixed.into_iter().find(|(_, same)| !same) {
            return Err(PolicyError::Fixed { what });
        }
        if forced {
            return Ok(());
        }
        for old in self.sets.iter().filter(|set| set.action == Action::Allow) {
            let Some(new) = next.sets.iter().find(|set| set.name == old.name && set.action == old.action) else {
                continue; // taken out of the configuration by name: that is meant
            };
            for family in AddressFamily::ALL {
                let lost = lost_share(&old.prefixes, &new.prefixes, family);
                if lost > next.largest_shrink {
                    let (lost_percent, allowed_percent) = (lost * 100.0, next.largest_shrink * 100.0);
                    return Err(PolicyError::Shrink { set: old.name.clone(), family, lost_percent, allowed_percent });
                }
            }
        }
        Ok(())
    }
}

/// The share of the addresses of `old` that are not in `new`: 0 to 1.
fn lost_share(old: &[Prefix], new: &[Prefix], family: AddressFamily) -> f64 {
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
fn intervals(prefixes: &[Prefix], family: AddressFamily) -> Vec<(u128, u128)> {
    let of_family = prefixes.iter().filter(|prefix| prefix.family() == family);
    let mut sorted: Vec<_> = of_family.map(|prefix| (prefix.bits(), prefix.last())).collect();
    sorted.sort_unstable();
    // Prefixes are nested or disjoint, so what begins within the previous interval also ends in it.
    sorted.dedup_by(|next, previous| next.0 <= previous.1);
    sorted
}
