//! The text of a configuration file: from bytes to raw sections, and from places in it to lines and keys.
//!
//! Owns the TOML syntax and the collection of everything found. Knows no section: what a key means, and within which bounds,
//! is theirs.

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::path::{Path, PathBuf};

use rustls_pki_types::UnixTime;
use serde::de::{self, Deserialize, DeserializeOwned};
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::entry::{Entry, FoundEntry};
use super::error::{ConfigError, ConfigErrors, Location, Problem};
use super::file::FileVersions;
use super::warning::{Caution, Warning};

/// Most errors that are collected: nobody reads more at once, and each costs one more pass over the document.
const MAXIMUM_ERRORS: usize = 100;

/// A syntactically correct document.
pub(super) struct Document<'a> {
    path: &'a Path,
    text: &'a str,
    root: Spanned<DeTable<'a>>,
}

impl<'a> Document<'a> {
    /// Parses the syntax of `text`, which was read from `path`.
    ///
    /// # Errors
    /// The first place where `text` is not TOML.
    pub(super) fn parse(text: &'a str, path: &'a Path) -> Result<Self, ConfigErrors> {
        DeTable::parse(text).map(|root| Self { path, text, root }).map_err(|error| {
            let line = error.span().map(|span| line_at(text, span.start));
            let location = Location { file: path.to_owned(), line, key: String::new() };
            let problem = Problem::Syntax { message: error.message().to_owned() };
            ConfigErrors(vec![ConfigError { location, problem }])
        })
    }

    /// Deserializes the whole document. Each key that is unknown or of the wrong type is reported and left out, so that one
    /// pass over the report shows them all.
    pub(super) fn read<T: DeserializeOwned + Default>(&self, report: &mut Report<'_>) -> T {
        let mut rest = self.root.clone();
        let mut reported = None;
        for _ in 0..MAXIMUM_ERRORS {
            let error = match T::deserialize(Deserializer::from(rest.clone())) {
                Ok(value) => return value,
                Err(error) => error,
            };
            let span = error.span().unwrap_or_default();
            // An array of tables spans the header of its first: it is at fault once, though both have to go.
            if reported.as_ref() != Some(&span) {
                report.error_at(&span, describe(&error));
                reported = Some(span.clone());
            }
            let steps = locate(rest.get_ref(), &span);
            if !remove(rest.get_mut(), &steps) {
                break;
            }
        }
        T::default()
    }

    /// The tables of the document.
    pub(super) fn root(&self) -> &DeTable<'a> {
        self.root.get_ref()
    }

    fn location(&self, span: &Range<usize>) -> Location {
        Location {
            file: self.path.to_owned(),
            line: Some(line_at(self.text, span.start)),
            key: key_text(&locate(self.root.get_ref(), span)),
        }
    }
}

/// What the meaning of a document depends on beside its text and the files that it names.
#[derive(Clone, Debug)]
pub(super) struct Surroundings {
    /// The moment for which validity is judged.
    pub(super) now: UnixTime,
    /// Where the service manager put our credentials, if it did (`$CREDENTIALS_DIRECTORY`, systemd.exec(5)).
    pub(super) credentials: Option<PathBuf>,
}

/// What was found in a document, and the surroundings in which it was looked at.
pub(super) struct Report<'a> {
    document: &'a Document<'a>,
    surroundings: Surroundings,
    errors: Vec<ConfigError>,
    warnings: Vec<Warning>,
    files: RefCell<FileVersions>,
    found: Vec<FoundEntry>,
}

impl<'a> Report<'a> {
    /// An empty report about `document`.
    pub(super) fn new(document: &'a Document<'a>, surroundings: Surroundings) -> Self {
        Self {
            document,
            surroundings,
            errors: Vec::new(),
            warnings: Vec::new(),
            files: RefCell::default(),
            found: Vec::new(),
        }
    }

    /// The moment for which validity is judged.
    pub(super) fn now(&self) -> UnixTime {
        self.surroundings.now
    }

    /// The path of a credential that the document names; `None` where the service manager gave us none. To be asked before it is
    /// read, as [`Report::resolve`].
    pub(super) fn credential(&self, name: &str) -> Option<PathBuf> {
        let path = self.surroundings.credentials.as_ref()?.join(name);
        self.files.borrow_mut().note(&path);
        Some(path)
    }

    /// The path of a file that the document names: relative paths are relative to the document's directory. To be asked before
    /// the file is read: the version that stands there now is remembered as the one that was.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        let path = self.document.path.parent().unwrap_or(Path::new("")).join(path);
        self.files.borrow_mut().note(&path);
        path
    }

    /// Remembers the content of a file that a value names, for the report of what a reload changed.
    pub(super) fn add_entry<T>(&mut self, at: &Spanned<T>, item: String, entry: Entry) {
        if let [Step::Key(section), Step::Index(index), ..] =
            locate(self.document.root.get_ref(), &at.span()).as_slice()
        {
            self.found.push(FoundEntry { section: section.clone(), index: *index, item, entry });
        }
    }

    /// The entries so far.
    pub(super) fn entries(&self) -> &[FoundEntry] {
        &self.found
    }

    /// The files that were named so far.
    pub(super) fn files(&self) -> FileVersions {
        self.files.borrow().clone()
    }

    /// The line of a value, from 1.
    pub(super) fn line<T>(&self, at: &Spanned<T>) -> usize {
        line_at(self.document.text, at.span().start)
    }

    /// Reports what is wrong with a value.
    pub(super) fn error<T>(&mut self, at: &Spanned<T>, problem: Problem) {
        self.error_at(&at.span(), problem);
    }

    /// Reports that `table` lacks `key`, unless something is reported about that key already.
    pub(super) fn missing<T>(&mut self, table: &Spanned<T>, key: &'static str, write: &'static str) {
        let mut location = self.document.location(&table.span());
        if self.mentions(&location.key, key) {
            return;
        }
        location.key = format!("{}.{key}", location.key);
        self.push(location, Problem::Missing { write });
    }

    /// Reports that `table` lacks `key`, or else one of `others`, unless something is reported about any of them already.
    pub(super) fn missing_all<T>(&mut self, table: &Spanned<T>, key: &'static str, others: &[&str], problem: Problem) {
        let mut location = self.document.location(&table.span());
        if others.iter().chain(&[key]).any(|key| self.mentions(&location.key, key)) {
            return;
        }
        location.key = format!("{}.{key}", location.key);
        self.push(location, problem);
    }

    /// Reports that an array or table is empty, unless that is because something in it was reported and left out.
    pub(super) fn empty<T>(&mut self, at: &Spanned<T>, problem: Problem) {
        let location = self.document.location(&at.span());
        if !self.errors.iter().any(|error| error.location.key.starts_with(&location.key)) {
            self.push(location, problem);
        }
    }

    /// Reports that the document lacks a section, unless something is reported about that section already.
    pub(super) fn missing_section(&mut self, section: &'static str, write: &'static str) {
        if !self.errors.iter().any(|error| error.location.key.starts_with(section)) {
            let location = Location { file: self.document.path.to_owned(), line: None, key: section.to_owned() };
            self.push(location, Problem::Missing { write });
        }
    }

    /// Whether anything is reported about `key`, at any depth below `table`.
    fn mentions(&self, table: &str, key: &str) -> bool {
        let keys = self.errors.iter().filter_map(|error| error.location.key.strip_prefix(table));
        keys.into_iter().any(|below| below.split(['.', '[']).any(|part| part == key))
    }

    /// Warns about a value, once.
    pub(super) fn warn<T>(&mut self, at: &Spanned<T>, caution: Caution) {
        let warning = Warning { location: self.document.location(&at.span()), caution };
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Warns about the document as a whole.
    pub(super) fn warn_whole(&mut self, caution: Caution) {
        let location = Location { file: self.document.path.to_owned(), line: None, key: String::new() };
        self.warnings.push(Warning { location, caution });
    }

    /// The value, if all went well.
    ///
    /// # Errors
    /// Everything that was reported, in the order of the lines.
    pub(super) fn finish<T>(mut self, value: Option<T>) -> Result<(T, Vec<Warning>), ConfigErrors> {
        self.warnings.sort_by_key(|warning| warning.location.line);
        match value {
            Some(value) if self.errors.is_empty() => Ok((value, self.warnings)),
            _ => {
                self.errors.sort_by_key(|error| error.location.line);
                Err(ConfigErrors(self.errors))
            }
        }
    }

    /// As [`Report::error`], for a value of which only the place is at hand.
    pub(super) fn error_at(&mut self, span: &Range<usize>, problem: Problem) {
        let location = self.document.location(span);
        self.push(location, problem);
    }

    fn push(&mut self, location: Location, problem: Problem) {
        // What completes two proofs of a preset is read for each.
        let same = |error: &ConfigError| error.location == location && error.problem.to_string() == problem.to_string();
        if self.errors.iter().any(same) {
            return;
        }
        match self.errors.len() {
            0..MAXIMUM_ERRORS => self.errors.push(ConfigError { location, problem }),
            MAXIMUM_ERRORS => {
                let location = Location { line: None, key: String::new(), ..location };
                self.errors.push(ConfigError { location, problem: Problem::TooManyErrors { maximum: MAXIMUM_ERRORS } });
            }
            _ => {}
        }
    }
}

/// A section that must be a table. serde's own structs would take an array too, value by value in the order of their fields.
struct Section<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Section<T> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TableVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for TableVisitor<T> {
            type Value = Section<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a table")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(de::value::MapAccessDeserializer::new(map)).map(Section)
            }
        }

        deserializer.deserialize_map(TableVisitor(PhantomData))
    }
}

fn plain<T>(section: Spanned<Section<T>>) -> Spanned<T> {
    let span = section.span();
    Spanned::new(span, section.into_inner().0)
}

/// For `deserialize_with`: a table that may be absent.
pub(super) fn table<'de, D, T>(deserializer: D) -> Result<Option<Spanned<T>>, D::Error>
where
    D: de::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::<Spanned<Section<T>>>::deserialize(deserializer)?.map(plain))
}

/// For `deserialize_with`: an array of tables, which may be absent.
#[expect(clippy::type_complexity, reason = "serde's signature; each layer says something: absent, where, many, where")]
pub(super) fn tables<'de, D, T>(deserializer: D) -> Result<Option<Spanned<Vec<Spanned<T>>>>, D::Error>
where
    D: de::Deserializer<'de>,
    T: Deserialize<'de>,
{
    let array = Option::<Spanned<Vec<Spanned<Section<T>>>>>::deserialize(deserializer)?;
    Ok(array.map(|array| {
        let span = array.span();
        Spanned::new(span, array.into_inner().into_iter().map(plain).collect())
    }))
}

/// A word where a table may stand too.
#[derive(Clone, Debug)]
pub(super) enum WordOr<T> {
    /// A string.
    Word(String),
    /// The table.
    Table(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for WordOr<T> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrTable<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for WordOrTable<T> {
            type Value = WordOr<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string or a table")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Self::Value, E> {
                Ok(WordOr::Word(word.to_owned()))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(de::value::MapAccessDeserializer::new(map)).map(WordOr::Table)
            }
        }

        deserializer.deserialize_any(WordOrTable(PhantomData))
    }
}

/// The problem with `name`, a `what` that is not among `known`. `introduction`, such as "there are", precedes those, or stands alone.
pub(super) fn unknown<'n>(
    what: &'static str,
    name: &str,
    introduction: &str,
    known: impl IntoIterator<Item = &'n str>,
) -> Problem {
    let known: Vec<&str> = known.into_iter().collect();
    Problem::Unknown {
        what,
        name: name.to_owned(),
        nearest: nearest(name, known.iter().copied()),
        known: if known.is_empty() { introduction.to_owned() } else { format!("{introduction} {}", known.join(", ")) },
    }
}

/// The known name that looks most like `name`, if any looks like it at all.
fn nearest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<String> {
    // 0.7 is the confidence at which clap makes suggestions for options: the same user sees both.
    let scored = known.into_iter().map(|candidate| (strsim::jaro(name, candidate), candidate));
    let best = scored.filter(|(score, _)| *score > 0.7).max_by(|one, other| one.0.total_cmp(&other.0));
    best.map(|(_, candidate)| candidate.to_owned())
}

/// serde's complaint in the words of the file's author.
fn describe(error: &toml::de::Error) -> Problem {
    let message = error.message();
    if let Some(rest) = message.strip_prefix("unknown field `") {
        let mut names = rest.split('`').step_by(2);
        let name = names.next().unwrap_or_default();
        let known: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
        return Problem::UnknownKey { nearest: nearest(name, known.iter().copied()), known: known.join(", ") };
    }
    let message = without_value(message)
        .replace("unknown variant", "unknown word")
        .replace("a sequence", "an array")
        .replace("invalid type: sequence", "invalid type: array")
        .replace("invalid type: map", "invalid type: table")
        .replace("expected i64", "expected an integer (no quotes, no unit)");
    Problem::WrongType { message }
}

/// The message without the value of the wrong type: that stands in the file, and it may be a secret.
fn without_value(message: &str) -> String {
    let Some(rest) = message.strip_prefix("invalid type: ") else { return message.to_owned() };
    let Some(expected) = rest.rfind(", expected ") else { return message.to_owned() };
    let (found, expected) = rest.split_at(expected);
    let kind = found.split(['"', '`']).next().unwrap_or_default().trim_end();
    format!("invalid type: {kind}{expected}")
}

/// The line of a byte, from 1.
fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// One step down a document.
#[derive(Clone)]
enum Step {
    Key(String),
    Index(usize),
}

fn key_text(steps: &[Step]) -> String {
    steps.iter().fold(String::new(), |text, step| match step {
        Step::Key(key) if text.is_empty() => key.clone(),
        Step::Key(key) => format!("{text}.{key}"),
        Step::Index(index) => format!("{text}[{index}]"),
    })
}

/// The way to the innermost entry at `span`. A table under a header spans the header alone, so containment says nothing about
/// its children: every entry is looked at.
fn locate(root: &DeTable<'_>, span: &Range<usize>) -> Vec<Step> {
    let mut search = Search { span, steps: Vec::new(), found: Vec::new(), width: usize::MAX };
    search.table(root);
    search.found
}

struct Search<'s> {
    span: &'s Range<usize>,
    steps: Vec<Step>,
    found: Vec<Step>,
    width: usize,
}

impl Search<'_> {
    fn table(&mut self, table: &DeTable<'_>) {
        for (key, value) in table {
            self.steps.push(Step::Key(key.get_ref().to_string()));
            self.offer(&key.span());
            self.value(value);
            self.steps.pop();
        }
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>) {
        self.offer(&value.span());
        match value.get_ref() {
            DeValue::Table(table) => self.table(table),
            DeValue::Array(array) => {
                for (index, element) in array.iter().enumerate() {
                    self.steps.push(Step::Index(index));
                    self.value(element);
                    self.steps.pop();
                }
            }
            _ => {}
        }
    }

    /// Takes the current steps for the answer if `span` lies within `candidate`, and no narrower one was seen. Of two equally
    /// wide the later is the inner: an array of tables spans the header of its first.
    fn offer(&mut self, candidate: &Range<usize>) {
        let contains = candidate.start <= self.span.start && self.span.end <= candidate.end;
        if contains && candidate.len() <= self.width {
            self.width = candidate.len();
            self.found.clone_from(&self.steps);
        }
    }
}

/// Removes the entry at `steps`. Says whether there was one.
fn remove(table: &mut DeTable<'_>, steps: &[Step]) -> bool {
    let Some((Step::Key(key), rest)) = steps.split_first() else { return false };
    if rest.is_empty() {
        return table.remove(key.as_str()).is_some();
    }
    table.get_mut(key.as_str()).is_some_and(|value| remove_below(value.get_mut(), rest))
}

fn remove_below(value: &mut DeValue<'_>, steps: &[Step]) -> bool {
    match (value, steps) {
        (DeValue::Table(table), steps) => remove(table, steps),
        (DeValue::Array(array), [Step::Index(index), rest @ ..]) => match rest {
            [] => {
                let count = array.len();
                let kept = array.iter().enumerate().filter(|(place, _)| place != index);
                *array = kept.map(|(_, element)| element.clone()).collect();
                array.len() < count
            }
            rest => array.get_mut(*index).is_some_and(|element| remove_below(element.get_mut(), rest)),
        },
        _ => false,
    }
}
