//! The contents of the program's maps, computed from a policy.
//!
//! Owns the meaning of the front tables: what `hookgate_ebpf::lookup` reads there must agree with the ranges. Must not touch
//! the kernel: `loader` writes what `difference` finds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hookgate_ebpf::{
    Action, Address, DestinationKey, Entry, FRONT_STATES_PER_WORD, Family, FrontPage, FrontState, PORTS_PER_WORD,
    PortState, SetPage, Step, front_key_32, front_key_48, presence_bit,
};
use ipnet::IpNet;

use crate::aligned;
use crate::numbers::SetNumbers;
use crate::policy::{Destination, Limits, Policy, PolicyError, RangeSet};

/// Of the ranges longer than /32, the shortest whose /48s get an entry each in the IPv6 hash: 256 of them. For a /33 to a /39
/// the hash sends the whole /32 to the trie, because a /33 would take 32,768 entries.
const SHORTEST_EXPANDED: u8 = 40;

/// The contents of the maps. Absent pages, words and keys are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Every range of both families, except those that a deny range contains. The longest range over a source decides. The
    /// order of the map is IPv4 before IPv6, and each range before everything that it contains.
    pub ranges: BTreeMap<IpNet, Entry>,
    /// Which /20s contain a /24 whose state is not [`FrontState::None`], by the first 11 bits.
    pub coarse_ipv4: BTreeMap<u16, FrontPage>,
    /// The states of each /24, by the first 16 bits.
    pub front_ipv4: BTreeMap<u16, FrontPage>,
    /// The set of each /24 that a single range decides, by the first 16 bits.
    pub sets_ipv4: BTreeMap<u16, SetPage>,
    /// The states of each IPv6 /24, by the first 16 bits.
    pub front_ipv6: BTreeMap<u16, FrontPage>,
    /// The bits of the keys of [`Self::hash_ipv6`], by their first 12 bits.
    pub presence_ipv6: BTreeMap<u16, FrontPage>,
    /// The /32s and /48s that contain ranges.
    pub hash_ipv6: BTreeMap<u64, Entry>,
    /// Words of port states.
    pub ports: BTreeMap<u32, u64>,
    /// The addresses at which listed ports are filtered.
    pub destinations: BTreeSet<DestinationKey>,
}

impl Tables {
    /// Computes the tables of a policy whose sets have these numbers.
    ///
    /// # Errors
    ///
    /// If there are more ranges or destinations than the limits allow.
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

    /// The range that decides about a source, found without the front tables.
    pub fn decisive_range(&self, address: IpAddr) -> Option<(IpNet, Entry)> {
        let longest_first = std::iter::successors(Some(IpNet::from(address.to_canonical())), IpNet::supernet);
        longest_first.into_iter().find_map(|range| self.ranges.get(&range).map(|entry| (range, *entry)))
    }

    /// The number of ranges of a family in its trie.
    pub fn count(&self, family: Family) -> usize {
        self.ranges.keys().filter(|range| aligned::family(range) == family).count()
    }

    fn of_family(&self, family: Family) -> Vec<(IpNet, Entry)> {
        let of_family = self.ranges.iter().filter(|(range, _)| aligned::family(range) == family);
        of_family.map(|(range, entry)| (*range, *entry)).collect()
    }

    /// Paints ranges over their /24s, in the order of the map: a longer range paints over the shorter one around it.
    fn fill_ipv4(&mut self) {
        for (range, entry) in self.of_family(Family::Ipv4) {
            let state = match entry.action() {
                _ if range.prefix_len() > 24 => FrontState::Mixed,
                Some(Action::Allow) => FrontState::Allowed,
                Some(Action::Deny) => FrontState::Denied,
                None => FrontState::None,
            };
            for (page, slots) in pages_of(&range) {
                paint(self.front_ipv4.entry(page).or_default(), &slots, state);
                if state != FrontState::Mixed {
                    let sets = self.sets_ipv4.entry(page).or_insert([0; 256]);
                    slots.for_each(|slot| sets[slot] = entry.set());
                }
            }
        }
        for (page, states) in &self.front_ipv4 {
            // Half a word holds the states of the sixteen /24s of a /20.
            let halves = states.iter().flat_map(|word| [*word as u32, (*word >> 32) as u32]);
            for (half, _) in halves.enumerate().filter(|(_, states)| *states != 0) {
                set_bit(&mut self.coarse_ipv4, u32::from(*page) << 4 | half as u32);
            }
        }
    }

    /// The same for IPv6. The ranges inside one /24 go into the hash if they fit.
    fn fill_ipv6(&mut self, budget: usize) {
        let ranges = self.of_family(Family::Ipv6);
        // The last range of /24 or shorter that no other contains. The ranges that it contains come right after it.
        let mut outermost: Option<IpNet> = None;
        let is_one_group = |(a, _): &(IpNet, Entry), (b, _): &(IpNet, Entry)| {
            a.prefix_len() > 24 && b.prefix_len() > 24 && aligned::first(a) >> 104 == aligned::first(b) >> 104
        };
        for group in ranges.chunk_by(is_one_group) {
            let first = group[0].0;
            if outermost.is_some_and(|outer| outer.contains(&first)) {
                continue;
            }
            let mut state = FrontState::Mixed;
            if first.prefix_len() <= 24 {
                outermost = Some(first);
            } else {
                // One range can need many entries, so check the bound before making them.
                let cost: usize = group.iter().map(|(range, _)| expansion(range)).sum();
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

/// The union of the sets, with precedence applied: inside a deny range there is no allow range, so the longest range over a
/// source decides.
fn effective(sets: &[RangeSet], numbers: &SetNumbers, limits: &Limits) -> Result<BTreeMap<IpNet, Entry>, PolicyError> {
    let mut all: BTreeMap<IpNet, Entry> = BTreeMap::new();
    // The last write wins, so write the later sets first, and deny after allow.
    for action in [Action::Allow, Action::Deny] {
        for set in sets.iter().rev().filter(|set| set.action == action) {
            let entry = Entry::new(action, numbers.number(&set.name));
            all.extend(set.prefixes.iter().map(|range| (range.trunc(), entry)));
        }
    }
    for (family, limit) in [(Family::Ipv4, limits.ranges_ipv4), (Family::Ipv6, limits.ranges_ipv6)] {
        let count = all.keys().filter(|range| aligned::family(range) == family).count();
        if count > limit as usize {
            return Err(PolicyError::TooManyRanges { family, count, limit });
        }
    }
    // A range comes before everything that it contains, so compare with the last deny range only.
    let mut denied: Option<IpNet> = None;
    all.retain(|range, entry| {
        if denied.is_some_and(|deny| deny.contains(range)) {
            return entry.action() == Some(Action::Deny);
        }
        if entry.action() == Some(Action::Deny) {
            denied = Some(*range);
        }
        true
    });
    Ok(all)
}

/// The /24s of a range, or the /24 that contains it, as slots 0 to 255 of pages.
fn pages_of(range: &IpNet) -> impl Iterator<Item = (u16, std::ops::Range<usize>)> + use<> {
    let (first, last) = ((aligned::first(range) >> 104) as u32, (aligned::last(range) >> 104) as u32);
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

/// The most entries that a range of /25 or longer can add to the IPv6 hash.
fn expansion(range: &IpNet) -> usize {
    match range.prefix_len() {
        length @ ..=32 => 1 << (32 - length.max(25)),
        length @ SHORTEST_EXPANDED..=48 => 1 + (1 << (48 - length)),
        _ => 2,
    }
}

/// The hash entries of the ranges in one /24, which are /25 or longer and in the order of the map.
fn hash_entries(group: &[(IpNet, Entry)]) -> BTreeMap<u64, Entry> {
    let mut short: BTreeMap<u64, Entry> = BTreeMap::new();
    let mut long: BTreeMap<u64, Entry> = BTreeMap::new();
    for (range, entry) in group {
        let (first, last) = ((aligned::first(range) >> 64) as u64, (aligned::last(range) >> 64) as u64);
        match range.prefix_len() {
            ..=32 => short.extend((first >> 32..=last >> 32).map(|high| (front_key_32(high << 32), *entry))),
            33..SHORTEST_EXPANDED => {
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

/// The port table, and the destinations that have an address. A port that is filtered everywhere needs no destination.
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

/// An address as the program represents it.
pub(super) fn mapped(address: IpAddr) -> Address {
    match address.to_canonical() {
        IpAddr::V4(address) => Address::from_ipv4(address.to_bits()),
        IpAddr::V6(address) => Address::from_ipv6(address.octets()),
    }
}
