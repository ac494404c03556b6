//! The output of `hookgate providers`.
//!
//! Owns these texts, but for those about proofs. Must not decide anything: what a policy has in common with a sender, `sender` says.

use std::fmt::Write as _;

use data_encoding::HEXLOWER;
use serde_json::{Value, json};

use super::sender::{InCommon, SenderFacts};
use super::{Preset, Presets};
use crate::config::profile::{DEFAULT_VERIFY_DEPTH, DraftProfile};
use crate::crypto::TlsPolicy;
use hookgate_client::suite::{self, TlsVersion};
use hookgate_core::identity::ExtendedKeyUsage;

/// One line per preset: name, version, whether the sender has a client certificate, title, origin. Files with errors follow.
pub fn list(presets: &Presets) -> String {
    let mut text = String::new();
    for preset in presets.usable() {
        let Preset { name, version, title, origin, .. } = preset;
        let certificate = if preset.has_certificate() { "certificate" } else { "no certificate" };
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(text, "{name:<22} {version}  {certificate:<14}  {title} ({origin})");
    }
    for (name, unusable) in presets.unusable() {
        let _ = writeln!(text, "{name:<22} unusable    {}", unusable.path().display());
    }
    text
}

/// The same as a JSON array of objects.
pub fn list_as_json(presets: &Presets) -> String {
    let usable = presets.usable().map(|preset| {
        json!({
            "name": preset.name,
            "version": preset.version.to_string(),
            "title": preset.title,
            "documentation": preset.documentation,
            "client_certificate": if preset.has_certificate() { "required" } else { "none" },
            "origin": preset.origin.to_string(),
        })
    });
    let unusable = presets.unusable().map(|(name, unusable)| {
        json!({ "name": name, "origin": unusable.path().display().to_string(), "errors": unusable.errors() })
    });
    format!("{:#}\n", Value::Array(usable.chain(unusable).collect()))
}

/// The preset in words, then as TOML.
pub fn describe(preset: &Preset) -> String {
    let mut text = format!(
        "{}: {}\n{}\nversion {} ({})\n",
        preset.name, preset.title, preset.documentation, preset.version, preset.origin
    );
    for note in &preset.notes {
        let _ = writeln!(text, "- {note}");
    }
    if preset.has_certificate() {
        preset.profiles.iter().for_each(|profile| describe_profile(&mut text, profile));
    } else {
        text.push_str("\nno client certificate: the proof alone tells who sent a request\n");
    }
    for download in &preset.downloads {
        let _ = writeln!(text, "\ntrust anchors that you add: trust_anchors = [\"{}\"]", download.file);
        let _ = writeln!(text, "  download from       {}", download.page);
        for fingerprint in &download.fingerprints {
            let _ = writeln!(text, "  SHA-256             {}", HEXLOWER.encode(fingerprint));
        }
    }
    describe_tls(&mut text, &preset.sender);
    text.push_str(&preset.proofs.describe(preset.has_certificate()));
    let _ = write!(
        text,
        "\nTo change more than single keys, write this instead of the preset{}:\n\n{}",
        if preset.proofs.proof.is_some() { " and complete its proof" } else { "" },
        preset.toml()
    );
    text
}

/// The versions and suites that the sender documents, and what of it each policy of `[tls]` has.
fn describe_tls(text: &mut String, sender: &SenderFacts) {
    let (versions, suites) = (sender.tls_versions(), sender.cipher_suites());
    if versions.is_empty() && suites.is_empty() {
        text.push_str("\nTLS of the sender: its versions and cipher suites are not documented\n");
        return;
    }
    text.push_str("\nTLS of the sender, as it documents it\n");
    let versions = if versions.is_empty() { "not documented".to_owned() } else { numbers(versions) };
    let _ = writeln!(text, "  versions            {versions}");
    // A signal is in the list of suites, and is none.
    let mut names: Vec<String> =
        suites.iter().filter(|chosen| !suite::is_signal(**chosen)).map(|chosen| suite::name(*chosen)).collect();
    if names.is_empty() {
        names.push("not documented".to_owned());
    }
    for (place, name) in names.iter().enumerate() {
        let _ = writeln!(text, "  {:<18}  {name}", if place == 0 { "cipher suites" } else { "" });
    }
    for (place, policy) in TlsPolicy::ALL.into_iter().enumerate() {
        let fits = match sender.in_common(policy) {
            None => "no handshake: nothing in common".to_owned(),
            Some(InCommon { versions, .. }) if suites.is_empty() => format!("TLS {}", numbers(&versions)),
            Some(InCommon { versions, suites }) => {
                format!("TLS {}, {} of these suites", numbers(&versions), suites.len())
            }
        };
        let _ =
            writeln!(text, "  {:<18}  {:<13} {fits}", if place == 0 { "policy in [tls]" } else { "" }, policy.name());
    }
}

fn numbers(versions: &[TlsVersion]) -> String {
    versions.iter().map(|version| version.number()).collect::<Vec<_>>().join(", ")
}

fn describe_profile(text: &mut String, profile: &DraftProfile) {
    let _ = write!(text, "\nprofile {}", profile.name);
    if let Some(until) = &profile.until {
        let _ = write!(text, " (until {until})");
    }
    let _ = writeln!(text);
    if profile.fields.trust_anchors.is_none() {
        let _ = writeln!(text, "  trust anchor        the one that you add: trust_anchors = [\"…\"]");
    }
    for anchor in profile.fields.trust_anchors.iter().flatten() {
        let fingerprint = HEXLOWER.encode(&anchor.fingerprint);
        let _ = writeln!(text, "  trust anchor        {}", anchor.subject);
        let _ = writeln!(text, "                      SHA-256 {fingerprint}, valid until {}", anchor.not_after);
    }
    let depth = profile.fields.verify_depth.unwrap_or(DEFAULT_VERIFY_DEPTH);
    let _ = writeln!(text, "  verify depth        {depth}");
    let usage = match profile.fields.extended_key_usage.unwrap_or_default() {
        ExtendedKeyUsage::ClientAuth => "client-auth",
        ExtendedKeyUsage::ClientAuthExplicit => "client-auth-explicit",
        ExtendedKeyUsage::Ignore => "ignore",
    };
    let _ = writeln!(text, "  extended key usage  {usage}");
    if profile.fields.identity.is_none() {
        let _ = writeln!(text, "  identity            the one that you add: identity = [{{ … }}]");
    }
    for identity in profile.fields.identity.iter().flatten() {
        let _ = writeln!(text, "  identity            {identity}");
    }
}
