//! From a source to the range that contains it, without the trie if the answer is plain.
//!
//! A longest-prefix trie costs one dependent cache miss a level. Most sources have a plain answer (no range anywhere near,
//! or one range over the whole neighbourhood), and that answer stands in front tables:
//!
//! - IPv4: one bit for every /20 (128 KiB): whether there is any range; then two bits for every /24 (4 MiB): no range, all allowed, all denied, or mixed, and only the last asks the trie.
//!   The set of a /24 with one answer stands in a table of its own, which foreign traffic never touches.
//! - IPv6: two bits for every /24; then a hash of the /32s and /48s in which there are ranges, and before it one bit for what
//!   cannot be in the hash; then the trie.
//!
//! Must not know how the tables are filled; the daemon does, and the trie always knows every range.

use crate::layout::{Action, Address, Entry, FRONT_STATES_PER_WORD, Step, front_key_32, front_key_48, presence_bit};

/// The tables that lookups read. An absent table answers like an empty one.
pub trait Lookup {
    /// The word of the coarse IPv4 table with the bit of `source`'s /20.
    fn coarse_ipv4(&self, source: u32) -> u64;
    /// The word of the IPv4 front table with the state of `source`'s /24.
    fn front_ipv4(&self, source: u32) -> u64;
    /// The named range set of `source`'s /24, which has one answer.
    fn set_ipv4(&self, source: u32) -> u8;
    /// The longest range over `source`.
    fn trie_ipv4(&self, source: u32) -> Entry;
    /// The word of the IPv6 front table with the state of the /24 of the source whose first 64 bits are `high`.
    fn front_ipv6(&self, high: u64) -> u64;
    /// The word with this bit of what may be in the IPv6 hash.
    fn presence_ipv6(&self, bit: u32) -> u64;
    /// The entry of the IPv6 hash.
    fn hash_ipv6(&self, key: u64) -> Option<Entry>;
    /// The longest range over `source`.
    fn trie_ipv6(&self, source: Address) -> Entry;
}

/// What a front table says about one /24.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrontState {
    /// No range covers any source in it.
    None = 0,
    /// IPv4: an allow range covers all of it. IPv6: ask the hash.
    Allowed = 1,
    /// A deny range covers all of it. Not used for IPv6.
    Denied = 2,
    /// Ask the trie.
    Mixed = 3,
}

impl FrontState {
    /// For IPv6, if no range shorter than /25 covers the /24: ask the hash.
    pub const HASHED: Self = Self::Allowed;

    /// The state at `slot` (0 to 31) of a word.
    #[inline(always)]
    pub const fn of(word: u64, slot: u32) -> Self {
        match (word >> ((slot % FRONT_STATES_PER_WORD) * 2)) & 3 {
            0 => Self::None,
            1 => Self::Allowed,
            2 => Self::Denied,
            _ => Self::Mixed,
        }
    }
}

/// The range over an IPv4 source; [`Entry::NONE`] if there is none.
#[inline(always)]
pub fn lookup_ipv4<T: Lookup + ?Sized>(tables: &T, source: u32) -> Entry {
    if (tables.coarse_ipv4(source) >> ((source >> 12) % 64)) & 1 == 0 {
        return Entry::NONE;
    }
    match FrontState::of(tables.front_ipv4(source), source >> 8) {
        FrontState::None => Entry::NONE,
        FrontState::Allowed => Entry::new(Action::Allow, tables.set_ipv4(source)),
        FrontState::Denied => Entry::new(Action::Deny, tables.set_ipv4(source)),
        FrontState::Mixed => tables.trie_ipv4(source),
    }
}

/// The range over an IPv6 source; [`Entry::NONE`] if there is none.
#[inline(always)]
pub fn lookup_ipv6<T: Lookup + ?Sized>(tables: &T, source: Address) -> Entry {
    let high = source.high;
    match FrontState::of(tables.front_ipv6(high), (high >> 40) as u32) {
        FrontState::None => return Entry::NONE,
        FrontState::HASHED => {}
        _ => return tables.trie_ipv6(source),
    }
    let Some(short) = find_ipv6(tables, front_key_32(high)) else { return Entry::NONE };
    match short.step() {
        Step::Done => short,
        Step::Trie => tables.trie_ipv6(source),
        Step::Longer => match find_ipv6(tables, front_key_48(high)) {
            None => short,
            Some(long) if long.step() as u8 == Step::Done as u8 => long,
            Some(_) => tables.trie_ipv6(source),
        },
    }
}

#[inline(always)]
fn find_ipv6<T: Lookup + ?Sized>(tables: &T, key: u64) -> Option<Entry> {
    let bit = presence_bit(key);
    if (tables.presence_ipv6(bit) >> (bit % 64)) & 1 == 0 { None } else { tables.hash_ipv6(key) }
}
