//! Presets: the documented profiles and proofs of well-known providers, compiled in, and replaceable by files.
//!
//! Owns the format of a preset, and the output of `hookgate providers`. A preset is data: a `[[provider]]` with `proof`, `replay` and
//! `[[provider.profile]]` tables can say the same. Must not know a provider by name.

mod catalogue;
mod compiled;
mod describe;
mod download;
mod sender;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hookgate_client::suite::TlsVersion;
use rustls::CipherSuite;
use rustls_pki_types::UnixTime;
use serde::Deserialize;
use time::Date;
use toml::Spanned;
use toml::de::DeValue;
use toml::value::Datetime;

use self::download::{Downloads, RawDownload};
use self::sender::{RawSender, SenderFacts};
use super::anchor::{PRESET_ROOTS, ROOTS};
use super::client_certificate::RawClientCertificate;
use super::document::{self, Document};
use super::entry::Entry;
use super::error::{ConfigError, ConfigErrors, PresetProblem, Problem};
use super::file::FileVersions;
use super::profile::{self, DraftProfile, Fields, RawProfile, RawRefusal, SINGLE_PROFILE};
use super::proof::{Addition, FileKind, PresetProofs, RawClause, RawReplay};
use super::report::{Environment, Report};
use super::warning::WarningKind;

pub(super) use self::catalogue::RawPresets;
pub use self::catalogue::{DIRECTORIES, Found, Presets, Unusable};
pub use self::describe::{describe, list, list_as_json};
pub(super) use self::download::Download;

/// The newest schema of presets that this hookgate reads. Raise it with every key that an older hookgate does not know.
const SCHEMA: i64 = 1;

/// The headers of the tables of a preset.
const PROOF: &str = "[proof]";
const REPLAY: &str = "[replay]";
const PROFILE: &str = "[[profile]]";
const DOWNLOAD: &str = "[[download]]";

const WRITE_SCHEMA: &str = "schema = 1: the version of the format of presets";
const WRITE_VERSION: &str = "version = 2026-11-29: the date of the last change of this preset, in UTC";
const WRITE_TITLE: &str = "title = \"…\": the sender, in a few words";
const WRITE_DOCUMENTATION: &str = "documentation = \"https://…\": the page of the provider";

/// A preset as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPreset {
    schema: Option<Spanned<i64>>,
    version: Option<Spanned<Datetime>>,
    title: Option<String>,
    documentation: Option<Spanned<String>>,
    client_certificate: Option<RawClientCertificate>,
    certificate_shared_by: Option<String>,
    #[serde(default)]
    notes: Vec<String>,
    refusal: Option<RawRefusal>,
    #[serde(default, deserialize_with = "document::table")]
    proof: Option<Spanned<RawClause>>,
    #[serde(default, deserialize_with = "document::table")]
    replay: Option<Spanned<RawReplay>>,
    #[serde(default, deserialize_with = "document::tables")]
    profile: Option<Spanned<Vec<Spanned<RawProfile>>>>,
    #[serde(default, deserialize_with = "document::tables")]
    download: Option<Spanned<Vec<Spanned<RawDownload>>>>,
    #[serde(default, deserialize_with = "document::table")]
    sender: Option<Spanned<RawSender>>,
}

/// Where a preset is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This program.
    CompiledIn,
    /// A file.
    File(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CompiledIn => formatter.write_str("compiled in"),
            Self::File(path) => path.display().fmt(formatter),
        }
    }
}

/// The documented profiles and proofs of a provider.
#[derive(Debug)]
pub struct Preset {
    name: String,
    text: String,
    origin: Origin,
    /// The number of its directory, in their order; 0 if it is compiled in.
    place: usize,
    version: Date,
    title: String,
    documentation: String,
    notes: Vec<String>,
    refusal: Option<RawRefusal>,
    client_certificate: Option<RawClientCertificate>,
    /// Who shares the client certificate of the sender, if that is not the sender alone.
    certificate_shared_by: Option<String>,
    profiles: Vec<DraftProfile>,
    /// Whether it has `[[profile]]` tables.
    has_profiles: bool,
    proofs: PresetProofs,
    downloads: Vec<Download>,
    /// What `hookgate probe` and `hookgate send` know of the sender.
    sender: SenderFacts,
    /// Certificates that its files have below a trust anchor.
    subordinates: Vec<[u8; 32]>,
    /// The newest preset that it replaces, if that is newer.
    newer: Option<(Date, Origin)>,
}

impl Preset {
    /// The name for `preset = "…"`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The sender of these webhooks, in a few words.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The URL of the page that documents the sender.
    pub fn documentation(&self) -> &str {
        &self.documentation
    }

    /// Where it is from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The number of its directory: a preset replaces one of the same name in a directory with a smaller number.
    pub(super) fn place(&self) -> usize {
        self.place
    }

    /// The day of its last change.
    pub fn version(&self) -> Date {
        self.version
    }

    /// What a receiver should know beside certificate and proof.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Whether its sender has a client certificate.
    pub fn has_certificate(&self) -> bool {
        self.client_certificate != Some(RawClientCertificate::None)
    }

    /// Who shares the client certificate, so that it proves none of them: all customers of the sender, for example.
    pub(super) fn certificate_shared_by(&self) -> Option<&str> {
        self.certificate_shared_by.as_deref()
    }

    /// How long the sender waits for an answer, if that is documented.
    pub fn answer_timeout(&self) -> Option<Duration> {
        self.sender.timeout()
    }

    /// The versions of TLS that the sender has; empty if that is not documented.
    pub(super) fn tls_versions(&self) -> &[TlsVersion] {
        self.sender.tls_versions()
    }

    /// The cipher suites that the sender offers; empty if that is not documented.
    pub(super) fn cipher_suites(&self) -> &[CipherSuite] {
        self.sender.cipher_suites()
    }

    /// The kinds of proof among which an operator chooses, for `hookgate init`; empty if there is no choice.
    pub fn alternatives(&self) -> Vec<&'static str> {
        self.proofs.alternatives()
    }

    /// What an operator adds to the `[[provider]]` with this preset, with the proof called `proof`, or the first alternative.
    pub fn additions(&self, proof: Option<&str>) -> Vec<Addition> {
        let mut additions = Vec::new();
        let lacks = |is_there: &dyn Fn(&Fields) -> bool| {
            self.has_certificate() && self.profiles.iter().any(|draft| !is_there(&draft.fields))
        };
        if lacks(&|fields| fields.trust_anchors.is_some()) {
            additions.push(match self.downloads.first() {
                Some(download) => download.addition(),
                None => Addition::file(
                    "trust_anchors",
                    "a PEM file with the root certificate of the sender's chain".to_owned(),
                    FileKind::TrustAnchors(None),
                ),
            });
        }
        if lacks(&|fields| fields.identity.is_some()) {
            let what = "the common name (CN) in the subject of the sender's certificate";
            additions.push(Addition::text("identity.subject_cn", what));
        }
        additions.extend(self.proofs.additions(proof, self.has_certificate()));
        additions
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
        let mut tables = sender::without(&self.text[start..], [PROOF, REPLAY, PROFILE, DOWNLOAD]);
        for (header, own) in
            [(PROOF, "[provider.proof]"), (REPLAY, "[provider.replay]"), (PROFILE, "[[provider.profile]]")]
        {
            tables = tables.replace(header, own);
        }
        match &self.origin {
            Origin::CompiledIn => {
                for (root, _) in ROOTS {
                    tables = tables.replace(&format!("\"{PRESET_ROOTS}{root}.pem\""), &format!("\"builtin:{root}\""));
                }
            }
            Origin::File(path) => {
                let directory = path.parent().unwrap_or(Path::new("")).display();
                tables = tables.replace("\"./", &format!("\"{directory}/"));
            }
        }
        let refusal = self.refusal.map(|refusal| format!("refusal = \"{}\"\n", refusal.text())).unwrap_or_default();
        let certificate = if self.has_certificate() { "" } else { "client_certificate = \"none\"\n" };
        format!("[[provider]]\nname = \"{}\"\n{certificate}{refusal}\n{tables}", self.name)
    }

    /// `refusal`, if the sender documents what it does after a refusal.
    pub(super) fn refusal(&self) -> Option<RawRefusal> {
        self.refusal
    }

    pub(super) fn client_certificate(&self) -> Option<RawClientCertificate> {
        self.client_certificate
    }

    /// Whether it documents profiles. If not, it has one without any key.
    pub(super) fn has_profiles(&self) -> bool {
        self.has_profiles
    }

    pub(super) fn drafts(&self) -> &[DraftProfile] {
        &self.profiles
    }

    pub(super) fn proofs(&self) -> &PresetProofs {
        &self.proofs
    }

    pub(super) fn downloads(&self) -> &[Download] {
        &self.downloads
    }

    /// Notes for the document of `report` that the provider with `name` uses this preset. Warns if it hides a newer one.
    pub(super) fn use_for(&self, name: &Spanned<String>, report: &mut Report<'_>) {
        let entry = Entry::new(format!("version {} ({})", self.version, self.origin), &self.text);
        report.add_entry(name, "content of the preset".to_owned(), entry);
        for id in &self.subordinates {
            report.add_subordinate(name, *id);
        }
        if let Some((newer, newer_origin)) = &self.newer {
            let (version, origin) = (self.version, self.origin.to_string());
            let newer_origin = newer_origin.to_string();
            report.warn(name, WarningKind::OlderPreset { version, origin, newer: *newer, newer_origin });
        }
    }

    /// This preset, in the directory of this number.
    fn in_place(self, place: usize) -> Self {
        Self { place, ..self }
    }

    /// This preset, which takes the place of `other`.
    fn replacing(mut self, other: &Self) -> Self {
        let others = other.newer.clone().into_iter().chain([(other.version, other.origin.clone())]);
        let newest = others.max_by_key(|(version, _)| *version);
        self.newer = newest.filter(|(version, _)| *version > self.version);
        self
    }

    /// Parses `text`, and reads the files that it names. Adds their versions to `files`.
    ///
    /// # Errors
    /// All errors; of a preset of a newer schema, only that.
    fn parse(name: String, text: String, origin: Origin, files: &mut FileVersions) -> Result<Self, ConfigErrors> {
        let path = match &origin {
            Origin::CompiledIn => PathBuf::from(format!("{name}.toml")),
            Origin::File(path) => path.clone(),
        };
        let document = Document::parse(&text, &path)?;
        expect_known_schema(&document)?;
        // Warnings about dates are given for each provider that uses the preset, not here.
        let now = UnixTime::since_unix_epoch(Duration::ZERO);
        let is_compiled_in = origin == Origin::CompiledIn;
        let mut report = Report::new(&document, Environment { is_compiled_in, ..Environment::at(now) });
        let raw: RawPreset = report.read();
        let version = version(&raw, &mut report);
        let documentation = documentation(&raw, &mut report);
        if raw.title.is_none() {
            report.missing_section("title", WRITE_TITLE);
        }
        let has_profiles = raw.profile.is_some();
        let profiles = match &raw.profile {
            Some(tables) => profile::drafts(tables, &[], &mut report),
            None => {
                Some(vec![DraftProfile { name: Arc::from(SINGLE_PROFILE), until: None, fields: Fields::default() }])
            }
        };
        let sender = sender::facts(raw.sender.as_ref(), &mut report);
        *files = std::mem::take(files).with(report.files());
        let subordinates = report.subordinates().iter().map(|(_, id)| *id).collect();
        let Downloads { trust_anchors: downloads, key_file } = download::downloads(raw.download.as_ref(), &mut report);
        if let (Some(at), Some(drafts)) = (&raw.profile, &profiles) {
            let anchors = drafts.iter().flat_map(|draft| draft.fields.trust_anchors.iter().flatten());
            download::compare_own(&downloads, at, anchors, &mut report);
        }
        let proofs = PresetProofs { proof: raw.proof.map(Spanned::into_inner), replay: raw.replay, key_file };
        proofs.check(&mut report);
        let whole = (|| Some((version?, raw.title?, documentation?, profiles?)))();
        let ((version, title, documentation, profiles), _) = report.finish(whole)?;
        let (notes, client_certificate, refusal) = (raw.notes, raw.client_certificate, raw.refusal);
        let certificate_shared_by = raw.certificate_shared_by;
        let newer = None;
        Ok(Self {
            name,
            origin,
            place: 0,
            version,
            title,
            documentation,
            notes,
            client_certificate,
            certificate_shared_by,
            refusal,
            profiles,
            has_profiles,
            proofs,
            downloads,
            sender,
            subordinates,
            newer,
            text,
        })
    }
}

/// Refuses a preset of a newer schema before its keys are looked at: some of them may be unknown.
fn expect_known_schema(document: &Document<'_>) -> Result<(), ConfigErrors> {
    let Some(value) = document.root().get("schema") else { return Ok(()) };
    let DeValue::Integer(integer) = value.get_ref() else { return Ok(()) };
    let found = i64::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(i64::MAX);
    if found <= SCHEMA {
        return Ok(());
    }
    let location = document.location(&value.span());
    let problem = PresetProblem::NewerSchema { found, known: SCHEMA }.into();
    Err(ConfigErrors(vec![ConfigError { location, problem }]))
}

/// The day of the last change. Also checks the schema, which is not newer than [`SCHEMA`].
fn version(raw: &RawPreset, report: &mut Report<'_>) -> Option<Date> {
    match &raw.schema {
        None => report.missing_section("schema", WRITE_SCHEMA),
        Some(schema) if *schema.get_ref() < SCHEMA => {
            let bounds = (SCHEMA.unsigned_abs(), SCHEMA.unsigned_abs());
            let (value, unit) = (*schema.get_ref(), "");
            report.error(schema, Problem::OutOfBounds { value, minimum: bounds.0, maximum: bounds.1, unit });
        }
        Some(_) => {}
    }
    let Some(written) = &raw.version else {
        report.missing_section("version", WRITE_VERSION);
        return None;
    };
    let day = profile::local_date(written.get_ref());
    if day.is_none() {
        report.error(written, Problem::Day);
    }
    day
}

fn documentation(raw: &RawPreset, report: &mut Report<'_>) -> Option<String> {
    match &raw.documentation {
        Some(text) => page(text, report),
        None => {
            report.missing_section("documentation", WRITE_DOCUMENTATION);
            None
        }
    }
}

/// The URL of a page. Reports any other text.
fn page(text: &Spanned<String>, report: &mut Report<'_>) -> Option<String> {
    if text.get_ref().starts_with("https://") {
        return Some(text.get_ref().clone());
    }
    report.error(text, PresetProblem::Page.into());
    None
}
