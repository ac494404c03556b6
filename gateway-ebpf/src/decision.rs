//! The decision about one packet: filtered destination, deny, allow, default of the mode, SYN rate.
//!
//! Must not count, log or drop anything: it says what to do, and the caller does it.

use crate::layout::{
    Action, BucketKey, DestinationKey, Entry, Family, Mode, PORTS_PER_WORD, PortState, Rate, Reason, Settings, Verdict,
};
use crate::lookup::{Lookup, lookup_ipv4, lookup_ipv6};
use crate::packet::{Packet, Parsed, Segment, parse};

/// Everything that the decision reads, and the buckets that it takes from.
pub trait Maps: Lookup {
    /// What applies to every packet.
    fn settings(&self) -> Option<&Settings>;
    /// The word of the port table with the state of `port`.
    fn port_word(&self, port: u16) -> u64;
    /// Whether a listed port is filtered at this address.
    fn is_destination(&self, key: &DestinationKey) -> bool;
    /// Takes a token from the bucket of `key`; false if the bucket is empty.
    fn take(&self, key: &BucketKey, rate: Rate) -> bool;
}

/// What to do with a packet, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The family, as counted.
    pub family: Family,
    /// What to do.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// The named range set that decided; 0 if none did.
    pub set: u8,
    /// Addresses and ports of the packet, if it is worth a sample.
    pub segment: Option<Segment>,
}

impl Decision {
    #[inline(always)]
    fn pass(family: Family, reason: Reason) -> Self {
        Self { family, verdict: Verdict::Pass, reason, set: 0, segment: None }
    }
}

/// Decides about a packet. `None` if the filter is off.
#[inline(always)]
pub fn decide<P: Packet + ?Sized, M: Maps + ?Sized>(packet: &P, maps: &M) -> Option<Decision> {
    let settings = maps.settings()?;
    let refused = match settings.mode {
        mode if mode == Mode::Monitor as u64 => Verdict::WouldDrop,
        mode if mode == Mode::Enforce as u64 => Verdict::Drop,
        _ => return None,
    };
    let (segment, unlisted) = match parse(packet) {
        Parsed::Other(family) => return Some(Decision::pass(family, Reason::NotFiltered)),
        Parsed::LaterFragment(family) => return Some(Decision::pass(family, Reason::LaterFragment)),
        Parsed::Truncated(family) => return Some(Decision::pass(family, Reason::Truncated)),
        Parsed::LongChain(segment) => (segment, Reason::HeaderChain),
        Parsed::Segment(segment) if is_filtered(maps, &segment) => (segment, Reason::NoRange),
        Parsed::Segment(segment) => return Some(Decision::pass(segment.family, Reason::NotFiltered)),
    };
    let entry = lookup(maps, &segment);
    let reason = match entry.action() {
        Some(Action::Deny) => Reason::Denied,
        Some(Action::Allow) if segment.opens && !within_rate(maps, settings, &segment) => Reason::SynRate,
        Some(Action::Allow) => Reason::Allowed,
        None => unlisted,
    };
    let allowed = reason as u8 == Reason::Allowed as u8;
    Some(Decision {
        family: segment.family,
        verdict: if allowed { Verdict::Pass } else { refused },
        reason,
        set: entry.set(),
        segment: if allowed { None } else { Some(segment) },
    })
}

#[inline(always)]
fn is_filtered<M: Maps + ?Sized>(maps: &M, segment: &Segment) -> bool {
    let slot = u32::from(segment.destination_port) % PORTS_PER_WORD;
    let state = (maps.port_word(segment.destination_port) >> (slot * 2)) as u8 & 3;
    if state == PortState::Everywhere as u8 {
        return true;
    }
    let key = DestinationKey { address: segment.destination, port: u64::from(segment.destination_port) };
    state == PortState::Listed as u8 && maps.is_destination(&key)
}

#[inline(always)]
fn lookup<M: Maps + ?Sized>(maps: &M, segment: &Segment) -> Entry {
    match segment.family {
        Family::Ipv4 => lookup_ipv4(maps, segment.source.ipv4()),
        _ => lookup_ipv6(maps, segment.source),
    }
}

/// The wider prefix is asked first, so that a packet that it refuses does not use up the budget of the address.
#[inline(always)]
fn within_rate<M: Maps + ?Sized>(maps: &M, settings: &Settings, segment: &Segment) -> bool {
    match segment.family {
        Family::Ipv4 => {
            let source = segment.source.ipv4();
            take(maps, settings.syn_ipv4_network, u64::from(source & 0xffff_ff00), 24)
                && take(maps, settings.syn_ipv4_address, u64::from(source), 32)
        }
        _ => take(maps, settings.syn_ipv6_network, segment.source.high, 64),
    }
}

#[inline(always)]
fn take<M: Maps + ?Sized>(maps: &M, rate: Rate, prefix: u64, length: u64) -> bool {
    rate.interval_ns == 0 || maps.take(&BucketKey { prefix, length }, rate)
}
