//! The open maps of the program.
//!
//! Owns every read and write of a map. Must not decide what to write: `difference` does.

use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};

use aya::Ebpf;
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, RingBuf};
use hookgate_ebpf::{COUNTERS, Family, FrontPage, Reason, Sample, SetPage, Settings, Verdict, counter_index, names};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::difference::Operation;
use crate::error::FilterError;
use crate::status::PacketCount;

/// The words of [`Settings`].
type SettingsWords = [u64; size_of::<Settings>() / 8];

/// The most samples of one call. The ring buffer holds about 1,200.
const SAMPLES_AT_ONCE: usize = 1024;

/// The open maps.
pub(super) struct Maps {
    settings: Array<MapData, SettingsWords>,
    ports: Array<MapData, u64>,
    destinations: HashMap<MapData, [u64; 3], u32>,
    coarse_ipv4: Array<MapData, FrontPage>,
    front_ipv4: Array<MapData, FrontPage>,
    sets_ipv4: Array<MapData, SetPage>,
    front_ipv6: Array<MapData, FrontPage>,
    presence_ipv6: Array<MapData, FrontPage>,
    hash_ipv6: HashMap<MapData, u64, u32>,
    ranges_ipv4: LpmTrie<MapData, [u8; 4], u32>,
    ranges_ipv6: LpmTrie<MapData, [u8; 16], u32>,
    packets: PerCpuArray<MapData, u64>,
    set_packets: PerCpuArray<MapData, u64>,
    samples: RingBuf<MapData>,
    /// The descriptor of every map, for its entry in `/proc`. The maps above keep most of them open, the program the others.
    descriptors: Vec<RawFd>,
}

impl Maps {
    /// Takes the maps out of a loaded object.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, FilterError> {
        let descriptors =
            ebpf.maps().filter_map(|(_, map)| data(map)).map(|map| map.fd().as_fd().as_raw_fd()).collect();
        Ok(Self {
            settings: take(ebpf, names::SETTINGS)?,
            ports: take(ebpf, names::PORTS)?,
            destinations: take(ebpf, names::DESTINATIONS)?,
            coarse_ipv4: take(ebpf, names::COARSE_V4)?,
            front_ipv4: take(ebpf, names::FRONT_V4)?,
            sets_ipv4: take(ebpf, names::SETS_V4)?,
            front_ipv6: take(ebpf, names::FRONT_V6)?,
            presence_ipv6: take(ebpf, names::PRESENT_V6)?,
            hash_ipv6: take(ebpf, names::HASH_V6)?,
            ranges_ipv4: take(ebpf, names::RANGES_V4)?,
            ranges_ipv6: take(ebpf, names::RANGES_V6)?,
            packets: take(ebpf, names::PACKETS)?,
            set_packets: take(ebpf, names::SET_PACKETS)?,
            samples: take(ebpf, names::SAMPLES)?,
            descriptors,
        })
    }

    pub(super) fn write_settings(&mut self, settings: Settings) -> Result<(), FilterError> {
        self.settings.set(0, settings.to_words(), 0).map_err(|source| failed(names::SETTINGS, source))
    }

    /// Applies one write.
    pub(super) fn apply(&mut self, operation: &Operation) -> Result<(), FilterError> {
        let (map, result) = match operation {
            Operation::SetRange(IpNet::V4(range), entry) => {
                (names::RANGES_V4, self.ranges_ipv4.insert(&key_ipv4(range), entry.0, 0))
            }
            Operation::SetRange(IpNet::V6(range), entry) => {
                (names::RANGES_V6, self.ranges_ipv6.insert(&key_ipv6(range), entry.0, 0))
            }
            Operation::RemoveRange(IpNet::V4(range)) => (names::RANGES_V4, self.ranges_ipv4.remove(&key_ipv4(range))),
            Operation::RemoveRange(IpNet::V6(range)) => (names::RANGES_V6, self.ranges_ipv6.remove(&key_ipv6(range))),
            Operation::SetHashIpv6(key, entry) => (names::HASH_V6, self.hash_ipv6.insert(key, entry.0, 0)),
            Operation::RemoveHashIpv6(key) => (names::HASH_V6, self.hash_ipv6.remove(key)),
            Operation::SetSetsIpv4(page, sets) => (names::SETS_V4, self.sets_ipv4.set(u32::from(*page), **sets, 0)),
            Operation::SetFrontIpv4(page, states) => {
                (names::FRONT_V4, self.front_ipv4.set(u32::from(*page), states, 0))
            }
            Operation::SetFrontIpv6(page, states) => {
                (names::FRONT_V6, self.front_ipv6.set(u32::from(*page), states, 0))
            }
            Operation::SetCoarseIpv4(page, bits) => (names::COARSE_V4, self.coarse_ipv4.set(u32::from(*page), bits, 0)),
            Operation::SetPresenceIpv6(page, bits) => {
                (names::PRESENT_V6, self.presence_ipv6.set(u32::from(*page), bits, 0))
            }
            Operation::SetPorts(word, states) => (names::PORTS, self.ports.set(*word, states, 0)),
            Operation::AddDestination(key) => (names::DESTINATIONS, self.destinations.insert(key.to_words(), 1, 0)),
            Operation::RemoveDestination(key) => (names::DESTINATIONS, self.destinations.remove(&key.to_words())),
        };
        result.map_err(|source| failed(map, source))
    }

    /// The packet counters, summed over the CPUs, without zeros.
    pub(super) fn packets(&self) -> Result<Vec<PacketCount>, FilterError> {
        let mut cells = [0; COUNTERS as usize];
        for (index, cell) in cells.iter_mut().enumerate() {
            *cell = sum(&self.packets, index as u32).map_err(|source| failed(names::PACKETS, source))?;
        }
        let mut counts = Vec::new();
        for family in Family::ALL {
            for verdict in Verdict::ALL {
                for reason in Reason::ALL {
                    let packets = cells[counter_index(family, verdict, reason) as usize];
                    counts.push(PacketCount { family, verdict, reason, packets });
                }
            }
        }
        counts.retain(|count| count.packets > 0);
        Ok(counts)
    }

    /// The number of packets that the set with this number decided about.
    pub(super) fn set_packets(&self, set: u8) -> Result<u64, FilterError> {
        sum(&self.set_packets, u32::from(set)).map_err(|source| failed(names::SET_PACKETS, source))
    }

    /// The samples since the last call, at most [`SAMPLES_AT_ONCE`].
    pub(super) fn samples(&mut self) -> Vec<Sample> {
        let mut samples = Vec::new();
        while samples.len() < SAMPLES_AT_ONCE {
            let Some(record) = self.samples.next() else { break };
            samples.extend(Sample::from_bytes(&record));
        }
        samples
    }

    /// Kernel memory of the maps in bytes, from `/proc`: exact since Linux 6.4, an estimate before.
    pub(super) fn memory_bytes(&self) -> u64 {
        let memory = |descriptor: &RawFd| {
            let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).ok()?;
            text.lines().find_map(|line| line.strip_prefix("memlock:"))?.trim().parse::<u64>().ok()
        };
        self.descriptors.iter().filter_map(memory).sum()
    }
}

fn take<T: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, FilterError> {
    let map = ebpf.take_map(name).ok_or(FilterError::Object { what: name })?;
    T::try_from(map).map_err(|source| failed(name, source))
}

fn failed(map: &'static str, source: MapError) -> FilterError {
    FilterError::Map { map, source }
}

fn sum(map: &PerCpuArray<MapData, u64>, index: u32) -> Result<u64, MapError> {
    Ok(map.get(&index, 0)?.iter().sum())
}

/// A key of the IPv4 trie.
fn key_ipv4(range: &Ipv4Net) -> Key<[u8; 4]> {
    Key::new(u32::from(range.prefix_len()), range.addr().octets())
}

/// A key of the IPv6 trie.
fn key_ipv6(range: &Ipv6Net) -> Key<[u8; 16]> {
    Key::new(u32::from(range.prefix_len()), range.addr().octets())
}

fn data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LpmTrie(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::RingBuf(data) => Some(data),
        _ => None,
    }
}
