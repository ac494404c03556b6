//! Presets: what is known of the providers that many receivers have, compiled in.
//!
//! Owns the reading of `gateway/presets/` and the words of `hookgate providers`. A preset holds nothing that a `[[provider]]`
//! with `proof`, `replay` and `[[provider.profile]]` tables could not say: it is data, and none of the code here knows a
//! provider by name.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use data_encoding::HEXLOWER;
use rustls_pki_types::UnixTime;
use serde::Deserialize;
use toml::Spanned;

use super::document::{self, Document};
use super::error::ConfigErrors;
use super::profile::{self, DEFAULT_VERIFY_DEPTH, DraftProfile, RawProfile};
use super::proof::{PresetProofs, RawClause, RawReplay};
use super::report::{Environment, Report};
use hookgate_core::identity::ExtendedKeyUsage;

/// The presets: name and text, in the order in which they are listed.
const TEXTS: [(&str, &str); 4] = [
    ("dialogflow-cx", include_str!("../../presets/dialogflow-cx.toml")),
    ("dialogflow-es", include_str!("../../presets/dialogflow-es.toml")),
    ("pagerduty", include_str!("../../presets/pagerduty.toml")),
    ("percolate", include_str!("../../presets/percolate.toml")),
];

/// The headers of a preset's tables, as they stand in its text.
const PROOF: &str = "[proof]";
const REPLAY: &str = "[replay]";
const PROFILE: &str = "[[profile]]";

static PRESETS: LazyLock<Vec<Preset>> = LazyLock::new(|| {
    let parsed = TEXTS.iter().map(|(name, text)| Preset::parse(name, text));
    parsed.collect::<Result<_, _>>().expect("the presets are compiled in, and a test parses each")
});

/// A preset as it stands in its file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPreset {
    title: String,
    documentation: String,
    notes: Vec<String>,
    #[serde(default, deserialize_with = "document::table")]
    proof: Option<Spanned<RawClause>>,
    #[serde(default, deserialize_with = "document::table")]
    replay: Option<Spanned<RawReplay>>,
    #[serde(default, deserialize_with = "document::tables")]
    profile: Option<Spanned<Vec<Spanned<RawProfile>>>>,
}

/// What is known of a provider.
#[derive(Debug)]
pub struct Preset {
    name: &'static str,
    text: &'static str,
    title: String,
    documentation: String,
    notes: Vec<String>,
    profiles: Vec<DraftProfile>,
    proofs: PresetProofs,
}

impl Preset {
    /// What `preset = "…"` calls it.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whose webhooks these are, in a few words.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The page on which the provider documents its client certificate.
    pub fn documentation(&self) -> &str {
        &self.documentation
    }

    /// What a receiver should know beyond the certificate.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The names of the profiles, for `profiles = […]`.
    pub fn profile_names(&self) -> impl Iterator<Item = &str> {
        self.profiles.iter().map(|profile| profile.name.as_ref())
    }

    /// Profiles and proofs as a `[[provider]]` of one's own, with the comments of the preset: what to start from when replacing
    /// fields is not enough. The proofs lack the operator's part, and are an error until it is there.
    pub fn toml(&self) -> String {
        let header = [PROOF, PROFILE].into_iter().filter_map(|header| self.text.find(header)).min();
        let header = header.unwrap_or(self.text.len());
        // The comment above the first table is its own; what stands further up is about the preset.
        let start = self.text[..header].rfind("\n\n").map_or(0, |blank| blank + 2);
        let mut tables = self.text[start..].to_owned();
        for (header, own) in
            [(PROOF, "[provider.proof]"), (REPLAY, "[provider.replay]"), (PROFILE, "[[provider.profile]]")]
        {
            tables = tables.replace(header, own);
        }
        format!("[[provider]]\nname = \"{}\"\n\n{tables}", self.name)
    }

    pub(super) fn drafts(&self) -> &[DraftProfile] {
        &self.profiles
    }

    pub(super) fn proofs(&self) -> &PresetProofs {
        &self.proofs
    }

    fn parse(name: &'static str, text: &'static str) -> Result<Self, ConfigErrors> {
        let path = format!("{name}.toml");
        let document = Document::parse(text, Path::new(&path))?;
        // No warning depends on the user's clock here: what time has overtaken is warned of where the preset is used.
        let now = UnixTime::since_unix_epoch(Duration::ZERO);
        let mut report = Report::new(&document, Environment { now, credentials: None });
        let raw: RawPreset = report.read();
        let profiles = match &raw.profile {
            Some(tables) => profile::drafts(tables, &mut report),
            None => None,
        };
        let (profiles, _) = report.finish(profiles)?;
        let RawPreset { title, documentation, notes, proof, replay, .. } = raw;
        let proofs = PresetProofs { proof: proof.map(Spanned::into_inner), replay: replay.map(Spanned::into_inner) };
        Ok(Self { name, text, title, documentation, notes, profiles, proofs })
    }
}

/// Every preset, by name.
pub fn all() -> &'static [Preset] {
    &PRESETS
}

/// The preset of that name.
pub fn find(name: &str) -> Option<&'static Preset> {
    all().iter().find(|preset| preset.name == name)
}

/// What `hookgate providers` prints: one line a preset.
pub fn list() -> String {
    all().iter().fold(String::new(), |mut text, preset| {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(text, "{:<15} {}", preset.name, preset.title);
        text
    })
}

/// What `hookgate providers NAME` prints: all that the preset says, in words, then as TOML.
pub fn describe(preset: &Preset) -> String {
    let mut text = format!("{}: {}\n{}\n", preset.name, preset.title, preset.documentation);
    for note in &preset.notes {
        let _ = writeln!(text, "- {note}");
    }
    for profile in &preset.profiles {
        describe_profile(&mut text, profile);
    }
    text.push_str(&preset.proofs.describe());
    let _ = write!(
        text,
        "\nTo change more than single fields, start from this instead of the preset{}:\n\n{}",
        if preset.proofs.proof.is_some() { ", and complete its proof" } else { "" },
        preset.toml()
    );
    text
}

fn describe_profile(text: &mut String, profile: &DraftProfile) {
    let _ = write!(text, "\nprofile {}", profile.name);
    if let Some(until) = &profile.until {
        let _ = write!(text, " (until {until})");
    }
    let _ = writeln!(text);
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
    for identity in profile.fields.identity.iter().flatten() {
        let _ = writeln!(text, "  identity            {identity}");
    }
}
