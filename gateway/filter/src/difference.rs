//! The writes from one content of the maps to another, while packets flow.
//!
//! Owns the order of the writes. After every single write, a source that both contents allow is allowed, and a source that
//! both contents deny is denied:
//!
//! - A lookup reads the front tables, then the /32s, then the /48s, then the tries. The writes go the other way: the tries get
//!   new contents first and lose old contents last. So each step of a lookup leads to the old answer or to the new one.
//! - Between the first write and the last, a trie holds the ranges of both contents. Longer ranges are written before the
//!   shorter ones around them, and removed after them. No allow range lies inside a deny range of its own content. So if both
//!   contents deny a source, the longest range over it is a deny range; if both allow it, no deny range is over it.
//!
//! No map is emptied, and no trie is replaced. Must not touch the kernel.

use std::collections::BTreeMap;

use hookgate_ebpf::{DestinationKey, Entry, FrontPage, SetPage};
use ipnet::IpNet;

use crate::tables::Tables;

/// One write. A packet sees the content before it or after it, nothing between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Adds a range to the trie of its family, or changes it.
    SetRange(IpNet, Entry),
    /// Adds or changes an entry of the IPv6 hash.
    SetHashIpv6(u64, Entry),
    /// Writes a page of the coarse IPv4 table.
    SetCoarseIpv4(u16, FrontPage),
    /// Writes a page of the bits in front of the IPv6 hash.
    SetPresenceIpv6(u16, FrontPage),
    /// Writes a page of set numbers.
    SetSetsIpv4(u16, Box<SetPage>),
    /// Writes a page of the IPv4 front table.
    SetFrontIpv4(u16, FrontPage),
    /// Writes a page of the IPv6 front table.
    SetFrontIpv6(u16, FrontPage),
    /// Adds a destination.
    AddDestination(DestinationKey),
    /// Writes a word of the port table.
    SetPorts(u32, u64),
    /// Removes a destination.
    RemoveDestination(DestinationKey),
    /// Removes an entry of the IPv6 hash.
    RemoveHashIpv6(u64),
    /// Removes a range from the trie of its family.
    RemoveRange(IpNet),
}

impl Tables {
    /// Applies a write.
    pub fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::SetRange(prefix, entry) => drop(self.ranges.insert(prefix, entry)),
            Operation::SetHashIpv6(key, entry) => drop(self.hash_ipv6.insert(key, entry)),
            Operation::SetCoarseIpv4(page, bits) => put(&mut self.coarse_ipv4, page, bits, FrontPage::default()),
            Operation::SetPresenceIpv6(page, bits) => put(&mut self.presence_ipv6, page, bits, FrontPage::default()),
            Operation::SetSetsIpv4(page, sets) => put(&mut self.sets_ipv4, page, *sets, [0; 256]),
            Operation::SetFrontIpv4(page, states) => put(&mut self.front_ipv4, page, states, FrontPage::default()),
            Operation::SetFrontIpv6(page, states) => put(&mut self.front_ipv6, page, states, FrontPage::default()),
            Operation::AddDestination(key) => drop(self.destinations.insert(key)),
            Operation::SetPorts(word, states) => put(&mut self.ports, word, states, 0),
            Operation::RemoveDestination(key) => drop(self.destinations.remove(&key)),
            Operation::RemoveHashIpv6(key) => drop(self.hash_ipv6.remove(&key)),
            Operation::RemoveRange(prefix) => drop(self.ranges.remove(&prefix)),
        }
    }
}

/// Stores a page, or removes it if it is empty: an absent page and an empty one are the same.
fn put<K: Ord, V: PartialEq>(pages: &mut BTreeMap<K, V>, key: K, value: V, empty: V) {
    if value == empty {
        pages.remove(&key);
    } else {
        pages.insert(key, value);
    }
}

/// Writes the difference of `tables`, what the maps hold, from `new`, and keeps `tables` up to date. Returns the number of writes.
///
/// # Errors
///
/// The first error of `write`. The writes before it stay, and `tables` has them.
pub fn change<E>(
    tables: &mut Tables,
    new: &Tables,
    write: &mut dyn FnMut(&Operation) -> Result<(), E>,
) -> Result<usize, E> {
    let operations = difference(tables, new);
    let writes = operations.len();
    for operation in operations {
        write(&operation)?;
        tables.apply(operation);
    }
    Ok(writes)
}

/// The writes that turn `old` into `new`, in their order.
pub fn difference(old: &Tables, new: &Tables) -> Vec<Operation> {
    let mut operations = Vec::new();
    let ranges: Vec<_> = changed(&old.ranges, &new.ranges).collect();
    operations.extend(ranges.into_iter().rev().map(|(key, value)| Operation::SetRange(key, value)));
    // A bit too many costs a lookup, a bit too few loses a range: keep the bits of both until the end.
    let coarse_of_both = union(&old.coarse_ipv4, &new.coarse_ipv4);
    let presence_of_both = union(&old.presence_ipv6, &new.presence_ipv6);
    operations.extend(coarse(&old.coarse_ipv4, &coarse_of_both));
    operations.extend(presence(&old.presence_ipv6, &presence_of_both));
    operations.extend(changed_hash(old, new));
    operations.extend(pages(&old.sets_ipv4, &new.sets_ipv4, [0; 256]).map(|(page, sets)| {
        Operation::SetSetsIpv4(page, Box::new(sets)) // read only to count, and only if the front table says so
    }));
    let front_ipv4 = pages(&old.front_ipv4, &new.front_ipv4, FrontPage::default());
    operations.extend(front_ipv4.map(|(page, states)| Operation::SetFrontIpv4(page, states)));
    let front_ipv6 = pages(&old.front_ipv6, &new.front_ipv6, FrontPage::default());
    operations.extend(front_ipv6.map(|(page, states)| Operation::SetFrontIpv6(page, states)));
    operations.extend(new.destinations.difference(&old.destinations).map(|key| Operation::AddDestination(*key)));
    operations.extend(pages(&old.ports, &new.ports, 0).map(|(word, states)| Operation::SetPorts(word, states)));
    operations.extend(old.destinations.difference(&new.destinations).map(|key| Operation::RemoveDestination(*key)));
    operations.extend(removed(&old.hash_ipv6, &new.hash_ipv6).map(Operation::RemoveHashIpv6));
    operations.extend(presence(&presence_of_both, &new.presence_ipv6));
    operations.extend(coarse(&coarse_of_both, &new.coarse_ipv4));
    operations.extend(removed(&old.ranges, &new.ranges).map(Operation::RemoveRange));
    operations
}

fn union(old: &BTreeMap<u16, FrontPage>, new: &BTreeMap<u16, FrontPage>) -> BTreeMap<u16, FrontPage> {
    let mut both = old.clone();
    for (page, bits) in new {
        both.entry(*page).or_default().iter_mut().zip(bits).for_each(|(word, bits)| *word |= bits);
    }
    both
}

fn coarse(old: &BTreeMap<u16, FrontPage>, new: &BTreeMap<u16, FrontPage>) -> impl Iterator<Item = Operation> {
    pages(old, new, FrontPage::default()).map(|(page, bits)| Operation::SetCoarseIpv4(page, bits))
}

fn presence(old: &BTreeMap<u16, FrontPage>, new: &BTreeMap<u16, FrontPage>) -> impl Iterator<Item = Operation> {
    pages(old, new, FrontPage::default()).map(|(page, bits)| Operation::SetPresenceIpv6(page, bits))
}

/// The changes of the IPv6 hash, the /48s before the /32s: the last byte of a key is its length.
fn changed_hash(old: &Tables, new: &Tables) -> impl Iterator<Item = Operation> {
    let mut changed: Vec<_> = changed(&old.hash_ipv6, &new.hash_ipv6).collect();
    changed.sort_by_key(|(key, _)| std::cmp::Reverse(key & 0xff));
    changed.into_iter().map(|(key, entry)| Operation::SetHashIpv6(key, entry))
}

fn changed<K: Copy + Ord, V: Copy + PartialEq>(
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
) -> impl Iterator<Item = (K, V)> {
    new.iter().filter(|(key, value)| old.get(key) != Some(value)).map(|(key, value)| (*key, *value))
}

fn removed<K: Copy + Ord, V>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> impl Iterator<Item = K> {
    old.keys().filter(|key| !new.contains_key(key)).copied()
}

/// The pages that differ. An absent page equals `empty`.
fn pages<K: Copy + Ord, V: Copy + PartialEq>(
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    empty: V,
) -> impl Iterator<Item = (K, V)> {
    let differing = changed(old, new).filter(move |(key, value)| old.contains_key(key) || *value != empty);
    differing.chain(removed(old, new).map(move |key| (key, empty)))
}
