//! The XDP program, run by `BPF_PROG_TEST_RUN`: the shared cases, the counters, the samples and the rates.

use aya::programs::TestRun as _;
use aya::{TestRunOptions, programs::Xdp};
use hookgate_ebpf::cases::{self, Datagram};
use hookgate_filter::{Action, Family, Filter, Mode, Policy, RangeSet, Rate, Reason, SynLimits, Verdict};

use crate::policies::{policy, policy_of_cases, set};
use crate::{is_root, network};

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

/// Runs the program on a frame. Returns its return value.
pub(crate) fn run(program: &Xdp, frame: &[u8]) -> u32 {
    let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::default() };
    program.test_run(options).unwrap().return_value
}

fn packets(filter: &Filter, family: Family, verdict: Verdict, reason: Reason) -> u64 {
    network::packets(&filter.status().unwrap(), family, verdict, reason)
}

#[test]
fn the_kernel_decides_every_case_as_the_host_does() {
    if !is_root() {
        return;
    }
    for mode in [Mode::Enforce, Mode::Monitor, Mode::Off] {
        let mut filter = Filter::load(policy_of_cases(mode)).unwrap();
        for case in cases::all() {
            let verdict = match mode {
                _ if case.reason.passes() => Verdict::Pass,
                Mode::Enforce => Verdict::Drop,
                _ => Verdict::WouldDrop,
            };
            let before = packets(&filter, case.family, verdict, case.reason);
            let set_before = set_packets(&filter, case.set);
            let expected = if verdict == Verdict::Drop { XDP_DROP } else { XDP_PASS };
            assert_eq!(run(filter.program().unwrap(), &case.frame), expected, "{} ({mode:?})", case.name);
            let counted = u64::from(mode != Mode::Off);
            let after = packets(&filter, case.family, verdict, case.reason);
            assert_eq!(after - before, counted, "{} ({mode:?}) is counted as {:?}", case.name, case.reason);
            let set_counted = counted * u64::from(case.set != 0);
            assert_eq!(set_packets(&filter, case.set) - set_before, set_counted, "{} ({mode:?}): set", case.name);
        }
    }
}

#[test]
fn a_set_is_counted_by_its_name_whichever_number_it_has() {
    if !is_root() {
        return;
    }
    let allow = |name: &str, range: &str| set(name, Action::Allow, &[range]);
    let (first, second, third) =
        (allow("first", "192.0.2.0/24"), allow("second", "198.51.100.0/24"), allow("third", "203.0.113.0/24"));
    let mut filter = Filter::load(policy(vec![first.clone(), second.clone()])).unwrap();
    let send = |filter: &mut Filter| {
        for source in ["192.0.2.7", "198.51.100.7", "203.0.113.7"] {
            run(filter.program().unwrap(), &Datagram::tcp(443, cases::ACK).frame(source, "198.51.100.1"));
        }
    };
    let counts = |filter: &Filter| {
        let sets = filter.status().unwrap().sets;
        sets.into_iter().map(|set| (set.name, set.packets)).collect::<Vec<_>>()
    };
    let check = |filter: &mut Filter, sets: &[&RangeSet], expected: &[u64]| {
        filter.reload(policy(sets.iter().map(|&set| set.clone()).collect()), false).unwrap();
        send(filter);
        let names = sets.iter().map(|set| set.name.clone());
        assert_eq!(counts(filter), names.zip(expected.iter().copied()).collect::<Vec<_>>());
    };
    send(&mut filter);
    check(&mut filter, &[&first, &second], &[2, 2]);
    check(&mut filter, &[&third, &second], &[1, 3]);
    check(&mut filter, &[&second, &first], &[4, 1]);
    check(&mut filter, &[&third, &first, &second], &[1, 2, 5]);
}

fn set_packets(filter: &Filter, set: u8) -> u64 {
    let sets = filter.status().unwrap().sets;
    usize::from(set).checked_sub(1).map_or(0, |index| sets[index].packets)
}

#[test]
fn frames_cut_anywhere_are_decided_as_on_the_host() {
    if !is_root() {
        return;
    }
    let mut filter = Filter::load(policy_of_cases(Mode::Enforce)).unwrap();
    for case in cases::all() {
        for length in 14..case.frame.len() {
            let returned = run(filter.program().unwrap(), &case.frame[..length]);
            assert!(returned == XDP_PASS || !case.reason.passes(), "{} cut at {length} is dropped", case.name);
        }
    }
}

#[test]
fn drops_are_sampled_at_the_configured_rate() {
    if !is_root() {
        return;
    }
    let policy = Policy { samples: Rate::per_second(1, 3), ..policy_of_cases(Mode::Enforce) };
    let mut filter = Filter::load(policy).unwrap();
    let frame = Datagram::tcp(443, cases::SYN).frame("192.0.2.200", "198.51.100.1");
    // On one CPU, because each CPU has its own budget.
    rustix::thread::sched_setaffinity(None, &one_cpu()).unwrap();
    for _ in 0..50 {
        assert_eq!(run(filter.program().unwrap(), &frame), XDP_DROP);
    }
    let samples = filter.samples();
    assert!((3..=4).contains(&samples.len()), "{} samples", samples.len());
    let sample = samples[0];
    assert_eq!((sample.source.ipv4(), sample.destination.ipv4()), (0xc000_02c8, 0xc633_6401));
    assert_eq!((sample.source_port, sample.destination_port), (40_000, 443));
    assert_eq!((sample.family, sample.reason, sample.set), (Family::Ipv4 as u8, Reason::Denied as u8, 3));
    assert_eq!(sample.verdict, Verdict::Drop as u8);
    assert_eq!(filter.samples(), [], "a sample was returned twice");
}

fn one_cpu() -> rustix::thread::CpuSet {
    let allowed = rustix::thread::sched_getaffinity(None).unwrap();
    let first = (0..rustix::thread::CpuSet::MAX_CPU).find(|cpu| allowed.is_set(*cpu)).unwrap();
    let mut one = rustix::thread::CpuSet::new();
    one.set(first);
    one
}

#[test]
fn syns_beyond_the_rate_are_dropped_and_open_connections_pass() {
    if !is_root() {
        return;
    }
    let slow = Rate::per_second(1, 3);
    let check = |syn_limits: SynLimits, sources: &[&str], expected: &[u32]| {
        let mut filter = Filter::load(Policy { syn_limits, ..policy_of_cases(Mode::Enforce) }).unwrap();
        let program = filter.program().unwrap();
        let frame = |source: &str, flags| {
            let server = if source.contains(':') { "2001:db8:ffff::1" } else { "198.51.100.1" };
            Datagram::tcp(443, flags).frame(source, server)
        };
        let returned: Vec<_> = sources.iter().map(|source| run(program, &frame(source, cases::SYN))).collect();
        assert_eq!(returned, expected, "{syn_limits:?} {sources:?}");
        assert_eq!(run(program, &frame(sources[0], cases::ACK)), XDP_PASS, "an open connection of {}", sources[0]);
    };
    let address = SynLimits { ipv4_address: slow, ..SynLimits::default() };
    let network = SynLimits { ipv4_network: slow, ..SynLimits::default() };
    let network_v6 = SynLimits { ipv6_network: slow, ..SynLimits::default() };
    let (pass, drop) = (XDP_PASS, XDP_DROP);
    check(address, &["192.0.2.1"; 5], &[pass, pass, pass, drop, drop]);
    check(address, &["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"], &[pass; 4]);
    check(
        network,
        &["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "198.18.0.1"],
        &[pass, pass, pass, drop, pass],
    );
    check(network_v6, &["2001:db8:1::1", "2001:db8:1::2", "2001:db8:1::3", "2001:db8:1::4"], &[pass, pass, pass, drop]);
    check(network_v6, &["2001:db8:1::1", "2001:db8:1:1::1", "2001:db8:1:2::1", "2001:db8:1:3::1"], &[pass; 4]);
    check(SynLimits::default(), &["192.0.2.1"; 5], &[pass; 5]);
}
