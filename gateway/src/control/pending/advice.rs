//! What to compare and what to write so that a refused chain is admitted.
//!
//! Owns the choice of the trust anchor and the lines of TOML. Pure but for [`provider_table`], which reads the configuration. Must not write
//! to the configuration: an operator does, after the comparison. What is shown of a certificate is printable ASCII, since a peer made it.

use std::path::Path;

use data_encoding::HEXUPPER;
use rustls_pki_types::CertificateDer;
use toml::{Table, Value};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use crate::config::{
    DEFAULT_VERIFY_DEPTH, day_of,
    preset::{Found, Presets},
};
use crate::suspects::{Pending, sha256};

/// The most bytes of a configuration that is read for its words.
const MAXIMUM_BYTES: u64 = 1024 * 1024;

/// The most characters of a name that are shown.
const MAXIMUM_SHOWN: usize = 160;

/// What an operator has to do.
pub(in crate::control) struct Advice {
    /// What to compare with what, before anything is written.
    pub(in crate::control) check: String,
    /// Where the lines belong; empty if there are none.
    pub(in crate::control) place: String,
    /// The lines, of TOML.
    pub(in crate::control) lines: Vec<String>,
    /// The new trust anchor and the name of its file, if one is needed and known.
    pub(in crate::control) anchor: Option<(CertificateDer<'static>, String)>,
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

/// The `[[provider]]` of this name, with the profiles of its preset, as they are written. `None` if the file cannot be read.
pub(in crate::control) fn provider_table(configuration: &Path, name: &str) -> Option<Table> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(configuration).ok()?.take(MAXIMUM_BYTES).read_to_string(&mut text).ok()?;
    let document: Table = text.parse().ok()?;
    let is_meant = |table: &&Table| table.get("name").and_then(Value::as_str) == Some(name);
    let mut found = document.get("provider")?.as_array()?.iter().filter_map(Value::as_table).find(is_meant)?.clone();
    if let Some(preset) = found.get("preset").and_then(Value::as_str)
        && !found.contains_key("trust_anchors")
        && let Ok(presets) = Presets::for_configuration(configuration)
        && let Some(anchors) = preset_anchors(&presets, preset)
    {
        found.insert("trust_anchors".to_owned(), Value::Array(anchors));
    }
    Some(found)
}

/// What to do about `chain`. `provider` is its provider's table.
pub(in crate::control) fn advise(chain: &Pending, provider: Option<&Table>) -> Advice {
    match &*chain.reason {
        "unknown_issuer" => new_authority(chain, provider),
        "extended_key_usage" => Advice {
            check:
                "ask the sender whether its certificates lack clientAuth on purpose; public authorities stop issuing it"
                    .to_owned(),
            place: in_provider(chain),
            lines: vec![usage()],
            anchor: None,
        },
        "certificate_expired" => nothing(
            "the certificate of the sender has ended: the sender must renew it, and nothing is to be written here",
        ),
        _ => nothing(
            "the revocation lists of this receiver are at fault: install the current list of each issuer of the chain in crls",
        ),
    }
}

fn nothing(check: &str) -> Advice {
    Advice { check: check.to_owned(), place: String::new(), lines: Vec::new(), anchor: None }
}

fn in_provider(chain: &Pending) -> String {
    format!("in the [[provider]] \"{}\", in place of the keys of these names", chain.provider)
}

fn usage() -> String {
    "extended_key_usage = \"ignore\"".to_owned()
}

/// The lines for a chain whose authority is new.
fn new_authority(chain: &Pending, provider: Option<&Table>) -> Advice {
    let WayUp { depth, anchor, last } = path(chain);
    let Some(anchor) = anchor else {
        let check = format!(
            "the sender did not present the certificate of its issuer: obtain the root from the sender, and write it to trust_anchors ({})",
            describe(last)
        );
        return nothing(&check);
    };
    let digest = sha256(&anchor);
    let file = format!("{}-{}.pem", chain.provider, HEXUPPER.encode(&digest[..4]).to_lowercase());
    let check = format!(
        "compare this SHA-256 with the one that the sender or its authority publishes, by a way that a peer of this receiver cannot \
         change: {}; then save that certificate as {file} beside the configuration",
        describe(&anchor)
    );
    let (place, mut lines) = match provider {
        Some(table) if table.contains_key("profile") => in_new_profile(chain, table, &file),
        table => in_table(chain, table, &file),
    };
    let allowed = provider.and_then(|table| table.get("verify_depth")).and_then(Value::as_integer);
    if i64::from(depth) > allowed.unwrap_or_else(|| i64::from(DEFAULT_VERIFY_DEPTH)) {
        lines.push(format!("verify_depth = {depth}"));
    }
    if chain.certificates.iter().any(|certificate| excludes_client_auth(certificate)) {
        lines.push(usage());
    }
    Advice { check, place, lines, anchor: Some((anchor, file)) }
}

/// A provider with profile tables gets one more, so that each anchor keeps its identities.
fn in_new_profile(chain: &Pending, table: &Table, file: &str) -> (String, Vec<String>) {
    let profiles = table.get("profile").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table);
    let is_meant = |profile: &&Table| profile.get("name").and_then(Value::as_str) == Some(&*chain.profile);
    let former = profiles.clone().find(is_meant);
    let identity = former.and_then(|profile| profile.get("identity"));
    let mut lines = vec![
        "[[provider.profile]]".to_owned(),
        format!("name = \"{}\"", file.trim_end_matches(".pem").trim_start_matches(&*chain.provider).trim_matches('-')),
        format!("trust_anchors = [{}]", Value::from(file)),
    ];
    if let Some(identity) = identity {
        lines.push(format!("identity = {identity}"));
    }
    (format!("after the other profiles of the [[provider]] \"{}\"", chain.provider), lines)
}

/// A provider without profile tables: its own anchors, or those of its preset, and the new one.
fn in_table(chain: &Pending, table: Option<&Table>, file: &str) -> (String, Vec<String>) {
    let own = table.and_then(|table| table.get("trust_anchors")).and_then(Value::as_array).cloned();
    let of_preset = || preset_anchors(&Presets::compiled_in(), table?.get("preset")?.as_str()?);
    let mut anchors = own.or_else(of_preset).unwrap_or_default();
    anchors.push(Value::from(file));
    let mut lines = vec![format!("trust_anchors = {}", Value::from(anchors))];
    match table.and_then(|table| table.get("identity")) {
        Some(identity) => lines.push(format!("identity = {identity}")),
        None => lines
            .push(format!("# identity: the rule of profile \"{}\" of the preset matches; write none", chain.profile)),
    }
    (in_provider(chain), lines)
}

/// The trust anchors of a preset, as it writes them, each once.
fn preset_anchors(presets: &Presets, name: &str) -> Option<Vec<Value>> {
    let Found::Preset(preset) = presets.find(name) else { return None };
    let written: Table = preset.toml().parse().ok()?;
    let profiles = written.get("provider")?.as_array()?.first()?.as_table()?.get("profile")?.as_array()?;
    let mut anchors: Vec<Value> = Vec::new();
    for anchor in profiles.iter().filter_map(|profile| profile.get("trust_anchors")?.as_array()).flatten() {
        if !anchors.contains(anchor) {
            anchors.push(anchor.clone());
        }
    }
    Some(anchors)
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

fn excludes_client_auth(certificate: &[u8]) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
    matches!(parsed.extended_key_usage(), Ok(Some(extension)) if !extension.value.client_auth)
}

#[cfg(test)]
mod tests;
