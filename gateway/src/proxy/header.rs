//! The header of the PROXY protocol (<https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>): where it ends, and what it conveys.
//!
//! Owns the bounds, and what is refused although the protocol knows it. Pure: bytes to [`Header`]. The addresses are read by `ppp`, which
//! gets whole headers only. Must not decide who may send a header: the room does.

use std::net::SocketAddr;

use hookgate_core::reject::{Refusal, Reject};
use ppp::{v1, v2};
use thiserror::Error;

/// The beginning of a header of version 1 (section 2.1).
const TEXT: &[u8] = b"PROXY ";

/// The beginning of a header of version 2 (section 2.2).
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes of the signature by which a header is told from all else: no TLS record and no request begins with them.
const TELLING: usize = 5;

/// What conveys no address, in version 1: everything up to the end of the line is ignored.
const UNKNOWN: &[u8] = b"PROXY UNKNOWN";

/// Bytes of a header of version 2 before its addresses: signature, version and command, family and protocol, length.
const FIXED_BYTES: usize = 16;

/// Version 2, and the command LOCAL: the proxy connects for itself.
const LOCAL: u8 = 0x20;

/// Version 2, and the command PROXY.
const PROXY: u8 = 0x21;

/// Most bytes of a header of version 1, with the end of its line (section 2.1).
pub const MAXIMUM_LINE_BYTES: usize = 107;

/// Most bytes of a header. The addresses take 52; the rest is for what a proxy adds about the connection, such as a server name or a
/// certificate. nginx has the same bound (`NGX_PROXY_PROTOCOL_MAX_HEADER`).
pub const MAXIMUM_BYTES: usize = 4096;

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its length in bytes.
    pub length: usize,
    /// The address of the peer, an IPv4-mapped one as IPv4. `None` if the proxy connects for itself, or does not know the address.
    pub source: Option<SocketAddr>,
}

/// Why the beginning of a connection is no header that hookgate takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Flaw {
    /// There is none.
    #[error(
        "The connection comes from a range of proxy_protocol and begins with no header of the PROXY protocol: turn it on at the proxy, or take the address out of the ranges."
    )]
    Missing,
    /// The line of version 1 is too long.
    #[error("The header of version 1 is longer than {MAXIMUM_LINE_BYTES} bytes.")]
    LongLine,
    /// The line of version 1 is not well-formed.
    #[error(
        "The header of version 1 is malformed: PROXY, TCP4 or TCP6, two addresses and two ports must be in one line."
    )]
    MalformedLine,
    /// Version 2 announces too much.
    #[error(
        "The header of version 2 has {length} bytes, and hookgate takes at most {MAXIMUM_BYTES}: let the proxy add less to it."
    )]
    Long {
        /// What is announced, with the bytes before the addresses.
        length: usize,
    },
    /// Neither PROXY nor LOCAL, or another version.
    #[error("The header has the version and command {0:#04x}; hookgate knows 0x20 (LOCAL) and 0x21 (PROXY).")]
    Command(u8),
    /// UNIX sockets, datagrams, or what is not assigned.
    #[error(
        "The header has the address family and protocol {0:#04x}; hookgate takes 0x11 (TCP over IPv4), 0x21 (TCP over IPv6) and 0x00 (unknown)."
    )]
    Family(u8),
    /// The addresses take more than the announced length.
    #[error("The header of version 2 is shorter than its addresses.")]
    ShortAddresses,
}

impl Flaw {
    /// What is counted and logged.
    pub fn refusal(self) -> Refusal {
        let reject = match self {
            Self::Missing => Reject::ProxyHeaderMissing,
            _ => Reject::ProxyHeaderInvalid,
        };
        Refusal::new(reject, self.to_string())
    }
}

/// Whether a connection that must not have a header begins with one.
pub fn is_header(start: &[u8]) -> bool {
    start.starts_with(TEXT) || start.starts_with(&SIGNATURE[..TELLING])
}

/// Reads the header that the bytes of a connection begin with. `None` as long as its end is missing, at most for [`MAXIMUM_BYTES`].
///
/// # Errors
///
/// [`Flaw`], as soon as it shows.
pub fn read(start: &[u8]) -> Result<Option<Header>, Flaw> {
    let is_like = |mark: &[u8]| mark.iter().zip(start).all(|(expected, found)| expected == found);
    if is_like(SIGNATURE) {
        binary(start)
    } else if is_like(TEXT) {
        text(start)
    } else {
        Err(Flaw::Missing)
    }
}

/// Version 1.
fn text(start: &[u8]) -> Result<Option<Header>, Flaw> {
    let head = &start[..start.len().min(MAXIMUM_LINE_BYTES)];
    let Some(end) = head.iter().position(|byte| *byte == b'\n') else {
        return if head.len() < MAXIMUM_LINE_BYTES { Ok(None) } else { Err(Flaw::LongLine) };
    };
    let line = &head[..=end];
    let source = if is_unknown(line) { None } else { Some(addresses(line)?) };
    Ok(Some(Header { length: line.len(), source }))
}

/// Whether a line says that the proxy does not know the addresses.
fn is_unknown(line: &[u8]) -> bool {
    let rest = line.strip_suffix(b"\r\n").and_then(|line| line.strip_prefix(UNKNOWN));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b' ')))
}

/// The address of the peer in a line.
fn addresses(line: &[u8]) -> Result<SocketAddr, Flaw> {
    let header = v1::Header::try_from(line).map_err(|_| Flaw::MalformedLine)?;
    match header.addresses {
        v1::Addresses::Tcp4(found) => Ok(SocketAddr::from((found.source_address, found.source_port))),
        v1::Addresses::Tcp6(found) => Ok(canonical((found.source_address, found.source_port))),
        v1::Addresses::Unknown => Err(Flaw::MalformedLine),
    }
}

/// Version 2.
fn binary(start: &[u8]) -> Result<Option<Header>, Flaw> {
    let Some([.., command, family, high, low]) = start.first_chunk::<FIXED_BYTES>() else { return Ok(None) };
    let length = FIXED_BYTES + usize::from(u16::from_be_bytes([*high, *low]));
    if length > MAXIMUM_BYTES {
        return Err(Flaw::Long { length });
    }
    let has_addresses = match (*command, *family) {
        // What follows is ignored, the family too.
        (LOCAL, _) | (PROXY, 0) => false,
        (PROXY, 0x11 | 0x21) => true,
        (PROXY, family) => return Err(Flaw::Family(family)),
        (command, _) => return Err(Flaw::Command(command)),
    };
    let Some(whole) = start.get(..length) else { return Ok(None) };
    if !has_addresses {
        return Ok(Some(Header { length, source: None }));
    }
    let header = v2::Header::try_from(whole).map_err(|_| Flaw::ShortAddresses)?;
    let source = match header.addresses {
        v2::Addresses::IPv4(found) => SocketAddr::from((found.source_address, found.source_port)),
        v2::Addresses::IPv6(found) => canonical((found.source_address, found.source_port)),
        v2::Addresses::Unspecified | v2::Addresses::Unix(_) => return Err(Flaw::Family(*family)),
    };
    Ok(Some(Header { length, source: Some(source) }))
}

/// An IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2) as IPv4.
fn canonical(address: (std::net::Ipv6Addr, u16)) -> SocketAddr {
    let address = SocketAddr::from(address);
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests;
