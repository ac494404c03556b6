//! What operators write who know another server, or look for a key in another section: what they mean, and where it belongs.
//!
//! Owns these few names. Must not decide what a key means: the sections do.

use crate::config::error::Problem;

/// Keys that are looked for elsewhere: each with the section that has it, and what to write there.
const ELSEWHERE: [(&str, &str, &str); 4] = [
    ("acme", "[[certificate]]", "acme = { domains = [\"hooks.example.com\"], directory = \"letsencrypt\", … }"),
    ("http2", "[listen]", "http2 = true"),
    ("key_exchange", "[tls]", "key_exchange = [\"X25519\", \"P-256\"]"),
    ("proxy_protocol", "[listen]", "proxy_protocol = { from = [\"10.0.1.0/24\"] }"),
];

/// Names of key exchange groups that IANA and OpenSSL have, each with the word of the configuration.
const OTHER_NAMES: [(&str, &str); 5] =
    [("P256", "P-256"), ("P384", "P-384"), ("prime256v1", "P-256"), ("secp256r1", "P-256"), ("secp384r1", "P-384")];

/// The problem of a key that is unknown where it is written, and belongs to another section.
pub(super) fn elsewhere(key: &str) -> Option<Problem> {
    let (_, section, write) = ELSEWHERE.iter().find(|(name, ..)| *name == key)?;
    Some(Problem::KeyOfSection { section, write })
}

/// The word among `known` that `word` is another name of: in other cases, or that of another program.
pub(super) fn word<'n>(word: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let other = OTHER_NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
    let meant = other.map_or(word, |(_, meant)| *meant);
    known.into_iter().find(|known| known.eq_ignore_ascii_case(meant))
}
