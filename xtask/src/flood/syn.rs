//! The flood: SYNs from disallowed sources, at a bounded rate.
//!
//! They are sent by a raw IP socket in the clients' namespace. Its only links are veth pairs, so no packet can reach a real network.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, ipproto};

/// Distinct SYNs, sent in turn: more than the default size of the kernel's table of half-open connections.
const DISTINCT: u32 = 1 << 16;

/// How often a batch is sent. At 200,000 a second, a batch fits into the ring of a veth pair.
const TICK: Duration = Duration::from_micros(500);

/// IPv4 header, TCP header, and the option that every SYN has: the maximum segment size.
const LENGTH: usize = 20 + 20 + 4;

/// Sends `per_second` SYNs to port 443 of `target` until `done`, and counts them in `sent`. A late batch is not made up for.
///
/// # Errors
///
/// Without CAP_NET_RAW, or without a route.
pub(super) fn flood(target: Ipv4Addr, per_second: u32, done: &AtomicBool, sent: &AtomicU64) -> Result<()> {
    let socket =
        rustix::net::socket_with(AddressFamily::INET, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::RAW))
            .context("making a raw socket")?;
    rustix::net::connect(&socket, &SocketAddrV4::new(target, 0)).context("no route for the flood")?;
    let packets: Vec<_> = (0..DISTINCT).map(|index| packet(disallowed(index), port(index), target)).collect();
    let mut packets = packets.iter().cycle();
    let batch = (f64::from(per_second) * TICK.as_secs_f64()).ceil() as usize;
    let mut due = Instant::now();
    while !done.load(Ordering::Relaxed) {
        for packet in packets.by_ref().take(batch) {
            // A full queue drops packets, as every link does.
            if rustix::net::send(&socket, packet, SendFlags::DONTWAIT).is_ok() {
                sent.fetch_add(1, Ordering::Relaxed);
            }
        }
        due = (due + TICK).max(Instant::now());
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

/// A source in 128.0.0.0/2 whose third byte is odd; the allowed ranges' third bytes are even. Fibonacci hashing spreads them.
fn disallowed(index: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x8000_0000 | (spread(index) >> 2) | 0x0000_0100)
}

/// The `index`th allowed /24.
pub(super) fn allowed(index: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits((0x8000_0000 | (spread(index) >> 2)) & 0xffff_fe00)
}

fn spread(index: u32) -> u32 {
    index.wrapping_mul(0x9e37_79b9)
}

fn port(index: u32) -> u16 {
    1024 + (index % 60_000) as u16
}

/// A SYN from `source` to port 443 of `target`. The kernel fills in the checksum of the IPv4 header (raw(7)).
fn packet(source: Ipv4Addr, source_port: u16, target: Ipv4Addr) -> [u8; LENGTH] {
    let mut packet = [0; LENGTH];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(LENGTH as u16).to_be_bytes());
    packet[8] = 64; // time to live
    packet[9] = 6; // TCP
    packet[12..16].copy_from_slice(&source.octets());
    packet[16..20].copy_from_slice(&target.octets());
    packet[20..22].copy_from_slice(&source_port.to_be_bytes());
    packet[22..24].copy_from_slice(&443u16.to_be_bytes());
    packet[24..28].copy_from_slice(&source.octets()); // the sequence number: any
    packet[32] = 6 << 4; // header length, in words
    packet[33] = 2; // SYN
    packet[34..36].copy_from_slice(&64_240u16.to_be_bytes()); // window
    packet[40..44].copy_from_slice(&[2, 4, 1460u16.to_be_bytes()[0], 1460u16.to_be_bytes()[1]]);
    let checksum = checksum(&packet[12..]);
    packet[36..38].copy_from_slice(&checksum.to_be_bytes());
    packet
}

/// The checksum of TCP (RFC 9293, section 3.1) over both addresses and the segment. Protocol and length, which also belong to the
/// pseudo header, are added as numbers.
fn checksum(addresses_and_segment: &[u8]) -> u16 {
    let words = addresses_and_segment.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let mut sum = words.sum::<u32>() + 6 + (addresses_and_segment.len() as u32 - 8);
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_makes_the_segment_sum_up_to_nothing() {
        let packet = packet(Ipv4Addr::new(203, 0, 113, 7), 40_000, Ipv4Addr::new(198, 51, 100, 1));
        // A receiver sums over the checksum too, and gets 0 (RFC 1071, section 1).
        assert_eq!(checksum(&packet[12..]), 0);
    }

    #[test]
    fn no_source_of_the_flood_is_allowed() {
        let third = |address: Ipv4Addr| address.octets()[2] % 2;
        assert!((0..10_000).all(|index| third(disallowed(index)) == 1 && third(allowed(index)) == 0));
    }
}
