//! `[[key_source]]`: the origins of the keys that verify tokens.
//!
//! Owns the names of sources, the built-in source, and the reading of key files. Must not fetch: `control::published` does.

use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use super::bound::Bound;
use super::entry::Entry;
use super::error::{Problem, ProofProblem};
use super::feed::{self, Feed, FetchLimits, TIMEOUT};
use super::feed_url::FeedUrl;
use super::file;
use super::length;
use super::name;
use super::report::Report;
use super::warning::WarningKind;
use hookgate_core::auth::token::GOOGLE_KEYS_URL;
use hookgate_core::auth::{KeySet, KeySourceId};

/// The built-in source: the keys of Google's ID tokens.
pub(super) const GOOGLE: &str = "google";

/// Most sources of one file. Each has a task that fetches it, and a metric label.
const MAXIMUM_SOURCES: usize = 64;
/// Most bytes of a key file. A set of 64 keys of 8192 bits has 100 KiB.
const MAXIMUM_KEY_FILE_BYTES: u64 = 1024 * 1024;
/// From the size of one small key to more than that of 64 keys of the largest accepted length.
const BYTES: Bound = Bound::new(1024, 1024 * 1024, " bytes");
/// At most a week. If the issuer is unreachable, a key that it withdrew is trusted for up to this time longer.
const STALE: Bound = Bound::new(0, 7 * 24 * 3600, " s");

const WRITE_NAME: &str = "name = \"issuer\": the name that key_source of a token refers to";
const WRITE_URL: &str = "url = \"https://issuer.example/keys\", or file = \"keys.json\"";

/// A named source of keys.
#[derive(Debug)]
pub struct KeySource {
    /// `name`: the name in tokens, logs and metrics.
    pub name: Arc<str>,
    /// `url` or `file`.
    pub origin: KeyOrigin,
}

/// Where the keys of a source are.
#[derive(Debug)]
pub enum KeyOrigin {
    /// `url`: the keys are fetched, and fetched again before they are stale.
    Url(Feed),
    /// `file`: these keys, until the next reload.
    File(Arc<KeySet>),
}

/// `[[key_source]]`, as written in the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawKeySource {
    name: Option<Spanned<String>>,
    url: Option<Spanned<String>>,
    file: Option<Spanned<String>>,
    ca_file: Option<Spanned<String>>,
    timeout_ms: Option<Spanned<i64>>,
    max_bytes: Option<Spanned<i64>>,
    max_stale_s: Option<Spanned<i64>>,
    allow_private: Option<Spanned<bool>>,
}

/// The sources of a file, to which tokens refer by name.
pub(super) struct KeySources<'r> {
    written: Vec<Written<'r>>,
    /// The id of the built-in source, if a token uses it.
    google: Option<KeySourceId>,
}

struct Written<'r> {
    raw: &'r Spanned<RawKeySource>,
    name: Option<Arc<str>>,
    origin: Option<KeyOrigin>,
    used: bool,
}

impl<'r> KeySources<'r> {
    /// Parses the sources; reports errors. A source with an error keeps its name and its index, so that tokens can refer to it.
    pub(super) fn new(raw: &'r [Spanned<RawKeySource>], report: &mut Report<'_>) -> Self {
        let mut written: Vec<Written<'_>> = Vec::new();
        for raw in length::first(raw, MAXIMUM_SOURCES, report) {
            let name = match &raw.get_ref().name {
                Some(text) => name::parse(text, report),
                None => {
                    report.missing(raw, "name", WRITE_NAME);
                    None
                }
            };
            if let (Some(text), Some(at)) = (&name, &raw.get_ref().name)
                && let Some(earlier) = written.iter().find(|earlier| earlier.name.as_ref() == Some(text))
            {
                let line = report.line(earlier.raw);
                report.error(at, Problem::Duplicate { what: format!("the key source \"{text}\""), line });
            }
            let origin = origin(raw, report);
            written.push(Written { raw, name, origin, used: false });
        }
        Self { written, google: None }
    }

    /// The source with a name; reports an unknown name.
    pub(super) fn find(&mut self, name: &Spanned<String>, report: &mut Report<'_>) -> Option<KeySourceId> {
        if name.get_ref() == GOOGLE {
            return Some(self.google());
        }
        if let Some(id) = self.written(name.get_ref()) {
            return Some(id);
        }
        // If a source has no valid name, the token may mean that one, so nothing is reported.
        if self.written.iter().all(|source| source.name.is_some()) {
            let names = self.written.iter().filter_map(|source| source.name.as_deref()).chain([GOOGLE]);
            report.error(name, Problem::unknown("key source", name.get_ref(), "there are", names));
        }
        None
    }

    /// The source named "google": that of the file, or the built-in one.
    pub(super) fn google(&mut self) -> KeySourceId {
        let next = KeySourceId(place(self.written.len()));
        self.written(GOOGLE).unwrap_or_else(|| *self.google.get_or_insert(next))
    }

    fn written(&mut self, name: &str) -> Option<KeySourceId> {
        let index = self.written.iter().position(|source| source.name.as_deref() == Some(name))?;
        self.written.get_mut(index)?.used = true;
        Some(KeySourceId(place(index)))
    }

    /// The sources in the order of their ids. Those with an error are left out, so the list is complete only without errors.
    pub(super) fn finish(self, report: &mut Report<'_>) -> Vec<KeySource> {
        let mut sources = Vec::new();
        for Written { raw, name, origin, used } in self.written {
            let (Some(name), Some(origin)) = (name, origin) else { continue };
            if !used {
                report.warn(raw, WarningKind::UnusedKeySource { name: name.to_string() });
            }
            sources.push(KeySource { name, origin });
        }
        if self.google.is_some() {
            let url = FeedUrl::parse(GOOGLE_KEYS_URL).expect("the constant is an https URL");
            let origin = KeyOrigin::Url(Feed { url, limits: FetchLimits::default(), roots: None });
            sources.push(KeySource { name: Arc::from(GOOGLE), origin });
        }
        sources
    }
}

/// The index of a source, as the number in its id. It fits, because it is at most [`MAXIMUM_SOURCES`].
fn place(index: usize) -> u16 {
    u16::try_from(index).unwrap_or(u16::MAX)
}

fn origin(raw: &Spanned<RawKeySource>, report: &mut Report<'_>) -> Option<KeyOrigin> {
    let fields = raw.get_ref();
    match (&fields.url, &fields.file) {
        (Some(url), None) => fetched(fields, url, report),
        (None, Some(file)) => {
            let remote = [fields.timeout_ms.as_ref(), fields.max_bytes.as_ref(), fields.max_stale_s.as_ref()];
            let remote = remote.into_iter().flatten().map(Spanned::span);
            for span in remote
                .chain(fields.ca_file.as_ref().map(Spanned::span))
                .chain(fields.allow_private.as_ref().map(Spanned::span))
            {
                report.error_at(&span, ProofProblem::NotFetched.into());
            }
            key_file(file, report).map(KeyOrigin::File)
        }
        (Some(_), Some(file)) => {
            report.error(file, ProofProblem::UrlAndFile.into());
            None
        }
        (None, None) => {
            report.missing_one_of(raw, "url", &["file"], Problem::Missing { write: WRITE_URL });
            None
        }
    }
}

fn fetched(fields: &RawKeySource, url: &Spanned<String>, report: &mut Report<'_>) -> Option<KeyOrigin> {
    let default = FetchLimits::default();
    let limits = FetchLimits {
        timeout: TIMEOUT.milliseconds(fields.timeout_ms.as_ref(), default.timeout, report),
        max_bytes: BYTES.count(fields.max_bytes.as_ref(), default.max_bytes, report),
        max_stale: STALE.seconds(fields.max_stale_s.as_ref(), default.max_stale, report),
        allow_private: fields.allow_private.as_ref().is_some_and(|allow| *allow.get_ref()),
        ..default
    };
    let roots = feed::roots(fields.ca_file.as_ref(), report);
    if let (Some(text), Some(Some(roots))) = (&fields.ca_file, &roots) {
        report.add_entry(text, "roots".to_owned(), Entry::new(format!("{} certificates", roots.len()), roots));
    }
    let url = feed::url(url.get_ref(), url, report);
    Some(KeyOrigin::Url(Feed { url: url?, limits, roots: roots? }))
}

fn key_file(text: &Spanned<String>, report: &mut Report<'_>) -> Option<Arc<KeySet>> {
    let path = report.resolve(text.get_ref());
    let set = file::read_named(&path, MAXIMUM_KEY_FILE_BYTES).and_then(|document| {
        let set = KeySet::parse(&document).map_err(|error| ProofProblem::KeySet { path: path.clone(), error })?;
        let entry = Entry::new(format!("{} keys", set.usable_keys()), &document);
        Ok((set, entry))
    });
    let (set, entry) = set.map_err(|problem| report.error(text, problem)).ok()?;
    report.add_entry(text, "keys".to_owned(), entry);
    for reason in set.skipped() {
        report.warn(text, WarningKind::KeySkipped { path: path.clone(), reason: reason.to_string() });
    }
    Some(Arc::new(set))
}
