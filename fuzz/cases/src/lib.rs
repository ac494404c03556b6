//! What must hold for any input of a stranger: one function for each fuzz target.
//!
//! Each function takes any bytes, lets the gateway judge them, and panics if a promise is broken: bounds, soundness, agreement with a
//! reference. libFuzzer calls the functions (`fuzz/fuzz_targets`, run by `cargo xtask fuzz`), and `tests/corpora.rs` calls them on the
//! committed corpora and on mutations of those, with any compiler. Must not open files or sockets, beside files in memory.
#![expect(clippy::panic, reason = "a broken promise ends the case")]

pub mod chain;
pub mod configuration;
pub mod fields;
pub mod file;
pub mod head;
pub mod json;
pub mod key_set;
pub mod name;
pub mod packet;
pub mod proxy_header;
pub mod ranges;
pub mod revocation_list;
pub mod signature;
pub mod token;

mod memory;
mod policy;
#[cfg(test)]
mod tests;

/// One fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name of its libFuzzer program, and of its corpus below `fuzz/corpus`.
    pub name: &'static str,
    /// Judges one input. Panics if a promise is broken.
    pub judge: fn(&[u8]),
    /// How many mutations `tests/corpora.rs` tries: about half a second of a debug build.
    pub mutations: usize,
}

/// Every target.
pub const TARGETS: [Target; 14] = [
    Target { name: "chain", judge: chain::judge, mutations: 600 },
    Target { name: "configuration", judge: configuration::judge, mutations: 2000 },
    Target { name: "fields", judge: fields::judge, mutations: 1000 },
    Target { name: "file", judge: file::judge, mutations: 500 },
    Target { name: "head", judge: head::judge, mutations: 3000 },
    Target { name: "json", judge: json::judge, mutations: 6000 },
    Target { name: "key_set", judge: key_set::judge, mutations: 4000 },
    Target { name: "name", judge: name::judge, mutations: 600 },
    Target { name: "packet", judge: packet::judge, mutations: 6000 },
    Target { name: "proxy_header", judge: proxy_header::judge, mutations: 6000 },
    Target { name: "ranges", judge: ranges::judge, mutations: 600 },
    Target { name: "revocation_list", judge: revocation_list::judge, mutations: 3000 },
    Target { name: "signature", judge: signature::judge, mutations: 3000 },
    Target { name: "token", judge: token::judge, mutations: 6000 },
];
