//! What to compare and what to write so that a refused chain is admitted.
//!
//! Owns the choice of the trust anchor and the lines of TOML: those that admit the least beside the chain. [`written`] reads how the provider
//! is written. Must not write to the configuration: an operator does, after the comparison. What is shown of a certificate is printable
//! ASCII, since a peer made it.

mod edit;
mod written;

use data_encoding::HEXUPPER;
use hookgate_core::identity::{ExtendedKeyUsage, printable_name};
use rustls_pki_types::CertificateDer;
use toml::{Table, Value};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::X509Name;

pub(in crate::control) use self::edit::{Block, Place, apply};
pub(in crate::control) use self::written::Written;
use self::written::{Owner, unique};
use crate::config::{MAXIMUM_NAME_BYTES, SINGLE_PROFILE, day_of};
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
    /// What the operator should know of the anchor.
    pub(in crate::control) note: Option<String>,
}

impl Advice {
    /// All lines, for the log.
    pub(in crate::control) fn lines(&self) -> Vec<String> {
        self.blocks.iter().flat_map(Block::lines).collect()
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
    let (subject, issuer) = (shown(parsed.subject()), shown(parsed.issuer()));
    format!("subject \"{subject}\", issuer \"{issuer}\", valid until {until}, SHA-256 {digest}")
}

/// A name in the form that rules are written in, bounded: printable ASCII.
fn shown(name: &X509Name<'_>) -> String {
    printable_name(name.as_raw()).unwrap_or_default().chars().take(MAXIMUM_SHOWN).collect()
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
    Advice { check: check.to_owned(), blocks: Vec::new(), anchor: None, note: None }
}

/// The lines for a chain of a known authority that its profile demands too much of. What the provider shares with other profiles gets a
/// profile of its own, so that these demand what they did.
fn known_authority(chain: &Pending, provider: &Written) -> Advice {
    let mut checks = Vec::new();
    let mut needed = Table::new();
    let usage = usage_of(chain);
    if provider.extended_key_usage(&chain.profile).is_stricter_than(usage) {
        checks.push(
            "ask the sender whether its certificates lack clientAuth on purpose; public authorities stop issuing it",
        );
        needed.insert("extended_key_usage".to_owned(), usage.label().into());
    }
    let WayUp { depth, last, .. } = path(chain);
    // The trust anchor is known, so the sender need not present it.
    let depth = if is_self_issued(last) { depth } else { depth.saturating_add(1) };
    if depth > provider.verify_depth(&chain.profile) {
        checks.push("ask the sender whether it has one more intermediate authority on purpose");
        needed.insert("verify_depth".to_owned(), i64::from(depth).into());
    }
    let mut blocks = Vec::new();
    for (owner, place) in [(Owner::Provider, Place::Provider), (Owner::Table, Place::Table(chain.profile.to_string()))]
    {
        let owned = needed.iter().filter(|(key, _)| provider.owner(&chain.profile, key) == owner);
        let keys: Vec<(String, Value)> = owned.map(|(key, value)| (key.clone(), value.clone())).collect();
        if !keys.is_empty() {
            blocks.push(Block { provider: chain.provider.to_string(), place, keys });
        }
    }
    let own: Vec<_> =
        needed.into_iter().filter(|(key, _)| provider.owner(&chain.profile, key) == Owner::Preset).collect();
    if !own.is_empty() {
        let mut profile = provider.profile(&chain.profile).cloned().unwrap_or_default();
        profile.extend(own);
        blocks.push(new_profile(chain, provider, &unique(&chain.profile, provider), &profile));
    }
    if blocks.is_empty() {
        return nothing("the configuration demands of this chain what it has: reload, or ask the sender");
    }
    Advice { check: checks.join("; "), blocks, anchor: None, note: None }
}

/// The keys of a profile, in the order of the reference.
const PROFILE_KEYS: [&str; 7] =
    ["trust_anchors", "verify_depth", "identity", "extended_key_usage", "crls", "crl_urls", "crl_scope"];

/// A profile beside the others, so that each anchor keeps its identities. Keys that the provider itself has count for it too.
fn new_profile(chain: &Pending, provider: &Written, name: &str, profile: &Table) -> Block {
    profile_block(chain, name, profile, &|key| !provider.has(key))
}

/// A `[[provider.profile]]` with those keys of `profile` that are `wanted`.
fn profile_block(chain: &Pending, name: &str, profile: &Table, wanted: &dyn Fn(&str) -> bool) -> Block {
    let mut keys = vec![("name".to_owned(), Value::from(name))];
    let of_profile = PROFILE_KEYS.into_iter().filter(|key| wanted(key));
    keys.extend(of_profile.filter_map(|key| Some((key.to_owned(), profile.get(key)?.clone()))));
    Block { provider: chain.provider.to_string(), place: Place::NewProfile, keys }
}

/// The lines for a chain whose authority is new, or has another key.
fn new_authority(chain: &Pending, provider: &Written) -> Advice {
    let WayUp { depth, anchor, last } = path(chain);
    let Some(anchor) = anchor else { return nothing(&missing_issuer(last)) };
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
    let mut laxer = Table::new();
    if depth > provider.verify_depth(&chain.profile) {
        laxer.insert("verify_depth".to_owned(), i64::from(depth).into());
    }
    if provider.extended_key_usage(&chain.profile).is_stricter_than(usage) {
        laxer.insert("extended_key_usage".to_owned(), usage.label().into());
    }
    let mut profile = provider.profile(&chain.profile).cloned().unwrap_or_default();
    profile.insert("trust_anchors".to_owned(), vec![Value::from(file.as_str())].into());
    profile.insert("verify_depth".to_owned(), i64::from(depth).into());
    profile.extend(laxer.clone());
    // As long as a name may be, with the number that `unique` may add.
    let former: String = chain.profile.chars().take(MAXIMUM_NAME_BYTES - id.len() - 4).collect();
    let name = unique(&format!("{former}-{id}"), provider);
    let has_pairs = provider.has_profiles() && !provider.has("trust_anchors");
    let blocks = if has_pairs && !laxer.keys().any(|key| provider.has(key)) {
        vec![new_profile(chain, provider, &name, &profile)]
    } else if !has_pairs && laxer.is_empty() {
        let mut anchors = provider.own("trust_anchors").and_then(Value::as_array).cloned().unwrap_or_default();
        if !anchors.iter().any(|anchor| anchor.as_str() == Some(&file)) {
            anchors.push(Value::from(file.as_str()));
        }
        let mut keys = vec![("trust_anchors".to_owned(), anchors.into())];
        keys.extend(provider.own("identity").map(|identity| ("identity".to_owned(), identity.clone())));
        vec![Block { provider: chain.provider.to_string(), place: Place::Provider, keys }]
    } else {
        apart(chain, provider, (&name, &profile), &laxer)
    };
    let note = (!is_self_issued(&anchor)).then(|| intermediate(&anchor, depth));
    Advice { check, blocks, anchor: Some((anchor, file)), note }
}

/// The lines for a new profile that demands less than the keys of the `[[provider]]`, which count for every profile: these keys move from there
/// to each profile that there is, so that none of them demands less than before.
fn apart(chain: &Pending, provider: &Written, (name, profile): (&str, &Table), laxer: &Table) -> Vec<Block> {
    let is_moved = |key: &str| provider.has(key) && (key == "trust_anchors" || laxer.contains_key(key));
    let moved: Table = PROFILE_KEYS
        .into_iter()
        .filter(|key| is_moved(key))
        .filter_map(|key| Some((key.to_owned(), provider.own(key)?.clone())))
        .collect();
    let of_provider = |place, keys| Block { provider: chain.provider.to_string(), place, keys };
    let pairs = |table: &Table| table.iter().map(|(key, value)| (key.clone(), value.clone())).collect::<Vec<_>>();
    let mut blocks = vec![of_provider(Place::Removal, pairs(&moved))];
    for table in provider.tables() {
        let of_table = table.get("name").and_then(Value::as_str).unwrap_or_default();
        blocks.push(of_provider(Place::Table(of_table.to_owned()), pairs(&moved)));
    }
    let stays = |key: &str| !provider.has(key) || is_moved(key);
    let mut add = |name: &str, profile: &Table| blocks.push(profile_block(chain, name, profile, &stays));
    if !provider.has_profiles() {
        // The name that the only profile has.
        add(SINGLE_PROFILE, &moved);
    }
    for table in &provider.of_preset {
        let mut table = table.clone();
        table.extend(moved.clone());
        add(table.get("name").and_then(Value::as_str).unwrap_or_default(), &table);
    }
    add(name, profile);
    if !provider.of_preset.is_empty() {
        // Those of the preset are written out now.
        blocks.insert(1, of_provider(Place::Provider, vec![("profiles".to_owned(), Vec::<Value>::new().into())]));
    }
    blocks
}

/// What to do about a chain without the issuer of its end entity.
fn missing_issuer(end_entity: &[u8]) -> String {
    let parsed = X509Certificate::from_der(end_entity);
    let issuer = parsed.map(|(_, parsed)| shown(parsed.issuer())).unwrap_or_default();
    if is_self_issued(end_entity) {
        return format!(
            "the certificate of the sender, \"{issuer}\", is self-signed, so no authority vouches for it. If the sender documents that, compare its \
             SHA-256 with the one that it publishes, save it, and name it as a trust anchor of a profile of its own, with certificate_sha256 in its \
             identity: {}",
            describe(end_entity)
        );
    }
    format!(
        "the sender presented no certificate of the issuer of its certificate, \"{issuer}\": tell the sender to send this intermediate with its \
         certificate; there is nothing to trust before it does"
    )
}

/// What it means to trust an intermediate.
fn intermediate(anchor: &[u8], depth: u8) -> String {
    let parsed = X509Certificate::from_der(anchor);
    let root = parsed.map(|(_, parsed)| shown(parsed.issuer())).unwrap_or_default();
    let depth = depth.saturating_add(1);
    format!(
        "This is an intermediate, not a root: the sender did not present its issuer, \"{root}\". As a trust anchor it admits what it issued \
         itself, which is less than the root would; but its own expiry and revocation are not checked. To trust the root instead, obtain and \
         compare the certificate of \"{root}\", save it under the name of the file, and write verify_depth = {depth} if less is in force"
    )
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
