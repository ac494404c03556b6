//! Which presets there are: those that are compiled in, and those of the directories of presets, which replace them.
//!
//! Owns the order of the directories, and what becomes of a preset with errors. Must not parse a preset: [`Preset`] does.
//!
//! A preset with an error is never replaced by an older one of the same name: a provider that names it is an error, so that a reload
//! keeps what is in force. If no provider names it, it is a warning, so that a file for another sender, or for a newer hookgate, stops nothing.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::UnixTime;
use serde::Deserialize;
use toml::Spanned;

use super::{Origin, Preset, compiled};
use crate::config::document::{self, Document};
use crate::config::error::{ConfigError, ConfigErrors, Location, PresetProblem, Problem};
use crate::config::file::{self, FileVersions};
use crate::config::name::{self, MAXIMUM_NAME_BYTES};
use crate::config::report::{Environment, Report};
use crate::config::warning::WarningKind;

/// The directories of presets, if the configuration names none: the package's, then the operator's. A preset replaces one of the same name
/// in an earlier directory.
pub const DIRECTORIES: [&str; 2] = ["/usr/share/hookgate/presets", "/etc/hookgate/presets.d"];

/// The most directories.
const MAXIMUM_DIRECTORIES: usize = 16;
/// The most entries of a directory that are looked at. The package has some thirty files.
const MAXIMUM_ENTRIES: usize = 1024;
/// The most bytes of a preset. They have some thousand.
const MAXIMUM_PRESET_BYTES: u64 = 256 * 1024;

/// `[presets]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawPresets {
    directories: Option<Spanned<Vec<Spanned<String>>>>,
}

/// The one section of a configuration that `hookgate providers` reads.
#[derive(Debug, Default, Deserialize)]
struct PresetsAlone {
    #[serde(default, deserialize_with = "document::table")]
    presets: Option<Spanned<RawPresets>>,
}

/// The presets by name.
#[derive(Debug, Default)]
pub struct Presets(BTreeMap<String, Entry>);

#[derive(Debug)]
enum Entry {
    Usable(Arc<Preset>),
    Unusable(Unusable),
}

/// A file that should be a preset.
#[derive(Debug)]
pub struct Unusable {
    path: PathBuf,
    /// `None` once they are reported.
    errors: RefCell<Option<ConfigErrors>>,
}

/// What [`Presets::find`] found.
#[derive(Debug)]
pub enum Found<'p> {
    /// The preset.
    Preset(&'p Preset),
    /// A file with errors.
    Unusable(&'p Unusable),
    /// Nothing.
    Unknown,
}

impl Unusable {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its errors, one per line.
    pub fn errors(&self) -> String {
        self.errors.borrow().as_ref().map(ToString::to_string).unwrap_or_default()
    }

    /// Reports its errors, once.
    pub(in crate::config) fn report(&self, report: &mut Report<'_>) {
        if let Some(errors) = self.errors.take() {
            report.adopt(errors);
        }
    }
}

impl Presets {
    /// The presets that are compiled in.
    pub fn compiled_in() -> Self {
        let entry = |preset: &Arc<Preset>| (preset.name().to_owned(), Entry::Usable(Arc::clone(preset)));
        Self(compiled::all().iter().map(entry).collect())
    }

    /// The presets for a document whose section is `raw`. Reports directories that cannot be read. Notes the versions of the directories and
    /// of all files in them.
    pub(in crate::config) fn load(raw: Option<&Spanned<RawPresets>>, report: &mut Report<'_>) -> Self {
        let mut presets = Self::compiled_in();
        let named = raw.and_then(|raw| raw.get_ref().directories.as_ref());
        let Some(named) = named else {
            for (path, place) in report.preset_directories().to_vec().into_iter().zip(1..) {
                report.note(&path);
                match presets.add_directory(&path, place, report) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(source) => report.adopt(of_file(&path, Problem::File { path: path.clone(), source })),
                    Ok(()) => {}
                }
            }
            return presets;
        };
        if named.get_ref().len() > MAXIMUM_DIRECTORIES {
            report.error(named, Problem::TooMany { count: named.get_ref().len(), maximum: MAXIMUM_DIRECTORIES });
        }
        for (text, place) in named.get_ref().iter().take(MAXIMUM_DIRECTORIES).zip(1..) {
            let path = report.resolve(text.get_ref());
            if let Err(source) = presets.add_directory(&path, place, report) {
                report.error(text, Problem::File { path, source });
            }
        }
        presets
    }

    /// The presets for the configuration file at `path`, of which only `[presets]` is read; without that file, those for a configuration
    /// without the section.
    ///
    /// # Errors
    /// If the file or a directory cannot be read, or is not correct.
    pub fn for_configuration(path: &Path) -> Result<Self, ConfigErrors> {
        let text = match file::read(path, file::MAXIMUM_FILE_BYTES).and_then(utf8) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(of_file(path, Problem::Unreadable { source, option: "--config" })),
        };
        let document = Document::parse(&text, path)?;
        let preset_directories = DIRECTORIES.iter().map(PathBuf::from).collect();
        let mut report = Report::new(&document, Environment { preset_directories, ..Environment::at(UnixTime::now()) });
        let raw: PresetsAlone = report.read();
        let presets = Self::load(raw.presets.as_ref(), &mut report);
        report.finish(Some(presets)).map(|(presets, _)| presets)
    }

    fn add_directory(&mut self, directory: &Path, place: usize, report: &mut Report<'_>) -> io::Result<()> {
        for path in preset_files(directory)? {
            let mut files = FileVersions::default();
            files.note(&path);
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let loaded = if name::is_valid(&name) {
                load_file(&name, &path, &mut files).map(|preset| preset.in_place(place))
            } else {
                Err(of_file(&path, PresetProblem::FileName { maximum: MAXIMUM_NAME_BYTES }.into()))
            };
            report.note_all(files);
            let entry = match loaded {
                Ok(preset) => Entry::Usable(Arc::new(match self.find(&name) {
                    Found::Preset(replaced) => preset.replacing(replaced),
                    _ => preset,
                })),
                Err(errors) => Entry::Unusable(Unusable { path, errors: RefCell::new(Some(errors)) }),
            };
            self.0.insert(name, entry);
        }
        Ok(())
    }

    /// The preset with this name.
    pub fn find(&self, name: &str) -> Found<'_> {
        match self.0.get(name) {
            Some(Entry::Usable(preset)) => Found::Preset(preset),
            Some(Entry::Unusable(unusable)) => Found::Unusable(unusable),
            None => Found::Unknown,
        }
    }

    /// The names, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The presets without an error, by name.
    pub fn usable(&self) -> impl Iterator<Item = &Preset> {
        self.0.values().filter_map(|entry| match entry {
            Entry::Usable(preset) => Some(preset.as_ref()),
            Entry::Unusable(_) => None,
        })
    }

    /// The files with errors, each with the name of the preset.
    pub fn unusable(&self) -> impl Iterator<Item = (&str, &Unusable)> {
        self.0.iter().filter_map(|(name, entry)| match entry {
            Entry::Usable(_) => None,
            Entry::Unusable(unusable) => Some((name.as_str(), unusable)),
        })
    }

    /// Warns of the presets whose errors were not reported: no provider names them.
    pub(in crate::config) fn warn_of_unusable(&self, report: &mut Report<'_>) {
        for (_, unusable) in self.unusable() {
            let errors = unusable.errors.take();
            for ConfigError { location, problem } in errors.into_iter().flat_map(|errors| errors.0).take(1) {
                report.warn_elsewhere(location, WarningKind::UnusablePreset { error: problem.to_string() });
            }
        }
    }
}

/// The files of presets in a directory, in the order of their names. Names that begin with a dot belong to editors and package managers.
fn preset_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for (index, entry) in fs::read_dir(directory)?.enumerate() {
        if index >= MAXIMUM_ENTRIES {
            let message = format!("more than {MAXIMUM_ENTRIES} entries; leave only presets in this directory");
            return Err(io::Error::other(message));
        }
        let path = entry?.path();
        let is_hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if !is_hidden && path.extension() == Some(OsStr::new("toml")) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn load_file(name: &str, path: &Path, files: &mut FileVersions) -> Result<Preset, ConfigErrors> {
    let bytes = file::read_named(path, MAXIMUM_PRESET_BYTES).map_err(|problem| of_file(path, problem))?;
    let text = utf8(bytes).map_err(|source| of_file(path, Problem::File { path: path.to_owned(), source }))?;
    let is_cut = !text.ends_with('\n');
    let preset = Preset::parse(name.to_owned(), text, Origin::File(path.to_owned()), files)?;
    // Of a number, the first digits are a number too.
    if is_cut { Err(of_file(path, PresetProblem::HalfWritten.into())) } else { Ok(preset) }
}

fn utf8(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// A problem of a whole file.
fn of_file(path: &Path, problem: Problem) -> ConfigErrors {
    let location = Location { file: path.to_owned(), line: None, key: String::new() };
    ConfigErrors(vec![ConfigError { location, problem }])
}
