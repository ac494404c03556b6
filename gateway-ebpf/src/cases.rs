//! Packets and the expected decisions: one table, which the host tests run through [`crate::decide`] and the kernel
//! tests through `BPF_PROG_TEST_RUN`.
//!
//! Must not know how either runs them.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::vec::Vec;

use crate::layout::{Action, Family, PortState, Reason};

/// The ranges of the table: (prefix, length, action, set).
pub const RANGES: &[(&str, u8, Action, u8)] = &[
    ("192.0.2.0", 24, Action::Allow, 1),
    ("192.0.2.128", 25, Action::Deny, 3),
    ("203.0.113.64", 26, Action::Allow, 1),
    ("198.18.0.0", 15, Action::Allow, 2),
    ("10.0.0.0", 8, Action::Deny, 3),
    ("10.1.0.0", 16, Action::Allow, 2),
    ("2001:db8:1::", 48, Action::Allow, 1),
    ("2001:db8:5::7", 128, Action::Allow, 4),
    ("2a00:1::", 32, Action::Allow, 2),
    ("2a00:1:dead::", 48, Action::Deny, 3),
    ("2a00:2:3:4::", 64, Action::Allow, 1),
    ("3fff::", 20, Action::Allow, 4),
    ("fd00:1200::", 36, Action::Allow, 2),
];

/// The filtered ports of the table.
pub const PORTS: &[(u16, PortState)] = &[(443, PortState::Everywhere), (8443, PortState::Listed)];

/// Where port 8443 is filtered.
pub const DESTINATIONS: &[(&str, u16)] = &[("198.51.100.1", 8443), ("2001:db8:ffff::1", 8443)];

/// One packet.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it shows.
    pub name: &'static str,
    /// The bytes from the Ethernet header on.
    pub frame: Vec<u8>,
    /// The family under which it is counted.
    pub family: Family,
    /// Why it passes or not; only [`Reason::passes`] reasons pass.
    pub reason: Reason,
    /// The named range set that decides.
    pub set: u8,
}

impl Reason {
    /// Whether packets with this reason pass in every mode.
    pub fn passes(self) -> bool {
        matches!(self, Self::NotFiltered | Self::LaterFragment | Self::Truncated | Self::Allowed)
    }
}

/// TCP flags of the table's segments.
pub const SYN: u8 = 0x02;
/// Of an established connection.
pub const ACK: u8 = 0x10;

const TCP: u8 = 6;
const UDP: u8 = 17;
const IPV4_IN_IP: u8 = 4;
const IPV6_IN_IP: u8 = 41;
const GRE: u8 = 47;
const HOP_BY_HOP: u8 = 0;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const ENCRYPTED: u8 = 50;
const DESTINATION_OPTIONS: u8 = 60;
const ROUTING: u8 = 43;

/// The unusual parts of an IPv4 or IPv6 packet.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// EtherTypes of the VLAN tags, outermost first.
    pub tags: Vec<u16>,
    /// Bytes of IPv4 options: a multiple of four, at most 40.
    pub options: usize,
    /// IPv6 extension headers: (kind, whole bytes).
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// The fragment field of the IPv4 header.
    pub fragment: u16,
    /// The protocol of the payload.
    pub protocol: u8,
    /// What follows the headers.
    pub payload: Vec<u8>,
}

impl Datagram {
    /// A plain one with this TCP segment.
    pub fn tcp(destination_port: u16, flags: u8) -> Self {
        Self {
            tags: Vec::new(),
            options: 0,
            extensions: Vec::new(),
            fragment: 0,
            protocol: TCP,
            payload: segment(destination_port, flags),
        }
    }

    /// The Ethernet frame that carries it. Checksums are left 0.
    pub fn frame(&self, source: &str, destination: &str) -> Vec<u8> {
        let (source, destination) = (address(source), address(destination));
        let mut frame = std::vec![0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1];
        for tag in &self.tags {
            frame.extend(tag.to_be_bytes());
            frame.extend([0x00, 0x2a]);
        }
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => self.ipv4(&mut frame, source, destination),
            (IpAddr::V6(source), IpAddr::V6(destination)) => self.ipv6(&mut frame, source, destination),
            _ => unreachable!("a table entry mixes families"),
        }
        frame
    }

    fn ipv4(&self, frame: &mut Vec<u8>, source: Ipv4Addr, destination: Ipv4Addr) {
        let header = 20 + self.options;
        frame.extend(0x0800u16.to_be_bytes());
        frame.extend([0x40 | (header / 4) as u8, 0]);
        frame.extend(((header + self.payload.len()) as u16).to_be_bytes());
        frame.extend([0, 1]);
        frame.extend(self.fragment.to_be_bytes());
        frame.extend([64, self.protocol, 0, 0]);
        frame.extend(source.octets());
        frame.extend(destination.octets());
        frame.extend(core::iter::repeat_n(1, self.options));
        frame.extend(&self.payload);
    }

    fn ipv6(&self, frame: &mut Vec<u8>, source: Ipv6Addr, destination: Ipv6Addr) {
        let length: usize = self.extensions.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() + self.payload.len();
        let kinds = self.extensions.iter().map(|(kind, _)| *kind).chain([self.protocol]);
        let mut kinds = kinds.collect::<Vec<_>>().into_iter();
        frame.extend(0x86ddu16.to_be_bytes());
        frame.extend([0x60, 0, 0, 0]);
        frame.extend((length as u16).to_be_bytes());
        frame.extend([kinds.next().unwrap_or(self.protocol), 64]);
        frame.extend(source.octets());
        frame.extend(destination.octets());
        for (_, bytes) in &self.extensions {
            frame.push(kinds.next().unwrap_or(self.protocol));
            frame.extend(&bytes[1..]);
        }
        frame.extend(&self.payload);
    }
}

/// A TCP header without options.
pub fn segment(destination_port: u16, flags: u8) -> Vec<u8> {
    let mut segment = Vec::from(40_000u16.to_be_bytes());
    segment.extend(destination_port.to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| unreachable!("{text} is no address"))
}

/// An options or routing header of `units` times eight bytes.
fn extension(kind: u8, units: u8) -> (u8, Vec<u8>) {
    let mut bytes = std::vec![0; usize::from(units) * 8];
    bytes[1] = units - 1;
    (kind, bytes)
}

fn fragment_header(offset_and_flags: u16) -> (u8, Vec<u8>) {
    let [high, low] = offset_and_flags.to_be_bytes();
    (FRAGMENT, std::vec![0, 0, high, low, 0, 0, 0, 9])
}

/// An authentication header with a 12-byte integrity value: 24 bytes, and 4 in its length byte (RFC 4302, section 2.2).
fn authentication_header() -> (u8, Vec<u8>) {
    let mut bytes = std::vec![0; 24];
    bytes[1] = 4;
    (AUTHENTICATION, bytes)
}

/// Every case.
pub fn all() -> Vec<Case> {
    [verdicts(), destinations(), tunnels(), links(), ipv4_headers(), ipv6_headers()].concat()
}

const SERVER: &str = "198.51.100.1";
const SERVER_V6: &str = "2001:db8:ffff::1";

fn case(name: &'static str, frame: Vec<u8>, reason: Reason, set: u8) -> Case {
    let ipv6 = frame.windows(2).skip(12).step_by(2).take(5).any(|pair| pair == [0x86, 0xdd]);
    let family = if ipv6 { Family::Ipv6 } else { Family::Ipv4 };
    Case { name, frame, family, reason, set }
}

fn verdicts() -> Vec<Case> {
    let from = |name, source: &str, reason, set| {
        let server = if source.contains(':') { SERVER_V6 } else { SERVER };
        case(name, Datagram::tcp(443, SYN).frame(source, server), reason, set)
    };
    std::vec![
        from("allow range", "192.0.2.7", Reason::Allowed, 1),
        from("deny range inside an allow range", "192.0.2.200", Reason::Denied, 3),
        from("allow range inside a deny range", "10.1.2.3", Reason::Denied, 3),
        from("allow range longer than /24", "203.0.113.64", Reason::Allowed, 1),
        from("last address of it", "203.0.113.127", Reason::Allowed, 1),
        from("just before it", "203.0.113.63", Reason::NoRange, 0),
        from("just after it", "203.0.113.128", Reason::NoRange, 0),
        from("allow range shorter than /16", "198.19.255.255", Reason::Allowed, 2),
        from("just after that", "198.20.0.0", Reason::NoRange, 0),
        from("no range", "8.8.8.8", Reason::NoRange, 0),
        from("lowest address", "0.0.0.0", Reason::NoRange, 0),
        from("highest address", "255.255.255.255", Reason::NoRange, 0),
        from("IPv6 /48", "2001:db8:1:2::3", Reason::Allowed, 1),
        from("IPv6 next /48", "2001:db8:2::", Reason::NoRange, 0),
        from("IPv6 /128", "2001:db8:5::7", Reason::Allowed, 4),
        from("IPv6 beside the /128", "2001:db8:5::8", Reason::NoRange, 0),
        from("IPv6 /32", "2a00:1:1::1", Reason::Allowed, 2),
        from("IPv6 deny inside the /32", "2a00:1:dead::1", Reason::Denied, 3),
        from("IPv6 /64", "2a00:2:3:4:5::", Reason::Allowed, 1),
        from("IPv6 beside the /64", "2a00:2:3:5::", Reason::NoRange, 0),
        from("IPv6 shorter than /24", "3fff:fff::1", Reason::Allowed, 4),
        from("IPv6 just after that", "3fff:1000::1", Reason::NoRange, 0),
        from("IPv6 between /32 and /48", "fd00:1200:fff::1", Reason::Allowed, 2),
        from("IPv6 just after that too", "fd00:1200:1000::1", Reason::NoRange, 0),
        from("IPv6 unknown /24", "2600::1", Reason::NoRange, 0),
        case(
            "established connection of an allowed source",
            Datagram::tcp(443, ACK).frame("192.0.2.7", SERVER),
            Reason::Allowed,
            1
        ),
        case("ACK without a connection", Datagram::tcp(443, ACK).frame("8.8.8.8", SERVER), Reason::NoRange, 0),
    ]
}

fn destinations() -> Vec<Case> {
    let to = |name, source: &str, destination: &str, port, reason| {
        case(name, Datagram::tcp(port, SYN).frame(source, destination), reason, 0)
    };
    let udp = Datagram { protocol: UDP, ..Datagram::tcp(443, 0) };
    std::vec![
        to("SSH", "8.8.8.8", SERVER, 22, Reason::NotFiltered),
        to("port one below", "8.8.8.8", SERVER, 442, Reason::NotFiltered),
        to("port one above", "8.8.8.8", SERVER, 444, Reason::NotFiltered),
        to("denied source to another port", "10.0.0.1", SERVER, 22, Reason::NotFiltered),
        to("listed address", "8.8.8.8", SERVER, 8443, Reason::NoRange),
        to("unlisted address", "8.8.8.8", "198.51.100.2", 8443, Reason::NotFiltered),
        to("listed IPv6 address", "2600::1", SERVER_V6, 8443, Reason::NoRange),
        to("unlisted IPv6 address", "2600::1", "2001:db8:ffff::2", 8443, Reason::NotFiltered),
        case("UDP to the port", udp.frame("8.8.8.8", SERVER), Reason::NotFiltered, 0),
        case("UDP over IPv6", udp.frame("2600::1", SERVER_V6), Reason::NotFiltered, 0),
    ]
}

/// A SYN of a foreign source to the port, in a tunnel that ends at this host. The outer header is judged, and it is not TCP. What the host
/// takes out of the tunnel arrives at another interface.
fn tunnels() -> Vec<Case> {
    let inner = |source: &str, destination: &str| Datagram::tcp(443, SYN).frame(source, destination);
    let (ipv4, ipv6) = (inner("8.8.8.8", SERVER), inner("2600::1", SERVER_V6));
    let tunnel = |name, protocol, prefix: &[u8], inner: &[u8], outer: [&str; 2]| {
        let payload = [prefix, inner].concat();
        let datagram = Datagram { protocol, payload, ..Datagram::tcp(443, SYN) };
        case(name, datagram.frame(outer[0], outer[1]), Reason::NotFiltered, 0)
    };
    let (over_ipv4, over_ipv6) = (["8.8.8.8", SERVER], ["2600::1", SERVER_V6]);
    // From and to the port of VXLAN, length and checksum; flags and number of the network.
    let vxlan = [0x9c, 0x40, 0x12, 0xb5, 0, 0, 0, 0, 0x08, 0, 0, 0, 0, 0, 1, 0];
    let mut pppoe = ipv4[..12].to_vec();
    pppoe.extend([0x88, 0x64, 0x11, 0, 0, 1, 0, 42, 0, 0x21]);
    pppoe.extend(&ipv4[14..]);
    std::vec![
        tunnel("IPv4 in IPv4", IPV4_IN_IP, &[], &ipv4[14..], over_ipv4),
        tunnel("IPv6 in IPv4", IPV6_IN_IP, &[], &ipv6[14..], over_ipv4),
        tunnel("IPv4 in IPv6", IPV4_IN_IP, &[], &ipv4[14..], over_ipv6),
        tunnel("IPv6 in IPv6", IPV6_IN_IP, &[], &ipv6[14..], over_ipv6),
        tunnel("GRE", GRE, &[0, 0, 0x08, 0], &ipv4[14..], over_ipv4),
        tunnel("GRE of a denied source", GRE, &[0, 0, 0x08, 0], &ipv4[14..], ["10.0.0.1", SERVER]),
        tunnel("VXLAN", UDP, &vxlan, &ipv4, over_ipv4),
        Case { name: "PPPoE", frame: pppoe, family: Family::Other, reason: Reason::NotFiltered, set: 0 },
    ]
}

fn links() -> Vec<Case> {
    let tagged = |name, tags: &[u16], source: &str, reason, set| {
        let server = if source.contains(':') { SERVER_V6 } else { SERVER };
        let datagram = Datagram { tags: tags.to_vec(), ..Datagram::tcp(443, SYN) };
        case(name, datagram.frame(source, server), reason, set)
    };
    let mut arp = std::vec![0xff; 12];
    arp.extend([0x08, 0x06]);
    arp.extend([0; 46]);
    let short = arp[..14].to_vec();
    let other = |name, frame| Case { name, frame, family: Family::Other, reason: Reason::NotFiltered, set: 0 };
    let three = Datagram { tags: std::vec![0x8100; 3], ..Datagram::tcp(443, SYN) };
    let ipv4_tag_only = [&[0x02; 12][..], &[0x81, 0x00, 0, 1]].concat();
    std::vec![
        tagged("VLAN, foreign", &[0x8100], "8.8.8.8", Reason::NoRange, 0),
        tagged("VLAN, allowed", &[0x8100], "192.0.2.7", Reason::Allowed, 1),
        tagged("VLAN over IPv6, foreign", &[0x8100], "2600::1", Reason::NoRange, 0),
        tagged("VLAN over IPv6, allowed", &[0x8100], "2001:db8:1::1", Reason::Allowed, 1),
        tagged("QinQ, foreign", &[0x88a8, 0x8100], "8.8.8.8", Reason::NoRange, 0),
        tagged("QinQ, allowed", &[0x88a8, 0x8100], "192.0.2.7", Reason::Allowed, 1),
        tagged("old QinQ, foreign", &[0x9100, 0x8100], "8.8.8.8", Reason::NoRange, 0),
        tagged("QinQ over IPv6, foreign", &[0x88a8, 0x8100], "2600::1", Reason::NoRange, 0),
        other("three tags", three.frame("8.8.8.8", SERVER)),
        other("ARP", arp),
        other("Ethernet header alone", short),
        other("tag cut off", ipv4_tag_only),
    ]
}

fn ipv4_headers() -> Vec<Case> {
    let plain = Datagram::tcp(443, SYN);
    let with_options = |options| Datagram { options, ..plain.clone() };
    let fragment = |fragment, payload: usize| {
        let payload = plain.payload.iter().copied().take(payload).collect();
        Datagram { fragment, payload, ..plain.clone() }
    };
    let foreign = |name, datagram: &Datagram, reason| case(name, datagram.frame("8.8.8.8", SERVER), reason, 0);
    let mut bad_length = plain.frame("8.8.8.8", SERVER);
    bad_length[14] = 0x44;
    let mut cut = plain.frame("8.8.8.8", SERVER);
    cut.truncate(14 + 20 + 3);
    let mut header_cut = plain.frame("8.8.8.8", SERVER);
    header_cut.truncate(14 + 19);
    std::vec![
        foreign("four bytes of options", &with_options(4), Reason::NoRange),
        foreign("forty bytes of options", &with_options(40), Reason::NoRange),
        case("options, allowed", with_options(12).frame("192.0.2.7", SERVER), Reason::Allowed, 1),
        foreign("do not fragment", &fragment(0x4000, 20), Reason::NoRange),
        foreign("first fragment", &fragment(0x2000, 16), Reason::NoRange),
        foreign("first fragment of eight bytes", &fragment(0x2000, 8), Reason::NoRange),
        case("first fragment, allowed", fragment(0x2000, 8).frame("192.0.2.7", SERVER), Reason::Allowed, 1),
        foreign("later fragment", &fragment(0x2001, 8), Reason::LaterFragment),
        foreign("last fragment", &fragment(0x0002, 8), Reason::LaterFragment),
        case("header length below twenty", bad_length, Reason::Truncated, 0),
        case("ends within the ports", cut, Reason::Truncated, 0),
        case("ends within the header", header_cut, Reason::Truncated, 0),
    ]
}

fn ipv6_headers() -> Vec<Case> {
    let chain = |extensions: Vec<(u8, Vec<u8>)>| Datagram { extensions, ..Datagram::tcp(443, SYN) };
    let foreign = |name, extensions, reason| case(name, chain(extensions).frame("2600::1", SERVER_V6), reason, 0);
    let allowed =
        |name, extensions| case(name, chain(extensions).frame("2001:db8:1::1", SERVER_V6), Reason::Allowed, 1);
    let every = std::vec![
        extension(HOP_BY_HOP, 1),
        extension(DESTINATION_OPTIONS, 2),
        extension(ROUTING, 3),
        fragment_header(0x0001),
        authentication_header(),
        extension(DESTINATION_OPTIONS, 1),
    ];
    let repeated = |count| core::iter::repeat_n(extension(DESTINATION_OPTIONS, 1), count).collect::<Vec<_>>();
    let mut cut = chain(std::vec![extension(HOP_BY_HOP, 1)]).frame("2600::1", SERVER_V6);
    cut.truncate(14 + 40 + 2);
    let mut header_cut = Datagram::tcp(443, SYN).frame("2600::1", SERVER_V6);
    header_cut.truncate(14 + 39);
    let ssh = Datagram { payload: segment(22, SYN), ..chain(repeated(2)) };
    std::vec![
        foreign("hop-by-hop options", std::vec![extension(HOP_BY_HOP, 1)], Reason::NoRange),
        foreign("destination options of 64 bytes", std::vec![extension(DESTINATION_OPTIONS, 8)], Reason::NoRange),
        foreign("every kind of header", every.clone(), Reason::NoRange),
        allowed("every kind of header, allowed", every),
        foreign("authentication header", std::vec![authentication_header()], Reason::NoRange),
        foreign("first fragment, IPv6", std::vec![fragment_header(0x0001)], Reason::NoRange),
        foreign("atomic fragment", std::vec![fragment_header(0x0000)], Reason::NoRange),
        foreign("later fragment, IPv6", std::vec![fragment_header(0x0009)], Reason::LaterFragment),
        foreign("last fragment, IPv6", std::vec![fragment_header(0x0008)], Reason::LaterFragment),
        foreign("as many headers as are followed", repeated(8), Reason::NoRange),
        foreign("one header more", repeated(9), Reason::HeaderChain),
        case("one header more, allowed", chain(repeated(9)).frame("2001:db8:1::1", SERVER_V6), Reason::Allowed, 1),
        foreign("headers beyond the bound", std::vec![extension(DESTINATION_OPTIONS, 126)], Reason::HeaderChain),
        foreign("encrypted payload", std::vec![extension(ENCRYPTED, 2)], Reason::NotFiltered),
        case("headers before SSH", ssh.frame("2600::1", SERVER_V6), Reason::NotFiltered, 0),
        case("ends within an extension header", cut, Reason::Truncated, 0),
        case("ends within the IPv6 header", header_cut, Reason::Truncated, 0),
    ]
}
