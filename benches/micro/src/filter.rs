//! Cases of the pre-filter: the decision about one packet, on the host.
//!
//! The tables are arrays as in the kernel. The cost of the maps of the kernel is not included; `tests/filter/speed.rs` measures it.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr};

use hookgate_ebpf::cases::{Datagram, SYN};
use hookgate_ebpf::{
    Address, BucketKey, COARSE_PAGES, DestinationKey, Entry, FRONT_PAGES, FrontPage, Lookup, Maps, PORT_WORDS,
    PORTS_PER_WORD, PRESENCE_PAGES, Rate, Settings, decide,
};
use hookgate_filter::numbers::SetNumbers;
use hookgate_filter::tables::Tables;
use hookgate_filter::{Action, Destination, Mode, Policy, RangeSet, Reason};

use crate::Repeat;

const SERVER: &str = "198.51.100.1";
const SERVER_IPV6: &str = "2001:db8:ffff::1";

/// The maps of the program as arrays.
struct Arrays {
    settings: Settings,
    tables: Tables,
    coarse_ipv4: Box<[u64]>,
    front_ipv4: Box<[u64]>,
    front_ipv6: Box<[u64]>,
    presence_ipv6: Box<[u64]>,
    ports: Box<[u64]>,
}

impl Arrays {
    /// Ranges of one provider in both families, and port 443.
    fn new() -> Self {
        let prefixes = ["192.0.2.0/24", "198.18.0.0/15", "203.0.113.64/26", "2001:db8:1::/48", "2a00:1::/32"];
        let prefixes = prefixes.iter().map(|text| text.parse().expect("the ranges of the cases are well-formed"));
        let set = RangeSet { name: "sender".to_owned(), action: Action::Allow, prefixes: prefixes.collect() };
        let destinations = vec![Destination { address: None, port: 443 }];
        let policy = Policy { mode: Mode::Enforce, sets: vec![set], destinations, ..Policy::default() };
        let tables = SetNumbers::default().after(&policy.sets).and_then(|numbers| Tables::new(&policy, &numbers));
        let tables = tables.expect("five ranges are within the limits");
        let settings = Settings { mode: Mode::Enforce as u64, ..Settings::default() };
        let mut ports = vec![0; PORT_WORDS as usize].into_boxed_slice();
        tables.ports.iter().for_each(|(index, word)| ports[*index as usize] = *word);
        Self {
            settings,
            coarse_ipv4: flat(&tables.coarse_ipv4, COARSE_PAGES),
            front_ipv4: flat(&tables.front_ipv4, FRONT_PAGES),
            front_ipv6: flat(&tables.front_ipv6, FRONT_PAGES),
            presence_ipv6: flat(&tables.presence_ipv6, PRESENCE_PAGES),
            ports,
            tables,
        }
    }
}

/// The words of `count` pages, one after the other.
fn flat(pages: &BTreeMap<u16, FrontPage>, count: u32) -> Box<[u64]> {
    let mut words = vec![0; count as usize * size_of::<FrontPage>() / size_of::<u64>()].into_boxed_slice();
    for (index, page) in pages {
        let start = usize::from(*index) * page.len();
        words[start..start + page.len()].copy_from_slice(page);
    }
    words
}

impl Lookup for Arrays {
    fn coarse_ipv4(&self, source: u32) -> u64 {
        self.coarse_ipv4[(source >> 18) as usize]
    }
    fn front_ipv4(&self, source: u32) -> u64 {
        self.front_ipv4[(source >> 13) as usize]
    }
    fn set_ipv4(&self, source: u32) -> u8 {
        self.tables.sets_ipv4.get(&((source >> 16) as u16)).map_or(0, |page| page[(source >> 8) as usize & 255])
    }
    fn trie_ipv4(&self, source: u32) -> Entry {
        self.tables.decisive_range(Ipv4Addr::from_bits(source).into()).map_or(Entry::NONE, |(_, entry)| entry)
    }
    fn front_ipv6(&self, high: u64) -> u64 {
        self.front_ipv6[(high >> 45) as usize]
    }
    fn presence_ipv6(&self, bit: u32) -> u64 {
        self.presence_ipv6[(bit / 64) as usize]
    }
    fn hash_ipv6(&self, key: u64) -> Option<Entry> {
        self.tables.hash_ipv6.get(&key).copied()
    }
    fn trie_ipv6(&self, source: Address) -> Entry {
        self.tables.decisive_range(Ipv6Addr::from(source.to_bytes()).into()).map_or(Entry::NONE, |(_, entry)| entry)
    }
}

impl Maps for Arrays {
    fn settings(&self) -> Option<&Settings> {
        Some(&self.settings)
    }
    fn port_word(&self, port: u16) -> u64 {
        self.ports[(u32::from(port) / PORTS_PER_WORD) as usize]
    }
    fn is_destination(&self, key: &DestinationKey) -> bool {
        self.tables.destinations.contains(key)
    }
    fn take(&self, _: &BucketKey, _: Rate) -> bool {
        true
    }
}

/// Decides about a SYN from `source` to `port`, which must have the reason `expected`.
fn check(repeat: &mut dyn Repeat, source: &str, port: u16, expected: Reason) {
    let maps = Arrays::new();
    let server = if source.contains(':') { SERVER_IPV6 } else { SERVER };
    let frame = Datagram::tcp(port, SYN).frame(source, server);
    repeat.repeat(&mut || (), &mut || {
        let decision = decide(black_box(frame.as_slice()), &maps);
        assert!(decision.is_some_and(|decision| decision.reason == expected), "{decision:?}");
    });
}

pub(crate) fn allowed_ipv4(repeat: &mut dyn Repeat) {
    check(repeat, "192.0.2.7", 443, Reason::Allowed);
}

pub(crate) fn foreign_ipv4(repeat: &mut dyn Repeat) {
    check(repeat, "8.8.8.8", 443, Reason::NoRange);
}

pub(crate) fn allowed_ipv6(repeat: &mut dyn Repeat) {
    check(repeat, "2001:db8:1:2::3", 443, Reason::Allowed);
}

pub(crate) fn foreign_ipv6(repeat: &mut dyn Repeat) {
    check(repeat, "2600::1", 443, Reason::NoRange);
}

pub(crate) fn other_port(repeat: &mut dyn Repeat) {
    check(repeat, "8.8.8.8", 22, Reason::NotFiltered);
}
