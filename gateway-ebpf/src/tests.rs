//! The decision on the host: the shared cases, the front tables, the rate, and random bytes.

use core::net::IpAddr;
use std::cell::RefCell;
use std::collections::HashMap;
use std::vec::Vec;

use crate::cases::{self, Case};
use crate::{
    Action, Address, BucketKey, Decision, DestinationKey, Entry, FrontState, Lookup, Maps, Mode, PORTS_PER_WORD, Rate,
    Reason, Sample, Settings, Verdict, counter_index, decide, front_key_32, front_key_48, lookup_ipv4, lookup_ipv6,
    presence_bit, take,
};

/// The tables as the definition has them: deny before allow, the longest of each, by walking a list.
#[derive(Default)]
struct Reference {
    settings: Settings,
    ranges: Vec<(Address, u8, Entry)>,
    front_ipv4: HashMap<u32, u64>,
    front_ipv6: HashMap<u64, u64>,
    hash_ipv6: HashMap<u64, Entry>,
    buckets: RefCell<HashMap<BucketKey, u64>>,
    now_ns: u64,
}

fn address(text: &str) -> (Address, u8) {
    match text.parse() {
        Ok(IpAddr::V4(address)) => (Address::from_ipv4(address.to_bits()), 96),
        Ok(IpAddr::V6(address)) => (Address::from_ipv6(address.octets()), 0),
        Err(error) => unreachable!("{text}: {error}"),
    }
}

impl Reference {
    fn of_cases(mode: Mode) -> Self {
        let ranges = cases::RANGES.iter().map(|&(prefix, length, action, set)| {
            let (prefix, mapped) = address(prefix);
            (prefix, length + mapped, Entry::new(action, set))
        });
        let settings = Settings { mode: mode as u64, ..Settings::default() };
        Self { settings, ranges: ranges.collect(), ..Self::default() }
    }

    fn longest(&self, source: Address) -> Entry {
        let number = |address: Address| u128::from_be_bytes(address.to_bytes());
        let covers = |&&(prefix, length, _): &&(Address, u8, Entry)| {
            length == 0 || (number(prefix) ^ number(source)) >> (128 - length) == 0
        };
        let covering = self.ranges.iter().filter(covers);
        covering.max_by_key(|(_, length, entry)| (entry.action(), *length)).map_or(Entry::NONE, |range| range.2)
    }
}

impl Lookup for Reference {
    fn coarse_ipv4(&self, _: u32) -> u64 {
        u64::MAX
    }
    fn front_ipv4(&self, source: u32) -> u64 {
        self.front_ipv4.get(&(source >> 13)).copied().unwrap_or(u64::MAX)
    }
    fn set_ipv4(&self, _: u32) -> u8 {
        9
    }
    fn trie_ipv4(&self, source: u32) -> Entry {
        self.longest(Address::from_ipv4(source))
    }
    fn front_ipv6(&self, high: u64) -> u64 {
        self.front_ipv6.get(&(high >> 45)).copied().unwrap_or(u64::MAX)
    }
    fn presence_ipv6(&self, bit: u32) -> u64 {
        let word = |key: &&u64| presence_bit(**key) / 64 == bit / 64;
        self.hash_ipv6.keys().filter(word).fold(0, |bits, key| bits | 1 << (presence_bit(*key) % 64))
    }
    fn hash_ipv6(&self, key: u64) -> Option<Entry> {
        self.hash_ipv6.get(&key).copied()
    }
    fn trie_ipv6(&self, source: Address) -> Entry {
        self.longest(source)
    }
}

impl Maps for Reference {
    fn settings(&self) -> Option<&Settings> {
        Some(&self.settings)
    }
    fn port_word(&self, port: u16) -> u64 {
        let same_word =
            |&&(other, _): &&(u16, _)| u32::from(other) / PORTS_PER_WORD == u32::from(port) / PORTS_PER_WORD;
        let states = cases::PORTS.iter().filter(same_word);
        states.map(|&(port, state)| (state as u64) << ((u32::from(port) % PORTS_PER_WORD) * 2)).sum()
    }
    fn is_destination(&self, key: &DestinationKey) -> bool {
        cases::DESTINATIONS
            .iter()
            .any(|&(text, port)| *key == DestinationKey { address: address(text).0, port: u64::from(port) })
    }
    fn take(&self, key: &BucketKey, rate: Rate) -> bool {
        let mut buckets = self.buckets.borrow_mut();
        let due = buckets.entry(*key).or_default();
        take(rate, *due, self.now_ns).map(|next| *due = next).is_some()
    }
}

fn check(case: &Case, mode: Mode) {
    let maps = Reference::of_cases(mode);
    let refused = if mode == Mode::Enforce { Verdict::Drop } else { Verdict::WouldDrop };
    let verdict = if case.reason.passes() { Verdict::Pass } else { refused };
    let found = decide(case.frame.as_slice(), &maps).map(|it| (it.family, it.verdict, it.reason, it.set));
    assert_eq!(found, Some((case.family, verdict, case.reason, case.set)), "{} ({mode:?})", case.name);
}

#[test]
fn every_case_is_decided_as_the_table_says() {
    for case in cases::all() {
        check(&case, Mode::Enforce);
        check(&case, Mode::Monitor);
        assert_eq!(decide(case.frame.as_slice(), &Reference::of_cases(Mode::Off)), None, "{} (off)", case.name);
    }
}

#[test]
fn a_frame_cut_anywhere_is_decided_without_a_panic_and_never_dropped_for_another_port() {
    for case in cases::all() {
        for length in 0..case.frame.len() {
            let decided = decide(&case.frame[..length], &Reference::of_cases(Mode::Enforce));
            let dropped = matches!(decided, Some(Decision { verdict: Verdict::Drop, .. }));
            assert!(!(dropped && case.reason.passes()), "{} cut at {length} is dropped", case.name);
        }
    }
}

#[test]
fn random_bytes_are_decided_without_a_panic() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        // xorshift64 (Marsaglia, 2003): the same bytes on every run
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let maps = Reference::of_cases(Mode::Enforce);
    let frames: Vec<_> = cases::all();
    for _ in 0..200_000 {
        let mut frame = frames[next() as usize % frames.len()].frame.clone();
        for _ in 0..next() % 6 {
            let at = 12 + next() as usize % (frame.len() - 12);
            frame[at] = next() as u8;
        }
        assert!(decide(frame.as_slice(), &maps).is_some());
    }
}

#[test]
fn front_states_answer_without_the_trie_unless_mixed() {
    let state_at = |slot: u32, state: FrontState| (state as u64) << (slot * 2);
    let source = u32::from_be_bytes([192, 0, 2, 7]);
    let check = |state, expected| {
        let front_ipv4 = HashMap::from([(source >> 13, state_at((source >> 8) & 31, state))]);
        let maps = Reference { front_ipv4, ..Reference::of_cases(Mode::Enforce) };
        assert_eq!(lookup_ipv4(&maps, source), expected, "{state:?}");
    };
    check(FrontState::None, Entry::NONE);
    check(FrontState::Allowed, Entry::new(Action::Allow, 9));
    check(FrontState::Denied, Entry::new(Action::Deny, 9));
    check(FrontState::Mixed, Entry::new(Action::Allow, 1));
}

#[test]
fn the_ipv6_hash_answers_step_by_step() {
    let (source, _) = address("2001:db8:1::1");
    let front_ipv6 = HashMap::from([(source.high >> 45, u64::MAX / 3)]); // every state is HASHED
    let allow = |set| Entry::new(Action::Allow, set);
    let check = |short: Option<Entry>, long: Option<Entry>, expected| {
        let short = short.map(|entry| (front_key_32(source.high), entry));
        let long = long.map(|entry| (front_key_48(source.high), entry));
        let hash_ipv6 = short.into_iter().chain(long).collect();
        let maps = Reference { front_ipv6: front_ipv6.clone(), hash_ipv6, ..Reference::of_cases(Mode::Enforce) };
        assert_eq!(lookup_ipv6(&maps, source).set(), expected, "{short:?} {long:?}");
    };
    check(None, Some(allow(8)), 0);
    check(Some(allow(7)), Some(allow(8)), 7);
    check(Some(Entry::TRIE), None, 1);
    check(Some(allow(7).unless_longer()), None, 7);
    check(Some(allow(7).unless_longer()), Some(allow(8)), 8);
    check(Some(Entry::NONE.unless_longer()), Some(Entry::TRIE), 1);
    check(Some(Entry::NONE.unless_longer()), None, 0);
}

#[test]
fn syns_beyond_the_burst_are_dropped_until_time_has_passed() {
    let rate = Rate::per_second(10, 3);
    let mut maps = Reference::of_cases(Mode::Enforce);
    maps.settings.syn_ipv4_address = rate;
    maps.settings.syn_ipv6_network = rate;
    maps.now_ns = 5_000_000_000;
    for (source, server) in [("192.0.2.7", "198.51.100.1"), ("2001:db8:1:2::3", "2001:db8:ffff::1")] {
        let reason = |maps: &Reference, flags| {
            let frame = cases::Datagram::tcp(443, flags).frame(source, server);
            decide(frame.as_slice(), maps).map(|decision| decision.reason)
        };
        for expected in [Reason::Allowed, Reason::Allowed, Reason::Allowed, Reason::SynRate, Reason::SynRate] {
            assert_eq!(reason(&maps, cases::SYN), Some(expected));
        }
        assert_eq!(reason(&maps, cases::ACK), Some(Reason::Allowed), "a connection that is open goes on");
        maps.now_ns += 99_000_000;
        assert_eq!(reason(&maps, cases::SYN), Some(Reason::SynRate));
        maps.now_ns += 1_000_000;
        assert_eq!(reason(&maps, cases::SYN), Some(Reason::Allowed));
        assert_eq!(reason(&maps, cases::SYN), Some(Reason::SynRate));
    }
}

#[test]
fn a_network_shares_its_bucket_and_a_neighbour_does_not_pay() {
    let mut maps = Reference::of_cases(Mode::Enforce);
    maps.settings.syn_ipv4_network = Rate::per_second(1, 2);
    let reason = |source| {
        let frame = cases::Datagram::tcp(443, cases::SYN).frame(source, "198.51.100.1");
        decide(frame.as_slice(), &maps).map(|decision| decision.reason)
    };
    let expected = [
        ("192.0.2.1", Reason::Allowed),
        ("192.0.2.2", Reason::Allowed),
        ("192.0.2.3", Reason::SynRate),
        ("198.18.0.1", Reason::Allowed),
    ];
    for (source, expected) in expected {
        assert_eq!(reason(source), Some(expected), "{source}");
    }
}

#[test]
fn every_counter_has_its_own_cell() {
    let mut seen = Vec::new();
    for family in crate::Family::ALL {
        for verdict in Verdict::ALL {
            seen.extend(Reason::ALL.map(|reason| counter_index(family, verdict, reason)));
        }
    }
    assert!(seen.iter().copied().eq(0..crate::COUNTERS), "{seen:?}");
}

#[test]
fn a_sample_is_read_as_it_was_written() {
    let mut bytes = std::vec![0u8; Sample::SIZE];
    bytes[..8].copy_from_slice(&1u64.to_ne_bytes());
    bytes[24..32].copy_from_slice(&2u64.to_ne_bytes());
    bytes[32..36].copy_from_slice(&3u32.to_ne_bytes());
    bytes[36..38].copy_from_slice(&4u16.to_ne_bytes());
    bytes[38..40].copy_from_slice(&443u16.to_ne_bytes());
    bytes[40..].copy_from_slice(&[1, 2, 5, 7, 0, 0, 0, 0][..Sample::SIZE - 40]);
    let sample = Sample::from_bytes(&bytes);
    let read = sample.map(|it| (it.source.high, it.destination.low, it.interface, it.source_port, it.reason, it.set));
    assert_eq!(read, Some((1, 2, 3, 4, 5, 7)));
    assert_eq!(Sample::from_bytes(&bytes[1..]), None);
}
