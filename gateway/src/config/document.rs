//! A TOML document: from text to raw sections, and from spans of the text to lines and keys.
//!
//! Owns the syntax, and the problems of unknown keys and wrong types. Must not know a section: what a key means, and its bounds,
//! are theirs.

mod hint;
mod shape;

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::{self, Deserialize, DeserializeOwned};
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

pub(super) use self::shape::{OneOrMany, WordOr};
use super::error::{ConfigError, ConfigErrors, Location, Problem, nearest};

/// The keys above all sections. Within a section, TOML takes them for keys of that section.
const TOP_LEVEL_KEYS: [&str; 2] = ["reload", "accept_weaker"];

/// The keys of arrays of tables, of every section. Serde does not say what an array that it expects consists of.
const TABLES: [&str; 13] = [
    "all",
    "any",
    "certificate",
    "download",
    "hmac_secrets",
    "identity",
    "key_source",
    "keys",
    "profile",
    "provider",
    "route",
    "secrets",
    "users",
];

/// A document with correct syntax.
pub(super) struct Document<'a> {
    path: &'a Path,
    text: &'a str,
    root: Spanned<DeTable<'a>>,
}

impl<'a> Document<'a> {
    /// Parses the syntax of `text`, the content of the file at `path`.
    ///
    /// # Errors
    /// The first syntax error.
    pub(super) fn parse(text: &'a str, path: &'a Path) -> Result<Self, ConfigErrors> {
        DeTable::parse(text).map(|root| Self { path, text, root }).map_err(|error| {
            let line = error.span().map(|span| line_at(text, span.start));
            let location = Location { file: path.to_owned(), line, key: String::new() };
            let place = error.span().and_then(|span| text.get(span));
            let problem = Problem::Syntax { message: syntax_message(error.message(), place) };
            ConfigErrors(vec![ConfigError { location, problem }])
        })
    }

    /// Deserializes the whole document. Passes each unknown key and each wrong type to `report`, at most `maximum` of them, and
    /// leaves it out.
    pub(super) fn read<T: DeserializeOwned + Default>(
        &self,
        maximum: usize,
        report: &mut dyn FnMut(&Range<usize>, Problem),
    ) -> T {
        let mut rest = self.root.clone();
        let mut reported = None;
        for _ in 0..maximum {
            let error = match T::deserialize(Deserializer::from(rest.clone())) {
                Ok(value) => return value,
                Err(error) => error,
            };
            let span = error.span().unwrap_or_default();
            let steps = locate(rest.get_ref(), &span);
            // An array of tables has the span of its first header: report it once, and remove both.
            if reported.as_ref() != Some(&span) {
                report(&span, with_brackets(describe(&error), &steps, self.is_header(&span)));
                reported = Some(span.clone());
            }
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

    /// The location of a value.
    pub(super) fn location(&self, span: &Range<usize>) -> Location {
        Location {
            file: self.path.to_owned(),
            line: Some(self.line(span)),
            key: key_text(&locate(self.root.get_ref(), span)),
        }
    }

    /// The location of `key`, which the document lacks; with an empty key, of the whole document.
    pub(super) fn location_of_key(&self, key: &str) -> Location {
        Location { file: self.path.to_owned(), line: None, key: key.to_owned() }
    }

    /// The line of a value, from 1.
    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        line_at(self.text, span.start)
    }

    /// Whether `span` is that of a header, which a table or an array of tables has if it is no value.
    fn is_header(&self, span: &Range<usize>) -> bool {
        let line = self.text.get(..span.start).and_then(|before| before.rsplit('\n').next()).unwrap_or_default();
        line.trim().is_empty() && self.text.get(span.clone()).is_some_and(|text| text.starts_with('['))
    }

    /// The array of tables that holds a value, and the index of the table.
    pub(super) fn table_of(&self, span: &Range<usize>) -> Option<(String, usize)> {
        match locate(self.root.get_ref(), span).as_slice() {
            [Step::Key(section), Step::Index(index), ..] => Some((section.clone(), *index)),
            _ => None,
        }
    }

    /// The section that holds a value.
    pub(super) fn section_of(&self, span: &Range<usize>) -> Option<String> {
        match locate(self.root.get_ref(), span).first() {
            Some(Step::Key(section)) => Some(section.clone()),
            _ => None,
        }
    }

    /// Calls `visit` with every text of the document, and its span.
    pub(super) fn texts<'d>(&'d self, visit: &mut dyn FnMut(&'d str, Range<usize>)) {
        table_texts(self.root.get_ref(), visit);
    }

    /// The path of a file that the document names. A relative path is relative to the directory of the document.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(path)
    }
}

/// A section that must be a table. serde's structs also accept an array, with their fields in order.
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

/// For `deserialize_with`: an optional table.
pub(super) fn table<'de, D, T>(deserializer: D) -> Result<Option<Spanned<T>>, D::Error>
where
    D: de::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::<Spanned<Section<T>>>::deserialize(deserializer)?.map(plain))
}

/// For `deserialize_with`: an optional array of tables.
#[expect(
    clippy::type_complexity,
    reason = "the signature is serde's, and each layer has a meaning: optional, span, array, span"
)]
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

/// The message of the TOML parser about the text at `place`, with what to write.
fn syntax_message(message: &str, place: Option<&str>) -> String {
    match (message, place) {
        ("duplicate key", Some(key)) => {
            format!("the key {key} is already in this table; write it only once, and a repeated section as [[section]]")
        }
        ("string values must be quoted, expected literal string", _) => "a string must be in quotes".to_owned(),
        _ => message.to_owned(),
    }
}

/// For a table in the wrong number of brackets, says how to write it: under a header, or as a value.
fn with_brackets(problem: Problem, steps: &[Step], is_header: bool) -> Problem {
    let Problem::WrongType { message } = problem else { return problem };
    let keys: Vec<&str> =
        steps.iter().filter_map(|step| if let Step::Key(key) = step { Some(key.as_str()) } else { None }).collect();
    let (header, key) = (keys.join("."), keys.last().copied().unwrap_or_default());
    let is_repeated = TABLES.contains(&key);
    let corrected = match (message.as_str(), steps) {
        ("invalid type: table, expected an array (in brackets)", [.., Step::Key(_)]) if is_repeated && is_header => {
            Some(format!("this section can be repeated; write [[{header}]] instead of [{header}]"))
        }
        ("invalid type: table, expected an array (in brackets)", [.., Step::Key(_)]) if is_repeated => {
            Some(format!("expected an array (in brackets); write {key} = [{{ … }}] instead of {key} = {{ … }}"))
        }
        ("invalid type: array, expected a table", [.., Step::Key(_), Step::Index(_)]) if !is_repeated && is_header => {
            Some(format!("this section cannot be repeated; write [{header}] instead of [[{header}]]"))
        }
        ("invalid type: array, expected a string (in quotes)", [.., Step::Key(_)]) if header == "route.host" => {
            Some(format!("{message}; write a [[route]] for each host, or no host for every one"))
        }
        _ => None,
    };
    let message = corrected.unwrap_or(message);
    let in_array = matches!(steps.last(), Some(Step::Index(_)));
    let is_of_table = ["expected a table", "expected an array (in brackets)"].iter().any(|end| message.ends_with(end));
    match example(key, in_array).filter(|_| is_of_table) {
        Some(example) => Problem::WrongType { message: format!("{message}; write {example}") },
        None => Problem::WrongType { message },
    }
}

/// What to write for a table, or for an array of tables, that is written as a string instead; `in_array` of one element.
fn example(key: &str, in_array: bool) -> Option<String> {
    let element = match key {
        "secrets" | "hmac_secrets" => "{ file = \"webhook.secret\" }",
        "keys" => "{ file = \"sender.pem\" }",
        "users" => "{ name = \"hook\", secrets = [{ file = \"hook.password\" }] }",
        "identity" => "{ subject_cn = \"webhooks.example.com\" }",
        // The preset says which keys it needs.
        "signature" | "token" | "secret" | "basic" | "session_parameter" if !in_array => {
            return Some(format!("{key} = {{ … }} with its keys between the braces"));
        }
        _ => return None,
    };
    Some(if in_array { element.to_owned() } else { format!("{key} = [{element}]") })
}

/// The problem behind an error of serde, in TOML's terms instead of Rust's.
fn describe(error: &toml::de::Error) -> Problem {
    let message = error.message();
    if let Some(rest) = message.strip_prefix("unknown field `") {
        let mut names = rest.split('`').step_by(2);
        let name = names.next().unwrap_or_default();
        if TOP_LEVEL_KEYS.contains(&name) {
            return Problem::TopLevelKey;
        }
        if let Some(problem) = hint::elsewhere(name) {
            return problem;
        }
        let known: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
        return Problem::UnknownKey { nearest: nearest(name, known.iter().copied()), known: known.join(", ") };
    }
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        let mut words = rest.split('`').skip(1).step_by(2);
        let meant = words.next().and_then(|word| hint::word(word, words));
        let meant = meant.map(|word| format!(" (did you mean \"{word}\"?)")).unwrap_or_default();
        let message = rest.replace(", expected ", &format!("{meant}; write ")).replace('`', "\"");
        return Problem::WrongType { message: format!("unknown word {message}") };
    }
    let message = match message {
        // toml deserializes a date as a table with one field.
        "expected field with custom name" | "datetime key not found" => {
            "expected a date, such as 2027-01-31".to_owned()
        }
        "wanted string or table" => "expected a string".to_owned(),
        // A number beyond 64 bits.
        _ if message.ends_with("expected i64") && message.contains(": integer `") => {
            "out of bounds; write a smaller number".to_owned()
        }
        _ if message.starts_with("wanted exactly 1 element") => "expected a string".to_owned(),
        _ => without_value(message)
            .replace("a sequence", "an array")
            .replace("invalid type: sequence", "invalid type: array")
            .replace("invalid type: map", "invalid type: table")
            .replace("invalid type: floating point", "invalid type: float")
            .replace("expected i64", "expected an integer (no quotes, no unit)")
            .replace("expected a boolean", "expected true or false (no quotes)")
            .replace("expected a TOML datetime", "expected a date (no quotes), such as 2027-01-31"),
    };
    let hint = match message.rsplit(", ").next() {
        Some("expected a string") => " (in quotes)",
        Some("expected an array") => " (in brackets)",
        _ => "",
    };
    Problem::WrongType { message: message + hint }
}

/// The message without the value of the wrong type, which may be a secret.
fn without_value(message: &str) -> String {
    let Some(rest) = message.strip_prefix("invalid type: ") else { return message.to_owned() };
    let Some(expected) = rest.rfind(", expected ") else { return message.to_owned() };
    let (found, expected) = rest.split_at(expected);
    let kind = found.split(['"', '`']).next().unwrap_or_default().trim_end();
    format!("invalid type: {kind}{expected}")
}

/// The line of the byte at `offset`, from 1.
fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// A step from a value to a value in it.
#[derive(Clone)]
enum Step {
    Key(String),
    Index(usize),
}

/// The path to a value, such as `provider[0].signature.secrets[1]`. A key within a list of secrets that resembles none of the keys
/// there is perhaps the secret itself, so it is not shown.
fn key_text(steps: &[Step]) -> String {
    const SECRET_KEYS: [&str; 3] = ["file", "credential", "unsafe_value"];
    let mut text = String::new();
    let mut in_secrets = false;
    for step in steps {
        match step {
            Step::Key(key) => {
                let hidden = in_secrets && nearest(key, SECRET_KEYS).is_none();
                in_secrets |= matches!(key.as_str(), "secrets" | "hmac_secrets");
                let dot = if text.is_empty() { "" } else { "." };
                text.push_str(dot);
                text.push_str(if hidden { "(a key that is not shown)" } else { key });
            }
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

/// The steps to the innermost entry at `span`. Looks at every entry: a table under a header has the span of the header, which
/// does not contain the spans of its entries.
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

    /// Keeps the current steps if `candidate` contains `span` and is the narrowest so far. Of two equal spans, the later is the
    /// inner one: an array of tables has the span of its first header.
    fn offer(&mut self, candidate: &Range<usize>) {
        let contains = candidate.start <= self.span.start && self.span.end <= candidate.end;
        if contains && candidate.len() <= self.width {
            self.width = candidate.len();
            self.found.clone_from(&self.steps);
        }
    }
}

fn table_texts<'d>(table: &'d DeTable<'_>, visit: &mut dyn FnMut(&'d str, Range<usize>)) {
    table.iter().for_each(|(_, value)| value_texts(value, visit));
}

fn value_texts<'d>(value: &'d Spanned<DeValue<'_>>, visit: &mut dyn FnMut(&'d str, Range<usize>)) {
    match value.get_ref() {
        DeValue::String(text) => visit(text, value.span()),
        DeValue::Array(array) => array.iter().for_each(|element| value_texts(element, visit)),
        DeValue::Table(table) => table_texts(table, visit),
        _ => {}
    }
}

/// Removes the entry at `steps`. Returns whether there was one.
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
