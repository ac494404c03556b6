//! The tables agree with the ranges, also after every write of a change.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hookgate_ebpf::{
    Action, Address, BucketKey, DestinationKey, Entry, Lookup, Maps, Mode, PORTS_PER_WORD, PortState, Rate, Settings,
    Verdict, cases, decide, front_key_32, lookup_ipv4, lookup_ipv6,
};
use ipnet::IpNet;

use crate::aligned;
use crate::difference::{change, difference};
use crate::numbers::SetNumbers;
use crate::policy::{Destination, Limits, Policy, PolicyError, RangeSet, SynLimits};
use crate::tables::{Tables, mapped};

/// The maps of the kernel, for lookups and writes.
#[derive(Clone, Default)]
struct Simulated {
    tables: Tables,
    settings: Settings,
}

impl Simulated {
    fn new(policy: &Policy) -> Self {
        let mut simulated =
            Self { settings: Settings { mode: policy.mode as u64, ..Settings::default() }, ..Self::default() };
        let tables = tables(policy).unwrap_or_else(|error| unreachable!("{error}"));
        difference(&Tables::default(), &tables).into_iter().for_each(|operation| simulated.tables.apply(operation));
        simulated
    }

    fn lookup(&self, source: IpAddr) -> Entry {
        match source {
            IpAddr::V4(source) => lookup_ipv4(self, source.to_bits()),
            IpAddr::V6(source) => lookup_ipv6(self, Address::from_ipv6(source.octets())),
        }
    }
}

impl Lookup for Simulated {
    fn coarse_ipv4(&self, source: u32) -> u64 {
        self.tables.coarse_ipv4.get(&((source >> 21) as u16)).map_or(0, |page| page[(source >> 18) as usize & 7])
    }
    fn front_ipv4(&self, source: u32) -> u64 {
        self.tables.front_ipv4.get(&((source >> 16) as u16)).map_or(0, |page| page[(source >> 13) as usize & 7])
    }
    fn set_ipv4(&self, source: u32) -> u8 {
        self.tables.sets_ipv4.get(&((source >> 16) as u16)).map_or(0, |page| page[(source >> 8) as usize & 255])
    }
    fn trie_ipv4(&self, source: u32) -> Entry {
        let range = self.tables.decisive_range(Ipv4Addr::from_bits(source).into());
        range.map_or(Entry::NONE, |(_, entry)| entry)
    }
    fn front_ipv6(&self, high: u64) -> u64 {
        self.tables.front_ipv6.get(&((high >> 48) as u16)).map_or(0, |page| page[(high >> 45) as usize & 7])
    }
    fn presence_ipv6(&self, bit: u32) -> u64 {
        self.tables.presence_ipv6.get(&((bit / 512) as u16)).map_or(0, |page| page[(bit / 64) as usize & 7])
    }
    fn hash_ipv6(&self, key: u64) -> Option<Entry> {
        self.tables.hash_ipv6.get(&key).copied()
    }
    fn trie_ipv6(&self, source: Address) -> Entry {
        let range = self.tables.decisive_range(Ipv6Addr::from(source.to_bytes()).into());
        range.map_or(Entry::NONE, |(_, entry)| entry)
    }
}

impl Maps for Simulated {
    fn settings(&self) -> Option<&Settings> {
        Some(&self.settings)
    }
    fn port_word(&self, port: u16) -> u64 {
        self.tables.ports.get(&(u32::from(port) / PORTS_PER_WORD)).copied().unwrap_or(0)
    }
    fn is_destination(&self, key: &DestinationKey) -> bool {
        self.tables.destinations.contains(key)
    }
    fn take(&self, _: &BucketKey, _: Rate) -> bool {
        true
    }
}

/// The tables of the first policy of a filter.
fn tables(policy: &Policy) -> Result<Tables, PolicyError> {
    Tables::new(policy, &SetNumbers::default().after(&policy.sets)?)
}

/// A range, or the range of one address.
fn range(text: &str) -> IpNet {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(|_| address()).unwrap_or_else(|error| unreachable!("{text}: {error}"))
}

fn set(name: &str, action: Action, prefixes: &[&str]) -> RangeSet {
    RangeSet { name: name.to_owned(), action, prefixes: prefixes.iter().map(|text| range(text)).collect() }
}

fn policy(sets: Vec<RangeSet>) -> Policy {
    Policy { mode: Mode::Enforce, sets, ..Policy::default() }
}

/// The policy of the shared cases.
pub(super) fn policy_of_cases(mode: Mode) -> Policy {
    let sets = (1..=4).map(|number| {
        let ranges = cases::RANGES.iter().filter(|(.., set)| *set == number);
        let prefixes = ranges.clone().map(|(address, length, ..)| range(&format!("{address}/{length}"))).collect();
        let action = ranges.clone().next().map_or(Action::Allow, |(_, _, action, _)| *action);
        RangeSet { name: format!("set {number}"), action, prefixes }
    });
    let everywhere = cases::PORTS.iter().filter(|(_, state)| *state == PortState::Everywhere);
    let everywhere = everywhere.map(|(port, _)| Destination { address: None, port: *port });
    let listed = cases::DESTINATIONS.iter();
    let listed = listed.map(|(address, port)| Destination { address: address.parse().ok(), port: *port });
    Policy { mode, sets: sets.collect(), destinations: everywhere.chain(listed).collect(), ..Policy::default() }
}

#[test]
fn the_shared_cases_come_out_the_same_through_the_front_tables() {
    let simulated = Simulated::new(&policy_of_cases(Mode::Enforce));
    for case in cases::all() {
        let verdict = if case.reason.passes() { Verdict::Pass } else { Verdict::Drop };
        let found = decide(case.frame.as_slice(), &simulated).map(|it| (it.family, it.verdict, it.reason, it.set));
        assert_eq!(found, Some((case.family, verdict, case.reason, case.set)), "{}", case.name);
    }
}

/// What a policy decides about a source, by definition: deny before allow, then the longest range, then the earlier set.
fn defined(policy: &Policy, source: IpAddr) -> Entry {
    for action in [Action::Deny, Action::Allow] {
        let mut best: Option<(u8, usize)> = None;
        for (index, set) in policy.sets.iter().enumerate().filter(|(_, set)| set.action == action) {
            let longest = set.prefixes.iter().filter(|range| range.contains(&source)).map(IpNet::prefix_len).max();
            if let Some(length) = longest.filter(|length| best.is_none_or(|(other, _)| *length > other)) {
                best = Some((length, index));
            }
        }
        if let Some((_, index)) = best {
            return Entry::new(action, (index + 1) as u8);
        }
    }
    Entry::NONE
}

/// Random ranges that lie close together, so that they nest, touch and shadow one another.
struct Random {
    rng: fastrand::Rng,
    /// The shortest length that one range in twenty may have; the others have at least 14 bits.
    shortest: u8,
}

impl Random {
    fn address(&mut self) -> IpAddr {
        let random = &mut self.rng;
        if random.bool() {
            let near = u32::from_be_bytes([10, random.u8(0..3), random.u8(0..3), random.u8(..)]);
            return Ipv4Addr::from_bits(near & (u32::MAX << random.u32(0..8))).into();
        }
        let segments =
            [0x2001, random.u16(0xdb8..0xdba), random.u16(0..3), random.u16(0..3), 0, 0, 0, random.u16(0..3)];
        Ipv6Addr::from(segments).into()
    }

    fn range(&mut self) -> IpNet {
        let address = self.address();
        let least = if self.rng.u8(0..20) == 0 { self.shortest } else { 14 };
        let lengths = if address.is_ipv4() { least..=32 } else { least..=128 };
        let length = if self.rng.bool() { self.rng.u8(lengths) } else { self.rng.u8(14..=32) };
        IpNet::new(address, length).unwrap_or_else(|error| unreachable!("{error}")).trunc()
    }

    fn policy(&mut self) -> Policy {
        let sets = (0..self.rng.usize(1..6)).map(|index| RangeSet {
            name: format!("set {index}"),
            action: if self.rng.u8(0..3) == 0 { Action::Deny } else { Action::Allow },
            prefixes: (0..self.rng.usize(0..8)).map(|_| self.range()).collect(),
        });
        let sets = sets.collect();
        let hash_ipv6 = if self.rng.bool() { 1_000_000 } else { 40 };
        Policy { limits: Limits { hash_ipv6, ..Limits::default() }, ..policy(sets) }
    }

    /// The first and the last address of every range, their neighbours, and random addresses.
    fn sources(&mut self, policies: &[&Policy]) -> Vec<IpAddr> {
        let mut sources: Vec<IpAddr> = (0..30).map(|_| self.address()).collect();
        for range in policies.iter().flat_map(|policy| &policy.sets).flat_map(|set| &set.prefixes) {
            let shift = 128 - u32::from(range.max_prefix_len());
            let (first, last) = (aligned::first(range) >> shift, aligned::last(range) >> shift);
            for number in [first, last, first.wrapping_sub(1), last.wrapping_add(1)] {
                sources.push(match range {
                    IpNet::V4(_) => Ipv4Addr::from_bits(number as u32).into(),
                    IpNet::V6(_) => Ipv6Addr::from_bits(number).into(),
                });
            }
        }
        sources
    }
}

#[test]
fn lookups_say_what_the_policy_defines() {
    let mut random = Random { rng: fastrand::Rng::with_seed(1), shortest: 0 };
    for round in 0..300 {
        let policy = random.policy();
        let simulated = Simulated::new(&policy);
        for source in random.sources(&[&policy]) {
            let (found, expected) = (simulated.lookup(source), defined(&policy, source));
            assert_eq!(
                (found.action(), found.set()),
                (expected.action(), expected.set()),
                "{round}: {source} {policy:?}"
            );
        }
    }
}

#[test]
fn no_write_of_a_change_takes_away_what_old_and_new_both_say() {
    let mut random = Random { rng: fastrand::Rng::with_seed(2), shortest: 12 }; // a /0 has 65,536 pages to write, and the test checks every write
    let mut writes = 0;
    for round in 0..80 {
        let (old, new) = (random.policy(), random.policy());
        let mut simulated = Simulated::new(&old);
        let tables = tables(&new).unwrap_or_else(|error| unreachable!("{error}"));
        let sources = random.sources(&[&old, &new]);
        let said: Vec<_> =
            sources.iter().map(|source| (defined(&old, *source).action(), defined(&new, *source).action())).collect();
        for operation in difference(&simulated.tables.clone(), &tables) {
            simulated.tables.apply(operation.clone());
            writes += 1;
            for (source, (before, after)) in sources.iter().zip(&said).filter(|(_, (before, after))| before == after) {
                let now = simulated.lookup(*source).action();
                assert_eq!(now, *after, "{round}: {source} was {before:?}, is {now:?} after {operation:?}");
            }
        }
        for (source, (_, after)) in sources.iter().zip(&said) {
            assert_eq!(simulated.lookup(*source).action(), *after, "{round}: {source} at the end");
        }
        assert_eq!(difference(&simulated.tables, &tables), [], "{round}: the second time there is nothing to do");
    }
    assert!(writes > 1000, "only {writes} writes were looked at");
}

#[test]
fn a_change_that_the_kernel_interrupts_is_taken_back() {
    let mut random = Random { rng: fastrand::Rng::with_seed(3), shortest: 14 };
    let mut interrupted = 0;
    for round in 0..15 {
        let (old, new) = (random.policy(), random.policy());
        let tables_of = |policy| tables(policy).unwrap_or_else(|error| unreachable!("{error}"));
        let (before, after) = (tables_of(&old), tables_of(&new));
        let sources = random.sources(&[&old, &new]);
        let kept: Vec<_> = sources
            .iter()
            .map(|source| (source, defined(&old, *source).action(), defined(&new, *source).action()))
            .filter(|(_, before, after)| before == after)
            .collect();
        let count = difference(&before, &after).len();
        // The kernel refuses one write: the first, the last, and some between.
        for refused in [0, random.rng.usize(..count.max(1)), count.saturating_sub(1)] {
            let mut kernel = Simulated { tables: before.clone(), ..Simulated::default() };
            let mut known = before.clone();
            let mut writes = 0;
            let result = change(&mut known, &after, &mut |operation| {
                writes += 1;
                if writes > refused {
                    return Err("ENOMEM");
                }
                kernel.tables.apply(operation.clone());
                Ok(())
            });
            assert_eq!(result, if count == 0 { Ok(0) } else { Err("ENOMEM") });
            assert_eq!(known, kernel.tables, "{round}: the copy has what the kernel took");
            let back = change(&mut known, &before, &mut |operation| {
                kernel.tables.apply(operation.clone());
                for (source, action, _) in &kept {
                    assert_eq!(kernel.lookup(**source).action(), *action, "{round}: {source} on the way back");
                }
                Ok::<_, &str>(())
            });
            assert!(back.is_ok());
            assert_eq!((&known, &kernel.tables), (&before, &before), "{round}: {refused} of {count}");
            interrupted += 1;
        }
    }
    assert_eq!(interrupted, 45);
}

#[test]
fn plain_ranges_are_answered_without_the_trie() {
    let sets =
        vec![set("provider", Action::Allow, &["192.0.2.0/24", "198.18.0.0/15", "2001:db8::/32", "2a00:1:2::/48"])];
    let mut simulated = Simulated::new(&policy(sets));
    simulated.tables.ranges = BTreeMap::new();
    let check = |source: &str, expected: Option<Action>| {
        let source: IpAddr = source.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        assert_eq!(simulated.lookup(source).action(), expected, "{source}");
    };
    check("192.0.2.255", Some(Action::Allow));
    check("198.19.0.1", Some(Action::Allow));
    check("8.8.8.8", None);
    check("2001:db8:1234::1", Some(Action::Allow));
    check("2a00:1:2:3::", Some(Action::Allow));
    check("2a00:1:3::", None);
    check("2a00:2::", None);
}

#[test]
fn a_short_range_in_the_ipv6_hash_leaves_its_32_to_the_trie() {
    let tables = tables(&policy(vec![set("provider", Action::Allow, &["2001:db8:8000::/33", "2001:db8::/48"])]));
    let key = front_key_32(0x2001_0db8_0000_0000);
    assert_eq!(tables.map(|tables| tables.hash_ipv6), Ok(BTreeMap::from([(key, Entry::TRIE)])));
}

#[test]
fn policies_beyond_the_limits_are_refused() {
    let check = |policy: Policy, part: &str| match tables(&policy) {
        Ok(_) => unreachable!("{part}: accepted"),
        Err(error) => assert!(error.to_string().contains(part), "{error}"),
    };
    let ranges = vec![set("a", Action::Allow, &["192.0.2.0/24", "192.0.3.0/24", "192.0.2.0/24"])];
    let limits = Limits { ranges_ipv4: 1, destinations: 1, ..Limits::default() };
    check(Policy { limits, ..policy(ranges.clone()) }, "2 ipv4 ranges are more than the limit of 1");
    let many = (0..256).map(|index| set(&format!("set {index}"), Action::Allow, &["192.0.2.0/24"]));
    check(policy(many.collect()), "256 range sets are too many");
    let destinations =
        [1, 2].map(|host| Destination { address: Some(Ipv4Addr::new(192, 0, 2, host).into()), port: 443 });
    let destinations = destinations.to_vec();
    check(
        Policy { limits, destinations, ..policy(Vec::new()) },
        "2 destination addresses are more than the limit of 1",
    );
}

#[test]
fn a_reload_may_not_shrink_the_deny_set_too_far_unless_forced() {
    let of = |ranges: &[&str]| policy(vec![set("(deny)", Action::Deny, ranges)]);
    let old = of(&["192.0.2.0/24", "198.51.100.0/24"]);
    assert_eq!(old.may_become(&of(&["192.0.2.0/24"]), false), Ok(()));
    for new in [of(&["192.0.2.0/26"]), of(&[]), policy(Vec::new())] {
        assert!(matches!(old.may_become(&new, false), Err(PolicyError::Shrink { .. })), "{new:?}");
        assert_eq!(old.may_become(&new, true), Ok(()), "forced");
    }
}

#[test]
fn a_reload_may_not_shrink_an_allow_set_too_far_unless_forced() {
    let check = |old: &[&str], new: &[&str], lost: Option<&str>| {
        let (old, new) =
            (policy(vec![set("provider", Action::Allow, old)]), policy(vec![set("provider", Action::Allow, new)]));
        match (old.may_become(&new, false), lost) {
            (Ok(()), None) => {}
            (Err(error @ PolicyError::Shrink { .. }), Some(lost)) => {
                assert!(error.to_string().contains(&format!("lose {lost} % ")), "{error}");
            }
            (found, _) => unreachable!("{old:?} to {new:?}: {found:?}"),
        }
        assert_eq!(old.may_become(&new, true), Ok(()), "forced");
    };
    check(&["192.0.2.0/24"], &[], Some("100"));
    check(&["192.0.2.0/24"], &["192.0.2.0/25"], None);
    check(&["192.0.2.0/24"], &["192.0.2.0/26"], Some("75"));
    check(&["192.0.2.0/25", "192.0.2.128/25"], &["192.0.2.0/24"], None);
    check(&["192.0.2.0/24"], &["192.0.2.0/25", "192.0.2.128/25"], None);
    check(&["192.0.2.0/24"], &["198.51.100.0/24"], Some("100"));
    check(&["192.0.2.0/24", "192.0.2.7"], &["192.0.0.0/16"], None);
    check(&["0.0.0.0/0", "::/0"], &["0.0.0.0/0"], Some("100"));
    check(&[], &["192.0.2.0/24"], None);
    let one = policy(vec![set("a", Action::Allow, &["192.0.2.0/24"])]);
    assert_eq!(one.may_become(&policy(Vec::new()), false), Ok(()), "an allow set may be taken out by name");
    let moved = Policy { interfaces: vec!["eth1".to_owned()], ..one.clone() };
    assert_eq!(one.may_become(&moved, true), Err(PolicyError::Fixed { what: "interfaces" }));
    let syn_limits = SynLimits { ipv4_address: Rate::per_second(7, 7), ..SynLimits::default() };
    let limited = Policy { syn_limits, ..one.clone() };
    assert_eq!(one.may_become(&limited, true), Err(PolicyError::Fixed { what: "the presence of SYN limits" }));
    assert_eq!(limited.may_become(&one, true), Ok(()));
    assert_eq!(limited.may_become(&limited, true), Ok(()));
}

#[test]
fn a_port_filtered_everywhere_needs_no_destination() {
    let address = "192.0.2.1".parse().ok();
    let destinations = vec![Destination { address, port: 443 }, Destination { address: None, port: 443 }];
    let tables = tables(&Policy { destinations, ..policy(Vec::new()) }).unwrap_or_default();
    assert!(tables.destinations.is_empty());
    assert_eq!(tables.ports, BTreeMap::from([(443 / 32, 1 << ((443 % 32) * 2))]));
}

#[test]
fn mapped_addresses_are_the_ipv4_addresses_that_they_mean() {
    let both = ["192.0.2.1", "::ffff:192.0.2.1"].map(|text| text.parse().map(mapped).ok());
    assert_eq!(both[0], Some(Address::from_ipv4(0xc000_0201)));
    assert_eq!(both[0], both[1]);
}
