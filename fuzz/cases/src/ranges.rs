//! Target `ranges`: a file of address ranges, as an operator keeps it or a sender publishes it.

use std::net::IpAddr;

use hookgate_core::ranges;
use ipnet::IpNet;

use crate::memory::{INPUT, check_errors, parse};

const CONFIGURATION: &str = "[listen]\naddresses = [\"127.0.0.1:0\"]\n\
     [[certificate]]\nchain = \"fullchain.pem\"\nkey = \"privkey.pem\"\n\
     [[provider]]\nname = \"sender\"\ntrust_anchors = [\"ca.pem\"]\nidentity = [{ subject_cn = \"sender\" }]\n\
     proof = \"certificate\"\nsource_range_files = [\"@\"]\n\
     [[route]]\npath = \"/hook\"\nproviders = [\"sender\"]\nhandler = \"unix:/run/app.sock\"\n";

/// Loads the file. The set must contain exactly the addresses of the ranges in it.
pub fn judge(input: &[u8]) {
    let (config, _) = match parse(&CONFIGURATION.replace('@', INPUT), input) {
        Ok(parsed) => parsed,
        Err(errors) => return check_errors(&errors),
    };
    let sources = &config.sources[0];
    let written = written(input);
    assert!(!written.is_empty(), "a file without ranges was accepted");
    for range in &written {
        for address in [range.network(), range.broadcast(), before(range.network()), after(range.broadcast())] {
            let expected = written.iter().any(|range| range.contains(&address.to_canonical()));
            assert_eq!(sources.ranges.contains(address), expected, "{address} in {written:?}");
        }
    }
}

/// The ranges in the file, found without its format: everything between delimiters that is one.
fn written(input: &[u8]) -> Vec<IpNet> {
    let text = String::from_utf8_lossy(input);
    if text.trim_start().starts_with(['[', '{']) {
        let value: serde_json::Value = serde_json::from_str(&text).expect("an accepted file in this form is JSON");
        let entries = value.get("prefixes").unwrap_or(&value).as_array().cloned().unwrap_or_default();
        let text = |entry: &serde_json::Value| {
            let either = entry.get("ipv4Prefix").filter(|text| !text.is_null()).or_else(|| entry.get("ipv6Prefix"));
            either.unwrap_or(entry).as_str().map(str::to_owned)
        };
        return entries.iter().filter_map(|entry| ranges::parse(&text(entry)?).ok()).collect();
    }
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines.filter_map(|line| ranges::parse(line.trim()).ok()).collect()
}

fn before(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => std::net::Ipv4Addr::from_bits(address.to_bits().saturating_sub(1)).into(),
        IpAddr::V6(address) => std::net::Ipv6Addr::from_bits(address.to_bits().saturating_sub(1)).into(),
    }
}

fn after(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => std::net::Ipv4Addr::from_bits(address.to_bits().saturating_add(1)).into(),
        IpAddr::V6(address) => std::net::Ipv6Addr::from_bits(address.to_bits().saturating_add(1)).into(),
    }
}
