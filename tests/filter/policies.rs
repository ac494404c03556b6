//! The policies that the tests share.

use hookgate_core::ranges;
use hookgate_ebpf::{PortState, cases};
use hookgate_filter::{Action, Destination, Mode, Policy, RangeSet};
use ipnet::IpNet;

/// Parses a range, which must be valid.
pub(crate) fn range(text: &str) -> IpNet {
    ranges::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// A named set.
pub(crate) fn set(name: &str, action: Action, prefixes: &[&str]) -> RangeSet {
    RangeSet { name: name.to_owned(), action, prefixes: prefixes.iter().map(|text| range(text)).collect() }
}

/// A policy for port 443 at every address.
pub(crate) fn policy(sets: Vec<RangeSet>) -> Policy {
    let destinations = vec![Destination { address: None, port: 443 }];
    Policy { mode: Mode::Enforce, sets, destinations, ..Policy::default() }
}

/// The policy of the shared cases.
pub(crate) fn policy_of_cases(mode: Mode) -> Policy {
    let sets = (1..=4).map(|number| {
        let ranges = cases::RANGES.iter().filter(|(.., set)| *set == number);
        let action = ranges.clone().next().unwrap().2;
        let prefixes = ranges.map(|(address, length, ..)| range(&format!("{address}/{length}"))).collect();
        RangeSet { name: format!("set {number}"), action, prefixes }
    });
    let everywhere = cases::PORTS.iter().filter(|(_, state)| *state == PortState::Everywhere);
    let everywhere = everywhere.map(|(port, _)| Destination { address: None, port: *port });
    let listed = cases::DESTINATIONS.iter();
    let listed = listed.map(|(address, port)| Destination { address: Some(address.parse().unwrap()), port: *port });
    Policy { mode, sets: sets.collect(), destinations: everywhere.chain(listed).collect(), ..Policy::default() }
}
