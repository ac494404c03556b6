//! The standing of sources: whether handshakes from an address were admitted or failed lately.
//!
//! Owns two tables of fixed size. They decide only who is served first: no connection is refused by its source. So an address that a
//! sender shares with others (NAT) costs it time, and nothing else. Must not read a clock.
//!
//! **A source** is an IPv4 address or an IPv6 /56. Neighbours of an IPv4 address are often strangers to it; of IPv6 a customer gets a
//! /56 or /64, and chooses addresses in it freely (RFC 6177).
//!
//! **Tables** are indexed by a keyed hash, and a newcomer replaces what was there. Only admitted peers enter the first table, so
//! strangers cannot push senders out of it.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

/// Sources in each table: 128 KiB a table and worker. More than the addresses of the senders that the presets know; a flood from more
/// sources than this is no longer told apart by source.
const SLOTS: usize = 4096;

/// How long an admission counts. Senders of a webhook a day keep their standing.
const REMEMBERED: Duration = Duration::from_secs(48 * 3600);

/// A source may have failures of this many seconds at once.
const BURST_SECONDS: u64 = 2;

/// Failures are counted in thousandths.
const THOUSANDTHS: u64 = 1000;

/// Where a source stands in the order of turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// A peer of this source was admitted, and few of its handshakes fail.
    Known,
    /// Nothing is known; or peers were admitted, but too many handshakes fail.
    Neutral,
    /// Too many handshakes fail, and none was admitted.
    Failing,
}

impl Standing {
    /// Every standing, the first to be served first.
    pub(super) const ALL: [Self; 3] = [Self::Known, Self::Neutral, Self::Failing];
}

/// The number of the source that `address` belongs to. Those of IPv4 have the highest bit.
pub(super) fn source(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => 1 << 63 | u64::from(address.to_bits()),
        IpAddr::V6(address) => u64::try_from(address.to_bits() >> 72).unwrap_or(0),
    }
}

/// What is remembered of a source.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// 0 in a free slot: no source has this number but `::/56`, from which nobody connects.
    source: u64,
    /// When it was noted last, by the coarse clock.
    at: Duration,
    /// Failed handshakes that are not forgiven yet, in thousandths.
    failures: u64,
}

/// The standing of sources.
#[derive(Debug)]
pub(super) struct Sources {
    hasher: RandomState,
    admitted: Box<[Slot]>,
    failed: Box<[Slot]>,
    /// Failed handshakes per second that a source may have; 0 is no bound.
    rate: u64,
}

impl Sources {
    /// Nothing is known, and nothing is bounded.
    pub(super) fn new() -> Self {
        let slots = || vec![Slot::default(); SLOTS].into_boxed_slice();
        Self { hasher: RandomState::new(), admitted: slots(), failed: slots(), rate: 0 }
    }

    /// The failed handshakes per second that a source may have; 0 is no bound.
    pub(super) fn set_rate(&mut self, rate: usize) {
        self.rate = rate as u64;
    }

    /// The standing of `source` at `now`.
    pub(super) fn standing(&self, source: u64, now: Duration) -> Standing {
        if self.rate == 0 {
            return Standing::Neutral;
        }
        let index = self.index(source);
        let admitted = &self.admitted[index];
        let is_known = admitted.source == source && now.saturating_sub(admitted.at) < REMEMBERED;
        let failed = &self.failed[index];
        let is_failing = failed.source == source && self.left(failed, now) > self.rate * BURST_SECONDS * THOUSANDTHS;
        match (is_known, is_failing) {
            (true, false) => Standing::Known,
            (false, true) => Standing::Failing,
            (true, true) | (false, false) => Standing::Neutral,
        }
    }

    /// Notes that a peer of `source` was admitted.
    pub(super) fn admitted(&mut self, source: u64, now: Duration) {
        let index = self.index(source);
        self.admitted[index] = Slot { source, at: now, failures: 0 };
    }

    /// Notes that a handshake of `source` failed, or its peer was refused.
    pub(super) fn failed(&mut self, source: u64, now: Duration) {
        let index = self.index(source);
        let before = &self.failed[index];
        let left = if before.source == source { self.left(before, now) } else { 0 };
        // Twice the bound, so that a source that stops failing is forgiven soon.
        let most = 2 * self.rate * BURST_SECONDS * THOUSANDTHS;
        self.failed[index] = Slot { source, at: now, failures: (left + THOUSANDTHS).min(most) };
    }

    /// Failures in `slot` that are not forgiven at `now`, in thousandths: `rate` are forgiven per second.
    fn left(&self, slot: &Slot, now: Duration) -> u64 {
        let passed_ms = u64::try_from(now.saturating_sub(slot.at).as_millis()).unwrap_or(u64::MAX);
        // A failure per second is a thousandth per millisecond.
        slot.failures.saturating_sub(self.rate.saturating_mul(passed_ms))
    }

    fn index(&self, source: u64) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "any bits of a hash will do")]
        let hash = self.hasher.hash_one(source) as usize;
        hash % SLOTS
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "addresses that are written here are well-formed")]

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn from(address: &str) -> u64 {
        source(address.parse().unwrap())
    }

    fn with_rate(rate: usize) -> Sources {
        let mut sources = Sources::new();
        sources.set_rate(rate);
        sources
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_an_ipv6_56() {
        assert_ne!(from("192.0.2.1"), from("192.0.2.2"));
        assert_eq!(from("192.0.2.1"), from("::ffff:192.0.2.1"));
        assert_eq!(from("2001:db8:0:1200::1"), from("2001:db8:0:12ff:ffff:ffff:ffff:ffff"));
        assert_ne!(from("2001:db8:0:1200::1"), from("2001:db8:0:1300::1"));
        assert_ne!(from("0.0.0.0"), 0);
    }

    #[test]
    fn a_source_that_fails_too_often_waits_until_its_failures_are_forgiven() {
        let mut sources = with_rate(10);
        let (bad, other) = (from("192.0.2.1"), from("192.0.2.2"));
        let standing = |sources: &Sources, now| sources.standing(bad, now);
        (0..20).for_each(|_| sources.failed(bad, SECOND));
        assert_eq!(standing(&sources, SECOND), Standing::Neutral, "the failures of two seconds");
        sources.failed(bad, SECOND);
        assert_eq!(standing(&sources, SECOND), Standing::Failing);
        assert_eq!(sources.standing(other, SECOND), Standing::Neutral);
        assert_eq!(standing(&sources, SECOND + Duration::from_millis(100)), Standing::Neutral, "one is forgiven");
        (0..1_000_000).for_each(|_| sources.failed(bad, SECOND));
        assert_eq!(standing(&sources, 2 * SECOND), Standing::Failing);
        assert_eq!(standing(&sources, 3 * SECOND), Standing::Neutral, "however many there were");
    }

    #[test]
    fn an_admitted_source_is_known_for_two_days_and_failures_beside_cost_it_that_only() {
        let mut sources = with_rate(1);
        let shared = from("2001:db8::1");
        sources.admitted(shared, SECOND);
        assert_eq!(sources.standing(shared, SECOND), Standing::Known);
        (0..10).for_each(|_| sources.failed(shared, SECOND));
        assert_eq!(sources.standing(shared, SECOND), Standing::Neutral);
        assert_eq!(sources.standing(shared, SECOND + REMEMBERED - SECOND), Standing::Known);
        assert_eq!(sources.standing(shared, SECOND + REMEMBERED), Standing::Neutral);
    }

    #[test]
    fn strangers_push_no_sender_out_and_without_a_rate_all_are_alike() {
        let mut sources = with_rate(1);
        let sender = from("192.0.2.1");
        sources.admitted(sender, SECOND);
        for stranger in 0..100_000_u32 {
            (0..3).for_each(|_| sources.failed(source(IpAddr::V4(stranger.into())), SECOND));
        }
        assert_eq!(sources.standing(sender, SECOND), Standing::Known);
        sources.set_rate(0);
        assert_eq!(sources.standing(sender, SECOND), Standing::Neutral);
        assert_eq!(sources.standing(source(IpAddr::V4(99_999.into())), SECOND), Standing::Neutral);
    }
}
