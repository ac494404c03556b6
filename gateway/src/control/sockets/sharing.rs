//! Other processes on hookgate's ports.
//!
//! Workers share a port by `SO_REUSEPORT`, and so could any other process of the same user: the kernel would give it part of the
//! connections, silently. Owns the look at the kernel's table of listening sockets, and which of them take connections from ours. Must
//! not decide what follows.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use rustix::fs::fstat;

/// The tables of this network namespace, with IPv4 and IPv6 sockets (proc_pid_net(5)). Under `ProcSubset=pid` they are still there.
const TABLES: [&str; 2] = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];

/// The state of a listening socket in the table (TCP_LISTEN).
const LISTENING: &str = "0A";

/// The inodes of sockets, by which the table names them. Duplicates of a descriptor have the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::control) struct Inodes(HashSet<u64>);

impl Inodes {
    /// Those of `sockets`.
    pub(super) fn of<Socket: AsFd>(sockets: impl IntoIterator<Item = Socket>) -> Self {
        Self(sockets.into_iter().filter_map(|socket| fstat(socket).ok()).map(|status| status.st_ino).collect())
    }
}

/// A listening socket of this network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Listening {
    address: SocketAddr,
    inode: u64,
}

/// The addresses on which sockets that are not in `own` listen and take connections to one of `addresses`, each with that one. Empty
/// if the tables cannot be read.
pub(super) fn rivals(addresses: &[SocketAddr], own: &Inodes) -> Vec<(SocketAddr, SocketAddr)> {
    let tables = TABLES.iter().filter_map(|path| File::open(path).ok());
    let listening = tables.flat_map(|table| listening(BufReader::new(table)));
    let foreign = listening.filter(|socket| !own.0.contains(&socket.inode)).map(|socket| socket.address);
    foreign
        .filter_map(|theirs| addresses.iter().find(|ours| takes_from(**ours, theirs)).map(|ours| (*ours, theirs)))
        .collect()
}

/// Whether any process listens on `address`, or on all addresses with its port.
pub(in crate::control) fn is_listened_on(address: SocketAddr) -> bool {
    let tables = TABLES.iter().filter_map(|path| File::open(path).ok());
    let mut sockets = tables.flat_map(|table| listening(BufReader::new(table))).map(|socket| socket.address);
    sockets.any(|theirs| takes_from(address, theirs) || takes_from(theirs, address))
}

/// Whether a socket on `theirs` gets connections that a socket on `ours` would get without it: it has the same address, or a more
/// specific one. The kernel prefers the most specific.
fn takes_from(ours: SocketAddr, theirs: SocketAddr) -> bool {
    let is_within = ours.ip() == theirs.ip() || (ours.ip().is_unspecified() && ours.is_ipv4() == theirs.is_ipv4());
    ours.port() == theirs.port() && ours.port() != 0 && is_within
}

/// The listening sockets of a table. The kernel lists them before all others, so the read ends with the first other one: a host with
/// a million connections costs no more.
fn listening(table: impl BufRead) -> Vec<Listening> {
    let rows = table.lines().skip(1).map_while(|line| row(&line.ok()?));
    rows.take_while(|(state, _)| state == LISTENING).map(|(_, socket)| socket).collect()
}

/// The state and the socket of a line of the table.
fn row(line: &str) -> Option<(String, Listening)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    let (ip, port) = local.split_once(':')?;
    let address = SocketAddr::new(address(ip)?, u16::from_str_radix(port, 16).ok()?);
    Some(((*state).to_owned(), Listening { address, inode: inode.parse().ok()? }))
}

/// An address as the table has it: words of 32 bits in the byte order of the network, each printed as a number of this machine.
fn address(hex: &str) -> Option<IpAddr> {
    let word = |index: usize| {
        let digits = hex.get(8 * index..8 * index + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let mut bytes = [0; 16];
            bytes.copy_from_slice(words.as_flattened());
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

/// Watches the ports while hookgate serves, and tells of a process that joins or leaves.
#[derive(Debug)]
pub(in crate::control) struct PortWatch {
    addresses: Vec<SocketAddr>,
    own: Inodes,
    /// What was there at the last look.
    known: Vec<(SocketAddr, SocketAddr)>,
}

impl PortWatch {
    /// Watches `addresses`, on which the sockets of `own` listen.
    pub(super) fn new(addresses: Vec<SocketAddr>, own: Inodes) -> Self {
        Self { addresses, own, known: Vec::new() }
    }

    /// Looks at the kernel's table, and logs what has changed since the last look.
    pub(in crate::control) fn attend(&mut self) {
        let mut rivals = rivals(&self.addresses, &self.own);
        rivals.dedup();
        for (ours, theirs) in rivals.iter().filter(|rival| !self.known.contains(rival)) {
            tracing::error!(
                address = %ours,
                other = %theirs,
                "another process listens on this port and takes connections from hookgate (SO_REUSEPORT); end it: \
                 `ss -ltnp` shows it"
            );
        }
        for (ours, theirs) in self.known.iter().filter(|rival| !rivals.contains(rival)) {
            tracing::info!(address = %ours, other = %theirs, "the other process on this port has ended");
        }
        self.known = rivals;
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_socket_of_another_process_is_a_rival_and_ours_is_not() {
        let (ours, _other) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let address = ours.local_addr().unwrap();
        let unspecified = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
        let another_host = SocketAddr::new(Ipv4Addr::new(127, 0, 0, 2).into(), address.port());
        let none = Inodes::default();
        assert_eq!(rivals(&[address], &Inodes::of([ours.try_clone().unwrap()])), []);
        assert_eq!(rivals(&[another_host, address], &none), [(address, address)]);
        assert_eq!(rivals(&[unspecified], &none), [(unspecified, address)]);
        assert_eq!(rivals(&[another_host], &none), []);
        // A connection has the port too, and is none.
        let _open = TcpStream::connect(address).unwrap();
        drop(ours);
        assert_eq!(rivals(&[address], &none), []);
    }

    #[test]
    fn ipv6_has_a_table_of_its_own() {
        let ours = TcpListener::bind("[::1]:0").unwrap();
        let address = ours.local_addr().unwrap();
        let unspecified = |ip: IpAddr| SocketAddr::new(ip, address.port());
        let (four, six) = (unspecified(Ipv4Addr::UNSPECIFIED.into()), unspecified(Ipv6Addr::UNSPECIFIED.into()));
        assert_eq!(rivals(&[four], &Inodes::default()), []);
        assert_eq!(rivals(&[four, six], &Inodes::default()), [(six, address)]);
    }

    #[test]
    fn a_less_specific_address_takes_nothing_from_a_specific_one() {
        let check = |ours: &str, theirs: &str, expected: bool| {
            assert_eq!(takes_from(ours.parse().unwrap(), theirs.parse().unwrap()), expected, "{ours} {theirs}");
        };
        check("192.0.2.1:443", "192.0.2.1:443", true);
        check("0.0.0.0:443", "0.0.0.0:443", true);
        check("0.0.0.0:443", "192.0.2.1:443", true);
        check("192.0.2.1:443", "0.0.0.0:443", false);
        check("192.0.2.1:443", "192.0.2.1:444", false);
        check("0.0.0.0:443", "[2001:db8::1]:443", false);
        check("[::]:443", "[2001:db8::1]:443", true);
        check("0.0.0.0:0", "192.0.2.1:0", false);
    }

    #[test]
    fn the_table_is_read_up_to_the_first_socket_that_does_not_listen() {
        let row = |address: &str, state: &str, inode: u64| {
            format!(
                "   0: {address} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1\n"
            )
        };
        let addresses = if cfg!(target_endian = "little") {
            ["0100007F:1F90", "00000000000000000000000001000000:01BB"]
        } else {
            ["7F000001:1F90", "00000000000000000000000000000001:01BB"]
        };
        let table = "  sl  local_address rem_address   st\n".to_owned()
            + &row(addresses[0], "0A", 7)
            + &row(addresses[1], "0A", 8)
            + &row(addresses[0], "01", 9)
            + &row(addresses[0], "0A", 10);
        let found: Vec<_> =
            listening(table.as_bytes()).iter().map(|socket| (socket.address.to_string(), socket.inode)).collect();
        assert_eq!(found, [("127.0.0.1:8080".to_owned(), 7), ("[::1]:443".to_owned(), 8)]);
        for damaged in ["", "header\n", "header\nx\n", "header\n0: 0100007F 0 0A 0 0 0 0 0 7\n"] {
            assert_eq!(listening(damaged.as_bytes()), [], "{damaged:?}");
        }
    }

    #[test]
    fn a_rival_is_known_until_it_has_ended() {
        let ours = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = ours.local_addr().unwrap();
        let mut watch = PortWatch::new(vec![address], Inodes::default());
        watch.attend();
        assert_eq!(watch.known, [(address, address)]);
        drop(ours);
        watch.attend();
        assert_eq!(watch.known, []);
    }
}
