//! Target `proxy_header`: what a connection from a proxy begins with.
//!
//! Input: the first bytes. Where a header ends and which address it conveys is compared with a second reading, by other means.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hookgate::proxy::header::{self, Header, MAXIMUM_BYTES, MAXIMUM_LINE_BYTES};

/// Judges one input.
///
/// # Panics
///
/// A promise is broken.
pub fn judge(input: &[u8]) {
    let verdict = header::read(input);
    match verdict {
        Ok(Some(found)) => {
            assert_eq!(Some(found), reference(input), "another header");
            assert!(found.length <= MAXIMUM_BYTES && found.length <= input.len(), "{found:?} is out of bounds");
            assert!(!found.source.is_some_and(|source| is_mapped(source.ip())), "{found:?} is not canonical");
            assert!(header::is_header(input), "an unexpected header would pass for something else");
            assert_eq!(header::read(&input[..found.length]), verdict, "what follows counts");
            assert_eq!(header::read(&input[..found.length - 1]), Ok(None), "the header ends earlier");
        }
        Ok(None) => assert!(input.len() < MAXIMUM_BYTES, "a header without an end"),
        Err(flaw) => {
            assert!(flaw.refusal().detail().is_ascii(), "bytes of the proxy in {flaw}");
            // More bytes do not mend it.
            assert_eq!(header::read(&[input, b"\r\n", &[0; 64]].concat()), verdict);
        }
    }
}

fn is_mapped(address: IpAddr) -> bool {
    address.to_canonical() != address
}

/// The header, if the input has one that is taken.
fn reference(input: &[u8]) -> Option<Header> {
    if let Some(rest) = input.strip_prefix(b"\r\n\r\n\0\r\nQUIT\n") {
        let (fixed, rest) = rest.split_first_chunk::<4>()?;
        let length = usize::from(fixed[2]) << 8 | usize::from(fixed[3]);
        let rest = rest.get(..length)?;
        let source = match fixed[..2] {
            [0x20, _] | [0x21, 0] => None,
            [0x21, 0x11] => {
                let octets: [u8; 4] = rest.get(..4)?.try_into().ok()?;
                Some(socket(IpAddr::from(Ipv4Addr::from(octets)), rest.get(8..12)?))
            }
            [0x21, 0x21] => {
                let octets: [u8; 16] = rest.get(..16)?.try_into().ok()?;
                Some(socket(IpAddr::from(Ipv6Addr::from(octets)), rest.get(32..36)?))
            }
            _ => return None,
        };
        return Some(Header { length: 16 + length, source });
    }
    let end = input.iter().take(MAXIMUM_LINE_BYTES).position(|byte| *byte == b'\n')?;
    let line = std::str::from_utf8(input[..=end].strip_suffix(b"\r\n")?.strip_prefix(b"PROXY ")?);
    let words: Vec<&str> = line.unwrap_or("UNKNOWN ").split(' ').collect();
    let source = match words.as_slice() {
        ["UNKNOWN", ..] => None,
        ["TCP4", source, _, port, _] => Some((IpAddr::from(source.parse::<Ipv4Addr>().ok()?), port)),
        ["TCP6", source, _, port, _] => Some((IpAddr::from(source.parse::<Ipv6Addr>().ok()?), port)),
        _ => return None,
    };
    let source = source.map(|(address, port)| Some(SocketAddr::new(address.to_canonical(), port.parse().ok()?)));
    Some(Header { length: end + 1, source: source.map_or(Some(None), |found| found.map(Some))? })
}

/// The source address with its port, the first of two.
fn socket(address: IpAddr, ports: &[u8]) -> SocketAddr {
    SocketAddr::new(address.to_canonical(), u16::from_be_bytes([ports[0], ports[1]]))
}
