//! From bytes to an answer: is this TCP, from which source, and to which destination.
//!
//! Owns the walk over Ethernet, VLAN tags, IPv4, IPv6 and its extension headers. Every read is checked against the end of
//! the packet and every loop has a fixed bound. Must not decide anything: that is `decision`'s.

use crate::layout::{Address, Family};

/// VLAN tags that are skipped: one, or two if a provider stacks them (IEEE 802.1ad, "QinQ").
pub const MAX_VLAN_TAGS: usize = 2;

/// IPv6 extension headers that are followed. RFC 8200, section 4.1, knows six kinds before TCP, of which one may come twice.
pub const MAX_EXTENSION_HEADERS: usize = 8;

/// The furthest byte into a packet at which a header is looked for. Eight extension headers of real traffic fit many times
/// over; the verifier needs a bound, and a longer chain is treated as one with too many headers.
const MAX_HEADER_OFFSET: usize = 1024;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_SERVICE_VLAN: u16 = 0x88a8;
/// What some switches use for the outer tag, from before IEEE 802.1ad.
const ETHERTYPE_OLD_SERVICE_VLAN: u16 = 0x9100;

// IANA protocol numbers.
const HOP_BY_HOP: u8 = 0;
const TCP: u8 = 6;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

const TCP_FLAG_SYN: u8 = 0x02;
const TCP_FLAG_ACK: u8 = 0x10;

/// A packet from its Ethernet header on. Reads beyond its end give `None`.
pub trait Packet {
    /// The `N` bytes at `offset`.
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;
}

impl Packet for [u8] {
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.get(offset..)?.first_chunk().copied()
    }
}

/// The addresses and ports of a TCP segment, or of the first fragment of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// [`Family::Ipv4`] or [`Family::Ipv6`].
    pub family: Family,
    /// The source.
    pub source: Address,
    /// The destination.
    pub destination: Address,
    /// The TCP source port.
    pub source_port: u16,
    /// The TCP destination port.
    pub destination_port: u16,
    /// It opens a connection: SYN without ACK, or a fragment too short to show its flags.
    pub opens: bool,
}

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Not TCP over IPv4 or IPv6.
    Other(Family),
    /// A fragment other than the first.
    LaterFragment(Family),
    /// It ends before its TCP ports.
    Truncated(Family),
    /// More IPv6 extension headers than [`MAX_EXTENSION_HEADERS`]; the ports of the segment are 0.
    LongChain(Segment),
    /// TCP.
    Segment(Segment),
}

/// Looks for TCP in a packet.
///
/// **Fragments.** Ports stand in the first eight bytes of a datagram's payload, and fragments are cut at multiples of eight
/// bytes, so the first fragment (offset 0) always has them and is judged like a whole packet. Later fragments have none
/// and pass: the kernel cannot reassemble them without the first, keeps them within its own bound
/// (`net.ipv4.ipfrag_high_thresh`) and forgets them; dropping them would cut other services off. If a first IPv6
/// fragment ends before its ports, the kernel discards it itself (RFC 7112, section 5; Linux since 5.11).
///
/// **IPv6 header chains** with more than [`MAX_EXTENSION_HEADERS`] headers do not occur on the public Internet. Their
/// ports are not known, so they are judged by their source alone, as if they were for a filtered port.
#[inline(always)]
pub fn parse<P: Packet + ?Sized>(packet: &P) -> Parsed {
    let Some(mut ethertype) = ethertype(packet, 12) else { return Parsed::Other(Family::Other) };
    let mut offset = 14;
    for _ in 0..MAX_VLAN_TAGS {
        if !matches!(ethertype, ETHERTYPE_VLAN | ETHERTYPE_SERVICE_VLAN | ETHERTYPE_OLD_SERVICE_VLAN) {
            break;
        }
        let Some(inner) = self::ethertype(packet, offset + 2) else { return Parsed::Other(Family::Other) };
        ethertype = inner;
        offset += 4;
    }
    match ethertype {
        ETHERTYPE_IPV4 => parse_ipv4(packet, offset),
        ETHERTYPE_IPV6 => parse_ipv6(packet, offset),
        _ => Parsed::Other(Family::Other),
    }
}

#[inline(always)]
fn ethertype<P: Packet + ?Sized>(packet: &P, offset: usize) -> Option<u16> {
    packet.read::<2>(offset).map(u16::from_be_bytes)
}

/// RFC 791, section 3.1.
#[inline(always)]
fn parse_ipv4<P: Packet + ?Sized>(packet: &P, offset: usize) -> Parsed {
    let Some(header) = packet.read::<20>(offset) else { return Parsed::Truncated(Family::Ipv4) };
    if header[9] != TCP {
        return Parsed::Other(Family::Ipv4);
    }
    let header_length = usize::from(header[0] & 0x0f) * 4;
    if header_length < 20 {
        return Parsed::Truncated(Family::Ipv4);
    }
    let fragment_offset = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
    if fragment_offset != 0 {
        return Parsed::LaterFragment(Family::Ipv4);
    }
    let source = Address::from_ipv4(u32::from_be_bytes([header[12], header[13], header[14], header[15]]));
    let destination = Address::from_ipv4(u32::from_be_bytes([header[16], header[17], header[18], header[19]]));
    parse_tcp(packet, offset + header_length, Family::Ipv4, source, destination)
}

/// RFC 8200, sections 3 and 4.
#[inline(always)]
fn parse_ipv6<P: Packet + ?Sized>(packet: &P, offset: usize) -> Parsed {
    let Some(mut next) = packet.read::<1>(offset + 6).map(|[next]| next) else {
        return Parsed::Truncated(Family::Ipv6);
    };
    let (Some(source), Some(destination)) = (address(packet, offset + 8), address(packet, offset + 24)) else {
        return Parsed::Truncated(Family::Ipv6);
    };
    let mut offset = offset + 40;
    for _ in 0..MAX_EXTENSION_HEADERS {
        if offset > MAX_HEADER_OFFSET {
            break;
        }
        if next == TCP {
            return parse_tcp(packet, offset, Family::Ipv6, source, destination);
        }
        if !matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS) {
            return Parsed::Other(Family::Ipv6);
        }
        let Some(header) = packet.read::<4>(offset) else { return Parsed::Truncated(Family::Ipv6) };
        // Section 4.5: 13 bits of offset, then two reserved and the "more" flag.
        if next == FRAGMENT && u16::from_be_bytes([header[2], header[3]]) & 0xfff8 != 0 {
            return Parsed::LaterFragment(Family::Ipv6);
        }
        offset += extension_length(next, header[1]);
        next = header[0];
    }
    if next == TCP && offset <= MAX_HEADER_OFFSET {
        return parse_tcp(packet, offset, Family::Ipv6, source, destination);
    }
    if !matches!(next, TCP | HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS) {
        return Parsed::Other(Family::Ipv6);
    }
    let family = Family::Ipv6;
    Parsed::LongChain(Segment { family, source, destination, source_port: 0, destination_port: 0, opens: true })
}

#[inline(always)]
fn address<P: Packet + ?Sized>(packet: &P, offset: usize) -> Option<Address> {
    let high = u64::from_be_bytes(packet.read::<8>(offset)?);
    let low = u64::from_be_bytes(packet.read::<8>(offset + 8)?);
    Some(Address { high, low })
}

/// The length of an extension header in bytes, given the second byte of it.
#[inline(always)]
fn extension_length(kind: u8, length: u8) -> usize {
    match kind {
        FRAGMENT => 8,
        // RFC 4302, section 2.2: in units of four bytes, minus two.
        AUTHENTICATION => (usize::from(length) + 2) * 4,
        _ => (usize::from(length) + 1) * 8,
    }
}

/// RFC 9293, section 3.1. A first fragment may hold as little as eight bytes of the header: enough for the ports.
#[inline(always)]
fn parse_tcp<P: Packet + ?Sized>(
    packet: &P,
    offset: usize,
    family: Family,
    source: Address,
    destination: Address,
) -> Parsed {
    let Some(ports) = packet.read::<4>(offset) else { return Parsed::Truncated(family) };
    let opens = match packet.read::<1>(offset + 13) {
        Some([flags]) => flags & (TCP_FLAG_SYN | TCP_FLAG_ACK) == TCP_FLAG_SYN,
        None => true,
    };
    Parsed::Segment(Segment {
        family,
        source,
        destination,
        source_port: u16::from_be_bytes([ports[0], ports[1]]),
        destination_port: u16::from_be_bytes([ports[2], ports[3]]),
        opens,
    })
}
