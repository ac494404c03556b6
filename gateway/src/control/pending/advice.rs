//! What to compare and what to write so that a refused chain is admitted.
//!
//! Owns the choice of the trust anchor and the lines of TOML: those that admit the least beside the chain. [`written`] reads how the provider
//! is written. Must not write to the configuration: an operator does, after the comparison. What is shown of a certificate is printable
//! ASCII, since a peer made it.

mod written;

use data_encoding::HEXUPPER;
use hookgate_core::identity::ExtendedKeyUsage;
use rustls_pki_types::CertificateDer;
use toml::{Table, Value};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

pub(in crate::control) use self::written::Written;
use self::written::{Owner, unique};
use crate::config::day_of;
use crate::suspects::{Pending, sha256};

/// The most characters of a name that are shown.
const MAXIMUM_SHOWN: usize = 160;

/// What an operator has to do.
pub(in crate::control) struct Advice {
    /// What to compare with what, before anything is written.
    pub(in crate::control) check: String,
    /// What to write; empty if nothing helps.
    pub(in crate::control) blocks: Vec<Block>,
    /// The new trust anchor and the name of its file, if one is needed and known.
    pub(in crate::control) anchor: Option<(CertificateDer<'static>, String)>,
    /// What the lines change for the chain; `None` if there are none.
    pub(in crate::control) change: Option<Change>,
}

/// Lines of TOML that belong together.
pub(in crate::control) struct Block {
    /// Where they belong.
    pub(in crate::control) place: String,
    pub(in crate::control) lines: Vec<String>,
}

/// What a profile needs so that it admits the chain.
#[derive(Clone, Debug, Default)]
pub(in crate::control) struct Change {
    /// A new trust anchor.
    pub(in crate::control) anchor: Option<CertificateDer<'static>>,
    /// The least `verify_depth`.
    pub(in crate::control) verify_depth: Option<u8>,
    /// The strictest `extended_key_usage`.
    pub(in crate::control) extended_key_usage: Option<ExtendedKeyUsage>,
}

impl Advice {
    /// All lines, for the log.
    pub(in crate::control) fn lines(&self) -> Vec<&str> {
        self.blocks.iter().flat_map(|block| &block.lines).map(String::as_str).collect()
    }
}

/// A fingerprint as authorities print it: `9A:1A:…`.
pub(in crate::control) fn fingerprint(digest: &[u8]) -> String {
    digest.iter().map(|byte| HEXUPPER.encode(&[*byte])).collect::<Vec<_>>().join(":")
}

/// `subject "CN=…", issuer "CN=…", valid until 2027-01-01, SHA-256 9A:…`.
pub(in crate::control) fn describe(certificate: &[u8]) -> String {
    let digest = fingerprint(&sha256(certificate));
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return format!("SHA-256 {digest}") };
    let until = day_of(u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0));
    let (subject, issuer) = (shown(&parsed.subject().to_string()), shown(&parsed.issuer().to_string()));
    format!("subject \"{subject}\", issuer \"{issuer}\", valid until {until}, SHA-256 {digest}")
}

fn shown(text: &str) -> String {
    let printable = |character: char| match character {
        '"' | '\\' => '\'',
        ' '..='~' => character,
        _ => '?',
    };
    text.chars().take(MAXIMUM_SHOWN).map(printable).collect()
}

/// What to do about `chain`. `provider` is how its provider is written; `None` if that cannot be read.
pub(in crate::control) fn advise(chain: &Pending, provider: Option<&Written>) -> Advice {
    let nowhere = Written::default();
    let provider = provider.unwrap_or(&nowhere);
    match &*chain.reason {
        "unknown_issuer" | "bad_signature" => new_authority(chain, provider),
        "extended_key_usage" | "path_too_long" => known_authority(chain, provider),
        "certificate_expired" => nothing(
            "the certificate of the sender has ended: the sender must renew it, and nothing is to be written here",
        ),
        _ => nothing(
            "the revocation lists of this receiver are at fault: install the current list of each issuer of the chain in crls",
        ),
    }
}

fn nothing(check: &str) -> Advice {
    Advice { check: check.to_owned(), blocks: Vec::new(), anchor: None, change: None }
}

fn line(key: &str, value: &Value) -> String {
    format!("{key} = {value}")
}

/// The lines for a chain of a known authority that its profile demands too much of. What the provider shares with other profiles gets a
/// profile of its own, so that these demand what they did.
fn known_authority(chain: &Pending, provider: &Written) -> Advice {
    let mut checks = Vec::new();
    let mut needed: Vec<(&str, Value)> = Vec::new();
    let mut change = Change::default();
    let usage = usage_of(chain);
    if provider.extended_key_usage(&chain.profile).is_stricter_than(usage) {
        checks.push(
            "ask the sender whether its certificates lack clientAuth on purpose; public authorities stop issuing it",
        );
        needed.push(("extended_key_usage", usage.label().into()));
        change.extended_key_usage = Some(usage);
    }
    let WayUp { depth, last, .. } = path(chain);
    // The trust anchor is known, so the sender need not present it.
    let depth = if is_self_issued(last) { depth } else { depth.saturating_add(1) };
    if depth > provider.verify_depth(&chain.profile) {
        checks.push("ask the sender whether it has one more intermediate authority on purpose");
        needed.push(("verify_depth", i64::from(depth).into()));
        change.verify_depth = Some(depth);
    }
    let mut blocks = Vec::new();
    let in_table = format!(
        "in the [[provider.profile]] \"{}\" of the [[provider]] \"{}\", in place of the keys of these names",
        chain.profile, chain.provider
    );
    for (owner, place) in [(Owner::Provider, in_provider(chain)), (Owner::Table, in_table)] {
        let owned = needed.iter().filter(|(key, _)| provider.owner(&chain.profile, key) == owner);
        let lines: Vec<String> = owned.map(|(key, value)| line(key, value)).collect();
        if !lines.is_empty() {
            blocks.push(Block { place, lines });
        }
    }
    let own: Vec<_> =
        needed.into_iter().filter(|(key, _)| provider.owner(&chain.profile, key) == Owner::Preset).collect();
    if !own.is_empty() {
        let mut profile = provider.profile(&chain.profile).cloned().unwrap_or_default();
        own.into_iter().for_each(|(key, value)| drop(profile.insert(key.to_owned(), value)));
        blocks.push(new_profile(chain, provider, &unique(&chain.profile, provider), &profile));
    }
    if blocks.is_empty() {
        return nothing("the configuration demands of this chain what it has: reload, or ask the sender");
    }
    Advice { check: checks.join("; "), blocks, anchor: None, change: Some(change) }
}

fn in_provider(chain: &Pending) -> String {
    format!("in the [[provider]] \"{}\", in place of the keys of these names", chain.provider)
}

/// A profile beside the others, so that each anchor keeps its identities. Keys that the provider itself has count for it too.
fn new_profile(chain: &Pending, provider: &Written, name: &str, profile: &Table) -> Block {
    let mut lines = vec!["[[provider.profile]]".to_owned(), line("name", &name.into())];
    for key in ["trust_anchors", "verify_depth", "identity", "extended_key_usage", "crls", "crl_scope"] {
        if let Some(value) = profile.get(key).filter(|_| !provider.has(key)) {
            lines.push(line(key, value));
        }
    }
    let place = format!(
        "at the end of the [[provider]] \"{}\", after its keys and tables, before the next section",
        chain.provider
    );
    Block { place, lines }
}

/// The lines for a chain whose authority is new, or has another key.
fn new_authority(chain: &Pending, provider: &Written) -> Advice {
    let WayUp { depth, anchor, last } = path(chain);
    let Some(anchor) = anchor else {
        let check = format!(
            "the sender did not present the certificate of its issuer: obtain the root from the sender, and write it to trust_anchors ({})",
            describe(last)
        );
        return nothing(&check);
    };
    let id = HEXUPPER.encode(&sha256(&anchor)[..4]).to_lowercase();
    let file = format!("{}-{id}.pem", chain.provider);
    let rekeyed = match &*chain.reason {
        "bad_signature" => "the name of its authority is that of a trust anchor, but the key is another; ",
        _ => "",
    };
    let check = format!(
        "{rekeyed}compare this SHA-256 with the one that the sender or its authority publishes, by a way that a peer of this receiver \
         cannot change: {}; then save that certificate as {file} beside the configuration",
        describe(&anchor)
    );
    let usage = usage_of(chain);
    let former = provider.profile(&chain.profile);
    let mut blocks = Vec::new();
    let mut own = Vec::new();
    if provider.has_profiles() && !provider.has("trust_anchors") {
        let mut profile = former.cloned().unwrap_or_default();
        profile.insert("trust_anchors".to_owned(), vec![Value::from(file.as_str())].into());
        profile.insert("verify_depth".to_owned(), i64::from(depth).into());
        if provider.extended_key_usage(&chain.profile).is_stricter_than(usage) {
            profile.insert("extended_key_usage".to_owned(), usage.label().into());
        }
        blocks.push(new_profile(chain, provider, &unique(&id, provider), &profile));
        // What the provider itself has counts for every profile, also where it is too strict for the new chain.
        own.extend(provider.has("verify_depth").then_some("verify_depth"));
        own.extend(provider.has("extended_key_usage").then_some("extended_key_usage"));
    } else {
        let mut anchors = provider.own("trust_anchors").and_then(Value::as_array).cloned().unwrap_or_default();
        anchors.push(Value::from(file.as_str()));
        let mut lines = vec![line("trust_anchors", &anchors.into())];
        lines.extend(provider.own("identity").map(|identity| line("identity", identity)));
        blocks.push(Block { place: in_provider(chain), lines });
        own.extend(["verify_depth", "extended_key_usage"]);
    }
    let mut lines = Vec::new();
    if own.contains(&"verify_depth") && depth > provider.verify_depth(&chain.profile) {
        lines.push(line("verify_depth", &i64::from(depth).into()));
    }
    if own.contains(&"extended_key_usage") && provider.extended_key_usage(&chain.profile).is_stricter_than(usage) {
        lines.push(line("extended_key_usage", &usage.label().into()));
    }
    if !lines.is_empty() {
        blocks.push(Block { place: in_provider(chain), lines });
    }
    let change = Change { anchor: Some(anchor.clone()), verify_depth: Some(depth), extended_key_usage: Some(usage) };
    Advice { check, blocks, anchor: Some((anchor, file)), change: Some(change) }
}

/// The strictest usage that the chain satisfies.
fn usage_of(chain: &Pending) -> ExtendedKeyUsage {
    let parsed = chain.certificates.iter().map(|der| X509Certificate::from_der(der).ok().map(|(_, parsed)| parsed));
    let parsed: Vec<X509Certificate<'_>> = parsed.flatten().collect();
    // The root is a trust anchor, whose own extensions do not count (RFC 5280, section 6.1.1).
    let below = |certificate: &&X509Certificate<'_>| certificate.issuer() != certificate.subject();
    let excludes = |certificate: &X509Certificate<'_>| matches!(certificate.extended_key_usage(), Ok(Some(extension)) if !extension.value.client_auth);
    let has_none = |certificate: &X509Certificate<'_>| matches!(certificate.extended_key_usage(), Ok(None));
    match parsed.first() {
        _ if parsed.iter().filter(below).any(excludes) => ExtendedKeyUsage::Ignore,
        Some(end_entity) if has_none(end_entity) => ExtendedKeyUsage::ClientAuth,
        _ => ExtendedKeyUsage::ClientAuthExplicit,
    }
}

/// The way from the end entity up, by names alone.
struct WayUp<'a> {
    /// Of the anchor, counted as `verify_depth` counts.
    depth: u8,
    anchor: Option<CertificateDer<'static>>,
    /// The last certificate that was presented of it.
    last: &'a [u8],
}

/// The anchor of a chain: the public root that vouches for it; or its highest certificate, if that is an authority's.
fn path(chain: &Pending) -> WayUp<'_> {
    let parsed: Vec<(&CertificateDer<'static>, X509Certificate<'_>)> = chain
        .certificates
        .iter()
        .filter_map(|certificate| Some((certificate, X509Certificate::from_der(certificate).ok()?.1)))
        .collect();
    let Some((mut last, mut top)) = parsed.first().map(|(der, parsed)| (*der, parsed)) else {
        return WayUp { depth: 0, anchor: None, last: &[] };
    };
    let mut depth: u8 = 0;
    // Each step takes another certificate, since a chain is no longer than `parsed`.
    while usize::from(depth) < parsed.len() && top.issuer() != top.subject() {
        let above = parsed.iter().find(|(_, other)| other.subject() == top.issuer());
        let Some((der, other)) = above else { break };
        (last, top) = (der, other);
        depth = depth.saturating_add(1);
    }
    let is_end_entity = depth == 0;
    match &chain.public_root {
        Some(root) if root != last => WayUp { depth: depth.saturating_add(1), anchor: Some(root.clone()), last },
        _ => WayUp { depth, anchor: (!is_end_entity).then(|| last.clone()), last },
    }
}

fn is_self_issued(certificate: &[u8]) -> bool {
    X509Certificate::from_der(certificate).is_ok_and(|(_, parsed)| parsed.issuer() == parsed.subject())
}

#[cfg(test)]
mod tests;
