//! The report about a document: errors, warnings, the files that it names, and entries of the inventory.
//!
//! Owns that all errors are reported at once, none of them twice, and at most 100. Must not know a section.

use std::cell::RefCell;
use std::ops::Range;
use std::path::{Path, PathBuf};

use rustls_pki_types::UnixTime;
use serde::de::DeserializeOwned;
use toml::Spanned;

use super::document::Document;
use super::entry::{Entry, FoundEntry};
use super::error::{ConfigError, ConfigErrors, Location, Problem};
use super::file::{FileVersions, ListFiles};
use super::warning::{Warning, WarningKind};

/// The most errors of a report. Each costs one more pass over the document.
const MAXIMUM_ERRORS: usize = 100;

/// What the parsers need beside the document and the files that it names.
#[derive(Clone, Debug)]
pub(super) struct Environment {
    /// The time at which validity is judged.
    pub(super) now: UnixTime,
    /// The directory of credentials, if the service manager made one (`$CREDENTIALS_DIRECTORY`, systemd.exec(5)).
    pub(super) credentials: Option<PathBuf>,
    /// The directory for state, if the service manager made one (`$STATE_DIRECTORY`, systemd.exec(5)).
    pub(super) state: Option<PathBuf>,
    /// The directories of presets, for a document that names none. They need not exist.
    pub(super) preset_directories: Vec<PathBuf>,
    /// Whether the document is compiled in. The roots that it names are compiled in too.
    pub(super) is_compiled_in: bool,
}

impl Environment {
    /// An environment with this time and nothing else.
    pub(super) fn at(now: UnixTime) -> Self {
        Self { now, credentials: None, state: None, preset_directories: Vec::new(), is_compiled_in: false }
    }
}

/// What the parsers found in a document.
pub(super) struct Report<'a> {
    document: &'a Document<'a>,
    environment: Environment,
    errors: Vec<ConfigError>,
    /// Errors of the documents that this one depends on.
    foreign: Vec<ConfigError>,
    warnings: Vec<Warning>,
    notes: Vec<Warning>,
    files: RefCell<FileVersions>,
    found: Vec<FoundEntry>,
    subordinates: Vec<(usize, [u8; 32])>,
    /// Which file each revocation list is from.
    pub(super) list_files: ListFiles,
}

impl<'a> Report<'a> {
    /// An empty report about `document`.
    pub(super) fn new(document: &'a Document<'a>, environment: Environment) -> Self {
        Self {
            document,
            environment,
            errors: Vec::new(),
            foreign: Vec::new(),
            warnings: Vec::new(),
            notes: Vec::new(),
            files: RefCell::default(),
            found: Vec::new(),
            subordinates: Vec::new(),
            list_files: ListFiles::default(),
        }
    }

    /// Deserializes the document. Reports unknown keys and wrong types, and leaves them out.
    pub(super) fn read<T: DeserializeOwned + Default>(&mut self) -> T {
        let document = self.document;
        document.read(MAXIMUM_ERRORS, &mut |span, problem| self.error_at(span, problem))
    }

    /// The time at which validity is judged.
    pub(super) fn now(&self) -> UnixTime {
        self.environment.now
    }

    /// The directories of presets, for a document that names none.
    pub(super) fn preset_directories(&self) -> &[PathBuf] {
        &self.environment.preset_directories
    }

    /// Whether the document is compiled in.
    pub(super) fn is_compiled_in(&self) -> bool {
        self.environment.is_compiled_in
    }

    /// Notes the version of a file that the document depends on without naming it. Call this before reading the file.
    pub(super) fn note(&self, path: &Path) {
        self.files.borrow_mut().note(path);
    }

    /// Adds the files of a document that this one depends on.
    pub(super) fn note_all(&self, files: FileVersions) {
        let mut known = self.files.borrow_mut();
        *known = std::mem::take(&mut *known).with(files);
    }

    /// The path of a credential that the document names; `None` without a directory of credentials. Call this before reading the
    /// file, as [`Report::resolve`].
    pub(super) fn credential(&self, name: &str) -> Option<PathBuf> {
        let path = self.environment.credentials.as_ref()?.join(name);
        self.files.borrow_mut().note(&path);
        Some(path)
    }

    /// The path of a file that the document names. A relative path is relative to the directory of the document. Call this before
    /// reading the file: it notes the version of the file.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        let path = self.document.resolve(path);
        self.files.borrow_mut().note(&path);
        path
    }

    /// The path of a directory that the document names, as [`Report::resolve`]. Its changes are not watched.
    pub(super) fn resolve_unnoted(&self, path: &str) -> PathBuf {
        self.document.resolve(path)
    }

    /// The directory for state that the service manager made, if any.
    pub(super) fn state_directory(&self) -> Option<PathBuf> {
        self.environment.state.clone()
    }

    /// Adds an entry of the inventory about the file that a value names.
    pub(super) fn add_entry<T>(&mut self, at: &Spanned<T>, item: String, entry: Entry) {
        let (table, section) = (self.document.table_of(&at.span()), self.document.section_of(&at.span()));
        let place = table.map(|(section, index)| (section, Some(index))).or(section.map(|section| (section, None)));
        if let Some((section, index)) = place {
            self.found.push(FoundEntry { section, index, item, entry });
        }
    }

    /// Adds a certificate that a list of trust anchors has below an anchor.
    pub(super) fn add_subordinate<T>(&mut self, at: &Spanned<T>, id: [u8; 32]) {
        if let Some((_, provider)) = self.document.table_of(&at.span()) {
            self.subordinates.push((provider, id));
        }
    }

    /// Those certificates so far, each with the index of its provider.
    pub(super) fn subordinates(&self) -> &[(usize, [u8; 32])] {
        &self.subordinates
    }

    /// The entries of the inventory so far.
    pub(super) fn entries(&self) -> &[FoundEntry] {
        &self.found
    }

    /// The files that the document named so far.
    pub(super) fn files(&self) -> FileVersions {
        self.files.borrow().clone()
    }

    /// The line of a value, from 1.
    pub(super) fn line<T>(&self, at: &Spanned<T>) -> usize {
        self.document.line(&at.span())
    }

    /// Reports a problem of a value.
    pub(super) fn error<T>(&mut self, at: &Spanned<T>, problem: Problem) {
        self.error_at(&at.span(), problem);
    }

    /// Reports that `table` lacks `key`, unless there is an error about this key already.
    pub(super) fn missing<T>(&mut self, table: &Spanned<T>, key: &'static str, write: &'static str) {
        let mut location = self.document.location(&table.span());
        if self.mentions(&location.key, key) {
            return;
        }
        location.key = format!("{}.{key}", location.key);
        self.push(location, Problem::Missing { write });
    }

    /// Reports that `table` lacks `key` or one of `others`, unless there is an error about one of them already.
    pub(super) fn missing_one_of<T>(
        &mut self,
        table: &Spanned<T>,
        key: &'static str,
        others: &[&str],
        problem: Problem,
    ) {
        let mut location = self.document.location(&table.span());
        if others.iter().chain(&[key]).any(|key| self.mentions(&location.key, key)) {
            return;
        }
        location.key = format!("{}.{key}", location.key);
        self.push(location, problem);
    }

    /// Reports that an array or table is empty, unless it is empty because its content was reported and left out.
    pub(super) fn empty<T>(&mut self, at: &Spanned<T>, problem: Problem) {
        let location = self.document.location(&at.span());
        if !self.errors.iter().any(|error| error.location.key.starts_with(&location.key)) {
            self.push(location, problem);
        }
    }

    /// Reports that the document lacks a section, unless there is an error about the section already.
    pub(super) fn missing_section(&mut self, section: &'static str, write: &'static str) {
        if !self.errors.iter().any(|error| error.location.key.starts_with(section)) {
            self.push(self.document.location_of_key(section), Problem::Missing { write });
        }
    }

    /// Whether there is an error about `key`, at any depth below `table`.
    fn mentions(&self, table: &str, key: &str) -> bool {
        // A key that was meant to be this one.
        let is_meant = |error: &ConfigError| {
            matches!(&error.problem, Problem::UnknownKey { nearest: Some(nearest), .. } if nearest == key)
                && error.location.key.strip_prefix(table).is_some_and(|below| below.matches('.').count() == 1)
        };
        if self.errors.iter().any(is_meant) {
            return true;
        }
        let keys = self.errors.iter().filter_map(|error| error.location.key.strip_prefix(table));
        keys.into_iter().any(|below| below.split(['.', '[']).any(|part| part == key))
    }

    /// Warns about a value. The same warning is reported once.
    pub(super) fn warn<T>(&mut self, at: &Spanned<T>, kind: WarningKind) {
        self.warn_at(&at.span(), kind);
    }

    /// Notes about a value what only `hookgate check` says.
    pub(super) fn note_about<T>(&mut self, at: &Spanned<T>, kind: WarningKind) {
        self.notes.push(Warning { location: self.document.location(&at.span()), kind });
    }

    /// The notes so far.
    pub(super) fn take_notes(&mut self) -> Vec<Warning> {
        std::mem::take(&mut self.notes)
    }

    /// As [`Report::warn`], for the span of a value.
    pub(super) fn warn_at(&mut self, span: &Range<usize>, kind: WarningKind) {
        let warning = Warning { location: self.document.location(span), kind };
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Reports the errors of a document that this one depends on. At most as many as of this document are kept.
    pub(super) fn adopt(&mut self, errors: ConfigErrors) {
        let room = MAXIMUM_ERRORS.saturating_sub(self.foreign.len());
        self.foreign.extend(errors.0.into_iter().take(room));
    }

    /// Warns about a document that this one depends on, or could depend on.
    pub(super) fn warn_elsewhere(&mut self, location: Location, kind: WarningKind) {
        self.warnings.push(Warning { location, kind });
    }

    /// Warns about the whole document.
    pub(super) fn warn_about_document(&mut self, kind: WarningKind) {
        self.warnings.push(Warning { location: self.document.location_of_key(""), kind });
    }

    /// Returns `value` with the warnings, if there is no error.
    ///
    /// # Errors
    /// All errors, in the order of the lines; then those of other documents.
    pub(super) fn finish<T>(mut self, value: Option<T>) -> Result<(T, Vec<Warning>), ConfigErrors> {
        self.warnings.sort_by_key(|warning| warning.location.line);
        match value {
            Some(value) if self.errors.is_empty() && self.foreign.is_empty() => Ok((value, self.warnings)),
            _ => {
                self.errors.sort_by_key(|error| error.location.line);
                self.errors.append(&mut self.foreign);
                Err(ConfigErrors(self.errors))
            }
        }
    }

    /// As [`Report::error`], for the span of a value.
    pub(super) fn error_at(&mut self, span: &Range<usize>, problem: Problem) {
        let location = self.document.location(span);
        self.push(location, problem);
    }

    fn push(&mut self, location: Location, problem: Problem) {
        // A value that completes two proofs of a preset is parsed twice.
        let same = |error: &ConfigError| error.location == location && error.problem.to_string() == problem.to_string();
        if self.errors.iter().any(same) {
            return;
        }
        match self.errors.len() {
            0..MAXIMUM_ERRORS => self.errors.push(ConfigError { location, problem }),
            MAXIMUM_ERRORS => {
                let location = self.document.location_of_key("");
                self.errors.push(ConfigError { location, problem: Problem::TooManyErrors { maximum: MAXIMUM_ERRORS } });
            }
            _ => {}
        }
    }
}
