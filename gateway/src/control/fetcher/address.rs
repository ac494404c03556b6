//! Which addresses are fetched from: public ones, unless a source allows others.
//!
//! Owns that judgement. A URL in a configuration, a redirect or a name that resolves to this host or its networks would let a publisher
//! reach what it cannot reach itself. Must not resolve or connect: `fetch` does.

use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use hyper_util::client::legacy;

use super::error::FetchError;
use crate::config::FeedUrl;

/// The resolver found no public address.
#[derive(Debug, thiserror::Error)]
#[error("no public address")]
pub(super) struct NoPublicAddress;

pub(super) fn is_not_public(error: &legacy::Error) -> bool {
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(error) = cause {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if inner.is_some_and(|inner| inner.is::<NoPublicAddress>()) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// An address in a URL is not resolved, so the resolver does not judge it.
pub(in crate::control) fn check_literal(url: &FeedUrl, allow_private: bool) -> Result<(), FetchError> {
    let host = url.uri().host().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    if address.is_ok_and(|address| !allow_private && !is_public(address)) {
        return Err(FetchError::NotPublic { host: format!("{host}:{}", url.port()) });
    }
    Ok(())
}

/// Whether a server on the internet can have this address. The others lead into this host or its networks (RFC 6890).
pub(super) fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            let is_shared = first == 100 && second & 0xc0 == 64;
            let is_reserved = first == 0 || first >= 240;
            !(address.is_loopback()
                || address.is_private()
                || address.is_link_local()
                || address.is_multicast()
                || is_shared
                || is_reserved)
        }
        IpAddr::V6(address) => {
            // RFC 6052 and 4291: the IPv4 address that is embedded decides, as behind a NAT64.
            let [head @ .., high, low] = address.segments();
            if head == [0x64, 0xff9b, 0, 0, 0, 0] {
                let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
                return is_public(IpAddr::V4(Ipv4Addr::new(a, b, c, d)));
            }
            // 2000::/3 is all that is assigned for global unicast (RFC 4291, section 2.4). 2002::/16 leads to an embedded IPv4 address.
            let first = address.segments()[0];
            first & 0xe000 == 0x2000 && first != 0x2002
        }
    }
}
