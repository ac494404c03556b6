//! How long an answer is fresh: the reading of `Cache-Control` and `Age`.
//!
//! Must not bound it: the limits of a source do.

use std::time::Duration;

use hyper::header::{AGE, CACHE_CONTROL, HeaderMap};

/// How long a document is fresh if its publisher does not say.
const DEFAULT_FRESH: Duration = Duration::from_secs(3600);

/// How long an answer is fresh (RFC 9111, sections 4.2 and 5.2.2): `max-age` less `Age`; nothing at all under `no-cache` and
/// `no-store`, which the limits then make a minimum of.
pub(super) fn freshness(headers: &HeaderMap) -> Duration {
    let mut max_age = None;
    for value in headers.get_all(CACHE_CONTROL) {
        for directive in value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            let (name, argument) = match directive.iter().position(|&byte| byte == b'=') {
                Some(equals) => (&directive[..equals], &directive[equals + 1..]),
                None => (directive, &b""[..]),
            };
            if name.eq_ignore_ascii_case(b"no-cache") || name.eq_ignore_ascii_case(b"no-store") {
                return Duration::ZERO;
            }
            if name.eq_ignore_ascii_case(b"max-age") {
                let argument =
                    argument.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(argument);
                // RFC 9111, section 4.2.1: of several, the first or the shortest; and one that is no number is stale.
                let seconds = seconds(argument).unwrap_or(0);
                max_age = Some(max_age.map_or(seconds, |before: u64| before.min(seconds)));
            }
        }
    }
    let age = headers.get(AGE).and_then(|age| seconds(age.as_bytes())).unwrap_or(0);
    max_age.map_or(DEFAULT_FRESH, |max_age| Duration::from_secs(max_age.saturating_sub(age)))
}

/// RFC 9111, section 1.2.2: digits; a number too large to hold counts as very large.
fn seconds(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(std::str::from_utf8(digits).ok()?.parse().unwrap_or(u64::from(u32::MAX)))
}
