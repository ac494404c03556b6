//! From a policy to the contents of the maps.
//!
//! Owns the meaning of the front tables: what `hookgate_ebpf::lookup` reads there must be what the ranges say. Must not
//! touch the kernel; `loader` writes what `difference` finds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hookgate_ebpf::{
    Action, Address, DestinationKey, Entry, FRONT_STATES_PER_WORD, FrontPage, FrontState, PORTS_PER_WORD, PortState,
    SetPage, Step, front_key_32, front_key_48, presence_bit,
};

use crate::numbers::SetNumbers;
use crate::policy::{Destination, Limits, Policy, PolicyError, RangeSet};
use hookgate_core::prefix::{AddressFamily, Prefix};

/// The longest range whose /48s are listed one by one in the IPv6 hash: 256 entries. Shorter ones leave their /32 to the
/// trie, since a feed of /33s would otherwise take 32,768 entries each.
const LONGEST_EXPANSION: u8 = 40;

/// What is in the maps. Absent pages, words and keys are empty ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Every range of both families, without those that a deny range covers: the longest one is the answer.
    pub ranges: BTreeMap<Prefix, Entry>,
    /// Which /20s have a state below that is not [`FrontState::None`], by the first 11 bits.
    pub coarse_ipv4: BTreeMap<u16, FrontPage>,
    /// The states of each /24, by the first 16 bits.
    pub front_ipv4: BTreeMap<u16, FrontPage>,
    /// The sets of each /24 with one answer, by the first 16 bits.
    pub sets_ipv4: BTreeMap<u16, SetPage>,
    /// The states of each IPv6 /24, by the first 16 bits.
    pub front_ipv6: BTreeMap<u16, FrontPage>,
    /// The bits of the keys of [`Self::hash_ipv6`], by their first 12 bits.
    pub presence_ipv6: BTreeMap<u16, FrontPage>,
    /// The /32s and /48s with ranges in them.
    pub hash_ipv6: BTreeMap<u64, Entry>,
    /// Words of port states.
    pub ports: BTreeMap<u32, u64>,
    /// Where listed ports are filtered.
    pub destinations: BTreeSet<DestinationKey>,
}

impl Tables {
    /// The tables of a policy whose sets have these numbers.
    ///
    /// # Errors
    ///
    /// Where there is more than the limits allow.
    pub fn new(policy: &Policy, numbers: &SetNumbers) -> Result<Self, PolicyError> {
        let ranges = effective(&policy.sets, numbers, &policy.limits)?;
        let (ports, destinations) = listed(&policy.destinations);
        if destinations.len() > policy.limits.destinations as usize {
            let (count, limit) = (destinations.len(), policy.limits.destinations);
            return Err(PolicyError::TooManyDestinations { count, limit });
        }
        let mut tables = Self { ranges, ports, destinations, ..Self::default() };
        tables.fill_ipv4();
        tables.fill_ipv6(policy.limits.hash_ipv6 as usize);
        Ok(tables)
    }

    /// The range that decides about a source, by the ranges alone: for questions, not for packets.
    pub fn decisive_range(&self, address: IpAddr) -> Option<(Prefix, Entry)> {
        let address = address.to_canonical();
        let longest = Prefix::containing(address, u8::MAX).length();
        (0..=longest).rev().find_map(|length| {
            let prefix = Prefix::containing(address, length);
            self.ranges.get(&prefix).map(|entry| (prefix, *entry))
        })
    }

    /// Ranges of both families, as they are in the tries.
    pub fn count(&self, family: AddressFamily) -> usize {
        self.ranges.keys().filter(|prefix| prefix.family() == family).count()
    }

    fn of_family(&self, family: AddressFamily) -> Vec<(Prefix, Entry)> {
        self.ranges.iter().filter(|(prefix, _)| prefix.family() == family).map(|(key, entry)| (*key, *entry)).collect()
    }

    /// Paints ranges over their /24s, shorter ones first, which is the order of the map.
    fn fill_ipv4(&mut self) {
        for (prefix, entry) in self.of_family(AddressFamily::Ipv4) {
            let state = match entry.action() {
                _ if prefix.length() > 24 => FrontState::Mixed,
                Some(Action::Allow) => FrontState::Allowed,
                Some(Action::Deny) => FrontState::Denied,
                None => FrontState::None,
            };
            for (page, slots) in pages_of(&prefix) {
                paint(self.front_ipv4.entry(page).or_default(), &slots, state);
                if state != FrontState::Mixed {
                    let sets = self.sets_ipv4.entry(page).or_insert([0; 256]);
                    slots.for_each(|slot| sets[slot] = entry.set());
                }
            }
        }
        for (page, states) in &self.front_ipv4 {
            // Half a word holds the states of the 16 /24s of a /20.
            let halves = states.iter().flat_map(|word| [*word as u32, (*word >> 32) as u32]);
            for (half, _) in halves.enumerate().filter(|(_, states)| *states != 0) {
                set_bit(&mut self.coarse_ipv4, u32::from(*page) << 4 | half as u32);
            }
        }
    }

    /// The same for IPv6, where what lies within one /24 goes into the hash if it fits.
    fn fill_ipv6(&mut self, budget: usize) {
        let ranges = self.of_family(AddressFamily::Ipv6);
        // The outermost range of /24 or shorter so far; what it covers comes right after it.
        let mut outermost: Option<Prefix> = None;
        for group in
            ranges.chunk_by(|(a, _), (b, _)| a.length() > 24 && b.length() > 24 && a.bits() >> 104 == b.bits() >> 104)
        {
            let first = group[0].0;
            if outermost.is_some_and(|outer| outer.covers(&first)) {
                continue;
            }
            let mut state = FrontState::Mixed;
            if first.length() <= 24 {
                outermost = Some(first);
            } else {
                // The entries of one range are many, so the bound is checked before they are made.
                let cost: usize = group.iter().map(|(prefix, _)| expansion(prefix)).sum();
                if self.hash_ipv6.len() + cost <= budget {
                    self.hash_ipv6.extend(hash_entries(group));
                    state = FrontState::HASHED;
                }
            }
            for (page, slots) in pages_of(&first) {
                paint(self.front_ipv6.entry(page).or_default(), &slots, state);
            }
        }
        for key in self.hash_ipv6.keys() {
            set_bit(&mut self.presence_ipv6, presence_bit(*key));
        }
    }
}

/// The union of the sets with the order of verdicts worked in: what a deny range covers has no other range in it, so that
/// the longest range over a source decides.
fn effective(sets: &[RangeSet], numbers: &SetNumbers, limits: &Limits) -> Result<BTreeMap<Prefix, Entry>, PolicyError> {
    let mut all: BTreeMap<Prefix, Entry> = BTreeMap::new();
    // Last written wins: later sets first, and deny over allow.
    for action in [Action::Allow, Action::Deny] {
        for set in sets.iter().rev().filter(|set| set.action == action) {
            let entry = Entry::new(action, numbers.number(&set.name));
            all.extend(set.prefixes.iter().map(|prefix| (*prefix, entry)));
        }
    }
    for (family, limit) in [(AddressFamily::Ipv4, limits.ranges_ipv4), (AddressFamily::Ipv6, limits.ranges_ipv6)] {
        let count = all.keys().filter(|prefix| prefix.family() == family).count();
        if count > limit as usize {
            return Err(PolicyError::TooManyRanges { family, count, limit });
        }
    }
    // In this order a range comes before all that it covers, so the last deny range is the only one to compare with.
    let mut denied: Option<Prefix> = None;
    all.retain(|prefix, entry| {
        if denied.is_some_and(|deny| deny.covers(prefix)) {
            return entry.action() == Some(Action::Deny);
        }
        if entry.action() == Some(Action::Deny) {
            denied = Some(*prefix);
        }
        true
    });
    Ok(all)
}

/// The /24s of a prefix (or the one that it lies in), as slots 0 to 255 of pages.
fn pages_of(prefix: &Prefix) -> impl Iterator<Item = (u16, std::ops::Range<usize>)> + use<> {
    let first = (prefix.bits() >> 104) as u32;
    let last = first | (0x00ff_ffffu32.checked_shr(u32::from(prefix.length())).unwrap_or(0));
    (first >> 8..=last >> 8).map(move |page| {
        let from = if page == first >> 8 { first as usize & 255 } else { 0 };
        let to = if page == last >> 8 { last as usize & 255 } else { 255 };
        (page as u16, from..to + 1)
    })
}

fn set_bit(pages: &mut BTreeMap<u16, FrontPage>, bit: u32) {
    let page = pages.entry((bit / 512) as u16).or_default();
    page[(bit / 64) as usize % page.len()] |= 1 << (bit % 64);
}

fn paint(page: &mut FrontPage, slots: &std::ops::Range<usize>, state: FrontState) {
    for slot in slots.clone() {
        let shift = (slot % FRONT_STATES_PER_WORD as usize) * 2;
        let word = &mut page[slot / FRONT_STATES_PER_WORD as usize];
        *word = (*word & !(3 << shift)) | ((state as u64) << shift);
    }
}

/// The most entries that a range of length /25 or longer can add to the IPv6 hash.
fn expansion(prefix: &Prefix) -> usize {
    match prefix.length() {
        length @ ..=32 => 1 << (32 - length.max(25)),
        length @ LONGEST_EXPANSION..=48 => 1 + (1 << (48 - length)),
        _ => 2,
    }
}

/// The hash entries of the ranges in one /24, each /25 or longer, in the order of the map.
fn hash_entries(group: &[(Prefix, Entry)]) -> BTreeMap<u64, Entry> {
    let mut short: BTreeMap<u64, Entry> = BTreeMap::new();
    let mut long: BTreeMap<u64, Entry> = BTreeMap::new();
    for (prefix, entry) in group {
        let (first, last) = ((prefix.bits() >> 64) as u64, (prefix.last() >> 64) as u64);
        match prefix.length() {
            ..=32 => short.extend((first >> 32..=last >> 32).map(|high| (front_key_32(high << 32), *entry))),
            33..LONGEST_EXPANSION => {
                short.insert(front_key_32(first), Entry::TRIE);
            }
            length => {
                let covering = short.entry(front_key_32(first)).or_insert(Entry::NONE);
                if covering.step() == Step::Trie {
                    continue;
                }
                *covering = covering.unless_longer();
                let entry = if length <= 48 { *entry } else { Entry::TRIE };
                long.extend((first >> 16..=last >> 16).map(|high| (front_key_48(high << 16), entry)));
            }
        }
    }
    long.retain(|key, _| short.get(&front_key_32(*key)).is_some_and(|covering| covering.step() == Step::Longer));
    short.append(&mut long);
    short
}

fn listed(destinations: &[Destination]) -> (BTreeMap<u32, u64>, BTreeSet<DestinationKey>) {
    let everywhere: BTreeSet<u16> =
        destinations.iter().filter(|it| it.address.is_none()).map(|destination| destination.port).collect();
    let mut ports = BTreeMap::new();
    let mut keys = BTreeSet::new();
    let mut set = |port: u16, state: PortState| {
        *ports.entry(u32::from(port) / PORTS_PER_WORD).or_default() |=
            (state as u64) << ((u32::from(port) % PORTS_PER_WORD) * 2);
    };
    everywhere.iter().for_each(|port| set(*port, PortState::Everywhere));
    for destination in destinations.iter().filter(|destination| !everywhere.contains(&destination.port)) {
        let Some(address) = destination.address else { continue };
        set(destination.port, PortState::Listed);
        keys.insert(DestinationKey { address: mapped(address), port: u64::from(destination.port) });
    }
    (ports, keys)
}

/// An address as the program has it.
pub(super) fn mapped(address: IpAddr) -> Address {
    match address.to_canonical() {
        IpAddr::V4(address) => Address::from_ipv4(address.to_bits()),
        IpAddr::V6(address) => Address::from_ipv6(address.octets()),
    }
}
