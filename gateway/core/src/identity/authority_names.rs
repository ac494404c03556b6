//! The names of authorities that a CertificateRequest lists.
//!
//! Owns which names these are, and how long the list may be. Must not send it: the daemon's `tls` does.

use std::collections::HashSet;

use rustls::DistinguishedName as EncodedName;

use super::Provider;

/// The most bytes of a list, each name with its length of two bytes. TLS allows 65,535 (RFC 8446, section 4.2.4), and rustls does not
/// check it. Java reads handshake messages of up to 32,768 bytes (`jdk.tls.maxHandshakeMessageSize`), and the rest of a
/// CertificateRequest takes some hundred.
const MAX_LIST_BYTES: usize = 32_000;

/// The distinct subjects of the trust anchors of `providers`, each a DER-encoded `Name`, so that a sender with several certificates
/// selects the right one (RFC 8446, section 4.2.4). `None` if the list would have more than 32,000 bytes: without a list, a sender
/// may present any certificate, and with a part of it, it would not present some that are admitted.
pub fn authority_names<'provider>(providers: impl Iterator<Item = &'provider Provider>) -> Option<Vec<Vec<u8>>> {
    let anchors = providers.flat_map(|provider| &provider.profiles).flat_map(|profile| profile.trust_anchors.iter());
    let mut seen = HashSet::new();
    let names: Vec<Vec<u8>> = anchors
        .map(|anchor| anchor.subject.as_ref())
        .filter(|subject| seen.insert(*subject))
        .map(|subject| EncodedName::in_sequence(subject).as_ref().to_vec())
        .collect();
    let bytes: usize = names.iter().map(|name| 2 + name.len()).sum();
    (bytes <= MAX_LIST_BYTES).then_some(names)
}
