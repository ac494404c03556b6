//! Target `packet`: an Ethernet frame that the pre-filter sees.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use hookgate_ebpf::{
    Address, BucketKey, Decision, DestinationKey, Entry, Lookup, Maps, PORTS_PER_WORD, Parsed, Rate, Segment, Settings,
    cases, decide, parse,
};
use hookgate_filter::numbers::SetNumbers;
use hookgate_filter::tables::Tables;
use hookgate_filter::{Action, Destination, Family, Mode, Policy, RangeSet, Reason, Verdict};

/// The tables of the shared cases, in both modes.
static ENFORCING: LazyLock<Simulated> = LazyLock::new(|| Simulated::new(Mode::Enforce));
static MONITORING: LazyLock<Simulated> = LazyLock::new(|| Simulated::new(Mode::Monitor));

/// Decides about the frame. Its source decides, as the list of ranges says; what is not TCP to a filtered port passes.
pub fn judge(input: &[u8]) {
    let maps = &*ENFORCING;
    let decision = decide(input, maps).expect("the filter is on");
    let monitored = decide(input, &*MONITORING).expect("the filter is on");
    let would = if decision.verdict == Verdict::Drop { Verdict::WouldDrop } else { Verdict::Pass };
    assert_eq!(monitored, Decision { verdict: would, ..decision });
    let parsed = parse(input);
    let (segment, is_judged) = match parsed {
        Parsed::Segment(segment) => (segment, maps.is_filtered(&segment)),
        Parsed::LongChain(segment) => (segment, true),
        Parsed::Other(_) | Parsed::LaterFragment(_) | Parsed::Truncated(_) => {
            assert!(decision.verdict == Verdict::Pass && decision.reason.passes(), "{decision:?}");
            return;
        }
    };
    let mut longer = input.to_vec();
    longer.extend([0; 8]);
    if let Parsed::Segment(longer) = parse(longer.as_slice()) {
        // A fragment that is too short to show its flags counts as one that opens a connection.
        assert_eq!(Segment { opens: segment.opens, ..longer }, segment, "what follows a segment changes it");
        assert!(segment.opens || !longer.opens, "{segment:?}");
    }
    let action = maps.action(&segment);
    let expected = is_judged && action != Some(Action::Allow);
    assert_eq!(decision.verdict == Verdict::Drop, expected, "{decision:?}, {segment:?}");
    if is_judged && action == Some(Action::Deny) {
        assert_eq!(decision.reason, Reason::Denied);
    }
}

/// The maps of the kernel, for lookups.
struct Simulated {
    tables: Tables,
    settings: Settings,
}

impl Simulated {
    fn new(mode: Mode) -> Self {
        let mut sets: Vec<RangeSet> = Vec::new();
        for (prefix, length, action, set) in cases::RANGES {
            let name = format!("set-{set}");
            let prefix = format!("{prefix}/{length}").parse().expect("the ranges of the cases are well-formed");
            match sets.iter_mut().find(|known| known.name == name) {
                Some(known) => known.prefixes.push(prefix),
                None => sets.push(RangeSet { name, action: *action, prefixes: vec![prefix] }),
            }
        }
        let everywhere = Destination { address: None, port: 443 };
        let listed = cases::DESTINATIONS.iter().map(|(address, port)| Destination {
            address: Some(address.parse().expect("the destinations of the cases are addresses")),
            port: *port,
        });
        let destinations = std::iter::once(everywhere).chain(listed).collect();
        let policy = Policy { mode, sets, destinations, ..Policy::default() };
        let tables = SetNumbers::default().after(&policy.sets).and_then(|numbers| Tables::new(&policy, &numbers));
        let tables = tables.expect("the ranges of the cases are within the limits");
        Self { tables, settings: Settings { mode: mode as u64, ..Settings::default() } }
    }

    /// What the definition says about the source, without the front tables.
    fn action(&self, segment: &Segment) -> Option<Action> {
        let source: IpAddr = match segment.family {
            Family::Ipv4 => Ipv4Addr::from_bits(segment.source.ipv4()).into(),
            _ => Ipv6Addr::from(segment.source.to_bytes()).into(),
        };
        self.tables.decisive_range(source).and_then(|(_, entry)| entry.action())
    }

    fn is_filtered(&self, segment: &Segment) -> bool {
        let key = DestinationKey { address: segment.destination, port: u64::from(segment.destination_port) };
        segment.destination_port == 443 || self.tables.destinations.contains(&key)
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
        self.tables.decisive_range(Ipv4Addr::from_bits(source).into()).map_or(Entry::NONE, |(_, entry)| entry)
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
        self.tables.decisive_range(Ipv6Addr::from(source.to_bytes()).into()).map_or(Entry::NONE, |(_, entry)| entry)
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
