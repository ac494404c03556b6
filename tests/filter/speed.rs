//! The cost of a packet: the filter compared with the same program with a plain longest-prefix trie, in the same run.
//!
//! `cargo test --test filter -- --ignored --nocapture speed` prints the table. `BPF_PROG_TEST_RUN` repeats one packet, so the
//! programs of the bench object write a random source into it each time. `baseline` does only that; the difference to it is the cost
//! of the filter. The ratios compare whole programs, without that subtraction, which is the harder test.
//!
//! `passed` is the filter with a packet to another port, which needs no lookup; the difference to it is the cost of the lookup.
//!
//! The test judges the sources for which a trie must descend. It prints the others for completeness: the path of a single source
//! stays in the cache, and an address far from every range leaves the trie at its first node, so there is little to gain.

use std::net::{Ipv4Addr, Ipv6Addr};

use aya::TestRunOptions;
use aya::maps::Array;
use aya::programs::{TestRun as _, Xdp};
use hookgate_ebpf::cases::{self, Datagram};
use hookgate_filter::{Action, Filter, Mode, Policy, RangeSet};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::is_root;
use crate::policies::policy;

const OBJECT: &[u8] = aya::include_bytes_aligned!("../../gateway-ebpf/object/bench.bpf.o");

/// Packets of one run, and the number of runs. The fastest run is the time of the program; the rest is noise of the machine.
const REPEAT: u32 = 200_000;
const RUNS: usize = 9;

/// The sources of a measurement: `base` with random bits where `mask` has ones, as in the program.
#[derive(Clone, Copy)]
struct Sources {
    name: &'static str,
    judged: bool,
    frame_source: &'static str,
    base: [u32; 4],
    mask: [u32; 4],
}

const SOURCES: [Sources; 4] = [
    Sources {
        name: "IPv4, anywhere",
        judged: true,
        frame_source: "192.0.2.1",
        base: [0; 4],
        mask: [0, 0, 0, u32::MAX],
    },
    Sources {
        name: "IPv4, one source",
        judged: false,
        frame_source: "192.0.2.1",
        base: [0, 0, 0, 0x0808_0808],
        mask: [0; 4],
    },
    Sources {
        name: "IPv6, in 2000::/3",
        judged: false,
        frame_source: "2001:db8::1",
        base: [0x2000_0000, 0, 0, 0],
        mask: [0x1fff_ffff, u32::MAX, u32::MAX, u32::MAX],
    },
    // In the ranges of the prefixes, so that every /24 has one.
    Sources {
        name: "IPv6, near ranges",
        judged: true,
        frame_source: "2001:db8::1",
        base: [NEAR.0, 0, 0, 0],
        mask: [NEAR.1, u32::MAX, u32::MAX, u32::MAX],
    },
];

/// Base and mask of the first 32 bits of the IPv6 prefixes: four /12s, like the allocations of the registries.
const NEAR: (u32, u32) = (0x2400_0000, 0x0a0f_ffff);

/// Ranges like those of feeds: IPv4 from /16 to /32, mostly /24; IPv6 from /32 to /64, mostly /48.
fn prefixes(count: usize) -> Vec<IpNet> {
    let mut random = fastrand::Rng::with_seed(4);
    let both = (0..count).flat_map(|_| {
        let ipv4 = Ipv4Addr::from_bits(random.u32(..));
        let length = match random.u8(0..10) {
            0 => random.u8(16..24),
            1..=7 => 24,
            8 => random.u8(25..32),
            _ => 32,
        };
        let first = NEAR.0 | (random.u32(..) & NEAR.1);
        let ipv6 = Ipv6Addr::from_bits(u128::from(first) << 96 | random.u128(..) >> 32);
        let long = match random.u8(0..10) {
            0..=1 => 32,
            2..=8 => 48,
            _ => random.u8(49..=64),
        };
        [Ipv4Net::new(ipv4, length).unwrap().into(), Ipv6Net::new(ipv6, long).unwrap().into()]
    });
    both.collect()
}

fn load(count: usize, sources: Sources, program: &str) -> Filter {
    let sets = vec![RangeSet { name: "feed".to_owned(), action: Action::Allow, prefixes: prefixes(count) }];
    let policy = Policy { mode: Mode::Enforce, ..policy(sets) };
    let mut filter = Filter::load_object(policy, OBJECT, program, |ebpf| {
        let mut map: Array<_, [[u32; 4]; 2]> = Array::try_from(ebpf.map_mut("SOURCES").unwrap()).unwrap();
        map.set(0, [sources.base, sources.mask], 0).unwrap();
    })
    .unwrap();
    assert!(filter.program().is_ok());
    filter
}

fn nanoseconds(program: &Xdp, frame: &[u8]) -> f64 {
    let run = || {
        let options = TestRunOptions { data_in: Some(frame), repeat: REPEAT, ..TestRunOptions::default() };
        program.test_run(options).unwrap().duration.as_nanos() as f64
    };
    (0..RUNS).map(|_| run()).fold(f64::MAX, f64::min)
}

#[test]
#[ignore = "measures; run it alone on an idle machine"]
fn front_tables_answer_faster_than_the_trie() {
    if !is_root() {
        return;
    }
    println!(
        "{:<18} {:>8} {:>9} {:>9} {:>9} {:>9} {:>12} {:>12}",
        "sources", "ranges", "baseline", "passed", "filter", "trie", "filter/trie", "filter/at 10"
    );
    let mut missed = Vec::new();
    for sources in SOURCES {
        let server = if sources.frame_source.contains(':') { "2001:db8:ffff::1" } else { "198.51.100.1" };
        let [frame, other] = [443, 80].map(|port| Datagram::tcp(port, cases::ACK).frame(sources.frame_source, server));
        let mut at_ten = 0.0;
        for count in [10, 10_000, 100_000] {
            let measured = [("baseline", &frame), ("filter", &other), ("filter", &frame), ("trie_only", &frame)];
            let [baseline, passed, own, trie] = measured.map(|(program, frame)| {
                let mut filter = load(count, sources, program);
                nanoseconds(filter.program().unwrap(), frame)
            });
            if count == 10 {
                at_ten = own;
            }
            let name = sources.name;
            println!(
                "{name:<18} {count:>8} {baseline:>9} {passed:>9} {own:>9} {trie:>9} {:>12.2} {:>12.2}",
                own / trie,
                own / at_ten
            );
            if sources.judged && count == 100_000 && (own > trie / 4.0 || own > at_ten * 1.5) {
                missed.push(name);
            }
        }
    }
    let bound = "a quarter of the trie's time, or than 1.5 times that at 10";
    assert!(missed.is_empty(), "at 100,000 ranges more than {bound}: {missed:?}");
}
