//! Traffic through the filter, in native and in generic mode.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hookgate_ebpf::cases;
use hookgate_filter::{Action, Attach, AttachMode, Family, Filter, Mode, Policy, Reason, Status, Verdict};

use crate::is_root;
use crate::namespaces::{ALLOWED, FOREIGN, Network, SERVER};
use crate::policies::{policy, policy_of_cases, range, set};
use crate::raw::RawSocket;

/// Long enough for a response over a veth pair on a busy machine, and shorter than the first SYN retransmission (1 s).
const SOON: Duration = Duration::from_millis(700);

/// For an answer that must come: the kernel sends a lost SYN or ARP request again after 1 s, and then after 3 s.
const PATIENCE: Duration = Duration::from_secs(5);

/// A policy that allows [`ALLOWED`].
pub(crate) fn allowing(attach: Attach) -> Policy {
    let sets = vec![set("provider", Action::Allow, &ALLOWED)];
    Policy { attach, interfaces: vec!["eth0".to_owned()], ..policy(sets) }
}

pub(crate) fn start(network: &Network, policy: Policy) -> Filter {
    network.on_server(|| Filter::start(policy)).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn foreign_sources_get_nothing_and_allowed_ones_are_served() {
    if !is_root() {
        return;
    }
    for (attach, mode) in [
        (Attach::Native, AttachMode::Native),
        (Attach::Generic, AttachMode::Generic),
        (Attach::Auto, AttachMode::Native),
    ] {
        let network = Network::new();
        let _server = network.serve(&[443, 8080]);
        let filter = start(&network, allowing(attach));
        assert_eq!(filter.status().unwrap().attached[0].mode, mode, "{attach:?}");
        for family in 0..2 {
            let ask = |source: [&str; 2], port| {
                // Silence is waited for a short time, an answer for a long one.
                let limit = if (source, port) == (FOREIGN, 443) { SOON } else { PATIENCE };
                network.connect(source[family], port, limit).map_err(|error| error.kind())
            };
            assert_eq!(ask(ALLOWED, 443), Ok("ok".to_owned()), "{attach:?}");
            assert_eq!(ask(FOREIGN, 443), Err(ErrorKind::TimedOut), "{attach:?}: not even a RST");
            assert_eq!(ask(FOREIGN, 8080), Ok("ok".to_owned()), "{attach:?}: another port is open to all");
            assert_eq!(ask(FOREIGN, 81), Err(ErrorKind::ConnectionRefused), "{attach:?}: and a closed one says so");
        }
        let status = filter.status().unwrap();
        for family in [Family::Ipv4, Family::Ipv6] {
            assert!(packets(&status, family, Verdict::Drop, Reason::NoRange) > 0, "{status:?}");
            assert!(packets(&status, family, Verdict::Pass, Reason::Allowed) > 0, "{status:?}");
        }
        assert!(status.memory_bytes > 24 << 20, "the front tables alone take 24 MiB: {}", status.memory_bytes);
        drop(filter);
        assert_eq!(network.connect(FOREIGN[0], 443, PATIENCE).unwrap(), "ok", "{attach:?}: detached with the filter");
    }
}

#[test]
fn a_closed_filtered_port_is_silent_to_foreign_sources() {
    if !is_root() {
        return;
    }
    let network = Network::new();
    let _filter = start(&network, allowing(Attach::Native));
    let refused = network.connect(ALLOWED[0], 443, PATIENCE).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{refused}");
    let silent = network.connect(FOREIGN[0], 443, SOON).unwrap_err();
    assert_eq!(silent.kind(), ErrorKind::TimedOut, "{silent}");
}

#[test]
fn monitoring_drops_nothing_and_counts_what_it_would_drop() {
    if !is_root() {
        return;
    }
    let network = Network::new();
    let _server = network.serve(&[443]);
    let mut filter = start(&network, Policy { mode: Mode::Monitor, ..allowing(Attach::Native) });
    assert_eq!(network.connect(FOREIGN[0], 443, PATIENCE).unwrap(), "ok");
    let status = filter.status().unwrap();
    assert!(packets(&status, Family::Ipv4, Verdict::WouldDrop, Reason::NoRange) > 0, "{status:?}");
    assert_eq!(packets(&status, Family::Ipv4, Verdict::Drop, Reason::NoRange), 0);
    filter.reload(allowing(Attach::Native), false).unwrap();
    assert_eq!(network.connect(FOREIGN[0], 443, SOON).unwrap_err().kind(), ErrorKind::TimedOut, "enforced by a reload");
    let sample = filter.samples().into_iter().find(|sample| sample.verdict == Verdict::Drop as u8).unwrap();
    assert_eq!((sample.source.ipv4(), sample.destination_port), (0xc633_6442, 443));
}

/// VLAN and QinQ tags, IPv4 options, IPv6 extension headers, fragments: each frame of the shared cases, sent over the wire.
#[test]
fn every_case_is_decided_on_the_wire_as_in_the_table() {
    if !is_root() {
        return;
    }
    for attach in [Attach::Native, Attach::Generic] {
        let network = Network::new();
        let filter =
            start(&network, Policy { attach, interfaces: vec!["eth0".to_owned()], ..policy_of_cases(Mode::Enforce) });
        let raw = network.on_client(|| RawSocket::new("eth0")).unwrap();
        for case in cases::all() {
            let verdict = if case.reason.passes() { Verdict::Pass } else { Verdict::Drop };
            let count = || packets(&filter.status().unwrap(), case.family, verdict, case.reason);
            let before = count();
            raw.send(&case.frame).unwrap_or_else(|error| panic!("{}: {error}", case.name));
            let deadline = Instant::now() + Duration::from_secs(5);
            while count() == before {
                assert!(Instant::now() < deadline, "{} ({attach:?}) is not counted as {:?}", case.name, case.reason);
                thread::sleep(Duration::from_millis(1));
            }
            // Neighbour discovery of the namespaces may be counted as passed too.
            assert!(case.reason == Reason::NotFiltered || count() == before + 1, "{} ({attach:?})", case.name);
        }
    }
}

#[test]
fn fragments_of_other_services_arrive() {
    if !is_root() {
        return;
    }
    for attach in [Attach::Native, Attach::Generic] {
        let network = Network::new();
        let _filter = start(&network, allowing(attach));
        for (server, client) in SERVER.into_iter().zip(FOREIGN) {
            let receiver = network.on_server(|| UdpSocket::bind((server, 443))).unwrap();
            receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let sender = network.on_client(|| UdpSocket::bind((client, 0))).unwrap();
            sender.send_to(&[7; 6000], (server, 443)).unwrap();
            let mut datagram = [0; 8192];
            let (length, _) = receiver.recv_from(&mut datagram).unwrap_or_else(|error| panic!("{attach:?}: {error}"));
            assert_eq!(length, 6000, "{attach:?}");
        }
    }
}

#[test]
fn ranges_change_under_traffic_without_a_lost_connection() {
    if !is_root() {
        return;
    }
    for attach in [Attach::Native, Attach::Generic] {
        let network = Network::new();
        let _server = network.serve(&[443]);
        // The client is allowed by its address, by a range around it, and by a larger range with holes.
        let mut random = fastrand::Rng::with_seed(3);
        let mut filler = |count: usize| {
            let v4 = (0..count).map(|_| format!("{}.{}.{}.0/24", random.u8(1..=197), random.u8(..), random.u8(..)));
            let v4 = v4.collect::<Vec<_>>();
            let v6 = (0..count).map(|_| format!("2001:db8:{:x}::/48", random.u16(..0xff00)));
            let filler = v4.into_iter().chain(v6).map(|text| range(&text));
            filler.collect::<Vec<_>>()
        };
        let variants = [
            (vec![set("provider", Action::Allow, &ALLOWED)], filler(200)),
            (vec![set("provider", Action::Allow, &["198.51.100.0/26", "2001:db8:ffff::/60"])], filler(2000)),
            (
                vec![
                    set("provider", Action::Allow, &["198.51.0.0/16", "2001:db8::/32"]),
                    set("denied", Action::Deny, &["198.51.100.64/26", "2001:db8:ffff::66"]),
                ],
                filler(20),
            ),
        ]
        .map(|(mut sets, filler)| {
            sets[0].prefixes.extend(filler);
            Policy { sets, ..allowing(attach) }
        });
        let mut filter = start(&network, variants[0].clone());
        let (done, served) = (AtomicBool::new(false), AtomicUsize::new(0));
        // The first connection waits for the neighbour to be found, which may take a second.
        for client in ALLOWED {
            assert_eq!(network.connect(client, 443, PATIENCE).unwrap(), "ok", "{attach:?} {client}");
        }
        thread::scope(|scope| {
            for client in ALLOWED {
                let (network, done, served) = (&network, &done, &served);
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        // A lost SYN is sent again after a second, which is too late.
                        let answer = network.connect(client, 443, SOON);
                        if !answer.as_ref().is_ok_and(|answer| answer == "ok") {
                            done.store(true, Ordering::Relaxed);
                            panic!("{attach:?}: connection {} was lost: {answer:?}", served.load(Ordering::Relaxed));
                        }
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let end = Instant::now() + Duration::from_secs(4);
            let mut writes = 0;
            while Instant::now() < end && !done.load(Ordering::Relaxed) {
                for policy in &variants {
                    writes += filter.reload(policy.clone(), true).map_or(0, |changes| changes.writes);
                }
            }
            done.store(true, Ordering::Relaxed);
            assert!(writes > 1000, "{writes} writes");
        });
        let served = served.into_inner();
        assert!(served > 100, "only {served} connections");
        assert_eq!(network.connect(FOREIGN[0], 443, SOON).unwrap_err().kind(), ErrorKind::TimedOut);
    }
}

pub(crate) fn packets(status: &Status, family: Family, verdict: Verdict, reason: Reason) -> u64 {
    let found = status.packets.iter().find(|it| (it.family, it.verdict, it.reason) == (family, verdict, reason));
    found.map_or(0, |count| count.packets)
}
