//! Presets: the documented profiles and proofs of well-known providers, compiled in.
//!
//! Owns the parsing of `gateway/presets/` and the output of `hookgate providers`. A preset is data: a `[[provider]]` with `proof`,
//! `replay` and `[[provider.profile]]` tables can say the same. Must not know a provider by name.

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
use super::profile::{self, DEFAULT_VERIFY_DEPTH, DraftProfile, RawProfile, RawRefusal};
use super::proof::{PresetProofs, RawClause, RawReplay};
use super::report::{Environment, Report};

/// The presets, name and text, in the order of `hookgate providers`.
const TEXTS: [(&str, &str); 4] = [
    ("dialogflow-cx", include_str!("../../presets/dialogflow-cx.toml")),
    ("dialogflow-es", include_str!("../../presets/dialogflow-es.toml")),
    ("pagerduty", include_str!("../../presets/pagerduty.toml")),
    ("percolate", include_str!("../../presets/percolate.toml")),
];

/// The headers of the tables of a preset.
const PROOF: &str = "[proof]";
const REPLAY: &str = "[replay]";
const PROFILE: &str = "[[profile]]";

static PRESETS: LazyLock<Vec<Preset>> = LazyLock::new(|| {
    let parsed = TEXTS.iter().map(|(name, text)| Preset::parse(name, text));
    parsed.collect::<Result<_, _>>().expect("the presets are compiled in, and a test parses each")
});

/// A preset as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPreset {
    title: String,
    documentation: String,
    notes: Vec<String>,
    refusal: Option<RawRefusal>,
    #[serde(default, deserialize_with = "document::table")]
    proof: Option<Spanned<RawClause>>,
    #[serde(default, deserialize_with = "document::table")]
    replay: Option<Spanned<RawReplay>>,
    #[serde(default, deserialize_with = "document::tables")]
    profile: Option<Spanned<Vec<Spanned<RawProfile>>>>,
}

/// The documented profiles and proofs of a provider.
#[derive(Debug)]
pub struct Preset {
    name: &'static str,
    text: &'static str,
    title: String,
    documentation: String,
    notes: Vec<String>,
    refusal: Option<RawRefusal>,
    profiles: Vec<DraftProfile>,
    proofs: PresetProofs,
}

impl Preset {
    /// The name for `preset = "…"`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The sender of these webhooks, in a few words.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The URL of the page that documents the client certificate.
    pub fn documentation(&self) -> &str {
        &self.documentation
    }

    /// What a receiver should know beside the certificate.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The names of the profiles, for `profiles = […]`.
    pub fn profile_names(&self) -> impl Iterator<Item = &str> {
        self.profiles.iter().map(|profile| profile.name.as_ref())
    }

    /// The profiles and proofs as a `[[provider]]` table with the comments of the preset, to edit if replacing single keys is not
    /// enough. The proofs lack the operator's part, so the table is an error until the operator adds it.
    pub fn toml(&self) -> String {
        let header = [PROOF, PROFILE].into_iter().filter_map(|header| self.text.find(header)).min();
        let header = header.unwrap_or(self.text.len());
        // The comment directly above the first table belongs to it. The rest above is about the preset.
        let start = self.text[..header].rfind("\n\n").map_or(0, |blank| blank + 2);
        let mut tables = self.text[start..].to_owned();
        for (header, own) in
            [(PROOF, "[provider.proof]"), (REPLAY, "[provider.replay]"), (PROFILE, "[[provider.profile]]")]
        {
            tables = tables.replace(header, own);
        }
        let refusal = self.refusal.map(|refusal| format!("refusal = \"{}\"\n", refusal.text())).unwrap_or_default();
        format!("[[provider]]\nname = \"{}\"\n{refusal}\n{tables}", self.name)
    }

    /// `refusal`, if the sender documents what it does after a refusal.
    pub(super) fn refusal(&self) -> Option<RawRefusal> {
        self.refusal
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
        // Warnings about dates are given for each provider that uses the preset, not here.
        let now = UnixTime::since_unix_epoch(Duration::ZERO);
        let mut report = Report::new(&document, Environment { now, credentials: None, state: None });
        let raw: RawPreset = report.read();
        let profiles = match &raw.profile {
            Some(tables) => profile::drafts(tables, &mut report),
            None => None,
        };
        let (profiles, _) = report.finish(profiles)?;
        let RawPreset { title, documentation, notes, refusal, proof, replay, .. } = raw;
        let proofs = PresetProofs { proof: proof.map(Spanned::into_inner), replay: replay.map(Spanned::into_inner) };
        Ok(Self { name, text, title, documentation, notes, refusal, profiles, proofs })
    }
}

/// Every preset, by name.
pub fn all() -> &'static [Preset] {
    &PRESETS
}

/// The preset with this name.
pub fn find(name: &str) -> Option<&'static Preset> {
    all().iter().find(|preset| preset.name == name)
}

/// The output of `hookgate providers`: one line per preset.
pub fn list() -> String {
    all().iter().fold(String::new(), |mut text, preset| {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(text, "{:<15} {}", preset.name, preset.title);
        text
    })
}

/// The output of `hookgate providers NAME`: the preset in words, then as TOML.
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
        "\nTo change more than single keys, write this instead of the preset{}:\n\n{}",
        if preset.proofs.proof.is_some() { " and complete its proof" } else { "" },
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
    let usage = profile.fields.extended_key_usage.unwrap_or_default().label();
    let _ = writeln!(text, "  extended key usage  {usage}");
    for identity in profile.fields.identity.iter().flatten() {
        let _ = writeln!(text, "  identity            {identity}");
    }
}
